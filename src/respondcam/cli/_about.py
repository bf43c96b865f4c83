"""What a bug report needs to know, and nothing that says who or where the user is."""

import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import respondcam
from respondcam._version import __version__

# what is installed for working on the package, and the extra that is the sum of the others
_NOT_LISTED = {"all", "dev", "docs"}
# variables that change numbers or speed; those that could hold paths or names are left out
_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_CUDA_ALLOC_CONF",
    "NVIDIA_TF32_OVERRIDE",
)
_GIB = 2**30


def about() -> dict[str, Any]:
    """Describe the installation and the machine, without paths, host or user names.

    PyTorch is imported, since only it knows what it can use; where that fails, its words are kept.

    Examples
    --------
    >>> sorted(about())  # doctest: +NORMALIZE_WHITESPACE
    ['environment', 'extras', 'install', 'machine', 'packages', 'python', 'respondcam', 'system',
     'torch']
    """
    packages, extras = _packages()
    return {
        "respondcam": __version__,
        "install": _install(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "machine": _machine(),
        "torch": _torch(),
        "packages": packages,
        "extras": extras,
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def without_names(text: str) -> str:
    r"""Shorten every path in a text to its last part.

    Examples
    --------
    >>> without_names("/home/ada/lib/libtorch.so: cannot open")
    'libtorch.so: cannot open'
    >>> without_names(r"cannot open C:\Users\ada\lib\torch.dll")
    'cannot open torch.dll'
    """
    text = re.sub(r"(?:[A-Za-z]:)?(?:\\[^\\\s'\",;:()]+)*\\([^\\\s'\",;:()]+)", r"\1", text)
    return re.sub(r"~?(?:/[^/\s'\",;:()]+)*/([^/\s'\",;:()]+)", r"\1", text)


def _install() -> dict[str, Any]:
    """How the package came here: from an index, a file, a repository or a checkout."""
    found: dict[str, Any] = {**_origin(), "viewer": _viewer()}
    if found["kind"] in ("editable", "source tree"):
        found |= _commit(Path(respondcam.__file__).parent)
    return found


def _origin() -> dict[str, Any]:
    try:
        distribution = metadata.distribution("respondcam")
    except metadata.PackageNotFoundError:
        return {"kind": "source tree"}
    address = json.loads(distribution.read_text("direct_url.json") or "{}")
    installer = {"installer": (distribution.read_text("INSTALLER") or "unknown").strip()}
    here = Path(respondcam.__file__).resolve()
    editable = address.get("dir_info", {}).get("editable")
    root = unquote(urlsplit(address["url"]).path) if editable else distribution.locate_file("")
    if not here.is_relative_to(Path(str(root)).resolve()):
        return {"kind": "source tree"}  # found before the one that is installed, by PYTHONPATH say
    if editable:
        return {"kind": "editable", **installer}
    if "vcs_info" in address:
        return {"kind": "repository", **installer, "commit": address["vcs_info"].get("commit_id")}
    kinds = {"archive_info": "file", "dir_info": "folder"}
    kind = next((kinds[key] for key in kinds if key in address), "index")
    return {"kind": kind, **installer}


def _commit(folder: Path) -> dict[str, Any]:
    """The commit of the checkout and whether its files differ from it; nothing outside git."""
    commit = _run("git", "-C", str(folder), "rev-parse", "HEAD")
    if not commit:
        return {}
    return {
        "commit": commit,
        "changed": bool(_run("git", "-C", str(folder), "status", "--porcelain", "--", ".")),
    }


def _viewer() -> str | None:
    """The version of the report's viewer, None where the package was built without it."""
    origin = Path(respondcam.__file__).parent / "show" / "vendor" / "niivue.json"
    try:
        return str(json.loads(origin.read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError):
        return None


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": _memory(),
        "memory_limit_gib": _memory_limit(),
        "container": _container(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf-8"), re.MULTILINE)
        if named:
            return named[1]
    if sys.platform == "darwin":
        named_by_system = _run("sysctl", "-n", "machdep.cpu.brand_string")
        if named_by_system:
            return named_by_system
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB, 1)
    except (AttributeError, OSError, ValueError):  # Windows does not tell
        return None


def _memory_limit() -> float | None:
    """What a container or a cluster's job may use: the least limit of its control groups."""
    try:
        own = Path("/proc/self/cgroup").read_text("utf-8").rpartition("::/")[2].strip()
    except OSError:
        return None
    root = Path("/sys/fs/cgroup")
    group = root / own
    limits = []
    for folder in (group, *group.parents):
        try:
            limits.append(int((folder / "memory.max").read_text("utf-8")))
        except (OSError, ValueError):  # none here, or the word "max"
            continue
    return round(min(limits) / _GIB, 1) if limits else None


def _container() -> str | None:
    if os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER"):
        return "apptainer"
    marks = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
    return next((name for mark, name in marks.items() if Path(mark).exists()), None)


def _torch() -> dict[str, Any]:
    found: dict[str, Any] = {"version": _version("torch")}
    try:
        import torch

        found |= {
            "built_for_cuda": torch.version.cuda,
            "built_for_rocm": getattr(torch.version, "hip", None),
            "cudnn": torch.backends.cudnn.version(),
            "threads": torch.get_num_threads(),
            "driver": _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "gpus": [_gpu(torch.cuda.get_device_properties(n)) for n in _gpu_numbers(torch)],
        }
        found["driver"] = found["driver"].partition("\n")[0] or None
    except Exception as error:  # a broken installation is what the report is about
        found["trouble"] = without_names(f"{type(error).__name__}: {error}")
    return found


def _gpu_numbers(torch: Any) -> range:
    return range(torch.cuda.device_count() if torch.cuda.is_available() else 0)


def _gpu(properties: Any) -> dict[str, Any]:
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / _GIB, 1),
        "capability": f"{properties.major}.{properties.minor}",
    }


def _packages() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """Versions of what is required, and of what each extra brings; None where not installed."""
    required: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    for line in _requirements():
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", line)
        if extra is None:
            required[name] = _version(name)
        elif extra[1] not in _NOT_LISTED:
            extras.setdefault(extra[1], {})[name] = _version(name)
    return required, extras


def _requirements() -> list[str]:
    try:
        return metadata.requires("respondcam") or []
    except metadata.PackageNotFoundError:  # only the sources are here
        return [f"{name}>=0" for name in ("torch", "numpy", "safetensors", "mrcfile", "nibabel")]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _run(*command: str) -> str:
    """What a program prints, nothing where it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

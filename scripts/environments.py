"""Empty environments, made by uv where it is installed and by venv and pip elsewhere."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"


class CheckError(Exception):
    """What a check found, in words."""


def environment(folder: Path, requirements: Sequence[str], *, python: str = sys.executable) -> Path:
    """Make an environment with nothing in it but `requirements`; give its interpreter."""
    uv = shutil.which("uv")
    make = [uv, "venv", "--quiet", "--python", python] if uv else [python, "-m", "venv"]
    run([*make, str(folder)])
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if uv:
        install = [uv, "pip", "install", "--quiet", "--python", str(interpreter)]
    else:
        install = [str(interpreter), "-m", "pip", "install", "--quiet"]
    run([*install, "--constraint", str(CONSTRAINTS), *requirements])
    return interpreter


def run(command: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """Run a program to its end and give what it printed; `CheckError` if it fails."""
    done = attempt(command, cwd=cwd)
    if done.returncode:
        words = " ".join(str(part) for part in command)
        raise CheckError(f"{words}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def attempt(
    command: Sequence[str | Path], *, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that may fail."""
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean(os.environ), check=False,
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip


def clean(variables: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what would let the checkout be found instead."""
    kept = {k: v for k, v in variables.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if kept.get("PIP_FIND_LINKS"):
        kept.setdefault("UV_FIND_LINKS", kept["PIP_FIND_LINKS"])
    return kept


def built(folder: Path, *options: str) -> Path:
    """Build what is committed, from a clone, so that nothing that lies about comes along."""
    clone = folder / "clone"
    if not clone.exists():
        run(["git", "clone", "--quiet", str(ROOT), str(clone)])
    out = folder / "-".join(["dist", *(option.strip("-") for option in options)])
    run([sys.executable, "-m", "build", *options, "--outdir", str(out), str(clone)])
    return out


def only(folder: Path, pattern: str) -> Path:
    """The one file in a folder that fits a pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise CheckError(f"{len(found)} files {pattern} where there must be one")
    return found[0]

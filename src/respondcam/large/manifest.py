"""What a run belongs to, on disk: a later command continues it only if nothing has changed."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from respondcam._differences import differences
from respondcam._files import read_json, whole_file
from respondcam._readers import way
from respondcam._version import __version__
from respondcam.errors import InputError
from respondcam.large.inputs import digest
from respondcam.large.job import Job
from respondcam.network.code import code_sha256
from respondcam.network.sources import LoadedModel
from respondcam.volume.lazy import LazyVolume

NAME = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a run, or None if there is none.

    Raises
    ------
    InputError
        If it is there and cannot be read.
    """
    path = folder / NAME
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
        for part in ("input", "settings", "seen"):
            if not isinstance(found.get(part, {}), dict):
                raise ValueError(f"its {part!r} is no JSON object")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"The manifest {str(path)!r} cannot be read ({error}), so nobody knows what the run "
            f"belongs to. Start anew with --overwrite."
        ) from error


def describe(
    job: Job,
    loaded: LoadedModel,
    volume: LazyVolume,
    threads: int | None,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """What a run belongs to; ``seen`` is not compared.

    Parameters
    ----------
    job, loaded, volume
        Of the run.
    threads
        That were asked for; None: those of the run that is continued, or of this process.
    before
        The manifest of the run that is continued, or nothing.
    """
    seen = before.get("seen", {})
    same_look = (seen.get("path"), seen.get("signature")) == (str(job.source), job.signature)
    known = before.get("input", {}).get("sha256") if same_look else None
    if threads is None:
        threads = before.get("settings", {}).get("threads") or torch.get_num_threads()
    settings = replace(job.settings, threads=threads)
    return {
        "versions": {"respondcam": __version__, "torch": torch.__version__},
        "input": {
            "sha256": known or digest(job.source),
            "shape_zyx": list(volume.space.shape),
            "channels": volume.space.channels,
        },
        "model": {
            "spec": _spec_record(loaded.spec),
            "arguments": dict(loaded.arguments),
            "weights_sha256": loaded.weights.sha256 if loaded.weights else None,
            "state_sha256": job.state_sha256,
            "code_sha256": code_sha256(loaded.spec),
            "device": device_of(loaded.module).type,
        },
        "settings": {**settings.record(), "layer": job.layer},
        "plan": {key: list(getattr(job.plan, key)) for key in ("stride", "block", "chunk")},
        "grid": {"stride": list(job.grid.stride), "offset": list(job.grid.offset)},
        "targets": list(job.labels),
        "seen": {"path": str(job.source), "signature": job.signature},
    }


def _spec_record(spec: str) -> str:
    """The address of a network; of one in a file the file's name: its digest says which it is."""
    file, colon, factory = spec.rpartition(":")
    return f"{Path(file).name}:{factory}" if colon and file.endswith(".py") else spec


def device_of(module: nn.Module) -> torch.device:
    """Where a network runs."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write it whole or not at all."""
    with whole_file(folder / NAME) as beside:
        beside.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], store: Path) -> None:
    """Refuse to continue a run under other settings, and show what differs.

    Raises
    ------
    InputError
        If anything differs.

    Examples
    --------
    >>> refuse_changes({"settings": {"batch": 8}}, {"settings": {"batch": 4}}, Path("a.ome.zarr"))
    Traceback (most recent call last):
    respondcam.errors.InputError: 'a.ome.zarr' was begun by another run: batch was 8, is 4. Give ...
    """
    now = json.loads(json.dumps(now))
    asked = list(differences(before.get("settings", {}), now["settings"]))
    # the plan and what else follows from the settings says nothing more
    told = ("settings", *(("plan", "grid", "targets") if asked else ()))
    before, now = ({k: v for k, v in one.items() if k not in told} for one in (before, now))
    changes = [*map(_in_words, asked), *differences(before, now)]
    if changes:
        raise InputError(
            f"{str(store)!r} was begun by another run: {'; '.join(changes)}. Give the same again "
            f"to continue it, another folder with --out, or begin anew with --overwrite."
        )


def _in_words(change: str) -> str:
    """A change of a setting, by the name under which it was given."""
    if change.startswith("chunk "):  # no option
        return change
    option = change.replace("options.", "method-arg ", 1) if "options" in change else change
    return way(python=change, command_line=f"--{option}")

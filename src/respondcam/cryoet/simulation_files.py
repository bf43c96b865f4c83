"""Folders of simulated data: whose run they are, and files that are the same every time."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from respondcam._files import make_folder, read_json, whole_file
from respondcam._version import __version__
from respondcam.errors import InputError
from respondcam.volume import Volume

MANIFEST, STAR, DATASET = "simulation.json", "particles.star", "simulation.zarr"


def run_record(simulation: Any, templates: Mapping[str, Volume]) -> dict[str, Any]:
    """What makes two runs the same: version, settings, names and voxels of the densities."""
    settings = dataclasses.asdict(simulation)
    settings["imaging"]["snr"] = str(simulation.imaging.snr)  # JSON has no infinity
    record = {
        "respondcam": __version__,
        "simulation": settings,
        "classes": list(templates),  # their order decides on the labels
        "densities": density_digests(templates),
    }
    return json.loads(json.dumps(record))


def density_digests(templates: Mapping[str, Volume]) -> dict[str, str]:
    """SHA-256 of the voxels of each density."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(volume.voxels).tobytes()).hexdigest()
        for name, volume in templates.items()
    }


def claim_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """Take a folder for a run: it is new, or holds a part of the very same run."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        try:
            there = read_json(manifest)
        except ValueError:
            there = None
        if there != record:
            raise InputError(
                f"{str(folder)!r} holds another simulation ({_difference(there, record)}). Give "
                f"another folder, or delete this one if it is no longer needed"
            )
        return
    ours = ("densities", "subtomograms", "tomograms", "masks", DATASET, STAR)
    taken = [name for name in ours if (folder / name).exists()]
    if taken:
        raise InputError(
            f"{str(folder)!r} holds {taken[0]!r} already, from no simulation that is known. Give "
            f"another folder"
        )
    make_folder(folder)
    with whole_file(manifest) as beside:
        beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _difference(there: Any, record: Mapping[str, Any]) -> str:
    """Name the first setting in which two runs differ."""
    before, now = _flat(there), _flat(record)
    for name in now:
        if before.get(name) != now[name]:
            return f"{name} is {before.get(name)!r} there and {now[name]!r} now"
    return "with more densities"


def _flat(record: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(record, Mapping):
        return {prefix: record}
    found: dict[str, Any] = {}
    for key, value in record.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found

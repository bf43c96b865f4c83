"""Readers of what runs leave behind, and of stores: OME-Zarr, manifests, records, comparisons."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.network_readers import files_of
from tests.fuzz.reader import Reader

from respondcam.volume import Volume, read_volume, write_volume
from respondcam.volume.lazy import open_volume

IMAGE = "image.ome.zarr"


def ball(shape: tuple[int, int, int] = (4, 5, 6)) -> Volume:
    voxels = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    return Volume(voxels, np.diag([2.0, 3.0, 4.0, 1.0]), "mm")


def _zarr(folder: Path) -> dict[str, bytes]:
    """NGFF 0.5, as it is written here."""
    write_volume(folder / IMAGE, ball())
    return _contents(folder, folder / IMAGE)


def _old_zarr(folder: Path) -> dict[str, bytes]:
    """NGFF 0.4 over Zarr 2, with Blosc, as most stores are."""
    import numcodecs
    import zarr

    group = zarr.open_group(str(folder / IMAGE), mode="w", zarr_format=2)
    array = group.create_array(
        "0", shape=(4, 5, 6), chunks=(4, 4, 4), dtype="<i2", compressors=numcodecs.Blosc()
    )
    array[...] = np.arange(120).reshape(4, 5, 6)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    steps = [{"type": "scale", "scale": [2.0, 1.0, 1.0]}]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "datasets": [{"path": "0", "coordinateTransformations": steps}],
        }
    ]
    return _contents(folder, folder / IMAGE)


def _contents(folder: Path, part: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in files_of(part)}


def _lazy(path: Path) -> object:
    """As whole-volume runs read: a piece at a time."""
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    for old in scratch.iterdir():
        old.unlink()
    volume = open_volume(path, scratch)
    shape = volume.space.shape
    volume.read((0, 0, 0), tuple(min(2, n) for n in shape))
    return volume.read(tuple(n - 1 for n in shape), shape)


def _lazy_files(folder: Path) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for suffix in (".mrc", ".nii", ".nii.gz", ".tif", ".npz"):
        write_volume(folder / f"good{suffix}", ball())
        made[suffix] = (folder / f"good{suffix}").read_bytes()
    np.save(folder / "good.npy", ball().voxels)
    return {**made, ".npy": (folder / "good.npy").read_bytes()}


def _manifest(folder: Path) -> object:
    from respondcam.large.manifest import read_manifest, refuse_changes

    found = read_manifest(folder)
    if found is not None:
        refuse_changes(found, MANIFEST, folder)
    return found


MANIFEST: dict[str, Any] = {
    "respondcam": "0.1",
    "input": {"path": "a.mrc", "sha256": "0" * 64, "shape": [4, 5, 6]},
    "model": {"spec": "demo", "state_sha256": "1" * 64},
    "settings": {"batch": 8, "stitch": "mean", "window": [4, 4, 4], "targets": ["a", "b"]},
}


def _manifests(folder: Path) -> dict[str, bytes]:
    (folder / "run").mkdir(exist_ok=True)
    data = json.dumps(MANIFEST, indent=2).encode()
    (folder / "run" / "manifest.json").write_bytes(data)
    return {"run/manifest.json": data}


def _lock(folder: Path) -> object:
    from respondcam.large.lock import locked

    with locked(folder):
        return None


def _locks(folder: Path) -> dict[str, bytes]:
    import socket

    (folder / "run").mkdir(exist_ok=True)
    held = {"pid": 2**22 + 1, "host": socket.gethostname(), "started": "1"}  # gone
    return {"run/lock": json.dumps(held).encode()}


def _records(folder: Path) -> dict[str, bytes]:
    """A volume, its map, and the record of it, as ``respondcam explain`` leaves them."""
    place = folder / "maps"
    place.mkdir(exist_ok=True)
    write_volume(place / "a.mrc", ball())
    write_volume(place / "a.respond.conv.cat.layer.mrc", ball((2, 2, 2)))
    record = {
        "respondcam": "0.1",
        "input": {
            "path": "a.mrc",
            "sha256": hashlib.sha256((place / "a.mrc").read_bytes()).hexdigest(),
        },
        "model": {"spec": "demo", "class_names": ["cat", "dog"], "arguments": {}},
        "layer": "conv",
        "target": {"name": "cat", "class": 0},
        "files": {"layer": "a.respond.conv.cat.layer.mrc"},
        "settings": {"method": "respond", "nonfinite": "error", "batch": 3},
        "account": {"score": 1.0, "baseline": 0.5, "mapped": 0.5, "gap": 0.0},
        "notes": ["a note"],
        "evidence": {"faithfulness": {"insertion": 0.5, "deletion": 0.25}},
        "channels": {"names": ["CT", "PET"], "shapley": {"channels": [0.25, 0.75], "gap": 0.0}},
    }
    data = json.dumps(record).encode()
    (place / "a.respond.conv.cat.json").write_bytes(data)
    return {"maps/a.respond.conv.cat.json": data}


def _report(folder: Path) -> object:
    from respondcam.show.report.records import find_records, read_report

    return [read_report(found) for found in find_records([folder])]


COMPARED = {"settings": {"methods": ["respond"], "seed": 0}, "model": {"spec": "demo"}}
IDENTITY = {"volume": "0" * 64, "mask": None}


def _comparisons(folder: Path) -> dict[str, bytes]:
    from respondcam.cli._compare_files import Folder, to_record
    from respondcam.evidence.comparison import Result
    from respondcam.evidence.se3d import Se3dCounts

    counts = Se3dCounts(np.ones((2, 101)), np.ones((2, 100)), 7, np.ones((2, 100)))
    made = Folder(folder / "compared", COMPARED, overwrite=False)
    results = [Result("a", "respond", "conv", {"drop": 0.5, "noise": float("nan")}, counts)]
    record = {"identity": IDENTITY, "results": [to_record(one) for one in results], "notes": ["n"]}
    made.keep("a", record)
    return _contents(folder, folder / "compared")


def _comparison(folder: Path) -> object:
    from respondcam.cli._compare_files import Folder, compared_cells, results_of, volume_cells
    from respondcam.evidence.comparison import compare

    record = Folder(folder, COMPARED, overwrite=False).done("a", IDENTITY)
    if record is None:
        return None
    results = results_of("a", record)
    return compared_cells(compare(results)) if results else None, volume_cells(results)


FOLDER_READERS = {
    "zarr": Reader(read_volume, _zarr, 3000, folder=IMAGE),
    "old-zarr": Reader(read_volume, _old_zarr, 3000, folder=IMAGE),
    "lazy": Reader(_lazy, _lazy_files, 700),
    "manifest": Reader(_manifest, _manifests, 3000, folder="run"),
    "lock": Reader(_lock, _locks, 3000, folder="run"),
    "records": Reader(_report, _records, 3000, folder="maps"),
    "comparison": Reader(_comparison, _comparisons, 3000, folder="compared"),
}

"""The folder of a comparison: a manifest, and one record for each finished volume."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from respondcam._differences import differences
from respondcam._files import make_folder, read_json, whole_file
from respondcam.cli._printing import for_csv, to_json
from respondcam.errors import InputError
from respondcam.evidence.comparison import METRICS, Compared, Result
from respondcam.evidence.se3d import BINS, CUTS, Se3dCounts

_MANIFEST = "manifest.json"
_RECORDS = "volumes"


class Folder:
    """Where results are kept, so that a run can go on where it stopped.

    Parameters
    ----------
    path
        The folder; made if it is not there.
    settings
        All that decides on a result, besides the volume and its mask.
    overwrite
        Start anew if other settings made what is there.

    Raises
    ------
    InputError
        If the folder holds results of other settings, or something else.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        self.path = make_folder(path, remedy="Give another folder with --out.")
        self.records = make_folder(path / _RECORDS, remedy="Give another folder with --out.")
        wanted = json.loads(to_json(settings))
        manifest = path / _MANIFEST
        if manifest.exists() and (differs := list(differences(_read(manifest), wanted))):
            if not overwrite:
                raise InputError(
                    f"{str(path)!r} holds a comparison with other settings: {'; '.join(differs)}. "
                    f"Give another folder with --out, or start anew with --overwrite."
                )
            for record in self.records.glob("*.json"):
                record.unlink()
        self._write(manifest, wanted)

    def done(self, name: str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of a volume, if that very volume and mask were measured before."""
        path = self.records / f"{name}.json"
        record = _read(path) if path.exists() else None
        if not isinstance(record, dict):
            return None
        if record.get("identity") != json.loads(to_json(identity)):
            return None
        if not isinstance(record.get("notes"), list):
            raise _damaged(path, "no notes")
        results_of(name, record, path)  # before the work, not behind it
        return record

    def keep(self, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record of a finished volume; give it back as it will be read."""
        plain = json.loads(to_json(record))
        self._write(self.records / f"{name}.json", plain)
        return plain

    def _write(self, path: Path, document: Any) -> None:
        with whole_file(path) as beside:
            beside.write_text(to_json(document) + "\n", encoding="utf-8")


def to_record(result: Result) -> dict[str, Any]:
    """One result as plain values."""
    counts = result.counts
    kept = counts and {
        "bins": counts.bins.tolist(),
        "cuts": counts.cuts.tolist(),
        "voxels": counts.voxels,
        "boxes": None if counts.boxes is None else np.round(counts.boxes, 9).tolist(),
    }
    return {
        "method": result.method,
        "layer": result.layer,
        "figures": dict(result.figures),
        "counts": kept,
    }


def from_record(image: str, record: Mapping[str, Any]) -> Result:
    """The result that `to_record` wrote."""
    kept = record["counts"]
    counts = (
        None
        if kept is None
        else Se3dCounts(
            _pair(kept["bins"]),
            _pair(kept["cuts"]),
            int(kept["voxels"]),
            None if kept["boxes"] is None else _pair(kept["boxes"]),
        )
    )
    if counts is not None and (counts.bins.shape, counts.cuts.shape) != (
        (2, len(BINS) - 1),
        (2, len(CUTS)),
    ):
        raise ValueError(f"counts of shape {counts.bins.shape} and {counts.cuts.shape}")
    figures = {n: float("nan") if v is None else float(v) for n, v in record["figures"].items()}
    return Result(image, str(record["method"]), str(record["layer"]), figures, counts)


def _pair(values: Any) -> np.ndarray:
    """Two rows of finite numbers."""
    found = np.array(values)
    if found.dtype.kind not in "iuf" or found.ndim != 2 or len(found) != 2:
        raise ValueError("counts that are no two rows of numbers")
    if not np.isfinite(found).all():
        raise ValueError("counts that are not finite")
    return found


def results_of(name: str, record: Mapping[str, Any], path: Path | None = None) -> list[Result]:
    """What the record of a volume holds.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return [from_record(name, one) for one in record["results"]]
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(path or Path(name), repr(error)) from error


def _damaged(path: Path, how: str) -> InputError:
    return InputError(
        f"{str(path)!r} is damaged as a record of a comparison ({how}). Remove it: the volume is "
        f"then measured again."
    )


def compared_cells(rows: Sequence[Compared]) -> list[dict[str, Any]]:
    """One flat row per figure, method and layer."""
    return [
        {
            "metric": row.metric,
            "better": METRICS[row.metric].better,
            "method": row.method,
            "layer": row.layer,
            "mean": row.value.mean,
            "low": row.value.low,
            "high": row.value.high,
            "count": row.value.count,
            "difference": row.difference.mean if row.difference else None,
            "difference_low": row.difference.low if row.difference else None,
            "difference_high": row.difference.high if row.difference else None,
            "note": row.value.note,
        }
        for row in rows
    ]


def volume_cells(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One flat row per volume, method and layer."""
    names = [name for name in METRICS if any(name in one.figures for one in results)]
    return [
        {
            "volume": one.image,
            "method": one.method,
            "layer": one.layer,
            **{name: one.figures.get(name) for name in names},
        }
        for one in results
    ]


def write_csv(path: Path, cells: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows that have the same columns, whole or not at all."""
    with whole_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(cells[0]) if cells else ["metric"])
        writer.writeheader()
        writer.writerows(for_csv(row) for row in cells)
    return path


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as a record of a comparison ({error}). Remove it, or "
            f"give another folder with --out."
        ) from error

"""Reports from what ``respondcam explain`` left behind: the maps and their JSON records."""

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from respondcam._files import expanded, read_json
from respondcam._methods import METHOD_SUMMARIES
from respondcam.errors import InputError
from respondcam.show.caption import AccountLine
from respondcam.show.report.content import Report, ReportMap, Table
from respondcam.volume import Unit, Volume, read_volume
from respondcam.volume.beside import lies_beside


@dataclass(frozen=True)
class Found:
    """The records of one volume.

    Parameters
    ----------
    name
        For the page and its file; no two volumes share it.
    volume
        The image, where it was when it was explained.
    records
        The JSON files of its maps, in the order in which they are offered.
    """

    name: str
    volume: Path
    records: tuple[Path, ...]


def find_records(given: Sequence[str | Path]) -> list[Found]:
    """Find the records in folders, or those that are named, by volume.

    Maps are ordered by their score, the highest first, within the order of layers, and of methods:
    those that add up first.

    Raises
    ------
    InputError
        If a path does not exist, or there is no record.
    """
    paths = [path for one in given for path in _json_files(expanded(one))]
    volumes: dict[tuple[str, str], list[tuple[Path, Mapping[str, Any]]]] = {}
    for path in dict.fromkeys(paths):
        record = _record(path)
        if record is not None:
            key = (record["input"]["path"], record["input"]["sha256"])
            volumes.setdefault(key, []).append((path, record))
        elif path in map(Path, given):
            raise InputError(
                f"{path} is no record of a map. Give the .json files that respondcam explain "
                f"writes beside its maps, or their folder."
            )
    if not volumes:
        names = ", ".join(repr(str(one)) for one in given)
        raise InputError(
            f"There are no maps to report in {names}. Give the folder that respondcam explain "
            f"wrote to (--out), or make maps first: respondcam explain VOLUME --model ... "
            f"(without --window: maps of windows have no page)"
        )
    names = _names([Path(path) for path, _ in volumes])
    return [
        Found(name, Path(path), tuple(item for item, _ in sorted(found, key=_by_score)))
        for name, ((path, _), found) in zip(names, volumes.items(), strict=True)
    ]


def read_report(found: Found) -> Report:
    """Read one volume with its maps, and everything that their records say.

    Raises
    ------
    InputError
        If the volume or a map is not there, or the volume has changed since it was explained.
    """
    records = [(path, read_json(path)) for path in found.records]
    folder, first = found.records[0].parent, records[0][1]
    place = _volume_path(found.volume, folder)
    try:
        same = _sha256(place) == first["input"]["sha256"]
    except OSError as error:
        raise InputError(f"The volume {str(place)!r} cannot be read: {error}") from error
    if not same:
        raise InputError(
            f"{place} has changed since it was explained: its maps belong to another image. "
            f"Explain it again, or bring the old file back."
        )
    nonfinite = first.get("settings", {}).get("nonfinite", "error")
    volume = read_volume(place, nonfinite=nonfinite)
    return Report(
        name=found.volume.name,
        volume=volume,
        maps=[read_map(path, record, volume.unit) for path, record in records],
        facts=_facts(found.volume, records),
        tables=[table for _, record in records for table in _tables(record)],
        notes=_on_settings([record for _, record in records]),
    )


def _json_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.json"))
    if not path.exists():
        raise InputError(f"{str(path)!r} does not exist. Give a folder of maps, or their records.")
    return [path]


def _record(path: Path) -> dict[str, Any] | None:
    """Read a record; None for any other JSON file."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    return record if _is_record(record) else None


_NEEDED = {
    "input": ("path", "sha256"),
    "target": ("name",),
    "files": ("layer",),
    "settings": ("method",),
}
_ACCOUNT = ("score", "baseline", "mapped", "gap")
_PARTS = ("shapley", "flow", "drop")


def _is_record(found: Any) -> bool:
    """Whether all that is read of a record is there and of its kind."""
    if not isinstance(found, dict) or not isinstance(found.get("layer"), str):
        return False
    sections = [found.get(name) for name in _NEEDED]
    sections += [found.get(name, {}) for name in ("model", "account", "evidence")]
    if not all(isinstance(section, dict) for section in sections):
        return False
    texts = [found[section].get(name) for section, names in _NEEDED.items() for name in names]
    numbers = [found.get("account", {}).get(name) for name in _ACCOUNT]
    return (
        all(isinstance(text, str) and "\0" not in text for text in texts)
        and found["settings"].get("nonfinite", "error") in ("error", "zero", "keep")
        and all(isinstance(number, int | float | None) for number in numbers)
        and all(number is None or math.isfinite(number) for number in numbers)
        and isinstance(found.get("notes", []), list)
        and _are_channels(found.get("channels") or {})
    )


def _are_channels(found: Any) -> bool:
    if not isinstance(found, dict) or not all(isinstance(found.get(p, {}), dict) for p in _PARTS):
        return False
    names = found.get("names", [])
    parts = [found[part] for part in _PARTS if part in found]
    return isinstance(names, list) and all(
        isinstance(part.get("channels"), list)
        and len(part["channels"]) == len(names)
        and "gap" in part
        for part in parts
    )


def _by_score(item: tuple[Path, Mapping[str, Any]]) -> tuple[int, str, str, float]:
    record = item[1]
    score = record.get("account", {}).get("score")
    method = record["settings"]["method"]
    known = list(METHOD_SUMMARIES)
    place = known.index(method) if method in known else len(known)
    return place, method, record["layer"], -float(score or 0.0)


def _names(paths: Sequence[Path]) -> list[str]:
    """Give each volume a name for its page's file: its own, numbered where two share it."""
    names: list[str] = []
    for path in paths:
        name, number = path.name, 1
        while name.casefold() in (taken.casefold() for taken in (*names, "index")):
            number += 1
            name = f"{path.name}-{number}"
        names.append(name)
    return names


def _volume_path(recorded: Path, folder: Path) -> Path:
    """Find the volume where it was, or, when the folder has moved, beside the maps."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a name that no file can have
        for place in (recorded, folder / recorded.name, folder.parent / recorded.name):
            if _may_be_volume(place):
                return place
    raise InputError(
        f"The volume {str(recorded)!r} is not there any more. Run the command in the folder in "
        f"which it was explained, or put the file beside its maps in {str(folder)!r}."
    )


# what stands here is no data: files of the system that may block, or never end
_SYSTEM = ("/proc/", "/sys/")


def _may_be_volume(place: Path) -> bool:
    if f"{place.resolve()}/".startswith(_SYSTEM):
        return False
    return place.is_dir() or (place.is_file() and place.stat().st_size > 0)


def map_file(path: Path, record: Mapping[str, Any], resolution: str) -> Path:
    """The file of a record's map, which lies beside it.

    A record that somebody sent could otherwise have any volume of the machine put into a page.

    Raises
    ------
    InputError
        If it lies outside the record's folder.
    """
    name = str(record["files"].get(resolution, ""))
    if not lies_beside(path, name):
        raise InputError(
            f"{str(path)!r} names {name!r} for its map, outside its own folder; that is not read, "
            f"since a record could name any file of this machine. Put both in one folder, and the "
            f"bare name into the record."
        )
    return path.parent / name


def read_map(path: Path, record: Mapping[str, Any], unit: Unit) -> ReportMap:
    """Read one map on the layer's grid, and what its record says.

    Parameters
    ----------
    path
        Of the record.
    record
        Its content.
    unit
        Of the image, for maps in a format that may not know it.

    Raises
    ------
    InputError
        If the map cannot be read, or lies outside the record's folder.
    """
    map = read_volume(map_file(path, record, "layer"))
    # a format may not know the unit that the image's own file told
    map = Volume(map.voxels, map.affine, unit) if map.unit == "voxel" else map
    account = record.get("account", {})
    numbers = [account.get(part) for part in _ACCOUNT]
    parts = [None if number is None else float(number) for number in numbers]
    adds_up = bool(account.get("adds_up", True))
    whole = adds_up and all(part is not None for part in parts)
    return ReportMap(
        volume=map,
        target=record["target"]["name"],
        layer=record["layer"],
        method=record["settings"]["method"],
        score=parts[0],
        account=AccountLine(*map_floats(parts)) if whole else None,
        notes=tuple(str(note) for note in record.get("notes", ())),
        adds_up=adds_up,
        limit=_limit(record.get("limit_value")),
    )


_LARGEST = 1e300  # a whole number beyond it is no float


def _limit(given: Any) -> float | None:
    """The value of the strongest colours that a record tells; None where it tells none."""
    known = isinstance(given, int | float) and not isinstance(given, bool)
    return float(given) if known and 0 < given < _LARGEST else None


def map_floats(values: Sequence[Any]) -> tuple[float, float, float, float]:
    """Give four numbers as floats."""
    score, baseline, mapped, gap = map(float, values)
    return score, baseline, mapped, gap


def _tables(record: Mapping[str, Any]) -> list[Table]:
    """Evidence that a record holds: what came through each channel, and title -> {name: value}."""
    name = f"{record['target']['name']}, layer {record['layer']}"
    found = [
        Table(f"{title}: {name}", ("what", "value"), list(one.items()))
        for title, one in record.get("evidence", {}).items()
        if isinstance(one, Mapping)
    ]
    channels = record.get("channels")
    if channels:
        parts = [part for part in _PARTS if part in channels]
        columns = [[*channels[part]["channels"], channels[part]["gap"]] for part in parts]
        names = [*channels.get("names", []), "gap"]
        rows = [list(row) for row in zip(names, *columns, strict=True)]
        found.append(Table(f"What came through each channel: {name}", ("channel", *parts), rows))
    return found


def _facts(volume: Path, found: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """What is needed to repeat the maps; of a setting that differs, which maps have which value."""
    records = [record for _, record in found]
    names = [f"{one['target']['name']}, {one['layer']}" for one in records]
    if len({one["settings"]["method"] for one in records}) > 1:
        names = [f"{n}, {r['settings']['method']}" for n, r in zip(names, records, strict=True)]
    if len(set(names)) < len(names):  # of several folders
        names = [f"{name} ({path})" for name, (path, _) in zip(names, found, strict=True)]
    facts = [("volume", str(volume)), ("its SHA-256", str(records[0]["input"]["sha256"]))]
    for section in ("model", "settings"):
        for key in dict.fromkeys(key for one in records for key in one.get(section, {})):
            if (section, key) in (("model", "class_names"), ("settings", "method")):
                continue
            holders: dict[str, list[str]] = {}
            for name, one in zip(names, records, strict=True):
                holders.setdefault(_written(one.get(section, {}).get(key)), []).append(name)
            for value, maps in holders.items():
                which = f" (of {'; '.join(maps)})" if len(holders) > 1 else ""
                facts.append((f"{section}: {key}", f"{value}{which}"))
    methods = dict.fromkeys(one["settings"]["method"] for one in records)
    versions = dict.fromkeys(str(one.get("respondcam", "")) for one in records)
    facts.append(("settings: method", "; ".join(methods)))
    return [*facts, ("maps made by respondcam", ", ".join(versions))]


# these say which map it is, not how it was made
_WHICH_MAP = ("method", "target", "layers", "classes")


def _on_settings(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say that maps which stand side by side were not made in the same way, where it is so."""
    differ = []
    for key in dict.fromkeys(key for one in records for key in one["settings"]):
        own = key == "method_arguments"  # each method has its own
        values: dict[str, set[str]] = {}
        for one in records:
            group = one["settings"]["method"] if own else ""
            values.setdefault(group, set()).add(_written(one["settings"].get(key)))
        if key not in _WHICH_MAP and any(len(found) > 1 for found in values.values()):
            differ.append(key)
    notes = []
    if len({_written(one.get("model", {}).get("state_sha256")) for one in records}) > 1:
        notes.append("maps of this page were made by different networks")
    if differ:
        notes.append(f"maps of this page were made with different settings: {', '.join(differ)}")
    return notes


def _written(value: Any) -> str:
    if value is None or value in ([], {}, ""):
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sha256(path: Path) -> str:
    """Digest of a file, or of all files of a folder, as ``explain`` records it."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for item in sorted(item for item in path.iterdir() if item.is_file()):
        digest.update(f"{item.name} {_sha256(item)}\n".encode())
    return digest.hexdigest()

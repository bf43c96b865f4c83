"""Everything that is written for one source: all of it, or nothing."""

import errno
import json
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from respondcam import __version__
from respondcam._differences import differences
from respondcam._files import REMEDIES, distinct, read_json, slug, why_unwritten
from respondcam.attribution import ChannelContributions, Explanation
from respondcam.attribution.explanation import Resolution
from respondcam.cli._explaining import (
    Explained,
    Settings,
    sha256_of,
)
from respondcam.cli._inputs import Source
from respondcam.cli._printing import to_json
from respondcam.cli._remarks import notes_on
from respondcam.errors import InputError
from respondcam.network.code import code_sha256
from respondcam.network.sources import LoadedModel
from respondcam.network.weights import state_sha256
from respondcam.show import explanation_figure, save_figure
from respondcam.show.world import Index
from respondcam.volume import write_volume

_LONGEST_NAME = 255  # bytes
_FURTHER = {"figure": ".png", "record": ".json"}


@dataclass(frozen=True)
class OneMap:
    """One map that was written, with what is said about it.

    Parameters
    ----------
    record
        The content of its JSON file.
    files
        The files, by what they hold: ``layer``, ``input``, ``figure``, ``record``.
    """

    record: Mapping[str, Any]
    files: Mapping[str, Path]


Limit = float | Literal["shared"] | None
"""Of the colours: a value, one for all classes of a volume, or each map's own."""


def limit_of(text: str | None) -> Limit:
    """What was typed for --limit.

    Examples
    --------
    >>> limit_of("shared"), limit_of("1e-3"), limit_of(None)
    ('shared', 0.001, None)
    """
    if text is None:
        return None
    if text == "shared":
        return "shared"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(
            f"--limit is {text!r}. Accepted: shared, or the value of the strongest colours, such "
            f"as 0.002."
        )
    return value


def _strongest(explanation: Explanation) -> float | None:
    """The largest absolute value of all maps of the sample; None where all are zero."""
    return float(explanation.maps[0].abs().max()) or None


def prepare_folder(folder: Path) -> bool:
    """Create the output folder if need be and try to write to it; say whether it is new.

    Raises
    ------
    InputError
        If it cannot be created or written to.
    """
    try:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"--out {str(folder)!r} cannot be written to: {error.strerror or error}. Give a folder "
            f"that exists or can be created, and that you may write to."
        ) from error
    return new


def model_record(loaded: LoadedModel) -> dict[str, Any]:
    """What identifies the network."""
    return {
        "spec": loaded.spec,
        "arguments": dict(loaded.arguments),
        "weights": str(loaded.weights.path) if loaded.weights else None,
        "weights_sha256": loaded.weights.sha256 if loaded.weights else None,
        "state_sha256": state_sha256(loaded.module),
        "code_sha256": code_sha256(loaded.spec),
        "class_names": list(loaded.class_names),
    }


def write_explained(
    found: Sequence[tuple[Settings, Explained]],
    folder: Path,
    model: Mapping[str, Any],
    *,
    overwrite: bool = False,
    limit: Limit = None,
) -> list[OneMap]:
    """Write the maps, figures and records of one source, by each method, into a folder.

    They are written aside first and then renamed, so that a source that fails leaves nothing.
    Results of the very same run (same volume, network and settings) are written again; any other
    file in the way stays, unless `overwrite`. `limit` is the value of the strongest colours in the
    figures, and on the page that is made from the records.

    Raises
    ------
    InputError
        If a file is in the way or cannot be written.
    """
    made: list[OneMap] = []
    with _aside(folder) as aside:
        maps = _each_once(found, model)
        stems = _stems(found[0][1].source.name if found else "", [one[-1] for one in maps])
        together = [f"{stem}{_FURTHER['record']}" for stem in stems]
        for (explained, explanation, target, record), stem in zip(maps, stems, strict=True):
            files = _names(folder / stem, explained.source.suffix)
            _check_free(files, record, overwrite=overwrite)
            record["files"] = {what: path.name for what, path in files.items()}
            strongest = _strongest(explanation) if limit == "shared" else limit
            record |= {"together": together, "limit": limit, "limit_value": strongest}
            _write(aside, files, explained, explanation, target, record)
            made.append(OneMap(record, files))
        for one in made:
            for path in one.files.values():
                (aside / path.name).replace(path)
    return made


@contextmanager
def _aside(folder: Path) -> Generator[Path, None, None]:
    """A folder for what is not whole yet; where the block cannot write, the error says what."""
    try:
        with tempfile.TemporaryDirectory(prefix=".respondcam-", dir=folder) as aside:
            try:
                yield Path(aside)
            except InputError as error:  # of the folder that was asked for, not of this one
                if aside not in str(error):
                    raise
                raise InputError(str(error).replace(aside, str(folder))) from error
    except OSError as error:
        name = Path(os.fsdecode(error.filename)).name if error.filename else "the results"
        raise InputError(
            f"Cannot write {name} into {str(folder)!r}: {why_unwritten(error)}"
        ) from error


def _each_once(
    found: Sequence[tuple[Settings, Explained]], model: Mapping[str, Any]
) -> list[tuple[Explained, Explanation, int, dict[str, Any]]]:
    """Every map with its record; a layer or class that was asked for twice counts once."""
    maps: dict[Any, tuple[Explained, Explanation, int, dict[str, Any]]] = {}
    for settings, explained in found:
        for explanation in explained.explanations:
            for target in range(len(explanation.targets)):
                record = _record(explained, explanation, target, settings, model)
                key = (settings.method, record["layer"], *record["target"].values())
                maps.setdefault(key, (explained, explanation, target, record))
    return list(maps.values())


def _record(
    explained: Explained,
    explanation: Explanation,
    target: int,
    settings: Settings,
    model: Mapping[str, Any],
) -> dict[str, Any]:
    volume, grid = explained.volume, explanation.grid
    return {
        "respondcam": __version__,
        "input": {
            "path": str(explained.source.path),
            "sha256": sha256_of(explained.source.path),
            "channels": volume.channels,
            "shape_zyx": volume.shape,
            "voxel_size_zyx": volume.voxel_size,
            "unit": volume.unit,
        },
        "model": dict(model),
        "settings": settings_record(settings),
        "layer": explanation.layer,
        "layer_reason": explanation.layer_reason,
        "grid": {**vars(grid), "axes": "xyz" if explained.turned else "zyx"},
        "target": {
            "name": explanation.label(target),
            "class": explanation.class_of(target),
        },
        "account": account_record(explanation, target),
        "precision": precision_record(explanation),
        "channels": channel_record(explained.channels, target),
        "notes": notes_on(explanation, explained.notes, target),
    }


def settings_record(settings: Settings) -> dict[str, Any]:
    """The settings as plain values."""
    names = ("layers", "channel_names", "classes")
    return {**vars(settings), **{name: list(getattr(settings, name)) for name in names}}


def account_record(explanation: Explanation, target: int) -> dict[str, Any]:
    """The score account of one map as plain numbers."""
    account = explanation.account
    figures = ("score", "baseline", "mapped", "gap", "relative_gap")
    values = {name: float(getattr(account, name)[0, target]) for name in figures}
    # whether the sum is meant to follow the score, which it is not for every method
    return {**values, "adds_up": not explanation.note, "note": account.note}


def precision_record(explanation: Explanation) -> dict[str, Any] | None:
    """What a trunk in bfloat16 cost on the first volume; None for float32."""
    found = explanation.precision
    return None if found is None else {"trunk": "bf16", **vars(found)}


def channel_record(found: ChannelContributions | None, target: int) -> dict[str, Any] | None:
    """What comes through each channel as plain numbers; the gap of each account is its last."""
    if found is None:
        return None
    return {
        "names": list(found.names),
        "score": float(found.score[0, target]),
        "baseline": float(found.baseline[0, target]),
        **{
            title.lower(): {"channels": values[:-1], "gap": values[-1]}
            for title, values in found.columns(0, target).items()
        },
    }


def box_asked_for(target: str) -> tuple[Index, Index] | None:
    """The corners of a target's box in voxels (z, y, x) of the image; None for other targets.

    Examples
    --------
    >>> box_asked_for("box:1,2,3-4,5,6@2"), box_asked_for("predicted")
    (((1, 2, 3), (4, 5, 6)), None)
    """
    corner = r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*"
    found = re.fullmatch(rf"\s*box:{corner}-{corner}(@.*)?", target)
    if found is None:
        return None
    a, b, c, d, e, f = map(int, found.groups()[:6])
    return (a, b, c), (d, e, f)


def _stems(source: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the names of each map's files begin with; no two are the same, whatever the case.

    Names of classes that differ only in what file names cannot hold get the class's number. It
    depends on the network alone, so that a later run for one class finds the same name.
    """
    stems: list[str] = []
    for record in records:
        target, names = record["target"], record["model"].get("class_names", [])
        name = slug(target["name"].removesuffix(" (predicted)"))
        shared = Counter(slug(one).casefold() for one in names)
        if shared[name.casefold()] > 1 and target["class"] is not None:
            name = f"{name}-{target['class']}"
        method, layer = record["settings"]["method"], slug(record["layer"])
        stems.append(".".join((source, method, layer, name)))
    return distinct(stems)  # layers can be alike, too


def check_before(
    names: Sequence[str], folder: Path, each: Sequence[Settings], now: Mapping[str, Any]
) -> None:
    """Refuse before the work what `write_explained` would refuse after it, as far as it is known.

    Known are layers and classes that are named; one that the network chooses counts as the one that
    it chose for the same question.

    Parameters
    ----------
    names
        The records that the source has in the folder.
    folder
        Where the results go.
    each
        The settings of each method.
    now
        ``input`` and ``model`` of the records to come.

    Raises
    ------
    InputError
        If a map of another run would have to be replaced.
    """
    for settings in map(settings_record, each):
        for name in names:
            try:
                before = read_json(folder / name)
                if not _same_place(before, {**now, "settings": settings}):
                    continue
                files = {what: folder / Path(one).name for what, one in before["files"].items()}
                record = {**before, **now, "settings": settings}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # no record of ours; what is in the way is found when it is written
            _check_free({**files, "record": folder / name}, record, overwrite=False)


def check_names(source: Source, methods: Sequence[str], folder: Path) -> None:
    """Refuse before the work a name that becomes too long, whatever layer and class are called.

    Raises
    ------
    InputError
        If a file could not be written under it.
    """
    shortest = (f"{source.name}.{method}.l.c.input{source.suffix}" for method in methods)
    longest = max(len(os.fsencode(name)) for name in shortest)
    if longest > _LONGEST_NAME:
        raise InputError(
            f"Cannot write the maps of {source.path.name!r} into {str(folder)!r}: names of "
            f"{longest} bytes and more are too long, file systems hold {_LONGEST_NAME}. "
            f"{REMEDIES[errno.ENAMETOOLONG]}"
        )


def _same_place(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record's map would have the name of one that is asked for."""
    then, asked, target = before["settings"], now["settings"], before["target"]
    if then["method"] != asked["method"]:
        return False
    if asked["layers"]:
        layer = before["layer"] in asked["layers"]
    else:
        layer = not then["layers"] and before["model"]["spec"] == now["model"]["spec"]
    named = [one.strip() for one in asked["target"].split(",")]
    same = asked["target"] == then["target"] or str(target["class"]) in named
    return layer and (same or target["name"].removesuffix(" (predicted)") in named)


def _names(stem: Path, suffix: str) -> dict[str, Path]:
    ends = {"input": f".input{suffix}", "layer": f".layer{suffix}"} | _FURTHER
    return {what: stem.with_name(f"{stem.name}{end}") for what, end in ends.items()}


def _check_free(files: Mapping[str, Path], record: Mapping[str, Any], *, overwrite: bool) -> None:
    there = [path for path in files.values() if path.exists()]
    folders = [path for path in there if path.is_dir()]
    before, now = _identity(files["record"]), _identity_of(json.loads(to_json(record)))
    if folders or (there and not overwrite and before != now):
        apart = f" ({'; '.join(differences(before, now))})" if before else ""
        what = "is a folder" if folders else f"exists already and comes from another run{apart}"
        remedy = "" if folders else ", or allow it to be replaced with --overwrite"
        raise InputError(
            f"{str((folders or there)[0])!r} {what}. Give another folder with --out{remedy}."
        )


def _identity(path: Path) -> Any:
    try:
        return _identity_of(read_json(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _identity_of(record: Any) -> Any:
    settings = {
        key: value
        for key, value in record["settings"].items()
        if key not in ("target", "classes", "layers")  # which map it is, they do not change
    }
    if settings.get("output") == "logits":
        settings["output"] = None  # the part that is taken where none is named
    return {
        "volume": record["input"]["sha256"],
        "weights": record["model"]["state_sha256"],
        "layer": record["layer"],
        "class": record["target"]["class"],
        **settings,
    }


def _write(
    aside: Path,
    files: Mapping[str, Path],
    explained: Explained,
    explanation: Explanation,
    target: int,
    record: Mapping[str, Any],
) -> None:
    for resolution in get_args(Resolution):
        keep = record["settings"]["keep"]
        volume = explained.map_volume(explanation, target, resolution, keep)
        write_volume(aside / files[resolution].name, volume)
    figure = explanation_figure(
        explanation,
        target=target,
        image=explained.volume,
        box=box_asked_for(record["settings"]["target"]),
        limit=record["limit_value"],
    )
    save_figure(figure, aside / files["figure"].name)
    (aside / files["record"].name).write_text(to_json(record) + "\n", encoding="utf-8")

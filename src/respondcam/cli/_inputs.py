"""From what was typed to a list of volumes, each with a name of its own for its outputs."""

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from respondcam._files import expanded, slug
from respondcam.errors import InputError

_MOST_FOLDERS = 1000  # that are looked into for a note
_MOST_FILES = 20  # of such a folder that are opened: they are of one kind as a rule
_MOST_NAMED = 3
_SLICES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Source:
    """One volume to explain: a file, or a folder that holds a DICOM series.

    Parameters
    ----------
    path
        Where it is.
    name
        What its outputs' names begin with; no two sources share it.
    suffix
        Of the maps: the source's own where that format can be written, else ``.nii.gz``.
    note
        Why the maps have another format than the source; empty where they have the same.
    shown
        What it is called on the screen, where its file's name is not enough.
    stands_for
        How many of the files that were given: those of a DICOM series count as one volume.
    """

    path: Path
    name: str
    suffix: str
    note: str = ""
    shown: str = ""
    stands_for: int = 1

    @property
    def label(self) -> str:
        """What it is called on the screen: its file's name, with folders where others share it."""
        return self.shown or self.path.name


def find_sources(given: Sequence[str]) -> list[Source]:
    """List the volumes that files, patterns and folders stand for, each one once.

    A pattern counts also where the shell did not expand it. A folder stands for the volumes
    directly inside it or, if there are none, for a DICOM series; so does each file of a series. A
    file that does not exist is listed like any other, so that reading it says so.

    Raises
    ------
    InputError
        If a pattern or a folder holds nothing, or a name is no UTF-8 text.

    Examples
    --------
    >>> [source.name for source in find_sources(["a/x.mrc", "b/x.mrc", "y.nii.gz"])]
    ['a_x', 'b_x', 'y']
    """
    paths: dict[str, Path] = {}
    for text in given:
        for path in _expanded(text):
            paths.setdefault(os.path.realpath(path), path)
    if not paths:
        raise InputError(
            "No file was given. Give volumes, patterns such as 'data/*.mrc' or folders."
        )
    for path in paths.values():
        _check_name(path)
    counts = _each_series_once(list(paths.values()))
    given_paths = list(counts)
    names, labels = output_names(given_paths), shown_names(given_paths)
    return [
        replace(_source(path, name), shown=label, stands_for=counts[path])
        for path, name, label in zip(given_paths, names, labels, strict=True)
    ]


def _each_series_once(paths: Sequence[Path]) -> dict[Path, int]:
    """Of the files of one DICOM series the first, which stands for all; and how many each is."""
    folders = Counter(path.parent for path in paths if _is_slice(path))
    counts: dict[Path, int] = {}
    first: dict[tuple[str, str], Path] = {}
    for path in paths:
        known = path
        if folders[path.parent] > 1 and _is_slice(path) and (series := _series_of(path)):
            known = first.setdefault((os.path.realpath(path.parent), series), path)
        counts[known] = counts.get(known, 0) + 1
    return counts


def _series_of(path: Path) -> str:
    """Identifier of the series that a file belongs to; empty where it tells none."""
    from respondcam.volume.dicom import series_of

    try:
        return series_of(path)
    except InputError:
        return ""


def shown_names(paths: Sequence[Path]) -> list[str]:
    """What to call each file on the screen: its name, behind folders where others have the same.

    Examples
    --------
    >>> shown_names([Path("s1/a.mrc"), Path("s2/a.mrc"), Path("s2/b.mrc")])
    ['s1/a.mrc', 's2/a.mrc', 'b.mrc']
    """
    absolute = [Path(os.path.realpath(path)) for path in paths]
    found = [path.name for path in paths]
    for count in range(2, 1 + max((len(path.parts) for path in absolute), default=0)):
        again = Counter(found)
        if max(again.values(), default=0) < 2:
            break
        found = [
            "/".join(path.parts[-count:]) if again[name] > 1 else name
            for path, name in zip(absolute, found, strict=True)
        ]
    return found


def _check_name(path: Path) -> None:
    """Refuse names that records and pages, which are UTF-8, cannot hold."""
    try:
        os.path.realpath(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{str(path)!a} has a name with bytes that are no UTF-8 text, which no record or "
            f"page can hold. Rename the file or its folder."
        ) from error


def without_channel_files(sources: Sequence[Source]) -> list[Source]:
    """Leave files NAME_0001 and so on out where NAME_0000 is given: they are its channels.

    Examples
    --------
    >>> names = ["a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz"]
    >>> [source.name for source in without_channel_files(find_sources(names))]
    ['a_0000', 'b_0001']
    """
    given = {source.path for source in sources}
    return [
        source
        for source in sources
        if (first := _channel_file(source.path, 0)) in (None, source.path) or first not in given
    ]


def channel_files(path: Path, count: int) -> list[Path]:
    """The files of one volume: NAME_0000 with those of its other channels, as nnU-Net has them.

    Any other file, and one whose further channels are not all there, stands alone.
    """
    if _channel_file(path, 0) != path or count < 2:
        return [path]
    files = [_channel_file(path, number) for number in range(count)]
    there = [file for file in files if file is not None and file.exists()]
    return there if len(there) == count else [path]


def _channel_file(path: Path, number: int) -> Path | None:
    """The file of another channel beside this one; None if its name holds no channel."""
    name, found = re.subn(r"_\d{4}(?=\.[^\d])", f"_{number:04d}", path.name)
    return path.with_name(name) if found == 1 else None


def output_names(paths: Sequence[Path]) -> list[str]:
    """Give each path the shortest name that no other one shares: stem, file name, with folders.

    Examples
    --------
    >>> output_names([Path("x.mrc"), Path("x.nii.gz"), Path("y.mrc")])
    ['x_mrc', 'x_nii.gz', 'y']
    """
    absolute = [Path(os.path.realpath(path)) for path in paths]
    found: list[str] = [""] * len(paths)
    left = list(range(len(paths)))
    for level in range(2 + 2 * max((len(path.parts) for path in absolute), default=0)):
        names = {index: _name(absolute[index], level) for index in left}
        # file systems that ignore case must not mix them up either; nor with names given before
        taken = Counter(name.casefold() for name in [*names.values(), *filter(None, found)])
        for index, name in names.items():
            if taken[name.casefold()] == 1:
                found[index] = name
        left = [index for index in left if not found[index]]
    for index in left:  # differ only by case, or by characters that names cannot hold
        found[index] = f"{_name(absolute[index], 1)}_{index + 1}"
    return found


def suffix_of(path: Path, known: Sequence[str]) -> str:
    """The longest known suffix at the end of a name, as it is written there; or an empty text."""
    lower = path.name.lower()
    found = max((suffix for suffix in known if lower.endswith(suffix)), key=len, default="")
    return path.name[len(path.name) - len(found) :] if found else ""


def _expanded(text: str) -> Iterator[Path]:
    path = expanded(text)
    if path.is_dir():
        yield from _in_folder_or_store(path)
    elif glob.has_magic(text) and not path.exists():
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  (takes absolute ones)
        if not matches:
            raise InputError(f"No file matches the pattern {text!r}.")
        for match in matches:
            yield from _in_folder_or_store(Path(match)) if Path(match).is_dir() else (Path(match),)
    else:
        yield path


def _in_folder_or_store(folder: Path) -> list[Path]:
    from respondcam.volume.io import is_zarr

    return [folder] if is_zarr(folder) else _in_folder(folder)


def _in_folder(folder: Path) -> list[Path]:
    """The volumes in a folder; the folder itself if it holds a DICOM series instead."""
    from respondcam.volume.io import is_zarr, read_suffixes

    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"The folder {str(folder)!r} cannot be read: {error.strerror or error}. Give one that "
            f"you may read."
        ) from error
    files = [path for path in entries if path.is_file()]
    volumes = [path for path in files if _is_volume(path, read_suffixes())]
    volumes += [path for path in entries if path.is_dir() and is_zarr(path)]
    if volumes:
        return volumes
    if any(_is_slice(path) for path in files):
        return [folder]
    hint = "".join(f" {note[0].upper()}{note[1:]}." for note in below(folder))
    raise InputError(
        f"The folder {str(folder)!r} holds no volume and no DICOM series.{hint} Known suffixes: "
        f"{', '.join(read_suffixes())}."
    )


def left_out(given: Sequence[str], sources: Sequence[Source] = ()) -> list[str]:
    """Notes on what was given and is not explained: sub-folders, DICOM files beside others.

    Parameters
    ----------
    given
        As it was typed.
    sources
        What that stands for; files of one DICOM series are one.

    Examples
    --------
    >>> left_out(["scan.nii.gz"])
    []
    """
    from respondcam.volume.io import is_zarr

    folders = [path for path in map(expanded, given) if path.is_dir() and not is_zarr(path)]
    notes = [note for folder in folders for note in (*below(folder), _beside(folder))]
    return [note for note in (_together(sources), *notes) if note]


def _together(sources: Sequence[Source]) -> str:
    """Say that the files of a series were taken for one volume."""
    several = [source for source in sources if source.stands_for > 1]
    if not several:
        return ""
    named = ", ".join(source.label for source in several[:_MOST_NAMED])
    more = f" and {len(several) - _MOST_NAMED} more" if len(several) > _MOST_NAMED else ""
    return (
        f"{sum(source.stands_for for source in several)} of the files are slices of {len(several)} "
        f"DICOM series; each series is one volume, called by its first file: {named}{more}"
    )


def _beside(folder: Path) -> str:
    """Say that DICOM files were passed over, since a folder holds other volumes too."""
    if _in_folder(folder) == [folder]:
        return ""
    slices = [path for path in sorted(folder.iterdir()) if _is_slice(path)]
    if not slices:
        return ""
    one = len(slices) == 1
    many = "1 DICOM file" if one else f"{len(slices)} DICOM files"
    return (
        f"{many} of {str(folder)!r} beside its other volumes {'was' if one else 'were'} not looked "
        f"at; a file of the series, such as {str(slices[0])!r}, stands for all of it"
    )


def below(folder: Path) -> list[str]:
    """Say how many folders below one hold volumes or DICOM series, and how to give these."""
    from respondcam.volume.io import read_suffixes

    known = read_suffixes()
    holding: dict[str, list[str]] = {"volumes": [], "DICOM series": []}  # with patterns for each
    looked = 0
    for place, folders, files in itertools.islice(os.walk(folder), _MOST_FOLDERS):
        looked += 1
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not f.endswith(".zarr"))
        depth = len(Path(place).relative_to(folder).parts)
        if not depth:
            continue
        volumes = [name for name in files if _is_volume(Path(name), known)]
        if volumes:
            suffix = suffix_of(Path(min(volumes)), known)
            holding["volumes"].append(f"{folder}/**/*{suffix}")
        elif any(_is_slice(Path(place, name)) for name in sorted(files)[:_MOST_FILES]):
            holding["DICOM series"].append(f"{folder}{'/*' * depth}")
    least = "at least " if looked == _MOST_FOLDERS else ""
    return [
        f"{least}{len(patterns)} sub-folder{' of' if len(patterns) == 1 else 's of'} "
        f"{str(folder)!r} with {what} {'was' if len(patterns) == 1 else 'were'} not looked into; a "
        f"pattern such as {patterns[0]!r} does"
        for what, patterns in holding.items()
        if patterns
    ]


def _is_volume(path: Path, known: Sequence[str]) -> bool:
    suffix = suffix_of(path, known).lower()
    # .img only goes with its .hdr, and slices of a series are not volumes one by one
    return suffix not in ("", ".img", *_SLICES) and not path.name.startswith(".")


def _is_slice(path: Path) -> bool:
    """Whether a path is a file that is read as DICOM."""
    from respondcam.volume.dicom import has_dicom_stamp
    from respondcam.volume.io import read_suffixes

    suffix = suffix_of(path, read_suffixes()).lower()
    if suffix not in ("", *_SLICES) or path.name == "DICOMDIR":
        return False
    try:
        return path.is_file() and (suffix != "" or has_dicom_stamp(path))
    except OSError:
        return False


def _source(path: Path, name: str) -> Source:
    from respondcam.volume.io import is_zarr, write_suffixes

    suffix = suffix_of(path, write_suffixes())
    if path.is_dir() and is_zarr(path):
        return Source(path, name, ".nii.gz", "maps of OME-Zarr images are written as NIfTI here")
    if suffix.lower() == ".npy":
        return Source(
            path, name, ".npz", "maps of .npy files are written to .npz, with their place"
        )
    if suffix or not path.exists():
        return Source(path, name, suffix)
    what = "a DICOM series" if path.is_dir() else f"{path.suffix or 'such'} files"
    return Source(path, name, ".nii.gz", f"maps of {what} are written as NIfTI (.nii.gz)")


def _name(path: Path, level: int) -> str:
    """Level 0 is the stem, 1 the file's name, each further one adds a folder in front."""
    from respondcam.volume.io import read_suffixes

    suffix = suffix_of(path, read_suffixes())
    suffix = suffix if path.is_dir() else suffix or path.suffix
    stem = path.name[: len(path.name) - len(suffix)] or path.name
    if level == 0:
        return stem
    folders = path.parent.parts[-(level // 2) :] if level > 1 else ()
    file = f"{stem}_{suffix.lstrip('.')}" if level % 2 and suffix else stem
    return "_".join([*(slug(folder) for folder in folders), file])

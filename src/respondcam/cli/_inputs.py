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
    """

    path: Path
    name: str
    suffix: str
    note: str = ""
    shown: str = ""

    @property
    def label(self) -> str:
        """What it is called on the screen: its file's name, with folders where others share it."""
        return self.shown or self.path.name


def find_sources(given: Sequence[str]) -> list[Source]:
    """List the volumes that files, patterns and folders stand for, each one once.

    A pattern counts also where the shell did not expand it. A folder stands for the volumes
    directly inside it or, if there are none, for a DICOM series. A file that does not exist is
    listed like any other, so that reading it says so.

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
    given_paths = list(paths.values())
    for path in given_paths:
        _check_name(path)
    names, labels = output_names(given_paths), shown_names(given_paths)
    return [
        replace(_source(path, name), shown=label)
        for path, name, label in zip(given_paths, names, labels, strict=True)
    ]


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
    if any(_is_dicom(path) for path in files):
        return [folder]
    deeper = below(folder)
    hint = f" {deeper[0].upper()}{deeper[1:]}." if deeper else ""
    raise InputError(
        f"The folder {str(folder)!r} holds no volume and no DICOM series.{hint} Known suffixes: "
        f"{', '.join(read_suffixes())}."
    )


def left_out(given: Sequence[str]) -> list[str]:
    """Notes on the sub-folders with volumes of folders that were given: they are not looked into.

    Examples
    --------
    >>> left_out(["scan.nii.gz"])
    []
    """
    from respondcam.volume.io import is_zarr

    folders = [expanded(text) for text in given]
    found = [below(path) for path in folders if path.is_dir() and not is_zarr(path)]
    return [note for note in found if note]


def below(folder: Path) -> str:
    """Say how many folders below one hold volumes, and how to give these; empty if none does."""
    from respondcam.volume.io import read_suffixes

    known = read_suffixes()
    holding, example = 0, ""
    walk = itertools.islice(os.walk(folder), _MOST_FOLDERS)
    looked = 0
    for place, folders, files in walk:
        looked += 1
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not f.endswith(".zarr"))
        volumes = [name for name in files if _is_volume(Path(name), known)]
        if Path(place) != folder and volumes:
            holding += 1
            example = example or suffix_of(Path(min(volumes)), known)
    if not holding:
        return ""
    many = f"{'at least ' if looked == _MOST_FOLDERS else ''}{holding}"
    holds = f"{many} sub-folder of {str(folder)!r} with volumes was"
    hold = f"{many} sub-folders of {str(folder)!r} with volumes were"
    pattern = f"{folder}/**/*{example}"
    return f"{holds if holding == 1 else hold} not looked into; a pattern such as {pattern!r} does"


def _is_volume(path: Path, known: Sequence[str]) -> bool:
    suffix = suffix_of(path, known).lower()
    # .img only goes with its .hdr, and slices of a series are not volumes one by one
    return suffix not in ("", ".img", ".dcm", ".dicom") and not path.name.startswith(".")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")


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

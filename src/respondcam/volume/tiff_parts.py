"""What the description of a TIFF asks for, looked at before tifffile follows it.

OME-XML, and the index beside a Micro-Manager stack, name further files that sections are in, and
tifffile opens whatever they name. OME-XML also says how many sections there are, for each of which
tifffile sets memory aside before it looks for one.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from respondcam.errors import VolumeError
from respondcam.volume.beside import file_beside

_SECTION_BYTES = 18  # of the shortest directory, which every section has
_FREE = 1 << 20  # sections that may be declared whatever is stored


def check_parts(file: Any, path: Path, index_reader: Any) -> None:
    """Refuse files outside the stack's folder, and numbers of sections that no file can have.

    Parameters
    ----------
    file
        The open `TiffFile`, whose series were not yet asked for.
    path
        Of the file.
    index_reader
        tifffile's for the index of Micro-Manager.

    Raises
    ------
    VolumeError
        Before any other file is opened.
    """
    if file.is_mmstack:
        for one in path.parent.glob("*_MMStack*.tif"):
            file_beside(path, one.name)
    if file.is_ndtiff:
        index = file_beside(path, "NDTiff.index")
        for name in {entry[1] for entry in index_reader(index)}:
            file_beside(path, name)
    if file.is_ome:
        _check_ome(file.ome_metadata, path)


def _check_ome(xml: str, path: Path) -> None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return  # who asks for the place says so
    size = path.stat().st_size
    size += sum(file_beside(path, name).stat().st_size for name in _names(root, path))
    most = max(_FREE, size // _SECTION_BYTES)
    for element in root.iter():
        declared = _declared(element)
        if not declared <= most:  # nor what is no number
            raise VolumeError(
                f"{str(path)!r} has damaged OME metadata: they speak of {declared:.0f} sections, "
                f"and the file can hold {most} at most"
            )


def _names(root: Any, path: Path) -> set[str]:
    """Other files that sections are in; one that was renamed still calls itself by its old name."""
    own = root.attrib.get("UUID")
    return {
        one.attrib["FileName"]
        for one in root.iter()
        if one.tag.endswith("UUID")
        and one.text != own
        and one.attrib.get("FileName", path.name).lower() != path.name.lower()
    }


def _declared(element: Any) -> float:
    """How many sections an element of OME-XML speaks of, at most; damaged numbers are none."""
    try:
        return max(_counts(element.tag, element.attrib), default=0.0)
    except (ValueError, ArithmeticError):  # tifffile stumbles over it, too
        return 0.0


def _counts(tag: str, given: dict[str, str]) -> Iterator[float]:
    if tag.endswith("Pixels"):
        yield float(prod(int(given.get(f"Size{axis}", 1)) for axis in "ZCT"))
    elif tag.endswith("TiffData"):
        yield from (float(int(given.get(name, 0))) for name in ("NumPlanes", "PlaneCount"))
    elif tag[:-1].endswith("Along") and "Start" in given:
        start, end, step = (float(given.get(name, 1)) for name in ("Start", "End", "Step"))
        yield (end - start) / step

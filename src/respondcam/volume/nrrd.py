"""NRRD (.nrrd, .nhdr) through SimpleITK; vectors or a fourth axis become the channels."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from respondcam.errors import VolumeError
from respondcam.volume._stream import DEFLATE_RATIO, check_size
from respondcam.volume.beside import file_beside
from respondcam.volume.geometry import LPS_TO_RAS, scaled
from respondcam.volume.itk import (
    lps_affine,
    read_information,
    reason,
    simple_itk,
    text_header,
    unit_of,
)
from respondcam.volume.itk import write as write
from respondcam.volume.volume import Volume

_LONGEST_FIELD = 256  # bytes; sixteen axes of directions take less
_LONGEST_LINE = 1 << 20


def read(path: Path) -> Volume:
    """Read a NRRD file, or a header with the file of voxels that it names.

    Raises
    ------
    VolumeError
        If the file is damaged or holds no volume of real numbers.
    """
    sitk = simple_itk()
    apart = _files_apart(path, _lines(path))
    info = read_information(path, "NrrdImageIO")
    size, channels = info.GetSize(), info.GetNumberOfComponents()
    if len(size) not in (3, 4) or (len(size) == 4 and channels > 1):
        raise VolumeError(
            f"{str(path)!r} has {len(size)} axes of lengths {size} (x, y, z, ...) and {channels} "
            f"numbers per voxel; accepted are three axes, with vectors or one further axis as "
            f"channels"
        )
    fields, header_length = text_header(path)
    if fields.get("encoding", "raw").lower() in ("bzip2", "bz2"):  # memory would be taken first
        raise VolumeError(
            f"{str(path)!r} cannot be read: bzip2 encoding not available in ITK; pack it with gzip"
        )
    bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(info.GetPixelID()))
    itemsize = int(bits[1]) // 8 if bits else 1
    check_size(
        path, (channels, *size[::-1]), itemsize, _bytes_at_most(path, apart, fields, header_length)
    )
    try:
        image = sitk.ReadImage(str(path), imageIO="NrrdImageIO")
    except RuntimeError as error:
        raise VolumeError(f"{str(path)!r} cannot be read: {reason(error)}") from error
    array = sitk.GetArrayViewFromImage(image)  # valid as long as the image is
    voxels = np.moveaxis(array, -1, 0) if channels > 1 else array
    unit, factor = unit_of(fields, path)
    affine = scaled(LPS_TO_RAS @ lps_affine(info), factor)
    return Volume(voxels, affine, unit, path, {"format": "itk", "per_mm": factor})


def _lines(path: Path) -> list[str]:
    """The header, line by line; refuse lines that are too long to be fields.

    ITK's reader words an error about them into memory of a fixed size, which ends the process.
    Comments and key/value pairs may be long: it copies these as they are. Lines end with a line
    feed, a carriage return or both, as ITK takes them.
    """
    lines: list[str] = []
    with path.open("rb") as file:
        while raw := file.readline(_LONGEST_LINE):
            for line in re.split(b"\r\n|\r|\n", raw.removesuffix(b"\n").removesuffix(b"\r")):
                if not line:
                    return lines
                free = line.startswith(b"#") or b":=" in line
                if len(line) > _LONGEST_FIELD and not free:
                    raise VolumeError(
                        f"{str(path)!r} has a damaged NRRD header: a line of it begins with "
                        f"{line[:40].decode('latin-1')!r} and is longer than any field"
                    )
                # a long line is kept as none: it names no file
                short = line if len(line) <= _LONGEST_FIELD else b""
                lines.append(short.decode("latin-1").strip())
    return lines


def _files_apart(path: Path, lines: list[str]) -> list[Path] | None:
    """The files that the header names for the voxels, all beside it; None if it names none.

    One name; a pattern with the first, the last and the step of its numbers; or a list, of which
    each further line is one.
    """
    for number, line in enumerate(lines):
        if not (field := re.match(r"data ?file:(?!=)\s*(.+)", line, re.IGNORECASE)):
            continue
        named = field[1].strip()
        if re.match(r"LIST( \d+)?$", named):
            return [file_beside(path, name) for name in lines[number + 1 :]]
        if pattern := re.match(
            r"([^%]*)%(0?\d{0,2})[di]([^%]*?) (-?\d+) (-?\d+) (-?\d+)( \d+)?$", named
        ):
            return list(_numbered(path, pattern))
        if "%" in named:  # ITK would hand it to C's printf
            raise VolumeError(
                f"{str(path)!r} keeps its voxels in {named!r}; accepted are the names of regular "
                f"files, or a pattern such as 'slice%03d.raw 1 40 1'"
            )
        return [file_beside(path, named)]
    return None


def _numbered(path: Path, pattern: re.Match[str]) -> Iterator[Path]:
    before, width, after = pattern.group(1, 2, 3)
    first, last, step = map(int, pattern.group(4, 5, 6))
    numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    for number in numbers:  # the first that is missing ends it
        yield file_beside(path, f"{before}{format(number, width + 'd')}{after}")


def _bytes_at_most(
    path: Path, apart: list[Path] | None, fields: dict[str, str], header_length: int
) -> int:
    """Bytes of voxels that the file, or the files that its header names, can hold."""
    if apart is None:
        size = path.stat().st_size - header_length
    else:
        size = sum(one.stat().st_size for one in apart)
    encoding = fields.get("encoding", "raw").lower()
    if encoding in ("gzip", "gz"):
        return size * DEFLATE_RATIO
    return size if encoding == "raw" else size * 8  # text: a digit and a blank for a float64

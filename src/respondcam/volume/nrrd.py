"""NRRD (.nrrd, .nhdr) through SimpleITK; vectors or a fourth axis become the channels."""

import re
from pathlib import Path

import numpy as np

from respondcam.errors import VolumeError
from respondcam.volume._stream import DEFLATE_RATIO, UNBOUNDED, check_size
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
    _check_lines(path)
    info = read_information(path)
    size, channels = info.GetSize(), info.GetNumberOfComponents()
    if len(size) not in (3, 4) or (len(size) == 4 and channels > 1):
        raise VolumeError(
            f"{str(path)!r} has {len(size)} axes of lengths {size} (x, y, z, ...) and {channels} "
            f"numbers per voxel; accepted are three axes, with vectors or one further axis as "
            f"channels"
        )
    fields, header_length = text_header(path)
    bits = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(info.GetPixelID()))
    itemsize = int(bits[1]) // 8 if bits else 1
    check_size(path, (channels, *size[::-1]), itemsize, _bytes_at_most(path, fields, header_length))
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise VolumeError(f"{str(path)!r} cannot be read: {reason(error)}") from error
    array = sitk.GetArrayViewFromImage(image)  # valid as long as the image is
    voxels = np.moveaxis(array, -1, 0) if channels > 1 else array
    unit, factor = unit_of(fields, path)
    affine = scaled(LPS_TO_RAS @ lps_affine(info), factor)
    return Volume(voxels, affine, unit, path, {"format": "itk", "per_mm": factor})


def _check_lines(path: Path) -> None:
    """Refuse header lines that are too long to be fields.

    ITK's reader words an error about them into memory of a fixed size, which ends the process.
    Comments and key/value pairs may be long: it copies these as they are.
    """
    with path.open("rb") as file:
        while (line := file.readline(_LONGEST_LINE)).strip(b"\r\n"):
            free = line.startswith(b"#") or b":=" in line
            if len(line) > _LONGEST_FIELD and not free:
                raise VolumeError(
                    f"{str(path)!r} has a damaged NRRD header: a line of it begins with "
                    f"{line[:40].decode('latin-1')!r} and is longer than any field"
                )


def _bytes_at_most(path: Path, fields: dict[str, str], header_length: int) -> int:
    """Bytes of voxels that the file, or the file that its header names, can hold."""
    name = fields.get("data file") or fields.get("datafile")
    if name is None:
        size = path.stat().st_size - header_length
    elif (path.parent / name).is_file():
        size = (path.parent / name).stat().st_size
    else:
        return UNBOUNDED  # a list or a pattern of files: ITK knows what it means
    encoding = fields.get("encoding", "raw").lower()
    if encoding in ("bzip2", "bz2"):
        return UNBOUNDED
    if encoding in ("gzip", "gz"):
        return size * DEFLATE_RATIO
    return size if encoding == "raw" else size * 8  # text: a digit and a blank for a float64

"""MetaImage (.mha, .mhd): read here, since ITK's reader corrupts memory on damaged headers.

Format: itk.org/Wiki/MetaIO/Documentation. Axes point along the rows of TransformMatrix, in ITK's
world; vectors or a fourth axis become the channels. Writing goes through SimpleITK.
"""

import contextlib
import io
import zlib
from collections.abc import Generator
from math import prod
from pathlib import Path

import numpy as np

from respondcam.errors import VolumeError
from respondcam.volume._stream import DEFLATE_RATIO, check_size, open_stream, read_voxels
from respondcam.volume.beside import file_beside
from respondcam.volume.geometry import LPS_TO_RAS, scaled
from respondcam.volume.itk import numbers, text_header, unit_of
from respondcam.volume.itk import write as write
from respondcam.volume.volume import Volume

# MET_LONG has four bytes in MetaIO, on every machine
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_AUTODETECT = 32 + zlib.MAX_WBITS  # zlib or gzip, as MetaIO takes either


def read(path: Path) -> Volume:
    """Read a MetaImage file, or a header with the file of voxels that it names.

    Raises
    ------
    VolumeError
        If the file is damaged or holds no volume of real numbers.
    """
    fields, header_length = text_header(path)
    if "elementdatafile" not in fields or "dimsize" not in fields:
        raise VolumeError(f"{str(path)!r} cannot be read: it has no MetaImage header")
    shape, channels = _array_shape(fields, path), _whole(fields, "elementnumberofchannels", path)
    dtype = _voxel_type(fields, path)
    voxel_path, offset = _voxels_at(path, fields, header_length, prod(shape) * dtype.itemsize)
    packed = _flag(fields, path, "compresseddata")
    available = max(voxel_path.stat().st_size - offset, 0) * (DEFLATE_RATIO if packed else 1)
    check_size(path, shape, dtype.itemsize, available)
    with _open_voxels(voxel_path, offset, packed=packed) as stream:
        voxels = read_voxels(stream, shape, dtype, path)
    unit, factor = unit_of(fields, path)
    affine = scaled(LPS_TO_RAS @ _lps_affine(fields, path), factor)
    voxels = np.moveaxis(voxels, -1, 0) if channels > 1 else voxels[..., 0]
    return Volume(voxels, affine, unit, path, {"format": "itk", "per_mm": factor})


def _array_shape(fields: dict[str, str], path: Path) -> tuple[int, ...]:
    """Shape (z, y, x, channel) or (t, z, y, x, 1) of the numbers in the file's order."""
    channels = _whole(fields, "elementnumberofchannels", path)
    rank = _whole(fields, "ndims", path)
    size = _whole_numbers(fields, "dimsize", rank, path)
    if rank not in (3, 4) or (rank == 4 and channels != 1):
        raise VolumeError(
            f"{str(path)!r} has {rank} axes of lengths {size} (x, y, z, ...) and {channels} "
            f"numbers per voxel; accepted are three axes, with vectors or one further axis as "
            f"channels"
        )
    return (*reversed(size), channels)


def _whole(fields: dict[str, str], key: str, path: Path) -> int:
    return _whole_numbers({key: "1", **fields}, key, 1, path)[0]


def _whole_numbers(fields: dict[str, str], key: str, count: int, path: Path) -> list[int]:
    values = numbers(fields, key, count, path)
    if any(value != int(value) for value in values):
        raise VolumeError(
            f"{str(path)!r} has a damaged header: {key} is {fields[key]!r}, accepted are whole "
            f"numbers"
        )
    return [int(value) for value in values]


def _voxel_type(fields: dict[str, str], path: Path) -> np.dtype:
    name = fields.get("elementtype", "missing").upper().removesuffix("_ARRAY")
    if name not in _TYPES or not _flag(fields, path, "binarydata", unless_told=True):
        raise VolumeError(
            f"{str(path)!r} holds voxels of type {name}, binary: {fields.get('binarydata')}; "
            f"accepted are binary numbers of the types {', '.join(_TYPES)}"
        )
    big_endian = _flag(fields, path, "binarydatabyteordermsb", "elementbyteordermsb")
    return np.dtype((">" if big_endian else "<") + _TYPES[name])


def _flag(fields: dict[str, str], path: Path, *names: str, unless_told: bool = False) -> bool:
    """A truth value, by the first of its names that is there. MetaIO looks at its first letter.

    What MetaIO would take for false because it is neither, such as Yes, is refused.
    """
    for name in names:
        if text := fields.get(name):
            if text[0] not in "Tt1Ff0":
                raise VolumeError(
                    f"{str(path)!r} has a damaged header: {name} is {text!r}, accepted are True "
                    f"and False"
                )
            return text[0] in "Tt1"
    return unless_told


def _voxels_at(
    path: Path, fields: dict[str, str], header_length: int, length: int
) -> tuple[Path, int]:
    """File that holds the voxels, and the byte at which they begin."""
    name = fields["elementdatafile"]
    local = name.upper() == "LOCAL"
    beside = path if local else file_beside(path, name)
    skip = int(numbers({"headersize": "0", **fields}, "headersize", 1, path)[0])
    first = header_length if local else 0
    if skip < 0:  # the voxels are the end of their file, whatever comes before them
        skip = max(beside.stat().st_size - length, first)
    if 0 < skip < first:
        raise VolumeError(
            f"{str(path)!r} has a damaged header: HeaderSize is {skip}, so its voxels would begin "
            f"within its header, which is {first} bytes long"
        )
    return beside, skip or first


@contextlib.contextmanager
def _open_voxels(
    path: Path, offset: int, *, packed: bool
) -> Generator[io.BufferedIOBase, None, None]:
    with open_stream(path, unpack=False) as stream:
        stream.seek(offset)
        yield io.BufferedReader(_Inflated(stream)) if packed else stream


class _Inflated(io.RawIOBase):
    """Unpacked bytes of a zlib stream, a little at a time."""

    def __init__(self, packed: io.BufferedIOBase) -> None:
        self._packed = packed
        self._inflate = zlib.decompressobj(_AUTODETECT)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        unpacked = b""
        while not unpacked and not self._inflate.eof:
            more = self._inflate.unconsumed_tail or self._packed.read(1 << 16)
            if not more:
                break
            unpacked = self._inflate.decompress(more, len(buffer))
        buffer[: len(unpacked)] = unpacked
        return len(unpacked)


def _lps_affine(fields: dict[str, str], path: Path) -> np.ndarray:
    """Affine in ITK's world, by whichever of its names each field has."""
    rank = _whole(fields, "ndims", path)

    def field(count: int, default: np.ndarray, *names: str) -> np.ndarray:
        present = [name for name in names if name in fields]
        return np.array(numbers(fields, present[0], count, path)) if present else default

    spacing = field(rank, np.ones(rank), "elementspacing", "elementsize")
    origin = field(rank, np.zeros(rank), "offset", "position", "origin")
    axes = field(rank**2, np.eye(rank), "transformmatrix", "rotation", "orientation")
    affine = np.eye(4)
    affine[:3, :3] = axes.reshape(rank, rank)[:3, :3].T * spacing[:3]
    affine[:3, 3] = origin[:3]
    return affine

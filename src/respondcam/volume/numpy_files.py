"""NumPy arrays (.npy) and archives of them (.npz); never anything that is pickled.

An archive that we write holds ``voxels``, ``affine`` and ``unit``. Arrays from elsewhere have no
place in the world: unit "voxel", voxel 0 at the origin.
"""

import contextlib
import tokenize
import zipfile
import zlib
from collections.abc import Generator
from io import BufferedIOBase
from math import prod
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from respondcam.errors import VolumeError
from respondcam.volume._stream import (
    DEFLATE_RATIO,
    LZMA_RATIO,
    check_size,
    open_stream,
    read_rest,
    read_voxels,
)
from respondcam.volume._wording import IMAGES
from respondcam.volume.lazy import LazyVolume, RawArray, placeholder
from respondcam.volume.volume import Unit, Volume

_OWN_ARRAYS = {"voxels", "affine", "unit"}
# Of bzip2 no useful one is known
_RATIOS = {
    zipfile.ZIP_STORED: 1,
    zipfile.ZIP_DEFLATED: DEFLATE_RATIO,
    zipfile.ZIP_LZMA: LZMA_RATIO,
}
_SMALL = 4096  # bytes; more than an affine or a unit takes


def read(path: Path) -> Volume:
    """Read an array, or the only array or our own arrays of an archive.

    Raises
    ------
    VolumeError
        If the file is damaged, needs unpickling, or holds several arrays that are not our own.
    """
    if path.suffix.lower() == ".npy":
        with open_stream(path) as stream:
            return Volume(_read_array(stream, path, path.stat().st_size), source=path)
    with _open_archive(path) as archive:
        return _read_archive(archive, path)


def lay_open(path: Path) -> LazyVolume:
    """Open an array alone (.npy) without reading it.

    Raises
    ------
    VolumeError
        As for `read`.
    """
    with open_stream(path) as stream:
        shape, fortran_order, dtype = _array_layout(stream, path)
        offset = stream.tell()
    if dtype.kind not in "fiub":
        raise VolumeError(f"{str(path)!r} holds voxels of type {dtype}; accepted are real numbers")
    check_size(path, shape, dtype.itemsize, in_memory=False)
    axes = tuple(range(len(shape)))
    order = axes[::-1] if fortran_order else axes
    stored = RawArray(path, offset, tuple(shape[axis] for axis in order), dtype)
    return LazyVolume(placeholder(shape, np.eye(4), "voxel", path), stored, order)


def write(path: Path, volume: Volume, suffix: str) -> None:
    """Write an archive, or an array alone if that loses nothing.

    Raises
    ------
    VolumeError
        If an array alone would lose the place in the world.
    """
    if suffix == ".npz":
        np.savez(path, voxels=volume.voxels, affine=volume.affine, unit=np.array(volume.unit))
        return
    if volume.unit != "voxel" or not np.array_equal(volume.affine, np.eye(4)):
        raise VolumeError(
            ".npy holds voxels alone and would lose the volume's place in the world. Write it to "
            ".npz, or save volume.voxels with numpy.save"
        )
    np.save(path, volume.voxels)


_LONGEST_HEADER = 1 << 20  # bytes
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,  # in the name of an entry
    tokenize.TokenError,  # out of an attempt at Python 2's headers
)


@contextlib.contextmanager
def _open_archive(path: Path) -> Generator[zipfile.ZipFile, None, None]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise VolumeError(f"{str(path)!r} is no .npz archive, or damaged: {error}") from error


def _read_archive(archive: zipfile.ZipFile, path: Path) -> Volume:
    names = {name.removesuffix(".npy"): name for name in archive.namelist()}
    if names.keys() >= _OWN_ARRAYS:
        affine = _read_small(archive, names["affine"], path)
        unit: Any = _text(_read_small(archive, names["unit"], path))
        if affine.shape != (4, 4) or affine.dtype.kind not in "iuf" or unit not in get_args(Unit):
            raise VolumeError(
                f"{str(path)!r} has a damaged place: affine of shape {affine.shape}, unit {unit!r}"
            )
        return Volume(_read_member(archive, names["voxels"], path), affine, unit, path)
    if len(names) != 1:
        raise VolumeError(
            f"{str(path)!r} holds {len(names)} arrays: {', '.join(sorted(names)[:12])}. Save "
            f"an archive with one array, or one written by respondcam.write_volume"
        )
    return Volume(_read_member(archive, next(iter(names.values())), path), source=path)


def _text(array: np.ndarray) -> str:
    try:
        return str(array)
    except (SystemError, ValueError):  # numbers that are no characters
        return "unreadable"


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    packed = archive.getinfo(name)
    available = packed.file_size  # zipfile gives no more; the packing may hold less
    if packed.compress_type in _RATIOS:
        available = min(available, packed.compress_size * _RATIOS[packed.compress_type])
    with archive.open(name) as stream:
        return _read_array(cast(BufferedIOBase, stream), path, available)


def _read_small(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    if archive.getinfo(name).file_size > _SMALL:
        raise VolumeError(f"{str(path)!r} has an array {name!r} that is too large for its purpose")
    try:
        with archive.open(name) as stream:
            shape, _, dtype = _read_header(cast(BufferedIOBase, stream))
        if prod(shape) * dtype.itemsize > _SMALL:
            raise ValueError(f"it declares an array of shape {shape}")
        with archive.open(name) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        raise VolumeError(f"{str(path)!r} has a damaged array {name!r}: {error}") from error


def _read_array(stream: BufferedIOBase, path: Path, available: int) -> np.ndarray:
    """Read one array in .npy format of which at most `available` bytes are there."""
    shape, fortran_order, dtype = _array_layout(stream, path)
    check_size(path, shape, dtype.itemsize, available)
    voxels = read_voxels(stream, shape[::-1] if fortran_order else shape, dtype, path)
    read_rest(stream, path)
    return voxels.T if fortran_order else voxels


def _array_layout(stream: BufferedIOBase, path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        shape, fortran_order, dtype = _read_header(stream)
    except ValueError as error:
        raise VolumeError(f"{str(path)!r} holds no NumPy array, or damaged: {error}") from error
    if dtype.hasobject:
        raise VolumeError(
            f"{str(path)!r} holds Python objects, which can run code when they are unpickled, and "
            f"is not read. Save an array of numbers"
        )
    if any(isinstance(n, bool) for n in shape):  # NumPy's reader takes them for integers
        raise VolumeError(f"{str(path)!r} holds no NumPy array, or damaged: its shape is {shape}")
    if len(shape) not in (3, 4):
        image = f". {IMAGES}" if len(shape) == 2 else ""
        raise VolumeError(
            f"{str(path)!r} holds an array of shape {shape}; accepted are (z, y, x) and "
            f"(channel, z, y, x){image}"
        )
    return shape, fortran_order, dtype


def _read_header(stream: BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"it is of version {version}; known are 1.0 to 3.0")
    try:
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        prefix = stream.read(4)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 4 or length > _LONGEST_HEADER:  # NumPy takes the memory before it looks
            raise ValueError(f"its header is cut off, or said to be {length} bytes long")
        stream.seek(-4, 1)
        return np.lib.format.read_array_header_2_0(stream)
    # out of its attempt at Python 2's headers, or keys of several kinds; the last two out of the
    # parser, for signs or brackets without end: the header itself is short
    except (tokenize.TokenError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"its header cannot be parsed: {error}") from error

"""Voxels out of files that may be compressed, truncated, or lie about their size.

Headers are believed only as far as the file can back them: a size that the file cannot hold is an
error before any memory is taken. Voxels are converted to float32 piece by piece, so that reading
needs the memory of the result and hardly more.
"""

import bz2
import gzip
import os
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np

from respondcam.errors import VolumeError

_PIECE = 1 << 18  # voxels converted at a time

# The format of DEFLATE allows no more than this many bytes out for one byte in.
DEFLATE_RATIO = 1032

# Nor LZMA: a match of 273 bytes is 14 decisions of log2(2048 / 2017) bits at least.
LZMA_RATIO = 7200

# Bytes that a file can yield when nothing is known: only the machine's memory is the limit then.
UNBOUNDED = 1 << 62

# Bytes that are read behind the voxels, for the checksum after them; as many as before it, if more
_LONGEST_REST = 1 << 24

_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"


@contextmanager
def open_stream(path: Path, *, unpack: bool = True) -> Generator[BufferedIOBase, None, None]:
    """Open a file for reading, unpacking gzip and bzip2 whatever the suffix says.

    Damage that shows up while the block reads becomes a `VolumeError` that names the file.
    """
    try:
        with _opener(path) if unpack else path.open("rb") as stream:
            yield stream
    except (EOFError, zlib.error) as error:
        raise VolumeError(f"{str(path)!r} is truncated or damaged: {error}") from error
    except OSError as error:
        raise VolumeError(f"Cannot read {str(path)!r}: {error}") from error


def _opener(path: Path) -> BufferedIOBase:
    magic = _magic(path)
    if magic.startswith(_GZIP):
        return gzip.open(path, "rb")
    if magic.startswith(_BZIP2):
        return bz2.open(path, "rb")
    return path.open("rb")


def _magic(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(3)


def read_exactly(stream: BufferedIOBase, count: int, path: Path, what: str) -> bytes:
    """Read `count` bytes, or say that the file ends before them.

    Raises
    ------
    VolumeError
        If the file is shorter.
    """
    data = stream.read(count)
    if len(data) < count:
        raise VolumeError(
            f"{str(path)!r} is truncated: {what} takes {count} bytes, the file ends after "
            f"{len(data)} of them"
        )
    return data


def check_size(
    path: Path,
    shape: tuple[int, ...],
    itemsize: int,
    available: int | None = None,
    *,
    in_memory: bool = True,
) -> None:
    """Refuse a declared size that the file or this machine's memory cannot hold.

    Parameters
    ----------
    path
        The file that declares the size, for the message.
    shape
        Declared number of voxels per axis.
    itemsize
        Bytes per voxel in the file.
    available
        Bytes that the file can yield at most; None means: work it out from its size and packing.
    in_memory
        Whether all of it will be held in memory.

    Raises
    ------
    VolumeError
        Before any memory is taken.
    """
    if min(shape) < 1:
        raise VolumeError(f"{str(path)!r} holds no voxels: its axes have the lengths {shape}")
    declared = prod(shape) * itemsize
    if available is None:
        available = _yield_limit(path)
    if available is not None and declared > available:
        raise VolumeError(
            f"{str(path)!r} is truncated or its header is wrong: the header declares voxels of "
            f"shape {shape}, {declared} bytes, and the file can hold {available} at most"
        )
    memory = _machine_memory() if in_memory else None
    if memory is not None and prod(shape) * 4 > memory:
        raise VolumeError(
            f"{str(path)!r} declares voxels of shape {shape}: {prod(shape) * 4 / 2**30:.1f} GiB as "
            f"float32, and this machine has {memory / 2**30:.1f} GiB. Crop or bin the file"
        )


def _yield_limit(path: Path) -> int | None:
    """Bytes that can come out of a file; None for bzip2, whose packing has no useful bound."""
    size = path.stat().st_size
    magic = _magic(path)
    if magic.startswith(_BZIP2):
        return None
    return size * DEFLATE_RATIO if magic.startswith(_GZIP) else size


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def read_voxels(
    stream: BufferedIOBase,
    shape: tuple[int, ...],
    dtype: np.dtype,
    path: Path,
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> np.ndarray:
    """Read an array in C order from where the stream stands, as float32.

    Parameters
    ----------
    stream
        Stands at the first voxel.
    shape
        Of the array, slowest axis first; `check_size` must have accepted it.
    dtype
        In the file, with its byte order.
    path
        For the message.
    slope, intercept
        The result is ``slope * stored + intercept``, computed in float64.

    Returns
    -------
    numpy.ndarray
        float32 array, not writable.

    Raises
    ------
    VolumeError
        If the stream ends too early.
    """
    if dtype.kind not in "fiub":
        raise VolumeError(
            f"{str(path)!r} holds voxels of type {dtype}; accepted are real numbers. "
            f"Save the magnitude, the real part or single channels instead"
        )
    count = prod(shape)
    out = np.empty(count, np.float32)  # memory is taken only as voxels arrive
    buffer = bytearray(min(_PIECE, count) * dtype.itemsize)
    for start in range(0, count, _PIECE):
        piece = memoryview(buffer)[: min(_PIECE, count - start) * dtype.itemsize]
        got = _fill(stream, piece)
        if got < len(piece):
            raise VolumeError(
                f"{str(path)!r} is truncated: its header declares {count * dtype.itemsize} bytes "
                f"of voxels (shape {shape}, {dtype}), the file ends after "
                f"{start * dtype.itemsize + got} of them"
            )
        values = np.frombuffer(piece, dtype)
        if (slope, intercept) != (1.0, 0.0):
            values = values * np.float64(slope) + intercept
        with np.errstate(over="ignore", invalid="ignore"):
            out[start : start + values.size] = values
    out.setflags(write=False)
    return out.reshape(shape)


def read_rest(stream: BufferedIOBase, path: Path) -> bool:
    """Read what is packed behind the voxels, and say whether there is anything.

    Checksums of gzip, bzip2 and zip stand at the end, and are compared only when it is reached.
    What is not packed has none, and is not read on.

    Raises
    ------
    VolumeError
        If more follows than belongs to any format; damage as `open_stream` words it.
    """
    more = stream.read(1)
    if not isinstance(stream, gzip.GzipFile | bz2.BZ2File | zipfile.ZipExtFile):
        return bool(more)
    longest = max(_LONGEST_REST, stream.tell())
    passed = len(more)
    while piece := stream.read(_PIECE):
        passed += len(piece)
        if passed > longest:
            raise VolumeError(
                f"{str(path)!r} is damaged: it goes on for more than {longest >> 20} MiB "
                f"behind the voxels that its header declares"
            )
    return passed > 0


def _fill(stream: BufferedIOBase, buffer: memoryview) -> int:
    """Read until the buffer is full or the stream ends; give the number of bytes."""
    filled = 0
    while filled < len(buffer):
        # unpacking gives fewer bytes than asked for at times
        got = stream.readinto(buffer[filled:])
        if not got:
            break
        filled += got
    return filled

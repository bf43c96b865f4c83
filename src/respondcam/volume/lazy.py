"""Volumes that stay on disk: their place in the world at once, their voxels region by region.

A region is read with positioned reads, not through a memory map: when a file is truncated while it
is open, a read gives a worded error where a memory map would kill the process. What cannot be
addressed in place (gzip, bzip2, compressed TIFF and formats of other kinds) is unpacked once into a
scratch file.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from respondcam._files import read_json, whole_file
from respondcam.errors import VolumeError
from respondcam.volume._stream import open_stream, read_rest
from respondcam.volume.volume import Unit, Volume

_PIECE = 1 << 24  # bytes unpacked at a time
_WASTE = 4  # a whole row is read where it is at most so many times longer than what is asked for
_IN_PLACE = {
    **dict.fromkeys((".mrc", ".map", ".rec", ".ccp4"), "mrc"),
    ".nii": "nifti",
    ".npy": "numpy_files",
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
}


@runtime_checkable
class Stored(Protocol):
    """An array on disk of which boxes can be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array as it is stored."""
        ...

    def read(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """One box, as float32."""
        ...

    def files(self, start: Sequence[int], stop: Sequence[int]) -> list[Path]:
        """Which files hold a box; one that is not there is a chunk of the fill value."""
        ...


@dataclass(frozen=True)
class RawArray:
    """Numbers in C order in a file.

    Parameters
    ----------
    path, offset
        Where the first number is.
    shape, dtype
        Of the array, with its byte order.
    slope, intercept
        A voxel is ``slope * stored + intercept``, computed in float64.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "numbers")
    >>> np.arange(24, dtype=np.int16).tofile(path)
    >>> RawArray(path, 0, (2, 3, 4), np.dtype(np.int16)).read((1, 0, 2), (2, 2, 4)).tolist()
    [[[14.0, 15.0], [18.0, 19.0]]]
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    slope: float = 1.0
    intercept: float = 0.0

    def read(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """One box, as float32.

        Raises
        ------
        VolumeError
            If the file ends before it, or cannot be read.
        """
        counts = [b - a for a, b in zip(start, stop, strict=True)]
        out = np.empty(counts, np.float32)
        try:
            with self.path.open("rb", buffering=0) as file:
                for lead in product(*(range(count) for count in counts[:-2])):
                    where = [a + k for a, k in zip(start[:-2], lead, strict=True)]
                    out[lead] = self._plane(file.fileno(), where, start, stop)
        except OSError as error:
            raise VolumeError(f"Cannot read {str(self.path)!r}: {error}") from error
        return out

    def files(self, start: Sequence[int], stop: Sequence[int]) -> list[Path]:
        """The file."""
        return [self.path]

    def _plane(
        self, file: int, where: Sequence[int], start: Sequence[int], stop: Sequence[int]
    ) -> np.ndarray:
        """A rectangle of the last two axes: whole rows in one read, or parts of rows one by one."""
        rows, columns = self.shape[-2:]
        first = int(np.ravel_multi_index(where, self.shape[:-2])) * rows * columns if where else 0
        (y0, x0), (y1, x1) = start[-2:], stop[-2:]
        if columns <= _WASTE * (x1 - x0):
            found = self._numbers(file, first + y0 * columns, (y1 - y0) * columns)
            return found.reshape(y1 - y0, columns)[:, x0:x1]
        return np.stack(
            [self._numbers(file, first + y * columns + x0, x1 - x0) for y in range(y0, y1)]
        )

    def _numbers(self, file: int, first: int, count: int) -> np.ndarray:
        wanted = count * self.dtype.itemsize
        data = os.pread(file, wanted, self.offset + first * self.dtype.itemsize)
        if len(data) < wanted:
            raise VolumeError(
                f"{str(self.path)!r} is truncated: its header declares {prod(self.shape)} voxels, "
                f"and the file ends before all of them"
            )
        values = np.frombuffer(data, self.dtype)
        if (self.slope, self.intercept) != (1.0, 0.0):
            values = values * np.float64(self.slope) + self.intercept
        return values


@dataclass(frozen=True, eq=False)
class LazyVolume:
    """A volume on disk.

    Parameters
    ----------
    space
        Shape, affine, unit, source and header; its voxels are zeros that take no memory.
    stored
        The array on disk.
    order
        Stored axes in the order z, y, x or channel, z, y, x.
    """

    space: Volume
    stored: Stored
    order: tuple[int, ...]

    def read(self, start: Sequence[int], stop: Sequence[int]) -> Float[np.ndarray, "channel z y x"]:
        """Read the voxels from `start` to `stop` (z, y, x), all channels.

        Raises
        ------
        VolumeError
            If they cannot be read.
        """
        found = self.stored.read(*self._box(start, stop))
        found = found.transpose(self.order)
        return np.ascontiguousarray(found if len(self.order) > 3 else found[None])

    def files(self, start: Sequence[int], stop: Sequence[int]) -> list[Path]:
        """Which files hold the voxels from `start` to `stop` (z, y, x)."""
        return self.stored.files(*self._box(start, stop))

    def _box(self, start: Sequence[int], stop: Sequence[int]) -> tuple[list[int], list[int]]:
        """Corners of a box in the order of what is stored."""
        channels = () if len(self.order) == 3 else (self.space.channels,)
        box = [(0, n) for n in channels] + list(zip(start, stop, strict=True))
        stored: list[tuple[int, int]] = [(0, 0)] * len(box)
        for axis, span in zip(self.order, box, strict=True):
            stored[axis] = span
        return [a for a, _ in stored], [b for _, b in stored]


def placeholder(
    shape: Sequence[int],
    affine: Any,
    unit: Unit,
    source: Path | None = None,
    header: dict[str, Any] | None = None,
) -> Volume:
    """A volume of zeros that takes no memory: the place in the world of voxels kept elsewhere.

    Examples
    --------
    >>> placeholder((4096, 4096, 4096), np.eye(4), "voxel")
    Volume(z, y, x = 4096, 4096, 4096; voxel 1 x 1 x 1)
    """
    zero = np.zeros((1,) * len(shape), np.float32)
    zero.setflags(write=False)
    return Volume(np.broadcast_to(zero, tuple(shape)), affine, unit, source, header)


def open_volume(path: str | os.PathLike[str], scratch: str | os.PathLike[str]) -> LazyVolume:
    """Open a volume without reading its voxels.

    MRC, NIfTI, NumPy and TIFF without compression are read in place, OME-Zarr chunk by chunk.
    Packed files are unpacked once into the folder `scratch`, without holding them in memory.
    Volumes of all other kinds that `read_volume` knows are read whole for that.

    Raises
    ------
    VolumeError
        If there is no such volume, or it is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from respondcam.volume import write_volume
    >>> folder = tempfile.mkdtemp()
    >>> write_volume(f"{folder}/a.mrc", Volume(np.arange(60).reshape(3, 4, 5)))
    >>> open_volume(f"{folder}/a.mrc", folder).read((2, 3, 0), (3, 4, 5)).ravel().tolist()
    [55.0, 56.0, 57.0, 58.0, 59.0]
    """
    from respondcam.volume.io import check_readable, module_of

    source = Path(path)
    check_readable(source)
    try:
        if source.is_dir() and module_of(source).__name__.endswith("ome_zarr"):
            return module_of(source).lay_open(source)
        return _in_place(source) or _unpacked(source, Path(scratch))
    except VolumeError as error:
        if str(source) in str(error):
            raise
        raise VolumeError(f"{str(source)!r}: {error}") from error
    except MemoryError as error:
        raise VolumeError(f"{str(source)!r} does not fit into this machine's memory") from error
    except OSError as error:
        raise VolumeError(f"Cannot read {str(source)!r}: {error}") from error


def _in_place(source: Path) -> LazyVolume | None:
    """A file whose numbers can be addressed as they are; None where they cannot."""
    from respondcam.volume.io import module_of

    if source.is_dir() or module_of(source).__name__.rpartition(".")[2] not in _IN_PLACE.values():
        return None
    if source.suffix.lower() not in _IN_PLACE or _packed(source):
        return None
    return module_of(source).lay_open(source)  # None for TIFF that is compressed


def _packed(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(3)[:2] in (b"\x1f\x8b", b"BZ")


def _unpacked(source: Path, scratch: Path) -> LazyVolume:
    """The same volume from a scratch file, which is made unless it is there."""
    from respondcam.volume.io import module_of

    inner = Path(source.name).with_suffix("") if source.suffix in (".gz", ".bz2") else source
    suffix = inner.suffix.lower()
    if _IN_PLACE.get(suffix) in ("mrc", "nifti") and _packed(source):
        opened = module_of(source).lay_open(source)
        copy = scratch / f"unpacked{suffix}"
        if not copy.exists():
            _unpack(source, copy, opened.stored)
        return replace(opened, stored=replace(opened.stored, path=copy))
    return _rewritten(source, scratch)


def _unpack(source: Path, copy: Path, stored: RawArray) -> None:
    """Unpack what the header declares and no more: a few bytes of packing can fill any disk."""
    left = stored.offset + prod(stored.shape) * stored.dtype.itemsize
    with open_stream(source) as stream, whole_file(copy) as beside, beside.open("wb") as out:
        while left and (piece := stream.read(min(_PIECE, left))):
            left -= out.write(piece)
        if left:
            raise VolumeError(
                f"{str(source)!r} is truncated: of the {prod(stored.shape)} voxels that its header "
                f"declares, {left} bytes are missing"
            )
        read_rest(stream, source)


def _rewritten(source: Path, scratch: Path) -> LazyVolume:
    """A volume that cannot be addressed in place: its numbers, and its place, in scratch files."""
    from respondcam.volume.io import module_of
    from respondcam.volume.numpy_files import lay_open

    numbers, place = scratch / "unpacked.npy", scratch / "unpacked.json"
    if not (numbers.exists() and place.exists()):
        unpack = getattr(module_of(source), "unpack", _unpack_whole)
        with whole_file(numbers) as beside:
            space = unpack(source, beside)
        facts = [list(space.voxels.shape), space.affine.tolist(), space.unit]
        with whole_file(place) as beside:
            beside.write_text(json.dumps(facts), encoding="utf-8")
    shape, affine, unit = read_json(place)
    space = placeholder(shape, np.array(affine), unit, source)
    return LazyVolume(space, lay_open(numbers).stored, tuple(range(len(shape))))


def _unpack_whole(source: Path, target: Path) -> Volume:
    """Read a volume of a kind that cannot be read in parts, once."""
    from respondcam.volume.io import read_volume

    volume = read_volume(source, nonfinite="keep")
    np.save(target, volume.voxels)
    return volume

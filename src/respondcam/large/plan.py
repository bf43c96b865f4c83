"""Where the windows, tiles and chunks of a volume are: pure arithmetic on whole numbers.

Windows stand on one grid for the whole volume: every `stride` voxels from voxel 0, and a last one
flush with the end of each axis. A *tile* is a block of neighbouring windows that are explained in
one go, from one region of the input. A *chunk* is a box of the output. Windows that reach into
several chunks are explained once, in their tile, not once for each chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from respondcam.errors import InputError

Index = tuple[int, int, int]
Span = tuple[int, int]
"""First and last + 1."""


@dataclass(frozen=True)
class Plan:
    """How one volume is cut; all tuples are z, y, x.

    Parameters
    ----------
    shape
        Voxels of the volume.
    window, stride
        Voxels of a window, and from one window to the next.
    block
        Windows of a tile.
    chunk
        Voxels of a chunk of the output.

    Examples
    --------
    >>> plan = Plan((10, 8, 8), (4, 4, 4), (4, 2, 2), (2, 2, 2), (8, 8, 8))
    >>> plan.starts[0], plan.windows, plan.tiles, plan.chunks
    ((0, 4, 6), (3, 3, 3), (2, 2, 2), (2, 1, 1))
    >>> plan.tile_region((1, 0, 0))
    ((6, 10), (0, 6), (0, 6))
    >>> list(plan.tiles_of_chunk((1, 0, 0)))[-1]
    (1, 1, 1)
    """

    shape: Index
    window: Index
    stride: Index
    block: Index
    chunk: Index

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First voxel of each window, along each axis."""
        return tuple(
            window_starts(*axis) for axis in zip(self.shape, self.window, self.stride, strict=True)
        )

    @property
    def windows(self) -> Index:
        """Windows along each axis."""
        z, y, x = (len(starts) for starts in self.starts)
        return z, y, x

    @property
    def tiles(self) -> Index:
        """Tiles along each axis."""
        return _counts(self.windows, self.block)

    @property
    def chunks(self) -> Index:
        """Chunks of the output along each axis."""
        return _counts(self.shape, self.chunk)

    @property
    def window_count(self) -> int:
        """All windows."""
        return prod(self.windows)

    def tile_windows(self, tile: Index) -> tuple[Span, Span, Span]:
        """Which windows a tile holds, along each axis."""
        return _box(tile, self.block, self.windows)

    def tile_region(self, tile: Index) -> tuple[Span, Span, Span]:
        """The voxels of the input that a tile needs."""
        z, y, x = (
            (starts[first], starts[last - 1] + size)
            for starts, (first, last), size in zip(
                self.starts, self.tile_windows(tile), self.window, strict=True
            )
        )
        return z, y, x

    def chunk_region(self, chunk: Index) -> tuple[Span, Span, Span]:
        """The voxels of a chunk."""
        return _box(chunk, self.chunk, self.shape)

    def chunk_windows(self, chunk: Index) -> tuple[Span, Span, Span]:
        """Which windows reach into a chunk, along each axis."""
        z, y, x = (
            _touching(starts, size, span)
            for starts, size, span in zip(
                self.starts, self.window, self.chunk_region(chunk), strict=True
            )
        )
        return z, y, x

    def tiles_of_chunk(self, chunk: Index) -> Iterator[Index]:
        """The tiles with windows that reach into a chunk."""
        spans = zip(self.chunk_windows(chunk), self.block, strict=True)
        axes = [range(first // size, (last - 1) // size + 1) for (first, last), size in spans]
        yield from product(*axes)  # type: ignore[misc]


def window_starts(size: int, window: int, stride: int) -> tuple[int, ...]:
    """First voxels of the windows along one axis; the last one is flush with the end.

    Examples
    --------
    >>> window_starts(10, 4, 3), window_starts(9, 4, 3), window_starts(4, 4, 1)
    ((0, 3, 6), (0, 3, 5), (0,))
    """
    starts = list(range(0, size - window + 1, stride))
    if starts[-1] + window < size:
        starts.append(size - window)
    return tuple(starts)


def stride_of(window: Sequence[int], overlap: float) -> Index:
    """Voxels from one window to the next.

    Raises
    ------
    InputError
        If the overlap is no share below 1.

    Examples
    --------
    >>> stride_of((40, 40, 20), 0.5), stride_of((3, 3, 3), 0.9)
    ((20, 20, 10), (1, 1, 1))
    """
    if not 0 <= overlap < 1:
        raise InputError(
            f"--overlap is {overlap:g}. Accepted: a share from 0 (windows side by side) to below "
            f"1, such as 0.5."
        )
    z, y, x = (max(1, round(size * (1 - overlap))) for size in window)
    return z, y, x


def check_window(shape: Sequence[int], window: Sequence[int], what: str) -> None:
    """Refuse a window that does not fit into its volume.

    Raises
    ------
    InputError
        With the largest window that fits.
    """
    if min(window) < 1:
        raise InputError(f"--window is {_words(window)}. Accepted: at least 1 voxel per axis.")
    if any(w > n for w, n in zip(window, shape, strict=True)):
        raise InputError(
            f"--window {_words(window)} is larger than {what}, which has {_words(shape)} voxels "
            f"(z, y, x). Give a window of at most that, or leave --window out to explain it whole; "
            f"for a network that takes no smaller images, pad or resample the volume."
        )


def blocks_for(
    windows: Index,
    window: Index,
    stride: Index,
    *,
    bytes_per_voxel: int,
    bytes_per_window: int,
    limit: int = 64 << 20,
) -> Index:
    """Windows of a tile: up to 4 along each axis, cut evenly, within a limit of memory.

    Parameters
    ----------
    windows
        Along each axis, in the volume.
    window, stride
        In voxels.
    bytes_per_voxel, bytes_per_window
        Of the input region, and of the maps, of a tile.
    limit
        Of either, in bytes.

    Examples
    --------
    >>> size = {"bytes_per_voxel": 4, "bytes_per_window": 4000}
    >>> blocks_for((9, 2, 1), (40, 40, 40), (20, 20, 20), **size)
    (3, 2, 1)
    """
    block = (1, 1, 1)
    for edge in (4, 3, 2):
        trial = tuple(min(edge, n) for n in windows)
        region = prod((b - 1) * s + w for b, s, w in zip(trial, stride, window, strict=True))
        if max(region * bytes_per_voxel, prod(trial) * bytes_per_window) <= limit:
            block = trial
            break
    even = [-(-n // -(-n // b)) for n, b in zip(windows, block, strict=True)]
    return even[0], even[1], even[2]


def _touching(starts: Sequence[int], size: int, span: Span) -> Span:
    hits = [k for k, start in enumerate(starts) if start < span[1] and start + size > span[0]]
    return hits[0], hits[-1] + 1


def _counts(whole: Sequence[int], part: Sequence[int]) -> Index:
    z, y, x = (-(-n // p) for n, p in zip(whole, part, strict=True))
    return z, y, x


def _box(index: Index, part: Index, whole: Index) -> tuple[Span, Span, Span]:
    z, y, x = (
        (k * size, min((k + 1) * size, n)) for k, size, n in zip(index, part, whole, strict=True)
    )
    return z, y, x


def _words(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

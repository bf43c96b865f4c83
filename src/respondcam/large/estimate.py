"""What a run will take, measured on a few windows of its own volume."""

import resource
import sys
import time
from dataclasses import dataclass
from itertools import product
from math import prod
from statistics import median
from typing import Any

from respondcam.large.engine import Engine
from respondcam.large.job import Job
from respondcam.large.progress import clock
from respondcam.large.tasks import read_region
from respondcam.volume.lazy import LazyVolume

_HELD = 6  # regions and maps of tiles that are in memory at a time, see `respondcam.large.local`


@dataclass(frozen=True)
class Estimate:
    """The size of a run.

    Parameters
    ----------
    windows, tiles, chunks
        How many.
    targets
        Maps for each window.
    windows_per_second
        Of one process, measured.
    seconds
        For all windows in one process.
    memory_bytes
        Of one process at most.
    output_bytes, tiles_bytes
        On disk, not compressed; tiles come and go, and are all gone in the end.
    """

    windows: int
    tiles: int
    chunks: int
    targets: int
    windows_per_second: float
    seconds: float
    memory_bytes: int
    output_bytes: int
    tiles_bytes: int

    def line(self, name: str) -> str:
        """In words."""
        on_the_way = (
            f", and while it runs up to {_size(self.tiles_bytes)} of disk for maps of windows that "
            f"wait to be stitched"
            if self.tiles_bytes >= 2**20
            else ""
        )
        return (
            f"{name}: {_count(self.windows, 'window')} in {_count(self.tiles, 'tile')}, "
            f"{_count(self.chunks, 'chunk')}, {_count(self.targets, 'target')}; "
            f"{self.windows_per_second:.1f} windows/s in one process, {clock(self.seconds)} in "
            f"all; memory {_size(self.memory_bytes)}, output {_size(self.output_bytes)}{on_the_way}"
        )


def estimate(job: Job, engine: Engine, volume: LazyVolume) -> Estimate:
    """Time a few batches of the first tile, and add up what will be held."""
    plan = job.plan
    tile = (0, 0, 0)
    region = read_region(job, volume, tile)
    origin = [start for start, _ in plan.tile_region(tile)]
    axes = [
        [plan.starts[axis][k] - origin[axis] for k in range(*span)]
        for axis, span in enumerate(plan.tile_windows(tile))
    ]
    corners: list[Any] = list(product(*axes))
    rates = []
    for windows in list(engine.batches(region, corners[: 4 * job.settings.batch])):
        began = time.perf_counter()
        engine.explain(windows)
        rates.append(len(windows) / (time.perf_counter() - began))
    rate = median(rates[1:] or rates)
    targets = len(job.labels)
    maps = 4 * targets * prod(job.grid.shape)
    per_tile = region.nbytes + maps * prod(plan.block)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if _is_mac() else 1024)
    return Estimate(
        windows=plan.window_count,
        tiles=prod(plan.tiles),
        chunks=prod(plan.chunks),
        targets=targets,
        windows_per_second=rate,
        seconds=plan.window_count / rate,
        memory_bytes=peak + _HELD * per_tile + _stitching_bytes(job),
        output_bytes=int(4 * targets * prod(plan.shape) * 8 / 7),
        tiles_bytes=maps * plan.window_count,
    )


def _stitching_bytes(job: Job) -> int:
    """Of the chunk in the middle: a row of windows' maps twice, and the box, in float64."""
    plan = job.plan
    z, y, x = (n // 2 for n in plan.chunks)
    counts = [last - first for first, last in plan.chunk_windows((z, y, x))]
    maps = 4 * prod(counts) * prod(job.grid.shape)
    row = 3 * 8 * counts[1] * counts[2] * prod(job.grid.shape)
    return maps + row + 3 * 8 * prod(plan.chunk)


def _is_mac() -> bool:
    return sys.platform == "darwin"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"

"""What has to be done, in order, and how each piece of it is done.

Three kinds of tasks, each a pure function whose result is written once:

- a *tile*: region of the input -> raw maps of its windows (the network's work);
- a *chunk* of the output: tiles that reach into it -> stitched maps (three matrix products);
- a chunk of a coarser *level*: up to eight chunks of the level before -> their means.

A chunk is thus a pure function of (input region with halo, network, target, settings). Tiles stand
between, since chunks that each explained all windows that reach into them would explain windows at
their borders again and again: with windows of 40 voxels that overlap by half, chunks of 160 voxels
would take 1.4 times the work, and chunks of 80 twice.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from respondcam.large.engine import Engine, explain_tile, finite_region
from respondcam.large.inputs import check_unchanged
from respondcam.large.job import Done, Job, Task
from respondcam.large.plan import Index
from respondcam.large.stitching import axis_matrix, stitched, window_matrices
from respondcam.large.store import Store
from respondcam.volume.lazy import LazyVolume
from respondcam.volume.ome_zarr import halved


def schedule(store: Store) -> Iterator[Task]:
    """All tasks whose results are not there yet, each behind those it needs."""
    plan = store.job.plan
    scheduled: dict[Index, Task] = {}
    for chunk in store.level_chunks(0):
        needed = list(plan.tiles_of_chunk(chunk))
        missing = not store.has_chunk(0, chunk)
        for tile in needed:
            wanted = (missing and not store.has_tile(tile)) or not store.has_scores(tile)
            if wanted and tile not in scheduled:
                scheduled[tile] = Task("tile", tile)
                yield scheduled[tile]
        if missing:
            after = tuple(scheduled[tile] for tile in needed if tile in scheduled)
            yield Task("chunk", chunk, after=after)
    for level in range(1, len(store.levels)):
        for chunk in store.level_chunks(level):
            if not store.has_chunk(level, chunk):
                yield Task("level", chunk, level, after=tuple(_below(store, level, chunk)))


def read_region(job: Job, volume: LazyVolume, tile: Index) -> np.ndarray:
    """Voxels of the input that a tile needs.

    Raises
    ------
    VolumeError
        If they cannot be read, or the volume has changed since the run began.
    """
    start, stop = zip(*job.plan.tile_region(tile), strict=True)
    files = volume.files(start, stop)
    check_unchanged(job.source, job.signature, files)
    region = volume.read(start, stop)
    check_unchanged(job.source, job.signature, files)
    return finite_region(region, job.settings, job.source)


def do_tile(store: Store, engine: Engine, volume: LazyVolume, tile: Index) -> Done:
    """Read, explain and write a tile."""
    found = explain_tile(store.job, engine, tile, read_region(store.job, volume, tile))
    store.write_tile(tile, found)
    return found.done()


def do_chunk(store: Store, chunk: Index) -> None:
    """Stitch a chunk together from its tiles."""
    job = store.job
    spans = job.plan.chunk_windows(chunk)
    region = job.plan.chunk_region(chunk)
    matrices = [
        axis_matrix(starts[slice(*span)], size, voxels, placed, job.settings.stitch)
        for starts, span, size, voxels, placed in zip(
            job.plan.starts,
            spans,
            job.plan.window,
            region,
            window_matrices(job.grid, job.settings.stitch),
            strict=True,
        )
    ]
    windows = tuple(slice(*span) for span in spans)
    voxels = tuple(slice(*span) for span in region)
    for target in range(len(job.labels)):
        maps = store.tiles[(*windows, target)]
        store.levels[0][(target, *voxels)] = stitched(maps, matrices).float().numpy()


def do_level(store: Store, level: int, chunk: Index) -> None:
    """Make a chunk of a coarser level from the level before."""
    fine, coarse = store.levels[level - 1], store.levels[level]
    region = store.level_region(level, chunk)
    below = tuple(slice(2 * one.start, 2 * one.stop) for one in region)
    for target in range(len(store.job.labels)):
        coarse[(target, *region)] = halved(fine[(target, *below)])


def perform(store: Store, task: Task) -> Done:
    """Do a task that needs no network."""
    if task.kind == "chunk":
        do_chunk(store, task.index)
    else:
        do_level(store, task.level, task.index)
    return Done()


class TileKeeper:
    """Deletes each tile once every chunk that it reaches into is written.

    Parameters
    ----------
    store
        Of the job.
    """

    def __init__(self, store: Store):
        self.store = store
        self.waiting: dict[Index, int] = {}
        for chunk in store.level_chunks(0):
            if not store.has_chunk(0, chunk):
                for tile in store.job.plan.tiles_of_chunk(chunk):
                    self.waiting[tile] = self.waiting.get(tile, 0) + 1

    def chunk_done(self, chunk: Index) -> None:
        """Count a chunk as written."""
        for tile in self.store.job.plan.tiles_of_chunk(chunk):
            self.waiting[tile] -= 1
            if not self.waiting[tile]:
                self.store.drop_tile(tile)


def _below(store: Store, level: int, chunk: Index) -> Iterator[Task]:
    """The tasks of the chunks that a chunk of a coarser level is made of."""
    fine = store.levels[level - 1]
    axes = []
    for one, size, count in zip(
        store.level_region(level, chunk), fine.chunks[1:], fine.shape[1:], strict=True
    ):
        last = min(2 * one.stop, count) - 1
        axes.append(range(2 * one.start // size, last // size + 1))
    for z, y, x in product(*axes):
        yield Task("chunk" if level == 1 else "level", (z, y, x), level - 1)

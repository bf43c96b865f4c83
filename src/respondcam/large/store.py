"""What is on disk: the image that is the result, and the tiles it is made of.

Every chunk is one file that Zarr writes beside its place and renames, and it carries a checksum: a
file that is there is whole, so what is there is done. The store holds

- ``0``, ``1``, ...: the levels of the image (target, z, y, x), NGFF 0.5;
- ``windows/scores``, ``mapped``, ``baseline``, ``class``: one value for each window and target,
  images of their own whose voxels are windows.

The run's folder holds the array ``tiles`` (window z, y, x, target, *grid): raw maps on the layer's
grid, which for most networks are far smaller than the windows. A tile is deleted when all chunks
that it reaches into are written.
"""

import contextlib
import shutil
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from respondcam._extras import require
from respondcam._files import whole_folder
from respondcam.errors import InputError
from respondcam.large.engine import TileMaps, open_part
from respondcam.large.job import Job
from respondcam.large.plan import Index
from respondcam.volume import Volume
from respondcam.volume.lazy import placeholder
from respondcam.volume.ome_zarr import create_image
from respondcam.volume.zarr_chunks import check_metadata

PER_WINDOW = {"scores": "float64", "mapped": "float64", "baseline": "float64", "class": "int32"}
TILES = "tiles"


class Store:
    """The arrays of one job, opened; see the module's description.

    Parameters
    ----------
    job
        Whose store it is; it must have been made by `create_store`.
    """

    def __init__(self, job: Job):
        self.job = job
        with _opening(job.store) as zarr:
            windows = {name: f"windows/{name}/0" for name in PER_WINDOW}
            check_metadata(job.store, *windows.values())
            group = zarr.open_group(str(job.store), mode="r+")
            count = len(group.attrs["ome"]["multiscales"][0]["datasets"])
            check_metadata(job.store, *map(str, range(count)))
            self.levels: list[Any] = [group[str(level)] for level in range(count)]
            self.per_window: dict[str, Any] = {name: group[at] for name, at in windows.items()}

    @cached_property
    def tiles(self) -> Any:
        """Raw maps of all windows, those that are there."""
        path = self.job.run / TILES
        if not path.exists():
            create_tiles(self.job)
        with _opening(path) as zarr:
            check_metadata(path)
            return zarr.open_array(str(path), mode="r+")

    def has_tile(self, tile: Index) -> bool:
        """Whether a tile's maps are there."""
        return self._tile_file(tile).is_file()

    def has_scores(self, tile: Index) -> bool:
        """Whether the scores of a tile's windows are there."""
        files = (
            self.job.store / f"windows/{name}/0/c/0/{'/'.join(map(str, tile))}"
            for name in PER_WINDOW
        )
        return all(file.is_file() for file in files)

    def has_chunk(self, level: int, chunk: Index) -> bool:
        """Whether a chunk of a level is there, for all targets."""
        return all(file.is_file() for file in self._chunk_files(level, chunk))

    def write_tile(self, tile: Index, found: TileMaps) -> None:
        """Write what is known of a tile's windows; its maps last: they say that it is done."""
        box = tuple(slice(*span) for span in self.job.plan.tile_windows(tile))
        values = (found.scores, found.mapped, found.baselines, found.classes)
        for array, value in zip(self.per_window.values(), values, strict=True):
            array[(slice(None), *box)] = value
        self.tiles[box] = found.maps

    def drop_tile(self, tile: Index) -> None:
        """Delete a tile's maps."""
        self._tile_file(tile).unlink(missing_ok=True)

    def drop_tiles(self) -> None:
        """Delete all of them; renamed first, so that no half of them is taken for the array."""
        aside = self.job.run / ".respondcam-tiles"
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            (self.job.run / TILES).replace(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def level_chunks(self, level: int) -> Iterator[Index]:
        """All chunks of a level, in order."""
        array = self.levels[level]
        spatial = zip(array.shape[1:], array.chunks[1:], strict=True)
        yield from product(*(range(-(-n // c)) for n, c in spatial))  # type: ignore[misc]

    def level_region(self, level: int, chunk: Index) -> tuple[slice, ...]:
        """Voxels (z, y, x) of a chunk of a level."""
        array = self.levels[level]
        return tuple(
            slice(k * c, min((k + 1) * c, n))
            for k, c, n in zip(chunk, array.chunks[1:], array.shape[1:], strict=True)
        )

    def highest(self, target: int) -> tuple[float, Index, int] | None:
        """The highest score of a window, the voxel in the middle of that window, and its class.

        For a store whose windows are all there; None where a chunk of them is damaged. The class is
        -1 where the target is none.
        """
        try:
            scores = np.asarray(self.per_window["scores"][target])
            classes = np.asarray(self.per_window["class"][target])
        except Exception:  # codecs raise what they like
            return None
        if not np.isfinite(scores).any():
            return None
        place = np.unravel_index(int(np.nanargmax(scores)), scores.shape)
        plan = self.job.plan
        z, y, x = (
            starts[int(k)] + size // 2
            for starts, k, size in zip(plan.starts, place, plan.window, strict=True)
        )
        return float(scores[place]), (z, y, x), int(classes[place])

    def relative_gap(self) -> float | None:
        """Mean gap of the accounts of all windows in shares of the mean contribution.

        For a store whose windows are all there; None where no account is known, or a chunk of them
        is damaged, which `damaged` is there to find.
        """
        gap = contributed = 0.0
        step = self.job.plan.block[0]
        for first in range(0, self.job.plan.windows[0], step):
            parts = (
                np.asarray(self.per_window[name][:, first : first + step])
                for name in ("scores", "mapped", "baseline")
            )
            try:
                more = open_part(*parts)
            except Exception:  # codecs raise what they like
                return None
            gap, contributed = gap + more[0], contributed + more[1]
        return gap / contributed if contributed else None

    def damaged(self) -> Iterator[str]:
        """Delete every chunk that cannot be read back, and name it.

        A damaged chunk of the windows' scores takes its tile with it.
        """
        yield from self._sweep("", self.levels)
        yield from self._sweep("windows/", self.per_window.values())
        if (self.job.run / TILES).exists():
            yield from self._sweep("tiles", [self.tiles])

    def _sweep(self, what: str, arrays: Any) -> Iterator[str]:
        for array in arrays:
            folder = Path(str(array.store.root)) / array.path
            for file in sorted(path for path in (folder / "c").rglob("*") if path.is_file()):
                index = tuple(int(part) for part in file.relative_to(folder / "c").parts)
                box = tuple(
                    slice(k * c, min((k + 1) * c, n))
                    for k, c, n in zip(index, array.chunks, array.shape, strict=True)
                )
                try:
                    array[box]
                except Exception:  # codecs raise what they like
                    file.unlink()
                    yield f"{what}{array.path or ''} chunk {'.'.join(map(str, index))}"

    def _tile_file(self, tile: Index) -> Path:
        index = "/".join(map(str, (*tile, 0, 0, 0, 0)))
        return self.job.run / TILES / "c" / index

    def _chunk_files(self, level: int, chunk: Index) -> Iterator[Path]:
        folder = self.job.store / str(level) / "c"
        for target in range(len(self.job.labels)):
            yield folder / "/".join(map(str, (target, *chunk)))


@contextlib.contextmanager
def _opening(path: Path) -> Generator[Any, None, None]:
    """Give Zarr to open what an earlier run has left; what is no such thing ends in words."""
    zarr = require("zarr", extra="large", purpose="write OME-Zarr images")
    try:
        with zarr.config.set({"array.write_empty_chunks": True}):
            yield zarr
    except Exception as error:  # zarr raises what its parsing stumbles over
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        raise InputError(
            f"{str(path)!r} is damaged, so the run cannot be continued ({reason}). Begin anew "
            f"with --overwrite."
        ) from error


def create_store(job: Job, space: Volume, attributes: dict[str, Any]) -> None:
    """Make the empty store, whole or not at all.

    Parameters
    ----------
    space
        Of the input volume.
    attributes
        What is said about the run in the image's own attribute.
    """
    targets = len(job.labels)
    image = placeholder((targets, *space.shape), space.affine, space.unit)
    with whole_folder(job.store) as beside:
        create_image(
            beside,
            image,
            chunk=job.plan.chunk,
            name=job.store.name.removesuffix(".ome.zarr"),
            attributes={**attributes, "channels": list(job.labels)},
        )
        (beside / "windows").mkdir()
        require("zarr", extra="large", purpose="write OME-Zarr images").open_group(
            str(beside / "windows"), mode="a", zarr_format=3
        )
        starts = {axis: list(s) for axis, s in zip("zyx", job.plan.starts, strict=True)}
        for name, dtype in PER_WINDOW.items():
            grid = placeholder((targets, *job.plan.windows), window_affine(job, space), space.unit)
            about = {"starts": starts, "window_zyx": list(job.plan.window)}
            create_window_image(beside / "windows" / name, grid, job, dtype, about)


def create_window_image(
    path: Path, grid: Volume, job: Job, dtype: str, about: dict[str, Any]
) -> None:
    """An image with one voxel for each window and all targets in a chunk."""
    create_image(
        path,
        grid,
        chunk=job.plan.block,
        levels=1,
        attributes={**about, "channels": list(job.labels)},
        dtype=dtype,
        channels_together=True,
    )


def window_affine(job: Job, space: Volume) -> np.ndarray:
    """Where the windows' centres are; the last one of an axis can be nearer than that."""
    stride, window = job.plan.stride, job.plan.window
    steps = np.diag([*map(float, stride[::-1]), 1.0])
    steps[:3, 3] = [(n - 1) / 2 for n in window[::-1]]
    return space.affine @ steps


def create_tiles(job: Job) -> None:
    """Make the empty array of tiles."""
    zarr = require("zarr", extra="large", purpose="write OME-Zarr images")
    from zarr.codecs import Crc32cCodec

    rest = (len(job.labels), *job.grid.shape)
    with whole_folder(job.run / TILES) as beside:
        zarr.create_array(
            str(beside),
            shape=(*job.plan.windows, *rest),
            chunks=(*job.plan.block, *rest),
            dtype="float32",
            compressors=[Crc32cCodec()],
            fill_value=0,
        )


def remove_leftovers(folders: Sequence[Path]) -> None:
    """Delete what killed processes left beside: halves of files that were never renamed."""
    for folder in folders:
        for path in folder.rglob("*.partial"):
            with contextlib.suppress(OSError):
                path.unlink()
        for path in folder.glob(".respondcam-*"):
            shutil.rmtree(path, ignore_errors=True)

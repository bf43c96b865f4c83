"""What is drawn: a volume, a map in the same world, and the planes cut through both."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from respondcam.errors import InputError, VolumeError
from respondcam.show.theme import grey_window
from respondcam.show.world import Index, Upright, finite_channel, upright
from respondcam.volume import Volume
from respondcam.volume.sampling import sample

_SAMPLES = 128  # along the longer side of a plane: the map is drawn smooth over coarse voxels


@dataclass(frozen=True, eq=False)
class Scene:
    """A volume, and perhaps a map, checked and turned to the world's axes.

    Parameters
    ----------
    grey
        The volume.
    signed
        The map on its own grid, None without one.
    window
        Values of the volume shown black and white.
    limit
        Value of the map's strongest colours; zero when there is no map or it is zero everywhere.
    """

    grey: Upright
    signed: Volume | None
    window: tuple[float, float]
    limit: float

    @property
    def has_colour(self) -> bool:
        """Whether there is anything of a map to see."""
        return self.limit > 0

    def peak(self, *, positive: bool = False) -> tuple[Index, float]:
        """Find the map's largest absolute (or largest positive) value: where in the volume, value.

        The place is the index, in the upright volume, of the voxel that holds the map voxel's
        centre, or the nearest one where the centre lies outside.
        """
        if self.signed is None:
            return self._centre(), 0.0
        values = self.signed.voxels
        flat = int(np.argmax(values if positive else np.abs(values)))
        at = np.unravel_index(flat, values.shape)
        here = self.grey.volume.index(self.signed.world(at))
        last = np.array(self.grey.volume.shape) - 1
        z, y, x = (int(i) for i in np.clip(np.rint(here), 0, last))
        return (z, y, x), float(values[at])

    def place(self, at: str | Sequence[int] | None) -> Index:
        """Turn "peak", "positive", "centre" or a (z, y, x) of the stored array into an index here.

        Raises
        ------
        InputError
            If `at` is none of these, or outside the volume.
        """
        if at is None:
            at = "peak" if self.has_colour else "centre"
        if isinstance(at, str):
            if at in ("peak", "positive"):
                return (
                    self.peak(positive=at == "positive")[0] if self.has_colour else self._centre()
                )
            if at == "centre":
                return self._centre()
            message = f'at={at!r}: use "peak", "positive", "centre" or a voxel (z, y, x).'
            raise InputError(message)
        stored = self.grey.stored.shape
        if len(at) != 3 or not all(0 <= int(i) < n for i, n in zip(at, stored, strict=False)):
            message = (
                f"at={tuple(at)!r}: give a voxel (z, y, x) inside the volume's shape {stored}."
            )
            raise InputError(message)
        z, y, x = (int(i) for i in at)
        return self.grey.index_of_stored((z, y, x))

    def _centre(self) -> Index:
        z, y, x = (n // 2 for n in self.grey.volume.shape)
        return z, y, x


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane, rows from the low to the high end of its vertical axis.

    Parameters
    ----------
    grey
        (row, column) of the volume.
    signed
        The map on the same rectangle, sampled an odd number of times as finely; None without one.
    height, width
        In the volume's unit.
    across, index
        The axis (0, 1, 2 for z, y, x) that the plane cuts, and where.
    number
        Number of the same slice in the array as it was stored.
    world
        Where the plane's middle is along that axis of the world, in the unit.
    """

    grey: np.ndarray
    signed: np.ndarray | None
    height: float
    width: float
    across: int
    index: int
    number: int
    world: float

    @property
    def axes(self) -> tuple[int, int]:
        """The axes drawn vertically and horizontally."""
        return PLANE_AXES[self.across]


PLANE_AXES = ((1, 2), (0, 2), (0, 1))  # vertical, horizontal


def make_scene(
    volume: Volume, map: Volume | None, *, channel: int = 0, limit: float | None = None
) -> Scene:
    """Check a volume and a map, and bring them to the world's axes.

    Raises
    ------
    InputError
        If the limit is not above zero, the units differ, the map has several channels, or map and
        volume have no place in common.
    """
    if limit is not None and not (np.isfinite(limit) and limit > 0):
        message = (
            f"limit={limit!r}: give the score value of the strongest colours, a finite number "
            f"above zero, or None for the map's largest absolute value."
        )
        raise InputError(message)
    grey = upright(volume, channel=channel)
    signed = None if map is None else _checked_map(map, volume)
    strongest = 0.0 if signed is None else float(np.abs(signed.voxels).max())
    shown = (limit or strongest) if strongest else 0.0
    return Scene(grey, signed, grey_window(grey.volume.voxels), shown)


def _checked_map(map: Volume, volume: Volume) -> Volume:
    if map.unit != volume.unit:
        message = (
            f"The map's world is in {map.unit!r} and the volume's in {volume.unit!r}. "
            f"Give both the same unit and the affines that belong to it."
        )
        raise VolumeError(message)
    if map.channels != 1:
        message = f"The map has {map.channels} channels; choose one and give it as (z, y, x)."
        raise VolumeError(message)
    signed = Volume(finite_channel(map, 0), map.affine, map.unit, map.source)
    ours, theirs = _box(volume), _box(signed)
    if np.any(ours[0] >= theirs[1]) or np.any(theirs[0] >= ours[1]):
        message = (
            f"The map lies outside the volume: in world x, y, z ({volume.unit}) it spans "
            f"{theirs.round(3).tolist()}, the volume {ours.round(3).tolist()}. "
            f"Give the map the affine of the image that it explains."
        )
        raise VolumeError(message)
    return signed


def _box(volume: Volume) -> np.ndarray:
    ends = [(-0.5, n - 0.5) for n in volume.shape]
    world = volume.world(list(product(*ends)))
    return np.stack([world.min(axis=0), world.max(axis=0)])


def cut(scene: Scene, across: int, index: int) -> Plane:
    """Cut the plane at `index` of axis 0, 1, 2 (z, y, x): axial, coronal, sagittal in mm."""
    grey = np.take(scene.grey.volume.voxels, index, axis=across)
    vertical, horizontal = PLANE_AXES[across]
    signed = None
    if scene.signed is not None and scene.has_colour:
        signed = _map_on_plane(scene.grey.volume, scene.signed, across, index)
    extent, shape = scene.grey.extent, scene.grey.volume.shape
    middle = [(n - 1) / 2 for n in shape]
    middle[across] = index
    world = float(scene.grey.volume.world(middle)[2 - across])
    number = _slice_number(scene.grey, across, index)
    return Plane(grey, signed, extent[vertical], extent[horizontal], across, index, number, world)


def _slice_number(volume: Upright, across: int, index: int) -> int:
    at = [0, 0, 0]
    at[across] = index
    stored_axis = [volume.axis_of_stored(axis) for axis in range(3)].index(across)
    return volume.stored_index((at[0], at[1], at[2]))[stored_axis]


def _map_on_plane(grey: Volume, signed: Volume, across: int, index: int) -> np.ndarray:
    rows, columns = (grey.shape[axis] for axis in PLANE_AXES[across])
    fine = -(-_SAMPLES // max(rows, columns))
    fine += 1 - fine % 2  # odd: the middle sample of every voxel is at its centre
    points = np.empty((rows * fine, columns * fine, 3))
    points[..., across] = index
    points[..., PLANE_AXES[across][0]] = _finer(rows, fine)[:, None]
    points[..., PLANE_AXES[across][1]] = _finer(columns, fine)[None, :]
    between = (np.linalg.inv(signed.affine) @ grey.affine)[:3]  # from index to index, x, y, z
    return sample(signed.voxels, points @ between[::-1, 2::-1].T + between[::-1, 3])


def _finer(count: int, fine: int) -> np.ndarray:
    return (np.arange(count * fine) + 0.5) / fine - 0.5

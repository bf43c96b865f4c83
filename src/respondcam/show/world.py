"""Which way is up: volumes turned to the world's axes, and a map sampled where the volume is.

Whatever order and direction a file stores its axes in, planes are drawn along the world: x grows
to the right, y (in the axial plane) and z upwards. For millimetres that is RAS+, so that the right
of the patient is on the right of the picture. The letters at the edges say so.
"""

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from respondcam.errors import VolumeError
from respondcam.volume import Volume

Index = tuple[int, int, int]
_MM_LETTERS = (("I", "S"), ("P", "A"), ("L", "R"))  # z, y, x: where each axis starts and ends
_AXIS_NAMES = ("z", "y", "x")


@dataclass(frozen=True, eq=False)
class Upright:
    """One channel of a volume whose axes run along the world's, as nearly as its grid allows.

    Parameters
    ----------
    volume
        (z, y, x), flipped and transposed, never resampled.
    stored
        The volume as it was given.
    """

    volume: Volume
    stored: Volume

    @property
    def extent(self) -> tuple[float, float, float]:
        """Length of the whole volume along z, y, x, in the unit."""
        z, y, x = self.volume.shape
        dz, dy, dx = self.volume.voxel_size
        return z * dz, y * dy, x * dx

    @property
    def tilt_degrees(self) -> float:
        """The largest angle between a voxel axis and the world axis that it is drawn along."""
        axes = self.volume.affine[:3, :3]
        cosines = np.diag(axes) / np.linalg.norm(axes, axis=0)
        return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())

    def letters(self, axis: int) -> tuple[str, str]:
        """Name the low and the high end of axis 0, 1, 2 (z, y, x): I to S, P to A, L to R in mm."""
        if self.volume.unit == "mm":
            return _MM_LETTERS[axis]
        return "", f"+{_AXIS_NAMES[axis]}"

    def stored_index(self, index: Index) -> Index:
        """Give the index of a voxel in the array as it was stored."""
        z, y, x = np.rint(self.stored.index(self.volume.world(index)))
        return int(z), int(y), int(x)

    def index_of_stored(self, index: Index) -> Index:
        """Give the index here of a voxel of the array as it was stored."""
        z, y, x = np.rint(self.volume.index(self.stored.world(index)))
        return int(z), int(y), int(x)

    def axis_of_stored(self, stored_axis: int) -> int:
        """Tell which axis here runs along an axis of the stored array; 0, 1, 2 for z, y, x."""
        step = np.zeros(3)
        step[stored_axis] = 1
        moved = self.volume.index(self.stored.world(step)) - self.volume.index(
            self.stored.world(np.zeros(3))
        )
        return int(np.argmax(np.abs(moved)))


def upright(volume: Volume, *, channel: int = 0) -> Upright:
    """Turn one channel of a volume to the world's axes, without copying or resampling.

    Raises
    ------
    VolumeError
        If the channel does not exist, or a voxel is not finite.

    Examples
    --------
    >>> voxels = np.zeros((2, 3, 4))
    >>> voxels[0, 0, 0] = 1  # a file that starts at the right: x runs to the left
    >>> turned = upright(Volume(voxels, np.diag([-1.0, 1.0, 1.0, 1.0]), "mm"))
    >>> float(turned.volume.voxels[0, 0, 3]), turned.letters(2)
    (1.0, ('L', 'R'))
    """
    voxels = finite_channel(volume, channel)
    turn = io_orientation(volume.affine)
    turned = apply_orientation(voxels.T, turn).T
    affine = volume.affine @ inv_ornt_aff(turn, voxels.T.shape)
    return Upright(Volume(turned, affine, volume.unit, volume.source), volume)


def finite_channel(volume: Volume, channel: int) -> np.ndarray:
    """Choose the voxels (z, y, x) of one channel, all of them finite; else `VolumeError`."""
    name = f"{volume.source}" if volume.source else "the volume"
    if not -volume.channels <= channel < volume.channels:
        message = (
            f"channel={channel}: {name} has {volume.channels} channel(s). "
            f"Use 0 to {volume.channels - 1}."
        )
        raise VolumeError(message)
    voxels = volume.voxels if volume.voxels.ndim == 3 else volume.voxels[channel]
    finite = np.isfinite(voxels)
    if not finite.all():
        message = (
            f"{name} has {np.count_nonzero(~finite)} voxels that are NaN or infinite and cannot be "
            f"drawn. Replace them, for example with numpy.nan_to_num."
        )
        raise VolumeError(message)
    return voxels

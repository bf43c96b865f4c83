"""Volumes as text inside a page: NIfTI, packed to 16 bits, compressed, in base64.

A page must open at once and be small enough to send to a colleague, so every volume gets a budget.
What does not fit is binned (averaged over cubes of neighbouring voxels) until it does.
"""

import base64
import gzip
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from respondcam.show.binning import binned
from respondcam.volume import Volume

VOLUME_BYTES = 7_000_000  # of base64 text, for the image
MAP_BYTES = 5_000_000  # for all maps of a page together
_STEPS = 32_000  # of the 16 bits: what is lost is far below what eyes or eight-bit colours show


@dataclass(frozen=True, eq=False)
class Packed:
    """One volume as text.

    Parameters
    ----------
    text
        A gzipped NIfTI file in base64.
    binned
        Voxels of the original along each axis in one voxel of this; 1 when nothing was lost.
    shape, affine
        Of what is in it: z, y, x, and from its voxels to the world, both in x, y, z.
    """

    text: str
    binned: int
    shape: tuple[int, int, int]
    affine: np.ndarray


def pack(volume: Volume, budget: int, *, margin: bool = False) -> Packed:
    """Write a volume (z, y, x) as text of at most `budget` characters.

    Parameters
    ----------
    volume
        Finite values.
    budget
        In characters; a volume of a few voxels may exceed a very small one.
    margin
        Surround it by one voxel of zeros: a viewer that interpolates linearly then shows a map as
        the figures do, falling to zero over one voxel of its grid.

    Examples
    --------
    >>> pack(Volume(np.zeros((64, 64, 64))), 10_000).binned
    1
    >>> noise = np.random.default_rng(0).random((16, 16, 16))
    >>> pack(Volume(noise), 2_000).binned
    2
    """
    factor = 1
    while True:
        small = binned(volume, factor)
        whole = _with_margin(small) if margin else small
        text = _as_text(whole)
        if len(text) <= budget or max(small.shape) <= 2:
            return Packed(text, factor, whole.shape, whole.affine)
        factor += 1


def _with_margin(volume: Volume) -> Volume:
    affine = np.array(volume.affine)
    affine[:3, 3] = volume.world((-1, -1, -1))
    return Volume(np.pad(volume.voxels, 1), affine, volume.unit)


def _as_text(volume: Volume) -> str:
    from nibabel.nifti1 import Nifti1Image

    steps, slope, middle = _quantised(volume.voxels)
    image = Nifti1Image(steps.T, volume.affine)
    image.header.set_slope_inter(slope, middle)
    image.header.set_xyzt_units("mm")  # whatever the unit is: viewers know no ångström
    raw = image.to_bytes()
    return base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode("ascii")


def _quantised(
    voxels: Float[np.ndarray, "z y x"],
) -> tuple[np.ndarray, float, float]:
    """Give 16-bit steps, and slope and intercept that bring them back; zero stays zero in a map."""
    low, high = float(voxels.min()), float(voxels.max())
    signed = low <= 0 <= high
    middle = 0.0 if signed else (low + high) / 2
    half = max(abs(low), abs(high)) if signed else (high - low) / 2
    slope = half / _STEPS or 1.0
    steps = np.rint((voxels.astype(np.float64) - middle) / slope).astype(np.int16)
    return steps, slope, middle

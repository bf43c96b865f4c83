"""Volumes made smaller by averaging neighbours: for pages and surfaces, never for numbers."""

import numpy as np

from respondcam.volume import Volume


def binned(volume: Volume, factor: int) -> Volume:
    """Average cubes of `factor` voxels along each axis; the affine follows.

    The last voxels of an axis that is no multiple of `factor` are repeated to fill it.

    Examples
    --------
    >>> half = binned(Volume(np.arange(4.0).reshape(1, 1, 4)), 2)
    >>> half.voxels.tolist(), half.world((0, 0, 0)).tolist()
    ([[[0.5, 2.5]]], [0.5, 0.5, 0.5])
    """
    if factor == 1:
        return volume
    fill = [(0, -n % factor) for n in volume.shape]
    padded = np.pad(volume.voxels, fill, mode="edge")
    z, y, x = (n // factor for n in padded.shape)
    cubes = padded.reshape(z, factor, y, factor, x, factor)
    affine = volume.affine @ np.diag([factor, factor, factor, 1.0])
    affine[:3, 3] = volume.world([(factor - 1) / 2] * 3)
    return Volume(cubes.mean(axis=(1, 3, 5)), affine, volume.unit, volume.source)

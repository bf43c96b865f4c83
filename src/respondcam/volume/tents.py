"""Shares in which the voxels of one grid hand their values out to those of another, per axis."""

import numpy as np
from jaxtyping import Float

from respondcam.errors import InputError


def tent_matrix(
    stride: float, offset: float, grid_size: int, input_size: int
) -> Float[np.ndarray, "grid input"]:
    """Share of every grid voxel's value that every input voxel receives, along one axis.

    Rows are tents of half-width ``max(stride, 1)`` around ``offset + stride * i``, cut off at the
    input's border, and scaled so that each adds up to one; see `respondcam.attribution.placing`.

    Raises
    ------
    InputError
        If the stride is not positive, or a size is less than one.

    Examples
    --------
    >>> tent_matrix(2.0, 0.0, 2, 4)[1].tolist()
    [0.0, 0.25, 0.5, 0.25]
    """
    if not stride > 0 or grid_size < 1 or input_size < 1:
        raise InputError(
            f"Cannot place a grid of {grid_size} voxels with stride {stride} in an input of "
            f"{input_size} voxels: sizes must be at least 1 and the stride greater than 0."
        )
    if grid_size == 1 and stride >= input_size:
        return np.full((1, input_size), 1 / input_size)
    centres = offset + stride * np.arange(grid_size)
    distance = np.abs(np.arange(input_size) - centres[:, None])
    share = np.clip(1 - distance / max(stride, 1.0), 0, None)
    outside = np.flatnonzero(share.sum(axis=1) == 0)
    share[outside, distance[outside].argmin(axis=1)] = 1
    return share / share.sum(axis=1, keepdims=True)

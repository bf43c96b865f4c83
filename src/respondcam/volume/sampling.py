"""Values of a volume between its voxels."""

from itertools import product

import numpy as np
from jaxtyping import Float


def sample(
    voxels: Float[np.ndarray, "z y x"], index: Float[np.ndarray, "*points 3"]
) -> Float[np.ndarray, "*points"]:
    """Interpolate linearly at fractional indices (z, y, x).

    From the outermost centres the values fall to zero over one more voxel, as they do when a map
    is placed in its input: a layer's voxel reaches as far as the layer's stride.

    Examples
    --------
    >>> line = np.array([[[0.0, 10.0]]])
    >>> sample(line, np.array([[0, 0, 0.25], [0, 0, 1.5], [0, 0, 2.5]])).tolist()
    [2.5, 5.0, 0.0]
    """
    padded = np.pad(voxels, 1)
    index = np.clip(index + 1, 0, np.array(padded.shape) - 1)
    low = np.minimum(index.astype(np.intp), np.array(padded.shape) - 2)
    share = index - low
    flat = padded.reshape(-1)
    strides = np.array(padded.strides) // padded.itemsize
    start = low @ strides
    total = np.zeros(start.shape)
    for corner in product((0, 1), repeat=3):
        weight = np.where(corner, share, 1 - share).prod(axis=-1)
        total += weight * flat[start + np.dot(corner, strides)]
    return total

r"""From the maps of windows, on their layers' grids, to a box of the whole volume.

With :math:`L_k` the map of window k placed in its voxels with its sum, :math:`V_k` the same map
with its values (`respondcam.attribution.placing`), :math:`s_k` the window's first voxel and j a
voxel of the volume:

.. math::

    \text{sum:}\quad M(j) = \sum_k L_k(j - s_k), \qquad
    \text{mean:}\quad M(j) = \frac{\sum_k w(j - s_k) V_k(j - s_k)}{\sum_k w(j - s_k)}

The sum keeps the account: the sum of M over the volume is the sum of all windows' maps. The mean
has the unit of the layer's map, as figures have it, and a flat map stays flat; the weight w is a
tent, which trusts a window more in its middle.

Both are products over axes, and so are the tent and the grid of windows. Hence the whole sum is
three matrix products, one per axis, whose rows are pairs (window, cell of its grid) and whose
columns are voxels: no window is ever placed alone, and a window costs next to nothing.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.placing import interpolation_matrix, placing_matrix
from respondcam.large.plan import Span
from respondcam.network.grid import LayerGrid

Stitch = Literal["mean", "sum"]

AxisMatrix = Float[Tensor, "_ _ _"]
"""(window, cell, voxel)"""


def axis_matrix(
    starts: Sequence[int],
    window: int,
    span: Span,
    placed: Float[Tensor, "cell inside"],
    stitch: Stitch,
) -> AxisMatrix:
    """Share of each cell of each window that each voxel of a span gets, along one axis.

    Parameters
    ----------
    starts
        First voxels of **all** windows that reach into the span.
    window
        Voxels of a window.
    span
        The voxels asked for.
    placed
        Matrix of one window, as from `window_matrices`.
    stitch
        How windows are combined.

    Examples
    --------
    >>> one = torch.eye(4, dtype=torch.float64)
    >>> axis_matrix((0, 2), 4, (1, 4), one, "sum").sum(dim=(0, 1)).tolist()
    [1.0, 2.0, 2.0]
    >>> axis_matrix((0, 2), 4, (1, 4), one, "mean").sum(dim=(0, 1)).tolist()
    [1.0, 1.0, 1.0]
    """
    first, last = span
    out = torch.zeros(len(starts), len(placed), last - first, dtype=torch.float64)
    weight = tent(window) if stitch == "mean" else torch.ones(window, dtype=torch.float64)
    total = torch.zeros(last - first, dtype=torch.float64)
    for k, start in enumerate(starts):
        a, b = max(start, first), min(start + window, last)
        inside, there = slice(a - start, b - start), slice(a - first, b - first)
        out[k, :, there] = placed[:, inside] * weight[inside]
        total[there] += weight[inside]
    return out / total if stitch == "mean" else out


def tent(window: int) -> Float[Tensor, "inside"]:
    """Weights that fall off linearly from the middle of a window, and are positive everywhere.

    Examples
    --------
    >>> tent(5).tolist()
    [1.0, 2.0, 3.0, 2.0, 1.0]
    """
    rising = torch.arange(1, window + 1, dtype=torch.float64)
    return torch.minimum(rising, rising.flip(0))


def window_matrices(grid: LayerGrid, stitch: Stitch) -> tuple[Float[Tensor, "_ _"], ...]:
    """From the cells of a window's grid to its voxels along each axis: their sum, or values."""
    axes = zip(grid.stride, grid.offset, grid.shape, grid.input_shape, strict=True)
    matrix = placing_matrix if stitch == "sum" else interpolation_matrix
    return tuple(matrix(*axis) for axis in axes)


def stitched(
    maps: Float[np.ndarray, "kz ky kx gz gy gx"], matrices: Sequence[AxisMatrix]
) -> Float[Tensor, "z y x"]:
    """Combine the maps of neighbouring windows into a box, in float64.

    Row after row of windows along z, so that what is held is a row and the box.
    """
    along_z, along_y, along_x = matrices
    fold_y = rearrange(along_y, "k g voxel -> (k g) voxel")
    fold_x = rearrange(along_x, "k g voxel -> (k g) voxel")
    box = torch.zeros(along_z.shape[2], along_y.shape[2], along_x.shape[2], dtype=torch.float64)
    for row, share in zip(maps, along_z, strict=True):
        voxels = share.any(dim=0).nonzero()[:, 0]
        if not len(voxels):
            continue  # its cells lie further inside the window
        cells = torch.from_numpy(np.ascontiguousarray(row)).double()
        cells = rearrange(cells, "ky kx gz gy gx -> gz (ky gy) (kx gx)")
        section = einsum(cells @ fold_x, fold_y, "gz gy x, gy y -> gz y x")
        low, high = int(voxels[0]), int(voxels[-1]) + 1
        box[low:high] += einsum(share[:, low:high], section, "gz z, gz y x -> z y x")
    return box

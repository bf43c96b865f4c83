"""From a map on a layer's grid to a map in the voxels of the network's input.

Each grid voxel i hands its value out to the input voxels j around its centre ``c_i = offset +
stride * i``, in shares that fall off linearly and add up to one:

    w_ij  proportional to  max(0, 1 - |j - c_i| / h),    h = max(stride, 1),    sum_j w_ij = 1

The placed map is the product of such shares over the axes. Away from the border this is linear
interpolation between the centres (divided by the stride, since values become densities); at the
border, where a tent is cut off, the rest takes its whole share. Hence placing never changes a map's
sum, and the score account of a map holds for the placed map too. Resizing a map as if its grid
spanned the input evenly keeps neither the sum nor the place.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.errors import InputError
from respondcam.network.grid import LayerGrid
from respondcam.network.typed import from_array
from respondcam.volume.tents import tent_matrix


def placing_matrix(
    stride: float,
    offset: float,
    grid_size: int,
    input_size: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "grid input"]:
    """Share of every grid voxel's value that every input voxel receives, along one axis.

    Rows are tents of half-width ``max(stride, 1)`` around the centre of their grid voxel, cut off
    at the input's border, and scaled so that each adds up to one.

    - Layers finer than the input (stride below one): the half-width of one voxel shares a value
      between its two neighbours in proportion to their nearness, which keeps sum and centroid.
    - A tent that reaches no voxel of the input (padding can place grid voxels outside it): its
      whole value goes to the nearest border voxel, so the sum stays.
    - A single grid voxel that covers the whole input (its stride is not less than the input, as
      after global pooling) says nothing about the place: its value is shared out evenly.

    Parameters
    ----------
    stride, offset
        In input voxels: centre of grid voxel i = offset + stride * i.
    grid_size, input_size
        Number of voxels of the grid and of the input.
    device, dtype
        Of the result; it is computed in float64.

    Raises
    ------
    InputError
        If the stride is not positive, or a size is less than one.

    Examples
    --------
    >>> placing_matrix(2.0, 0.0, 2, 4).tolist()
    [[0.66..., 0.33..., 0.0, 0.0], [0.0, 0.25, 0.5, 0.25]]
    """
    share = from_array(tent_matrix(stride, offset, grid_size, input_size))
    return share.to(device=device, dtype=dtype)


def place(
    maps: Float[Tensor, "batch target *grid"],
    grid: LayerGrid,
    spatial: tuple[int, ...] | None = None,
) -> Float[Tensor, "batch target *spatial"]:
    """Put maps in the voxels of the network's input, each with its sum.

    Axis by axis, so that nothing larger than the result is ever held. Differentiable. Half
    precision maps come back as float32, in which sums hold.

    Parameters
    ----------
    maps
        (batch, target, *grid), on the grid's voxels.
    grid
        Where these voxels are.
    spatial
        Shape to fill, voxel 0 at position 0; the grid's `input_shape` unless given.

    Raises
    ------
    InputError
        If the maps are not on this grid, or `spatial` has another number of axes.

    Examples
    --------
    >>> grid = LayerGrid((2.0,), (0.5,), (2,), (4,), (0.0,), "layout")
    >>> place(torch.tensor([[[3.0, 1.0]]]), grid).tolist()
    [[[1.2857..., 1.4285..., 0.8571..., 0.4285...]]]
    """
    spatial = grid.input_shape if spatial is None else tuple(spatial)
    if tuple(maps.shape[2:]) != tuple(grid.shape) or len(spatial) != len(grid.shape):
        raise InputError(
            f"Maps of shape {tuple(maps.shape)} on a grid of {tuple(grid.shape)} voxels cannot "
            f"fill {spatial}: the maps must be (batch, target, *grid), with as many axes as the "
            f"input."
        )
    if maps.dtype in (torch.float16, torch.bfloat16):
        maps = maps.float()
    # the axis that grows least goes first, so that the intermediate results stay small
    growth = [size / count for size, count in zip(spatial, grid.shape, strict=True)]
    for axis in sorted(range(len(spatial)), key=growth.__getitem__):
        matrix = placing_matrix(
            grid.stride[axis],
            grid.offset[axis],
            grid.shape[axis],
            spatial[axis],
            device=maps.device,
            dtype=maps.dtype,
        )
        maps = (maps.movedim(2 + axis, -1) @ matrix).movedim(-1, 2 + axis)
    return maps.contiguous()


def interpolation_matrix(
    stride: float, offset: float, grid_size: int, input_size: int
) -> Float[Tensor, "grid input"]:
    """Weight of every grid voxel's value in that of every input voxel, along one axis.

    Columns add up to one, where the rows of `placing_matrix` do.

    Examples
    --------
    >>> interpolation_matrix(2.0, 0.0, 2, 4).tolist()
    [[1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 1.0, 1.0]]
    """
    voxels = torch.arange(input_size, dtype=torch.float64)
    at = ((voxels - offset) / stride).clamp(0, grid_size - 1)
    distance = (at - torch.arange(grid_size, dtype=torch.float64)[:, None]).abs()
    return (1 - distance).clamp(min=0)


def interpolate(
    values: Float[Tensor, "batch channel *grid"], grid: LayerGrid
) -> Float[Tensor, "batch channel *spatial"]:
    """Values of a layer's grid in the voxels of the input, interpolated linearly.

    Placing hands sums out; this gives the value between the centres around, so that a constant
    stays that constant and a mask stays between 0 and 1: for masks, and for where a map is highest.
    Beyond the outermost centres their values go on.

    Examples
    --------
    >>> grid = LayerGrid((2.0,), (0.5,), (2,), (4,), (0.0,), "layout")
    >>> interpolate(torch.tensor([[[3.0, 1.0]]]), grid).tolist()
    [[[3.0, 2.5, 1.5, 1.0]]]
    """
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    axes = zip(grid.stride, grid.offset, grid.shape, grid.input_shape, strict=True)
    for axis, (stride, offset, count, size) in enumerate(axes):
        matrix = interpolation_matrix(stride, offset, count, size).to(values)
        values = (values.movedim(2 + axis, -1) @ matrix).movedim(-1, 2 + axis)
    return values.contiguous()

"""From one grid to another in the same world: a map with its sum, a mask by its nearest voxels.

A map is a density of score: what counts is how much of the score lies where. So it is not
interpolated like an image, whose values would stay and whose sum would change with the voxels'
size. Every voxel hands its value out to the voxels of the other grid around its centre, in shares
that add up to one, and whatever falls outside goes to the nearest border voxel. The sum stays
exactly; away from the border the centroid stays, too.

Grids that differ by crops, padding, transposed or flipped axes and voxel sizes are treated axis by
axis with the tents of `tent_matrix`, as a map is placed from its layer into the input. Grids that
are oblique to each other: each voxel is first divided into parts smaller than the other grid's
voxels, with the same tents in its own grid, and each part is then shared between the eight voxels
around its centre.
"""

from itertools import product
from math import ceil
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from respondcam.errors import VolumeError
from respondcam.volume.sampling import sample
from respondcam.volume.tents import tent_matrix
from respondcam.volume.volume import Volume

Keep = Literal["sum", "value"]

# Axes count as parallel if over the whole grid they part by less than this share of a voxel.
_PARALLEL = 1e-3


def regrid(
    voxels: Float[np.ndarray, "z y x"],
    affine: Float[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
    onto: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "sz sy sx"]:
    """Put a map into another grid, keeping its sum.

    Parameters
    ----------
    voxels
        The map (z, y, x), signed.
    affine
        From its voxels to the world, as in `Volume`: x, y, z on both sides.
    shape
        (z, y, x) of the other grid.
    onto
        Its affine, into the same world.

    Returns
    -------
    numpy.ndarray
        float64.

    Examples
    --------
    >>> ones = np.ones((1, 1, 2))
    >>> finer = np.diag([0.5, 1.0, 1.0, 1.0])
    >>> regrid(ones, np.eye(4), (1, 1, 4), finer).tolist()
    [[[0.666..., 0.583..., 0.5, 0.25]]]
    """
    move = np.linalg.solve(onto, affine)  # from indices to indices, x, y, z
    values = np.asarray(voxels, np.float64)
    order = _parallel(move, values.shape)
    if order is None:
        return _oblique(values, move, shape)
    return _axis_by_axis(values, move, shape, order)


def put_back(map_volume: Volume, original: Volume, *, keep: Keep = "sum") -> Volume:
    """Put a map into the grid of the volume that it belongs to, keeping its sum or its values.

    Parameters
    ----------
    map_volume
        One channel, in any grid of the same world.
    original
        Whose grid, unit, source and header the result has.
    keep
        ``"sum"``, as in `regrid`; ``"value"``: interpolated linearly, as in `sample`.

    Raises
    ------
    VolumeError
        If the map has several channels.

    Examples
    --------
    >>> coarse = Volume(np.full((2, 2, 2), 4.0), np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> fine = put_back(coarse, Volume(np.zeros((4, 4, 4))))
    >>> fine.shape, float(fine.voxels.sum())
    ((4, 4, 4), 32.0)
    """
    if map_volume.channels != 1:
        raise VolumeError(
            f"A map has one channel, received {map_volume.channels}: put them back one by one."
        )
    values = map_volume.voxels.reshape(map_volume.shape)
    move = regrid if keep == "sum" else _interpolated
    return original.with_voxels(
        move(values, map_volume.affine, original.shape, original.affine).astype(np.float32)
    )


def _interpolated(
    voxels: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int], onto: np.ndarray
) -> np.ndarray:
    back = np.linalg.solve(affine, onto)
    out = np.empty(shape)
    plane = np.indices(shape[1:]).reshape(2, -1).T
    for z in range(shape[0]):  # plane by plane, since the indices are larger than the voxels
        index = np.insert(plane, 0, z, axis=1)
        at = index[:, ::-1] @ back[:3, :3].T + back[:3, 3]
        out[z] = sample(voxels, at[:, ::-1]).reshape(shape[1:])
    return out


def carry_mask(mask: Bool[np.ndarray, "z y x"], of: Volume, onto: Volume) -> np.ndarray:
    """Carry a mask into another grid: a voxel is inside if the nearest one of the mask is.

    A part too small to be the nearest to any voxel goes to the voxels that it lies in, so a mask
    that overlaps the other grid is never lost.

    Parameters
    ----------
    mask
        In the voxels of `of`.
    of, onto
        Volumes whose grids count, not their voxels.

    Examples
    --------
    >>> mask = np.zeros((1, 1, 4), bool)
    >>> mask[0, 0, 2:] = True
    >>> coarse = Volume(np.zeros((1, 1, 2)), np.diag([2.0, 1.0, 1.0, 1.0]))
    >>> carry_mask(mask, Volume(np.zeros((1, 1, 4))), coarse).tolist()
    [[[False, True]]]
    """
    back = np.linalg.solve(of.affine, onto.affine)
    out = np.zeros(onto.shape, bool)
    plane = np.indices(onto.shape[1:]).reshape(2, -1).T
    for z in range(onto.shape[0]):
        at, inside = _nearest(np.insert(plane, 0, z, axis=1), back, mask.shape)
        out[z].flat[inside] = mask[tuple(at[inside].T)]
    if not out.any():
        ahead = np.linalg.solve(onto.affine, of.affine)
        at, inside = _nearest(np.argwhere(mask), ahead, onto.shape)
        out[tuple(at[inside].T)] = True
    return out


def _nearest(
    index: np.ndarray, move: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Where indices z, y, x go, rounded, and whether that is inside a grid."""
    moved = index[:, ::-1] @ move[:3, :3].T + move[:3, 3]
    at = np.floor(moved[:, ::-1] + 0.5).astype(np.intp)
    inside = np.logical_and(at >= 0, at < np.array(shape)).all(axis=1)
    return at, np.asarray(inside)


def _parallel(move: np.ndarray, shape: tuple[int, ...]) -> list[int] | None:
    """For each axis x, y, z of the map the other grid's axis along it; None if oblique."""
    drift = np.abs(move[:3, :3]) * np.array(shape[::-1])
    order = np.abs(move[:3, :3]).argmax(axis=0)
    along = np.zeros((3, 3), bool)
    along[order, range(3)] = True
    if len(set(order.tolist())) < 3 or drift[~along].max() > _PARALLEL:
        return None
    return order.tolist()


def _axis_by_axis(
    values: np.ndarray, move: np.ndarray, shape: tuple[int, ...], order: list[int]
) -> np.ndarray:
    for own, other in enumerate(order):
        axis, size = 2 - own, values.shape[2 - own]
        stride, offset = float(move[other, own]), float(move[other, 3])
        if stride < 0:
            values = np.flip(values, axis)
            stride, offset = -stride, offset + stride * (size - 1)
        matrix = tent_matrix(stride, offset, size, shape[2 - other])
        values = np.moveaxis(np.moveaxis(values, axis, -1) @ matrix, -1, axis)
    # array axis 2 - order[own] of the result is array axis 2 - own here
    turn = np.empty(3, int)
    for own, other in enumerate(order):
        turn[2 - other] = 2 - own
    return np.ascontiguousarray(values.transpose(turn))


def _oblique(values: np.ndarray, move: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    lengths = np.linalg.norm(move[:3, :3], axis=0)[::-1]
    parts = [max(1, ceil(2 * length)) for length in lengths]
    # a frame of one voxel, so that no tent is cut off at the map's own border
    tents = [
        tent_matrix(float(k), k + (k - 1) / 2, n, (n + 2) * k)
        for k, n in zip(parts, values.shape, strict=True)
    ]
    plane: np.ndarray = np.einsum("zyx,yv,xw->zvw", values, tents[1], tents[2], optimize=True)
    spread = np.indices(plane.shape[1:]).reshape(2, -1).T
    total = np.zeros(int(np.prod(shape)))
    for z, shares in enumerate(tents[0].T):
        layer = np.tensordot(shares, plane, axes=1).ravel()
        held = np.flatnonzero(layer)
        fine = np.insert(spread[held], 0, z, axis=1)
        own = (fine + 0.5) / parts - 1.5
        _share_out(total, layer[held], own[:, ::-1] @ move[:3, :3].T + move[:3, 3], shape)
    return total.reshape(shape)


def _share_out(
    total: np.ndarray, values: np.ndarray, at_xyz: np.ndarray, shape: tuple[int, int, int]
) -> None:
    """Share values between the eight voxels around their places; add that to a flat grid."""
    last = np.array(shape) - 1
    at = np.clip(at_xyz[:, ::-1], 0, last)
    low = np.minimum(at.astype(np.intp), np.maximum(last - 1, 0))
    high = np.minimum(low + 1, last)
    share = at - low
    for corner in product((False, True), repeat=3):
        weight = np.where(corner, share, 1 - share).prod(axis=1)
        where = np.ravel_multi_index(tuple(np.where(corner, high, low).T), shape)
        np.add.at(total, where, values * weight)

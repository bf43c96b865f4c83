"""From a layout to the grid that a map is drawn on."""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from jaxtyping import Shaped
from torch import Tensor

from respondcam.network.grid import LayerGrid
from respondcam.network.layout.digits import Digit, Dim, Layout, NoLayoutError
from respondcam.network.layout.moves import centred, chained, subdivided


@dataclass(frozen=True)
class GridAxes:
    """How an activation is read as (batch, channel, *grid).

    Parameters
    ----------
    drop
        (dimension, start, stop) of the entries that are kept, where some stand for no position,
        such as a class token.
    split
        Sizes of the digits that each dimension of the activation is written with; -1 is the batch.
    order
        Permutation of all these digits to (batch, channels, digits of the first axis, ...).
    shape
        (-1, channel, *grid).
    flip
        Dimensions of the result that run backwards in the input.
    roll
        (dimension of the result, places) that undo cyclic rolls, such as shifted windows.
    """

    drop: tuple[tuple[int, int, int], ...]
    split: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]
    flip: tuple[int, ...] = ()
    roll: tuple[tuple[int, int], ...] = ()

    @property
    def identity(self) -> bool:
        """Whether the activation is (batch, channel, *grid) as it stands."""
        ordered = self.order == tuple(range(len(self.order)))
        plain = self.split == tuple((size,) for size in self.shape)
        return ordered and plain and not (self.drop or self.flip or self.roll)

    @property
    def digits(self) -> tuple[int, ...]:
        """Sizes of all digits, in the order of the activation's dimensions."""
        return tuple(size for sizes in self.split for size in sizes)


def plain_axes(channels: int, grid: tuple[int, ...]) -> GridAxes:
    """Axes of an activation that is (batch, channel, *grid) already.

    Examples
    --------
    >>> plain_axes(4, (2, 2)).identity
    True
    """
    shape = (-1, channels, *grid)
    return GridAxes((), tuple((size,) for size in shape), tuple(range(len(shape))), shape)


def to_grid(activation: Shaped[Tensor, "..."], axes: GridAxes) -> Shaped[Tensor, "..."]:
    """Read an activation as (batch, channel, *grid); a view where that is possible.

    Parameters
    ----------
    activation
        Output of the layer that `axes` was traced for; the batch may be of another size.

    Returns
    -------
    Tensor
        (batch, channel, *grid), the grid in the order of the input's axes.

    Examples
    --------
    >>> import torch
    >>> axes = GridAxes((), ((-1,), (2, 3), (5,)), (0, 3, 1, 2), (-1, 5, 2, 3))
    >>> to_grid(torch.zeros(7, 6, 5), axes).shape
    torch.Size([7, 5, 2, 3])
    """
    if axes.identity:
        return activation
    for dim, start, stop in axes.drop:
        activation = activation.narrow(dim, start, stop - start)
    grid = activation.reshape(axes.digits).permute(axes.order).reshape(axes.shape)
    if axes.flip:
        grid = grid.flip(axes.flip)
    for dim, places in axes.roll:
        grid = grid.roll(places, dim)
    return grid


def from_grid(
    values: Shaped[Tensor, "batch channel *grid"], axes: GridAxes, like: Shaped[Tensor, "..."]
) -> Shaped[Tensor, "..."]:
    """Write (batch, channel, *grid) in the arrangement of an activation: undoes `to_grid`.

    Entries without a position are taken from `like`, an activation in that arrangement.

    Examples
    --------
    >>> import torch
    >>> axes = GridAxes((), ((-1,), (2, 3), (5,)), (0, 3, 1, 2), (-1, 5, 2, 3))
    >>> x = torch.rand(7, 6, 5)
    >>> bool((from_grid(to_grid(x, axes), axes, x) == x).all())
    True
    """
    for dim, places in reversed(axes.roll):
        values = values.roll(-places, dim)
    if axes.flip:
        values = values.flip(axes.flip)
    ordered = [axes.digits[place] for place in axes.order]
    back = sorted(range(len(axes.order)), key=axes.order.__getitem__)
    inner = [-1 if -1 in sizes else math.prod(sizes) for sizes in axes.split]
    values = values.reshape(ordered).permute(back).reshape(inner)
    if not axes.drop:
        return values
    result = like.clone()
    kept = result
    for dim, start, stop in axes.drop:
        kept = kept.narrow(dim, start, stop - start)
    kept.copy_(values)
    return result


@dataclass(frozen=True)
class _Placed:
    """A digit of an activation: its place, its dimension, and the axis that it walks along."""

    digit: Digit
    place: int
    dim: int
    axis: int | None

    @property
    def step(self) -> Fraction:
        return self.digit.vector[self.axis] if self.axis is not None else Fraction(0)


def read_grid(layout: Layout, input_shape: tuple[int, ...]) -> tuple[LayerGrid, GridAxes]:
    """Grid and axes of an activation from its layout.

    Parameters
    ----------
    layout
        Of the activation.
    input_shape
        Spatial shape of the input that the layout's positions refer to.

    Raises
    ------
    NoLayoutError
        If the positions do not form a regular grid along the input's axes.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> grid, axes = read_grid(input_layout((1, 2, 4, 4)), (4, 4))
    >>> grid.stride, grid.offset, axes.identity
    ((1.0, 1.0), (0.0, 0.0), True)
    """
    if any(not dim.positional and not _in_batch(dim) for dim in layout.dims):
        # with channels in a dimension of their own, copies along an axis are a finer grid
        for index, dim in enumerate(layout.dims):
            layout = layout if dim.ragged or _in_batch(dim) else subdivided(layout, index)
    for axis in range(layout.rank):
        layout = centred(layout, axis)
    placed = _digits(layout)
    batch = [p for p in placed if p.digit.batch]
    channel = [p for p in placed if not p.digit.batch and not p.digit.positional]
    channel = [p for p in channel if p.axis is None]
    along = [_along(placed, axis) for axis in range(layout.rank)]
    order = [*batch, *channel, *(p for axis in along for p in axis)]
    if len(batch) > 1:
        raise NoLayoutError("the batch is spread over several dimensions")
    whole = [_whole(axis) for axis in along]
    channels = 1
    for p in channel:
        channels *= p.digit.size
    grid_shape = tuple(digit.size if digit else 1 for digit in whole)
    drop = tuple(
        (index, dim.lead, dim.lead + dim.inner)
        for index, dim in enumerate(layout.dims)
        if dim.ragged
    )
    split: list[list[int]] = [[] for _ in layout.dims]
    for p in placed:
        split[p.dim].append(-1 if p.digit.batch else p.digit.size)
    places = [p.place for p in order]
    if not batch:  # there is one sample
        split = [[-1, *split[0]], *split[1:]] if split else [[-1]]
        places = [0, *(place + 1 for place in places)]
    grid, flip, roll = _grid(layout, whole, along, grid_shape, input_shape)
    shape = (-1, channels, *grid_shape)
    axes = GridAxes(drop, tuple(map(tuple, split)), tuple(places), shape, flip, roll)
    return grid, axes


def _in_batch(dim: Dim) -> bool:
    return any(digit.batch for digit in dim.digits)


def _digits(layout: Layout) -> list[_Placed]:
    """List all digits, those of size one only where they tell a stride."""
    placed: list[_Placed] = []
    batches = [d for dim in layout.dims for d in dim.digits if d.batch and d.size > 1]
    for index, dim in enumerate(layout.dims):
        for digit in dim.digits or (Digit(1, (Fraction(0),) * layout.rank),):
            walks = [axis for axis, step in enumerate(digit.vector) if step]
            if len(walks) > 1 and digit.size > 1:
                raise NoLayoutError("a dimension walks along several axes at once")
            if digit.batch and digit.size == 1 and (batches or any(p.digit.batch for p in placed)):
                digit = Digit(1, digit.vector)
            axis = walks[0] if len(walks) == 1 else None
            placed.append(_Placed(digit, len(placed), index, axis))
    return placed


def _along(placed: list[_Placed], axis: int) -> list[_Placed]:
    """Return the digits that walk along one axis, the longest steps first."""
    own = [p for p in placed if p.axis == axis and not p.digit.batch]
    return sorted(own, key=lambda p: (-abs(p.step), p.digit.size == 1))


def _whole(axis: list[_Placed]) -> Digit | None:
    """Return the one digit that an axis amounts to."""
    digits = [p.digit for p in axis if p.digit.size > 1] or [p.digit for p in axis[:1]]
    if not digits:
        return None
    together: Digit | None = digits[0]
    for outer, inner in pairwise(digits):
        assert together is not None
        together = chained(outer, inner) and Digit(together.size * inner.size, inner.vector)
        if together is None:
            raise NoLayoutError("the positions along an axis are not evenly spaced")
    return together


def _grid(
    layout: Layout,
    whole: list[Digit | None],
    along: list[list[_Placed]],
    shape: tuple[int, ...],
    input_shape: tuple[int, ...],
) -> tuple[LayerGrid, tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Turn everything forward and undo rolls."""
    stride: list[float] = []
    offset: list[float] = []
    flip: list[int] = []
    roll: list[tuple[int, int]] = []
    slack = [max(a, b) for a, b in zip(layout.below, layout.above, strict=True)]
    for axis, digit in enumerate(whole):
        length = Fraction(input_shape[axis])
        step = digit.vector[axis] if digit else min(layout.extent[axis] or length, length)
        start = layout.offset[axis]
        if step < 0:
            flip.append(2 + axis)
            start, step = start + step * (shape[axis] - 1), -step
        if layout.rolled[axis] and shape[axis] > 1:
            turned, start, slip = _unrolled(
                start, step, shape[axis], layout.rolled[axis], input_shape[axis]
            )
            roll.append((2 + axis, turned))
            slack[axis] += slip
        stride.append(float(step))
        offset.append(float(start))
    grid = LayerGrid(
        stride=tuple(stride),
        offset=tuple(offset),
        shape=shape,
        input_shape=input_shape,
        uncertainty=tuple(map(float, slack)),
        origin="layout",
        note="; ".join(layout.notes),
    )
    return grid, tuple(flip), tuple(roll)


def _unrolled(
    start: Fraction, step: Fraction, size: int, rolled: Fraction, length: int
) -> tuple[int, Fraction, Fraction]:
    """How an axis is turned back, where it begins then, and how far off what had left it may be.

    Parameters
    ----------
    start, step, size
        Places along the axis, those that went around one end reckoned beyond it.
    rolled
        How far the image was moved.
    length
        Of the image.

    Examples
    --------
    >>> _unrolled(Fraction(-4), Fraction(2), 8, Fraction(-4), 16) == (-2, 0, 0)
    True
    >>> _unrolled(Fraction(-3), Fraction(2), 8, Fraction(-3), 16) == (-2, 1, 0)
    True
    """
    places = rolled / step
    if places.denominator == 1:
        return int(places), start - rolled, Fraction(0)
    half = Fraction(1, 2)
    if rolled < 0:
        gone = sum(start + step * index < -half for index in range(size))
        turned = -gone
    else:
        gone = sum(start + step * index > length - half for index in range(size))
        turned = gone
    return turned, start - turned * step, abs(size * step - length)


def even_grid(shape: tuple[int, ...], input_shape: tuple[int, ...], note: str) -> LayerGrid:
    """Grid that spans the input evenly, for want of anything better.

    Examples
    --------
    >>> even_grid((4,), (16,), "").offset
    (1.5,)
    """
    stride = tuple(n / m for n, m in zip(input_shape, shape, strict=True))
    return LayerGrid(
        stride=stride,
        offset=tuple((step - 1) / 2 for step in stride),
        shape=shape,
        input_shape=input_shape,
        uncertainty=stride,
        origin="even",
        note=note,
    )

"""How layouts move: what operators along dimensions and views do to positions.

With v the vector of a dimension's digit, an operator along that dimension of which entry j of the
result stands for entry ``shift + scale * j`` of its argument does

    offset += v * shift        v *= scale        radius += |v| * reach

and a sum over the dimension leaves its centre, ``offset += v * (size - 1) / 2``. Views only regroup
digits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from respondcam.network.layout.digits import Digit, Dim, Layout, NoLayoutError, moved, zero

WINDOWS = "a window along the axis is read as channels, which lie around its middle"


def chained(outer: Digit, inner: Digit) -> Digit | None:
    """Return the one digit that two neighbouring digits amount to, or None.

    Examples
    --------
    >>> chained(Digit(3, (Fraction(4),)), Digit(4, (Fraction(1),))).size
    12
    """
    if outer.batch == inner.batch and outer.vector == moved(
        zero(len(inner.vector)), inner.vector, inner.size
    ):
        return replace(inner, size=outer.size * inner.size)
    return None


def coalesced(digits: Iterable[Digit]) -> tuple[Digit, ...]:
    """Merge neighbouring digits that amount to one.

    Examples
    --------
    >>> len(coalesced([Digit(3, (Fraction(4),)), Digit(4, (Fraction(1),))]))
    1
    """
    merged: list[Digit] = []
    for digit in digits:
        together = chained(merged[-1], digit) if merged else None
        merged[-1:] = [together] if together else [*merged[-1:], digit]
    return tuple(merged)


def subdivided(layout: Layout, index: int) -> Layout:
    """Read copies of a positional digit (repeated voxels, depth to space) as the finer grid.

    A digit without positions that follows one with a step v divides that step: k values at the same
    position become k positions v / k apart, around it.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> copies = Dim((Digit(4, (Fraction(1),)), Digit(2, (Fraction(0),))))
    >>> finer = subdivided(input_layout((1, 1, 8)).with_dim(2, copies), 2)
    >>> finer.offset, finer.dims[2].digits
    ((Fraction(-1, 4),), (Digit(size=8, vector=(Fraction(1, 2),), batch=False),))
    """
    digits: list[Digit] = []
    for digit in layout.dims[index].digits:
        step = digits[-1].vector if digits else digit.vector
        if digit.batch or digit.size == 1 or any(digit.vector) or not any(step):
            digits.append(digit)
            continue
        finer = tuple(component / digit.size for component in step)
        layout = layout.shifted(finer, Fraction(1 - digit.size, 2))
        digits.append(replace(digit, vector=finer))
    if tuple(digits) == layout.dims[index].digits:
        return layout
    return layout.with_dim(index, replace(layout.dims[index], digits=coalesced(digits)))


def centred(layout: Layout, axis: int) -> Layout:
    """Read windows along an axis by their middles, where they overlap or leave gaps.

    What numbers the entries of a window counts as channels then, which lie as far from the middle
    as the window reaches. Where there are as many windows as entries nobody knows which is which.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> windows = Dim((Digit(6, (Fraction(1),)),)), Dim((Digit(3, (Fraction(1),)),))
    >>> both = replace(input_layout((1, 1, 8)), dims=windows)
    >>> centred(both, 0).offset, centred(both, 0).above
    ((Fraction(1, 1),), (Fraction(1, 1),))
    """
    walks = [
        (index, number, digit)
        for index, dim in enumerate(layout.dims)
        for number, digit in enumerate(dim.digits)
        if digit.size > 1 and digit.vector[axis]
    ]
    if len(walks) != 2 or walks[0][2].size == walks[1][2].size:
        return layout
    outer, inner = sorted((digit for _, _, digit in walks), key=lambda d: -abs(d.vector[axis]))
    if chained(outer, inner):
        return layout
    index, number, digit = min(walks, key=lambda walk: walk[2].size)
    half = Fraction(digit.size - 1, 2)
    layout = layout.shifted(digit.vector, half).uncertain(digit.vector, half)
    layout = replace(layout, notes=(*layout.notes, WINDOWS))
    digits = list(layout.dims[index].digits)
    digits[number] = Digit(digit.size, zero(layout.rank), digit.batch)
    return layout.with_dim(index, replace(layout.dims[index], digits=tuple(digits)))


def single(layout: Layout, index: int) -> Layout:
    """Write one dimension with exactly one digit, as operators along that dimension need it.

    Entries without a position at the ends count as padding.

    Raises
    ------
    NoLayoutError
        If the dimension steps unevenly, for example tokens of several axes.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> layout = input_layout((1, 2, 8))
    >>> single(layout, 2) == layout
    True
    """
    index %= len(layout.dims)
    layout = subdivided(layout, index)
    dim = layout.dims[index]
    digits = [digit for digit in dim.digits if digit.size > 1] or list(dim.digits[:1])
    if not digits:
        digits = [Digit(1, zero(layout.rank))]
    whole = digits[-1]
    for outer in reversed(digits[:-1]):
        together = chained(outer, whole)
        if together is None:
            raise NoLayoutError("a dimension holds several axes or steps unevenly")
        whole = together
    if dim.ragged:
        layout = layout.shifted(whole.vector, -dim.lead)
        whole = replace(whole, size=dim.size)
    return layout.with_dim(index, Dim((whole,)))


def resampled(
    layout: Layout,
    index: int,
    size: int,
    *,
    scale: Fraction | int = 1,
    shift: Fraction | int = 0,
    reach: Fraction | int = 0,
) -> Layout:
    """Layout after an operator along one dimension.

    Entry j of the result stands for entry ``shift + scale * j`` of the argument, and depends on
    entries up to `reach` on either side of it.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> pooled = resampled(input_layout((1, 1, 8)), 2, 4, scale=2, shift=Fraction(1, 2))
    >>> pooled.offset, pooled.dims[2].digits[0].vector
    ((Fraction(1, 2),), (Fraction(2, 1),))
    """
    index %= len(layout.dims)
    layout = single(layout, index)
    digit = layout.dims[index].digits[0]
    layout = layout.shifted(digit.vector, shift).widened(digit.vector, reach)
    vector = tuple(component * scale for component in digit.vector)
    return layout.with_dim(index, Dim((Digit(size, vector, digit.batch),)))


def contracted(layout: Layout, index: int) -> Layout:
    """Layout after everything along one dimension is summed: its centre, with one entry left.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> contracted(input_layout((1, 1, 8)), 2).offset
    (Fraction(7, 2),)
    """
    kept: list[Digit] = []
    extent = tuple(
        max(left, spanned(layout, axis)) if left else left
        for axis, left in enumerate(layout.extent)
    )
    layout = replace(layout, extent=extent)
    for digit in layout.dims[index].digits:
        half = Fraction(digit.size - 1, 2)
        if half and any(digit.vector):
            layout = layout.shifted(digit.vector, half).widened(digit.vector, half)
        whole = tuple(component * digit.size for component in digit.vector)
        if any(whole) or digit.batch:
            kept.append(Digit(1, whole, digit.batch and digit.size == 1))
    return layout.with_dim(index, Dim(tuple(kept)))


def spanned(layout: Layout, axis: int, step: Fraction | int = 0) -> Fraction:
    """How much of one axis a layout covers: its digits, counting voxels whole, wherever they are.

    Where branches disagreed about the place, that is all that they may cover.

    Parameters
    ----------
    layout
        The layout.
    axis
        Of the input.
    step
        What a single voxel covers, where no digit is left that tells.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> spanned(input_layout((1, 1, 8)), 0)
    Fraction(8, 1)
    """
    digits = [digit for dim in layout.dims for digit in dim.digits]
    span = max((abs(d.vector[axis]) * d.size for d in digits), default=Fraction(0))
    return (span or step) + layout.below[axis] + layout.above[axis]


def cut(layout: Layout, dim: Dim) -> Layout:
    """Remember how much is left along the axes of a dimension of which entries were taken.

    That is what the digits that are left span or, without any, the step between the entries.

    Parameters
    ----------
    layout
        Of the entries that were taken.
    dim
        The dimension, before.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> layout = input_layout((1, 1, 8))
    >>> cut(without(layout, 2), layout.dims[2]).extent
    (Fraction(1, 1),)
    """
    extent = list(layout.extent)
    for axis in range(layout.rank):
        steps = [abs(digit.vector[axis]) for digit in dim.digits if digit.vector[axis]]
        if steps:
            extent[axis] = spanned(layout, axis, min(steps))
    return replace(layout, extent=tuple(extent))


def without(layout: Layout, index: int) -> Layout:
    """Return the layout without one of its dimensions.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> without(input_layout((1, 1, 8)), 1).shape
    (1, 8)
    """
    index %= len(layout.dims)
    return replace(layout, dims=(*layout.dims[:index], *layout.dims[index + 1 :]))


def reshaped(layout: Layout, shape: Sequence[int]) -> Layout:
    """Regroup digits into dimensions of the given sizes, in row-major order.

    Raises
    ------
    NoLayoutError
        If a boundary of the new shape cuts through a digit.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> reshaped(input_layout((1, 1, 8)), (2, 4)).dims[0].digits[-1].vector
    (Fraction(4, 1),)
    """
    if layout.shape == tuple(shape):
        return layout
    queue: list[Digit | Dim] = []
    for dim in layout.dims:
        queue.extend([dim] if dim.ragged else dim.digits)
    dims = [_take(queue, size) for size in shape]
    rest = [item for item in queue if isinstance(item, Digit)]
    if len(rest) != len(queue) or any(digit.size > 1 for digit in rest):
        raise NoLayoutError("a view to a shape of another size")
    if dims and rest and not dims[-1].ragged:
        dims[-1] = Dim((*dims[-1].digits, *rest))
    return replace(layout, dims=tuple(dims))


def _take(queue: list[Digit | Dim], size: int) -> Dim:
    """Take digits for one dimension of `size` entries from the front of the queue."""
    taken: list[Digit] = []
    need = size
    if size == 1 and queue and isinstance(queue[0], Digit) and queue[0].size == 1:
        taken.append(queue.pop(0))  # type: ignore[arg-type]
    while need > 1:
        if not queue:
            raise NoLayoutError("a view to a shape of another size")
        first = queue.pop(0)
        if isinstance(first, Dim):
            if first.size != need or any(digit.size > 1 for digit in taken):
                raise NoLayoutError("a view that merges tokens with and without a position")
            return first
        if need % first.size == 0:
            taken.append(first)
            need //= first.size
        elif first.size % need == 0:
            rest = first.size // need
            outer = tuple(component * rest for component in first.vector)
            taken.append(Digit(need, outer, first.batch))
            queue.insert(0, replace(first, size=rest))
            need = 1
        else:
            second = queue.pop(0) if queue else None
            together = chained(first, second) if isinstance(second, Digit) else None
            if together is None:
                raise NoLayoutError("a view that cuts through an axis")
            queue.insert(0, together)
    return Dim(coalesced(taken))

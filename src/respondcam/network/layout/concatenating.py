"""Concatenations: of channels, of slices, of parts of an axis, of tokens without a position."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from respondcam.network.layout.digits import Digit, Dim, Layout, NoLayoutError, Vector, moved, zero
from respondcam.network.layout.joining import agreed, foremost, joined
from respondcam.network.layout.moves import single


def concatenated(parts: Sequence[Layout | int], index: int, shape: Sequence[int]) -> Layout:
    """Layout of a concatenation along one dimension.

    Parameters
    ----------
    parts
        Layout of each part, or its number of entries where it does not depend on the input.
    index
        The dimension.
    shape
        Of the result.

    Raises
    ------
    NoLayoutError
        If the parts do not continue each other along a dimension that stands for positions.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> layout = input_layout((1, 2, 4))
    >>> concatenated([layout, layout], 1, (1, 4, 4)).shape
    (1, 4, 4)
    """
    index %= len(shape)
    laid = foremost([part for part in parts if isinstance(part, Layout)])
    placed = [part for part in laid if part.dims[index].positional or part.dims[index].ragged]
    if not placed:
        return _stacked(laid, index, shape)
    if len(placed) == 1:
        return _between(parts, placed[0], index)
    if len(placed) == len(parts):
        return _continued(placed, index)
    raise NoLayoutError("a concatenation of tokens from several places")


def _stacked(laid: Sequence[Layout], index: int, shape: Sequence[int]) -> Layout:
    """Concatenate along a dimension without positions, such as channels; or stack slices."""
    batch = any(digit.batch for layout in laid for digit in layout.dims[index].digits)
    whole = [layout.with_dim(index, Dim()) for layout in laid]
    outer = tuple(1 if place == index else size for place, size in enumerate(shape))
    digits = _even_digits(whole) if len(laid) == shape[index] else None
    if digits is not None:
        together = replace(agreed([replace(x, offset=whole[0].offset) for x in whole]))
        return together.with_dim(index, Dim(digits))
    together = joined(whole, outer)
    return together.with_dim(index, Dim((Digit(shape[index], zero(together.rank), batch),)))


def _even_digits(parts: Sequence[Layout]) -> tuple[Digit, ...] | None:
    """Digits that number the parts where they continue each other.

    Such as slices stacked again, or tokens after a loop over them. Along an axis that the parts
    walk along themselves they are windows, of which there must be more than a window has entries:
    a few parts that have most of the axis are neighbours put side by side.
    """
    if len(parts) < 2 or any(part.dims != parts[0].dims for part in parts):
        return None
    if any(part.family for part in parts):
        return None
    own = [digit for dim in parts[0].dims for digit in dim.digits if digit.size > 1]
    entries = [prod(d.size for d in own if d.vector[axis]) for axis in range(parts[0].rank)]
    digits = _numbering([part.offset for part in parts])
    many = all(
        any(
            component and (entries[axis] == 1 or digit.size > entries[axis])
            for axis, component in enumerate(digit.vector)
        )
        for digit in digits or ()
    )
    return digits if many else None


def _numbering(places: Sequence[Vector]) -> tuple[Digit, ...] | None:
    """Digits, the slowest first, that number places in this order; None if there are none.

    Examples
    --------
    >>> from fractions import Fraction
    >>> one, two = (Fraction(1), Fraction(0)), (Fraction(0), Fraction(2))
    >>> rows = [moved(moved(zero(2), one, i), two, j) for i in range(2) for j in range(3)]
    >>> [digit.size for digit in _numbering(rows)]
    [2, 3]
    """
    if len(places) == 1:
        return ()
    step = moved(places[1], places[0], -1)
    steps = [place == moved(places[0], step, n) for n, place in enumerate(places)]
    size = steps.index(False) if False in steps else len(places)
    if any(p != moved(places[n - n % size], step, n % size) for n, p in enumerate(places)):
        return None
    outer = _numbering(places[::size])
    return None if outer is None or len(places) % size else (*outer, Digit(size, step))


def _between(parts: Sequence[Layout | int], middle: Layout, index: int) -> Layout:
    """Entries without a position before and after those that have one."""
    sizes = [part if isinstance(part, int) else part.dims[index].size for part in parts]
    place = next(number for number, part in enumerate(parts) if part is middle)
    dim = middle.dims[index]
    lead, trail = sum(sizes[:place]), sum(sizes[place + 1 :])
    return middle.with_dim(index, replace(dim, lead=dim.lead + lead, trail=dim.trail + trail))


def _continued(parts: Sequence[Layout], index: int) -> Layout:
    """Parts that continue each other along an axis."""
    parts = [single(part, index) for part in parts]
    first, done = parts[0], 0
    digit = first.dims[index].digits[0]
    for part in parts:
        expected = first.shifted(digit.vector, done).offset
        rest = part.with_dim(index, Dim())
        same = part.offset == expected and rest.dims == first.with_dim(index, Dim()).dims
        if not same or part.dims[index].digits[0].vector != digit.vector:
            raise NoLayoutError("a concatenation of parts that do not continue each other")
        done += part.dims[index].size
    level = [replace(part, offset=first.offset, dims=first.dims) for part in parts]
    return agreed(level).with_dim(index, Dim((replace(digit, size=done),)))

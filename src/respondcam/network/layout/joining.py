"""Layouts that meet: sums, products and concatenations of branches.

Their digits are refined to the same sizes, each axis of the input is decided by itself
(`respondcam.network.layout.verdicts`), and the axes are put together again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from respondcam.network.layout.digits import Digit, Dim, Family, Layout, NoLayoutError, zero
from respondcam.network.layout.moves import coalesced
from respondcam.network.layout.verdicts import Claim, Verdict, judge


def joined(
    layouts: Sequence[Layout], shape: Sequence[int], *, mostly_first: bool = False
) -> Layout:
    """Layout of an elementwise combination of tensors, broadcast to `shape`.

    Parameters
    ----------
    layouts
        Of the branches.
    shape
        Of the result.
    mostly_first
        Whether most entries are the first branch's alone, so that it needs no middle with others.

    Raises
    ------
    NoLayoutError
        If the dimensions of the branches number their entries in ways that do not fit together.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> layout = input_layout((1, 1, 4))
    >>> both = joined([layout, layout.shifted((Fraction(1),), 1)], (1, 1, 4))
    >>> both.offset, both.above
    ((Fraction(1, 2),), (Fraction(1, 2),))
    """
    layouts = foremost(layouts)
    first = layouts[0]
    if len(layouts) == 1 and first.shape == tuple(shape):
        return first
    if all(
        layout.dims == first.dims and layout.offset == first.offset for layout in layouts
    ) and first.shape == tuple(shape):
        return agreed(layouts)
    columns = [
        _common([_dim_at(layout, index - len(shape)) for layout in layouts], size, first.rank)
        for index, size in enumerate(shape)
    ]
    claims = [_claims(layouts, columns, axis) for axis in range(first.rank)]
    verdicts = [judge(one, mostly_first=mostly_first) for one in claims]
    return _assembled(layouts, columns, verdicts)


def foremost(layouts: Sequence[Layout]) -> list[Layout]:
    """Keep the layouts that refer to the foremost input among those that resolve positions.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> first, second = input_layout((1, 1, 1)), input_layout((1, 1, 4), frame=1)
    >>> [layout.frame for layout in foremost([first, second])]
    [1]
    """
    able = [layout for layout in layouts if any(dim.positional for dim in layout.dims)]
    frame = min(layout.frame for layout in able or layouts)
    return [layout for layout in layouts if layout.frame == frame]


def agreed(layouts: Sequence[Layout]) -> Layout:
    """Layout of branches that are at the same place.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> layout = input_layout((1, 1, 4))
    >>> agreed([layout, layout]) == layout
    True
    """
    first = layouts[0]
    return replace(
        first,
        radius=tuple(max(column) for column in zip(*(x.radius for x in layouts), strict=True)),
        below=tuple(max(column) for column in zip(*(x.below for x in layouts), strict=True)),
        above=tuple(max(column) for column in zip(*(x.above for x in layouts), strict=True)),
        extent=tuple(
            max(column) if all(column) else Fraction(0)
            for column in zip(*(x.extent for x in layouts), strict=True)
        ),
        family=first.family if all(x.family == first.family for x in layouts) else None,
        notes=_notes(layouts),
    )


def _notes(layouts: Sequence[Layout], *more: str) -> tuple[str, ...]:
    every = [note for layout in layouts for note in layout.notes]
    return tuple(dict.fromkeys([*every, *(note for note in more if note)]))


def _dim_at(layout: Layout, index: int) -> Dim:
    """Return a dimension counted from the end; those that are missing have one entry."""
    return layout.dims[index] if -index <= len(layout.dims) else Dim()


@dataclass(frozen=True)
class _Column:
    """One dimension of the result: the digits of each branch, refined to the same sizes."""

    rows: tuple[tuple[Digit, ...], ...]
    lead: int
    trail: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(digit.size for digit in self.rows[0])


def _common(dims: Sequence[Dim], size: int, rank: int) -> _Column:
    """Refine the digits of one dimension of every branch to common sizes."""
    ragged = next((dim for dim in dims if dim.ragged), None)
    lead, trail = (ragged.lead, ragged.trail) if ragged else (0, 0)
    inner = size - lead - trail
    rows: list[list[Digit]] = []
    for dim in dims:
        if dim.size == 1 and size > 1:
            rows.append([Digit(inner, zero(rank))])  # broadcast
        elif (dim.lead, dim.trail) == (lead, trail):
            rows.append(list(dim.digits) or [Digit(1, zero(rank))])
        elif not dim.positional and not dim.ragged:
            rows.append([Digit(inner, zero(rank))])
        else:
            raise NoLayoutError("token sequences of different make-up meet")
    while not all(_aligned(rows[0], row) for row in rows[1:]):
        rows = _refined(rows)
    return _Column(tuple(tuple(row) for row in rows), lead, trail)


def _aligned(a: Sequence[Digit], b: Sequence[Digit]) -> bool:
    return [digit.size for digit in a] == [digit.size for digit in b]


def _refined(rows: Sequence[Sequence[Digit]]) -> list[list[Digit]]:
    """Split all rows at the boundaries that any of them has."""
    boundaries: set[int] = set()
    for row in rows:
        inner = 1
        for digit in reversed(row):
            inner *= digit.size
            boundaries.add(inner)
    marks = sorted(boundaries | {1}, reverse=True)
    if any(outer % inner for outer, inner in pairwise(marks)):
        raise NoLayoutError("branches that meet number their entries differently")
    return [_split(row, marks) for row in rows]


def _split(row: Sequence[Digit], marks: Sequence[int]) -> list[Digit]:
    """Split digits so that their place values are exactly `marks`, from high to low."""
    places: dict[int, Digit] = {}
    inner = 1
    for digit in reversed(row):
        if digit.size > 1:
            places[inner] = digit
        inner *= digit.size
    split: list[Digit] = []
    for outer, mark in pairwise(marks):
        place = max(value for value in places if value <= mark)
        digit = places[place]
        vector = tuple(component * (mark // place) for component in digit.vector)
        split.append(Digit(outer // mark, vector, digit.batch))
    return split


def _claims(layouts: Sequence[Layout], columns: Sequence[_Column], axis: int) -> list[Claim]:
    sizes = tuple(size for column in columns for size in column.sizes)
    claims: list[Claim] = []
    for number, layout in enumerate(layouts):
        digits = [digit for column in columns for digit in column.rows[number]]
        steps = tuple(digit.vector[axis] for digit in digits)
        claims.append(Claim(layout, axis, steps, sizes))
    return claims


def _assembled(
    layouts: Sequence[Layout], columns: Sequence[_Column], verdicts: Sequence[Verdict]
) -> Layout:
    """Put the axes together again."""
    dims: list[Dim] = []
    number = 0
    for column in columns:
        digits: list[Digit] = []
        for index, size in enumerate(column.sizes):
            vector = tuple(verdict.steps[number] for verdict in verdicts)
            digits.append(Digit(size, vector, any(row[index].batch for row in column.rows)))
            number += 1
        dims.append(Dim(coalesced(digits), column.lead, column.trail))
    families = [verdict.family for verdict in verdicts]
    known = [family for family in families if family]
    return Layout(
        frame=layouts[0].frame,
        dims=tuple(dims),
        offset=tuple(verdict.offset for verdict in verdicts),
        radius=tuple(verdict.radius for verdict in verdicts),
        below=tuple(verdict.offset - verdict.low for verdict in verdicts),
        above=tuple(verdict.high - verdict.offset for verdict in verdicts),
        rolled=tuple(verdict.rolled for verdict in verdicts),
        extent=tuple(verdict.extent for verdict in verdicts),
        family=Family(
            known[0][0],
            tuple(family[1] for family in known),
            tuple(family[2] for family in known),
        )
        if known and len(known) == len(families)
        else None,
        notes=_notes(layouts, *(verdict.note for verdict in verdicts)),
    )

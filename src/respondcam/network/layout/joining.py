"""Layouts that meet: sums, products and concatenations of branches.

Per axis of the input the branch that resolves the axis decides (a broadcast gate does not). Where
several do and disagree, the branch with the smallest radius decides, since it has the least room
for anything else, and the disagreement is kept as an interval. Branches of the same radius, such as
neighbouring slices, stand for the middle of what they span. So do the phases of one tensor, strided
slices of it less than a stride apart, and they do not disagree: together they are its voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from respondcam.network.layout.digits import Digit, Dim, Family, Layout, NoLayoutError, zero
from respondcam.network.layout.moves import coalesced, spanned

CONFLICT = "branches that meet disagree about the place"
STRIDES = "branches that meet have different strides"


@dataclass(frozen=True)
class _Claim:
    """What one branch says about one axis; `steps` has one entry per digit of the result."""

    layout: Layout
    axis: int
    steps: tuple[Fraction, ...]
    sizes: tuple[int, ...]

    @property
    def resolves(self) -> bool:
        return any(step and size > 1 for step, size in zip(self.steps, self.sizes, strict=True))

    @property
    def offset(self) -> Fraction:
        return self.layout.offset[self.axis]

    @property
    def radius(self) -> Fraction:
        return self.layout.radius[self.axis]

    @property
    def interval(self) -> tuple[Fraction, Fraction]:
        low = self.offset - self.layout.below[self.axis]
        return low, self.offset + self.layout.above[self.axis]

    @property
    def spread(self) -> Fraction:
        return self.layout.below[self.axis] + self.layout.above[self.axis]

    @property
    def stride(self) -> Fraction:
        """Shortest step along the axis, where the branch resolves it."""
        steps = zip(self.steps, self.sizes, strict=True)
        return min(abs(step) for step, size in steps if step and size > 1)

    @property
    def hull(self) -> tuple[Fraction, Fraction] | None:
        """Where a part that was cut from the axis begins and ends; None if it was not cut."""
        extent = self.layout.extent[self.axis]
        if not extent:
            return None
        half = (max(extent, spanned(self.layout, self.axis)) - self.spread) / 2
        low, high = self.interval
        to_middle = (self.last - self.offset) / 2
        return low + to_middle - half, high + to_middle + half

    @property
    def last(self) -> Fraction:
        steps = zip(self.steps, self.sizes, strict=True)
        return self.offset + sum((step * (size - 1) for step, size in steps), Fraction(0))


@dataclass(frozen=True)
class _Verdict:
    """Where one axis of the result is."""

    steps: tuple[Fraction, ...]
    offset: Fraction
    radius: Fraction
    low: Fraction
    high: Fraction
    rolled: Fraction
    extent: Fraction
    family: tuple[object, Fraction, Fraction] | None = None
    note: str = ""


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
    verdicts = [_judge(one, mostly_first) for one in claims]
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


def _claims(layouts: Sequence[Layout], columns: Sequence[_Column], axis: int) -> list[_Claim]:
    sizes = tuple(size for column in columns for size in column.sizes)
    claims: list[_Claim] = []
    for number, layout in enumerate(layouts):
        digits = [digit for column in columns for digit in column.rows[number]]
        steps = tuple(digit.vector[axis] for digit in digits)
        claims.append(_Claim(layout, axis, steps, sizes))
    return claims


def _judge(claims: Sequence[_Claim], mostly_first: bool) -> _Verdict:
    """Decide one axis."""
    able = [claim for claim in claims if claim.resolves]
    if not able:
        return _verdict(max(reversed(claims), key=_told), claims)
    first, axis = able[0], able[0].axis
    if all(claim.steps == first.steps for claim in able):
        families = [claim.layout.family for claim in able]
        tokens = {family.token if family else None for family in families}
        if len({claim.offset for claim in able}) == 1:
            return _verdict(first, able)
        if None not in tokens and len(tokens) == 1:
            phases = _spanned([family for family in families if family], axis)
            if phases[2] - phases[1] < first.stride:
                return _middle(able, phases)
        return _disputed(able, mostly_first)
    if any(_crossed(first, claim) for claim in able[1:]):
        return _verdict(first, [first])  # an outer product: the first factor is the query
    return _verdict(min(able, key=lambda claim: claim.radius), able, STRIDES)


def _told(claim: _Claim) -> tuple[Fraction, ...]:
    """How much a branch tells where no branch resolves the axis, so that there is one voxel.

    The largest step is its stride. Of what a loop carries along and what it takes up, such as the
    next token, the latter is where the voxel is: mostly it is written last (a h + x).
    """
    step = max(map(abs, claim.steps), default=Fraction(0))
    return step, -claim.spread, -sum(claim.layout.radius, Fraction(0))


def _crossed(a: _Claim, b: _Claim) -> bool:
    """Whether two branches resolve the axis along different dimensions of the result."""
    return not any(x and y for x, y in zip(a.steps, b.steps, strict=True))


def _verdict(chosen: _Claim, able: Sequence[_Claim], note: str = "") -> _Verdict:
    slack = max(abs(claim.last - claim.offset - chosen.last + chosen.offset) for claim in able)
    lows, highs = zip(*(claim.interval for claim in able), strict=True)
    family = chosen.layout.family
    return _Verdict(
        steps=chosen.steps,
        offset=chosen.offset,
        radius=max(claim.radius for claim in able),
        low=min(lows) - slack,
        high=max(highs) + slack,
        rolled=chosen.layout.rolled[chosen.axis],
        extent=_extent(able),
        family=(family.token, family.low[chosen.axis], family.high[chosen.axis])
        if family and not note
        else None,
        note=note,
    )


def _extent(claims: Sequence[_Claim]) -> Fraction:
    """How much of the axis branches cover together; 0 if one of them was not cut from it."""
    hulls = [claim.hull for claim in claims]
    parts = [hull for hull in hulls if hull is not None]
    if len(parts) < len(hulls):
        return Fraction(0)
    return max(end for _, end in parts) - min(begin for begin, _ in parts)


def _disputed(able: Sequence[_Claim], mostly_first: bool) -> _Verdict:
    """Branches that disagree: the one with the least room, or the middle of those that share it."""
    least = min(claim.radius for claim in able)
    nearest = [claim for claim in able if claim.radius == least]
    verdict = _verdict(nearest[0], able, CONFLICT)
    if mostly_first or len({claim.offset for claim in nearest}) == 1:
        return verdict
    lows, highs = zip(*(claim.interval for claim in nearest), strict=True)
    turns = [claim.layout.rolled[claim.axis] for claim in nearest]
    return replace(
        verdict,
        offset=(min(lows) + max(highs)) / 2,
        rolled=(min(turns) + max(turns)) / 2,
    )


def _spanned(families: Sequence[Family], axis: int) -> tuple[object, Fraction, Fraction]:
    """One axis of the family of several slices of one tensor."""
    low = min(family.low[axis] for family in families)
    return families[0].token, low, max(family.high[axis] for family in families)


def _middle(able: Sequence[_Claim], phases: tuple[object, Fraction, Fraction]) -> _Verdict:
    """Phases of one tensor: together they stand for the middle of what they span."""
    axis, (_, low, high) = able[0].axis, phases
    offset = (low + high) / 2
    return _Verdict(
        steps=able[0].steps,
        offset=offset,
        radius=max(claim.radius for claim in able) + (high - low) / 2,
        low=offset - max(claim.layout.below[axis] for claim in able),
        high=offset + max(claim.layout.above[axis] for claim in able),
        rolled=able[0].layout.rolled[axis],
        extent=_extent(able),
        family=phases,
    )


def _assembled(
    layouts: Sequence[Layout], columns: Sequence[_Column], verdicts: Sequence[_Verdict]
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

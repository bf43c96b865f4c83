"""Who is right where layouts meet, one axis of the input at a time.

The branch that resolves the axis decides (a broadcast gate does not). Where several do and
disagree, the branch with the smallest radius decides, since it has the least room for anything
else, and the disagreement is kept as an interval. Branches of the same radius, such as neighbouring
slices, stand for the middle of what they span. So do the phases of one tensor, strided slices of it
less than a stride apart, and they do not disagree: together they are its voxels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from respondcam.network.layout.digits import Family, Layout
from respondcam.network.layout.moves import spanned

CONFLICT = "branches that meet disagree about the place"
STRIDES = "branches that meet have different strides"


@dataclass(frozen=True)
class Claim:
    """What one branch says about one axis; `steps` has one entry per digit of the result.

    Parameters
    ----------
    layout, axis
        The branch, and the axis of the input.
    steps, sizes
        Of the digits of the result.
    """

    layout: Layout
    axis: int
    steps: tuple[Fraction, ...]
    sizes: tuple[int, ...]

    @property
    def resolves(self) -> bool:
        """Whether different entries are at different places along the axis."""
        return any(step and size > 1 for step, size in zip(self.steps, self.sizes, strict=True))

    @property
    def offset(self) -> Fraction:
        """Where the branch begins."""
        return self.layout.offset[self.axis]

    @property
    def radius(self) -> Fraction:
        """Half-width of what an entry can depend on."""
        return self.layout.radius[self.axis]

    @property
    def interval(self) -> tuple[Fraction, Fraction]:
        """Where the branch may begin."""
        low = self.offset - self.layout.below[self.axis]
        return low, self.offset + self.layout.above[self.axis]

    @property
    def spread(self) -> Fraction:
        """Width of that interval."""
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
        """Where the branch ends."""
        steps = zip(self.steps, self.sizes, strict=True)
        return self.offset + sum((step * (size - 1) for step, size in steps), Fraction(0))


@dataclass(frozen=True)
class Verdict:
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


def judge(claims: Sequence[Claim], *, mostly_first: bool) -> Verdict:
    """Decide one axis.

    Parameters
    ----------
    claims
        Of all branches.
    mostly_first
        Whether most entries are the first branch's alone.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> layout = input_layout((1, 1, 4))
    >>> branches = [layout, layout.shifted((Fraction(1),), 1)]
    >>> claims = [Claim(branch, 0, (Fraction(1),), (4,)) for branch in branches]
    >>> judge(claims, mostly_first=False).offset
    Fraction(1, 2)
    """
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


def _told(claim: Claim) -> tuple[Fraction, ...]:
    """How much a branch tells where no branch resolves the axis, so that there is one voxel.

    The largest step is its stride. Of what a loop carries along and what it takes up, such as the
    next token, the latter is where the voxel is: mostly it is written last (a h + x).
    """
    step = max(map(abs, claim.steps), default=Fraction(0))
    return step, -claim.spread, -sum(claim.layout.radius, Fraction(0))


def _crossed(a: Claim, b: Claim) -> bool:
    """Whether two branches resolve the axis along different dimensions of the result."""
    return not any(x and y for x, y in zip(a.steps, b.steps, strict=True))


def _verdict(chosen: Claim, able: Sequence[Claim], note: str = "") -> Verdict:
    slack = max(abs(claim.last - claim.offset - chosen.last + chosen.offset) for claim in able)
    lows, highs = zip(*(claim.interval for claim in able), strict=True)
    family = chosen.layout.family
    return Verdict(
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


def _extent(claims: Sequence[Claim]) -> Fraction:
    """How much of the axis branches cover together; 0 if one of them was not cut from it."""
    hulls = [claim.hull for claim in claims]
    parts = [hull for hull in hulls if hull is not None]
    if len(parts) < len(hulls):
        return Fraction(0)
    return max(end for _, end in parts) - min(begin for begin, _ in parts)


def _disputed(able: Sequence[Claim], mostly_first: bool) -> Verdict:
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


def _middle(able: Sequence[Claim], phases: tuple[object, Fraction, Fraction]) -> Verdict:
    """Phases of one tensor: together they stand for the middle of what they span."""
    axis, (_, low, high) = able[0].axis, phases
    offset = (low + high) / 2
    return Verdict(
        steps=able[0].steps,
        offset=offset,
        radius=max(claim.radius for claim in able) + (high - low) / 2,
        low=offset - max(claim.layout.below[axis] for claim in able),
        high=offset + max(claim.layout.above[axis] for claim in able),
        rolled=able[0].layout.rolled[axis],
        extent=_extent(able),
        family=phases,
    )

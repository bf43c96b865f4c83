"""The words of a figure: what was explained, how, and whether the map adds up."""

from dataclasses import dataclass

from respondcam._methods import BLIND
from respondcam._rounding import without_noise
from respondcam.show.theme import format_score, format_together, printable


@dataclass(frozen=True)
class AccountLine:
    """The score account of one map, in units of the score: score = baseline + mapped + gap.

    Examples
    --------
    >>> print(AccountLine(3.0, 0.5, 2.25, 0.25).sentence())
    score 3.000 = baseline 0.500 + mapped 2.250 + gap 0.250
    """

    score: float
    baseline: float
    mapped: float
    gap: float

    def terms(self) -> tuple[str, str, str, str]:
        """Write score, baseline, mapped and gap with equally many decimals, so that they add up."""
        gap = without_noise(self.gap, self.score - self.baseline)
        values = (self.score, self.baseline, self.mapped, gap)
        score, baseline, mapped, gap = format_together(values)
        return score, baseline, mapped, gap

    def sentence(self) -> str:
        """Write the account as one sum."""
        score, *rest = self.terms()
        baseline, mapped, gap = (f"({one})" if one.startswith("−") else one for one in rest)
        return f"score {score} = baseline {baseline} + mapped {mapped} + gap {gap}"


@dataclass(frozen=True)
class Caption:
    """What a figure says about itself; everything that is left out is not mentioned.

    Parameters
    ----------
    source
        Name of the file.
    target
        Name of the explained class or score.
    method, layer
        How the map was made.
    score
        Of the target, before softmax.
    account
        How score and map add up.
    why_empty
        The reason for a map that is zero everywhere, shown only with such a map.
    notes
        What else a reader should know, one line each.
    adds_up
        Whether the map's sum is meant to follow the score, so that its values are parts of it.
    has_image
        Whether there is an image below the map; of a blank in its place nothing is said.
    """

    source: str = ""
    target: str = ""
    method: str = ""
    layer: str = ""
    score: float | None = None
    account: AccountLine | None = None
    why_empty: str = ""
    notes: tuple[str, ...] = ()
    adds_up: bool = True
    has_image: bool = True

    def headline(self, most: int) -> str:
        """Name the file and the target in at most so many characters."""
        return _joined([self.source, self.target], most)

    def details(self, most: int) -> str:
        """Name the method, the layer and the score in at most so many characters."""
        layer = f"layer {self.layer}" if self.layer else ""
        score = "" if self.score is None else f"score {format_score(self.score)}"
        return _joined([self.method, layer, score], most)

    def scale(self, per: str = "voxel of the map") -> str:
        """Name what the colours stand for.

        Examples
        --------
        >>> Caption().scale(), Caption(method="eigen", adds_up=False).scale()
        ('score per voxel of the map', "eigen's own scale")
        """
        return f"score per {per}" if self.adds_up else f"{self.method}'s own scale"

    def ends(self) -> tuple[str, str]:
        """Name what values below and above zero do.

        Examples
        --------
        >>> Caption(method="grad").ends(), Caption(method="eigen").ends()
        (('lowers the score', 'raises the score'), ('low', 'high'))
        """
        if self.method in BLIND:
            return "low", "high"
        return "lowers the score", "raises the score"


def _joined(parts: list[str], most: int) -> str:
    """Join the parts; where that is too long, every long part gives way to its fair share."""
    parts = [part for part in parts if part]
    whole = printable(" · ".join(parts), 10**6)
    if len(whole) <= most:
        return whole
    room = max(1, most - 3 * (len(parts) - 1))
    short = [part for part in parts if len(part) <= room // len(parts)]
    share = (room - sum(map(len, short))) // max(1, len(parts) - len(short))
    return printable(" · ".join(printable(part, max(share, 3)) for part in parts), most)


NOTHING = Caption()

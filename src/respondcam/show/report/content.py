"""What a report is about: one volume, its maps, and all that a reader needs to judge them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from respondcam.show.caption import AccountLine, Caption
from respondcam.volume import Volume


@dataclass(frozen=True, eq=False)
class ReportMap:
    """One map and what it stands for.

    Parameters
    ----------
    volume
        The raw map on its own grid (z, y, x), in the world of the image.
    target
        Name of the class or score.
    layer, method
        How the map was made.
    score
        Of the target, before softmax; None where nobody knows.
    account
        How score and map add up.
    why_empty
        The reason for a map that is zero everywhere.
    notes
        What a reader should know, one line each.
    adds_up
        Whether the map's sum is meant to follow the score.
    limit
        Value of the strongest colours; None for the map's largest absolute value.
    """

    volume: Volume
    target: str
    layer: str
    method: str
    score: float | None = None
    account: AccountLine | None = None
    why_empty: str = ""
    notes: tuple[str, ...] = ()
    adds_up: bool = True
    limit: float | None = None

    def caption(self, source: str) -> Caption:
        """What stands above the map's figure or layer, with the name of the image."""
        return Caption(
            source=source,
            target=self.target,
            method=self.method,
            layer=self.layer,
            score=self.score,
            account=self.account,
            why_empty=self.why_empty,
            notes=self.notes,
            adds_up=self.adds_up,
        )


@dataclass(frozen=True)
class Table:
    """A table of the report, such as the evidence for a map.

    Parameters
    ----------
    title
        Its heading.
    columns
        Names.
    rows
        Cells, each row as long as `columns`; numbers are written in four digits.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything on one page.

    Parameters
    ----------
    name
        Of the volume, shown as the title.
    volume
        The image.
    maps
        At least one, in the order in which they are offered; the first one is shown first.
    facts
        Settings and digests needed to repeat it: (name, value).
    tables
        Evidence, where there is any.
    channel
        Of the volume.
    notes
        What a reader should know of all maps together.
    """

    name: str
    volume: Volume
    maps: Sequence[ReportMap]
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = field(default=())
    channel: int = 0
    notes: Sequence[str] = ()

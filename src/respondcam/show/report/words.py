"""The rows and sentences of a report, and the account as a small bar."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from markupsafe import Markup

from respondcam._rounding import without_noise
from respondcam.show.caption import AccountLine, Caption
from respondcam.show.notes import empty_map, mostly_open
from respondcam.show.report.content import ReportMap, Table
from respondcam.show.theme import format_score

_WIDTH, _HEIGHT = 176.0, 28.0  # of the bar, in pixels


@dataclass(frozen=True)
class Row:
    """One map in a table of accounts.

    Parameters
    ----------
    target, layer, method
        Which map.
    numbers
        Score, baseline, mapped, gap, and the gap as a share of the image's part, as text.
    bar
        The account as a picture; empty without one.
    """

    target: str
    layer: str
    method: str
    numbers: tuple[str, ...]
    bar: Markup


@dataclass(frozen=True)
class Cell:
    """One cell of a table of evidence."""

    text: str
    number: bool


def row(one: ReportMap) -> Row:
    """Write the account of one map."""
    account = one.account
    if account is None:
        score = "–" if one.score is None else format_score(one.score)
        return Row(one.target, one.layer, one.method, (score, "–", "–", "–", "–"), Markup(""))
    numbers = (*account.terms(), relative_gap(account))
    return Row(one.target, one.layer, one.method, numbers, account_svg(account))


def relative_gap(account: AccountLine) -> str:
    """Write the gap as a share of what the image contributed.

    Examples
    --------
    >>> relative_gap(AccountLine(3.0, 1.0, 1.9, 0.1)), relative_gap(AccountLine(1.0, 1.0, 0.0, 0.0))
    ('5 %', '0 %')
    >>> relative_gap(AccountLine(1.0, 0.0, 0.0009, 0.9991))
    '99.9 %'
    """
    part = abs(account.score - account.baseline)
    if not without_noise(account.gap, part):
        return "0 %"
    if not part:
        return "–"
    share = 100 * abs(account.gap) / part
    return f"{share:.2g} %" if share < 10 else f"{share:.3g} %" if share < 1000 else "> 1000 %"


def headline(one: ReportMap) -> str:
    """Name a map in one line."""
    return " · ".join([one.target, f"layer {one.layer}", one.method])


def sentence(one: ReportMap) -> str:
    """Write the account as a sum."""
    if one.account is not None:
        text = one.account.sentence()
        return f"{text[0].upper()}{text[1:]}"
    known = "" if one.score is None else f"Score {format_score(one.score)}. "
    return f"{known}No account is known for this map."


def alert(one: ReportMap) -> str:
    """Say that a map is zero everywhere, or leaves most of the score open; else nothing."""
    if one.volume.voxels.any():
        return mostly_open(one.account)
    return empty_map(Caption(why_empty=one.why_empty))


def account_svg(account: AccountLine) -> Markup:
    """Draw baseline, mapped and gap as steps from zero to the score.

    Examples
    --------
    >>> account_svg(AccountLine(3.0, 0.5, 2.25, 0.25)).count("<rect")
    3
    """
    before_gap = account.baseline + account.mapped
    steps = [
        ("baseline", 0.0, account.baseline),
        ("up" if account.mapped >= 0 else "down", account.baseline, before_gap),
        ("gap", before_gap, account.score),
    ]
    ends = [0.0, *(end for _, *pair in steps for end in pair)]
    low, high = min(ends), max(ends)
    scale = (_WIDTH - 4) / ((high - low) or 1.0)

    def x(value: float) -> float:
        return 2 + (value - low) * scale

    parts = []
    for number, (kind, start, end) in enumerate(steps):
        left, width = min(x(start), x(end)), abs(x(end) - x(start))
        if width > 0.3:  # pixels
            parts.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{2 + 8 * number}" width="{width:.1f}" '
                f'height="7"/>'
            )
    parts.append(f'<line x1="{x(0.0):.1f}" x2="{x(0.0):.1f}" y1="0" y2="{_HEIGHT:g}"/>')
    score = x(account.score)
    parts.append(f'<line x1="{score:.1f}" x2="{score:.1f}" y1="18" y2="{_HEIGHT:g}"/>')
    box = f'viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}"'
    title = Markup("<title>{}</title>").format(account.sentence())
    drawn = Markup("".join(parts))  # numbers only
    return Markup('<svg class="bar" role="img" {}>{}{}</svg>').format(Markup(box), title, drawn)


def cells(table: Table) -> Table:
    """Write the cells of a table: numbers in four digits, a dash for none, all else as text."""
    rows = [[_cell(value) for value in one] for one in table.rows]
    return Table(table.title, list(table.columns), rows)


def _cell(value: object) -> Cell:
    if not isinstance(value, Real) or isinstance(value, bool):  # NumPy's numbers are real too
        return Cell(str(value), False)
    whole = isinstance(value, Integral)
    if not math.isfinite(value):
        return Cell("–", True)
    return Cell(str(value) if whole else format_score(float(value)), True)


def all_notes(maps: Sequence[ReportMap], more: Sequence[str]) -> list[str]:
    """Give each note once, with the maps it holds for unless it holds for all."""
    holders: dict[str, list[str]] = {}
    for one in maps:
        for note in dict.fromkeys(one.notes):
            holders.setdefault(note, []).append(f"{one.target}, {one.layer}")
    found = list(dict.fromkeys(more))
    for note, names in holders.items():
        found.append(note if len(names) == len(maps) else f"{note} ({'; '.join(names)})")
    return found

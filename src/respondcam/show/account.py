"""The score account as a small bar chart: how baseline, map and gap add up to the score."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from respondcam.show.canvas import add_panel, write
from respondcam.show.caption import AccountLine
from respondcam.show.theme import Theme

ACCOUNT_HEIGHT = 0.95  # inches
_LABELS = 1.35  # inches left of the bars, for names and numbers
_HEADING = 0.2


def account_bar(
    figure: Figure, account: AccountLine, place: tuple[float, float, float], *, theme: Theme
) -> Axes:
    """Draw baseline, mapped and gap as steps that lead from zero to the score.

    Parameters
    ----------
    place
        Left, bottom and width in inches; the height is `ACCOUNT_HEIGHT`.

    Returns
    -------
    The axes of the bars: x in units of the score; its patches are, from above, the bars of
    baseline, mapped and gap, and of the score itself.

    Examples
    --------
    >>> from respondcam.show.canvas import new_figure
    >>> from respondcam.show.theme import theme_named
    >>> light = theme_named("light")
    >>> account = AccountLine(score=3.0, baseline=0.5, mapped=2.25, gap=0.25)
    >>> axes = account_bar(new_figure(5.0, 1.0, light), account, (0.0, 0.0, 5.0), theme=light)
    >>> [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    [(0.0, 0.5), (0.5, 2.25), (2.75, 0.25), (0.0, 3.0)]
    """
    left, bottom, width = place
    height = ACCOUNT_HEIGHT - _HEADING
    write(
        figure,
        left,
        bottom + height + 0.06,
        account.sentence(),
        size=theme.small_size,
        colour=theme.ink,
        bold=True,
    )
    axes = add_panel(figure, left + _LABELS, bottom, width - _LABELS, height)
    steps = _steps(account)
    ends = [end for _, start, length in steps for end in (start, start + length)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    pad = 0.02 * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(len(steps) - 0.5, -0.5)
    score, *parts = account.terms()
    for row, ((name, start, length), text) in enumerate(zip(steps, (*parts, score), strict=True)):
        axes.add_patch(_bar(name, row, start, length, theme))
        middle = bottom + height * (1 - (row + 0.5) / len(steps))
        _label(figure, (left, middle), name, text, theme)
    axes.axvline(0, color=theme.ink, linewidth=0.8, linestyle="solid")
    axes.axvline(account.score, color=theme.ink, linewidth=0.8, linestyle=(0, (2, 2)))
    zero = left + _LABELS + (width - _LABELS) * (pad - low) / (high - low + 2 * pad)
    size, muted = theme.small_size, theme.muted
    write(figure, zero, bottom - 0.02, "0", size=size, colour=muted, align=("center", "top"))
    return axes


def _steps(account: AccountLine) -> list[tuple[str, float, float]]:
    before_gap = account.baseline + account.mapped
    return [
        ("baseline", 0.0, account.baseline),
        ("mapped", account.baseline, account.mapped),
        ("gap", before_gap, account.gap),
        ("score", 0.0, account.score),
    ]


def _bar(name: str, row: int, start: float, length: float, theme: Theme) -> Rectangle:
    signed = theme.positive if length >= 0 else theme.negative
    fill = {"mapped": signed, "gap": "none", "score": theme.ink}.get(name, theme.muted)
    return Rectangle(
        (start, row - 0.36),
        length,
        0.72,
        facecolor=fill,
        edgecolor=theme.ink if name == "gap" else "none",
        linewidth=0.8 if length else 0.0,
    )


def _label(
    figure: Figure, place: tuple[float, float], name: str, number: str, theme: Theme
) -> None:
    left, middle = place
    size, ink = theme.small_size, theme.ink
    write(figure, left, middle, name, size=size, colour=ink, align=("left", "center"))
    right = left + _LABELS - 0.12
    write(figure, right, middle, number, size=size, colour=ink, align=("right", "center"))

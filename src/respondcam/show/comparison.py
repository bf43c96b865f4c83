"""The figure of a comparison: one panel per figure, one line per method, with intervals."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respondcam._words import counted, layer_named
from respondcam.evidence.comparison import METRICS, Compared, words_of
from respondcam.evidence.controls import CONTROLS
from respondcam.show.canvas import add_panel, write
from respondcam.show.caption import Caption
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.theme import Theme, format_score, printable, theme_named

_COLUMNS, _ROW, _HEAD, _FOOT, _GAP = 2, 0.17, 0.42, 0.3, 0.25  # inches but the first
_LABELS = 1.45  # inches left of a panel, for the methods' names
_ARROWS = {"higher": "higher is better", "lower": "lower is better", "": ""}
# shares and rates, likenesses, distances, and scores, which may be anything
_KINDS = ((0.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (-math.inf, math.inf))
_NARROWEST = 1e-2  # of the values: with less, both ends could print as the same three digits
_NOTHING = 1e-2  # of a share or a voxel: no axis is narrower
_OF_THE_SCORE = ("deletion", "insertion", "road")  # in its units, which may be small


def comparison_figure(
    rows: Sequence[Compared],
    *,
    images: int,
    measure: str = "score",
    theme: str = "light",
    title: str = "",
) -> Figure:
    """Draw means and intervals of all figures that were compared.

    No axis is narrower than one percent of its values, so that methods whose numbers print alike
    lie together, and none goes on to values that a share or a rate cannot have.

    Parameters
    ----------
    rows
        From `respondcam.evidence.comparison.compare`.
    images
        How many images there were.
    measure
        What was followed in changed images: ``"score"`` or ``"probability"``.
    theme, title
        Of the page.

    Examples
    --------
    >>> from respondcam.evidence import bootstrap
    >>> row = Compared("drop", "respond", "conv", bootstrap([0.1, 0.2] * 5), None)
    >>> len(comparison_figure([row], images=10).axes)
    1
    """
    look = theme_named(theme)
    metrics = [name for name in METRICS if any(row.metric == name for row in rows)]
    groups = [[row for row in rows if row.metric == name] for name in metrics]
    lines = [groups[n : n + _COLUMNS] for n in range(0, len(groups), _COLUMNS)]
    heights = [_HEAD + _FOOT + _ROW * max(len(group) for group in line) for line in lines]
    words = Words(
        Caption(source=title, target=counted(images, "volume")),
        notes=(
            _what_is_drawn(rows),
            "The dotted line is the first method. Grey: controls that know nothing of the score.",
        ),
    )
    page, foot = make_page(sum(heights), words, look)
    width = (look.width_inches - 2 * MARGIN - (_COLUMNS - 1) * _GAP) / _COLUMNS
    top = foot + sum(heights)
    for line, height in zip(lines, heights, strict=True):
        for place, group in enumerate(line):
            left = MARGIN + place * (width + _GAP)
            _panel(page, group, (left, top), width, look, measure)
        top -= height
    return page


def _what_is_drawn(rows: Sequence[Compared]) -> str:
    has = [math.isfinite(row.value.low) for row in rows]
    if not any(has):
        return "Dots are means over volumes. There are too few volumes for intervals."
    lines = "Dots are means over volumes, lines their 95 % intervals by bootstrap"
    return f"{lines}." if all(has) else f"{lines}; without a line, too few volumes for one."


def _panel(
    page: Figure,
    rows: Sequence[Compared],
    corner: tuple[float, float],
    width: float,
    theme: Theme,
    measure: str,
) -> Axes:
    """One figure's methods, from above; gives its axes, x in units of the figure."""
    left, top = corner
    metric = METRICS[rows[0].metric]
    heading = f"{metric.title}: {_ARROWS[metric.better]}"
    write(page, left, top - 0.17, heading, size=theme.text_size, colour=theme.ink, bold=True)
    words = words_of(rows[0].metric, measure)
    write(page, left, top - 0.32, words, size=theme.small_size, colour=theme.muted)
    height = _ROW * len(rows)
    bottom = top - _HEAD - height
    axes = add_panel(page, left + _LABELS, bottom, width - _LABELS, height)
    low, high = _limits(rows)
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for number, row in enumerate(rows):
        control = row.method in CONTROLS
        colour = theme.muted if control else theme.positive
        name = row.method if row.layer == "-" else f"{row.method}, {layer_named(row.layer)}"
        middle = bottom + height - (number + 0.5) * _ROW
        write(
            page,
            left,
            middle,
            printable(name, 24),
            size=theme.small_size,
            colour=theme.ink,
            align=("left", "center"),
        )
        if math.isfinite(row.value.low):
            ends = [row.value.low, row.value.high]
            axes.plot(ends, [number] * 2, color=colour, linewidth=2.0, clip_on=False)
        if math.isfinite(row.value.mean):
            dot = {"marker": "o", "markersize": 4.0, "color": colour}
            axes.plot([row.value.mean], [number], clip_on=False, **dot)  # whole, at an end too
    if math.isfinite(rows[0].value.mean):
        dots = {"color": theme.ink, "linewidth": 0.6, "linestyle": (0, (1, 2)), "clip_on": False}
        axes.axvline(rows[0].value.mean, **dots)
    for value, side in ((low, "left"), (high, "right")):
        edge = left + _LABELS if side == "left" else left + width
        text = _end(value)
        write(
            page,
            edge,
            bottom - 0.14,
            text,
            size=theme.small_size,
            colour=theme.muted,
            align=(side, "baseline"),
        )
    return axes


def _limits(rows: Sequence[Compared]) -> tuple[float, float]:
    values = [v for row in rows for v in (row.value.mean, row.value.low, row.value.high)]
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    narrowest = _NARROWEST * max(abs(low), abs(high))
    if rows[0].metric not in _OF_THE_SCORE or narrowest == 0.0:
        narrowest = max(narrowest, _NOTHING)
    middle, half = (low + high) / 2, max(1.12 * (high - low), narrowest) / 2
    # the room beside the values ends where values of this kind end
    least, most = next(ends for ends in _KINDS if ends[0] <= low and high <= ends[1])
    low, high = max(middle - half, least), min(middle + half, most)
    low = min(low, max(least, high - narrowest))
    return low, max(high, min(most, low + narrowest))


def _end(value: float) -> str:
    """Write the end of an axis, which is a round number where the room beside it was cut."""
    text = format_score(value, digits=3)
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text

"""What tells a reader how to read a panel: scale bar, orientation letters, colour bar."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respondcam.show.canvas import add_panel, write
from respondcam.show.caption import Caption
from respondcam.show.theme import Theme, format_length, format_score, signed_colours, signed_rgba

COLOUR_BAR_WIDTH = 1.15  # inches, with its numbers
CONTOUR = 0.5  # of the limit: dashed below zero, solid above, for those who see no colours
_TALLEST = 2.4  # inches of a colour bar


def nice_length(longest: float) -> float:
    """Find the largest of 1, 2, 5 times a power of ten that is not above `longest`.

    Examples
    --------
    >>> nice_length(73.0), nice_length(0.3), nice_length(1000.0)
    (50.0, 0.2, 1000.0)
    """
    power = 10.0 ** math.floor(math.log10(longest) + 1e-9)
    step = max(step for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))
    return float(f"{step * power:.3g}")


def scale_bar(
    figure: Figure,
    place: tuple[float, float],
    inches_per_unit: float,
    longest_inches: float,
    *,
    unit: str,
    theme: Theme,
) -> tuple[Axes, float]:
    """Draw a bar of a round length, at most `longest_inches` long, with its length beside it.

    Returns
    -------
    The axes that the bar fills exactly, and the length in the unit.
    """
    length = nice_length(longest_inches / inches_per_unit)
    left, bottom = place
    axes = add_panel(figure, left, bottom, length * inches_per_unit, 0.035)
    axes.axis("on")
    axes.set(xticks=[], yticks=[], facecolor=theme.ink)
    axes.spines[:].set_visible(False)
    write(
        figure,
        left + length * inches_per_unit + 0.06,
        bottom + 0.0175,
        format_length(length, unit),
        size=theme.small_size,
        colour=theme.ink,
        align=("left", "center"),
    )
    return axes, length


def edge_letters(
    figure: Figure,
    box: tuple[float, float, float, float],
    vertical: tuple[str, str],
    horizontal: tuple[str, str],
    *,
    theme: Theme,
) -> None:
    """Write the names of a panel's ends beside it; `box` is left, bottom, width, height."""
    left, bottom, width, height = box
    middle, centre = bottom + height / 2, left + width / 2
    places = (
        (horizontal[0], left - 0.04, middle, ("right", "center")),
        (horizontal[1], left + width + 0.04, middle, ("left", "center")),
        (vertical[0], centre, bottom - 0.04, ("center", "top")),
        (vertical[1], centre, bottom + height + 0.04, ("center", "bottom")),
    )
    for letter, x, y, align in places:
        if letter:
            write(figure, x, y, letter, size=theme.small_size, colour=theme.muted, align=align)


def contours(axes: Axes, signed: np.ndarray, width: float, height: float, limit: float) -> None:
    """Outline half of the limit: solid above zero, dashed below.

    `signed` (row, column) fills the rectangle from 0, 0 to `width`, `height`, first row at 0.
    """
    if min(signed.shape) < 2:
        return
    rows, columns = signed.shape
    x = (np.arange(columns) + 0.5) * width / columns
    y = (np.arange(rows) + 0.5) * height / rows
    for level, style in _contour_styles(limit):
        if signed.min() < level < signed.max():
            axes.contour(
                x,
                y,
                signed,
                levels=[level],
                colors=[style["color"]],
                linestyles=[style["linestyle"]],
                linewidths=[style["linewidth"]],
            )


def _contour_styles(limit: float) -> list[tuple[float, dict[str, Any]]]:
    ends = ((-1, (0, (2.5, 1.2))), (1, "solid"))
    return [
        (
            side * CONTOUR * limit,
            {"color": signed_colours()((side + 1) / 2), "linestyle": line, "linewidth": 0.8},
        )
        for side, line in ends
    ]


def colour_bar(
    figure: Figure,
    box: tuple[float, float, float],
    limit: float,
    *,
    theme: Theme,
    caption: Caption,
) -> Axes:
    """Draw the signed colours over black to white, as they appear over the image.

    Left to right is the grey below, bottom to top the map's value from -`limit` to +`limit`; the
    lines are the contours of the panels, and named as outlines.

    Parameters
    ----------
    box
        Left, bottom and height in inches.
    caption
        Of the map: what its values and the two ends stand for.

    Returns
    -------
    The axes of the bar; its y limits are -`limit` and +`limit`.
    """
    left, bottom, height = box
    bottom, height = bottom + max(0.0, height - _TALLEST), min(height, _TALLEST)
    axes = add_panel(figure, left, bottom + 0.24, 0.22, height - 0.48)
    placed: dict[str, Any] = {
        "extent": (0.0, 1.0, -limit, limit),
        "origin": "lower",
        "aspect": "auto",
        "interpolation": "nearest",
    }
    axes.imshow(np.linspace(0, 1, 64)[None], cmap="gray", vmin=0, vmax=1, **placed)
    values = np.repeat(np.linspace(-limit, limit, 257)[:, None], 2, axis=1)
    axes.imshow(signed_rgba(values, limit), **placed)
    for level, style in _contour_styles(limit):
        axes.axhline(level, **style)
    low, high = caption.ends()
    middle, size, muted = bottom + height / 2, theme.small_size, theme.muted
    for share in (-1.0, -CONTOUR, 0.0, CONTOUR, 1.0):
        at = (left + 0.28, middle + share * (height / 2 - 0.24))
        number = format_score(share * limit, digits=3, sign=True)
        write(figure, *at, number, size=size, colour=theme.ink, align=("left", "center"))
        if abs(share) == CONTOUR:
            below = (at[0], at[1] - 0.12)
            write(figure, *below, "outline", size=size, colour=muted, align=("left", "center"))
    write(figure, left, bottom + height - 0.11, high, size=size, colour=muted)
    write(figure, left, bottom + 0.03, low, size=size, colour=muted)
    at = (left + COLOUR_BAR_WIDTH - 0.06, middle)
    write(
        figure,
        *at,
        caption.scale(),
        size=size,
        colour=muted,
        align=("center", "center"),
        rotation=90.0,
    )
    return axes

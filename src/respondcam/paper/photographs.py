"""A photograph, and beside it the maps of several methods over it in grey."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respondcam.show.canvas import add_panel, write
from respondcam.show.caption import Caption
from respondcam.show.legend import contours
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.theme import format_score, signed_rgba, theme_named

_GAP, _LINE = 0.12, 0.16  # inches


def draw_photograph(
    picture: Float[np.ndarray, "3 y x"],
    maps: Mapping[str, Float[np.ndarray, "y x"]],
    sums: Sequence[float],
    *,
    headline: str,
    alert: str = "",
    theme: str = "light",
) -> Figure:
    """Draw a picture (red, green, blue in 0 to 1) and each map, at its own scale, over it in grey.

    Parameters
    ----------
    maps
        By name of the method.
    sums
        Of the maps, to be compared with the score in the headline.
    headline, alert
        Above; the alert stands out.
    """
    look = theme_named(theme)
    panels = 1 + len(maps)
    side = (look.width_inches - 2 * MARGIN - (panels - 1) * _GAP) / panels
    rows, columns = picture.shape[1:]
    height = side * rows / columns
    words = Words(
        Caption(target=headline),
        alert,
        ("Amber raises the score, blue lowers it; lines at half of the strongest value.",),
    )
    page, foot = make_page(height + 2 * _LINE, words, look)
    colour = np.moveaxis(picture, 0, -1)
    grey = np.repeat(colour.mean(axis=-1, keepdims=True), 3, axis=-1)
    _picture(add_panel(page, MARGIN, foot + _LINE, side, height), colour)
    for number, ((name, signed), total) in enumerate(zip(maps.items(), sums, strict=True), start=1):
        left = MARGIN + number * (side + _GAP)
        axes = add_panel(page, left, foot + _LINE, side, height)
        _picture(axes, grey)
        strongest = float(np.abs(signed).max())
        if strongest > 0:
            _picture(axes, signed_rgba(signed, strongest))
            contours(axes, signed, float(columns), float(rows), strongest)
        text = f"{name}: sum {format_score(total)}"
        write(page, left, foot + 0.02, text, size=look.small_size, colour=look.ink)
    return page


def _picture(axes: Axes, picture: np.ndarray) -> None:
    rows, columns = picture.shape[:2]
    extent = (0.0, float(columns), float(rows), 0.0)
    axes.imshow(picture, extent=extent, interpolation="nearest", aspect="auto")

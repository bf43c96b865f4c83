"""The figure of an average in the particle's frame: a surface coloured by the map, and slices."""

import numpy as np
from matplotlib.figure import Figure

from respondcam.show.canvas import write
from respondcam.show.caption import Caption
from respondcam.show.legend import COLOUR_BAR_WIDTH, colour_bar, scale_bar
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.panel import draw_plane
from respondcam.show.scene import cut, make_scene
from respondcam.show.surfaces import Surface, draw_surfaces
from respondcam.show.theme import format_score, grey_window, theme_named
from respondcam.volume import Volume

_GAP, _TITLE, _BELOW = 0.35, 0.36, 0.25  # inches: for letters, for names, for the scale bar


def average_figure(
    density: Volume,
    map: Volume,
    spread: Volume,
    *,
    name: str,
    count: int,
    score: float,
    method: str,
    layer: str,
    theme: str = "light",
) -> Figure:
    """Draw the averaged density's surface in the colours of the map, and the middle slices.

    Parameters
    ----------
    density, map, spread
        Averaged images, mean and standard deviation of the maps, in the particle's frame.
    name, count, score, method, layer
        What was averaged, how many, and the mean score.
    """
    look = theme_named(theme)
    side = (look.width_inches - 2 * MARGIN - 3 * _GAP - COLOUR_BAR_WIDTH) / 3
    limit = float(np.abs(map.voxels).max())
    caption = Caption(target=f"{name}, {count} particles", method=method, layer=layer, score=score)
    low, high = caption.ends()
    words = Words(
        caption,
        notes=(
            (
                "In the particle's own frame: the averaged images' surface and middle slice across "
                "z with the mean map, and the map's spread (standard deviation) over the "
                f"particles, in score per voxel: {_ends(spread)}."
            ),
            f"Amber {high}, blue {low}. The score is the mean over the particles.",
        ),
    )
    page, bottom = make_page(side + _TITLE + _BELOW, words, look)
    foot = bottom + _BELOW
    # half way from the background to the particle
    level = float(np.quantile(density.voxels, (0.5, 0.995)).mean())
    middle = density.shape[0] // 2
    titles = ("surface, coloured by the map", f"z {middle}: density and map", f"z {middle}: spread")
    for number, title in enumerate(titles):
        left = MARGIN + number * (side + _GAP)
        write(page, left, foot + side + 0.2, title, size=look.small_size, colour=look.ink)
    paint = map if limit > 0 else None
    surface = Surface(density, level, paint=paint, limit=limit or 1.0)
    draw_surfaces(page, (MARGIN, foot, side), [surface], frame=density)
    for number, (grey, signed) in enumerate(((density, map), (spread, None)), start=1):
        scene = make_scene(grey, signed)
        plane = cut(scene, 0, middle)
        left, scale = MARGIN + number * (side + _GAP), side / plane.width
        draw_plane(page, scene, plane, (left, foot), scale, theme=look)
        if number == 1:
            at = (left, bottom + 0.04)
            scale_bar(page, at, scale, 0.6 * side, unit=density.unit, theme=look)
    if limit > 0:
        left = look.width_inches - MARGIN - COLOUR_BAR_WIDTH
        colour_bar(page, (left, foot, side), limit, theme=look, caption=caption)
    return page


def _ends(spread: Volume) -> str:
    """Word the values that are shown black and white."""
    if spread.voxels.min() == spread.voxels.max():
        return f"{format_score(float(spread.voxels.flat[0]), digits=2)} everywhere"
    low, high = grey_window(spread.voxels)
    return f"black {format_score(low, digits=2)}, white {format_score(high, digits=2)}"

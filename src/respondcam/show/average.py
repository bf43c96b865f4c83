"""The figure of an average in the particle's frame: a surface coloured by the map, and slices."""

import numpy as np
from matplotlib.figure import Figure

from respondcam.show.canvas import write
from respondcam.show.caption import Caption
from respondcam.show.legend import COLOUR_BAR_WIDTH, colour_bar
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.panel import draw_plane
from respondcam.show.scene import cut, make_scene
from respondcam.show.surfaces import Surface, draw_surfaces
from respondcam.show.theme import theme_named
from respondcam.volume import Volume

_GAP, _TITLE = 0.15, 0.2  # inches


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
    words = Words(
        Caption(target=f"{name}, {count} particles", method=method, layer=layer, score=score),
        notes=(
            (
                "In the particle's own frame: the averaged images' surface and middle slice with "
                "the mean map, and the map's spread over the particles in grey."
            ),
            "Amber raises the score, blue lowers it. The score is the mean over the particles.",
        ),
    )
    page, foot = make_page(side + _TITLE, words, look)
    # half way from the background to the particle
    level = float(np.quantile(density.voxels, (0.5, 0.995)).mean())
    titles = ("surface, coloured by the map", "middle slice and map", "spread of the map")
    for number, title in enumerate(titles):
        left = MARGIN + number * (side + _GAP)
        write(page, left, foot + side + 0.05, title, size=look.small_size, colour=look.ink)
    paint = map if limit > 0 else None
    surface = Surface(density, level, paint=paint, limit=limit or 1.0)
    draw_surfaces(page, (MARGIN, foot, side), [surface], frame=density)
    for number, (grey, signed) in enumerate(((density, map), (spread, None)), start=1):
        scene = make_scene(grey, signed)
        plane = cut(scene, 0, grey.shape[0] // 2)
        left = MARGIN + number * (side + _GAP)
        draw_plane(page, scene, plane, (left, foot), side / plane.width, theme=look, letters=False)
    if limit > 0:
        left = look.width_inches - MARGIN - COLOUR_BAR_WIDTH
        colour_bar(page, (left, foot, side), limit, theme=look)
    return page

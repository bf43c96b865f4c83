"""Pages of the publication's figures: rows of panels, a surface above and a slice below in each."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from respondcam.show.canvas import write
from respondcam.show.caption import Caption
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.panel import draw_plane
from respondcam.show.scene import cut, make_scene
from respondcam.show.surfaces import Surface, draw_surfaces
from respondcam.show.theme import theme_named
from respondcam.volume import Volume

SHARE = 0.4  # of a map's strongest value: where its surfaces lie
_GAP = 0.07  # inches between panels
_LINE = 0.13  # inches of a line of words
_ROW_GAP = 0.16
_POSITIVE, _NEGATIVE = "#fea91e", "#51cefa"


@dataclass(frozen=True, eq=False)
class Panel:
    """One object, or one map of it.

    Parameters
    ----------
    title
        Above the panel.
    surface
        Volume and value of the grey surface; it is translucent where there is a map.
    image
        What the slice below shows.
    map
        Drawn over both: amber raises the score, blue lowers it.
    words
        Below the panel, a line each.
    """

    title: str
    surface: tuple[Volume, float]
    image: Volume
    map: Volume | None = None
    words: tuple[str, ...] = ()


def draw_strips(
    rows: Sequence[tuple[str, Sequence[Panel]]],
    *,
    columns: int,
    caption: Caption,
    notes: Sequence[str] = (),
    theme: str = "light",
) -> Figure:
    """Draw rows of panels, each with a name, on one page.

    Every map is drawn at its own scale, so that shapes can be compared: the surfaces lie at `SHARE`
    of its strongest absolute value.
    """
    look = theme_named(theme)
    side = (look.width_inches - 2 * MARGIN - (columns - 1) * _GAP) / columns
    lines = max(len(panel.words) for _, panels in rows for panel in panels)
    row = 2 * _LINE + 2 * side + _GAP + lines * _LINE + _ROW_GAP
    page, foot = make_page(row * len(rows), Words(caption, notes=notes), look)
    top = foot + row * len(rows)
    small = 0.86 * look.small_size
    for name, panels in rows:
        write(page, MARGIN, top - 0.12, name, size=look.text_size, colour=look.ink, bold=True)
        for number, panel in enumerate(panels):
            left = MARGIN + number * (side + _GAP)
            below = top - 2 * _LINE
            write(page, left, below + 0.03, panel.title, size=small, colour=look.ink)
            below -= side
            _surface(page, panel, (left, below, side))
            below -= side + _GAP
            _slice(page, panel, (left, below), side, theme)
            for line in panel.words:
                below -= _LINE
                write(page, left, below + 0.02, line, size=small, colour=look.muted)
        top -= row
    return page


def _surface(page: Figure, panel: Panel, box: tuple[float, float, float]) -> None:
    volume, level = panel.surface
    shown = [Surface(volume, level, opacity=1.0 if panel.map is None else 0.12)]
    if panel.map is not None:
        values = panel.map.voxels
        strongest = float(abs(values).max())
        if strongest > 0:
            negative = Volume(-values, panel.map.affine, panel.map.unit)
            shown += [
                Surface(panel.map, SHARE * strongest, _POSITIVE, 0.75),
                Surface(negative, SHARE * strongest, _NEGATIVE, 0.75),
            ]
    draw_surfaces(page, box, shown, frame=volume)


def _slice(
    page: Figure, panel: Panel, corner: tuple[float, float], side: float, theme: str
) -> None:
    scene = make_scene(panel.image, panel.map)
    plane = cut(scene, 0, panel.image.shape[0] // 2)
    scale = side / max(plane.height, plane.width)
    draw_plane(page, scene, plane, corner, scale, theme=theme_named(theme), letters=False)

"""Figures of volumes: three planes through one place, and a montage of slices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from respondcam.errors import InputError
from respondcam.show.canvas import write
from respondcam.show.caption import NOTHING, Caption
from respondcam.show.legend import COLOUR_BAR_WIDTH, colour_bar, scale_bar
from respondcam.show.marking import Box, outline
from respondcam.show.notes import scene_alert, scene_notes
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.panel import LETTER, TITLE, draw_plane, panel_size, plane_title
from respondcam.show.scene import Plane, Scene, cut, make_scene
from respondcam.show.theme import Theme, theme_named
from respondcam.show.world import Index
from respondcam.volume import Volume

_SCALE_BAR = 0.2  # inches below the panels
_TALLEST = 4.2  # inches of a row of planes
_TALLEST_MONTAGE = 8.0  # inches of all rows: with its words it fits a printed page
_GAP = 0.5  # inches between planes, for two letters
_NARROW_GAP = 0.12  # inches between the slices of a montage
_ROW_GAP = 0.25  # inches above each slice of a montage, for its name
_NARROWEST = 0.6  # inches of a slice in a montage: its name must fit
_LEGEND_HEIGHT = 1.8  # inches at least, for a colour bar with five numbers


def orthogonal_planes(
    volume: Volume,
    map: Volume | None = None,
    *,
    at: str | Sequence[int] | None = None,
    channel: int = 0,
    limit: float | None = None,
    theme: str = "light",
    caption: Caption = NOTHING,
    box: Box | None = None,
) -> Figure:
    """Draw the three planes through one place of a volume, with a signed map over them.

    All planes have one scale, with anisotropic voxels in their true proportions, and follow the
    world's axes (RAS+ for millimetres). The map may have a grid of its own, such as the layer's:
    it is interpolated linearly, in the world, where the volume's voxels are.

    Parameters
    ----------
    volume
        The image.
    map
        Signed values in units of the score, in the same world; None for the image alone.
    at
        ``"peak"``: the map's largest absolute value; ``"positive"``: its largest value;
        ``"centre"``; or a voxel (z, y, x) of the volume's array. None is the peak if there is a
        map that is not zero everywhere, else the centre.
    channel
        Of the volume.
    limit
        Score value of the strongest colours; None for the map's largest absolute value. Give the
        same limit to figures that are to be compared.
    theme
        ``"light"`` or ``"dark"``.
    caption
        What the figure says about itself.
    box
        First voxel (z, y, x) of the volume's array and the one behind the last: what was asked for.
        Its outline is drawn, dotted on planes that pass it by.

    Raises
    ------
    InputError
        If an argument is not one of these, map and volume have no place in common, or a voxel is
        not finite.

    Examples
    --------
    >>> voxels = np.random.default_rng(0).random((8, 8, 8))
    >>> figure = orthogonal_planes(Volume(voxels, np.diag([10.0, 10, 10, 1]), "angstrom"))
    >>> [text.get_text() for text in figure.texts][:3]
    ['planes through voxel 4, 4, 4 (z, y, x)', 'z 4 (40 Å)', '+x']
    """
    look = theme_named(theme)
    scene = make_scene(volume, map, channel=channel, limit=limit)
    place = scene.place(at)
    planes = [cut(scene, axis, place[axis]) for axis in range(3)]
    room = look.width_inches - 2 * MARGIN - 2 * _GAP - _legend_width(scene)
    scale = min(
        room / sum(plane.width for plane in planes),
        _TALLEST / max(plane.height for plane in planes),
    )
    sizes = [panel_size(plane.height, plane.width, scale) for plane in planes]
    tallest = max(height for height, _ in sizes)
    legend = max(tallest, _LEGEND_HEIGHT) if scene.has_colour else 0.0
    # the scale bar is below the first plane, and the colour bar reaches below low planes
    row = max(tallest + LETTER, sizes[0][0] + LETTER + _SCALE_BAR, legend)
    words = Words(caption, scene_alert(scene, caption), scene_notes(scene, caption, channel, place))
    figure, foot = make_page(TITLE + row, words, look)
    left, top = MARGIN, foot + row
    for plane, (height, width) in zip(planes, sizes, strict=True):
        title, corner = plane_title(scene, plane), (left, top - height)
        axes = draw_plane(figure, scene, plane, corner, scale, theme=look, title=title)
        if box is not None:
            outline(axes, scene, plane, box)
        _crosshair(axes, scene, plane, place)
        left += width + _GAP
    below_first = top - sizes[0][0] - LETTER - _SCALE_BAR
    _legends(figure, scene, (below_first, top, legend), scale, sizes[0][1], look, caption)
    return figure


def _crosshair(axes: Axes, scene: Scene, plane: Plane, place: Index) -> None:
    # Open in the middle: what the cross points at must stay visible.
    size = scene.grey.volume.voxel_size
    vertical, horizontal = plane.axes
    x = (place[horizontal] + 0.5) * size[horizontal]
    y = (place[vertical] + 0.5) * size[vertical]
    hole = 0.06 * max(plane.width, plane.height)
    for start, end in ((0.0, x - hole), (x + hole, plane.width)):
        if start < end:
            axes.plot([start, end], [y, y], **_CROSS)
    for start, end in ((0.0, y - hole), (y + hole, plane.height)):
        if start < end:
            axes.plot([x, x], [start, end], **_CROSS)
    axes.set(xlim=(0, plane.width), ylim=(0, plane.height))


_CROSS = {
    "color": "#ffffff",
    "linewidth": 0.6,
    "linestyle": "solid",
    "solid_capstyle": "butt",
    "path_effects": [withStroke(linewidth=1.4, foreground="#00000080")],  # seen on white too
}


def _legend_width(scene: Scene) -> float:
    return 0.25 + COLOUR_BAR_WIDTH if scene.has_colour else 0.0


def _legends(
    figure: Figure,
    scene: Scene,
    rows: tuple[float, float, float],
    scale: float,
    longest: float,
    theme: Theme,
    caption: Caption,
) -> None:
    bottom, top, height = rows
    unit = scene.grey.volume.unit
    scale_bar(figure, (MARGIN, bottom + 0.06), scale, 0.6 * longest, unit=unit, theme=theme)
    if scene.has_colour:
        left = theme.width_inches - MARGIN - COLOUR_BAR_WIDTH
        bar = (left, top - height, height)
        colour_bar(figure, bar, scene.limit, theme=theme, caption=caption)


def slice_montage(
    volume: Volume,
    map: Volume | None = None,
    *,
    axis: int = 0,
    count: int = 12,
    first: int = 0,
    channel: int = 0,
    limit: float | None = None,
    theme: str = "light",
    caption: Caption = NOTHING,
) -> Figure:
    """Draw slices spread evenly over a volume, with a signed map over them.

    The slice through the map's largest absolute value is always among them. Everything else is as
    in `orthogonal_planes`.

    Parameters
    ----------
    volume, map, channel, limit, theme, caption
        As in `orthogonal_planes`.
    axis
        Of the volume's array: 0, 1, 2 for z, y, x.
    count
        Number of slices, 1 to 100; all of them if the volume has fewer.
    first
        How the first slice is called, where the volume was cut out of a larger one.

    Raises
    ------
    InputError
        As in `orthogonal_planes`, or if `axis` or `count` is not one of these.

    Examples
    --------
    >>> volume = Volume(np.zeros((3, 8, 8)))
    >>> [t.get_text() for t in slice_montage(volume).texts if t.get_text().startswith("z")]
    ['z 0', 'z 1', 'z 2']
    """
    if axis not in (0, 1, 2):
        raise InputError(f"axis={axis!r}: use 0, 1 or 2 for z, y or x of the volume's array.")
    if not 1 <= count <= 100:
        raise InputError(f"count={count!r}: give a number of slices from 1 to 100.")
    look = theme_named(theme)
    scene = make_scene(volume, map, channel=channel, limit=limit)
    across = scene.grey.axis_of_stored(axis)
    planes = [cut(scene, across, index) for index in _spread(scene, across, count)]
    planes = [replace(plane, number=first + plane.number) for plane in planes]
    room = look.width_inches - 2 * MARGIN - _legend_width(scene)
    layout = best_layout(planes[0], len(planes), room)
    cut_at = (first * (axis == 0), first * (axis == 1), first * (axis == 2))
    notes = scene_notes(scene, caption, channel, cut_at=cut_at)
    words = Words(caption, scene_alert(scene, caption), notes)
    body = max(layout.height, _LEGEND_HEIGHT + _ROW_GAP if scene.has_colour else 0.0)
    figure, foot = make_page(body + _SCALE_BAR, words, look)
    top = foot + _SCALE_BAR + body
    for number, plane in enumerate(planes):
        row, column = divmod(number, layout.columns)
        corner = (MARGIN + column * layout.step[1], top - (row + 1) * layout.step[0])
        title, scale = plane_title(scene, plane), layout.scale
        draw_plane(figure, scene, plane, corner, scale, theme=look, title=title, letters=False)
    rows = (foot, top - _ROW_GAP, body - _ROW_GAP)
    _legends(figure, scene, rows, layout.scale, layout.step[1], look, caption)
    _directions(figure, scene, planes[0], foot + 0.06, look)
    return figure


@dataclass(frozen=True)
class Layout:
    """Where the panels of a montage are; lengths in inches."""

    columns: int
    scale: float  # inches per unit of length
    step: tuple[float, float]  # inches from row to row and from column to column
    height: float  # of all rows


def best_layout(plane: Plane, count: int, room: float, *, above: float = 0.0) -> Layout:
    """Find the number of columns that makes the montage nearest to 4 : 3, with few empty places.

    `above` is the height in inches of a second line above each panel.
    """
    row_gap = _ROW_GAP + above

    def with_columns(columns: int) -> Layout:
        rows = -(-count // columns)
        width, height = room / columns - _NARROW_GAP, _TALLEST_MONTAGE / rows - row_gap
        scale = min(width / plane.width, height / plane.height)
        height, width = panel_size(plane.height, plane.width, scale)
        step = (height + row_gap, max(width + _NARROW_GAP, _NARROWEST))
        return Layout(columns, scale, step, step[0] * rows)

    most = min(count, int(room / _NARROWEST))

    def ugliness(one: Layout) -> float:
        empty = -count % one.columns / one.columns
        return abs(one.height / room - 0.75) + empty

    return min(map(with_columns, range(1, most + 1)), key=ugliness)


def _spread(scene: Scene, across: int, count: int) -> list[int]:
    total = scene.grey.volume.shape[across]
    count = min(count, total)
    chosen = np.floor((np.arange(count) + 0.5) * total / count).astype(int)
    if scene.has_colour:
        peak = scene.peak()[0][across]
        chosen[np.argmin(np.abs(chosen - peak))] = peak
    return [int(index) for index in chosen]


def _directions(figure: Figure, scene: Scene, plane: Plane, bottom: float, theme: Theme) -> None:
    vertical, horizontal = (scene.grey.letters(axis) for axis in plane.axes)
    ends = zip(("left", "right", "bottom", "top"), (*horizontal, *vertical), strict=True)
    text = " · ".join(f"{side} {letter}" for side, letter in ends if letter)
    right = theme.width_inches - MARGIN
    size, colour = theme.small_size, theme.muted
    write(figure, right, bottom, text, size=size, colour=colour, align=("right", "bottom"))

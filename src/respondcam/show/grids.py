"""Many maps of one image side by side: class by class, and layer by layer."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from respondcam.attribution import Explanation
from respondcam.errors import InputError
from respondcam.show.canvas import write
from respondcam.show.caption import NOTHING, Caption
from respondcam.show.legend import COLOUR_BAR_WIDTH, colour_bar, scale_bar
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.panel import draw_plane, plane_title
from respondcam.show.scene import Scene, cut, make_scene
from respondcam.show.slices import best_layout
from respondcam.show.theme import Theme, format_score, printable, theme_named
from respondcam.volume import Volume

_SCALE_BAR = 0.25  # inches below the panels
_SECOND_LINE = 0.14  # inches, of a panel's name
_MOST = 100


def map_grid(
    volume: Volume,
    maps: Sequence[Volume],
    names: Sequence[tuple[str, str]],
    *,
    axis: int = 0,
    at: str | Sequence[int] | None = None,
    shared: bool = True,
    channel: int = 0,
    limit: float | None = None,
    theme: str = "light",
    caption: Caption = NOTHING,
) -> Figure:
    """Draw the same plane of a volume once for each map.

    Parameters
    ----------
    volume
        The image.
    maps
        Signed, in the same world; each may have a grid of its own.
    names
        Two lines above each panel.
    axis
        Of the volume's array that the plane is across: 0, 1, 2 for z, y, x.
    at
        As in `orthogonal_planes`; the peak is that of the map with the strongest value.
    shared
        One limit of the colours for all, so that maps compare; False gives each its own strongest
        value, so that their shapes compare.
    channel, limit, theme, caption
        As in `orthogonal_planes`.

    Raises
    ------
    InputError
        If there is no map or too many, or an argument is not one of these.

    Examples
    --------
    >>> image = Volume(np.random.default_rng(0).random((6, 6, 6)))
    >>> figure = map_grid(image, [image, image], [("cat", "score 1"), ("dog", "score 2")])
    >>> [text.get_text() for text in figure.texts if text.get_text() in ("cat", "dog")]
    ['cat', 'dog']
    """
    if not 1 <= len(maps) <= _MOST or len(maps) != len(names):
        raise InputError(f"Give 1 to {_MOST} maps with as many names, not {len(maps)}.")
    if axis not in (0, 1, 2):
        raise InputError(f"axis={axis!r}: use 0, 1 or 2 for z, y or x of the volume's array.")
    look = theme_named(theme)
    scenes = [make_scene(volume, one, channel=channel, limit=limit) for one in maps]
    strongest = max(scenes, key=lambda scene: scene.limit)
    if shared and limit is None:
        scenes = [replace(scene, limit=strongest.limit if scene.limit else 0.0) for scene in scenes]
    across = strongest.grey.axis_of_stored(axis)
    index = strongest.place(at)[across]
    planes = [cut(scene, across, index) for scene in scenes]
    coloured = shared and strongest.has_colour
    room = look.width_inches - 2 * MARGIN - (COLOUR_BAR_WIDTH + 0.25 if coloured else 0.0)
    layout = best_layout(planes[0], len(planes), room, above=_SECOND_LINE)
    notes = (
        *caption.notes,
        _grid_note(strongest, plane_title(strongest, planes[0]), caption, shared=shared),
    )
    body = max(layout.height, 1.8 if coloured else 0.0)
    figure, foot = make_page(body + _SCALE_BAR, Words(caption, notes=notes), look)
    top = foot + _SCALE_BAR + body
    for number, (scene, plane) in enumerate(zip(scenes, planes, strict=True)):
        row, column = divmod(number, layout.columns)
        corner = (MARGIN + column * layout.step[1], top - (row + 1) * layout.step[0])
        draw_plane(figure, scene, plane, corner, layout.scale, theme=look, letters=False)
        height = corner[1] + plane.height * layout.scale
        _name(figure, (corner[0], height), names[number], layout.step[1], look)
    unit = volume.unit
    longest = 0.6 * planes[0].width * layout.scale
    scale_bar(figure, (MARGIN, foot + 0.06), layout.scale, longest, unit=unit, theme=look)
    if coloured:
        left = look.width_inches - MARGIN - COLOUR_BAR_WIDTH
        bar = (left, top - body, body)
        colour_bar(figure, bar, strongest.limit, theme=look, caption=caption)
    return figure


def class_grid(
    explanation: Explanation,
    *,
    sample: int = 0,
    image: Volume | None = None,
    theme: str = "light",
    **options: int | float | str | None,
) -> Figure:
    """Draw the maps of all targets of one sample, highest score first, in common colours.

    Parameters
    ----------
    explanation
        Best of ``target="all"``.
    sample
        Of the batch.
    image
        What is below the maps; None is the volume that was explained.
    theme, options
        As in `map_grid`.

    Raises
    ------
    InputError
        If the input was not three-dimensional, or has more than 100 targets.
    """
    scores = explanation.scores[sample].detach().double().cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    maps = [explanation.volume(sample, int(target), "layer") for target in order]
    names = [
        (explanation.label(int(target), sample), f"score {format_score(float(scores[target]))}")
        for target in order
    ]
    below = _below(explanation, image)
    words = Caption(
        source=below.source.name if below.source else "",
        target=f"{len(order)} classes",
        method=explanation.method,
        layer=explanation.layer,
        adds_up=not explanation.note,
    )
    return map_grid(below, maps, names, theme=theme, caption=words, **options)  # type: ignore[arg-type]


def layer_progression(
    explanations: Sequence[Explanation],
    *,
    sample: int = 0,
    target: int = 0,
    image: Volume | None = None,
    theme: str = "light",
    **options: int | float | str | None,
) -> Figure:
    """Draw the maps of several layers for one target, each in colours of its own.

    Parameters
    ----------
    explanations
        One for each layer, as an explainer with several layers gives them.
    sample, target
        Which map of each.
    image
        What is below the maps; None is the volume that was explained.
    theme, options
        As in `map_grid`.

    Raises
    ------
    InputError
        If there is no explanation, or the input was not three-dimensional.
    """
    if not explanations:
        raise InputError("Give one explanation for each layer; there is none.")
    first = explanations[0]
    maps = [one.volume(sample, target, "layer") for one in explanations]
    names = [_layer_name(one, map) for one, map in zip(explanations, maps, strict=True)]
    below = _below(first, image)
    words = Caption(
        source=below.source.name if below.source else "",
        target=first.targets[target],
        method=first.method,
        score=float(first.scores[sample, target]),
        adds_up=not first.note,
    )
    options = {"shared": False, **options}
    return map_grid(below, maps, names, theme=theme, caption=words, **options)  # type: ignore[arg-type]


def _layer_name(one: Explanation, map: Volume) -> tuple[str, str]:
    grid = "×".join(str(n) for n in one.grid.shape)
    return one.layer, f"{grid}, sum {format_score(float(map.voxels.sum(dtype=np.float64)))}"


def _below(explanation: Explanation, image: Volume | None) -> Volume:
    if image is not None:
        return image
    if explanation.source is not None:
        return explanation.source
    return Volume(np.zeros(explanation.grid.input_shape))


def _grid_note(scene: Scene, plane: str, caption: Caption, *, shared: bool) -> str:
    low, high = (end.removesuffix(" the score") for end in caption.ends())
    colours = (
        "one scale of colours for all"
        if shared
        else f"each in colours of its own, from its strongest value; amber {high}, blue {low}"
    )
    return f"plane {plane}{' through the strongest voxel' if scene.has_colour else ''}; {colours}"


def _name(
    figure: Figure, place: tuple[float, float], name: tuple[str, str], width: float, theme: Theme
) -> None:
    most = max(4, int(width / 0.062))  # letters of the small size
    left, bottom = place
    size = theme.small_size
    first, second = (printable(text, most) for text in name)
    write(figure, left, bottom + 0.06 + _SECOND_LINE, first, size=size, colour=theme.ink, bold=True)
    write(figure, left, bottom + 0.06, second, size=size, colour=theme.muted)

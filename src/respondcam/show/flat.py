"""Figures of images and signals: the same look for networks on 2-D and 1-D inputs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respondcam.errors import InputError
from respondcam.show.canvas import add_panel, write
from respondcam.show.caption import NOTHING, Caption
from respondcam.show.legend import COLOUR_BAR_WIDTH, colour_bar, contours
from respondcam.show.notes import beyond_colours, empty_map, mostly_open
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.theme import FONT, Theme, format_score, grey_window, signed_rgba, theme_named

_TALLEST = 4.2  # inches of an image
_TRACE = 1.9  # inches of a signal
_TRACE_MAP = 1.1  # inches of the map below it
_NUMBERS = 0.55  # inches beside it
_TICKS = 0.3  # inches below it
_LEGEND_HEIGHT = 1.8


def image_overlay(
    image: np.ndarray,
    map: np.ndarray | None = None,
    *,
    limit: float | None = None,
    theme: str = "light",
    caption: Caption = NOTHING,
) -> Figure:
    """Draw a 2-D image, and beside it the same in grey with a signed map over it.

    An image without any contrast is not repeated.

    Parameters
    ----------
    image
        (y, x), or (channel, y, x): three channels are shown as red, green, blue in one common
        window; of any other number the mean over channels is shown. Rows run downwards.
    map
        (y, x) of the same size, signed, in units of the score; the maps of an explanation are
        brought to it by ``explanation.place()``.
    limit, theme, caption
        As in `orthogonal_planes`.

    Raises
    ------
    InputError
        If the shapes do not fit, a value is not finite, or an option is not one of these.

    Examples
    --------
    >>> figure = image_overlay(np.eye(4), np.eye(4) - 0.25)
    >>> [text.get_text() for text in figure.texts][0]
    'strongest +0.750 at row 0, column 0'
    """
    look = theme_named(theme)
    _check(image, map, limit, axes=2)
    image = np.asarray(image, np.float64)
    strongest = _strongest(map, limit)
    rows, columns = image.shape[-2:]
    room = look.width_inches - 2 * MARGIN - (COLOUR_BAR_WIDTH + 0.25 if strongest else 0)
    alone = map is not None and image.min() < image.max()  # the image once more, uncovered
    panels = 2 if alone else 1
    scale = min((room - 0.2 * (panels - 1)) / (panels * columns), _TALLEST / rows)
    height, width = rows * scale, columns * scale
    body = max(height, _LEGEND_HEIGHT if strongest else 0)
    figure, foot = make_page(body + 0.1, _words(map, strongest, caption, ("row", "column")), look)
    bottom = foot + body - height
    picture = _picture(image)
    places = [MARGIN + panel * (width + 0.2) for panel in range(panels)]
    if panels == 2:
        _draw_image(add_panel(figure, places[0], bottom, width, height), picture)
        picture = np.repeat(picture.mean(axis=-1, keepdims=True), 3, axis=-1)
    axes = add_panel(figure, places[-1], bottom, width, height)
    _draw_image(axes, picture)
    if map is not None and strongest:
        _draw_image(axes, signed_rgba(map, strongest))
        contours(axes, map, float(columns), float(rows), strongest)
        left = look.width_inches - MARGIN - COLOUR_BAR_WIDTH
        colour_bar(figure, (left, foot, body), strongest, theme=look, caption=caption)
    return figure


def signal_trace(
    signal: np.ndarray,
    map: np.ndarray | None = None,
    *,
    limit: float | None = None,
    theme: str = "light",
    caption: Caption = NOTHING,
) -> Figure:
    """Draw a 1-D signal as a line, and a signed map as filled areas below it.

    Parameters
    ----------
    signal
        (x,), or (channel, x): one line per channel.
    map
        (x,) of the same length, signed, in units of the score.
    limit, theme, caption
        As in `orthogonal_planes`; the limit is the height of the map's axis.

    Raises
    ------
    InputError
        If the shapes do not fit, a value is not finite, or an option is not one of these.

    Examples
    --------
    >>> figure = signal_trace(np.sin(np.arange(50) / 5), np.zeros(50))
    >>> [text.get_text() for text in figure.texts][0]
    'The map is zero everywhere.'
    """
    look = theme_named(theme)
    _check(signal, map, limit, axes=1)
    signal = np.asarray(signal, np.float64)
    strongest = _strongest(map, limit)
    lower = _TRACE_MAP + 0.15 if strongest else 0.0
    body = _TRACE + lower + _TICKS
    figure, foot = make_page(body, _words(map, strongest, caption, ("sample",)), look)
    width = look.width_inches - 2 * MARGIN - _NUMBERS
    axes = add_panel(figure, MARGIN + _NUMBERS, foot + _TICKS + lower, width, _TRACE)
    lines = signal.reshape(-1, signal.shape[-1])
    for line in lines:
        axes.plot(
            line, color=look.ink, linewidth=0.8, linestyle="solid", alpha=max(0.3, 1 / len(lines))
        )
    _frame(axes, look, lines.shape[-1])
    if map is not None and strongest:
        axes.tick_params(labelbottom=False)
        axes = add_panel(figure, MARGIN + _NUMBERS, foot + _TICKS, width, _TRACE_MAP)
        _draw_map(axes, map, strongest, look)
        place = (MARGIN, foot + _TICKS + _TRACE_MAP / 2)
        size, muted, align = look.small_size, look.muted, ("center", "center")
        text = "score per sample" if caption.adds_up else caption.scale()
        write(figure, *place, text, size=size, colour=muted, align=align, rotation=90.0)
    return figure


def _draw_map(axes: Axes, map: np.ndarray, limit: float, theme: Theme) -> None:
    x = np.arange(len(map))
    axes.fill_between(x, 0, np.maximum(map, 0), color=theme.positive, linewidth=0)
    axes.fill_between(x, 0, np.minimum(map, 0), color=theme.negative, linewidth=0)
    axes.axhline(0, color=theme.ink, linewidth=0.6, linestyle="solid")
    _frame(axes, theme, len(map))
    axes.set_ylim(-limit, limit)


def _frame(axes: Axes, theme: Theme, count: int) -> None:
    axes.axis("on")
    axes.set_xlim(-0.5, count - 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.line)
    axes.tick_params(
        colors=theme.ink, labelsize=theme.small_size, labelfontfamily=FONT, color=theme.line
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: format_score(value, digits=2))


def _draw_image(axes: Axes, picture: np.ndarray) -> None:
    rows, columns = picture.shape[:2]
    axes.imshow(picture, extent=(0, columns, rows, 0), interpolation="nearest", aspect="auto")


def _picture(image: np.ndarray) -> np.ndarray:
    low, high = grey_window(image)
    scaled = np.clip((image - low) / (high - low), 0, 1)
    if image.ndim == 3 and len(image) == 3:
        return np.moveaxis(scaled, 0, -1)
    grey = scaled.mean(axis=0) if image.ndim == 3 else scaled
    return np.repeat(grey[..., None], 3, axis=-1)


def _strongest(map: np.ndarray | None, limit: float | None) -> float:
    strongest = 0.0 if map is None else float(np.abs(map).max())
    return (limit or strongest) if strongest else 0.0


def _words(map: np.ndarray | None, limit: float, caption: Caption, names: tuple[str, ...]) -> Words:
    if map is None:
        return Words(caption, notes=caption.notes)
    if not map.any():
        return Words(caption, alert=empty_map(caption), notes=caption.notes)
    at = np.unravel_index(int(np.argmax(np.abs(map))), map.shape)
    where = ", ".join(f"{name} {index}" for name, index in zip(names, at, strict=True))
    value = format_score(float(map[at]), digits=3, sign=True)
    notes = [*caption.notes, f"strongest {value} at {where}", *beyond_colours(map, limit)]
    return Words(caption, alert=mostly_open(caption.account), notes=notes)


def _check(image: np.ndarray, map: np.ndarray | None, limit: float | None, *, axes: int) -> None:
    spatial = image.shape[-axes:]
    if image.ndim not in (axes, axes + 1) or image.size == 0:
        message = (
            f"shape {image.shape}: give {axes} axes, or {axes + 1} with the channels first, "
            f"none of them empty."
        )
        raise InputError(message)
    if map is not None and map.shape != spatial:
        message = (
            f"The map has shape {map.shape}, the input {spatial}. Bring the map to the input's "
            f"voxels first, for example with explanation.place()."
        )
        raise InputError(message)
    for name, values in (("input", image), ("map", map)):
        if values is not None and not np.isfinite(values).all():
            raise InputError(f"The {name} holds values that are NaN or infinite.")
    if limit is not None and not (np.isfinite(limit) and limit > 0):
        raise InputError(f"limit={limit!r}: give a finite number above zero, or None.")

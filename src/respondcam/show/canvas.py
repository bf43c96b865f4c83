"""Figures without pyplot: nothing global is read or changed, nothing has to be closed.

Every figure is a plain `matplotlib.figure.Figure` on its own Agg canvas, so that it works without
a screen and in any thread, and is freed like any other object. Places are given in inches from
the lower left corner.
"""

import io
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from respondcam._files import whole_file
from respondcam.errors import InputError
from respondcam.show.theme import Theme, fonts

_MEASURING_DPI = 144
SUFFIXES = (".png", ".svg", ".pdf")


def new_figure(width_inches: float, height_inches: float, theme: Theme) -> Figure:
    """Make an empty page of exactly this size.

    Examples
    --------
    >>> from respondcam.show.theme import theme_named
    >>> new_figure(4.0, 3.0, theme_named("dark")).get_size_inches().tolist()
    [4.0, 3.0]
    """
    figure = Figure(figsize=(width_inches, height_inches), dpi=150, facecolor=theme.page)
    figure.set_layout_engine("none")  # whatever a user's matplotlibrc says
    FigureCanvasAgg(figure)
    return figure


def add_panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add bare axes (no frame, ticks or labels) at a place in inches."""
    page_width, page_height = figure.get_size_inches()
    box = (left / page_width, bottom / page_height, width / page_width, height / page_height)
    axes = figure.add_axes(box)
    axes.set_facecolor("none")
    axes.set_axis_off()
    return axes


def write(
    figure: Figure,
    left: float,
    bottom: float,
    text: str,
    *,
    size: float,
    colour: str,
    align: Sequence[str] = ("left", "baseline"),
    bold: bool = False,
    rotation: float = 0.0,
) -> Text:
    """Write text at a place in inches, as it is: names with a dollar or backslash are no formula.

    `align` holds the horizontal and the vertical alignment.
    """
    page_width, page_height = figure.get_size_inches()
    return figure.text(
        left / page_width,
        bottom / page_height,
        text,
        fontsize=size,
        color=colour,
        fontfamily=list(fonts()),
        fontweight="bold" if bold else "normal",
        fontstyle="normal",
        fontstretch="normal",
        horizontalalignment=align[0],
        verticalalignment=align[1],
        rotation=rotation,
        rotation_mode="anchor",
        parse_math=False,
        usetex=False,
    )


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Measure one line in inches.

    Examples
    --------
    >>> text_width("MM", 8.0) == 2 * text_width("M", 8.0) > text_width("ii", 8.0)
    True
    """
    canvas = FigureCanvasAgg(Figure(figsize=(1, 1), dpi=_MEASURING_DPI))
    font = FontProperties(family=list(fonts()), size=size, weight="bold" if bold else "normal")
    pixels, _, _ = canvas.get_renderer().get_text_width_height_descent(text, font, ismath=False)
    return pixels / _MEASURING_DPI


def fitted(
    lines_of: Callable[[int], list[str]], width: float, size: float, *, bold: bool = False
) -> list[str]:
    """Give the lines for the largest number of letters with which each fits into `width` inches.

    Examples
    --------
    >>> import textwrap
    >>> fitted(lambda most: textwrap.wrap("one two three", most), 0.6, 8.0)
    ['one two', 'three']
    """

    def too_wide(most: int) -> bool:
        return any(text_width(line, size, bold=bold) > width for line in lines_of(most))

    letters = range(1, 200)
    return lines_of(max(1, bisect_left(letters, True, key=too_wide)))


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 200) -> Path:
    """Write a figure as PNG, SVG or PDF, chosen by the suffix of `path`; whole or not at all.

    The size on paper is the figure's own; `dpi` gives the pixels per inch of a PNG, and of the
    images inside an SVG or PDF.

    Returns
    -------
    The path written.

    Raises
    ------
    InputError
        If the suffix is another one, `dpi` is not within 10 to 2400, or the folder cannot be
        written to.

    Examples
    --------
    >>> import tempfile
    >>> from respondcam.show.theme import theme_named
    >>> figure = new_figure(2.0, 1.0, theme_named("light"))
    >>> save_figure(figure, f"{tempfile.mkdtemp()}/page.svg").name
    'page.svg'
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        message = (
            f"Cannot write the figure {str(target)!r}: the suffix {target.suffix!r} is not one of "
            f"{', '.join(SUFFIXES)}. Give the file one of these names."
        )
        raise InputError(message)
    if not 10 <= dpi <= 2400:
        message = f"dpi={dpi!r}: give whole pixels per inch from 10 to 2400; print needs 300."
        raise InputError(message)
    with whole_file(target) as beside:
        _print(figure, beside, suffix, dpi)
    return target


def png_bytes(figure: Figure, *, dpi: int = 100) -> bytes:
    """Render a figure as the bytes of a PNG file, as a web page embeds it.

    Examples
    --------
    >>> from respondcam.show.theme import theme_named
    >>> png_bytes(new_figure(2.0, 1.0, theme_named("light")))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    _print(figure, buffer, ".png", dpi)
    return buffer.getvalue()


def _print(figure: Figure, target: Path | io.BytesIO, suffix: str, dpi: int) -> None:
    # No date in the file: the same figure gives the same bytes. The box is given since a user's
    # matplotlibrc may crop by default, which would change the size that was asked for.
    date = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    figure.savefig(
        target,
        format=suffix[1:],
        dpi=dpi,
        metadata=date,
        facecolor=figure.get_facecolor(),
        transparent=False,
        bbox_inches=figure.bbox_inches,
    )

"""The frame around every figure: headline, details and notes above, the score account below."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from respondcam.show.account import ACCOUNT_HEIGHT, account_bar
from respondcam.show.canvas import fitted, new_figure, write
from respondcam.show.caption import Caption
from respondcam.show.theme import Theme, printable

MARGIN = 0.3  # inches
_POINTS_PER_INCH = 72.0
_LINE = 1.45  # of the size of its letters
_LONGEST = 300  # letters of a note


@dataclass(frozen=True)
class Words:
    """All lines above a figure.

    Parameters
    ----------
    caption
        Its first line is the headline.
    alert
        What must not be missed, such as a map without any content.
    notes
        The rest, each from a line of its own.
    """

    caption: Caption
    alert: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _Line:
    text: str
    size: float
    colour: str
    bold: bool = False


def make_page(body_height: float, words: Words, theme: Theme) -> tuple[Figure, float]:
    """Make a page with its words, and room for a body.

    Parameters
    ----------
    body_height
        Room to leave, in inches, over the whole width.

    Returns
    -------
    The figure, and the height of the body's lower edge above the page's, in inches.
    """
    lines = _lines(words, theme)
    account = words.caption.account
    head = sum(_LINE * line.size for line in lines) / _POINTS_PER_INCH + 0.16
    foot = 0.1 if account is None else ACCOUNT_HEIGHT + 0.37
    top = foot + body_height + head
    figure = new_figure(theme.width_inches, top, theme)
    top -= 0.1
    for line in lines:
        top -= _LINE * line.size / _POINTS_PER_INCH
        write(figure, MARGIN, top, line.text, size=line.size, colour=line.colour, bold=line.bold)
    if account is not None:
        place = (MARGIN, 0.22, theme.width_inches - 2 * MARGIN)
        account_bar(figure, account, place, theme=theme)
    return figure, foot


def _lines(words: Words, theme: Theme) -> list[_Line]:
    width = theme.width_inches - 2 * MARGIN
    caption, size = words.caption, theme.title_size
    title = fitted(lambda most: [caption.headline(most)], width, size, bold=True)
    lines = [_Line(text, size, theme.ink, bold=True) for text in title]
    size = theme.text_size
    for text in fitted(lambda most: [caption.details(most)], width, size):
        lines.append(_Line(text, size, theme.ink))
    for text in _wrapped(words.alert, width, size, bold=True):
        lines.append(_Line(text, size, theme.ink, bold=True))
    size = theme.small_size
    for note in words.notes:
        lines += [_Line(text, size, theme.muted) for text in _wrapped(note, width, size)]
    return [line for line in lines if line.text]


def _wrapped(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    text = printable(text, _LONGEST)
    return fitted(lambda most: textwrap.wrap(text, most), width, size, bold=bold)

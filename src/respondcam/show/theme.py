"""One look for every figure: colours, sizes, and how numbers are written.

**The signed colour map.** Zero is a neutral grey; values above zero run through vermilion to amber
and *raise* the score, values below zero run through blue to sky blue and *lower* it. The two arms
are straight in none of the colour spaces but equal in all that matters: equal perceptual steps
(CIELAB), equal length, equal lightness at both ends, and far apart for red-green and blue-yellow
colour blindness. Over an image the opacity grows with the absolute value, so that zero is
invisible whatever lies below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

from respondcam.errors import InputError

FONT = "DejaVu Sans"  # comes with matplotlib, so figures look the same on every machine
_WITH_MORE_LETTERS = (  # for names that it lacks letters of, where one of these is installed
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "IPAexGothic",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
)
OPACITY = 0.85  # of the strongest colour: the image stays visible below the peak

# fmt: off
_SIGNED = (
    "#51cefa", "#49bcf8", "#44a7f1", "#4390e5", "#4776c5", "#4e6ba6", "#55668e", "#5c6478",
    "#636363",
    "#7b625a", "#906251", "#a56347", "#b9673e", "#cd6f33", "#e07d29", "#f19120", "#fea91e",
)
# fmt: on


@dataclass(frozen=True)
class Theme:
    """Colours of the page, and sizes in points for a page 7.2 inches wide (two print columns)."""

    page: str
    ink: str
    muted: str  # still 4.5 : 1 on the page
    line: str
    positive: str  # strong enough for lines and bars on this page
    negative: str
    title_size: float = 10.0
    text_size: float = 8.0
    small_size: float = 7.0
    width_inches: float = 7.2


THEMES: dict[str, Theme] = {
    "light": Theme("#ffffff", "#1a1a1a", "#595959", "#bdbdbd", "#b35300", "#1f5fae"),
    "dark": Theme("#16181c", "#f2f2f2", "#b3b3b3", "#5a5f66", "#fea91e", "#51cefa"),
}


def theme_named(name: str) -> Theme:
    """Look up a theme.

    Raises
    ------
    InputError
        If there is no such theme.

    Examples
    --------
    >>> theme_named("light").page
    '#ffffff'
    """
    if name not in THEMES:
        message = f"There is no theme {name!r}. Use one of: {', '.join(map(repr, THEMES))}."
        raise InputError(message)
    return THEMES[name]


@lru_cache(maxsize=1)
def signed_colours() -> LinearSegmentedColormap:
    """Give the diverging colour map: 0.5 is zero, above it raises the score, below it lowers it.

    Examples
    --------
    >>> from matplotlib.colors import to_hex
    >>> to_hex(signed_colours()(1.0))  # amber: important
    '#fea91e'
    """
    return LinearSegmentedColormap.from_list("respondcam-signed", _SIGNED, N=257)


def signed_rgba(
    values: Float[np.ndarray, "*grid"], limit: float, *, opacity: float = OPACITY
) -> Float[np.ndarray, "*grid 4"]:
    """Colour signed values: hue and opacity from -`limit` to +`limit`, zero fully transparent.

    Parameters
    ----------
    values
        Signed values, in units of the score.
    limit
        The value of the strongest colours, above zero; larger values are cut to it.
    opacity
        Of the strongest colours, 0 to 1; it falls in proportion to the value, down to 0 at zero.

    Returns
    -------
    Red, green, blue and opacity, each 0 to 1, along a new last axis.

    Raises
    ------
    InputError
        If `limit` is not a finite number above zero, or `opacity` is not within 0 to 1.

    Examples
    --------
    >>> signed_rgba(np.array([-2.0, 0.0, 1.0]), 2.0, opacity=0.8)[:, 3].tolist()
    [0.8, 0.0, 0.4]
    """
    if not (np.isfinite(limit) and limit > 0):
        message = f"limit={limit!r}: the colour limit must be a finite number above zero."
        raise InputError(message)
    if not 0 <= opacity <= 1:
        message = f"opacity={opacity!r}: give a number from 0 (invisible) to 1 (opaque)."
        raise InputError(message)
    share = np.clip(np.asarray(values, np.float64) / limit, -1.0, 1.0)
    rgba = np.asarray(signed_colours()((share + 1) / 2), np.float64)
    rgba[..., 3] = opacity * np.abs(share)
    return rgba


def grey_window(voxels: Float[np.ndarray, "*grid"]) -> tuple[float, float]:
    """Find the values shown black and white: the 0.1 and 99.9 percent quantiles.

    Quantiles, since a single hot voxel would turn the rest black. Where they coincide the range is
    used instead; a constant volume is shown mid-grey. Quantiles of more than a million voxels come
    from an even subsample.

    Examples
    --------
    >>> grey_window(np.full((2, 2, 2), 3.0))
    (2.5, 3.5)
    """
    flat = voxels.reshape(-1)
    low, high = np.quantile(flat[:: max(1, flat.size // 1_000_000)], [0.001, 0.999])
    if low == high:
        low, high = flat.min(), flat.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    return float(low), float(high)


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def format_score(value: float, *, digits: int = 4, sign: bool = False) -> str:
    """Write a number in units of the score: significant digits, a real minus, powers of ten.

    Examples
    --------
    >>> format_score(-3.14159), format_score(0.000012, sign=True), format_score(0.0)
    ('−3.142', '+1.2×10⁻⁵', '0')
    """
    if value == 0:
        return "0"
    if not np.isfinite(value):
        return str(value)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < 6:
        text = f"{float(f'{value:.{digits - 1}e}'):.{max(0, digits - 1 - power)}f}"
    else:
        trimmed = mantissa.rstrip("0").rstrip(".")
        text = f"{trimmed}×10{str(power).translate(_SUPERSCRIPT)}"
    return ("+" if sign and value > 0 else "") + text.replace("-", "−")


def format_together(values: Sequence[float], *, digits: int = 4) -> list[str]:
    """Write numbers that are added up: equally many decimals for all, `digits` for the largest.

    The first, which is the score, keeps as many digits as it has where it stands alone.

    Examples
    --------
    >>> format_together([3.21449, 0.4, -0.0001])
    ['3.214', '0.400', '0.000']
    >>> format_together([1e-7, 3e-5])
    ['0.010×10⁻⁵', '3.000×10⁻⁵']
    >>> format_together([0.58271, -38162.04])
    ['0.5827', '−38162.0400']
    """
    largest = max((abs(value) for value in values), default=0.0)
    if not np.isfinite(largest):
        return [format_score(value, digits=digits) for value in values]
    power = int(np.floor(np.log10(largest))) if largest > 0 else 0
    plain = -3 <= power < 6
    if power >= 6 and abs(values[0]) < 10.0 ** (power - digits):
        return [format_score(value, digits=digits) for value in values]
    decimals = max(0, digits - 1 - power) if plain else digits - 1
    if plain and abs(values[0]) >= 1e-3 and abs(values[0]) * 10.0**decimals < 10:
        decimals = max(decimals, digits - 1 - int(np.floor(np.log10(abs(values[0])))))
    shared = "" if plain else f"×10{str(power).translate(_SUPERSCRIPT)}"
    unit = 1.0 if plain else 10.0**power
    # adding zero turns a minus zero into zero
    numbers = [round(value / unit, decimals) + 0.0 for value in values]
    return [f"{number:.{decimals}f}{shared}".replace("-", "−") for number in numbers]


def format_length(value: float, unit: str) -> str:
    """Write a length with its unit; a volume without a unit is measured in voxels.

    Examples
    --------
    >>> format_length(50.0, "angstrom"), format_length(2.5, "mm"), format_length(10.0, "voxel")
    ('50 Å', '2.5 mm', '10 voxels')
    """
    number = f"{value:g}".replace("-", "−")
    voxels = "voxel" if value == 1 else "voxels"
    return f"{number} {({'angstrom': 'Å', 'voxel': voxels}).get(unit, unit)}"


@lru_cache(maxsize=1)
def fonts() -> tuple[str, ...]:
    """The font of figures, and behind it one with more letters if this machine has any.

    Examples
    --------
    >>> fonts()[0]
    'DejaVu Sans'
    """
    installed = {one.name for one in fontManager.ttflist}
    return (FONT, *[name for name in _WITH_MORE_LETTERS if name in installed][:1])


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    files = [str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))]
    files += [one.fname for name in fonts()[1:] for one in fontManager.ttflist if one.name == name]
    return frozenset().union(*(FT2Font(file).get_charmap() for file in files[:2]))


def _drawn(letter: str) -> str:
    if not letter.isprintable():
        return "\ufffd"  # what moves or turns the text around it
    return letter if ord(letter) in _glyphs() else letter.encode("unicode_escape").decode()


def printable(text: object, most: int = 80) -> str:
    r"""Make a name safe to draw: one line, only known glyphs, shortened in the middle.

    Characters that the fonts lack stand there as escapes; the HTML pages show them.

    Examples
    --------
    >>> printable("a" * 30 + ".mrc", most=12)
    'aaaaaa…a.mrc'
    >>> printable("two\nlines")
    'two lines'
    """
    line = " ".join(str(text).split())
    line = "".join(map(_drawn, line))
    if len(line) <= most:
        return line
    tail = (most - 1) // 2
    return line[: most - 1 - tail] + "…" + line[len(line) - tail :]

"""Words that several commands and figures share."""

import math

_MOST_SHARE = 10.0  # beyond that a share says no more than that it is far too large


def counted(count: int, what: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1, "volume"), counted(3, "voxel")
    ('1 volume', '3 voxels')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def layer_named(name: str) -> str:
    """A layer by its name, where only names stand: a bare number would be read as a number.

    Examples
    --------
    >>> layer_named("conv5"), layer_named("4"), layer_named("0.2")
    ('conv5', 'layer 4', 'layer 0.2')
    """
    return f"layer {name}" if name[:1].isdigit() else name


def clipped(text: str, most: int = 120) -> str:
    """A text of a file's own, such as a name, cut where it is too long for a message.

    Examples
    --------
    >>> clipped("conv5"), clipped("k" * 10_000_000, 4)
    ('conv5', 'kkkk... (10000000 characters)')
    """
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def percent(value: float) -> str:
    """A share as tables and sentences have it.

    Examples
    --------
    >>> percent(0.0123), percent(float("nan")), percent(2e-8)
    ('1.2 %', '-', '0 %')
    >>> percent(0.9957), percent(1.0)
    ('99.57 %', '100 %')
    >>> percent(1.3), percent(123.0)
    ('130 %', '> 1000 %')
    """
    if not math.isfinite(value):
        return "-"
    if value > _MOST_SHARE:
        return f"> {100 * _MOST_SHARE:.0f} %"
    if abs(value) < 5e-6:
        return "0 %"
    digits = 4 if abs(value) > 0.99 else 3 if abs(value) > 0.1 else 2
    return f"{100 * value:.{digits}g} %"

"""Words that several formats share."""

from collections.abc import Mapping
from typing import Any

from respondcam._version import __version__

IMAGES = "Images are explained in Python, as a tensor (batch, channel, y, x)"
_ROOM = 80  # bytes of a label in MRC, and of the description in NIfTI


def described(header: Mapping[str, Any] | None, note: str = "") -> str:
    """What a file says of itself: who wrote it, a note, and the title that its volume has.

    Examples
    --------
    >>> described({"title": "respond, layer conv5, GroEL"}).partition(": ")[2]
    'respond, layer conv5, GroEL'
    >>> len(described({"title": "\u00e5" * 80}).encode()) in (79, 80)
    True
    """
    title = (header or {}).get("title", "")
    text = f"respondcam {__version__}{note}{': ' if title else ''}{title}"
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain.encode("utf-8", "replace")[:_ROOM].decode("utf-8", "ignore")

"""Whether a DICOM file holds the pixels that its tags declare.

GDCM does not ask: it sets the memory aside, and what the file lacks stays as that memory happened
to be.
"""

import re
from math import prod
from pathlib import Path

from respondcam.errors import VolumeError

_SYNTAX = re.compile(rb"\x02\x00\x10\x00UI..([0-9.]+)", re.DOTALL)
_HEAD_BYTES = 1 << 12  # the transfer syntax is among the first tags
# Implicit and explicit byte order; what is not packed, has one element of so many bytes. A file
# that does not say is implicit.
_PLAIN = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_PIXELS = re.compile(rb"(?:\xe0\x7f\x10\x00|\x7f\xe0\x00\x10)(O[BW]..)?", re.DOTALL)
_FREE = 1 << 26  # bytes that may be declared whatever is stored, where pixels are packed
_RATIO = 5000  # bytes declared for one byte stored, beyond that


def check_pixels(path: Path, size: tuple[int, ...], bits: int) -> None:
    """Refuse a file of fewer pixels than its tags declare.

    Raises
    ------
    VolumeError
        Before any memory is taken.
    """
    declared = -(-prod(size) * bits // 8)
    data = path.read_bytes()
    found = _SYNTAX.search(data[:_HEAD_BYTES])
    if found is None or found[1].decode() in _PLAIN:
        fits = _holds(data, declared)
    else:
        fits = declared <= max(_FREE, _RATIO * len(data))
    if not fits:
        raise VolumeError(
            f"{str(path)!r} is truncated or damaged: its tags declare {' x '.join(map(str, size))} "
            f"pixels, {declared} bytes, and it does not hold as many. Fetch it anew"
        )


def _holds(data: bytes, declared: int) -> bool:
    """Whether there is an element of pixels as long as declared, be it not the first: of icons."""
    for found in _PIXELS.finditer(data):
        order = "little" if found[0][:1] == b"\xe0" else "big"
        for at in {found.start() + 4, found.end()}:  # implicit, or behind the kind of its values
            length = int.from_bytes(data[at : at + 4], order)
            if declared <= length <= len(data) - at - 4:
                return True
    return False

"""Whether a DICOM file holds the pixels that its tags declare, and packs them as it may.

GDCM does not ask: it sets the memory aside, and what the file lacks stays as that memory happened
to be. It divides by the number of RLE segments (DICOM PS3.5, annex G) without a look at it, and
unpacks JPEG-LS (ISO 14495-1, annex C) of any size, also of none: either can end the process.
"""

import re
import struct
from itertools import chain, pairwise
from math import prod
from pathlib import Path

from respondcam.errors import VolumeError

_SYNTAX = re.compile(rb"\x02\x00\x10\x00UI..([0-9.]+)", re.DOTALL)
_HEAD_BYTES = 1 << 12  # the transfer syntax is among the first tags
# Implicit and explicit byte order; what is not packed, has one element of so many bytes. A file
# that does not say is implicit.
_PLAIN = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
_FRAMED = "1.2.840.10008.1.2.4."  # what begins so, is packed in fragments, as RLE is
_RLE, _JPEG_LS = {"1.2.840.10008.1.2.5"}, {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
_PIXELS = re.compile(rb"(?:\xe0\x7f\x10\x00|\x7f\xe0\x00\x10)(O[BW]..)?", re.DOTALL)
_ITEM = b"\xfe\xff\x00\xe0"
_PACKED = re.compile(rb"\xe0\x7f\x10\x00.{0,4}?\xff{4}(?=%s)" % _ITEM, re.DOTALL)
_SEGMENTS = struct.Struct("<16I")  # how many, and where each begins
_FREE = 1 << 26  # bytes that may be declared whatever is stored, where pixels are packed
_RATIO = 5000  # bytes declared for one byte stored, beyond that


def check_runs(path: Path) -> None:
    """Refuse a file of RLE whose segments cannot be; of any other file nothing is said.

    Raises
    ------
    VolumeError
        Before GDCM opens it, which unpacks RLE even where only the tags are asked for.
    """
    with path.open("rb") as stream:
        syntaxes = transfer_syntaxes(stream.read(_HEAD_BYTES))
    if not syntaxes & _RLE:
        return
    fragments = chain.from_iterable(_packed(path.read_bytes()))
    if not all(_rle_segments(fragment) for fragment in fragments):
        raise VolumeError(
            f"{str(path)!r} is damaged: its pixels do not begin as DICOM packs them (RLE). Fetch "
            f"it anew"
        )


def check_pixels(path: Path, size: tuple[int, ...], bits: int) -> None:
    """Refuse a file of fewer pixels than its tags declare, or that packs others.

    Raises
    ------
    VolumeError
        Before any memory is taken.
    """
    declared = -(-prod(size) * bits // 8)
    data = path.read_bytes()
    syntaxes = transfer_syntaxes(data)
    if not syntaxes or syntaxes & _PLAIN:
        held = _holds(data, declared)
    else:
        held = declared <= max(_FREE, _RATIO * len(data))
    if not held or not _fits(data, syntaxes, size, bits):
        raise VolumeError(
            f"{str(path)!r} is truncated or damaged: its tags declare {' x '.join(map(str, size))} "
            f"pixels, {declared} bytes, and it does not hold these. Fetch it anew"
        )


def transfer_syntaxes(data: bytes) -> set[str]:
    """How a file that begins so may be meant: one way, unless it is made to mislead."""
    return {found.decode() for found in _SYNTAX.findall(data[:_HEAD_BYTES])}


def _holds(data: bytes, declared: int) -> bool:
    """Whether there is an element of pixels as long as declared, be it not the first: of icons."""
    for found in _PIXELS.finditer(data):
        order = "little" if found[0][:1] == b"\xe0" else "big"
        for at in {found.start() + 4, found.end()}:  # implicit, or behind the kind of its values
            length = int.from_bytes(data[at : at + 4], order)
            if declared <= length <= len(data) - at - 4:
                return True
    return False


def _fits(data: bytes, syntaxes: set[str], size: tuple[int, ...], bits: int) -> bool:
    """Whether the pixels, the last ones that are packed in the file, are packed as declared."""
    fragments = (_packed(data) or [[]])[-1]
    if not fragments:
        return not any(one in _RLE or one.startswith(_FRAMED) for one in syntaxes)
    if syntaxes & _RLE and any(_rle_segments(one) != -(-bits // 8) for one in fragments):
        return False
    return not syntaxes & _JPEG_LS or _jpeg_ls_size(b"".join(fragments)) == size


def _packed(data: bytes) -> list[list[bytes]]:
    """Fragments of each element of packed pixels, without the table of their offsets."""
    return [_items(data, found.end())[1:] for found in _PACKED.finditer(data)]


def _items(data: bytes, at: int) -> list[bytes]:
    items: list[bytes] = []
    while data[at : at + 4] == _ITEM:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        items.append(data[at + 8 : end])
        at = end
    return items


def _rle_segments(fragment: bytes) -> int:
    """How many segments it has, one for each byte of a pixel; 0 if it cannot have them."""
    if len(fragment) < _SEGMENTS.size:
        return 0
    count, *begins = _SEGMENTS.unpack_from(fragment)
    bounds = [_SEGMENTS.size - 1, *begins[:count], len(fragment)]
    sound = count <= len(begins) and all(one < other for one, other in pairwise(bounds))
    return count if sound else 0


def _jpeg_ls_size(image: bytes) -> tuple[int, int] | None:
    """Columns and rows out of its start of frame, passing over the segments before it."""
    at = 2
    while image[at : at + 1] == b"\xff":
        if image[at + 1 : at + 2] == b"\xf7" and len(image) >= at + 9:
            rows, columns = struct.unpack_from(">HH", image, at + 5)
            return columns, rows
        at += 2 + max(2, int.from_bytes(image[at + 2 : at + 4], "big"))
    return None

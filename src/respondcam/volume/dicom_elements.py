"""Whether the elements of a DICOM file (PS3.5, section 7) lie within it, before GDCM reads them.

GDCM believes lengths: it takes gigabytes for an element that the file cannot hold, and it goes down
into sequences within sequences until its stack is used up, which ends the process.
"""

import mmap
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from respondcam.errors import VolumeError
from respondcam.volume.dicom_pixels import transfer_syntaxes

_PREAMBLE = 132
_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_FRAMES = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_ITEM, _ITEM_END, _SEQUENCE_END = _FRAMES
_OPEN = 0xFFFFFFFF  # a length that is not told
_DEPTH = 32  # of sequences; images have a few
_MOST = 200_000  # elements
_INFLATED = 1 << 28  # bytes


@dataclass(frozen=True)
class _Form:
    """How elements are written: with the kind of their values or without, and the byte order."""

    explicit: bool
    order: str = "little"


@dataclass(frozen=True)
class _Level:
    """Elements, or items of a sequence, as far as `end`; or as far as their own end says."""

    end: int
    form: _Form
    items: bool = False
    fragments: bool = False
    open: bool = False


class _AstrayError(Exception):
    """What was found cannot be; says why."""


def check_elements(path: Path) -> None:
    """Refuse a file with elements that reach beyond its end, or nested without end.

    Raises
    ------
    VolumeError
        Naming what was found. Time and memory do not depend on what the file claims.
    """
    filled_elements(path)


def filled_elements(path: Path) -> set[tuple[int, int]]:
    """Tags of the elements of a file that are in no sequence, and not empty.

    Raises
    ------
    VolumeError
        As for `check_elements`.
    """
    filled: set[tuple[int, int]] = set()
    if path.stat().st_size == 0:
        return filled  # GDCM says so too
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _walk_file(data, filled)
        except _AstrayError as error:
            raise VolumeError(
                f"{str(path)!r} cannot be read: {error}. It is truncated or damaged, or no DICOM "
                f"file; fetch it anew"
            ) from None
    return filled


def _walk_file(data: mmap.mmap, filled: set[tuple[int, int]]) -> None:
    stamped = data[_PREAMBLE - 4 : _PREAMBLE] == b"DICM"
    whole = _Level(len(data), _Form(explicit=True))
    at = _walk(data, _PREAMBLE if stamped else 0, whole, filled, only_group=2)
    for syntax in transfer_syntaxes(data[:at]) or {""}:
        if syntax == _DEFLATED:
            _walk_deflated(data[at:], filled)
        else:
            order = "big" if syntax == _BIG_ENDIAN else "little"
            _walk(data, at, _Level(len(data), _guess(data, at, order)), filled)


def _walk_deflated(packed: bytes, filled: set[tuple[int, int]]) -> None:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflate.decompress(packed, _INFLATED)
    except zlib.error as error:
        raise _AstrayError(f"its deflated elements cannot be unpacked ({error})") from None
    if inflate.unconsumed_tail:
        raise _AstrayError(f"its deflated elements unpack to more than {_INFLATED >> 20} MiB")
    _walk(data, 0, _Level(len(data), _guess(data, 0, "little")), filled)


def _guess(data: mmap.mmap | bytes, at: int, order: str) -> _Form:
    """What the first element looks like decides: files are known that say something else."""
    return _Form(bytes(data[at + 4 : at + 6]) in _LONG | _SHORT, order)


def _walk(
    data: mmap.mmap | bytes,
    at: int,
    whole: _Level,
    filled: set[tuple[int, int]],
    *,
    only_group: int | None = None,
) -> int:
    """Go from element to element; where the last one ended. Add tags to `filled`."""
    levels = [whole]
    for _ in range(_MOST):
        level = levels[-1]
        if at + 8 > level.end:
            # what is left of a file is padding; a sequence may lack its end where the file ends
            if len(levels) == 1 or (level.open and level.end == whole.end):
                return at
            at = level.end
            levels.pop()
            continue
        tag = _number(data, at, 2, level.form), _number(data, at + 2, 2, level.form)
        if only_group is not None and tag[0] != only_group:
            return at
        if tag in _FRAMES:
            at = _frame(data, at, tag, levels)
        elif level.items:
            raise _AstrayError(f"a sequence holds {_name(tag)}, which is no item")
        else:
            if len(levels) == 1 and _header(data, at, level)[2]:
                filled.add(tag)
            at = _element(data, at, tag, levels)
        if len(levels) > 2 * _DEPTH:
            raise _AstrayError(f"it has sequences within sequences, more than {_DEPTH} deep")
    raise _AstrayError(f"it has more than {_MOST} elements")


def _frame(data: mmap.mmap | bytes, at: int, tag: tuple[int, int], levels: list[_Level]) -> int:
    """An item of a sequence, or the end of an item or of a sequence."""
    level = levels[-1]
    length = _number(data, at + 4, 4, level.form)
    at += 8
    if tag == _ITEM:
        if not level.items:
            raise _AstrayError("an item stands outside a sequence")
        if length == _OPEN and not level.fragments:
            levels.append(replace(level, items=False, open=True))
            return at
        _check(at, length, level, "an item")
        if level.fragments:
            return at + length
        levels.append(_Level(at + length, level.form))
    elif level.open and level.items == (tag == _SEQUENCE_END):
        levels.pop()
    elif length:
        raise _AstrayError("an end of a sequence has a length")
    return at


def _element(data: mmap.mmap | bytes, at: int, tag: tuple[int, int], levels: list[_Level]) -> int:
    level = levels[-1]
    kind, at, length = _header(data, at, level)
    inner = level.form if kind != b"UN" else _Form(explicit=False)
    if length == _OPEN:
        if kind not in (b"SQ", b"UN", b"OB", b"OW", b""):
            raise _AstrayError(f"the element {_name(tag)} has no length")
        fragments = kind in (b"OB", b"OW") or (kind == b"" and tag == (0x7FE0, 0x0010))
        levels.append(_Level(level.end, inner, items=True, fragments=fragments, open=True))
        return at
    _check(at, length, level, f"the element {_name(tag)}")
    begins = length >= 8 and _begins_with_item(data, at, inner)
    if kind == b"SQ" or (kind in (b"", b"UN") and begins):
        levels.append(_Level(at + length, inner, items=True))
        return at
    return at + length


def _header(data: mmap.mmap | bytes, at: int, level: _Level) -> tuple[bytes, int, int]:
    """Kind of an element's values ("" where that is not written), where they begin, their bytes."""
    if not level.form.explicit:
        return b"", at + 8, _number(data, at + 4, 4, level.form)
    kind = bytes(data[at + 4 : at + 6])
    if kind in _SHORT:
        return kind, at + 8, _number(data, at + 6, 2, level.form)
    if at + 12 > level.end:
        raise _AstrayError("an element reaches beyond its end")
    long = _number(data, at + 8, 4, level.form)
    if kind not in _LONG and at + 12 + long > level.end:  # of a kind that nobody knows
        return kind, at + 8, _number(data, at + 6, 2, level.form)
    return kind, at + 12, long


def _check(at: int, length: int, level: _Level, what: str) -> None:
    if at + length > level.end:
        raise _AstrayError(f"{what} claims {length} bytes where {max(0, level.end - at)} are left")


def _begins_with_item(data: mmap.mmap | bytes, at: int, form: _Form) -> bool:
    return (_number(data, at, 2, form), _number(data, at + 2, 2, form)) == _ITEM


def _number(data: mmap.mmap | bytes, at: int, size: int, form: _Form) -> int:
    # mypy and pyright know the two words alone
    return int.from_bytes(data[at : at + size], "little" if form.order == "little" else "big")


def _name(tag: tuple[int, int]) -> str:
    return f"({tag[0]:04x},{tag[1]:04x})"

"""Hostile files made from good ones: bits flipped, extreme numbers, pieces cut and repeated."""

import random
import struct
from collections.abc import Callable, Sequence

# What programs that trust a header fall for.
_EXTREMES = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, -(2**31), 10**9)
_FLOATS = (0.0, -0.0, 1e-38, 1e38, -1e38, float("nan"), float("inf"), float("-inf"))
_TEXTS = (b"-1", b"0", b"1e999", b"nan", b"99999999999999999999", b"../../x", b"%s%n", b"\xff\xfe")


def mutated(good: bytes, random_: random.Random, header: int = 1024) -> bytes:
    """One to four changes, most of them within the first `header` bytes."""
    data = bytearray(good)
    for _ in range(random_.randint(1, 4)):
        if not data:
            break
        reach = min(len(data), header) if random_.random() < 0.8 else len(data)
        random_.choice(_CHANGES)(data, random_.randrange(reach), random_)
    return bytes(data)


def _flip(data: bytearray, at: int, random_: random.Random) -> None:
    data[at] ^= 1 << random_.randrange(8)


def _byte(data: bytearray, at: int, random_: random.Random) -> None:
    data[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))


def _integer(data: bytearray, at: int, random_: random.Random) -> None:
    order, width = random_.choice("<>"), random_.choice((2, 4, 8))
    value = random_.choice(_EXTREMES) & (2 ** (8 * width) - 1)
    at -= at % width  # fields of headers are aligned
    _put(data, at, value.to_bytes(width, "little" if order == "<" else "big"))


def _float(data: bytearray, at: int, random_: random.Random) -> None:
    at -= at % 4
    _put(data, at, struct.pack(random_.choice("<>") + "f", random_.choice(_FLOATS)))


def _text(data: bytearray, at: int, random_: random.Random) -> None:
    _put(data, at, random_.choice(_TEXTS))


def _cut(data: bytearray, at: int, random_: random.Random) -> None:
    del data[at:]


def _remove(data: bytearray, at: int, random_: random.Random) -> None:
    del data[at : at + random_.choice((1, 2, 4, 16, 64))]


def _repeat(data: bytearray, at: int, random_: random.Random) -> None:
    piece = data[at : at + random_.choice((1, 4, 16, 64))]
    data[at:at] = piece * random_.choice((1, 2, 50))


def _move(data: bytearray, at: int, random_: random.Random) -> None:
    piece = data[at : at + random_.choice((2, 4, 16))]
    _put(data, random_.randrange(len(data)), bytes(piece))


def _put(data: bytearray, at: int, piece: bytes) -> None:
    data[at : at + len(piece)] = piece[: max(0, len(data) - at)]


_Change = Callable[[bytearray, int, random.Random], None]
_CHANGES: Sequence[_Change] = (
    _flip, _byte, _integer, _integer, _float, _text, _cut, _remove, _repeat, _move,
)  # fmt: skip

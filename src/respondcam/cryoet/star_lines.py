"""The lines of a STAR file: tables and labels that stand once, and rows that fit the labels.

The library that reads STAR files takes one of two tables or columns of the same name, fills rows
that are too short, and lets the errors of its own parser through for others; here they are named by
their line.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from respondcam.errors import InputError

_COMMENT = re.compile(r'("[^"]*")|#.*')
_VALUE = re.compile(r'"[^"]*"\S*|\S+')


@dataclass
class _Block:
    """What was read of a block of data."""

    labels: dict[str, int] = field(default_factory=dict[str, int])  # with their lines
    looped: bool = False
    rows: bool = False  # the labels are over
    open: bool = False  # a quote goes on over lines: its rows cannot be counted here


def check_lines(path: Path) -> None:
    """Refuse blocks that stand twice, labels that do in a block, and rows that do not fit them.

    Raises
    ------
    InputError
        Naming the block, the label or the line.
    """
    block, blocks = _Block(), dict[str, int]()
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text.isascii() and (wrong := _undecoded(text, number)):
                raise InputError(f"{str(path)!r} cannot be read as STAR file: {wrong}")
            if text.startswith("data_"):
                if text in blocks:
                    raise InputError(
                        f"{str(path)!r} cannot be read as STAR file: the table {text[:80]} begins "
                        f"in line {blocks[text]} and again in line {number}. Accepted: each table "
                        f"once. Join their rows, or keep one"
                    )
                block, blocks[text] = _Block(), number
            elif text.startswith("loop_") and not block.labels:
                block.looped = True
            else:
                for wrong in _wrong(block, text, number):
                    raise InputError(f"{str(path)!r} cannot be read as STAR file: {wrong}")


def _wrong(block: _Block, text: str, number: int) -> Iterator[str]:
    if text.startswith("_") and not block.rows:
        label = text.split()[0][1:]
        if label in block.labels:
            yield (
                f"the label {label[:80]} stands in line {block.labels[label]} and again in line "
                f"{number}. Accepted: each label once in its table"
            )
        block.labels[label] = number
        if not block.looped and (count := _words(text)) != 2:
            yield f"line {number} holds {count} words. Accepted outside loop_: a label and a value"
    elif block.looped and block.labels and not block.open and text:
        block.rows = True
        count = _values(text)
        block.open = count < 0
        if count > 0 and count != len(block.labels):
            yield (
                f"line {number} holds {count} value(s), and its table has {len(block.labels)} "
                f"label(s). Accepted: a value for each label in every row"
            )


def _undecoded(text: str, number: int) -> str:
    """What is wrong with a line whose bytes are no UTF-8; empty if they are."""
    stray = next((letter for letter in text if "\udc80" <= letter <= "\udcff"), None)
    if stray is None:
        return ""
    return (
        f"line {number} holds the byte 0x{ord(stray) - 0xDC00:02x}, which is no UTF-8 text. "
        f"Accepted: UTF-8. Save the file anew in it, or rename what has such letters"
    )


def _words(text: str) -> int:
    try:
        return len(shlex.split(text))
    except ValueError:  # a quote that is not closed
        return 1


def _values(text: str) -> int:
    """How many values a row has; none in a comment, -1 where a quote is not closed."""
    if "'" not in text and '"' not in text:
        return len(text.partition("#")[0].split())
    text = _COMMENT.sub(lambda found: found[1] or "", text.replace("'", '"'))
    return -1 if text.count('"') % 2 else len(_VALUE.findall(text))

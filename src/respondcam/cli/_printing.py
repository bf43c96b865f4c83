"""Printing for people, for machines and for spreadsheets."""

import contextlib
import dataclasses
import json
import math
import re
import sys
import time
from collections.abc import Generator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import typer

from respondcam._words import percent as percent

if TYPE_CHECKING:
    from rich.console import Console

# what moves a terminal's cursor, colours, or turns the direction of what follows; not the line feed
_COMMANDS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")


def shown(text: str, *, one_line: bool = False) -> str:
    r"""Text as a terminal may get it: what would command it stands there as an escape.

    Names of files and classes may hold anything, also what moves the cursor or recolours lines.

    Examples
    --------
    >>> print(shown("a\x1b[31m.mrc"))
    a\x1b[31m.mrc
    """
    escaped = _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)
    return escaped.replace("\n", "\\n") if one_line else escaped


def say(text: str, *, err: bool = False) -> None:
    """Print a text to a terminal, a file or a pipe."""
    typer.echo(shown(text), err=err)


def say_when(line: str) -> None:
    """A line about the progress, with the time of day, on the standard error."""
    say(f"{time.strftime('%H:%M:%S')} {line}", err=True)
    sys.stderr.flush()


def console(*, stderr: bool = False) -> "Console":
    """A rich console that does not cut what goes into a file or a pipe, and prints as `shown`."""
    from rich.console import Console

    class Shown(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(shown(o) if isinstance(o, str) else o for o in objects), **options)

        def on_broken_pipe(self) -> None:
            raise  # whoever reads no further is no fault: rich would end the program in its place

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 240
    return Shown(stderr=stderr, width=width, highlight=False, soft_wrap=False)


_documents = ContextVar[TextIO | None]("documents", default=None)


@contextlib.contextmanager
def only_documents(wanted: bool = True) -> Generator[None, None, None]:
    """What is printed within the block, but for documents, goes to the standard error.

    A network may print what it likes while it is built and run.
    """
    if not wanted:
        yield
        return
    token = _documents.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _documents.reset(token)


def print_json(document: Any) -> None:
    """Print a document as JSON; values that are not finite become null."""
    # what is left of them stands within strings, where JSON has its own escapes
    typer.echo(
        _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", to_json(document)), _documents.get()
    )


def to_json(document: Any) -> str:
    """Write a document as JSON text; values that are not finite become null.

    Examples
    --------
    >>> print(to_json({"tau": float("nan"), "shape": (1, 2)}))
    {
      "tau": null,
      "shape": [
        1,
        2
      ]
    }
    """
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return str(value)


def for_csv(cells: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a CSV file may hold it: texts that spreadsheets would run begin with an apostrophe.

    As the OWASP recommends against CSV injection; numbers stay numbers, also negative ones.

    Examples
    --------
    >>> for_csv({"class": "=1+1", "score": -1.5, "method": "respond"})
    {'class': "'=1+1", 'score': -1.5, 'method': 'respond'}
    """
    return {name: _harmless(value) for name, value in cells.items()}


def _harmless(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip(" ").startswith(tuple("=+-@\t\r\n")):
        return value
    # a dash stands for nothing, and a number that is written as a text runs nothing
    return value if re.fullmatch(r"-|[+-]?\d+(\.\d+)?", value, re.ASCII) else f"'{value}"


def number(value: float) -> str:
    """Write a number for a table: four significant digits, a dash where it is undefined.

    Examples
    --------
    >>> number(12.34567), number(float("nan")), number(1.2e-9)
    ('12.35', '-', '1.2e-09')
    """
    return f"{value:.4g}" if math.isfinite(value) else "-"

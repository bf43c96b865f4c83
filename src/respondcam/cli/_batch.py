"""Many sources, one after the other: a bad one does not stop the others."""

import os
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import typer

from respondcam.cli._failures import exit_code, in_words
from respondcam.cli._inputs import Source
from respondcam.cli._printing import console, say, say_when, shown

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0


@dataclass
class Batch(Generic[T]):
    """What became of each source.

    Parameters
    ----------
    done
        Sources with their results.
    failed
        Sources with what went wrong, in words.
    code
        The exit code: 0, 2 if a source failed by a mistake that a user can mend, 1 by another.
    order
        All sources as they were given.
    """

    done: list[tuple[Source, T]] = field(default_factory=list)
    failed: list[tuple[Source, str]] = field(default_factory=list)
    code: int = 0
    order: list[Source] = field(default_factory=list)

    def leave(self) -> None:
        """End the command with the exit code that the failures ask for."""
        if self.code:
            raise typer.Exit(self.code)


def run_batch(sources: Sequence[Source], work: Callable[[Source], T]) -> Batch[T]:
    """Do the work for each source, with progress; report failures at once on the standard error."""
    batch: Batch[T] = Batch(order=list(sources))
    with _progress(len(sources)) as step:
        for source in sources:
            step(source)
            try:
                batch.done.append((source, work(source)))
            except Exception as error:
                if os.environ.get("RESPONDCAM_DEBUG"):
                    traceback.print_exc()
                batch.failed.append((source, in_words(error)))
                # a fault of the library outweighs a user's mistake
                batch.code = 1 if batch.code == 1 else exit_code(error)
    _tell(batch.failed)
    return batch


def _tell(failed: Sequence[tuple[Source, str]]) -> None:
    """Print each message once, with the sources it holds for unless it names its own."""
    sources: dict[str, list[str]] = {}
    for source, message in failed:
        sources.setdefault(message, []).append(str(source.path))
    for message, names in sources.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        who = "" if names[0] in message else f"{', '.join(names[:3])}{more}: "
        say(f"respondcam: {who}{message}", err=True)


def stage(what: str) -> None:
    """Say what is being done with the source in turn, such as the name of a method."""
    _stage.get()(what)


def _nowhere(what: str) -> None:
    """Outside a batch nobody listens."""


_stage: ContextVar[Callable[[str], None]] = ContextVar("stage", default=_nowhere)


@contextmanager
def _progress(count: int) -> Generator[Callable[[Source], None], None, None]:
    """A bar on a terminal that vanishes when done; in a file a line now and then."""
    screen = console(stderr=True)
    with _bar(screen, count) if screen.is_terminal else _lines(count) as tell:
        done = -1
        name = ""

        def step(source: Source) -> None:
            nonlocal done, name
            done, name = done + 1, source.label
            tell(done, name)

        def more(what: str) -> None:
            tell(done, f"{name}: {what}")

        token = _stage.set(more)
        try:
            yield step
        finally:
            _stage.reset(token)


@contextmanager
def _bar(screen: "Console", count: int) -> Generator[Callable[[int, str], None], None, None]:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=count)
        yield lambda done, what: bar.update(
            task, completed=done, description=escape(shown(what, one_line=True))
        )


@contextmanager
def _lines(count: int) -> Generator[Callable[[int, str], None], None, None]:
    """Lines with the time of day for logs: none for what is done at once."""
    last = time.monotonic()

    def tell(done: int, what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            say_when(f"{done} of {count} done, now {what}")
            last = time.monotonic()

    yield tell

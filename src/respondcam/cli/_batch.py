"""Many sources, one after the other: a bad one does not stop the others."""

import os
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import typer

from respondcam.cli._common import console, exit_code, in_words, say
from respondcam.cli._inputs import Source

T = TypeVar("T")


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
    """

    done: list[tuple[Source, T]] = field(default_factory=list)
    failed: list[tuple[Source, str]] = field(default_factory=list)
    code: int = 0

    def leave(self) -> None:
        """End the command with the exit code that the failures ask for."""
        if self.code:
            raise typer.Exit(self.code)


def run_batch(sources: Sequence[Source], work: Callable[[Source], T]) -> Batch[T]:
    """Do the work for each source, with progress; report failures at once on the standard error."""
    batch: Batch[T] = Batch()
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


@contextmanager
def _progress(count: int) -> Generator[Callable[[Source], None], None, None]:
    """A bar on a terminal that vanishes when done; nothing where the output goes to a file."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=count, completed=-1)

        def step(source: Source) -> None:
            bar.update(task, advance=1, description=escape(source.path.name))

        yield step

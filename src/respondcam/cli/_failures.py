"""What goes wrong in a command, as one message and an exit code."""

import functools
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import typer

from respondcam._files import REMEDIES, why_unwritten
from respondcam._readers import at_the_command_line
from respondcam.cli._interrupting import Interrupted, exit_code_of, left_behind
from respondcam.cli._printing import only_documents, say
from respondcam.errors import InputError, is_out_of_memory

_LONGEST = 4000  # characters of a message: names from files and folders can have any length

P = ParamSpec("P")
R = TypeVar("R")


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what goes wrong in a command into one message and an exit code.

    2 for what the user can mend, 1 for a fault of the library, 130 for an interruption, 143 where
    the system asked for the end.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with at_the_command_line(), only_documents(bool(kwargs.get("as_json"))):
                return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as stop:
            # CPython remembers an interruption within an exec (of dataclasses, say) until the next
            # one, and would end the process by the signal in place of our exit code
            exec("")
            out = kwargs.get("out")
            name = getattr(command, "__name__", "")
            told = str(stop) if isinstance(stop, Interrupted) else ""
            told = told or left_behind(name, out if isinstance(out, Path) else None)
            leave(f"Interrupted. {told}", exit_code_of(stop))
        except Exception as error:
            if os.environ.get("RESPONDCAM_DEBUG"):
                traceback.print_exc()
            leave(in_words(error), exit_code(error))
        except BaseException as stop:  # no code of ours: of a network, or of what it imports
            leave(f"The code of the network ended the program ({in_one_line(stop)}).", 1)

    return run


def leave(message: str, code: int) -> NoReturn:
    """Print a message to the standard error and end the command."""
    say(f"respondcam: {message}", err=True)
    raise typer.Exit(code)


def exit_code(error: BaseException) -> int:
    """2 for what the user can mend, 1 for the rest."""
    return 2 if isinstance(error, InputError | OSError) else 1


def in_words(error: BaseException) -> str:
    """Say in one message what went wrong."""
    if isinstance(error, InputError):
        return _shortened(str(error))
    if isinstance(error, OSError):
        where = f"{error.filename!r}: " if error.filename else ""
        known = error.errno in REMEDIES
        return f"{where}{why_unwritten(error) if known else f'{error.strerror or error}.'}"
    if is_out_of_memory(error):
        return (
            "There is not enough memory. Explain the volume window by window (--window), or with "
            "smaller windows or batches if it is, choose a later layer, or use --device cpu."
        )
    return (
        f"Something went wrong inside respondcam ({in_one_line(error)}). Run it again "
        f"with RESPONDCAM_DEBUG=1 in the environment for the traceback, and report that with what "
        f"respondcam --version --json prints."
    )


def in_one_line(error: BaseException) -> str:
    r"""The kind of an error and what it says, on one line.

    Examples
    --------
    >>> in_one_line(SystemExit("two\nlines")), in_one_line(KeyError())
    ('SystemExit: two lines', 'KeyError')
    """
    text = " ".join(str(error).split())
    text = text if len(text) < 300 else f"{text[:300]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _shortened(message: str) -> str:
    """A message that a screen holds: what is wrong stands at its beginning, the remedy at its end.

    Examples
    --------
    >>> len(_shortened("k" * 10_000_000))
    4005
    """
    half = _LONGEST // 2
    return message if len(message) <= _LONGEST else f"{message[:half]} ... {message[-half:]}"

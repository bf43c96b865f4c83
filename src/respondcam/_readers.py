"""Who reads a message: somebody at the command line, or somebody who writes Python."""

import contextlib
from collections.abc import Generator
from contextvars import ContextVar

_typed = ContextVar("typed", default=False)


@contextlib.contextmanager
def at_the_command_line() -> Generator[None, None, None]:
    """Within the block messages name options, not arguments."""
    token = _typed.set(True)
    try:
        yield
    finally:
        _typed.reset(token)


def is_typed() -> bool:
    """Whether somebody at the command line reads the messages."""
    return _typed.get()


def way(*, python: str, command_line: str) -> str:
    """The words for whoever reads them.

    Examples
    --------
    >>> way(python="Give output=.", command_line="Give --output.")
    'Give output=.'
    >>> with at_the_command_line():
    ...     way(python="Give output=.", command_line="Give --output.")
    'Give --output.'
    """
    return command_line if _typed.get() else python

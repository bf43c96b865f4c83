"""Files appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from respondcam.errors import InputError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` when the block succeeds.

    The temporary name keeps all suffixes of `path`, since writers choose the format by them.
    When the block raises, nothing is left behind and a file that was there before stays.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with whole_file(f"{folder}/note.txt") as beside:
    ...     _ = beside.write_text("whole")
    >>> Path(folder, "note.txt").read_text()
    'whole'
    """
    target = Path(path)
    try:
        folder = tempfile.mkdtemp(prefix=".respondcam-", dir=target.parent)
    except OSError as error:
        message = (
            f"Cannot write {str(target)!r}: {error.strerror or error}. "
            f"Give a path in an existing folder that you may write to."
        )
        raise InputError(message) from error
    beside = Path(folder) / target.name
    try:
        yield beside
        beside.replace(target)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def make_folder(path: str | os.PathLike[str], remedy: str = "Give another one.") -> Path:
    """Make a folder, with those above it, unless it is there.

    Raises
    ------
    InputError
        If it cannot be made; the message ends with `remedy`.

    Examples
    --------
    >>> import tempfile
    >>> make_folder(f"{tempfile.mkdtemp()}/a/b").is_dir()
    True
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {str(folder)!r} cannot be made: {error.strerror or error}. {remedy}"
        ) from error
    return folder

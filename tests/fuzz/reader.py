"""What is fed with hostile files."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reader:
    """A function that opens files from elsewhere, and good files for it.

    Parameters
    ----------
    read
        Path -> anything; a worded error is the only exception allowed.
    seeds
        Suffix -> a good file, made in a folder that is given. Of a reader of folders: the path of
        a file below the given folder, which is left there.
    header
        How many bytes of a file decide on most.
    folder
        What is read where that is a folder, below the given one; one of its files is hostile.
    opens
        Whether good files are read; otherwise they are refused, as hostile ones must be.
    during
        What holds while many files are read, to make it faster.
    """

    read: Callable[[Path], object]
    seeds: Callable[[Path], dict[str, bytes]]
    header: int = 1024
    folder: str = ""
    opens: bool = True
    during: Callable[[], AbstractContextManager[None]] = nullcontext

    def store(self, where: Path, name: str, data: bytes) -> Path:
        """Put a file in its place; what is to be read."""
        path = where / name if self.folder else where / f"hostile{name}"
        path.write_bytes(data)
        return where / self.folder if self.folder else path

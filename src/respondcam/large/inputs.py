"""Which volume a run belongs to: its digest, and a quick look whether it still is the same.

The digest covers every byte of the file, or of every file of an OME-Zarr store: reading a volume
once costs little beside running a network over it, and a sample would miss a change elsewhere.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from respondcam.errors import VolumeError
from respondcam.network.weights import file_sha256


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "a")
    >>> _ = file.write_bytes(b"abc")
    >>> digest(file)[:8]
    'ba7816bf'
    """
    try:
        if path.is_file():
            return file_sha256(path)
        whole = hashlib.sha256()
        for file in _files(path):
            whole.update(f"{file.relative_to(path)} {file_sha256(file)}\n".encode())
        return whole.hexdigest()
    except OSError as error:
        raise VolumeError(f"Cannot read {str(path)!r}: {error}") from error


def signature(path: Path) -> str:
    """Size and time of change; of a folder, those of all files in it."""
    try:
        if path.is_file():
            return _stamp(path)
        whole = hashlib.sha256()
        for file in _files(path):
            whole.update(f"{file.relative_to(path)} {_stamp(file)}\n".encode())
        return whole.hexdigest()
    except OSError as error:
        raise VolumeError(f"Cannot read {str(path)!r}: {error}") from error


def check_unchanged(path: Path, before: str) -> None:
    """Raise if a file was changed since its signature was taken (folders are not looked through).

    Raises
    ------
    VolumeError
        If it was.
    """
    if path.is_dir():
        return
    if not path.exists() or _stamp(path) != before:
        raise VolumeError(
            f"{str(path)!r} was changed during the run, so its maps would be of two volumes. What "
            f"is done is kept: put the same file back and run the command again, or start anew "
            f"with --overwrite"
        )


def _stamp(file: Path) -> str:
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.rglob("*") if file.is_file())

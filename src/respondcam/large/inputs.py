"""Which volume a run belongs to: its digest, and a quick look whether it still is the same.

The digest covers every byte of the file, of every file of an OME-Zarr store, or of every file that
lies in a folder of DICOM files: reading a volume once costs little beside running a network over
it, and a sample would miss a change elsewhere. What lies in sub-folders of a DICOM folder is no
part of the series, and can be the maps themselves.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from respondcam.errors import VolumeError
from respondcam.network.weights import file_sha256
from respondcam.volume.io import is_zarr


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a store or series.

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
    """Size and time of change; of a store or series, those of all its files.

    Of a store the newest time is told too, which `check_unchanged` goes by.
    """
    try:
        return _signature(path)
    except OSError as error:
        raise VolumeError(f"Cannot read {str(path)!r}: {error}") from error


def check_unchanged(path: Path, before: str, files: Iterable[Path]) -> None:
    """Raise if what is read was changed since the volume's signature was taken.

    Of a store, only the files that are read are looked at, and the folders they are in, whose
    time says that a file has come or gone: it can have a hundred thousand files. A chunk that is
    not there would else be read as the fill value. A series is looked at whole: what is read is an
    unpacked copy of it, which lies elsewhere.

    Parameters
    ----------
    path
        The volume.
    before
        Its signature.
    files
        Of a store those that are read.

    Raises
    ------
    VolumeError
        If it was changed.
    """
    try:
        store = path.is_dir() and is_zarr(path)
        same = _older(path, before, files) if store else _signature(path) == before
    except OSError:
        same = False
    if not same:
        raise VolumeError(
            f"{str(path)!r} was changed during the run, so its maps would be of two volumes. What "
            f"is done is kept: put the same file back and run the command again, or start anew "
            f"with --overwrite"
        )


def _older(folder: Path, before: str, files: Iterable[Path]) -> bool:
    """Whether nothing on the way to these files is newer than all of the folder was before."""
    newest = int(before.rpartition(" ")[2])
    looked_at = {folder}
    for file in files:
        looked_at.update([file, *(above for above in file.parents if folder in above.parents)])
    there = [entry for entry in looked_at if entry == folder or entry.exists()]
    return all(entry.stat().st_mtime_ns <= newest for entry in there)


def _signature(path: Path) -> str:
    if path.is_file():
        return _stamp(path)
    whole = hashlib.sha256()
    for file in _files(path):
        whole.update(f"{file.relative_to(path)} {_stamp(file)}\n".encode())
    if not is_zarr(path):
        return whole.hexdigest()
    entries = (path, *path.rglob("*"))
    return f"{whole.hexdigest()} {max(entry.stat().st_mtime_ns for entry in entries)}"


def _stamp(file: Path) -> str:
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _files(folder: Path) -> list[Path]:
    """All files of a store; of a folder with a series those that lie in it."""
    entries = folder.rglob("*") if is_zarr(folder) else folder.iterdir()
    return sorted(entry for entry in entries if entry.is_file())

"""Reads an HDF5 file from end to end: run as a script, by `respondcam.network.hdf5`.

It imports nothing of the package, so that it starts in a moment.
"""

import contextlib
import io
import json
import os
import sys
import zipfile
from typing import Any, NoReturn

REFUSED = 3
"""Exit status for a file that may not be opened, whatever the library makes of it."""

WORDED = (OSError, KeyError, ValueError, RuntimeError, TypeError, zipfile.BadZipFile)
"""What the library finds wrong; it says so again to whoever opens the file."""

_MEMORY = 1 << 30  # beside four times the file's own size
_SLACK = 1 << 26  # bytes that a small file may unpack to


def main(request: str) -> None:
    """Read what a request names: a path, the members of an archive (or none), seconds."""
    path, members, seconds = json.loads(request)
    size = os.stat(path).st_size  # noqa: PTH116  (pathlib would take a tenth of the time)
    _limit(seconds, _MEMORY + 4 * size)
    for source, held in _sources(path, members, size):
        read(source, held)


def _limit(seconds: int, memory: int) -> None:
    with contextlib.suppress(ImportError):  # where there is none, the caller's patience ends it
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _sources(path: str, members: list[str] | None, size: int) -> list[tuple[Any, int]]:
    if members is None:
        return [(path, size)]
    with zipfile.ZipFile(path) as archive:
        held = [archive.getinfo(name).file_size for name in members]
        if sum(held) > 4 * size + _SLACK:
            _refuse("it unpacks to many times its own size; it is damaged")
        sources = [io.BytesIO(archive.read(name)) for name in members]
    return list(zip(sources, held, strict=True))


def read(source: Any, size: int) -> None:
    """Read all attributes and values of a file of so many bytes."""
    import h5py  # pyright: ignore[reportMissingTypeStubs]

    seen: list[Any] = []

    def look(group: Any) -> None:
        _attributes(group)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                _refuse("it refers to another place or file, as Keras never writes it")
            item = group[name]
            if isinstance(item, h5py.Group):
                if item.id in seen:
                    _refuse("a group of it stands in several places, as Keras never writes it")
                seen.append(item.id)
                look(item)
            elif isinstance(item, h5py.Dataset):
                _values(item, size)

    with h5py.File(source, "r") as opened:
        look(opened)


def _values(item: Any, size: int) -> None:
    if item.external or item.is_virtual:
        _refuse("its values lie in another file")
    if item.nbytes > 4 * size + _SLACK:
        _refuse("it declares many times as many values as it can hold; it is damaged")
    _attributes(item)
    item[()]


def _attributes(item: Any) -> None:
    for key in item.attrs:
        item.attrs[key]


def _refuse(why: str) -> NoReturn:
    sys.stdout.write(why)
    sys.stdout.flush()
    os._exit(REFUSED)  # past the library, which may be in no state to clean up


if __name__ == "__main__":
    with contextlib.suppress(*WORDED):
        main(sys.argv[1])
    os._exit(0)

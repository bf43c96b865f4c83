"""One run at a time on one output: a lock file that says who holds it."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from respondcam.errors import InputError

NAME = "lock"
_LONGEST = 1 << 16  # bytes


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Hold a folder's lock while the block runs.

    A lock whose process is gone from this machine is stale, and taken over. Whether a process of
    another machine still runs cannot be seen from here: its lock counts.

    Raises
    ------
    InputError
        If another run holds it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder), locked(folder):
    ...     pass
    Traceback (most recent call last):
    respondcam.errors.InputError: Another run ... is at work on ...
    """
    path = folder / NAME
    own = json.dumps(
        {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}
    )
    _take(path, own)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _text(path) == own:
                path.unlink()


def _take(path: Path, own: str) -> None:
    for _ in range(10):
        try:
            # complete from the start: a link appears with its content, and only if none is there
            beside = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
            beside.write_text(own, encoding="utf-8")
            try:
                os.link(beside, path)
            finally:
                beside.unlink()
            return
        except FileExistsError:
            _remove_if_stale(path)
    raise InputError(f"The lock {str(path)!r} cannot be taken: other runs keep taking it.")


def _remove_if_stale(path: Path) -> None:
    try:
        text = _text(path)
    except FileNotFoundError:
        return
    holder = _holder(text)
    here = holder.get("host") == socket.gethostname()
    if here and _started(holder["pid"]) != holder.get("started"):
        # renamed first, so that of two runs that see a stale lock only one removes it
        aside = path.with_name(f"{path.name}.stale.{os.getpid()}.{time.monotonic_ns()}")
        with contextlib.suppress(FileNotFoundError):
            path.replace(aside)
            taken = _text(aside)
            if taken != text:  # somebody was faster, and this is a new one
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            aside.unlink()
        return
    who = f"process {holder.get('pid')} on {holder.get('host')}" if holder else "unknown"
    raise InputError(
        f"Another run ({who}) is at work on {str(path.parent)!r}. Wait for it, or give another "
        f"folder with --out. If it is gone, delete {str(path)!r}."
    )


def _text(path: Path) -> str:
    """Of a file that may hold anything: names of processes are bytes, too."""
    # a pipe answers at once, and of a device no more is read than a lock can be long
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        return os.read(file, _LONGEST).decode("utf-8", "replace")
    finally:
        os.close(file)


def _holder(text: str) -> dict[str, Any]:
    """Who holds the lock; empty where its file does not say so."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    known = isinstance(found, dict) and type(found.get("pid")) is int and found["pid"] > 0
    return found if known else {}


def _started(pid: int) -> str | None:
    """When a process started, in words of the system; None if there is no such process."""
    try:
        facts = _text(Path(f"/proc/{pid}/stat"))
        rest = facts.rpartition(")")[2].split()
        return None if rest[0] == "Z" else rest[19]
    except OSError:
        if Path("/proc/self").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"

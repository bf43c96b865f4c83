"""Warnings that point at the caller's own line, however deep in the package they arise."""

import inspect
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from respondcam.errors import RespondCAMWarning

_PACKAGE = f"{Path(__file__).parent}{os.sep}"
# what decorates a function of this package calls it in its caller's place
_WRAPPERS = (f"{os.sep}jaxtyping{os.sep}", "<@beartype", f"{os.sep}torch{os.sep}utils{os.sep}")


def warn(message: str, category: type[RespondCAMWarning] = RespondCAMWarning) -> None:
    """Warn with the line that called this package: everything below it is the package's work.

    Frames of PyTorch, and of the network itself, stand between where the package was entered and
    where a hook of it warns, so it does not do to count them, or to pass over files of one folder.
    """
    files = list(_files())  # of this function first, the outermost last
    entered = max(place for place, file in enumerate(files) if file.startswith(_PACKAGE))
    caller = entered + 1
    while caller < len(files) - 1 and any(part in files[caller] for part in _WRAPPERS):
        caller += 1
    warnings.warn(message, category, stacklevel=min(caller, len(files) - 1) + 1)


def _files() -> Iterator[str]:
    frame = inspect.currentframe()
    frame = frame and frame.f_back
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back

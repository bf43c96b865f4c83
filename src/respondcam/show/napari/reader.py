"""What napari asks when a file is opened: is it ours, and what are its layers.

Only formats that napari itself does not read are offered (see ``napari.yaml``), and of those whose
names others use too only files that turn out to be volumes. What is not ours gets None, so that
other readers have their turn.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from respondcam.errors import InputError, MissingExtraError
from respondcam.show.napari.layers import image_layers
from respondcam.show.napari.saved import saved_maps
from respondcam.volume import read_volume
from respondcam.volume.io import module_of

_SHARED_NAMES = (".map", ".rec")  # other programs call other files so
_NOTHING: list[Any] = [(None,)]  # napari's word for: read, and no layer came of it


def get_reader(path: str | list[str]) -> Callable[[str], list[Any]] | None:
    """Give the function that reads `path`, or None if it is not ours."""
    if isinstance(path, list):  # a stack: volumes are whole already
        return None
    place = Path(path)
    doubtful = place.is_dir() or place.suffix.lower() in _SHARED_NAMES
    return read_layers if not doubtful or _is_volume(place) else None


def read_layers(path: str) -> list[Any]:
    """Read a volume as one layer for each channel, or a map of respondcam's as a signed layer.

    What is wrong with a file is said in a notification of napari, without a traceback.
    """
    place = Path(path)
    try:
        return saved_maps(place) or image_layers(read_volume(place))
    except InputError as error:
        from napari.utils.notifications import show_error

        show_error(str(error))
        return _NOTHING


def _is_volume(place: Path) -> bool:
    """Look at the header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reading it will say so again
            module_of(place).lay_open(place)
    except MissingExtraError:
        return True  # and reading says what to install
    except (InputError, OSError):
        return False
    return True

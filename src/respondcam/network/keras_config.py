"""What a Keras file says it holds, looked at before Keras builds any of it.

A file's configuration names classes of any kind, and some of Keras's own run code, open other
files or fetch addresses when they are built (Lambda, StringLookup, utilities); what newer versions
refuse older ones built. So every class that a file names must be one that can be translated, or an
initializer, regularizer, constraint or policy of Keras. The network is then built without memory
once: one that is larger than the file's weights is refused. HDF5 is read by a process of its own
before all that, see `respondcam.network.hdf5`.
"""

import json
import zipfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from respondcam._kinds import is_mapping
from respondcam._words import clipped
from respondcam.errors import ModelError
from respondcam.network.hdf5 import check_hdf5

_LARGEST = 1 << 26  # bytes of a configuration
_SLACK = 1 << 16  # weights that may be there beside those of the file
_CONTAINERS = {"Sequential", "Functional", "Model", "InputLayer", "__tuple__", "__keras_tensor__"}
_SPACES = ("initializers", "regularizers", "constraints", "dtype_policies")
_POLICIES = {"Policy", "DTypePolicy"}  # names that earlier versions wrote


def check_config(keras: Any, file: Path, layers: Collection[str]) -> None:
    """Refuse a file that names classes beside `layers`, or declares more weights than it holds.

    A file whose configuration cannot be found is refused: what cannot be looked at is not opened.

    Raises
    ------
    ModelError
        Before Keras opens it.
    """
    _check_unpacked(file)
    check_hdf5(file)
    config, size = _config(file)
    if not (is_mapping(config) and "class_name" in config and is_mapping(config.get("config"))):
        raise ModelError(
            f"The Keras file {str(file)!r} cannot be read: it holds no configuration of a network, "
            f"or is damaged. Save it with model.save(), whole."
        )
    known = {name for space in _SPACES for name in vars(getattr(keras, space, object))}
    for where, kind in _classes(config):
        if kind not in {*layers, *_CONTAINERS, *_POLICIES, *known}:
            raise ModelError(
                f"The Keras file {str(file)!r} has a layer {clipped(where)!r} of kind "
                f"{clipped(kind)}. "
                f"Accepted: {', '.join(sorted(layers))}."
            )
    declared = _declared(keras, config, file)
    if declared > size + _SLACK:
        raise ModelError(
            f"The Keras file {str(file)!r} declares {declared} weights, more than its {size} bytes "
            f"can hold: it is damaged."
        )


def _check_unpacked(file: Path) -> None:
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(one.file_size for one in archive.infolist())
    except (ValueError, zipfile.BadZipFile, NotImplementedError):  # Keras says what is wrong
        return
    if unpacked > 4 * file.stat().st_size + _LARGEST:
        raise ModelError(
            f"The Keras file {str(file)!r} unpacks to {unpacked} bytes, many times its own size: "
            f"it is damaged."
        )


def _config(file: Path) -> tuple[Any, int]:
    """The configuration and how many bytes of weights there can be; None where there is none."""
    with suppress(ValueError, RecursionError, zipfile.BadZipFile, OSError, KeyError):
        if file.suffix.lower() == ".keras":
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                about = [one for one in entries if one.filename == "config.json"]
                if len(about) != 1 or about[0].file_size > _LARGEST:
                    return None, 0
                return json.loads(archive.read(about[0])), sum(one.file_size for one in entries)
        import h5py  # pyright: ignore[reportMissingTypeStubs]

        with h5py.File(file) as archive:
            return json.loads(_text(archive.attrs["model_config"])), file.stat().st_size
    return None, 0


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _classes(config: Any) -> Iterator[tuple[str, str]]:
    """Names and kinds of everything that is built from a configuration."""
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if is_mapping(one):
            if "class_name" in one:
                inner = one.get("config")
                name = inner.get("name", "") if is_mapping(inner) else ""
                yield str(name), str(one["class_name"])
            # how it was trained is not read
            waiting += [value for key, value in one.items() if key != "compile_config"]
        elif isinstance(one, list):
            waiting += one


def _declared(keras: Any, config: Any, file: Path) -> int:
    """Number of weights of the network, built where tensors take no memory.

    Of an .h5 file that cannot be built so it is 0: older versions wrote other configurations, which
    Keras reads in a way of its own.

    Raises
    ------
    ModelError
        If a .keras file cannot be built: Keras would find that out late, with memory taken.
    """
    if keras.backend.backend() != "torch":
        return 0
    try:
        with keras.device("meta"):
            built = keras.saving.deserialize_keras_object(config)
            if isinstance(built, keras.Model):
                return int(built.count_params())
    except Exception as error:  # a different one for every kind of damage
        if file.suffix.lower() != ".keras":
            return 0  # reading it, which comes next, says what is wrong
        said = " ".join(str(error).split())[:300]
        raise ModelError(
            f"The Keras file {str(file)!r} cannot be built: {type(error).__name__}: {said}"
        ) from error
    raise ModelError(
        f"The Keras file {str(file)!r} holds no network: its configuration is that of "
        f"{clipped(str(config['class_name']))}. Accepted: a Sequential or Functional model that "
        f"model.save() wrote."
    )

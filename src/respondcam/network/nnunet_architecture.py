"""What nnU-Net's plans may build without trust: classes of networks, in sizes that exist.

Plans name classes, which nnU-Net finds by walking from a package to its attributes. A module's
attributes are also the modules that it imports, so a name that begins with ``nnunetv2.`` can end at
any function of any package; what is found counts, not how its name begins.
"""

import pydoc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from respondcam._kinds import is_listed, is_mapping
from respondcam.errors import ModelError

# Packages whose classes plans may name without `trust`.
_OWN = ("dynamic_network_architectures.", "nnunetv2.", "torch.nn.")
_LARGEST, _LONGEST, _STAGES = 1 << 16, 64, 64  # of numbers, of lists, of numbers of blocks


def check_architecture(architecture: Any, whose: str, *, trust: bool) -> None:
    """Refuse what is no class of a network, and numbers that no network has.

    Parameters
    ----------
    architecture
        The entry ``architecture`` of a configuration.
    whose
        Beginning of messages.
    trust
        Allow classes of other packages.

    Raises
    ------
    ModelError
        Before anything is built.
    """
    name, arguments = architecture["network_class_name"], architecture["arch_kwargs"]
    named = [arguments.get(key) for key in architecture["_kw_requires_import"]]
    foreign = [text for text in named if text is not None and not _is_own(text)]
    foreign += [] if _is_own(name) or _is_moved(name) else [name]
    if foreign and not trust:
        raise ModelError(
            f"{whose} name {', '.join(map(str, foreign))}, which is no part of nnU-Net: building "
            f"that network runs code of other packages. If you know who made this folder and trust "
            f"them, allow it with --trust (trust=True)."
        )
    for where, value in _immoderate(arguments, ""):
        raise ModelError(f"{whose} give {where} as {str(value)[:60]}, which no network has.")


def _is_own(name: Any) -> bool:
    """Whether a name stands for a class of layers or networks of the packages that may be named."""
    if not isinstance(name, str) or not name.startswith(_OWN):
        return False
    return _is_class(pydoc.locate(name))


def _is_class(found: Any) -> bool:
    return (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and f"{found.__module__}.".startswith(_OWN)
    )


def _is_moved(name: Any) -> bool:
    """Whether nnU-Net finds a network of this name, wherever it is now among its own."""
    if not isinstance(name, str) or not name.startswith(_OWN) or pydoc.locate(name) is not None:
        return False
    import dynamic_network_architectures  # pyright: ignore[reportMissingTypeStubs]
    from nnunetv2.utilities.find_class_by_name import (  # pyright: ignore[reportMissingTypeStubs]
        recursive_find_python_class,
    )

    package = "dynamic_network_architectures.architectures"
    folder = Path(dynamic_network_architectures.__path__[0]) / "architectures"
    return _is_class(recursive_find_python_class(str(folder), name.rpartition(".")[2], package))


def _immoderate(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Numbers and lists beyond what networks have, with their places."""
    if is_mapping(value):
        for key, inner in value.items():
            yield from _immoderate(inner, str(key))
    elif is_listed(value):
        if len(value) > _LONGEST:
            yield where, value
        for inner in value[:_LONGEST]:
            yield from _immoderate(inner, where)
    elif isinstance(value, int) and abs(value) > (_STAGES if where.startswith("n_") else _LARGEST):
        yield where, value

"""Attributes that a network's own forward pass writes to, such as caches and counters.

A cache that is made while a map is made would lack the graph that training needs, or hold tensors
without data. Looking through all attributes costs about as much as a small network's inference, so
it is done when a network is traced and in its first passes on data; passes after that look at those
alone that were seen to change.
"""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from respondcam._kinds import is_mapping
from respondcam.network.buffers import copied_values, write_back

_CONTAINERS = (list, dict, set, deque)
# Anything else may belong to a framework that keeps its own state in a module.
_DATA = (
    *(*_CONTAINERS, tuple, bool, int, float, str, bytes, type(None)),
    *(Tensor, np.ndarray, np.generic),
)
_COPIED = 1 << 20  # bytes in one attribute; more is not copied to see whether it is written to
_OF_MODULES = ("_parameters", "_buffers")  # dictionaries whose tensors are looked after elsewhere
_ABSENT: Any = object()
_written: "weakref.WeakKeyDictionary[nn.Module, set[str]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class KeptAttribute:
    """One attribute before a pass, and all that it holds which can change in place.

    Parameters
    ----------
    owner, name, value
        Of the attribute.
    copies
        Each container, array or tensor in it, and a shallow copy.
    """

    owner: nn.Module
    name: str
    value: Any
    copies: tuple[tuple[Any, Any], ...]


def keep_all(modules: Iterable[nn.Module]) -> list[KeptAttribute]:
    """All attributes but training flags and hooks, which belong to others."""
    return [_kept(module, name) for module in modules for name in vars(module) if _ours(name)]


def keep_written(modules: Iterable[nn.Module]) -> list[KeptAttribute]:
    """The attributes that `restore_all` has seen to change."""
    return [_kept(module, name) for module in modules for name in _written.get(module, ())]


def restore_all(modules: Iterable[nn.Module], kept: Sequence[KeptAttribute]) -> None:
    """Undo every change of attributes, and remember which changed.

    Examples
    --------
    >>> model = nn.Identity()
    >>> kept = keep_all([model])
    >>> model.cache = 3
    >>> restore_all([model], kept)
    >>> hasattr(model, "cache"), [one.name for one in keep_written([model])]
    (False, ['cache'])
    """
    before = {(id(one.owner), one.name) for one in kept}
    for module in modules:
        now = vars(module)
        for name in [name for name in now if _ours(name) and (id(module), name) not in before]:
            if isinstance(now[name], _DATA):
                _written.setdefault(module, set()).add(name)
            del now[name]
    for one in kept:
        now = vars(one.owner).get(one.name, _ABSENT)
        inside, replaced = _put_back(one)
        if inside or (replaced and isinstance(one.value, _DATA) and isinstance(now, _DATA)):
            _written.setdefault(one.owner, set()).add(one.name)


def restore_written(kept: Sequence[KeptAttribute]) -> None:
    """Undo the changes of attributes that hold data."""
    for one in kept:
        now = vars(one.owner).get(one.name, _ABSENT)
        if one.value is _ABSENT:
            if isinstance(now, _DATA):
                del vars(one.owner)[one.name]
        elif now is one.value or (isinstance(one.value, _DATA) and isinstance(now, _DATA)):
            _put_back(one)


def _ours(name: str) -> bool:
    return name != "training" and not name.endswith("hooks")


def _kept(module: nn.Module, name: str) -> KeptAttribute:
    value = vars(module).get(name, _ABSENT)
    found = list(_changeable(value))
    if name in _OF_MODULES:
        found = [held for held in found if not isinstance(held, Tensor)]
    return KeptAttribute(module, name, value, tuple((held, _copy(held)) for held in found))


def _changeable(value: Any) -> Iterator[Any]:
    """Containers, arrays and tensors in an attribute, itself included, and those of an object.

    Objects that lie deeper may lead anywhere: a trainer's, for example, to all of its data.
    """
    pending: list[Any] = [value]
    if not isinstance(value, (*_DATA, nn.Module)) and not callable(value):
        pending = [getattr(value, "__dict__", None)]
    seen: set[int] = set()
    left = _COPIED
    while pending:
        held: Any = pending.pop()
        kind = cast("type[Any]", type(held))
        if issubclass(kind, np.ndarray) or (kind is Tensor and _has_numbers(held)):
            if held.nbytes <= left and id(held) not in seen:
                seen.add(id(held))
                left -= held.nbytes
                yield held
        elif issubclass(kind, (*_CONTAINERS, tuple)) and id(held) not in seen:
            seen.add(id(held))
            if not issubclass(kind, tuple):
                yield held
            pending += held.values() if issubclass(kind, dict) else held


def _has_numbers(tensor: Tensor) -> bool:
    """Whether a tensor can be written to, and then back."""
    dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested
    return dense and not tensor.is_meta and not tensor.is_inference()


def _copy(value: Any) -> Any:
    """A shallow copy, whatever a subclass takes one for."""
    if isinstance(value, np.ndarray):
        return cast("np.ndarray", value).copy()
    if isinstance(value, Tensor):
        return copied_values(value)
    return dict(value) if is_mapping(value) else list(value)


def _put_back(one: KeptAttribute) -> tuple[bool, bool]:
    """Whether something inside of it had changed, and whether it had been replaced."""
    inside = [value for value, copy in one.copies if not _holds_the_same(value, copy)]
    for value, copy in one.copies:
        if any(value is changed for changed in inside):
            _refill(value, copy)
    now = vars(one.owner)
    replaced = now.get(one.name, _ABSENT) is not one.value
    if replaced:
        now[one.name] = one.value
    return bool(inside), replaced


def _refill(value: Any, copy: Any) -> None:
    if isinstance(value, np.ndarray):
        value[...] = copy
    elif isinstance(value, Tensor):
        write_back(value, copy)
    elif is_mapping(value):
        # one by one: of an object's attributes none may be missing, not for a moment
        changed: Any = value
        for key in [key for key in value if key not in copy]:
            del changed[key]
        for key, held in copy.items():
            if key not in changed or changed[key] is not held:
                changed[key] = held
    else:
        value.clear()
        (value.update if issubclass(type(value), set) else value.extend)(copy)


def _holds_the_same(value: Any, copy: Any) -> bool:
    """Whether a container holds the very objects that its copy holds, in the same order."""
    if isinstance(value, np.ndarray):
        return np.array_equal(cast("np.ndarray", value), copy)
    if isinstance(value, Tensor):
        return value.requires_grad == copy.requires_grad and torch.equal(value, copy)
    if len(value) != len(copy):
        return False
    if is_mapping(value):
        pairs = zip(value.items(), copy.items(), strict=True)
        return all(a[0] is b[0] and a[1] is b[1] for a, b in pairs)
    return all(a is b for a, b in zip(value, copy, strict=True))

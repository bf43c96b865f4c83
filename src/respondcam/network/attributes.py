"""Attributes that a network's own forward pass writes to, such as caches and counters.

A cache that is made while a map is made would lack the graph that training needs, or hold tensors
without data. Looking through all attributes costs about as much as a small network's inference, so
it is done when a network is traced; passes after that look at those alone that were seen to change.
"""

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from respondcam._kinds import is_mapping

_CONTAINERS = (list, dict, set)
# Anything else may belong to a framework that keeps its own state in a module.
_DATA = (*_CONTAINERS, tuple, bool, int, float, str, bytes, Tensor, type(None))
_ABSENT: Any = object()
_written: "weakref.WeakKeyDictionary[nn.Module, set[str]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class KeptAttribute:
    """One attribute before a pass, and a shallow copy if it is a container."""

    owner: nn.Module
    name: str
    value: Any
    copy: Any


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
        if _put_back(one) and isinstance(one.value, _DATA) and isinstance(now, _DATA):
            _written.setdefault(one.owner, set()).add(one.name)


def restore_written(kept: Sequence[KeptAttribute]) -> None:
    """Undo the changes of attributes that hold data."""
    for one in kept:
        now = vars(one.owner).get(one.name, _ABSENT)
        if one.value is _ABSENT:
            if isinstance(now, _DATA):
                del vars(one.owner)[one.name]
        elif isinstance(one.value, _DATA) and isinstance(now, _DATA):
            _put_back(one)


def _ours(name: str) -> bool:
    return name != "training" and not name.endswith("hooks")


def _kept(module: nn.Module, name: str) -> KeptAttribute:
    value = vars(module).get(name, _ABSENT)
    return KeptAttribute(
        module, name, value, value.copy() if isinstance(value, _CONTAINERS) else None
    )


def _put_back(one: KeptAttribute) -> bool:
    """Whether there was anything to put back."""
    now = vars(one.owner)
    changed = now.get(one.name, _ABSENT) is not one.value
    if changed:
        now[one.name] = one.value
    if one.copy is not None and not _holds_the_same(one.value, one.copy):
        value: Any = one.value
        value.clear()
        (value.extend if isinstance(one.value, list) else value.update)(one.copy)
        return True
    return changed


def _holds_the_same(value: Any, copy: Any) -> bool:
    """Whether a container holds the very objects that its copy holds, in the same order."""
    if len(value) != len(copy):
        return False
    if is_mapping(value):
        pairs = zip(value.items(), copy.items(), strict=True)
        return all(a[0] is b[0] and a[1] is b[1] for a, b in pairs)
    return all(a is b for a, b in zip(value, copy, strict=True))

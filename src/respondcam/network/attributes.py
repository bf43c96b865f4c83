"""Attributes that a network's own forward pass writes to, such as caches and counters.

A cache that is made while a map is made would lack the graph that training needs, or hold tensors
without data. Looking through all attributes costs about as much as a small network's inference, so
it is done when a network is traced and in its first passes on data; passes after that look at those
alone that were seen to change.
"""

import contextlib
import random
import weakref
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from respondcam._kinds import is_mapping
from respondcam._warnings import warn
from respondcam.network.buffers import copied_values, has_numbers, same_numbers, write_back
from respondcam.network.typed import class_name

_CONTAINERS = (list, dict, set, deque)
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# Anything else may belong to a framework that keeps its own state in a module.
_DATA = (
    *(*_CONTAINERS, tuple, bool, int, float, str, bytes, type(None)),
    *(Tensor, np.ndarray, np.generic),
    *_GENERATORS,
)
_COPIED = 1 << 20  # bytes in one attribute; more is not copied to see whether it is written to
_OF_MODULES = ("_parameters", "_buffers")  # dictionaries whose tensors are looked after elsewhere
_ABOUT_HOOKS = frozenset(name for name in vars(nn.Module()) if "hooks" in name)
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


def keep_all(modules: Collection[nn.Module]) -> list[KeptAttribute]:
    """All attributes but training flags and hooks, which belong to others."""
    seen = {id(module) for module in modules}
    return [_kept(module, name, seen) for module in modules for name in vars(module) if _ours(name)]


def keep_written(modules: Collection[nn.Module]) -> list[KeptAttribute]:
    """The attributes that `restore_all` has seen to change."""
    written = [(module, name) for module in modules for name in _written.get(module, ())]
    seen = {id(module) for module in modules} if written else set[int]()
    return [_kept(module, name, seen) for module, name in written]


def restore_all(modules: Collection[nn.Module], kept: Sequence[KeptAttribute]) -> None:
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
            if _is_data(now[name], module):
                _written.setdefault(module, set()).add(name)
            del now[name]
    for one in kept:
        data = _were_data(one)
        inside, replaced = _put_back(one)
        if inside or (replaced and data):
            _written.setdefault(one.owner, set()).add(one.name)


def restore_written(kept: Sequence[KeptAttribute]) -> None:
    """Undo the changes of attributes that hold data."""
    for one in kept:
        now = vars(one.owner).get(one.name, _ABSENT)
        if one.value is _ABSENT:
            if now is not _ABSENT and _is_data(now, one.owner):
                del vars(one.owner)[one.name]
        elif now is one.value or _were_data(one):
            _put_back(one)


def _were_data(one: KeptAttribute) -> bool:
    """Whether an attribute held data and holds data now, or nothing: a layer has moved in."""
    now = vars(one.owner).get(one.name, _ABSENT)
    return _is_data(one.value, one.owner) and (now is _ABSENT or _is_data(now, one.owner))


def _is_data(value: Any, owner: nn.Module) -> bool:
    """By its type: a proxy whose object is gone cannot be asked."""
    kind = cast("type[Any]", type(value))
    if issubclass(kind, nn.Module):
        return False
    return issubclass(kind, (*_DATA, SimpleNamespace)) or _package(kind) == _package(type(owner))


def _ours(name: str) -> bool:
    return name != "training" and not name.endswith("hooks") and name not in _ABOUT_HOOKS


def _kept(module: nn.Module, name: str, seen: set[int]) -> KeptAttribute:
    value = vars(module).get(name, _ABSENT)
    copies: list[tuple[Any, Any]] = []
    # a class of the network's own may refuse to be looked at; a proxy's object may be gone
    with contextlib.suppress(Exception):
        for held in _changeable(value, module, seen):
            if not (name in _OF_MODULES and isinstance(held, Tensor)):
                copies.append((held, _copy(held)))
    return KeptAttribute(module, name, value, tuple(copies))


def _changeable(value: Any, owner: nn.Module, seen: set[int]) -> Iterator[Any]:
    """What an attribute holds that can change in place: itself, and all that lies in it.

    These are containers, arrays, tensors and generators of random numbers, those of an object, and
    the buffers of modules that stand in a plain list. Slots, and objects that lie deeper, are
    looked into only where they come from where the network comes from; others may lead anywhere, a
    trainer's, for example, to all of its data.

    Parameters
    ----------
    owner
        The module whose attribute it is.
    seen
        Identities of what has been looked at, the network's own modules among it, which are looked
        after one by one.
    """
    pending: list[Any] = [value]
    home = _package(type(owner))
    if (
        _package(cast("type[Any]", type(value))) != home
        and not isinstance(value, (*_DATA, nn.Module))
        and not callable(value)
    ):
        pending = [getattr(value, "__dict__", None)]
    left = _COPIED
    while pending:
        held: Any = pending.pop()
        kind = cast("type[Any]", type(held))
        if id(held) in seen:
            continue
        if issubclass(kind, np.ndarray) or (kind is Tensor and has_numbers(held)):
            if held.nbytes <= left:
                seen.add(id(held))
                left -= held.nbytes
                yield held
        elif issubclass(kind, (*_CONTAINERS, tuple)):
            seen.add(id(held))
            if not issubclass(kind, tuple):
                yield held
            pending += held.values() if issubclass(kind, dict) else held
        elif issubclass(kind, _GENERATORS):
            seen.add(id(held))
            if not issubclass(kind, random.SystemRandom):  # the machine's own, without a state
                yield held
        elif issubclass(kind, nn.Module):
            seen.add(id(held))
            pending += [*held._buffers.values(), *held._modules.values()]
        elif (_package(kind) == home or kind is SimpleNamespace) and not isinstance(held, Tensor):
            seen.add(id(held))
            if not callable(held):
                pending.append(getattr(held, "__dict__", None))
                if slots := _slots(held):
                    yield held
                    pending += slots.values()


def _slots(instance: Any) -> dict[str, Any]:
    """What an object keeps in slots instead of a dictionary; `_ABSENT` in one that is empty."""
    found: dict[str, Any] = {}
    for kind in type(instance).__mro__:
        names: Any = vars(kind).get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            if name.startswith("__") and not name.endswith("__"):  # as the class itself writes it
                name = f"_{kind.__name__.lstrip('_')}{name}"
            if name not in ("__dict__", "__weakref__"):
                found[name] = getattr(instance, name, _ABSENT)
    return found


def _has_slots(value: Any) -> bool:
    """Whether it is one of the objects that `_changeable` gives for their slots."""
    return not isinstance(value, (*_CONTAINERS, np.ndarray, Tensor, *_GENERATORS))


def _package(kind: type[Any]) -> str:
    """The package that a class comes from; of PyTorch's own each class is one by itself."""
    package = kind.__module__.partition(".")[0]
    return package if package != "torch" else f"{kind.__module__}.{kind.__qualname__}"


def _copy(value: Any) -> Any:
    """A shallow copy, whatever a subclass takes one for."""
    if isinstance(value, np.ndarray):
        return cast("np.ndarray", value).copy()
    if isinstance(value, Tensor):
        return copied_values(value)
    if isinstance(value, _GENERATORS):
        return _state(value)
    if _has_slots(value):
        return _slots(value)
    return dict(value) if is_mapping(value) else list(value)


def _put_back(one: KeptAttribute) -> tuple[bool, bool]:
    """Whether something inside of it had changed, and whether it had been replaced."""
    inside: list[Any] = []
    for value, copy in one.copies:
        with contextlib.suppress(Exception):  # what cannot be compared is left alone
            if not _holds_the_same(value, copy):
                inside.append(value)
    for value, copy in one.copies:
        if any(value is changed for changed in inside):
            try:
                _refill(value, copy)
            except Exception as error:  # a class of the network's own may refuse in any way
                warn(
                    f"The network changed its attribute {one.name!r} of {class_name(one.owner)} "
                    f"in its own forward pass, and it cannot be put back ({error}), so this change "
                    f"stays."
                )
    now = vars(one.owner)
    replaced = now.get(one.name, _ABSENT) is not one.value
    if replaced:
        now[one.name] = one.value
    return bool(inside), replaced


def _state(generator: Any) -> Any:
    """Of a generator of random numbers."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.getstate()


def _is_state(one: Any, other: Any) -> bool:
    """Whether two states are the same: tensors, tuples, or dictionaries with arrays in them."""
    if is_mapping(one):
        return all(_is_state(held, other[key]) for key, held in one.items())
    if isinstance(one, np.ndarray):
        return np.array_equal(cast("np.ndarray", one), other)
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


def _refill(value: Any, copy: Any) -> None:
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray", value)
        if array.shape != copy.shape:
            array.resize(copy.shape, refcheck=False)
        array[...] = copy
    elif isinstance(value, Tensor):
        write_back(value, copy)
    elif isinstance(value, torch.Generator):
        value.set_state(copy)
    elif isinstance(value, np.random.Generator):
        value.bit_generator.state = copy
    elif isinstance(value, np.random.RandomState):
        value.set_state(copy)
    elif isinstance(value, random.Random):
        value.setstate(copy)
    elif _has_slots(value):
        for name, held in copy.items():  # frozen ones take no other way
            if held is not _ABSENT:
                object.__setattr__(value, name, held)
            elif getattr(value, name, _ABSENT) is not _ABSENT:
                object.__delattr__(value, name)
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


def _is_array(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays hold the same bytes or, if of objects, the very same objects."""
    if one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return all(a is b for a, b in zip(one.flat, other.flat, strict=True))
    return one.tobytes() == other.tobytes()


def _holds_the_same(value: Any, copy: Any) -> bool:
    """Whether a container holds the very objects that its copy holds, in the same order."""
    if isinstance(value, np.ndarray):
        return _is_array(cast("np.ndarray", value), copy)
    if isinstance(value, Tensor):
        return value.requires_grad == copy.requires_grad and same_numbers(value, copy)
    if isinstance(value, _GENERATORS):
        return _is_state(_state(value), copy)
    if _has_slots(value):
        value = _slots(value)
    if len(value) != len(copy):
        return False
    if is_mapping(value):
        pairs = zip(value.items(), copy.items(), strict=True)
        return all(a[0] is b[0] and a[1] is b[1] for a, b in pairs)
    return all(a is b for a, b in zip(value, copy, strict=True))

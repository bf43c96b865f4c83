"""Remember what was found out about a model for as long as the model lives."""

import threading
import weakref
from collections.abc import Hashable, Sequence
from typing import Any

from torch import nn

_Entry = tuple[Any, list["weakref.ref[Any]"]]
_entries: "weakref.WeakKeyDictionary[nn.Module, dict[Hashable, _Entry]]" = (
    weakref.WeakKeyDictionary()
)
_lock = threading.Lock()


def remember(model: nn.Module, key: Hashable, objects: Sequence[Any], result: Any) -> None:
    """Remember a result under a key that also names `objects`, none of which is kept alive.

    Nothing is remembered where an object cannot be referred to weakly.

    Examples
    --------
    >>> model = nn.Identity()
    >>> remember(model, "size", [model], 3)
    >>> recall(model, "size", [model])
    3
    """
    try:
        references = [weakref.ref(thing) for thing in objects]
    except TypeError:
        return
    with _lock:
        known = _entries.setdefault(model, {})
        for other, (_, others) in list(known.items()):
            if any(reference() is None for reference in others):
                del known[other]
        known[key, tuple(map(id, objects))] = (result, references)


def recall(model: nn.Module, key: Hashable, objects: Sequence[Any]) -> Any:
    """Return what was remembered under a key and these very objects, or None.

    Examples
    --------
    >>> recall(nn.Identity(), "size", []) is None
    True
    """
    with _lock:
        entry = _entries.get(model, {}).get((key, tuple(map(id, objects))))
    if entry is None:
        return None
    result, references = entry
    # an id may belong to another object by now
    same = all(ref() is thing for ref, thing in zip(references, objects, strict=True))
    return result if same else None


def forget(model: nn.Module) -> None:
    """Forget what was traced of a model, after its strides, paddings or layers were changed.

    Examples
    --------
    >>> forget(nn.Identity())
    """
    with _lock:
        _entries.pop(model, None)

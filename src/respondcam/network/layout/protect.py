"""Leave a model exactly as it was, also where its forward pass writes to itself."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from respondcam._kinds import is_mapping
from respondcam.network.state import undisturbed

_CONTAINERS = (list, dict, set)


@contextmanager
def untouched(model: nn.Module, *, real: bool) -> Generator[None, None, None]:
    """Run a block with the model in evaluation mode, and undo all that it does to the model.

    Besides what `undisturbed` restores, these are attributes (a pass without data would leave
    tensors without data in a model that caches something), what lists and dictionaries among them
    hold, and after a real pass (`real`) the values of buffers. Training flags and hooks are left
    alone, since they belong to others who may be at work in another thread.

    Examples
    --------
    >>> model = nn.Dropout()
    >>> with untouched(model, real=False):
    ...     model.training
    False
    >>> model.training
    True
    """
    attributes = [(module, _attributes(module)) for module in model.modules()]
    kept = _kept_buffers(model) if real else []
    with undisturbed(model), _unfused_attention():
        try:
            yield
        finally:
            for module, before in attributes:
                _put_back(module, before)
            for buffer, value, version in kept:
                if buffer._version != version:
                    buffer.copy_(value)


def _ours(name: str) -> bool:
    return name != "training" and not name.endswith("hooks")


def _attributes(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Return every attribute, and a shallow copy of those that are containers."""
    return {
        name: (value, value.copy() if isinstance(value, _CONTAINERS) else None)
        for name, value in vars(module).items()
        if _ours(name)
    }


def _put_back(module: nn.Module, before: dict[str, tuple[Any, Any]]) -> None:
    now = vars(module)
    for name in [name for name in now if name not in before and _ours(name)]:
        del now[name]
    for name, (value, copy) in before.items():
        if now.get(name, before) is not value:
            now[name] = value
        if copy is not None and not _holds_the_same(value, copy):
            value.clear()
            refill: Any = getattr(value, "extend" if isinstance(value, list) else "update")
            refill(copy)


def _holds_the_same(value: Any, copy: Any) -> bool:
    """Whether a container holds the very objects that its copy holds, in the same order."""
    if len(value) != len(copy):
        return False
    if is_mapping(value):
        pairs = zip(value.items(), copy.items(), strict=True)
        return all(a[0] is b[0] and a[1] is b[1] for a, b in pairs)
    return all(a is b for a, b in zip(value, copy, strict=True))


def _kept_buffers(model: nn.Module) -> list[tuple[Tensor, Tensor, int]]:
    return [
        (buffer, buffer.detach().clone(), buffer._version)
        for buffer in model.buffers()
        if not buffer.is_inference()
    ]


@contextmanager
def _unfused_attention() -> Generator[None, None, None]:
    """Switch off torch's fused transformer layers, which do not run on tensors without data."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

"""Buffers that a network's own forward pass writes to, such as counters and running means.

PyTorch's own layers write to theirs in training mode alone, in which no map is made, unless a
network switches them itself or calls their function. So their buffers are compared after the first
pass, and looked at no more where nothing changed.
"""

# Whether and when a buffer was written to, torch says under names with an underscore.
# pyright: reportPrivateUsage=false

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from respondcam._warnings import warn
from respondcam.network.typed import class_name

_COPIED = 1 << 20  # bytes; of larger ones a copy is made when one was seen to change
_calm: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()  # PyTorch's own that were seen to be still
_changing: "weakref.WeakKeyDictionary[nn.Module, set[str]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class KeptBuffer:
    """A buffer before a pass: where it is, the tensor, its version, and its values if copied."""

    owner: nn.Module
    name: str
    tensor: Tensor
    version: int
    values: Tensor | None


def keep_buffers(modules: Sequence[nn.Module]) -> list[KeptBuffer]:
    """What `restore_buffers` needs to undo the writes of a pass.

    Examples
    --------
    >>> class Counting(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("calls", torch.zeros(1))
    >>> model = Counting()
    >>> kept = keep_buffers([model])
    >>> _ = model.calls.add_(1)
    >>> restore_buffers(kept)
    >>> model.calls
    tensor([0.])
    """
    kept: list[KeptBuffer] = []
    for module in modules:
        if not module._buffers or module in _calm:
            continue
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, tensor in module._buffers.items():
            if tensor is None or not has_numbers(tensor):
                continue
            small = tensor.numel() * tensor.element_size() <= _COPIED
            copied = small or name in _changing.get(module, ())
            values = copied_values(tensor) if copied else None
            kept.append(KeptBuffer(module, name, tensor, tensor._version, values))
    return kept


def restore_buffers(kept: Sequence[KeptBuffer], *, real: bool = True) -> None:
    """Give modules back the buffers that they had, with the values that these had.

    `real` says whether the network ran on data, so that what did not change tells something.
    """
    restless = {one.owner for one in kept if _restore(one)}
    for owner in {one.owner for one in kept} - restless:
        if real and type(owner).__module__.startswith("torch.nn."):
            _calm.add(owner)


def has_numbers(tensor: Tensor) -> bool:
    """Whether a tensor can be compared, written to, and then back.

    Not one that holds a number at several places: what it is a view of can.
    """
    dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested
    if not dense or tensor.is_meta or tensor.is_inference():
        return False
    return all(step or size < 2 for step, size in zip(tensor.stride(), tensor.shape, strict=True))


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, or are none in the same places.

    Examples
    --------
    >>> nothing = torch.tensor([1.0, float("nan")])
    >>> same_numbers(nothing, nothing.clone()), torch.equal(nothing, nothing.clone())
    (True, False)
    """
    if one.shape != other.shape or torch.equal(one, other):
        return one.shape == other.shape
    return bool(((one == other) | ((one != one) & (other != other))).all())


def copied_values(tensor: Tensor) -> Tensor:
    """A copy that `write_back` takes."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def write_back(tensor: Tensor, values: Tensor) -> None:
    """Give a tensor its values back, without the graph of what was written to it since."""
    if tensor.requires_grad and not values.requires_grad and not tensor._is_view():
        tensor.detach_()
    with torch.no_grad():
        if tensor.shape != values.shape:  # a cache that grows
            tensor.set_(values.detach().clone())  # pyright: ignore[reportArgumentType]
        else:
            tensor.copy_(values)


def _restore(one: KeptBuffer) -> bool:
    """Whether a buffer had changed."""
    replaced = one.owner._buffers.get(one.name) is not one.tensor
    if replaced:
        one.owner._buffers[one.name] = one.tensor
    changed = one.tensor._version != one.version
    if one.values is not None:
        changed = changed or _differs(one)
        if changed:
            write_back(one.tensor, one.values)
    elif changed:
        _changing.setdefault(one.owner, set()).add(one.name)
        warn(
            f"The network wrote to its buffer {one.name!r} of {class_name(one.owner)} in "
            f"its own forward pass. It is too large to be copied each time, so this change "
            f"stays; from now on it is put back.",
        )
    return replaced or changed


def _differs(one: KeptBuffer) -> bool:
    """Of what no version tells: what is written through ``.data``, and running statistics.

    On a GPU, where the answer has to be waited for, it is asked of PyTorch's own layers alone, and
    of these once.
    """
    assert one.values is not None
    own = type(one.owner).__module__.startswith("torch.nn.")
    asked = own or one.tensor.device.type == "cpu"
    return asked and not same_numbers(one.tensor, one.values)

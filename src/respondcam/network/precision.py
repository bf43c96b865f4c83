"""The trunk of the split forward pass in bfloat16, the head in full precision.

Where processors have instructions for bfloat16, convolutions in it take about half the time.
Autocast runs the network below the explained layer in it: weights stay as they are, and are cast on
the way. At the layer the activation becomes float32, and so does all that follows, so scores,
gradients and the account are as exact as ever; what bfloat16 costs is an error of the activation.
"""

import contextlib
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import Tensor

from respondcam.errors import InputError
from respondcam.network.trees import map_tensors, spatial_tensor

Precision = Literal["fp32", "bf16"]

_trunk: ContextVar[Precision] = ContextVar("trunk precision", default="fp32")


@contextlib.contextmanager
def trunk_precision(precision: Precision) -> Generator[None, None, None]:
    """Every split pass and head inside the block has its trunk in this precision.

    Examples
    --------
    >>> with trunk_precision("bf16"):
    ...     _trunk.get()
    'bf16'
    """
    token = _trunk.set(precision)
    try:
        yield
    finally:
        _trunk.reset(token)


@contextlib.contextmanager
def cast_trunk(inputs: Any) -> Generator[Any, None, None]:
    """Give the inputs as the trunk takes them, and run the block in its precision."""
    if _trunk.get() == "fp32":
        yield inputs
        return
    found = spatial_tensor(inputs)
    kind = "cpu" if found is None else found.device.type
    if kind not in ("cpu", "cuda"):
        raise InputError(f"precision='bf16' is for the CPU and CUDA, not for {kind!r}. Use fp32.")
    with torch.autocast(kind, dtype=torch.bfloat16):
        yield map_tensors(_channels_last, inputs)


def full_from_here(activation: Tensor) -> Tensor:
    """End the trunk: the activation in float32, and whatever follows too.

    Autocast goes on with float32 as its type, so that what was computed in bfloat16 beside the
    layer (skip connections) is cast back wherever it meets weights.
    """
    if _trunk.get() == "fp32" or activation.dtype not in (torch.bfloat16, torch.float32):
        return activation
    torch.set_autocast_dtype(activation.device.type, torch.float32)
    torch.clear_autocast_cache()
    return activation.float()


def is_cast(activation: Tensor) -> bool:
    """Whether `full_from_here` would give an activation of another precision."""
    return _trunk.get() != "fp32" and activation.dtype == torch.bfloat16


def _channels_last(tensor: Tensor) -> Tensor:
    """Channels as the fastest axis, which convolutions in bfloat16 want."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if tensor.ndim not in formats or not tensor.is_floating_point():
        return tensor
    return tensor.contiguous(memory_format=formats[tensor.ndim])

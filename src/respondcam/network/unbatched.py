"""Refuse an image without a batch axis, which convolutions take and a map would misread.

A convolution also takes one sample (channel, *spatial). Everything else reads that as (batch,
channel, *spatial): channels for samples, and slices for channels.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from respondcam.errors import InputError
from respondcam.network.calling import call_model, unwrap
from respondcam.network.hooks import hook_before
from respondcam.network.layout.hollow import Hollow, hollow, home
from respondcam.network.layout.memory import recall, remember
from respondcam.network.layout.protect import untouched
from respondcam.network.trees import (
    image_tensor,
    map_tensors,
    modules_of,
    private_copy,
    signature,
    spatial_tensor,
)
from respondcam.network.typed import class_name


def refuse_unbatched(model: nn.Module, inputs: Any) -> None:
    """Raise InputError if the network's convolutions take its image for one without a batch.

    Only an image with one axis too few for some convolution is in doubt, as are slices that a
    network puts together itself: then what the first of these convolutions is handed tells.

    Examples
    --------
    >>> import torch
    >>> refuse_unbatched(nn.Conv3d(1, 2, 3), torch.zeros(1, 8, 8, 8))
    Traceback (most recent call last):
    respondcam.errors.InputError: The input of shape (1, 8, 8, 8) has no batch axis...
    >>> refuse_unbatched(nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 8, 8))
    """
    image = image_tensor(inputs)
    if image is None:
        return
    model = unwrap(model)
    doubtful = [
        module
        for module in modules_of(model)
        if isinstance(module, _ConvNd) and len(module.kernel_size) == image.ndim - 1
    ]
    key = ("batched", signature(inputs))
    if not doubtful or recall(model, key, []):
        return
    taken = _taken(model, inputs, doubtful)
    if len(taken) == image.ndim and taken[0] == len(image):
        raise InputError(
            f"The input of shape {tuple(image.shape)} has no batch axis: a "
            f"{class_name(doubtful[0])} of the network takes it for one sample (channel, "
            f"*spatial). Accepted is (batch, channel, *spatial): give x.unsqueeze(0) of a sample "
            f"with channels, x[None, None] of an image without, or respondcam.Volume(array)."
        )
    remember(model, key, [], True)


class _ReachedError(BaseException):  # not an Exception: `call_model` words those
    """Ends the forward pass at the convolution: what comes after it does not matter."""


def _taken(model: nn.Module, inputs: Any, layers: Sequence[nn.Module]) -> tuple[int, ...]:
    """Shape of what the first of these layers to be called is handed; empty if none is."""
    found: list[tuple[int, ...]] = []

    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        handed = spatial_tensor((args, kwargs))
        if handed is not None:
            found.append(tuple(handed.shape))
            raise _ReachedError

    with contextlib.ExitStack() as stack:
        for layer in layers:
            hook_before(stack, layer, hook)
        stack.enter_context(contextlib.suppress(_ReachedError, Exception))
        try:
            with untouched(model, real=False), Hollow(home(inputs)):
                call_model(model, map_tensors(hollow, inputs))
        except Exception:  # whatever a pass without data cannot do, a real one may
            with untouched(model, real=True):
                call_model(model, map_tensors(private_copy, inputs))
    return found[0] if found else ()

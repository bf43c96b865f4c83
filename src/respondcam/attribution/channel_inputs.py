"""The channels of whatever a network takes: their names, and inputs with some of them replaced."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from respondcam._kinds import is_listed, is_mapping
from respondcam.errors import InputError
from respondcam.network.trees import is_float, plain, spatial_batch, tensors

Start = str | Callable[[Tensor], Tensor]
"""``"zero"``, ``"mean"`` or a callable: from an input to the baseline it is compared with."""


@dataclass(frozen=True)
class Channel:
    """One channel of one input tensor.

    Parameters
    ----------
    tensor
        Number of the tensor among those that are counted.
    index
        Number of the channel in it, along axis 1.
    name
        What it is called.
    """

    tensor: int
    index: int
    name: str


@dataclass(frozen=True)
class ChannelInputs:
    """A network's inputs, taken apart into the tensors whose channels count and the rest.

    Parameters
    ----------
    tree
        As the model takes them.
    counted
        The floating-point tensors (batch, channel, ...), detached.
    start
        For each of them the baseline.
    channels
        Of all of them, in order.
    """

    tree: Any
    counted: tuple[Tensor, ...]
    start: tuple[Tensor, ...]
    channels: tuple[Channel, ...]

    def with_values(self, values: Sequence[Tensor]) -> Any:
        """The inputs with other values in the counted tensors; the model may write to them."""
        batch, left = spatial_batch(self.tree), list(values)

        def exchange(leaf: Any) -> Any:
            return left.pop(0).clone() if _counts(leaf, batch) else leaf

        return pytree.tree_map(exchange, self.tree)

    def replaced(self, channels: Iterable[Channel]) -> Any:
        """The inputs with some channels at their baseline."""
        values = [t.clone() for t in self.counted]
        for one in channels:
            values[one.tensor][:, one.index] = self.start[one.tensor][:, one.index]
        return self.with_values(values)


def channel_inputs(
    tree: Any, start: Start = "zero", names: Sequence[str] | None = None
) -> ChannelInputs:
    """Take inputs apart.

    Raises
    ------
    InputError
        If the names are not as many as the channels, or a baseline has another shape than its
        input.

    Examples
    --------
    >>> found = channel_inputs({"scan": torch.zeros(1, 2, 4, 4), "age": torch.zeros(1, 1)})
    >>> [channel.name for channel in found.channels]
    ['scan 0', 'scan 1', 'age']
    """
    batch = spatial_batch(tree)
    labelled = [(label, plain(t.detach())) for label, t in _labelled(tree) if _counts(t, batch)]
    channels = tuple(
        Channel(number, index, _name(label, index, t.shape[1]))
        for number, (label, t) in enumerate(labelled)
        for index in range(t.shape[1])
    )
    if names is not None:
        channels = _renamed(channels, names)
    counted = tuple(t for _, t in labelled)
    return ChannelInputs(tree, counted, tuple(_start(t, start) for t in counted), channels)


def _labelled(tree: Any) -> list[tuple[str, Tensor]]:
    if is_mapping(tree):
        parts = [(str(key), list(tensors(value))) for key, value in tree.items()]
    elif is_listed(tree):
        parts = [(f"input {number}", list(tensors(value))) for number, value in enumerate(tree)]
    else:
        parts = [("", list(tensors(tree)))]
    return [
        (label if len(found) == 1 else f"{label}.{number}", tensor)
        for label, found in parts
        for number, tensor in enumerate(found)
    ]


def _name(label: str, index: int, count: int) -> str:
    if not label:
        return f"channel {index}"
    return label if count == 1 else f"{label} {index}"


def _renamed(channels: tuple[Channel, ...], names: Sequence[str]) -> tuple[Channel, ...]:
    if len(names) != len(channels):
        raise InputError(
            f"{len(names)} channel names ({', '.join(names)}) were given for {len(channels)} "
            f"channels ({', '.join(channel.name for channel in channels)}). Give one for each."
        )
    return tuple(
        Channel(channel.tensor, channel.index, name)
        for channel, name in zip(channels, names, strict=True)
    )


def _counts(leaf: Any, batch: int) -> bool:
    """Whether a leaf is a floating-point tensor (batch, channel, ...)."""
    return isinstance(leaf, Tensor) and is_float(leaf) and leaf.ndim >= 2 and len(leaf) == batch


def _start(tensor: Tensor, start: Start) -> Tensor:
    if callable(start):
        found = torch.as_tensor(start(tensor)).detach()
        try:
            return found.to(tensor).expand_as(tensor)
        except RuntimeError:
            raise InputError(
                f"baseline gave shape {tuple(found.shape)} for an input of shape "
                f"{tuple(tensor.shape)}. Give a tensor that broadcasts to it."
            ) from None
    if start == "zero" or (start == "mean" and tensor.ndim == 2):  # a number is its own mean
        return torch.zeros_like(tensor)
    if start == "mean":
        return tensor.mean(dim=tuple(range(2, tensor.ndim)), keepdim=True).expand_as(tensor)
    raise InputError(f"baseline={start!r} is neither 'zero', 'mean' nor a callable.")

"""Tensors without data: shapes, types and strides only, on torch's ``meta`` device.

What does not come from the image, such as tables of coordinates, is made with data all the same, on
the device that the image is really on: also what takes no more than its shape from the image. A
network may keep it where nobody finds it, behind ``functools.lru_cache`` or in a dictionary of its
module, and use it ever after.
"""

# What switches modes off for a moment has names with an underscore in torch.
# pyright: reportPrivateUsage=false

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from respondcam.network.layout.rules import base_name, named
from respondcam.network.layout.shapes import result_of
from respondcam.network.trees import tensors

# results that depend on the shape of their argument only
FACTORIES = {
    "empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like",
    "randint_like", "new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided",
}  # fmt: skip


def hollow(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape, strides and type without data.

    Examples
    --------
    >>> hollow(torch.zeros(2, 3)).is_meta
    True
    """
    with _disable_current_modes(), torch._C.DisableTorchFunctionSubclass():
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def home(inputs: Any) -> torch.device:
    """Return the device that a network's inputs are really on."""
    return next((tensor.device for tensor in tensors(inputs)), torch.device("cpu"))


class HollowRun:
    """Runs operators on tensors without data, and never writes to a tensor from outside.

    An operator with an argument without data runs without data altogether, unless it asks only for
    its shape. Others (index tables, reparametrised weights) run as usual. A tensor from outside the
    pass, such as a buffer, is replaced by a copy for the rest of the pass before it is written to.

    Parameters
    ----------
    home
        Device of the inputs; the network believes that it is ``meta``.
    """

    def __init__(self, home: torch.device) -> None:
        self._home = home
        self._own: MutableMapping[Tensor, bool] = WeakIdKeyDictionary()
        self._replaced: MutableMapping[Tensor, Tensor] = WeakIdKeyDictionary()
        self._hollow: MutableMapping[Tensor, Tensor] = WeakIdKeyDictionary()

    def __call__(
        self, name: str, func: Any, arguments: Mapping[str, Any], targets: list[Tensor]
    ) -> Any:
        """Run one operator."""
        made = name in FACTORIES
        empty = not made and any(self._current(t).is_meta for t in tensors(dict(arguments)))
        for tensor in targets:
            if empty:
                self.emptied(tensor)
            elif tensor not in self._own and tensor not in self._replaced:
                with _disable_current_modes():
                    self._replaced[tensor] = tensor.clone()
        stand_in = self._without_data if empty else self._current_or_other
        given = tree_map(stand_in, dict(arguments))
        device = given.get("device") or (given["self"].device if made else None)
        if device is not None:
            given["device"] = self._placed(device, empty)
        result = result_of(func, given) if empty else None
        if result is None:
            result = _called(func, given)
        if not any(value.alias_info for value in func._schema.returns) or any(
            tensor in self._own for tensor in tensors(dict(arguments))
        ):
            for tensor in tensors(result):
                self._own[tensor] = True
        return result

    def _placed(self, device: Any, empty: bool) -> torch.device:
        """Where a result goes that is asked for on a device."""
        if empty:
            return torch.device("meta")
        return self._home if torch.device(device).type == "meta" else torch.device(device)

    def emptied(self, tensor: Tensor) -> None:
        """From here on, a tensor has no data: something without data was written to it."""
        if not self._current(tensor).is_meta:
            self._replaced[tensor] = hollow(tensor)
        if tensor._is_view() and tensor._base is not None:
            self.emptied(tensor._base)

    def _current(self, tensor: Tensor) -> Tensor:
        replaced = self._replaced.get(tensor)
        return tensor if replaced is None else replaced

    def _current_or_other(self, value: Any) -> Any:
        return self._current(value) if isinstance(value, Tensor) else value

    def _without_data(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = self._current(value)
        if value.is_meta:
            return value
        if value not in self._hollow:
            self._hollow[value] = hollow(value)
        return self._hollow[value]


def written(func: Any, arguments: Mapping[str, Any]) -> list[Tensor]:
    """Tensors among an operator's arguments that it writes to.

    Examples
    --------
    >>> x = torch.zeros(1)
    >>> written(torch.ops.aten.add_.Tensor, {"self": x, "other": 1})[0] is x
    True
    """
    return [
        tensor
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in tensors(arguments.get(argument.name))
    ]


class Hollow(TorchDispatchMode):
    """Dispatch mode in which operators on tensors without data run by a `HollowRun`."""

    def __init__(self, home: torch.device) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._run = HollowRun(home)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import the whole compiler at the first operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = named(func, args, kwargs or {})
        return self._run(base_name(func), func, arguments, written(func, arguments))


def _called(func: Any, given: Mapping[str, Any]) -> Any:
    """Call an operator with its arguments by name."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in func._schema.arguments:
        if argument.kwarg_only:
            kwargs[argument.name] = given[argument.name]
        else:
            args.append(given[argument.name])
    return func(*args, **kwargs)

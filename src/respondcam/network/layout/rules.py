"""The table of operators: how each one moves the positions of its argument.

A rule is a function from a `Call` to the layout of its result, or a list of layouts, one per
result. Rules are registered under the operator's name, without its overload and without the
underscore of in-place variants.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from respondcam._kinds import is_listed
from respondcam.network.layout.digits import Layout, NoLayoutError

Result = Layout | None | Sequence[Layout | None]


@dataclass(frozen=True)
class Call:
    """One operator's call: its arguments by name, its result, and where its tensors are."""

    name: str
    arguments: Mapping[str, Any]
    result: Any
    layout_of: Callable[[Any], Layout | None]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument, or the default where the operator has none of that name.

        Examples
        --------
        >>> Call("relu", {}, None, lambda tensor: None).get("dim", 1)
        1
        """
        return self.arguments.get(name, default)

    @property
    def first(self) -> Any:
        """The first argument."""
        return next(iter(self.arguments.values()))

    @property
    def layout(self) -> Layout:
        """Layout of the first argument.

        Raises
        ------
        NoLayoutError
            If it has none.
        """
        layout = self.layout_of(self.first)
        if layout is None:
            raise NoLayoutError(f"{self.name} mixes positions in a way that is not known")
        return layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) result."""
        result = self.result[0] if is_listed(self.result) else self.result
        return tuple(result.shape)


Rule = Callable[[Call], Result]
R = TypeVar("R", bound=Rule)
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[R], R]:
    """Register a function as the rule of the named operators.

    Examples
    --------
    >>> @rule("an_operator_of_mine")
    ... def _unchanged(call):
    ...     return call.layout
    >>> "an_operator_of_mine" in RULES
    True
    """

    def register(function: R) -> R:
        for name in names:
            RULES[name] = function
        return function

    return register


def named(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operator's arguments by name, with its defaults.

    Examples
    --------
    >>> named(torch.ops.aten.mean.dim, [None, [2]], {})["keepdim"]
    False
    """
    arguments: dict[str, Any] = {}
    for number, argument in enumerate(operator._schema.arguments):
        if number < len(args):
            arguments[argument.name] = args[number]
        elif argument.name in kwargs:
            arguments[argument.name] = kwargs[argument.name]
        else:
            arguments[argument.name] = argument.default_value
    return arguments


def base_name(operator: Any) -> str:
    """Return the name under which an operator's rule is registered.

    Examples
    --------
    >>> base_name(torch.ops.aten.add_.Tensor)
    'add'
    """
    name = operator._schema.name.split("::")[-1]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


# Without the mark in versions of PyTorch from 2.4 to 2.12.
_UNMARKED = {
    *("celu", "elu", "hardshrink", "hardsigmoid", "hardtanh", "leaky_relu", "mish", "relu6"),
    *("rrelu", "selu", "softplus", "softshrink", "threshold"),
    *("isfinite", "rad2deg", "_conj_physical"),
}


def pointwise(operator: Any) -> bool:
    """Whether an operator works entry by entry.

    Versions of PyTorch have left the mark out of variants, such as those in place, and out of some
    activations.

    Examples
    --------
    >>> pointwise(torch.ops.aten.relu.default), pointwise(torch.ops.aten.leaky_relu_.default)
    (True, True)
    """
    if torch.Tag.pointwise in operator.tags or base_name(operator) in _UNMARKED:
        return True
    namespace, _, name = operator._schema.name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    overload = getattr(packet, operator._schema.overload_name or "default", None)
    return overload is not None and torch.Tag.pointwise in overload.tags


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor.

    Examples
    --------
    >>> is_tensor(3)
    False
    """
    return isinstance(value, Tensor)


def spatial(value: Any, count: int, default: int = 0) -> list[int]:
    """Return an option of a spatial operator, once per axis.

    Examples
    --------
    >>> spatial([2], 3), spatial([], 2, 1)
    ([2, 2, 2], [1, 1])
    """
    given = value if is_listed(value) else [] if value is None else [value]
    if len(given) > 1:
        return list(given)
    return [given[0] if given else default] * count

"""What the operators of TorchScript mean in Python.

Operators on tensors and numbers are PyTorch's own, called as PyTorch calls them. What is left are
the language's: containers, attributes, modes. Reference: torch/csrc/jit/OVERVIEW.md of PyTorch.
"""

import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from respondcam.errors import ModelError
from respondcam.network.typed import numbers

Function = Callable[..., Any]


def operator_of(node: Any) -> Function:
    """The function that a node of a graph stands for.

    Raises
    ------
    ModelError
        If there is none.
    """
    kind: str = node.kind()
    if kind in _FROM_NODE:
        return _FROM_NODE[kind](node)
    name = kind.removeprefix("aten::")
    if kind in _LANGUAGE:
        return _LANGUAGE[kind]
    if name in _CONTAINERS and _on_container(node):
        return _CONTAINERS[name]
    schema = node.schema()
    if not schema.startswith(kind) or "..." in schema:
        raise _unknown(kind)
    return _torch_operator(schema)


def _on_container(node: Any) -> bool:
    inputs = list(node.inputs())
    kinds = {value.type().kind() for value in inputs}
    return not inputs or bool(kinds & {"ListType", "DictType", "TupleType"})


def _torch_operator(text: str) -> Function:
    """The operator of a schema, called with its arguments in order."""
    schema: Any = torch._C.parse_schema(text)  # pyright: ignore[reportPrivateUsage]
    space, _, name = schema.name.partition("::")
    try:
        packet = getattr(getattr(torch.ops, space), name)
        function = getattr(packet, schema.overload_name or "default")
    except (AttributeError, RuntimeError) as error:
        raise _unknown(schema.name) from error
    keywords = [a.name for a in schema.arguments if a.kwarg_only]
    if not keywords:
        return function
    places = len(schema.arguments) - len(keywords)

    def call(*values: Any) -> Any:
        return function(*values[:places], **dict(zip(keywords, values[places:], strict=True)))

    return call


def _unknown(kind: str) -> ModelError:
    return ModelError(
        f"The TorchScript program uses the operator {kind}, which cannot be run layer by layer. "
        f"Explain the Python network that the program was made from."
    )


def _get_attribute(node: Any) -> Function:
    name = node.s("name")

    def get(owner: Any) -> Any:
        if isinstance(owner, torch.nn.Module):
            # it is a ProgramModule, whose file imports this one
            return owner.value(name)  # pyright: ignore[reportCallIssue, reportUnknownVariableType]
        return getattr(owner, name)

    return get


def _set_attribute(node: Any) -> Function:
    name = node.s("name")

    def put(owner: Any, value: Any) -> None:
        if isinstance(owner, torch.nn.Module):
            owner.set_value(name, value)  # pyright: ignore[reportCallIssue]
        else:
            setattr(owner, name, value)

    return put


_MODES = {
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
}


def _create(node: Any) -> Function:
    kind = node.output().type().str()
    mode = _MODES.get(kind.rpartition(".")[2])
    if mode is None or ".autograd.grad_mode." not in kind:
        raise _unknown(f"prim::CreateObject of {kind}")
    return mode


def _to_list(node: Any) -> Function:
    del node

    def listed(tensor: torch.Tensor, *_: Any) -> Any:
        return numbers(tensor)

    return listed


def _is_instance(node: Any) -> Function:
    kinds = [kind.kind() for kind in node.tys("types")]
    if any(kind not in _KINDS for kind in kinds):
        raise _unknown(f"prim::isinstance of {', '.join(kinds)}")

    def of_kind(value: Any) -> bool:
        return any(_KINDS[kind](value) for kind in kinds)

    return of_kind


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "TensorType": lambda value: isinstance(value, torch.Tensor),
    "IntType": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "BoolType": lambda value: isinstance(value, bool),
    "FloatType": lambda value: isinstance(value, float),
    "StringType": lambda value: isinstance(value, str),
    "NoneType": lambda value: value is None,
    "ListType": lambda value: isinstance(value, list),
    "TupleType": lambda value: isinstance(value, tuple),
    "DictType": lambda value: isinstance(value, dict),
}

_FROM_NODE: Mapping[str, Callable[[Any], Function]] = {
    "prim::GetAttr": _get_attribute,
    "prim::SetAttr": _set_attribute,
    "prim::CreateObject": _create,
    "prim::isinstance": _is_instance,
    "prim::tolist": _to_list,
}


def _same(value: Any) -> Any:
    return value


def _unwrapped(value: Any) -> Any:
    if value is None:
        raise RuntimeError("Unwrapping null optional")
    return value


def _raise(message: Any = "", *_: Any) -> None:
    raise RuntimeError(str(message))


def _nothing(*_: Any) -> None:
    return None


def _method(name: str) -> Function:
    """Call a method of the first argument with the others."""

    def call(owner: Any, *values: Any) -> Any:
        return getattr(owner, name)(*values)

    return call


def _view(name: str) -> Function:
    """List what a method of a dictionary gives."""

    def call(items: Mapping[Any, Any]) -> list[Any]:
        return list(getattr(items, name)())

    return call


def _module_of(container: Any, key: Any) -> Any:
    return container.value(str(key))


def _left(mode: Any) -> Any:
    return mode.__exit__(None, None, None)


def _percent(text: str, *values: Any) -> str:
    return text % values


def _pairs(*values: Any) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _warn(message: str, *_: Any) -> None:
    warnings.warn(message, stacklevel=2)


def _tensor(data: Any, dtype: int | None, device: Any, requires_grad: bool = False) -> Any:
    """Make a tensor of a number or of lists, which torch.ops does not take from Python.

    `dtype` is PyTorch's number of a type.
    """
    made = torch.as_tensor(data, device=device)
    if made.is_floating_point() and not isinstance(data, torch.Tensor):
        made = torch.tensor(data, dtype=torch.float64, device=device)  # rounded once, below
        kind = torch.get_default_dtype() if dtype is None else dtype
        made = torch.ops.aten.to.dtype(made, kind)
    elif dtype is not None:
        made = torch.ops.aten.to.dtype(made, dtype)
    return made.requires_grad_() if requires_grad else made


# the language's own operators, and what torch.ops cannot take from Python
_LANGUAGE: Mapping[str, Function] = {
    "prim::ListConstruct": lambda *values: list(values),
    "prim::TupleConstruct": lambda *values: values,
    "prim::DictConstruct": _pairs,
    "prim::ListUnpack": _same,
    "prim::TupleUnpack": _same,
    "prim::TupleIndex": operator.getitem,
    "prim::ModuleContainerIndex": _module_of,
    "prim::unchecked_cast": _same,
    "prim::unchecked_unwrap_optional": _same,
    "aten::_unwrap_optional": _unwrapped,
    "prim::Uninitialized": _nothing,
    "prim::RaiseException": _raise,
    "prim::Print": _nothing,  # standard output belongs to results
    "prim::Enter": _method("__enter__"),
    "prim::Exit": _left,
    "prim::data": _method("detach"),
    "aten::tensor": _tensor,
    "aten::as_tensor": _tensor,
    "aten::warn": _warn,
    "aten::format": _method("format"),
    "aten::percentFormat": _percent,
    "aten::str": str,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
}


def _put(container: Any, key: Any, value: Any) -> Any:
    container[key] = value
    return container


def _append(items: list[Any], item: Any) -> list[Any]:
    items.append(item)
    return items


def _extended(items: list[Any], more: list[Any]) -> list[Any]:
    items += more
    return items


def _sliced(items: Any, start: Any, end: Any, step: Any = 1) -> Any:
    return items[slice(start, end, step)]


def _sort(items: list[Any], reverse: bool = False) -> None:
    items.sort(reverse=reverse)


# operators of this name on lists, dictionaries and tuples; on tensors they are PyTorch's
_CONTAINERS: Mapping[str, Function] = {
    "len": len,
    "__getitem__": operator.getitem,
    "_set_item": _put,
    "__contains__": operator.contains,
    "Delete": operator.delitem,
    "append": _append,
    "extend": _method("extend"),
    "insert": _method("insert"),
    "pop": _method("pop"),
    "clear": _method("clear"),
    "reverse": _method("reverse"),
    "remove": _method("remove"),
    "sort": _sort,
    "sorted": sorted,
    "copy": _method("copy"),
    "list": list,
    "dict": dict,
    "keys": _view("keys"),
    "values": _view("values"),
    "items": _view("items"),
    "get": _method("get"),
    "setdefault": _method("setdefault"),
    "update": _method("update"),
    "slice": _sliced,
    "add": operator.add,
    "add_": _extended,
    "mul": operator.mul,
}

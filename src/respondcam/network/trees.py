"""Tensors inside whatever a network takes or returns: tuples, dicts, lists, dataclasses."""

# A walk over modules is quick only where it reads what torch keeps under an underscore.
# pyright: reportPrivateUsage=false

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, cast

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from respondcam._kinds import is_mapping


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Apply `function` to every tensor of `tree` and give back a tree of the same kind.

    Examples
    --------
    >>> map_tensors(lambda t: t + 1, {"a": torch.zeros(1), "b": "text"})
    {'a': tensor([1.]), 'b': 'text'}
    """

    def on_leaf(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return function(leaf)
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            changed: Any = copy.copy(leaf)  # without its own checks, and with what it adds later
            for name, value in _fields(leaf):
                new = map_tensors(function, value)
                object.__setattr__(changed, name, new)
                if _items(leaf).get(name) is value:  # the same under two names
                    changed[name] = new
            return changed
        if isinstance(leaf, MutableMapping):  # a class of its own, which torch does not look into
            mapping = copy.copy(cast("MutableMapping[Any, Any]", leaf))
            for key, value in list(mapping.items()):
                mapping[key] = map_tensors(function, value)
            return mapping
        return leaf

    return pytree.tree_map(on_leaf, tree)


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors of `tree`, in order.

    Examples
    --------
    >>> [t.item() for t in tensors(({"x": torch.tensor(1)}, torch.tensor(2)))]
    [1, 2]
    """
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            for _, value in _fields(leaf):
                yield from tensors(value)
        elif isinstance(leaf, MutableMapping):
            for value in cast("MutableMapping[Any, Any]", leaf).values():
                yield from tensors(value)


def _items(instance: Any) -> Mapping[Any, Any]:
    """What a dataclass that is also a dictionary holds as one."""
    return dict(instance) if is_mapping(instance) else {}


def _fields(instance: Any) -> list[tuple[str, Any]]:
    """Names and values of a dataclass's fields, but for those that have none yet."""
    names = [entry.name for entry in dataclasses.fields(instance)]
    return [(name, getattr(instance, name)) for name in names if hasattr(instance, name)]


def signature(tree: Any) -> tuple[Any, ...]:
    """What the course of a network may depend on besides the values of tensors.

    Examples
    --------
    >>> signature((torch.zeros(1, 2), 3)) == signature((torch.ones(1, 2), 3))
    True
    >>> signature((torch.zeros(1, 2), 3)) == signature((torch.zeros(1, 2), 4))
    False
    """
    leaves, structure = pytree.tree_flatten(tree)
    found: list[Any] = [repr(structure)]  # itself it has no hash in older versions of PyTorch
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            found.append((tuple(leaf.shape), leaf.dtype))
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            found += [signature(value) for _, value in _fields(leaf)]
        elif isinstance(leaf, MutableMapping):
            found.append(signature(dict(cast("MutableMapping[Any, Any]", leaf))))
        else:
            found.append(repr(leaf))
    return tuple(found)


def modules_of(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, each once, in the order of ``model.modules()``.

    Without its generators nested in generators, since every map walks over the model: a network of
    400 modules otherwise pays milliseconds.

    Examples
    --------
    >>> shared = nn.ReLU()
    >>> [type(m).__name__ for m in modules_of(nn.Sequential(nn.Linear(3, 2), shared, shared))]
    ['Sequential', 'Linear', 'ReLU']
    """
    found: dict[int, nn.Module] = {}
    pending = [model]
    while pending:
        module = pending.pop()
        if id(module) in found:
            continue
        found[id(module)] = module
        children = module._modules
        if len(children):
            pending += [child for child in reversed(list(children.values())) if child is not None]
    return list(found.values())


def weights(model: nn.Module, *, buffers: bool = False) -> list[Tensor]:
    """Parameters of a model, each once, and its buffers; several times faster than the iterators.

    Examples
    --------
    >>> [tuple(w.shape) for w in weights(nn.Linear(3, 2))]
    [(2, 3), (2,)]
    """
    found: dict[int, Tensor] = {}
    for module in modules_of(model):
        for held in (module._parameters, module._buffers) if buffers else (module._parameters,):
            if len(held):
                for tensor in held.values():
                    if tensor is not None:
                        found[id(tensor)] = tensor
    return list(found.values())


def plain(tensor: Tensor) -> Tensor:
    """The tensor without a subclass around it (MONAI's MetaTensor and its like)."""
    return tensor.as_subclass(Tensor) if type(tensor) is not Tensor else tensor


def private_copy(tensor: Tensor) -> Tensor:
    """A copy without history that a network may write to, and that autograd can record."""
    return tensor.detach().clone()


def is_float(tensor: Tensor) -> bool:
    """Whether autograd can give a gradient for it."""
    return torch.is_floating_point(tensor) or torch.is_complex(tensor)


def spatial_tensor(tree: Any) -> Tensor | None:
    """The tensor of an input or a layer's output that is explained.

    It is the first floating-point tensor with batch, channel and at least one more axis; failing
    that the first floating-point tensor; None when there is none.
    """
    floats = [t for t in tensors(tree) if is_float(t)]
    return next((t for t in floats if t.ndim >= 3), floats[0] if floats else None)


def image_tensor(inputs: Any) -> Tensor | None:
    """The tensor of a network's inputs that is explained.

    As `spatial_tensor`, but a network may take its image in whole numbers, such as the grey values
    of a scanner or labels, and make others of them itself.

    Examples
    --------
    >>> age, scan = torch.rand(1, 1), torch.zeros(1, 1, 4, 4, dtype=torch.int16)
    >>> image_tensor((age, scan)) is scan, spatial_tensor((age, scan)) is age
    (True, True)
    """
    found = spatial_tensor(inputs)
    if found is not None and found.ndim >= 3:
        return found
    return next((t for t in tensors(inputs) if t.ndim >= 3), found)


def spatial_batch(inputs: Any) -> int:
    """Number of samples in the tensor that is explained."""
    found = image_tensor(inputs)
    return 1 if found is None or not found.ndim else len(found)

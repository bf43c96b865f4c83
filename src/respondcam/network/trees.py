"""Tensors inside whatever a network takes or returns: tuples, dicts, lists, dataclasses."""

# A walk over modules is quick only where it reads what torch keeps under an underscore.
# pyright: reportPrivateUsage=false

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn


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
            fields = [f for f in dataclasses.fields(leaf) if f.init]
            changed = {f.name: map_tensors(function, getattr(leaf, f.name)) for f in fields}
            return dataclasses.replace(leaf, **changed)
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
            for entry in dataclasses.fields(leaf):
                yield from tensors(getattr(leaf, entry.name))


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
            found += [signature(getattr(leaf, entry.name)) for entry in dataclasses.fields(leaf)]
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


def spatial_batch(tree: Any) -> int:
    """Number of samples in the tensor that is explained."""
    found = spatial_tensor(tree)
    return 1 if found is None or not found.ndim else len(found)

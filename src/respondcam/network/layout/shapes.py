"""Shapes of results without data, for the operators that nearly every network has.

torch finds them too, and what is not here is left to it. But it decomposes a norm into many
operators, which takes about as long as all the rest of a trace; and what it knows in Python,
additions and activations among them, imports the whole compiler when it is first asked, which takes
as long as importing torch, in every command.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from respondcam.network.layout.rules import base_name, spatial
from respondcam.network.trees import tensors

_CONVOLUTION = (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0))
# entry by entry, and what comes out of floating-point numbers has their type
_ENTRYWISE = {
    "abs", "add", "celu", "clamp", "div", "elu", "exp", "gelu", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "log", "mish", "mul", "neg", "pow", "_prelu_kernel", "relu", "relu6",
    "rsqrt", "rsub", "selu", "sigmoid", "silu", "softplus", "sqrt", "square", "sub", "tanh",
}  # fmt: skip

_RANKS = {"2d": 4, "3d": 5}  # of what pooling and interpolation take


def result_of(func: Any, given: Mapping[str, Any]) -> Any:
    """Return what an operator on tensors without data returns; None where torch has to say it.

    Examples
    --------
    >>> x = torch.empty(1, 8, 4, 4, 4, device="meta")
    >>> result_of(torch.ops.aten.relu.default, {"self": x}).shape
    torch.Size([1, 8, 4, 4, 4])
    """
    name = base_name(func)
    if (rank := _rank_of(name)) is not None and given["self"].ndim != rank:
        return None  # without a batch axis
    if name in _ENTRYWISE:
        return _entrywise(func, given)
    return _SHAPES[name](given) if name in _SHAPES else None


def _rank_of(name: str) -> int | None:
    """Axes of what an operator of images takes, with batch and channel; None for others."""
    return _RANKS.get(name.removesuffix("_with_indices")[-2:])


def _entrywise(func: Any, given: Mapping[str, Any]) -> Tensor | None:
    found = list(tensors(dict(given)))
    if not _alike(found) or "out" in given or any(isinstance(x, complex) for x in given.values()):
        return None
    sizes = [tensor.shape for tensor in found]
    shape = (
        sizes[0] if len(set(sizes)) == 1 else max(sizes, key=lambda size: (len(size), prod(size)))
    )
    if any(not _reaches(size, shape) for size in sizes):
        return None
    first = given["self"]
    if func._schema.name.endswith("_"):
        return first if first.shape == shape else None
    if all(tensor.is_contiguous() for tensor in found):
        return torch.empty(shape, dtype=found[0].dtype, device="meta")
    strides = {tensor.stride() for tensor in found}
    if len(strides) > 1 or len(set(sizes)) > 1 or not _dense(found[0]):
        return None
    return torch.empty_strided(shape, found[0].stride(), dtype=found[0].dtype, device="meta")


def _alike(found: list[Tensor]) -> bool:
    """Whether all are plain tensors of one floating type, without data."""
    return (
        all(
            type(tensor) is Tensor and tensor.is_meta and tensor.is_floating_point()
            for tensor in found
        )
        and len({tensor.dtype for tensor in found}) == 1
    )


def _reaches(size: torch.Size, shape: torch.Size) -> bool:
    """Whether a tensor of one size can be repeated to another."""
    return all(one in (1, other) for one, other in zip(size[::-1], shape[::-1], strict=False))


def _dense(x: Tensor) -> bool:
    """Whether a tensor lies in memory without gaps, channels last."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    return last is not None and x.is_contiguous(memory_format=last)


def _concatenated(given: Mapping[str, Any]) -> Tensor | None:
    parts, dim = list(given["tensors"]), given["dim"]
    if "out" in given or not parts or not _alike(parts):
        return None
    first = parts[0]
    if any(part.ndim != first.ndim or not part.is_contiguous() for part in parts):
        return None
    if not -first.ndim <= dim < first.ndim:
        return None  # torch words the error
    rest = {tuple(n for d, n in enumerate(part.shape) if d != dim % first.ndim) for part in parts}
    if len(rest) > 1:
        return None
    sizes = list(first.shape)
    sizes[dim] = sum(part.shape[dim] for part in parts)
    return torch.empty(sizes, dtype=first.dtype, device="meta")


def _reduced(given: Mapping[str, Any]) -> Tensor | None:
    """Of a mean or a sum."""
    x = given["self"]
    if not _plain(x) or given.get("dtype") is not None or "out" in given:
        return None
    dims = given.get("dim")
    dims = dims or range(x.ndim)
    if any(not -x.ndim <= d < x.ndim for d in dims):
        return None
    gone = {d % x.ndim for d in dims}
    sizes = [1 if d in gone else n for d, n in enumerate(x.shape)]
    if not given.get("keepdim", False):
        sizes = [n for d, n in enumerate(sizes) if d not in gone]
    return torch.empty(sizes, dtype=x.dtype, device="meta")


def _plain(x: Tensor) -> bool:
    return _alike([x]) and x.is_contiguous()


def _product(given: Mapping[str, Any]) -> Tensor | None:
    """Of matrices, also with a vector added, or of a batch of them."""
    one = given.get("mat1", given.get("self"))
    other = given["mat2"]
    added = [given["self"]] if "mat1" in given else []
    rank = one.ndim
    if rank not in (2, 3) or other.ndim != rank or "out" in given:
        return None
    if not _alike([one, other, *added]) or one.shape[-1] != other.shape[-2]:
        return None
    shape = torch.Size((*one.shape[:-1], other.shape[-1]))
    if one.shape[:-2] != other.shape[:-2] or any(not _reaches(b.shape, shape) for b in added):
        return None
    return torch.empty(shape, dtype=one.dtype, device="meta")


def _pooled(given: Mapping[str, Any], *, dilated: bool) -> Tensor | None:
    x, kernel = given["self"], given["kernel_size"]
    count = x.ndim - 2
    if not _plain(x) or len(kernel) != count or given["ceil_mode"] or "out" in given:
        return None
    padding = spatial(given["padding"], count)
    stride = spatial(given["stride"], count, 0) if given["stride"] else kernel
    dilation = spatial(given["dilation"], count, 1) if dilated else [1] * count
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    ]
    if min(sizes) < 1 or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        return None
    return torch.empty((*x.shape[:2], *sizes), dtype=x.dtype, device="meta")


def _highest(given: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    pooled = _pooled(given, dilated=True)
    return None if pooled is None else (pooled, torch.empty_like(pooled, dtype=torch.int64))


def _mean_pooled(given: Mapping[str, Any]) -> Tensor | None:
    return _pooled(given, dilated=False)


def _adapted(given: Mapping[str, Any]) -> Tensor | None:
    """Of what asks for a number of voxels: adaptive pooling, interpolation."""
    x, sizes = given["self"], given["output_size"]
    if not _plain(x) or x.ndim != len(sizes) + 2 or min(sizes) < 1 or "out" in given:
        return None
    return torch.empty((*x.shape[:2], *sizes), dtype=x.dtype, device="meta")


def _convolution(given: Mapping[str, Any]) -> Tensor | None:
    x, weight = given["input"], given["weight"]
    count = weight.ndim - 2
    if x.ndim != weight.ndim:
        return None
    options = [spatial(given[key], count, d) for key, d in _CONVOLUTION]
    sizes: list[int] = []
    for n, k, s, p, d, more in zip(x.shape[2:], weight.shape[2:], *options, strict=True):
        reach = d * (k - 1)
        if given["transposed"]:
            sizes.append((n - 1) * s - 2 * p + reach + more + 1)
        else:
            sizes.append((n + 2 * p - reach - 1) // s + 1)
    channels = weight.shape[1] * given["groups"] if given["transposed"] else weight.shape[0]
    if min(sizes) < 1 or x.shape[1] != _taken(weight, given):
        return None
    return torch.empty((x.shape[0], channels, *sizes), dtype=x.dtype, device="meta")


def _taken(weight: Tensor, given: Mapping[str, Any]) -> int:
    """Return how many channels the convolution takes."""
    return weight.shape[0] if given["transposed"] else weight.shape[1] * given["groups"]


def _normalised(given: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    x = given["input"]
    little = torch.empty(0, device="meta")
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta"), little, little


_SHAPES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "_adaptive_avg_pool2d": _adapted,
    "_adaptive_avg_pool3d": _adapted,
    "addmm": _product,
    "avg_pool2d": _mean_pooled,
    "avg_pool3d": _mean_pooled,
    "bmm": _product,
    "cat": _concatenated,
    "convolution": _convolution,
    "max_pool2d_with_indices": _highest,
    "max_pool3d_with_indices": _highest,
    "mean": _reduced,
    "mm": _product,
    "native_batch_norm": _normalised,
    "native_group_norm": _normalised,
    "native_layer_norm": _normalised,
    "sum": _reduced,
    "upsample_bilinear2d": _adapted,
    "upsample_nearest2d": _adapted,
    "upsample_nearest3d": _adapted,
    "upsample_trilinear3d": _adapted,
}

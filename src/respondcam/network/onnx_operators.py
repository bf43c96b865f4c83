"""Which nodes of an ONNX file onnx2torch would turn into something else, operator by operator.

Each function gives a phrase for what is wrong, none for what is right. The rules are those that a
comparison with onnxruntime has shown.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from respondcam.network.onnx_known import Known, attributes_of, input_of

_TRIED = 64  # lengths of an axis that are tried where the file fixes none
_LONGEST = 1 << 20  # elements of an axis that are looked at one by one
_INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})  # onnx.TensorProto's types of whole numbers
_FLOATS = frozenset({1, 10, 11, 16})


def _resize(node: Any, known: Known) -> str:
    attributes = attributes_of(node)
    mode = attributes.get("mode", "nearest")
    old = len(node.input) == 2  # of operator set 10, where this was all there was
    transform = "asymmetric" if old else "half_pixel"
    transform = attributes.get("coordinate_transformation_mode", transform)
    nearest = attributes.get("nearest_mode", "floor" if old else "round_prefer_floor")
    scales = known.values(node, 1 if old else 2)
    sizes = [] if old else known.values(node, 3)
    shape = known.shape(node) or [None] * max(len(scales), len(sizes))
    if shape and len(shape) - 2 not in ((2,) if mode == "cubic" else (1, 2, 3)):
        return f"Resize with mode={mode!r} of {len(shape)} axes"
    if any(scale != 1 for scale in scales[:2]) or _others(sizes[:2], shape):
        return "Resize of the batch or channel axis"
    if mode != "nearest" and attributes.get("exclude_outside"):
        return f"Resize with mode={mode!r} and exclude_outside=1"
    coefficient = attributes.get("cubic_coeff_a", -0.75)
    if mode == "cubic" and coefficient != -0.75:
        return f"Resize with cubic_coeff_a={coefficient:g}"
    for axis in range(2, max(len(shape), 3)):
        length = shape[axis] if axis < len(shape) else None
        scale = scales[axis] if axis < len(scales) else None
        size = int(sizes[axis]) if axis < len(sizes) else None
        for case in _lengths(length, scale, size):
            if not _same_places(*case, mode, transform, nearest):
                how = f" and nearest_mode={nearest!r}" if mode == "nearest" else ""
                by = f"scale {scale:g}" if scale else f"size {size or 'computed'}"
                return (
                    f"Resize with mode={mode!r}, coordinate_transformation_mode={transform!r}"
                    f"{how} ({by}, of a length of {length or 'any number'})"
                )
    return ""


def _others(sizes: Sequence[float | int | None], shape: Sequence[int | None]) -> bool:
    """Whether some length is known and another than it should be."""
    return any(old not in (None, new) for old, new in zip(shape, sizes, strict=False))


def _lengths(
    length: int | None, scale: float | None, size: int | None
) -> Iterator[tuple[int, int, float | None]]:
    """Lengths in and out and the scale between, as far as the file fixes them, tried otherwise."""
    for one in [length] if length else range(1, _TRIED + 1):
        if size:
            yield one, size, None
        elif scale:
            out = int(np.float32(one) * np.float32(scale))  # in single precision, as onnxruntime
            if length or out > 1:  # one element of several is not what an open length is for
                yield one, max(out, 1), scale
        else:
            yield from ((one, out, None) for out in (one // 2, one + 1, 2 * one) if out > 1)


def _same_places(
    length: int, out: int, scale: float | None, mode: str, transform: str, nearest: str
) -> bool:
    """Whether torch takes its elements from where ONNX does, told by what it makes of a ramp."""
    if max(length, out) > _LONGEST:
        return False  # no axis of a network: nothing is computed for it
    if scale and scale != 1 and out == length > 1:
        return False  # of one length in and out, the scale is heeded by one and not by the other
    at, ratio = np.arange(out, dtype=np.float32), np.float32(scale or out / length)
    if transform == "align_corners" and out > 1:
        at = at * np.float32(length - 1) / np.float32(out - 1)
    elif transform in ("align_corners", "pytorch_half_pixel") and out == 1:
        at = np.zeros_like(at)
    elif transform in ("half_pixel", "pytorch_half_pixel"):
        at = (at + np.float32(0.5)) / ratio - np.float32(0.5)
    elif transform == "tf_half_pixel_for_nn":
        at = (at + np.float32(0.5)) / ratio
    elif transform == "asymmetric":
        at = at / ratio
    else:
        return False
    if mode == "nearest":
        half = np.float32(0.5)
        steps: Mapping[str, Callable[[], Any]] = {
            "floor": lambda: np.floor(at),
            "ceil": lambda: np.ceil(at),
            "round_prefer_floor": lambda: np.ceil(at - half),
            "round_prefer_ceil": lambda: np.floor(at + half),
        }
        at = steps[nearest]()
    corners = None if mode == "nearest" else transform == "align_corners"
    ramp = F.interpolate(
        torch.arange(length, dtype=torch.float32)[None, None],
        size=None if scale else out,
        scale_factor=scale,
        mode="nearest" if mode == "nearest" else "linear",
        align_corners=corners,
    )
    if ramp.shape[-1] != out:
        return False
    return np.allclose(ramp[0, 0].numpy(), at.clip(0, length - 1), rtol=0, atol=1e-3)


def _transposed(node: Any, known: Known) -> str:
    attributes = attributes_of(node)
    wanted = attributes.get("output_shape")
    kernel = (known.shape(node, 1) or [])[2:]
    if not wanted:
        return ""
    shape, rank = (known.shape(node) or [])[2:], len(kernel)
    pads = attributes.get("pads") if attributes.get("auto_pad") != "VALID" else None
    for axis, size in enumerate(wanted[-rank:]):
        length, reach = (shape[axis] if shape else None), kernel[axis]
        stride, dilation, more = (
            attributes.get(name, [default] * rank)[axis]
            for name, default in (("strides", 1), ("dilations", 1), ("output_padding", 0))
        )
        less = pads[axis] + pads[axis + rank] if pads else 0
        if length is None or reach is None:
            break
        if size != stride * (length - 1) + more + (reach - 1) * dilation + 1 - less:
            break
    else:
        return ""  # that is the shape it has anyway
    return f"ConvTranspose with output_shape={wanted}"


def _pool(node: Any, known: Known) -> str:
    attributes = attributes_of(node)
    kernel = attributes.get("kernel_shape", [])
    rank = len(kernel)
    pads = attributes.get("pads") or [0] * 2 * rank
    if attributes.get("auto_pad", "NOTSET") != "NOTSET" or len(pads) != 2 * rank:
        return ""
    dilations = attributes.get("dilations") or [1] * rank
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=False)]
    if pads[:rank] == pads[rank:]:
        if any(2 * pad > size for pad, size in zip(pads, reach, strict=False)):
            return f"{node.op_type} with pads={pads}, more than half of its kernel"
        return ""
    if not attributes.get("ceil_mode"):
        return ""
    # torch does not see which part is padding, and lets a last window begin in it
    strides = attributes.get("strides") or [1] * rank
    shape = (known.shape(node) or [None] * (rank + 2))[2:]
    for length, before, after, size, stride in zip(
        shape, pads[:rank], pads[rank:], reach, strides, strict=False
    ):
        if length is None:
            found = after > 0
        else:
            whole = length + before + after
            found = length + before <= -(-(whole - size) // stride) * stride < whole
        if found:
            return f"{node.op_type} with ceil_mode=1 and pads={pads}"
    return ""


def _pad(node: Any, known: Known) -> str:
    attributes = attributes_of(node)
    mode = attributes.get("mode", "constant")
    pads = attributes.get("pads") or known.values(node, 1)
    if attributes.get("value"):
        return f"Pad with value={attributes['value']:g} as an attribute"
    if input_of(node, 2) and known.shape(node, 2) not in ([], None):
        return "Pad by a value that is a list"
    if mode == "constant":
        return ""
    shape = known.shape(node)
    rank = len(pads) // 2 or (3 if shape is None else len(shape))
    if rank not in (3, 4, 5) or any(pads[:2]) or any(pads[rank : rank + 2]):
        return f"Pad with mode={mode!r} of other than one to three spatial axes"
    return ""


def _prelu(node: Any, known: Known) -> str:
    slope, shape = known.shape(node, 1), known.shape(node)
    if slope is None:
        return "PRelu whose slope's shape is not known"
    if all(size == 1 for size in slope):
        return ""
    if shape is not None and len(shape) > 1:
        channels = shape[1]
        if len(slope) == len(shape) - 1 or any(size != 1 for size in slope[1:]):
            return ""
        if channels is not None and channels != slope[0]:
            return ""
    return f"PRelu whose slope of shape {slope} is not one number for each channel"


def _layer_norm(node: Any, known: Known) -> str:
    shape, axis = known.shape(node) or [], attributes_of(node).get("axis", -1)
    over = shape[axis:]
    constant = all(name in known.weights for name in node.input[1:])
    for place in range(1, len(node.input)):
        scale = known.shape(node, place)
        if over and scale is not None and input_of(node, place):
            unknown = constant and None in over
            if unknown or len(scale) != len(over) or _others(scale, over):
                return f"LayerNormalization over {over}, of which it scales {scale}"
    return "" if over or not constant else "LayerNormalization over a shape that is not known"


def _global_pool(node: Any, known: Known) -> str:
    shape = known.shape(node)
    if shape is None:
        return "GlobalAveragePool of a shape that is not known"
    return "" if len(shape) > 2 else "GlobalAveragePool of no spatial axes"


def _flatten(node: Any, known: Known) -> str:
    axis, shape = attributes_of(node).get("axis", 1), known.shape(node)
    if axis == 0 or (shape is not None and axis in (len(shape), -len(shape))):
        return f"Flatten with axis={axis}, of all axes into one"
    return ""


def _clip(node: Any, known: Known) -> str:
    if known.kinds.get(input_of(node, 0)) not in _INTEGERS:
        return ""
    limits = [known.values(node, place) for place in (1, 2)]
    return "" if limits in ([[], []], [[0], []], [[0], [6]]) else "Clip of whole numbers"


def _pow(node: Any, known: Known) -> str:
    base, exponent = (known.kinds.get(input_of(node, place)) for place in (0, 1))
    return "Pow of whole numbers by others" if base in _INTEGERS and exponent in _FLOATS else ""


def _dropout(node: Any, known: Known) -> str:
    training = input_of(node, 2)
    if training and known.constants.get(training) != [0]:
        return "Dropout in training mode"
    return ""


def _gather(node: Any, known: Known) -> str:
    if attributes_of(node).get("batch_dims"):
        return f"{node.op_type} with batch_dims={attributes_of(node)['batch_dims']}"
    if node.op_type == "GatherElements" and min(known.values(node, 1), default=0) < 0:
        return "GatherElements with indices counted from the end"
    return ""


def _infinite(node: Any, known: Known) -> str:
    attributes = attributes_of(node)
    for name in ("detect_negative", "detect_positive"):
        if not attributes.get(name, 1):
            return f"IsInf with {name}=0"
    return ""


def _response(node: Any, known: Known) -> str:
    size = attributes_of(node).get("size", 1)
    return "" if size % 2 else f"LRN with size={size}, an even one"


def _reduce_sum(node: Any, known: Known) -> str:
    attributes = attributes_of(node)
    empty = known.shape(node, 1) == [0] and not attributes.get("noop_with_empty_axes")
    if empty and not attributes.get("keepdims", 1):
        return "ReduceSum with an empty list of axes and keepdims=0"
    return ""


def _reduce(node: Any, known: Known) -> str:
    whole = known.kinds.get(input_of(node, 0)) in _INTEGERS
    return f"{node.op_type} of whole numbers" if whole else ""


def _nonzero(node: Any, known: Known) -> str:
    return "NonZero, which would come out transposed"


def _top(node: Any, known: Known) -> str:
    return "" if len(node.input) > 1 else "TopK of an operator set before 10"


CHECKS: Mapping[str, Callable[[Any, Known], str]] = {
    "AveragePool": _pool,
    "Clip": _clip,
    "ConvTranspose": _transposed,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "GatherElements": _gather,
    "GatherND": _gather,
    "GlobalAveragePool": _global_pool,
    "IsInf": _infinite,
    "LRN": _response,
    "LayerNormalization": _layer_norm,
    "MaxPool": _pool,
    "NonZero": _nonzero,
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _pow,
    "ReduceL1": _reduce,
    "ReduceL2": _reduce,
    "ReduceLogSum": _reduce,
    "ReduceLogSumExp": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce_sum,
    "Resize": _resize,
    "TopK": _top,
}

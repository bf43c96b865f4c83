"""Nodes of an ONNX file that onnx2torch would turn into something else, without a word.

It ignores some attributes, and reads a few others wrongly: the network then loads, runs and gives
other numbers than the file means, or fails at its first volume. Such nodes are refused before
anything is converted, in words; the few that can be said in another way are rewritten. The rules
are those that a comparison with onnxruntime, operator by operator, has shown.

Limits: where a rule needs sizes or axes that the file leaves open, what may be wrong is refused,
but for a linear resize with 'pytorch_half_pixel' that makes one element of several. Other numbers
that the network computes as it runs (paddings, indices from the end) are left to torch's errors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from respondcam.errors import ModelError
from respondcam.network.onnx_sizes import small_constants

_TRIED = 64  # lengths of an axis that are tried where the file fixes none
_LONGEST = 1 << 20  # elements of an axis that are looked at one by one
_SMALL = 64  # numbers that shape inference may read from a weight
_INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})  # onnx.TensorProto's types of whole numbers
_FLOATS = frozenset({1, 10, 11, 16})

Shape = list[int | None]


@dataclass(frozen=True)
class _Known:
    """What a file says of its values before anything runs."""

    constants: Mapping[str, list[float]]
    shapes: Mapping[str, Shape]  # None for a length that the file leaves open
    kinds: Mapping[str, int]  # element types, numbered as in onnx.TensorProto
    weights: frozenset[str]

    def shape(self, node: Any, place: int = 0) -> Shape | None:
        """The shape of an input, or None if not even its rank is known."""
        return self.shapes.get(_input(node, place))

    def values(self, node: Any, place: int) -> list[float]:
        """The numbers of a short constant input; none if it is computed, empty or left out."""
        return self.constants.get(_input(node, place), [])


def check_versions(proto: Any, path: Path) -> None:
    """Refuse what onnx's version converter would lose on the way to another operator set.

    Raises
    ------
    ModelError
        If a node of the file as it is would lose its meaning.
    """
    known = small_constants(proto.graph)
    for node in proto.graph.node:
        _refuse(_lost(node, known), node, path)


def check_meaning(proto: Any, path: Path) -> None:
    """Refuse what would be translated into something else; rewrite, in place, what can be helped.

    Parameters
    ----------
    proto
        The file, already of an operator set that onnx2torch knows.
    path
        Where it was read from, for the message.

    Raises
    ------
    ModelError
        Naming the node, what about it cannot be translated, and what to do.
    """
    graph = proto.graph
    _fill_attributes(graph)
    _drop_unread(graph)
    known = _known(proto)
    for node in graph.node:
        _refuse(_CHECKS[node.op_type](node, known) if node.op_type in _CHECKS else "", node, path)
        _refuse(_rewritten(node, graph, known), node, path)
    outputs = [value.name for value in graph.output]
    inputs = {value.name for value in graph.input}
    taken = inputs | {_named(node) for node in graph.node}
    for node in graph.node:
        _refuse(_outputs(node, outputs) or _mixed_up(node, inputs, taken), node, path)


def _refuse(what: str, node: Any, path: Path) -> None:
    if what:
        raise ModelError(
            f"The ONNX file {str(path)!r} cannot be turned into a PyTorch network that computes "
            f"the same, for its node {node.name or node.op_type!r}: {what}. Export the network "
            f"without that, or as TorchScript, or give its Python code."
        )


# What the version converter loses


def _lost(node: Any, known: Mapping[str, list[float]]) -> str:
    attributes = _attributes(node)
    if node.op_type == "AveragePool" and set(attributes.get("dilations", [])) - {1}:
        return f"AveragePool with dilations={attributes['dilations']}"
    old = node.op_type == "Upsample" or (node.op_type == "Resize" and len(node.input) == 2)
    if old and attributes.get("mode", "nearest") != "nearest":
        scales = attributes.get("scales") or known.get(_input(node, 1), [0.0])
        if set(scales) != {1.0}:  # asymmetric, which later sets take for half_pixel
            return f"{node.op_type} with mode={attributes['mode']!r} of an operator set before 11"
    if node.op_type == "Resize":
        if attributes.get("antialias"):
            return "Resize with antialias=1"
        if attributes.get("axes"):
            return f"Resize with axes={attributes['axes']}"
        if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            return (
                f"Resize with keep_aspect_ratio_policy={attributes['keep_aspect_ratio_policy']!r}"
            )
    if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
        axes = _input(node, 1)
        if attributes.get("noop_with_empty_axes") and (not axes or known.get(axes) == []):
            return f"{node.op_type} with noop_with_empty_axes=1 and no axes"
    return ""


# What is rewritten


def _fill_attributes(graph: Any) -> None:
    """Write out zeros: some writers leave them out, and onnx2torch takes what is left for true."""
    for node in graph.node:
        for one in node.attribute:
            for kind, field, zero in ((1, "f", 0.0), (2, "i", 0), (3, "s", b"")):
                if one.type == kind and not one.HasField(field):
                    setattr(one, field, zero)


def _drop_unread(graph: Any) -> None:
    """Take off second outputs that nobody reads: with them, the first batch item would be taken."""
    read = {name for node in graph.node for name in node.input}
    read |= {value.name for value in graph.output}
    for node in graph.node:
        while node.op_type in _ONE_OUTPUT and len(node.output) > 1 and node.output[-1] not in read:
            del node.output[-1]


def _rewritten(node: Any, graph: Any, known: _Known) -> str:
    """Say a node so that it is translated rightly; if it cannot be said, why."""
    attributes = _attributes(node)
    if node.op_type == "CumSum" and "reverse" not in attributes:
        node.attribute.add(name="reverse", type=2, i=0)  # onnx2torch takes 1 for the default
    reduces = node.op_type in ("ReduceMax", "ReduceMin", "ReduceProd")
    if node.op_type not in ("Squeeze", "Unsqueeze") and not reduces:
        return ""
    if reduces and attributes.get("keepdims", 1):
        return ""
    computed = not reduces and _input(node, 1) and _input(node, 1) not in known.constants
    axes = attributes.get("axes") or [int(axis) for axis in known.values(node, 1)]
    if computed and known.shape(node, 1) != [1]:
        return f"{node.op_type} whose axes are computed"
    if len(axes) < 2 or min(axes) >= 0:
        return ""
    shape = known.shape(node)
    if shape is None:
        return f"{node.op_type} with axes={axes}, counted from the end of a shape that is not known"
    rank = len(shape) + (len(axes) if node.op_type == "Unsqueeze" else 0)
    _set_axes(node, graph, sorted(axis % rank for axis in axes))
    return ""


def _set_axes(node: Any, graph: Any, axes: list[int]) -> None:
    """Axes counted from the front: several from the end are taken one after the other, wrongly."""
    from onnx import numpy_helper

    for one in node.attribute:
        if one.name == "axes":
            one.ints[:] = axes
            return
    name = f"{node.output[0]}.axes_from_the_front"
    graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
    node.input[1] = name


# What is refused, operator by operator: a phrase for what is wrong, none for what is right


def _resize(node: Any, known: _Known) -> str:
    attributes = _attributes(node)
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


def _transposed(node: Any, known: _Known) -> str:
    attributes = _attributes(node)
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


def _pool(node: Any, known: _Known) -> str:
    attributes = _attributes(node)
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


def _pad(node: Any, known: _Known) -> str:
    attributes = _attributes(node)
    mode = attributes.get("mode", "constant")
    pads = attributes.get("pads") or known.values(node, 1)
    if attributes.get("value"):
        return f"Pad with value={attributes['value']:g} as an attribute"
    if _input(node, 2) and known.shape(node, 2) not in ([], None):
        return "Pad by a value that is a list"
    if mode == "constant":
        return ""
    shape = known.shape(node)
    rank = len(pads) // 2 or (3 if shape is None else len(shape))
    if rank not in (3, 4, 5) or any(pads[:2]) or any(pads[rank : rank + 2]):
        return f"Pad with mode={mode!r} of other than one to three spatial axes"
    return ""


def _prelu(node: Any, known: _Known) -> str:
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


def _layer_norm(node: Any, known: _Known) -> str:
    shape, axis = known.shape(node) or [], _attributes(node).get("axis", -1)
    over = shape[axis:]
    constant = all(name in known.weights for name in node.input[1:])
    for place in range(1, len(node.input)):
        scale = known.shape(node, place)
        if over and scale is not None and _input(node, place):
            unknown = constant and None in over
            if unknown or len(scale) != len(over) or _others(scale, over):
                return f"LayerNormalization over {over}, of which it scales {scale}"
    return "" if over or not constant else "LayerNormalization over a shape that is not known"


def _global_pool(node: Any, known: _Known) -> str:
    shape = known.shape(node)
    if shape is None:
        return "GlobalAveragePool of a shape that is not known"
    return "" if len(shape) > 2 else "GlobalAveragePool of no spatial axes"


def _flatten(node: Any, known: _Known) -> str:
    axis, shape = _attributes(node).get("axis", 1), known.shape(node)
    if axis == 0 or (shape is not None and axis in (len(shape), -len(shape))):
        return f"Flatten with axis={axis}, of all axes into one"
    return ""


def _clip(node: Any, known: _Known) -> str:
    if known.kinds.get(_input(node, 0)) not in _INTEGERS:
        return ""
    limits = [known.values(node, place) for place in (1, 2)]
    return "" if limits in ([[], []], [[0], []], [[0], [6]]) else "Clip of whole numbers"


def _pow(node: Any, known: _Known) -> str:
    base, exponent = (known.kinds.get(_input(node, place)) for place in (0, 1))
    return "Pow of whole numbers by others" if base in _INTEGERS and exponent in _FLOATS else ""


def _dropout(node: Any, known: _Known) -> str:
    training = _input(node, 2)
    if training and known.constants.get(training) != [0]:
        return "Dropout in training mode"
    return ""


def _gather(node: Any, known: _Known) -> str:
    if _attributes(node).get("batch_dims"):
        return f"{node.op_type} with batch_dims={_attributes(node)['batch_dims']}"
    if node.op_type == "GatherElements" and min(known.values(node, 1), default=0) < 0:
        return "GatherElements with indices counted from the end"
    return ""


def _infinite(node: Any, known: _Known) -> str:
    attributes = _attributes(node)
    for name in ("detect_negative", "detect_positive"):
        if not attributes.get(name, 1):
            return f"IsInf with {name}=0"
    return ""


def _response(node: Any, known: _Known) -> str:
    size = _attributes(node).get("size", 1)
    return "" if size % 2 else f"LRN with size={size}, an even one"


def _reduce_sum(node: Any, known: _Known) -> str:
    attributes = _attributes(node)
    empty = known.shape(node, 1) == [0] and not attributes.get("noop_with_empty_axes")
    if empty and not attributes.get("keepdims", 1):
        return "ReduceSum with an empty list of axes and keepdims=0"
    return ""


def _reduce(node: Any, known: _Known) -> str:
    whole = known.kinds.get(_input(node, 0)) in _INTEGERS
    return f"{node.op_type} of whole numbers" if whole else ""


def _nonzero(node: Any, known: _Known) -> str:
    return "NonZero, which would come out transposed"


def _top(node: Any, known: _Known) -> str:
    return "" if len(node.input) > 1 else "TopK of an operator set before 10"


_CHECKS: Mapping[str, Callable[[Any, _Known], str]] = {
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
_ONE_OUTPUT = ("Dropout", "LayerNormalization", "MaxPool")  # onnx2torch gives the first alone


def _outputs(node: Any, outputs: list[str]) -> str:
    """Whether the outputs of a node come out as the file has them."""
    if len(node.output) > 1 and node.op_type in _ONE_OUTPUT:
        return f"{node.op_type} of which more than the first output is used"
    if len(node.output) == 1 and node.op_type in ("Split", "TopK"):
        return f"{node.op_type} with one output"
    if len(node.output) > 1 and set(outputs) & set(node.output) and outputs != list(node.output):
        return f"{node.op_type} with several outputs, some of which are the network's"
    return ""


def _mixed_up(node: Any, inputs: set[str], taken: set[str]) -> str:
    """Whether two names meet in the one table that onnx2torch keeps of inputs and nodes."""
    own = "onnx_initializer_"
    name = _named(node)
    clash = name in inputs or f"{name}_split_output" in taken or name.startswith(own)
    if clash or any(value in inputs and value.startswith(own) for value in node.input):
        return "its name, or that of an input, is taken by something else in the translation"
    return ""


def _named(node: Any) -> str:
    return node.name.replace(".", "/") or node.op_type


# What the file says


def _known(proto: Any) -> _Known:
    """Ranks, lengths and types as onnx2torch will see them: from the same inference, weights aside.

    The inference copies what it is given, so weights are given as inputs of their shape.
    """
    import onnx

    graph = proto.graph
    light: Any = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    light.graph.name = "shapes"
    weights = {weight.name for weight in graph.initializer}
    light.graph.input.extend(value for value in graph.input if value.name not in weights)
    light.graph.output.extend(graph.output)
    light.graph.value_info.extend(graph.value_info)
    light.graph.node.extend(graph.node)
    for weight in graph.initializer:
        if prod(weight.dims) <= _SMALL:
            light.graph.initializer.append(weight)
        else:
            value = onnx.helper.make_tensor_value_info(
                weight.name, weight.data_type, list(weight.dims)
            )
            light.graph.input.append(value)
    inferred: Any = onnx.shape_inference.infer_shapes(light).graph
    shapes: dict[str, Shape] = {}
    kinds: dict[str, int] = {}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        tensor = value.type.tensor_type
        kinds[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[value.name] = [one.dim_value or None for one in tensor.shape.dim]
    for weight in graph.initializer:
        shapes[weight.name], kinds[weight.name] = list(weight.dims), weight.data_type
    return _Known(small_constants(graph), shapes, kinds, frozenset(weights))


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    found: dict[str, Any] = {}
    for one in node.attribute:
        value: Any = helper.get_attribute_value(one)
        found[one.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return found


def _input(node: Any, place: int) -> str:
    return node.input[place] if len(node.input) > place else ""

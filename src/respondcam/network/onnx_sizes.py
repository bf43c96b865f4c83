"""What the constants of an ONNX file may grow to, looked at before anything is computed.

A file of a few hundred bytes can ask for a constant of any size (ConstantOfShape), or repeat what
comes in as often as it likes (Tile). Only sizes that stand in the file are seen here; what a
network computes from its input can take what it likes, as with any other network.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from respondcam.errors import ModelError

_CONSTANT = 1 << 28  # elements of a constant that is made: 1 GiB as float32
_TENSOR = 1 << 32  # elements of what comes in, when it is expanded to a fixed shape
_TIMES = 1 << 16  # how often what comes in may be repeated, or a scale enlarge it
_MOST = 64  # numbers in a shape

# operator -> which input holds its sizes, what they are, and the most that their product may be
_LIMITS: Mapping[str, tuple[int, str, int]] = {
    "ConstantOfShape": (0, "a constant of shape", _CONSTANT),
    "Expand": (1, "a tensor of shape", _TENSOR),
    "Tile": (1, "a tensor repeated", _TIMES),
    "Upsample": (1, "a tensor enlarged by", _TIMES),
    "Resize": (2, "a tensor enlarged by", _TIMES),
}


def check_sizes(proto: Any, path: Path) -> None:
    """Refuse a network with constants far larger than its file has any business to ask for.

    Raises
    ------
    ModelError
        Before any memory is taken.
    """
    known = small_constants(proto.graph)
    shapes = {weight.name: tuple(weight.dims) for weight in proto.graph.initializer}
    for node in proto.graph.node:
        found = _too_large(node, known) or _other_kernel(node, shapes)
        if found:
            raise ModelError(
                f"The ONNX file {str(path)!r} asks for {found}, in its node "
                f"{node.name or node.op_type!r}: it is damaged, or made to fill the memory."
            )


def _too_large(node: Any, known: Mapping[str, list[float]]) -> str:
    """What a node asks for, if it is too much."""
    if node.op_type == "Range":
        values = [known.get(name, []) for name in node.input]
        if len(values) == 3 and all(len(value) == 1 for value in values):
            (start,), (stop,), (step,) = values
            if step and (stop - start) / step > _CONSTANT:
                return f"{(stop - start) / step:g} numbers in a row"
        return ""
    if node.op_type not in _LIMITS:
        return ""
    place, what, limit = _LIMITS[node.op_type]
    sizes = known.get(node.input[place], []) if len(node.input) > place else []
    if prod(max(size, 0) for size in sizes) <= limit:
        return ""
    return f"{what} {' x '.join(f'{size:g}' for size in sizes)}"


def _other_kernel(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a convolution declares, if it does not fit its weights: it is built before they are."""
    shape = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    if node.op_type not in ("Conv", "ConvTranspose") or not shape:
        return ""
    for one in node.attribute:
        if one.name == "kernel_shape" and tuple(one.ints) != shape[2:]:
            return f"a kernel of {' x '.join(map(str, one.ints))} with weights of shape {shape}"
        if one.name == "group" and not 1 <= one.i <= shape[0]:
            return f"{one.i} groups with weights of shape {shape}"
    return ""


def small_constants(graph: Any) -> dict[str, list[float]]:
    """Values of the weights and Constant nodes that are short enough to be sizes."""
    known = {weight.name: _values(weight) for weight in graph.initializer}
    for node in graph.node:
        if node.op_type != "Constant" or not node.output:
            continue
        for one in node.attribute:
            lists = {"value_ints": one.ints, "value_floats": one.floats}
            single = {"value_int": [one.i], "value_float": [one.f]}
            values = _values(one.t) if one.name == "value" else lists.get(one.name, [])[:_MOST]
            known[node.output[0]] = list(single.get(one.name, values))
    return known


def _values(tensor: Any) -> list[float]:
    from onnx import numpy_helper

    if not 0 < prod(tensor.dims) <= _MOST:
        return []
    try:
        return [float(value) for value in numpy_helper.to_array(tensor).ravel()]
    except Exception:  # damaged: translating it says so
        return []

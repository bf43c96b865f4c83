"""Nodes of an ONNX file that onnx2torch would turn into something else, without a word.

It ignores some attributes, and reads a few others wrongly: the network then loads, runs and gives
other numbers than the file means, or fails at its first volume. Such nodes are refused before
anything is converted, in words; the few that can be said in another way are rewritten. The rules
are those that a comparison with onnxruntime, operator by operator, has shown.

Limits: where a rule needs sizes or axes that the file leaves open, what may be wrong is refused,
but for a linear resize with 'pytorch_half_pixel' that makes one element of several. Other numbers
that the network computes as it runs (paddings, indices from the end) are left to torch's errors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from respondcam.errors import ModelError
from respondcam.network.onnx_known import Known, attributes_of, input_of, known_values
from respondcam.network.onnx_operators import CHECKS
from respondcam.network.onnx_sizes import small_constants

_AXES_AS_INPUT = 18  # the operator set from which on ReduceMax takes its axes as an input
_ONE_OUTPUT = ("Dropout", "LayerNormalization", "MaxPool")  # onnx2torch gives the first alone


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


def rewrite_unknown(proto: Any) -> None:
    """Say, in place, what onnx2torch has no word for in others: the largest over all of space.

    What cannot be said, for want of a known number of axes, stays as it is.

    Parameters
    ----------
    proto
        The file, of any operator set.
    """
    pools = [one for one in proto.graph.node if one.op_type == "GlobalMaxPool" and not one.domain]
    if not pools:
        return
    known = known_values(proto)
    version = next((one.version for one in proto.opset_import if not one.domain), 1)
    for node in pools:
        shape = known.shape(node)
        if shape is None or len(shape) < 3:
            continue
        axes = list(range(2, len(shape)))
        node.op_type = "ReduceMax"
        node.attribute.add(name="keepdims", type=2, i=1)
        if version < _AXES_AS_INPUT:
            node.attribute.add(name="axes", type=7, ints=axes)
        else:
            node.input.append("")
            _set_axes(node, proto.graph, axes)


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
    known = known_values(proto)
    for node in graph.node:
        _refuse(CHECKS[node.op_type](node, known) if node.op_type in CHECKS else "", node, path)
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
    attributes = attributes_of(node)
    if node.op_type == "AveragePool" and set(attributes.get("dilations", [])) - {1}:
        return f"AveragePool with dilations={attributes['dilations']}"
    old = node.op_type == "Upsample" or (node.op_type == "Resize" and len(node.input) == 2)
    if old and attributes.get("mode", "nearest") != "nearest":
        scales = attributes.get("scales") or known.get(input_of(node, 1), [0.0])
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
        axes = input_of(node, 1)
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


def _rewritten(node: Any, graph: Any, known: Known) -> str:
    """Say a node so that it is translated rightly; if it cannot be said, why."""
    attributes = attributes_of(node)
    if node.op_type == "CumSum" and "reverse" not in attributes:
        node.attribute.add(name="reverse", type=2, i=0)  # onnx2torch takes 1 for the default
    reduces = node.op_type in ("ReduceMax", "ReduceMin", "ReduceProd")
    if node.op_type not in ("Squeeze", "Unsqueeze") and not reduces:
        return ""
    if reduces and attributes.get("keepdims", 1):
        return ""
    computed = not reduces and input_of(node, 1) and input_of(node, 1) not in known.constants
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

"""What an ONNX file says of its values before anything runs: shapes, types and short constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from respondcam.network.onnx_sizes import small_constants

_SMALL = 64  # numbers that shape inference may read from a weight

Shape = list[int | None]


@dataclass(frozen=True)
class Known:
    """What a file says of its values before anything runs."""

    constants: Mapping[str, list[float]]
    shapes: Mapping[str, Shape]  # None for a length that the file leaves open
    kinds: Mapping[str, int]  # element types, numbered as in onnx.TensorProto
    weights: frozenset[str]

    def shape(self, node: Any, place: int = 0) -> Shape | None:
        """The shape of an input, or None if not even its rank is known."""
        return self.shapes.get(input_of(node, place))

    def values(self, node: Any, place: int) -> list[float]:
        """The numbers of a short constant input; none if it is computed, empty or left out."""
        return self.constants.get(input_of(node, place), [])


def known_values(proto: Any) -> Known:
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
    return Known(small_constants(graph), shapes, kinds, frozenset(weights))


def attributes_of(node: Any) -> dict[str, Any]:
    """A node's attributes by name, as Python values."""
    from onnx import helper

    found: dict[str, Any] = {}
    for one in node.attribute:
        value: Any = helper.get_attribute_value(one)
        found[one.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return found


def input_of(node: Any, place: int) -> str:
    """The name of an input; empty if it is left out."""
    return node.input[place] if len(node.input) > place else ""

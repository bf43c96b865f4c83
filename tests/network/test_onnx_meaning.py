"""ONNX nodes that would be translated wrongly are refused; their neighbours give the same numbers.

A refused or rewritten case must be wrong without the check: it is compared with onnxruntime.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from respondcam.errors import ModelError
from respondcam.network import onnx_files
from respondcam.network.sources import load_model

onnx: Any = pytest.importorskip("onnx")
runtime: Any = pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.usefixtures("torchvision_or_stand_in"),
    pytest.mark.filterwarnings("ignore:.*ends in a softmax"),
]

rng = np.random.default_rng(5)


def rnd(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scales(*values: float) -> np.ndarray:
    return np.array([1, 1, *values], np.float32)


def node(kind: str, inputs: str, outputs: str = "y", name: str = "odd", **attributes: Any) -> Any:
    names = [name if name != "-" else "" for name in inputs.split()]
    return onnx.helper.make_node(kind, names, outputs.split(), name, **attributes)


def written(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, np.ndarray],
    constants: dict[str, Any],
    opset: int = 17,
    outputs: str = "y",
    sizes: str = "fixed",
) -> Path:
    """A file of these nodes; what comes in has fixed sizes, open ones, or not even a known rank."""
    helper = onnx.helper
    shapes = {
        name: {"fixed": value.shape, "open": [None] * value.ndim, "none": None}[sizes]
        for name, value in inputs.items()
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), shapes[name]
            )
            for name, value in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs.split()],
        [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(proto)
    for value, found in zip(proto.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(found)
    path.write_bytes(proto.SerializeToString())
    return path


def wanted(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    return runtime.InferenceSession(str(path), options, providers=providers).run(None, inputs)


def same(path: Path, inputs: dict[str, np.ndarray]) -> bool:
    expected = wanted(path, inputs)
    module = load_model(f"onnx:{path}").module
    with torch.inference_mode():
        found = module(*(torch.from_numpy(value.copy()) for value in inputs.values()))
    found = found if isinstance(found, tuple | list) else [found]
    return len(found) == len(expected) and all(
        tuple(a.shape) == b.shape and np.allclose(a.numpy(), b, rtol=1e-5, atol=1e-5)
        for a, b in zip(found, expected, strict=True)
    )


def wrong_without(monkeypatch: pytest.MonkeyPatch, path: Path, inputs: dict[str, Any]) -> bool:
    """Whether the translation, left to itself, gives other numbers or fails when it runs."""
    with monkeypatch.context() as patch:
        for name in ("check_meaning", "check_versions", "rewrite_unknown"):
            patch.setattr(onnx_files, name, lambda *arguments: None)
        try:
            return not same(path, inputs)
        except Exception:  # whatever the translation or torch raises
            return True


class Case:
    """One node: what comes in, its constant inputs in order, its attributes."""

    def __init__(self, kind: str, x: Any, *constants: Any, words: str = "", **attributes: Any):
        self.kind, self.words = kind, words
        self.opset, self.sizes = attributes.pop("opset", 17), attributes.pop("sizes", "fixed")
        self.attributes = attributes
        self.inputs = {"x": x}
        self.constants = {f"c{place}": one for place, one in enumerate(constants)}

    def write(self, path: Path) -> Path:
        names = [name if one is not None else "-" for name, one in self.constants.items()]
        given = {name: one for name, one in self.constants.items() if one is not None}
        one = node(self.kind, " ".join(["x", *names]), **self.attributes)
        return written(path, [one], self.inputs, given, self.opset, sizes=self.sizes)

    def __repr__(self) -> str:
        told = [f"{key}={value}" for key, value in self.attributes.items()]
        return "-".join([self.kind, str(self.opset), *told]).replace(" ", "")


LINE, PLANE, BODY = rnd(1, 2, 9), rnd(1, 2, 5, 6), rnd(1, 2, 4, 5, 6)
LARGE = rnd(2, 6, 7, 8)


def resize(x: np.ndarray, *by: float, words: str = "", **attributes: Any) -> Case:
    if "transform" in attributes:
        attributes["coordinate_transformation_mode"] = attributes.pop("transform")
    opset = attributes.get("opset", 17)
    region = np.float32([]) if opset == 11 else None  # which could not be left out yet
    constants = (region, scales(*by)) if opset > 10 else (scales(*by),)
    return Case("Resize", x, *constants, words=words, **attributes)


REFUSED = [
    *(
        resize(x, *[2] * (x.ndim - 2), nearest_mode=rounding, words=f"nearest_mode='{rounding}'")
        for x in (LINE, PLANE, BODY)
        for rounding in ("floor", "ceil")
    ),
    resize(BODY, 0.7, 0.7, 0.7, words=r"mode='nearest'.*half_pixel.*round_prefer_floor.*scale 0.7"),
    resize(LINE, 0.5, nearest_mode="round_prefer_ceil", words="round_prefer_ceil"),
    resize(LINE, 3, transform="asymmetric", nearest_mode="round_prefer_floor", words="asymmetric"),
    resize(LINE, 3, transform="align_corners", nearest_mode="floor", words="align_corners"),
    Case("Resize", LINE, None, None, ints(1, 2, 13), words="size 13, of a length of 9"),
    *(
        resize(x, *[2] * (x.ndim - 2), mode="linear", transform="asymmetric", words="asymmetric")
        for x in (LINE, PLANE, BODY)
    ),
    resize(BODY, 2, 2, 2, mode="linear", opset=10, words="operator set before 11"),
    Case("Upsample", LINE, scales(2), mode="linear", opset=9, words="operator set before 11"),
    resize(PLANE, 0.2, 0.2, mode="linear", transform="pytorch_half_pixel", words="pytorch_half"),
    resize(
        rnd(1, 2, 3, 9), 1.3, 1.3, mode="linear", sizes="open", words=r"scale 1\.3, of a length"
    ),
    resize(PLANE, 2, 2, mode="cubic", cubic_coeff_a=-0.5, words="cubic_coeff_a=-0.5"),
    resize(PLANE, 2, 2, mode="cubic", exclude_outside=1, words="exclude_outside"),
    resize(PLANE, 0.5, 0.5, mode="linear", antialias=1, opset=18, words="antialias"),
    Case("Resize", PLANE, None, np.float32([2, 2]), axes=[2, 3], opset=18, words=r"axes=\[2, 3\]"),
    Case(
        "Resize",
        PLANE,
        None,
        None,
        ints(1, 2, 9, 7),
        mode="linear",
        keep_aspect_ratio_policy="not_larger",
        opset=18,
        words="not_larger",
    ),
    Case("Resize", PLANE, None, np.float32([1, 2, 1, 1]), words="batch or channel"),
    *(
        Case(
            "ConvTranspose",
            x,
            rnd(2, 3, *[3] * (x.ndim - 2)),
            strides=[2] * (x.ndim - 2),
            output_shape=[2 * size for size in x.shape[2:]],
            words=r"output_shape=\[",
        )
        for x in (LINE, PLANE, BODY)
    ),
    Case("AveragePool", PLANE, kernel_shape=[2, 2], dilations=[2, 2], opset=19, words="dilations"),
    Case("AveragePool", PLANE, kernel_shape=[3, 3], pads=[2] * 4, words="half of its kernel"),
    Case("MaxPool", PLANE, kernel_shape=[3, 3], pads=[2] * 4, words="half of its kernel"),
    Case(
        "MaxPool",
        LARGE,
        kernel_shape=[2, 2],
        strides=[2, 2],
        pads=[0, 0, 1, 1],
        ceil_mode=1,
        words="ceil_mode=1",
    ),
    Case("MaxPool", PLANE, kernel_shape=[2, 2], storage_order=1, words="Only row major"),
    Case("Pad", PLANE, pads=[0, 0, 1, 1] * 2, value=3.0, opset=9, words=r"value=3 as an attr"),
    Case("Pad", PLANE, ints(0, 1, 0, 0, 0, 1, 0, 0), mode="reflect", words="mode='reflect'"),
    Case("Pad", PLANE, ints(0, 0, 1, 1, 0, 0, 1, 1), np.float32([3]), words="a list"),
    Case("PRelu", rnd(4, 4, 4, 4), rnd(4), words=r"slope of shape \[4\]"),
    Case("PRelu", rnd(2, 4, 4, 4, 4), rnd(4, 1, 1), words="slope of shape"),
    Case("LayerNormalization", rnd(2, 3, 4), rnd(4), axis=1, words=r"over \[3, 4\].*scales \[4\]"),
    Case("LayerNormalization", rnd(2, 3, 4), rnd(4), sizes="open", words="LayerNormalization over"),
    Case("LayerNormalization", rnd(2, 3, 4), rnd(4), sizes="none", words="that is not known"),
    Case("GlobalAveragePool", BODY, sizes="none", words="of a shape that is not known"),
    Case("ReduceMax", PLANE, noop_with_empty_axes=1, opset=18, words="noop_with_empty_axes=1"),
    Case(
        "ReduceMin", PLANE, axes=[1, -1], keepdims=0, opset=13, sizes="none", words="from the end"
    ),
    Case("ReduceSum", PLANE, ints(), keepdims=0, words="empty list of axes"),
    Case("ReduceLogSum", np.int32([[1, 2], [3, 4]]), axes=[1], words="of whole numbers"),
    Case("Unsqueeze", PLANE, ints(-1, -2), sizes="none", words="from the end"),
    Case("Flatten", PLANE, axis=0, words="axis=0"),
    Case("Flatten", PLANE, axis=4, words="axis=4"),
    Case("NonZero", np.round(PLANE), words="transposed"),
    Case("IsInf", np.float32([np.inf, -np.inf]), detect_negative=0, words="detect_negative=0"),
    Case("GatherND", rnd(4, 5), np.int64([[0], [2], [1], [1]]), batch_dims=1, words="batch_dims=1"),
    Case("GatherElements", rnd(4, 5), np.int64([[-1, 0]]), words="from the end"),
    Case("Pow", ints(1, 2, 3), np.float32([2, 0.5, 2]), words="whole numbers"),
    Case("Dropout", PLANE, np.float32(0.5), np.bool_(True), words="training mode"),
]
ACCEPTED = [
    *(
        resize(x, *[by] * (x.ndim - 2), sizes=sizes)
        for x in (LINE, PLANE, BODY)
        for by in (2, 3)
        for sizes in ("fixed", "open")
    ),
    resize(LINE, 7, nearest_mode="round_prefer_ceil"),
    resize(LINE, 0.5),
    *(
        resize(x, *[by] * (x.ndim - 2), transform="asymmetric", nearest_mode="floor")
        for x in (LINE, PLANE, BODY)
        for by in (2, 1.5, 0.5)
    ),
    resize(LINE, 2, transform="asymmetric"),
    resize(LINE, 3, transform="tf_half_pixel_for_nn", nearest_mode="floor", opset=11),
    *(
        resize(x, *[by] * (x.ndim - 2), mode="linear", transform=transform)
        for x in (LINE, PLANE, BODY)
        for by in (2, 0.5)
        for transform in ("half_pixel", "pytorch_half_pixel", "align_corners")
    ),
    resize(BODY, 1.5, 1.5, 1.5, mode="linear", sizes="open"),
    resize(PLANE, 2, 2, mode="linear", cubic_coeff_a=-0.5),
    resize(PLANE, 2, 2, mode="linear", extrapolation_value=2.0),
    resize(PLANE, 2, 2, mode="linear", antialias=0, opset=18),
    resize(PLANE, 2, 2, mode="cubic"),
    resize(PLANE, 2, 3, opset=10),
    resize(PLANE, 1, 1, mode="linear", opset=10),
    Case("Resize", PLANE, None, None, ints(1, 2, 9, 7), mode="linear", sizes="open"),
    Case("Upsample", BODY, scales(2, 2, 2), opset=9),
    Case(
        "ConvTranspose",
        BODY,
        rnd(2, 3, 3, 3, 3),
        strides=[2, 2, 2],
        output_shape=[9, 11, 13],
    ),
    Case("AveragePool", PLANE, kernel_shape=[3, 3], pads=[1] * 4, ceil_mode=1, strides=[2, 2]),
    Case("AveragePool", PLANE, kernel_shape=[2, 2], dilations=[1, 1], opset=19),
    Case("MaxPool", PLANE, kernel_shape=[3, 3], pads=[1] * 4, dilations=[2, 2]),
    Case("MaxPool", LARGE, kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2], ceil_mode=1),
    Case("MaxPool", LARGE, kernel_shape=[2, 2], pads=[0, 0, 1, 1], strides=[2, 2], sizes="open"),
    Case("Pad", BODY, ints(0, 0, 1, 1, 1, 0, 0, 2, 2, 2), mode="reflect"),
    Case("Pad", PLANE, ints(0, 1, 0, 0, 0, 1, 0, 0), np.float32(2)),
    Case("PRelu", LARGE, rnd(6, 1, 1)),
    Case("PRelu", LARGE, rnd(7, 1)),
    Case("PRelu", LARGE, rnd(1)),
    Case("LRN", LARGE, size=3, alpha=0.5),
    Case("LayerNormalization", rnd(2, 3, 4), rnd(3, 4), rnd(3, 4), axis=1),
    Case("GlobalAveragePool", BODY, sizes="open"),
    Case("ReduceMax", PLANE, ints(1, 2), keepdims=0, opset=18),
    Case("ReduceMin", PLANE, axes=[1, -1], keepdims=1, opset=13, sizes="none"),
    Case("ReduceSum", PLANE, ints(-1, -2), keepdims=0),
    Case("Squeeze", rnd(2, 1, 3, 1), ints(-1), sizes="none"),
    Case("Flatten", PLANE, axis=-2),
    Case("GatherElements", rnd(4, 5), np.int64([[1, 0]])),
    Case("Pow", rnd(3), ints(2, 3, 2)),
    Case("Clip", rnd(5), np.float32(-0.5), np.float32(0.5)),
    Case("Clip", ints(-3, 4, 9), ints(0)[0]),
    Case("Dropout", PLANE, np.float32(0.5), np.bool_(False)),
]
REWRITTEN = [
    *(
        Case(kind, np.abs(PLANE), axes=axes, keepdims=0, opset=13)
        for kind in ("ReduceMax", "ReduceMin", "ReduceProd")
        for axes in ([-1, -2], [0, -1], [-1, -2, -3])
    ),
    Case("ReduceMax", PLANE, ints(1, -1), keepdims=0, opset=18),
    Case("Squeeze", rnd(1, 3, 1, 1, 2, 1), axes=[-3, -4, -1], opset=11),
    Case("Squeeze", rnd(1, 3, 1, 1, 2, 1), ints(-3, -4, -1)),
    Case("Unsqueeze", PLANE, axes=[-1, -2], opset=11),
    Case("Unsqueeze", PLANE, ints(-1, -3), sizes="open"),
    Case("CumSum", PLANE, np.int64(2)),
    Case("GlobalMaxPool", BODY),
    Case("GlobalMaxPool", LARGE, opset=11, sizes="open"),
    Case("GlobalMaxPool", BODY, opset=18),
    Case("GlobalMaxPool", BODY, opset=22),
    Case("CumSum", PLANE, np.int64(-1), exclusive=1),
]


@pytest.mark.parametrize("case", REFUSED, ids=repr)
def test_what_would_be_wrong_is_refused_in_words(tmp_path, monkeypatch, case):
    path = case.write(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=case.words) as caught:
        load_model(f"onnx:{path}")
    told = str(caught.value)
    assert str(path) in told
    assert case.kind == "MaxPool" or ("'odd'" in told and "TorchScript" in told)
    assert "\n" not in told
    assert wrong_without(monkeypatch, path, case.inputs)


@pytest.mark.parametrize("case", ACCEPTED, ids=repr)
def test_neighbours_give_the_same_numbers(tmp_path, case):
    assert same(case.write(tmp_path / "net.onnx"), case.inputs)


@pytest.mark.parametrize("case", REWRITTEN, ids=repr)
def test_what_can_be_said_otherwise_gives_the_same_numbers(tmp_path, monkeypatch, case):
    path = case.write(tmp_path / "net.onnx")
    assert same(path, case.inputs)
    assert wrong_without(monkeypatch, path, case.inputs)


def test_a_weight_that_another_node_reads_keeps_its_numbers(tmp_path):
    axes, inputs = ints(-1, -2), {"x": PLANE}
    nodes = [node("Unsqueeze", "x a", "u", "one"), node("ReduceSum", "u a", "y", "two", keepdims=0)]
    assert same(written(tmp_path / "net.onnx", nodes, inputs, {"a": axes}), inputs)


@pytest.mark.parametrize(
    ("one", "opset"),
    [
        (("Dropout", "x", "d m", "odd", {}), 10),
        (("MaxPool", "x", "d m", "odd", {"kernel_shape": [2, 2]}), 12),
        (("LayerNormalization", "x w", "d m v", "odd", {}), 17),
    ],
)
def test_second_outputs_that_nobody_reads(tmp_path, monkeypatch, one, opset):
    *start, attributes = one
    inputs, weights = {"x": LARGE}, {"w": rnd(8)} if "w" in start[1] else {}
    nodes = [node(*start, **attributes), node("Relu", "d", name="last")]
    path = written(tmp_path / "net.onnx", nodes, inputs, weights, opset)
    assert same(path, inputs)
    assert wrong_without(monkeypatch, path, inputs)
    nodes[1] = node("Relu", "d", "e", name="last")
    path = written(tmp_path / "read.onnx", nodes, inputs, weights, opset, outputs="e m")
    with pytest.raises(ModelError, match=r"'odd'.*more than the first output"):
        load_model(f"onnx:{path}")
    assert wrong_without(monkeypatch, path, inputs)


@pytest.mark.parametrize(
    ("outputs", "right"), [("v i", True), ("i v", False), ("v", False), ("v i r", False)]
)
def test_outputs_of_the_network_that_one_node_makes(tmp_path, monkeypatch, outputs, right):
    inputs = {"x": LARGE}
    nodes = [node("Neg", "x", "r", "first"), node("TopK", "r k", "v i", axis=1)]
    path = written(tmp_path / "net.onnx", nodes, inputs, {"k": ints(2)}, outputs=outputs)
    if right:
        assert same(path, inputs)
        return
    with pytest.raises(ModelError, match=r"'odd'.*TopK with several outputs"):
        load_model(f"onnx:{path}")
    assert wrong_without(monkeypatch, path, inputs)


@pytest.mark.parametrize(
    ("x", "name"), [("odd", "odd"), ("onnx_initializer_0", "odd"), ("x", "onnx_initializer_0")]
)
def test_names_that_would_be_mixed_up(tmp_path, monkeypatch, x, name):
    inputs = {x: PLANE}
    nodes = [
        node("Relu", x, "r", name),
        node("Add", "r w", "a", "second"),
        node("Mul", f"a {x}", "m", "third"),
        node("Sub", "m r", "y", "fourth"),
    ]
    path = written(tmp_path / "net.onnx", nodes, inputs, {"w": rnd(6)})
    with pytest.raises(ModelError, match=rf"node '{name}': .*name"):
        load_model(f"onnx:{path}")
    assert wrong_without(monkeypatch, path, inputs)
    plain = [node("Relu", "x", "r", "x.1"), node("Add", "r w", "y", "second")]
    assert same(written(path, plain, {"x": PLANE}, {"w": rnd(6)}), {"x": PLANE})


def test_zeros_that_a_writer_left_out(tmp_path, monkeypatch):
    inputs = {"x": rnd(4, 4)}
    nodes = [node("Gemm", "x w", transA=0, transB=0)]
    path = written(tmp_path / "net.onnx", nodes, inputs, {"w": rnd(4, 4)})
    proto = onnx.load(path)
    for one in proto.graph.node[0].attribute:
        one.ClearField("i")
    onnx.save(proto, path)
    assert same(path, inputs)
    assert wrong_without(monkeypatch, path, inputs)


def test_a_response_norm_over_an_even_number(tmp_path, monkeypatch):
    """Onnxruntime has none, so it is compared with the sum that ONNX defines: one more to come."""
    inputs, size = {"x": LARGE}, 2
    path = written(tmp_path / "net.onnx", [node("LRN", "x", size=size, alpha=1.0)], inputs, {})
    with pytest.raises(ModelError, match="'odd': LRN with size=2"):
        load_model(f"onnx:{path}")
    following = np.concatenate([LARGE[:, 1:], 0 * LARGE[:, :1]], 1)
    expected = LARGE / (1 + (LARGE**2 + following**2) / size) ** 0.75
    monkeypatch.setattr(onnx_files, "check_meaning", lambda *arguments: None)
    with torch.inference_mode():
        found = load_model(f"onnx:{path}").module(torch.from_numpy(LARGE))
    assert np.abs(found.numpy() - expected).max() > 0.1


def test_lengths_that_no_axis_has_are_not_looked_at(tmp_path):
    one = Case("Resize", LINE, None, None, ints(1, 2, 1 << 40), mode="linear")
    with pytest.raises(ModelError, match="size 1099511627776"):
        load_model(f"onnx:{one.write(tmp_path / 'net.onnx')}")


def test_the_largest_numbers_as_they_were_asked_for_of_old(tmp_path, monkeypatch):
    inputs = {"x": LARGE}
    nodes = [node("TopK", "x", "v i", k=2)]
    path = written(tmp_path / "net.onnx", nodes, inputs, {}, 9, outputs="v i")
    with pytest.raises(ModelError, match="'odd': TopK of an operator set before 10"):
        load_model(f"onnx:{path}")
    assert wrong_without(monkeypatch, path, inputs)


def test_a_split_into_one(tmp_path, monkeypatch):
    inputs = {"x": PLANE}
    nodes = [node("Split", "x", "s", axis=1), node("Relu", "s", "y", "last")]
    path = written(tmp_path / "net.onnx", nodes, inputs, {}, 11)
    with pytest.raises(ModelError, match="'odd': Split with one output"):
        load_model(f"onnx:{path}")
    assert wrong_without(monkeypatch, path, inputs)


@pytest.mark.parametrize(("kind", "right"), [("nearest", False), ("linear", True)])
def test_sizes_that_are_computed(tmp_path, monkeypatch, kind, right):
    inputs = {"x": LINE}
    nodes = [
        node("Shape", "x", "s", "shape"),
        node("Add", "s more", "sizes", "sum"),
        node("Resize", "x - - sizes", mode=kind),
    ]
    constants = {"more": ints(0, 0, 4)}
    path = written(tmp_path / "net.onnx", nodes, inputs, constants, sizes="open")
    if right:
        assert same(path, inputs)
        return
    with pytest.raises(ModelError, match="size computed, of a length of any number"):
        load_model(f"onnx:{path}")
    assert wrong_without(monkeypatch, path, inputs)


def test_whole_numbers_stay_whole(tmp_path, monkeypatch):
    inputs = {"x": ints(-7, 3, 9)}
    nodes = [node("Clip", "x low high", "c"), node("Div", "c two", "y", "half")]
    constants = {"low": ints(-5)[0], "high": ints(5)[0], "two": ints(2)}
    path = written(tmp_path / "net.onnx", nodes, inputs, constants)
    with pytest.raises(ModelError, match=r"'odd'.*Clip of whole numbers"):
        load_model(f"onnx:{path}")
    assert wrong_without(monkeypatch, path, inputs)


def test_a_doubt_of_the_translation_is_no_longer_swallowed(tmp_path, monkeypatch):
    import warnings

    def doubtful(proto: Any) -> Any:
        warnings.warn("the results might differ significantly!", stacklevel=1)

    class Doubtful:
        convert = staticmethod(doubtful)

    path = Case("Relu", PLANE).write(tmp_path / "net.onnx")
    monkeypatch.setattr(onnx_files, "_converter", lambda: Doubtful)
    with pytest.raises(ModelError, match="might differ"):
        load_model(f"onnx:{path}")

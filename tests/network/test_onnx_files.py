"""ONNX files: the scores of onnxruntime, the maps of the Python network, and words for the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from respondcam.attribution import Explanation, RespondCAM
from respondcam.errors import LayerError, MissingExtraError, ModelError, RespondCAMWarning
from respondcam.network import onnx_files
from respondcam.network.sources import load_model

onnx: Any = pytest.importorskip("onnx")
runtime: Any = pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.usefixtures("torchvision_or_stand_in"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own exporter
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Net(nn.Module):
    """Two equal norms, which the exporter writes once, around a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool3d(2))
        self.left, self.right = nn.Conv3d(4, 4, 3, 1, 1), nn.Conv3d(4, 4, 1)
        self.scores = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.left(x) + self.right(x))
        return self.scores(x.mean((2, 3, 4)))


def network() -> Net:
    torch.manual_seed(4)
    net = Net().eval()
    with torch.no_grad():
        net.right.bias.copy_(net.left.bias)  # type: ignore[union-attr]
    return net


def written(path: Path, net: nn.Module, opset: int = 17, size: int = 12) -> Path:
    torch.onnx.export(
        net,
        (torch.zeros(1, 1, size, size, size),),
        str(path),
        dynamo=False,
        opset_version=opset,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
    )
    return path


def one(found: Any) -> Explanation:
    assert isinstance(found, Explanation)
    return found


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_scores_maps_and_grid(tmp_path, opset):
    net, x = network(), torch.randn(2, 1, 12, 12, 12)
    path = written(tmp_path / "net.onnx", net, opset)
    module = load_model(f"onnx:{path}").module
    assert not module.training
    (expected,) = runtime.InferenceSession(str(path)).run(None, {"x": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(module(x).numpy(), expected, rtol=1e-5, atol=1e-6)
    for theirs, ours in [("stem", "stem/stem/2/MaxPool"), ("left", "left/Conv")]:
        a = one(RespondCAM(net, layer=theirs)(x, target="all"))
        b = one(RespondCAM(module, layer=ours)(x, target="all"))
        torch.testing.assert_close(b.maps, a.maps, rtol=1e-4, atol=1e-6)
        assert b.grid.stride == a.grid.stride
        assert b.grid.offset == a.grid.offset
        assert b.grid.origin == "layout"
    with torch.inference_mode():
        assert one(RespondCAM(module)(x)).layer == "Relu"
    with pytest.raises(LayerError, match=r"no layer 'left'. Near names: left/Conv"):
        RespondCAM(module, layer="left")


def test_weights_in_a_file_of_their_own(tmp_path):
    path = written(tmp_path / "net.onnx", network())
    proto = onnx.load(path)
    onnx.save_model(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    x = torch.randn(1, 1, 12, 12, 12)
    with torch.inference_mode():
        torch.testing.assert_close(load_model(f"onnx:{path}").module(x), network()(x))
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match=r"file of their own.*beside it") as caught:
        load_model(f"onnx:{path}")
    assert "net.data" in str(caught.value)


def test_a_softmax_at_the_end_is_told(tmp_path):
    path = written(tmp_path / "net.onnx", nn.Sequential(network(), nn.Softmax(1)).eval())
    with pytest.warns(RespondCAMWarning, match=r"net\.onnx ends in a softmax"):
        load_model(f"onnx:{path}")


def test_operators_that_cannot_be_translated_are_named(tmp_path):
    path = written(tmp_path / "net.onnx", network())
    proto = onnx.load(path)
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "Sparkle", "my.company"
    proto.opset_import.append(onnx.helper.make_opsetid("my.company", 2))
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=r"my\.company\.Sparkle \(operator set 2\).*TorchScript"):
        load_model(f"onnx:{path}")


@pytest.mark.parametrize(
    ("kind", "opset", "words"),
    [
        ("Det", 17, "again without them, or"),
        ("Det", 18, "again without them, or"),
        ("Mish", 18, "again with opset_version=17 or lower"),
    ],
)
def test_an_older_operator_set_is_advised_only_where_it_can_help(tmp_path, kind, opset, words):
    path = written(tmp_path / "net.onnx", network())
    proto = onnx.load(path)
    proto.graph.node[1].op_type = kind
    proto.opset_import[0].version = opset
    onnx.save(proto, path)
    with pytest.raises(ModelError) as caught:
        load_model(f"onnx:{path}")
    assert f"{kind} (operator set " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "does not exist"),
        (Path.mkdir, "is a folder"),
        (Path.touch, "holds no network"),
        (lambda p: p.write_bytes(b"no network at all" * 20), "cannot be read"),
        (lambda p: p.write_bytes(written(p, network()).read_bytes()[:500]), "cannot be read"),
    ],
)
def test_files_that_are_no_onnx(tmp_path, make, words):
    make(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=words) as caught:
        load_model(f"onnx:{tmp_path / 'net.onnx'}")
    assert "\n" not in str(caught.value)


def asking(path: Path, *nodes: Any, **constants: Any) -> str:
    """A network of a convolution whose weights are named w, and of nodes that ask for much."""
    helper, tensors = onnx.helper, onnx.numpy_helper
    whole = [
        *nodes,
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", kernel_shape=[3, 3, 3]),
        helper.make_node("ReduceMean", ["c"], ["y"], "mean", axes=[2, 3, 4], keepdims=0),
    ]
    given = {"w": np.ones((2, 1, 3, 3, 3), np.float32), **constants}
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        whole,
        "net",
        [helper.make_tensor_value_info("x", floats, [1, 1, 8, 8, 8])],
        [helper.make_tensor_value_info("y", floats, [1, 2])],
        [tensors.from_array(np.asarray(value), name) for name, value in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return f"onnx:{path}"


def node(kind: str, *names: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, list(names), ["z"], "greedy", **attributes)


@pytest.mark.parametrize(
    ("kind", "inputs", "constants", "words"),
    [
        ("ConstantOfShape", ["s"], {"s": [2000, 2000, 500]}, "a constant of shape 2000 x 2000"),
        ("Tile", ["x", "s"], {"s": [1, 1, 60, 60, 60]}, "a tensor repeated 1 x 1 x 60"),
        ("Expand", ["x", "s"], {"s": [9000, 1, 800, 800, 8]}, "a tensor of shape 9000 x 1"),
        ("Range", ["a", "b", "s"], {"a": 0, "b": 10**10, "s": 1}, "1e.10 numbers in a row"),
        ("Range", ["a", "b", "s"], {"a": 0.0, "b": np.inf, "s": 1.0}, "inf numbers in a row"),
        ("Resize", ["x", "", "s"], {"s": [1.0, 1.0, 99.0, 99.0, 99.0]}, "a tensor enlarged by"),
    ],
)
def test_a_small_file_cannot_ask_for_much_memory(tmp_path, kind, inputs, constants, words):
    spec = asking(tmp_path / "a.onnx", node(kind, *inputs), **constants)
    with pytest.raises(ModelError, match=f"asks for {words}.*in its node 'greedy'"):
        load_model(spec)


def test_constants_of_a_usual_size_are_none_of_that(tmp_path):
    greedy = node("ConstantOfShape", "s")
    load_model(asking(tmp_path / "a.onnx", greedy, s=[64, 64, 64]))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"kernel_shape": [2**30 - 1]}, "a kernel of 1073741823 with weights of shape"),
        ({"kernel_shape": [3, 3, 3], "group": 2**40}, "1099511627776 groups"),
    ],
)
def test_convolutions_that_do_not_fit_their_weights_are_not_built(tmp_path, attributes, words):
    spec = asking(tmp_path / "a.onnx", node("Conv", "x", "w", **attributes))
    with pytest.raises(ModelError, match=words):
        load_model(spec)


def test_what_onnx2torch_itself_lacks_is_named_with_the_extra(tmp_path, monkeypatch):
    def lacking(*arguments: Any, **options: Any) -> Any:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    spec = asking(tmp_path / "a.onnx")
    whole = onnx_files.require

    def required(name: str, **options: Any) -> Any:
        return (lacking if name == "onnx2torch" else whole)(name, **options)

    monkeypatch.setattr(onnx_files, "require", required)
    with pytest.raises(MissingExtraError, match=r"'torchvision' is needed.*respondcam\[onnx\]"):
        load_model(spec)

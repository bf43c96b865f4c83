"""Readers of networks: ONNX, TorchScript, archives, checkpoints, nnU-Net, MONAI and Keras files."""

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tests.fuzz.reader import Reader
from torch import nn

from respondcam.errors import ModelError
from respondcam.network.model_files import load_model_file
from respondcam.network.monai_bundles import load_bundle
from respondcam.network.nnunet_loading import load_nnunet
from respondcam.network.onnx_files import load_onnx
from respondcam.network.weights import load_weights, named_classes


@cache
def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()


def _image() -> torch.Tensor:
    return torch.zeros(1, 1, 4, 4, 4)


def _weights(path: Path) -> object:
    named_classes(path)
    return load_weights(small_network(), path)


def _weight_files(folder: Path) -> dict[str, bytes]:
    from safetensors.torch import save

    state = small_network().state_dict()
    lightning = {
        "state_dict": {f"model.{name}": value for name, value in state.items()},
        "epoch": 3,
        "hyper_parameters": {"lr": 0.1, "layers": [1, 2]},
        "callbacks": {},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
    }
    return {
        ".safetensors": save(state, metadata={"classes": '["a", "b"]'}),
        ".pt": _saved(state),
        ".ckpt": _saved(lightning),
        ".pth": _saved({"model_state_dict": state}, zipped=False),
    }


def _saved(content: object, *, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def _programs(folder: Path) -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = {
            ".pt": torch.jit.script(small_network()),
            ".ts": torch.jit.trace(small_network(), _image()),
        }
        for suffix, program in made.items():
            program.save(str(folder / f"good{suffix}"))
    return {suffix: (folder / f"good{suffix}").read_bytes() for suffix in made}


def _program(path: Path) -> object:
    return [name for name, _ in load_model_file(path).named_modules()]


def _archives(folder: Path) -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(small_network(), (_image(),))
        torch.export.save(program, folder / "good.pt2")
    return {".pt2": (folder / "good.pt2").read_bytes()}


def _trusted(path: Path) -> object:
    return load_model_file(path, trust=True)


def refused(path: Path) -> object:
    """Open what must not be opened without trust; a network that comes out is the fault."""
    load_model_file(path)
    raise AssertionError("opened without trust")


def _whole_models(folder: Path) -> dict[str, bytes]:
    return {".pt": _saved(small_network())}


def _onnx_files(folder: Path) -> dict[str, bytes]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    _torchvision()
    weights = {
        "w": small_network()[0].weight,
        "b": small_network()[0].bias,
        "m": small_network()[3].weight,
        "c": small_network()[3].bias,
    }
    arrays = [numpy_helper.from_array(one.detach().numpy(), name) for name, one in weights.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["1"], "conv", kernel_shape=[3, 3, 3]),
        helper.make_node("Relu", ["1"], ["2"], "relu"),
        helper.make_node("Flatten", ["2"], ["3"], "flat"),
        helper.make_node("Identity", ["c"], ["d"], "copy"),
        helper.make_node("Gemm", ["3", "m", "d"], ["y"], "gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        arrays,
    )
    old, new = (
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        for opset in (13, 18)
    )
    onnx.checker.check_model(old)
    return {".onnx": old.SerializeToString(), ".18.onnx": new.SerializeToString()}


def _torchvision() -> None:
    """onnx2torch imports it for two operators of detection; see conftest.py.

    The stand-in goes again: what else asks for torchvision in this process must not find it.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision"):
        return
    names = ("torchvision", "torchvision.ops")
    for name in names:
        module: Any = ModuleType(name, "stands in for torchvision in the hunt")
        module.roi_align = None
        sys.modules[name] = module
    try:
        importlib.import_module("onnx2torch")
    finally:
        for name in names:
            del sys.modules[name]


def _nnunet_files(folder: Path) -> dict[str, bytes]:
    from tests.bundles.conftest import train_nnunet

    place = train_nnunet(folder / "nnunet" / "model", patch=(8, 8, 8))
    for one in place.rglob("*.pth"):  # the state of the optimiser makes it long, and is not read
        content = torch.load(one, weights_only=False)
        torch.save({**content, "optimizer_state": {}}, one)
    return {str(one.relative_to(folder)): one.read_bytes() for one in files_of(place)}


def _nnunet(folder: Path) -> object:
    return load_nnunet(folder, weights=None, arguments={}, trust=False)


def files_of(folder: Path) -> list[Path]:
    """All files of a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _bundle_files(folder: Path) -> dict[str, bytes]:
    from tests.bundles.conftest import make_bundle

    place = make_bundle(folder / "bundle", preprocessing=None, inferer=None)
    wanted = [one for one in files_of(place / "configs") if one.suffix in (".json", ".yaml")]
    kept = {str(one.relative_to(folder)): one.read_bytes() for one in wanted}
    return {name: data for name, data in kept.items() if "logging" not in name}


def _bundle(folder: Path) -> object:
    """Whatever its files hold: refused without trust."""
    try:
        load_bundle(folder, weights=None, arguments={}, trust=False)
    except ModelError as error:
        if "--trust" in str(error):
            return None
        raise
    raise AssertionError("opened without trust")


def _described_bundle(folder: Path) -> dict[str, bytes]:
    found = _bundle_files(folder)
    return {name: data for name, data in found.items() if name.endswith("metadata.json")}


@cache
def _look_once() -> None:
    """Have MONAI list its own classes once, and not, as it does, for each file of a bundle."""
    from monai.bundle.config_item import ComponentLocator

    look, seen = ComponentLocator._find_classes_or_functions, {}

    def remembered(self: Any, modnames: Any) -> Any:
        key = tuple(modnames)
        if key not in seen:
            seen[key] = look(self, key)
        return seen[key]

    ComponentLocator._find_classes_or_functions = remembered  # type: ignore[method-assign]


def _trusted_bundle(folder: Path) -> object:
    """Trusted: then its metadata are hostile, as far as data can be."""
    _look_once()
    return load_bundle(folder, weights=None, arguments={}, trust=True)


def _keras_files(folder: Path) -> dict[str, bytes]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 6, 1)),
            layers.Conv3D(2, 3, strides=2, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Activation("relu"),
            layers.GlobalAveragePooling3D(),
            layers.Dense(2, name="scores"),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for suffix in (".keras", ".h5"):
            model.save(folder / f"good{suffix}")
    return {suffix: (folder / f"good{suffix}").read_bytes() for suffix in (".keras", ".h5")}


@contextlib.contextmanager
def _one_server() -> Iterator[None]:
    """Have one process fork for each file, where a user's file gets a process from its start."""
    from respondcam.network import hdf5

    folder = Path(__file__).parent
    script = Path(hdf5.__file__).with_name("hdf5_child.py")
    command = [sys.executable, "-P", str(folder / "fork_server.py"), str(script)]
    own = hdf5.run_child
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        ask, answer = server.stdin, server.stdout
        assert ask is not None
        assert answer is not None

        def asked(request: list[object], patience: float) -> tuple[int, str]:
            del patience  # the hunt has a clock of its own
            ask.write(json.dumps(request) + "\n")
            ask.flush()
            status, said = json.loads(answer.readline())
            return status, said

        hdf5.run_child = asked
        try:
            yield
        finally:
            hdf5.run_child = own


def _keras(path: Path) -> object:
    from respondcam.network.keras_files import load_keras

    return load_keras(path)


NETWORK_READERS = {
    "weights": Reader(_weights, _weight_files, 700),
    "torchscript": Reader(_program, _programs, 2000),
    "export": Reader(_trusted, _archives, 4000),
    "untrusted": Reader(refused, lambda f: {**_archives(f), **_whole_models(f)}, 4000, opens=False),
    "onnx": Reader(load_onnx, _onnx_files, 2000),
    "nnunet": Reader(_nnunet, _nnunet_files, 3000, folder="nnunet/model"),
    "bundle": Reader(_bundle, _bundle_files, 3000, folder="bundle"),
    "metadata": Reader(_trusted_bundle, _described_bundle, 3000, folder="bundle"),
    "keras": Reader(_keras, _keras_files, 4000, during=_one_server),
}

"""Files made to do harm: without trust they are refused in words, and nothing has happened."""

import io
import json
import os
import pickle
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.bundles.conftest import make_bundle, nnunet_plans, train_nnunet
from tests.fuzz.folder_readers import ball
from torch import nn

from respondcam.errors import InputError, ModelError, VolumeError
from respondcam.network.sources import load_model
from respondcam.network.weights import load_weights
from respondcam.volume import read_volume, write_volume

os.environ.setdefault("KERAS_BACKEND", "torch")


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.fixture
def mark(tmp_path: Path):
    """What the hostile file would make."""
    path = tmp_path / "harm"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles(tmp_path, mark, suffix, zipped):
    path = tmp_path / f"model{suffix}"
    torch.save({"state_dict": Touch(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="--trust"):
        load_model(str(path))
    with pytest.raises(ModelError, match="--trust"):
        load_weights(nn.Linear(1, 1), path)


def test_bare_pickle_under_another_name(tmp_path, mark):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(ModelError, match="damaged"):
        load_weights(nn.Linear(1, 1), path)


class Writing(nn.Module):
    """Writes a file while it is opened."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        torch.save(torch.zeros(1), state[0])
        self.path = state[0]
        self.training = state[1]


def test_torchscript_that_writes_a_file_while_it_is_opened(tmp_path, mark):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Writing(str(mark))).save(str(tmp_path / "net.pt"))
    with pytest.raises(ModelError, match=r"uses save: it could write"):
        load_model(str(tmp_path / "net.pt"))
    assert not mark.exists()
    load_model(str(tmp_path / "net.pt"), trust=True)
    assert mark.exists()  # so the danger is real
    mark.unlink()


def test_torchscript_that_hides_the_name_of_what_it_calls(tmp_path, mark):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Writing(str(mark))).save(str(tmp_path / "plain.pt"))
    hidden = b'getattr(torch, "s" "a\\x76e")('
    _rezip(tmp_path / "plain.pt", tmp_path / "net.pt", b"torch.save(", hidden)
    with pytest.raises(ModelError, match=r"uses save"):
        load_model(str(tmp_path / "net.pt"))


def _rezip(source: Path, target: Path, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as out:
        for name in archive.namelist():
            data = archive.read(name)
            out.writestr(name, data.replace(old, new) if name.endswith(".py") else data)


@pytest.mark.parametrize("entry", [{"_target_": "os.system"}, "$__import__('os').system('x')"])
def test_bundles(tmp_path, mark, entry):
    pytest.importorskip("monai")
    folder = make_bundle(tmp_path / "bundle", preprocessing=None, inferer=None)
    config = folder / "configs" / "inference.json"
    content = json.loads(config.read_text("utf-8"))
    touch = f"touch '{mark}'"
    content["network_def"] = (
        {**entry, "command": touch} if isinstance(entry, dict) else entry.replace("x", touch)
    )
    config.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match="--trust"):
        load_model(f"monai:{folder}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    pytest.importorskip("nnunetv2")
    return train_nnunet(tmp_path_factory.mktemp("nnunet") / "model", patch=(8, 8, 8))


def _with_plans(folder: Path, **changed: Any) -> None:
    plans = nnunet_plans("PlainConvUNet", [8, 8, 8])
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    for name, value in changed.items():
        where = architecture if name in architecture else architecture["arch_kwargs"]
        where[name] = value
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")


def test_plans_that_reach_other_modules_through_nnunets_own(trained, mark):
    command = {"command": f"touch '{mark}'"}
    _with_plans(trained, nonlin="nnunetv2.paths.os.system", nonlin_kwargs=command)
    with pytest.raises(ModelError, match=r"paths\.os\.system, which is no part of nnU-Net"):
        load_model(f"nnunet:{trained}")


@pytest.mark.parametrize(
    "name", ["nnunetv2.paths.os.system", "torch.nn.functional.F.os.system", "nnunetv2.nowhere.join"]
)
def test_plans_whose_network_is_none(trained, mark, name):
    _with_plans(trained, network_class_name=name)
    with pytest.raises(ModelError, match=r"no part of nnU-Net|cannot build the network"):
        load_model(f"nnunet:{trained}")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("features_per_stage", [4, 60000, 60000], "describe a network of"),
        ("features_per_stage", [4, 6, 10**9], "which no network has"),
        ("n_conv_per_stage", [1, 1, 10**7], "which no network has"),
        ("kernel_sizes", [[3, 3, 3]] * 10_000, "which no network has"),
    ],
)
def test_plans_of_a_network_that_no_machine_holds(trained, mark, name, value, words):
    _with_plans(trained, **{name: value})
    with pytest.raises(ModelError, match=words):
        load_model(f"nnunet:{trained}")


def test_checkpoints_of_nnunet(trained, mark):
    _with_plans(trained)
    path = trained / "fold_0" / "checkpoint_final.pth"
    good = path.read_bytes()
    content = torch.load(path, weights_only=False)
    torch.save({**content, "trainer_name": Touch(mark)}, path)
    with pytest.raises(ModelError, match="--trust"):
        load_model(f"nnunet:{trained}")
    path.write_bytes(good)
    load_model(f"nnunet:{trained}")


def test_operators_of_onnx_that_nobody_knows(tmp_path, mark, torchvision_or_stand_in):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Run", ["x"], ["y"], domain="evil", command=f"touch '{mark}'")
    graph = helper.make_graph([node], "net", values[:1], values[1:])
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"evil\.Run"):
        load_model(f"onnx:{tmp_path / 'net.onnx'}")


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname"])
def test_weights_of_onnx_from_elsewhere(tmp_path, place, torchvision_or_stand_in):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(bytes(4))
    (tmp_path / "inside").mkdir()
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": "4"}.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "net", values[:1], values[1:], [weight])
    path = tmp_path / "inside" / "net.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx is not None
    with pytest.raises(ModelError, match=r"outside the directory|weights in a file of their own"):
        load_model(f"onnx:{path}")


def _keras(layers: list[dict[str, Any]], path: Path, *, weights: int = 1000) -> Path:
    """A Keras archive by hand: what Keras itself would not write."""
    entry = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, 4], "dtype": "float32", "name": "input"},
    }
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "net", "layers": [entry, *layers]},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", bytes(weights))
    return path


@pytest.mark.parametrize(
    ("module", "kind", "config"),
    [
        ("keras.layers", "Lambda", {"function": {"class_name": "__lambda__", "config": {}}}),
        ("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
        ("keras.utils", "get_file", {"fname": "x", "origin": "http://localhost/x"}),
        ("os", "system", {"command": "true"}),
    ],
)
def test_layers_of_keras_that_do_more_than_compute(tmp_path, module, kind, config):
    pytest.importorskip("keras")
    layer = {"module": module, "class_name": kind, "config": {"name": "evil", **config}}
    with pytest.raises(ModelError, match=f"of kind {kind}|of kind __lambda__"):
        load_model(f"keras:{_keras([layer], tmp_path / 'net.keras')}")


def test_a_keras_file_that_declares_more_weights_than_it_holds(tmp_path):
    pytest.importorskip("keras")
    dense = {"units": 10**9, "name": "dense"}
    layer = {"module": "keras.layers", "class_name": "Dense", "config": dense}
    with pytest.raises(ModelError, match="declares 5000000000 weights, more than"):
        load_model(f"keras:{_keras([layer], tmp_path / 'net.keras')}")


def test_a_keras_file_that_unpacks_to_far_more(tmp_path):
    pytest.importorskip("keras")
    dense = {"units": 2, "name": "dense"}
    layer = {"module": "keras.layers", "class_name": "Dense", "config": dense}
    path = _keras([layer], tmp_path / "net.keras", weights=200_000_000)
    with pytest.raises(ModelError, match="unpacks to"):
        load_model(f"keras:{path}")


def test_a_checkpoint_that_unpacks_to_far_more(tmp_path):
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, stream)
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            out.writestr(name, source.read(name))
        out.writestr("archive/data/1", bytes(100_000_000))
    with pytest.raises(ModelError, match="unpacks to"):
        load_weights(nn.Linear(1, 1), path)
    with pytest.raises(ModelError, match="unpacks to"):
        load_model(str(path))


# a tuple that holds another one twice, which holds another one twice ...; and a list, whose inner
# ones are filled after they are shared
_TUPLES = b"K\x01\x85" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(24))
_LISTS = (
    b"".join(b"]q%c" % n for n in range(24))
    + b"".join(b"h%c(h%ch%ce" % (n, n + 1, n + 1) for n in range(23))
    + b"h\x00"
)


def _at_the_end(pickled: bytes, path: Path, *, bare: bool) -> Path:
    """A checkpoint with this pickle: the last member that is read, or a file of its own."""
    if bare:
        path.write_bytes(pickled)
        return path
    torch.save({"weight": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            out.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize(
    "pickled",
    [b"\x80\x02}" + _TUPLES + b"K\x01s.", b"\x80\x02" + _LISTS + b")R."],
    ids=["a key is hashed", "what is called is printed"],
)
@pytest.mark.parametrize("bare", [False, True])
def test_a_pickle_whose_objects_unfold_without_end(tmp_path, pickled, bare):
    """It takes 2^24 steps, and twice as many with 4 bytes more."""
    path = _at_the_end(pickled, tmp_path / "a.pt", bare=bare)
    started = time.process_time()
    with pytest.raises(ModelError, match="unfold to more than") as told:
        load_weights(nn.Linear(1, 1), path)
    assert len(str(told.value)) < 1000
    with pytest.raises(ModelError, match="is a pickle") as told:
        load_model(str(path))
    assert time.process_time() - started < 1


def test_a_pickle_whose_object_holds_itself(tmp_path):
    path = _at_the_end(b"\x80\x02]q\x00h\x00a)R.", tmp_path / "a.pt", bare=False)
    with pytest.raises(ModelError, match="an object in it holds itself"):
        load_weights(nn.Linear(1, 1), path)


def test_a_pickle_of_a_hundred_thousand_doublings(tmp_path):
    """Their number has as many digits, and so would all the numbers on the way."""
    places = (n.to_bytes(4, "little") for n in range(100_000))
    doublings = b"".join(b"r" + n + b"j" + n + b"\x86" for n in places)
    path = _at_the_end(b"\x80\x02}K\x01\x85" + doublings + b"K\x01s.", tmp_path / "a.pt", bare=True)
    with pytest.raises(ModelError, match="unfold to more than"):
        load_weights(nn.Linear(1, 1), path)


def test_a_store_that_declares_far_more_than_it_holds(tmp_path):
    write_volume(tmp_path / "a.ome.zarr", ball())
    about = tmp_path / "a.ome.zarr" / "0" / "zarr.json"
    content = json.loads(about.read_text("utf-8"))
    for shape in ([100_000, 1000, 1000], [4 * 10**6, 5, 6], [4, 5, 6 * 10**8]):
        about.write_text(json.dumps({**content, "shape": shape}), encoding="utf-8")
        with pytest.raises(VolumeError, match="but holds 2 files"):
            read_volume(tmp_path / "a.ome.zarr")


def test_a_chunk_that_says_it_unpacks_to_far_more(tmp_path):
    write_volume(tmp_path / "a.ome.zarr", ball())
    (chunk,) = (one for one in (tmp_path / "a.ome.zarr/0/c").rglob("*") if one.is_file())
    data = bytearray(chunk.read_bytes())
    assert data[:4].hex() == "28b52ffd"
    chunk.write_bytes(bytes([*data[:4], 0xE0, *np.array([2**40], "<u8").tobytes(), *data[8:]]))
    with pytest.raises(VolumeError, match="unpacks to more than"):
        read_volume(tmp_path / "a.ome.zarr")


def test_brackets_in_texts_go_nowhere():
    from respondcam._files import parse_json

    names = [f'kind [{number} "of\\' for number in range(300)]
    assert parse_json(json.dumps(names)) == names
    for hostile in ('"' + "[" * 300, '"\\', "]" * 300 + "[" * 900, '["a", ' * 300):
        with pytest.raises(ValueError, match=r"line|levels"):
            parse_json(hostile)


def test_json_that_goes_down_without_end(tmp_path):
    from respondcam.large.manifest import read_manifest

    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="goes down 100000 levels"):
        read_manifest(tmp_path)

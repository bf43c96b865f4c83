"""Models by address: every kind that opens, and the words for every kind that does not."""

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from respondcam.errors import ModelError
from respondcam.network.sources import LoadedModel, load_model

CODE = """
import torch
from torch import nn

from neighbour import WIDTH


def build(classes=3, *, width=WIDTH):
    return nn.Sequential(nn.Conv3d(1, width, 3), nn.Flatten(), nn.LazyLinear(classes))


def named():
    return nn.Linear(2, 2), ["ribosome", "proteasome"]


def needs(channels, classes, size=1):
    return nn.Linear(channels, classes)


def anything(**options):
    return nn.Linear(options["inputs"], 1)


def nothing():
    pass


def pair():
    return 1, 2


def breaks():
    raise KeyError("depth")


class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.drop = nn.Dropout()


ready = nn.Linear(5, 2)
number = 7
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "neighbour.py").write_text("WIDTH = 2\n")
    (tmp_path / "my net.py").write_text(CODE)
    monkeypatch.delitem(sys.modules, "neighbour", raising=False)
    return str(tmp_path / "my net.py")


def test_a_factory_in_a_file_may_import_its_neighbours_and_leaves_the_path_alone(file):
    before = list(sys.path)
    loaded = load_model(f"{file}:build", arguments={"classes": 5, "width": 3})
    assert isinstance(loaded, LoadedModel)
    assert loaded.module[0].out_channels == 3
    assert loaded.module(torch.zeros(1, 1, 4, 4, 4)).shape == (1, 5)
    assert loaded.arguments == {"classes": 5, "width": 3}
    assert sys.path == before


def test_classes_networks_and_named_pairs_count_as_factories(file):
    net = load_model(f"{file}:Net").module
    assert net.in_features == 4
    assert not net.training
    assert not net.drop.training
    assert load_model(f"{file}:ready").module.in_features == 5
    named = load_model(f"{file}:named")
    assert named.class_names == ("ribosome", "proteasome")
    assert load_model(f"{file}:anything", arguments={"inputs": 3}).module.in_features == 3


def test_an_installed_module_and_one_in_the_current_folder(tmp_path, monkeypatch):
    linear = load_model("torch.nn:Linear", arguments={"in_features": 2, "out_features": 1})
    assert isinstance(linear.module, nn.Linear)
    (tmp_path / "models_of_mine.py").write_text("from torch import nn\nnet = nn.Linear(6, 1)\n")
    monkeypatch.chdir(tmp_path)
    assert load_model("models_of_mine:net").module.in_features == 6


@pytest.mark.parametrize(
    ("spec", "arguments", "words"),
    [
        ("{file}:bild", {}, ["no 'bild'", "build"]),
        ("{file}:xyz", {}, ["no 'xyz'", "build", "named", "Net"]),
        ("{file}:number", {}, ["type int", "torch.nn.Module"]),
        ("{file}:nothing", {}, ["returned None", "torch.nn.Module"]),
        ("{file}:pair", {}, ["a tuple of int, int"]),
        ("{file}:breaks", {}, ["failed: KeyError: 'depth'"]),
        ("{file}:needs", {}, ["channels, classes", "--model-arg channels=VALUE"]),
        ("{file}:needs", {"chanels": 1}, ["takes no argument 'chanels'", "channels"]),
        ("{file}:ready", {"a": 1}, ["takes no arguments"]),
        ("{file}", {}, ["does not name a factory", ":factory"]),
        ("{file}:", {}, ["does not name a factory"]),
        ("/nowhere/net.py:build", {}, ["'/nowhere/net.py' does not exist"]),
        ("no_such_package.models:net", {}, ["ModuleNotFoundError", "no_such_package"]),
        ("torch.nn:Conv4d", {}, ["no 'Conv4d'", "Conv3d"]),
        ("resnet", {}, ["no address of a model", "path/to/file.py:factory", "demo"]),
        ("", {}, ["no address of a model"]),
        ("paper:cnn1", {}, ["Did you mean paper:cnn-1"]),
        ("demos", {}, ["Did you mean demo?"]),
    ],
)
def test_each_mistake_is_worded(file, spec, arguments, words):
    with pytest.raises(ModelError) as caught:
        load_model(spec.format(file=file), arguments=arguments)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def net(:", "SyntaxError"),
        ("raise SystemExit('two\\nlines')", "SystemExit: two"),
        ("class Own(BaseException): pass\nraise Own('said')", "Own: said"),
    ],
)
def test_code_that_does_not_import_is_named_with_its_reason(tmp_path, code, words):
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(ModelError) as caught:
        load_model(f"{tmp_path / 'broken.py'}:net")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [name for name in sys.modules if name.endswith("_broken")]


def test_a_file_named_like_a_library_hides_nothing(tmp_path):
    (tmp_path / "torch.py").write_text("def net():\n    from torch import nn\n    return nn.ReLU()")
    # the file's own folder is looked in first while it loads, but torch is loaded already
    assert isinstance(load_model(f"{tmp_path / 'torch.py'}:net").module, nn.ReLU)
    assert sys.modules["torch"] is torch


def test_weights_are_loaded_into_it(tmp_path):
    torch.save({"weight": torch.full((1, 2), 3.0), "bias": torch.zeros(1)}, tmp_path / "w.pt")
    arguments = {"in_features": 2, "out_features": 1}
    loaded = load_model("torch.nn:Linear", weights=tmp_path / "w.pt", arguments=arguments)
    assert loaded.module.weight.tolist() == [[3.0, 3.0]]
    assert loaded.weights is not None
    assert loaded.weights.note == ""


def test_what_a_factory_raises_of_its_own_is_told_and_an_interruption_goes_on(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "class Own(BaseException): pass\n"
        "def own(): raise Own('said')\n"
        "def stop(): raise KeyboardInterrupt\n"
    )
    with pytest.raises(ModelError, match=r"The factory '.*:own' failed: Own: said\."):
        load_model(f"{file}:own")
    with pytest.raises(KeyboardInterrupt):
        load_model(f"{file}:stop")


@pytest.mark.parametrize("address", ["{}.py:build", "{}.pt", "onnx:{}.onnx", "keras:{}.keras"])
def test_what_a_path_is_in_place_of_a_file_is_said(tmp_path, address):
    path = (tmp_path / "net").with_suffix(f".{address.split('.')[1].split(':')[0]}")

    def said() -> str:
        with pytest.raises(ModelError) as caught:
            load_model(address.format(tmp_path / "net"))
        return str(caught.value)

    assert f"'{path}' does not exist" in said()
    path.symlink_to(tmp_path / "gone")
    assert f"'{path}' is a link to a file that does not exist" in said()
    path.unlink()
    path.symlink_to(path.name)
    assert f"'{path}' is a link that leads back to itself" in said()
    path.unlink()
    os.mkfifo(path)
    assert f"'{path}' is no regular file but a pipe" in said()


def test_a_whole_model_as_weights_finds_its_class_beside_the_factory(tmp_path, monkeypatch):
    code = "from torch import nn\n\n\nclass Tiny(nn.Sequential):\n    def __init__(self):\n"
    code += "        super().__init__(nn.Conv3d(1, 2, 3))\n"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "tiny_of_this_test.py").write_text(code)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "code")
        module = importlib.import_module("tiny_of_this_test")
        trained = module.Tiny()
        torch.save(trained, tmp_path / "whole.pt")
    monkeypatch.delitem(sys.modules, "tiny_of_this_test")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    spec = "code/tiny_of_this_test.py:Tiny"
    with pytest.raises(ModelError, match="--trust"):
        load_model(spec, weights="whole.pt")
    loaded = load_model(spec, weights="whole.pt", trust=True)
    torch.testing.assert_close(loaded.module.state_dict(), trained.state_dict())
    assert sys.path == before
    sys.modules.pop("tiny_of_this_test")
    with pytest.raises(
        ModelError, match=r"needs a class that cannot be imported.*state dict alone"
    ):
        load_model("torch.nn:Identity", weights="whole.pt", trust=True)


def test_a_trained_nnunet_without_its_prefix_is_known(tmp_path):
    folder = tmp_path / "Dataset1" / "Trainer__Plans__3d"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text("{}")
    for given in (folder, folder.parent):
        with pytest.raises(ModelError) as error:
            load_model(str(given))
        assert f"Did you mean nnunet:{folder}?" in str(error.value)

"""Files that hold a network: TorchScript, torch.export archives, whole pickles, and what is not."""

import collections
import inspect
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from respondcam.attribution import Explanation, IntegratedRespondCAM, RespondCAM
from respondcam.attribution.explainer import Explainer
from respondcam.errors import InputError, LayerError, ModelError
from respondcam.network.model_files import load_model_file
from respondcam.network.sources import load_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of TorchScript itself
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of torch.export's own insides
]


def network() -> nn.Module:
    torch.manual_seed(3)
    norm = nn.BatchNorm3d(4)
    nn.init.uniform_(norm.running_mean)  # type: ignore[arg-type]
    return nn.Sequential(
        nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), norm, nn.ReLU(inplace=True)),
        nn.MaxPool3d(2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4, 3),
    ).eval()


def one(found: Any) -> Explanation:
    assert isinstance(found, Explanation)
    return found


@pytest.mark.parametrize("suffix", [".pt", ".ts", ".torchscript", ".PTH"])
@pytest.mark.parametrize("traced", [False, True])
def test_torchscript_files_open_without_trust(tmp_path, suffix, traced):
    net, x = network(), torch.randn(1, 1, 9, 9, 9)
    script: Any = torch.jit.trace(net, x) if traced else torch.jit.script(net)
    script.save(str(tmp_path / f"net{suffix}"))
    loaded = load_model(str(tmp_path / f"net{suffix}"))
    assert not loaded.module.training
    ours = one(RespondCAM(loaded.module, layer="0.1")(x, target="all"))
    theirs = one(RespondCAM(net, layer="0.1")(x, target="all"))
    torch.testing.assert_close(ours.maps, theirs.maps, rtol=1e-6, atol=1e-7)
    assert ours.grid == theirs.grid


def test_weights_go_into_a_program_too(tmp_path):
    torch.jit.script(network()).save(str(tmp_path / "net.pt"))
    other = {name: value + 1 for name, value in network().state_dict().items()}
    torch.save(other, tmp_path / "other.ckpt")
    module = load_model(str(tmp_path / "net.pt"), weights=tmp_path / "other.ckpt").module
    assert all(torch.equal(value, other[name]) for name, value in module.state_dict().items())


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    x = torch.randn(2, 1, 9, 9, 9)
    batch = {"input": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(network(), (x,)), folder / "fixed.pt2")
    program = torch.export.export(network(), (x,), dynamic_shapes=batch)
    torch.export.save(program, folder / "any.pt2")
    return folder


@pytest.mark.parametrize("name", ["fixed", "any"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_exported_networks_give_the_same_maps_in_every_mode(archives, name, mode):
    net, x = network(), torch.randn(2, 1, 9, 9, 9)
    module = load_model(str(archives / f"{name}.pt2"), trust=True).module
    layers = ["0", "0.1", "1"]
    theirs = RespondCAM(net, layer=layers)(x, target="all")
    with mode():
        ours = RespondCAM(module, layer=layers)(x, target="all")
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.maps, b.maps, rtol=1e-6, atol=1e-7)
        assert a.grid == b.grid
        assert a.grid.origin == "layout"
        torch.testing.assert_close(a.account.gap, b.account.gap, rtol=1e-5, atol=1e-6)
    assert one(RespondCAM(module)(x)).layer == one(RespondCAM(net)(x)).layer
    assert not module.training


def test_batches_of_exported_networks(archives):
    """What was exported for any batch takes any; what was exported for two says so."""
    x = torch.randn(2, 1, 9, 9, 9)
    free = load_model(str(archives / "any.pt2"), trust=True).module
    found = one(IntegratedRespondCAM(free, layer="0")(x))
    theirs = one(IntegratedRespondCAM(network(), layer="0")(x))
    torch.testing.assert_close(found.maps, theirs.maps, rtol=1e-5, atol=1e-7)
    fixed = load_model(str(archives / "fixed.pt2"), trust=True).module
    found = one(IntegratedRespondCAM(fixed, layer="0")(x))  # a pass for every node
    torch.testing.assert_close(found.maps, theirs.maps, rtol=1e-5, atol=1e-7)
    with pytest.raises(ModelError, match=r"to be equal to 2, but got 1.*dynamic"):
        RespondCAM(fixed, layer="0")(x[:1])


def test_an_archive_needs_trust_since_opening_it_can_run_code(archives):
    with pytest.raises(ModelError, match=r"evaluates expressions.*--trust"):
        load_model(str(archives / "fixed.pt2"))


def test_exported_programs_in_python_are_told_how():
    program = torch.export.export(network(), (torch.randn(1, 1, 9, 9, 9),))
    unchecked = inspect.unwrap(Explainer.__init__)  # without the type checks of the tests
    with pytest.raises(InputError, match=r"Give torch\.export\.unflatten\(program\)"):
        unchecked(object.__new__(RespondCAM), program)
    with pytest.raises(LayerError, match=r"Layer '0' exists but was not called"):
        RespondCAM(program.module(), layer="0")(torch.randn(1, 1, 9, 9, 9))


@pytest.mark.parametrize("inside", [False, True])
def test_whole_models_need_trust(tmp_path, inside):
    net = network()
    torch.save({"epoch": 3, "model": net} if inside else net, tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"could run any code.*--weights.*--trust"):
        load_model(str(tmp_path / "whole.pth"))
    module = load_model(str(tmp_path / "whole.pth"), trust=True).module
    assert torch.equal(module[5].weight, net[5].weight)  # type: ignore[index]


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2", ".ckpt"])
def test_nothing_runs_without_trust(tmp_path, suffix):
    torch.save(Bomb(tmp_path / "it-ran"), tmp_path / f"net{suffix}")
    with pytest.raises(ModelError, match="--trust"):
        load_model(str(tmp_path / f"net{suffix}"))
    assert not (tmp_path / "it-ran").exists()


def test_a_class_that_is_gone_is_named(tmp_path, monkeypatch):
    (tmp_path / "their_code.py").write_text("from torch import nn\nclass Net(nn.Linear): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import their_code  # type: ignore[import-not-found]

    torch.save(their_code.Net(1, 1), tmp_path / "whole.pt")
    monkeypatch.undo()
    del sys.modules["their_code"]
    with pytest.raises(ModelError, match=r"class that cannot be imported.*their_code"):
        load_model(str(tmp_path / "whole.pt"), trust=True)
    monkeypatch.chdir(tmp_path)
    assert type(load_model("whole.pt", trust=True).module).__name__ == "Net"
    assert str(tmp_path) not in sys.path


def cut(path: Path) -> None:
    torch.jit.script(network()).save(str(path))
    path.write_bytes(path.read_bytes()[:3000])


def hollowed(path: Path) -> None:
    torch.jit.script(network()).save(str(path.with_suffix(".whole")))
    with zipfile.ZipFile(path.with_suffix(".whole")) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if not name.endswith(".py"):
                new.writestr(name, old.read(name))


def headed_wrongly(path: Path) -> None:
    """A member whose own header claims a longer name than the list at the end does."""
    torch.jit.script(network()).save(str(path))
    with zipfile.ZipFile(path) as archive:
        at = archive.infolist()[2].header_offset
    data = bytearray(path.read_bytes())
    data[at + 26 : at + 28] = (28527).to_bytes(2, "little")
    path.write_bytes(data)


def overlong_inside(path: Path) -> None:
    """An exported network whose example inputs claim a tebibyte."""
    with (
        zipfile.ZipFile(path, "w") as archive,
        zipfile.ZipFile(path.with_suffix(".in"), "w") as one,
    ):
        one.writestr("in/data.pkl", b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".")
        one.close()
        archive.writestr("net/archive_format", "pt2")
        archive.write(path.with_suffix(".in"), "net/data/sample_inputs/model.pt")


def other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, ["does not exist", "TorchScript"]),
        (Path.mkdir, ["is a folder"]),
        (Path.touch, ["is empty"]),
        (lambda p: p.write_text("hello, no network" * 9), ["holds no network"]),
        (other_archive, ["holds no network"]),
        (cut, ["damaged or cut short"]),
        (hollowed, ["cannot be opened"]),
        (headed_wrongly, ["damaged or cut short", "the header of"]),
        (overlong_inside, ["cannot be opened", "its data are damaged"]),
        (lambda p: torch.save(network().state_dict(), p), ["without their network", "--weights"]),
        (
            lambda p: safetensors.torch.save_file(network().state_dict(), p),
            ["without their network", "--weights"],
        ),
        (lambda p: p.write_bytes(b"\x80\x02 damaged"), ["cannot be read"]),
        (lambda p: p.write_bytes(pickle.dumps(collections.deque())), ["model file"]),
        (lambda p: torch.save(collections.deque([1]), p), ["type deque"]),
    ],
)
def test_files_that_hold_no_network(tmp_path, make, words):
    make(tmp_path / "net.pt")
    with pytest.raises(ModelError) as caught:
        load_model_file(tmp_path / "net.pt", trust=True)
    message = str(caught.value)
    assert all(word in message for word in [*words, "net.pt"]), message
    assert "\n" not in message


def test_ready_networks_take_no_arguments(tmp_path):
    for spec in ("net.pt", "net.pt2", "onnx:net.onnx"):
        with pytest.raises(ModelError, match=r"takes no arguments; got classes"):
            load_model(spec, arguments={"classes": 3})

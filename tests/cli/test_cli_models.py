"""Networks from every kind of file on the command line, and words for those that do not open."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from respondcam.network.sources import load_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of TorchScript itself
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of torch.export's own insides
]

MORE = """
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)

    def forward(self, image, mask):
        return self.conv(image * mask).mean((2, 3, 4))


def sized(channels, classes):
    return nn.Conv3d(channels, classes, 1)
"""


@pytest.fixture
def cube(tmp_path: Path, make: Any) -> Path:
    return make.mrc(tmp_path / "cube.mrc", make.blob((8, 8, 8)))


@pytest.fixture
def more(tmp_path: Path) -> str:
    (tmp_path / "more.py").write_text(MORE)
    return str(tmp_path / "more.py")


@pytest.fixture
def net(nets: str) -> nn.Module:
    return load_model(f"{nets}:net").module


def refused(result: Any, *words: str) -> str:
    """One message on standard error, exit code 2, nothing else."""
    assert result.code == 2, result.err
    message = " ".join(result.err.split())
    assert "Traceback" not in message
    for word in words:
        assert re.search(word, message), (word, message)
    return message


def mapped(folder: Path) -> np.ndarray:
    mrcfile: Any = pytest.importorskip("mrcfile")
    (path,) = folder.glob("*.input.mrc")
    return np.array(mrcfile.read(path))


def test_a_torchscript_file_gives_the_map_of_the_factory(cli, nets, net, cube, tmp_path):
    torch.jit.script(net).save(str(tmp_path / "net.pt"))
    options = ("--layer", "second", "--target", "1")
    for name, model in [("a", f"{nets}:net"), ("b", tmp_path / "net.pt")]:
        result = cli("explain", cube, "--model", model, *options, "--out", tmp_path / name)
        assert result.code == 0, result.err
    np.testing.assert_allclose(mapped(tmp_path / "b"), mapped(tmp_path / "a"), rtol=1e-5, atol=1e-8)
    listed = cli("layers", "--model", tmp_path / "net.pt", "--shape", "1,8,8,8", "--json")
    assert listed.code == 0, listed.err
    names = [row["name"] for row in json.loads(listed.out)["rows"]]
    assert {"first.0", "first", "pool", "second.1", "second"} <= set(names)


def lightning(net: nn.Module, path: Path, settings: Any, prefix: str = "model.") -> Path:
    """Write what a Lightning module with a loss keeps."""
    state = {prefix + name: value + 1 for name, value in net.state_dict().items()}
    state |= {"criterion.weight": torch.ones(3), "metric.total": torch.zeros(())}
    torch.save(
        {
            "epoch": 3,
            "global_step": 12,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": state,
            "optimizer_states": [{}],
            "hyper_parameters": settings,
        },
        path,
    )
    return path


@pytest.mark.parametrize("prefix", ["model.", "net.", "network.", "_orig_mod.module.net.", "m.n."])
def test_a_lightning_checkpoint_as_weights(cli, nets, net, cube, tmp_path, prefix):
    path = lightning(net, tmp_path / "last.ckpt", {"lr": 1e-3, "name": "net"}, prefix)
    result = cli(
        "explain", cube, "--model", f"{nets}:net", "--weights", path, "--layer", "second", "--json"
    )
    assert result.code == 0, result.err
    said = " ".join(json.loads(result.out)["notes"])
    assert "'state_dict'" in said
    assert f"prefix {prefix!r}" in said
    assert "2 others left out (criterion.weight, metric.total)" in said
    loaded = load_model(f"{nets}:net", weights=path).module.state_dict()
    assert all(torch.equal(loaded[name], value + 1) for name, value in net.state_dict().items())


def test_a_checkpoint_with_pickled_settings_needs_trust(cli, nets, net, cube, tmp_path):
    path = lightning(net, tmp_path / "last.ckpt", argparse.Namespace(lr=1e-3))
    command = ("explain", cube, "--model", f"{nets}:net", "--weights", path, "--layer", "second")
    refused(cli(*command), "run any code", "argparse.Namespace", "--trust")
    trusted = cli(*command, "--trust")
    assert trusted.code == 0, trusted.err


def test_a_checkpoint_with_two_networks_asks_which(cli, nets, net, cube, tmp_path):
    state = {
        f"{p}.{name}": v for p in ("student", "teacher") for name, v in net.state_dict().items()
    }
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    result = cli("explain", cube, "--model", f"{nets}:net", "--weights", tmp_path / "w.ckpt")
    refused(result, "more than once", "'student.', 'teacher.'")


def test_a_whole_model_needs_trust(cli, net, cube, tmp_path):
    torch.save(net, tmp_path / "whole.pt")
    command = ("explain", cube, "--model", tmp_path / "whole.pt", "--layer", "second")
    refused(cli(*command), "pickle", "could run any code", "--trust")
    trusted = cli(*command, "--trust")
    assert trusted.code == 0, trusted.err


@pytest.mark.slow
def test_an_exported_archive_needs_trust(cli, net, cube, tmp_path):
    program = torch.export.export(net, (torch.zeros(1, 1, 8, 8, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    command = ("explain", cube, "--model", tmp_path / "net.pt2", "--layer", "second")
    refused(cli(*command), "torch.export archive", "evaluates expressions", "--trust")
    trusted = cli(*command, "--trust")
    assert trusted.code == 0, trusted.err


@pytest.mark.usefixtures("torchvision_or_stand_in")
def test_an_onnx_file(cli, net, cube, tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 1, 8, 8, 8),), str(path), dynamo=False)
    result = cli("explain", cube, "--model", f"onnx:{path}", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["maps"][0]["layer"] == "second/second/1/Relu"


@pytest.mark.parametrize(
    ("prepare", "options", "words"),
    [
        (
            lambda folder, net: (folder / "bad.py").write_text("import no_such_package\n"),
            ("--model", "bad.py:net"),
            ["'bad.py' cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"],
        ),
        (
            lambda folder, net: None,
            ("--model", "more.py:sized"),
            ["needs a value for channels, classes", "--model-arg channels=VALUE"],
        ),
        (
            lambda folder, net: save_file(
                {f"encoder.{i}.weight": torch.ones(1) for i in range(60)},
                folder / "other.safetensors",
            ),
            ("--model", "nets.py:net", "--weights", "other.safetensors"),
            [
                "do not fit",
                r"missing in the file \(6\): first.0.weight",
                r"not in the model \(60\)",
                "and 55 more",
            ],
        ),
        (lambda folder, net: None, ("--model", "nets.py:Nett"), ["no 'Nett' in"]),
        (
            lambda folder, net: None,
            ("--model", "nets.py:net", "--target", "7"),
            ["out of range", "0 to 2"],
        ),
        (
            lambda folder, net: None,
            ("--model", "more.py:Two", "--layer", "conv"),
            [
                r"takes the inputs \(image, mask\) and was given 1",
                "'mask'",
                "in Python an explainer takes a tuple or a mapping of inputs",
            ],
        ),
        (
            lambda folder, net: torch.save(net.state_dict(), folder / "w.pt"),
            ("--model", "w.pt"),
            ["weights without their network", "--weights"],
        ),
        (
            lambda folder, net: torch.jit.script(net).save(str(folder / "s.pt")),
            ("--model", "nets.py:net", "--weights", "s.pt"),
            ["TorchScript program", "give it as --model"],
        ),
        (
            lambda folder, net: torch.jit.freeze(torch.jit.script(net)).save(str(folder / "f.pt")),
            ("--model", "f.pt"),
            ["no layers of its own", "torch.jit.freeze"],
        ),
        (
            lambda folder, net: (folder / "t.ts").write_text("no program"),
            ("--model", "t.ts"),
            ["'t.ts' holds no network"],
        ),
        (
            lambda folder, net: (folder / "n.onnx").write_text("no program"),
            ("--model", "onnx:n.onnx"),
            ["n.onnx", "damaged"],
        ),
    ],
)
@pytest.mark.usefixtures("torchvision_or_stand_in")
def test_one_message_and_exit_code_two(cli, more, net, cube, tmp_path, prepare, options, words):
    prepare(tmp_path, net)
    message = refused(cli("explain", cube, *options), *words)
    assert len(message) < 900
    assert not list(tmp_path.glob("respondcam-maps"))

"""Inputs that a network does not take: one message with a remedy, and no log of PyTorch's own."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import respondcam
from respondcam import RespondCAM
from respondcam._readers import at_the_command_line
from respondcam.errors import InputError, ModelError


class Branches(nn.Module):
    """Goes down and up again, and meets what went straight on: takes even sizes only."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.down = nn.Conv3d(1, 1, 3, padding=1, stride=2)
        self.up = nn.ConvTranspose3d(1, 1, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        again = self.up(self.down(x))
        return torch.cat([x, again], 1) if self.how == "cat" else x + again


def pooled(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())


CASES = {
    "kernel": (pooled(nn.Conv3d(1, 2, 5)), 3, "too small"),
    "max pooling": (pooled(nn.Conv3d(1, 2, 3), nn.MaxPool3d(3)), 3, "too small"),
    "average pooling": (pooled(nn.AvgPool3d(4)), 3, "too small"),
    "reflection": (pooled(nn.ReflectionPad3d(4), nn.Conv3d(1, 2, 1)), 3, "too small"),
    "instance norm": (pooled(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2)), 3, "too small"),
    "concatenation": (Branches("cat"), 9, "multiples of a number such as 16 or 32"),
    "sum": (Branches("sum"), 9, "multiples of a number such as 16 or 32"),
    "linear": (
        nn.Sequential(nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(16, 2)),
        3,
        "images of one size",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sizes_that_do_not_suit_say_so_once(
    case: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    model, size, words = CASES[case]
    with pytest.raises(ModelError, match=words) as caught:
        RespondCAM(model)(torch.rand(1, 1, size, size, size))
    assert "--window" not in str(caught.value)
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_an_image_that_is_too_small_is_not_sent_to_windows_which_are_smaller() -> None:
    model, size, _ = CASES["kernel"]
    with at_the_command_line(), pytest.raises(ModelError, match="or the window, is too") as caught:
        RespondCAM(model)(torch.rand(1, 1, size, size, size))
    assert "--window" not in str(caught.value)


@pytest.mark.parametrize("case", ["sum", "linear"])
def test_at_the_command_line_windows_are_a_remedy(case: str) -> None:
    model, size, words = CASES[case]
    with at_the_command_line(), pytest.raises(ModelError, match=f"{words}.*--window"):
        RespondCAM(model)(torch.rand(1, 1, size, size, size))


def test_windows_that_would_not_fit_are_no_remedy() -> None:
    model = CASES["linear"][0]
    for size, words in ((9, "where that fits.*shortest axis has 9 voxels"), (33, "--window 32")):
        with at_the_command_line(), pytest.raises(ModelError, match=words) as caught:
            RespondCAM(model)(torch.rand(1, 1, size, size + 30, size))
        assert ("--window 32" in str(caught.value)) == (size > 32)


@pytest.mark.parametrize(
    ("first", "axes", "words"),
    [
        (nn.Conv2d(1, 2, 1), 3, r"two-dimensional.*three axes.*slice.*\(batch, channel, y, x\)"),
        (nn.BatchNorm2d(1), 3, "two-dimensional.*three axes"),
        (nn.ConvTranspose2d(1, 2, 2), 3, "two-dimensional.*three axes"),
        (nn.Conv1d(1, 2, 1), 2, r"one-dimensional.*two axes.*line.*\(batch, channel, x\)"),
    ],
)
def test_a_network_of_slices_says_so_of_a_volume(first: nn.Module, axes: int, words: str) -> None:
    model = nn.Sequential(first, nn.ReLU()).eval()
    with pytest.raises(ModelError, match=words) as caught:
        RespondCAM(model, "1")(torch.rand(1, 1, *[8] * axes))
    assert "None" not in str(caught.value)
    with at_the_command_line(), pytest.raises(ModelError, match="Give a factory of a network"):
        RespondCAM(model, "1")(torch.rand(1, 1, *[8] * axes))


def test_channels_that_are_missing_are_put_together(tmp_path: Path) -> None:
    """As the message says."""
    model = pooled(nn.Conv3d(2, 2, 1))
    with pytest.raises(ModelError, match=r"has 1 channel, and the network takes 2.*torch\.cat"):
        RespondCAM(model)(torch.rand(1, 1, 8, 8, 8))
    with at_the_command_line(), pytest.raises(ModelError) as caught:
        RespondCAM(model)(torch.rand(1, 1, 8, 8, 8))
    command = str(caught.value).split("in Python: ")[1].removesuffix(".")
    for name, value in (("A", 1.0), ("B", 2.0)):
        volume = respondcam.Volume(np.full((4, 5, 6), value), unit="mm")
        respondcam.write_volume(tmp_path / f"{name}.nii.gz", volume)
        command = command.replace(f'"{name}"', f'"{tmp_path}/{name}.nii.gz"')
    exec(command.replace("AB", f"{tmp_path}/AB"), {"respondcam": respondcam, "numpy": np})
    both = respondcam.read_volume(tmp_path / "AB.nii.gz")
    assert both.voxels[:, 0, 0, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "first", [nn.Conv3d(1, 2, 1), nn.BatchNorm3d(1), nn.AvgPool3d(2), nn.ConvTranspose3d(1, 2, 2)]
)
@pytest.mark.parametrize("shape", [(8, 8, 8), (1, 1, 1, 8, 8, 8)])
def test_missing_axes_are_named(first: nn.Module, shape: tuple[int, ...]) -> None:
    model = pooled(first, nn.ReLU()).eval()
    with pytest.raises(ModelError, match=r"takes \(batch, channel, \*spatial\).*x\[None, None\]"):
        RespondCAM(model, "1")(torch.rand(shape))


@pytest.mark.parametrize("last", [3, 4])
def test_channels_behind_the_voxels_are_seen(last: int) -> None:
    model = pooled(nn.Conv3d(1, 2, 1))
    with pytest.raises(ModelError, match=f"last axis has {last} entries.*Channels come first"):
        RespondCAM(model)(torch.rand(1, 16, 16, 16, last))
    with pytest.raises(ModelError, match=f"has {last} channels, and the network takes 1"):
        RespondCAM(model)(torch.rand(1, last, 16, 16, 16))


def test_what_a_network_logs_is_not_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("torch._subclasses.fake_tensor")

    class Talking(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logger.error("in this thread")
            other = threading.Thread(target=logger.error, args=("in another",))
            other.start()
            other.join()
            return x

    model = nn.Sequential(nn.Conv1d(1, 2, 1), Talking(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    logger.addHandler(caplog.handler)  # PyTorch's loggers do not propagate
    try:
        RespondCAM(model)(torch.rand(1, 1, 4))
        said = [record.getMessage() for record in caplog.records]
        caplog.clear()
        logger.error("behind it")
    finally:
        logger.removeHandler(caplog.handler)
    assert said.count("in another") == said.count("in this thread") > 0
    assert [record.getMessage() for record in caplog.records] == ["behind it"]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_networks_without_values_say_so_and_stay_so(device: str) -> None:
    first = nn.LazyConv3d(2, 1) if device == "cpu" else nn.Conv3d(1, 2, 1, device=device)
    model = pooled(first)
    with pytest.raises(ModelError, match="parameters without values"):
        RespondCAM(model)(torch.rand(1, 1, 4, 4, 4))
    with pytest.raises(ModelError, match="parameters without values"):
        respondcam.inspect(model, torch.rand(1, 1, 4, 4, 4))
    assert first.weight.is_meta or first.has_uninitialized_params()
    if device == "cpu":
        with torch.no_grad():
            model(torch.rand(1, 1, 4, 4, 4))
        RespondCAM(model)(torch.rand(1, 1, 4, 4, 4))


class Leaving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.conv(x)
        raise SystemExit(4)


@pytest.mark.parametrize("layer", [None, "conv"])
def test_the_end_of_a_program_is_left_to_it_but_for_the_command_line(layer: str | None) -> None:
    model, x = Leaving().train(), torch.rand(1, 1, 4, 4, 4)
    with pytest.raises(SystemExit):
        RespondCAM(model, layer)(x)
    with at_the_command_line(), pytest.raises(ModelError, match="SystemExit: 4"):
        RespondCAM(model, layer)(x)
    assert model.training


@pytest.mark.parametrize("layer", [None, "conv"])
@pytest.mark.parametrize(("output", "words"), [("cat", "is a str"), (None, "is None")])
def test_an_output_without_a_tensor_is_named(output: object, words: str, layer: str | None) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 1)

        def forward(self, x: torch.Tensor) -> object:
            self.conv(x)
            return output

    with pytest.raises(InputError, match=f"output {words}, in which there is no tensor"):
        RespondCAM(Odd(), layer)(torch.rand(1, 1, 4, 4, 4))

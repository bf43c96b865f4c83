"""VGG-16 on photographs: the network of the published weights, the images, and offline."""

import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from respondcam.errors import InputError, ModelError
from respondcam.network.vgg import VGG16, scale_random_weights
from respondcam.paper import natural_images
from respondcam.paper.natural_images import (
    list_images,
    load_vgg16,
    read_photograph,
    reproduce_natural_images,
)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of the filters, and no network."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(natural_images, "VGG16", lambda: VGG16(width=1 / 16))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)


def photograph(path: Path, size: tuple[int, int] = (300, 260), mode: str = "RGB") -> Path:
    y, x = np.mgrid[: size[1], : size[0]]
    picture = np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    Image.fromarray(picture).convert(mode).save(path)
    return path


def test_names_and_sizes_are_those_of_the_published_weights() -> None:
    with torch.device("meta"):
        network = VGG16()
    state = network.state_dict()
    convolutions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    layers = [f"features.{n}" for n in convolutions] + [f"classifier.{n}" for n in (0, 3, 6)]
    assert list(state) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert sum(value.numel() for value in state.values()) == 138_357_544  # as published
    assert state["classifier.0.weight"].shape == (4096, 25088)
    assert state["features.28.weight"].shape == (512, 512, 3, 3)


def test_random_weights_keep_the_signal_alive() -> None:
    network = VGG16(classes=10, width=1 / 8)
    scale_random_weights(network, seed=0)
    with torch.inference_mode():
        scores = network.eval()(torch.randn(2, 3, 224, 224))
    assert 0.1 < scores.std().item() < 20


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_the_middle_of_a_photograph_is_read(tmp_path: Path, mode: str) -> None:
    picture = read_photograph(photograph(tmp_path / "one.png", mode=mode))
    assert picture.shape == (3, 224, 224)
    assert 0 <= picture.min() < picture.max() <= 1


def test_a_wide_photograph_keeps_its_proportions(tmp_path: Path) -> None:
    picture = np.zeros((256, 1000, 3), np.uint8)
    picture[:, 400:600] = 255  # 200 wide, in the middle
    Image.fromarray(picture).save(tmp_path / "wide.png")
    read = read_photograph(tmp_path / "wide.png")
    assert int((read[0, 112] > 0.5).sum()) == 200


def test_figures_offline_say_that_the_weights_are_random(narrow: None, tmp_path: Path) -> None:
    first = photograph(tmp_path / "one.png")
    (tmp_path / "more").mkdir()
    photograph(tmp_path / "more" / "one.jpg", (224, 500))
    said: list[str] = []
    found = reproduce_natural_images([first, tmp_path / "more"], tmp_path / "out", tell=said.append)
    assert "random weights" in said[0]
    assert "no route to host" in said[0]
    assert [one.figure.name for one in found] == ["one.png", "one-2.png"]
    for one in found:
        assert one.figure.read_bytes()[:4] == b"\x89PNG"
        # a network of ReLUs with small biases: Respond-CAM's sum follows the score
        assert one.respond_sum == pytest.approx(one.score, rel=0.1)
    assert load_vgg16(None, seed=0)[1].startswith("random weights")


def test_weights_from_a_file(narrow: None, tmp_path: Path) -> None:
    trained = VGG16(width=1 / 16)
    save_file(trained.state_dict(), tmp_path / "vgg.safetensors")
    network, note = load_vgg16(tmp_path / "vgg.safetensors", seed=0)
    assert note == ""
    torch.testing.assert_close(network.state_dict(), trained.state_dict())
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError):
        load_vgg16(tmp_path / "other.safetensors", seed=0)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    with pytest.raises(InputError, match=r"text.png.*cannot be read as an image"):
        read_photograph(tmp_path / "text.png")
    with pytest.raises(InputError, match="There is no image or folder"):
        list_images([tmp_path / "absent.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        list_images([tmp_path / "empty"])
    assert list_images([])[0].is_file()

"""Keras files: the same scores and the same maps as PyTorch networks with the same weights."""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from respondcam.attribution import Explanation, GradCAM, RespondCAM
from respondcam.errors import ModelError, RespondCAMWarning
from respondcam.network.keras_files import load_keras
from respondcam.network.keras_model import KerasNetwork
from respondcam.network.paper import cnn_1, cnn_2
from respondcam.network.sources import load_model

os.environ.setdefault("KERAS_BACKEND", "torch")
keras: Any = pytest.importorskip("keras")
L = keras.layers
# of Keras itself, when it hands its weights to NumPy
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


def saved(path: Path, layers: Sequence[Any], shape: tuple[int | None, ...]) -> Path:
    model = keras.Sequential([keras.Input(shape), *layers])
    model.save(path)
    return path


def convolution(name: str, conv: nn.Conv3d) -> list[Any]:
    """Padding of its own: "same" of Keras is another one where the stride is two."""
    return [
        L.ZeroPadding3D(conv.padding),
        L.Conv3D(conv.out_channels, conv.kernel_size, conv.stride, activation="relu", name=name),
    ]


def copied(layer: Any, module: nn.Conv3d | nn.Linear, flattened: int | None = None) -> None:
    """Give a Keras layer the weights of a PyTorch one."""
    weight = module.weight.detach()
    if weight.ndim == 5:
        weight = weight.movedim((0, 1), (-1, -2))
    elif flattened:  # the first dense layer: channels come last in Keras
        channels = weight.shape[1] // flattened**3
        cube = (channels, flattened, flattened, flattened)
        weight = weight.unflatten(1, cube).movedim(1, -1).flatten(1).T
    else:
        weight = weight.T
    bias = module.bias
    assert bias is not None
    layer.set_weights([weight.numpy(), bias.detach().numpy()])


def publication(path: Path, twin: nn.Module) -> Path:
    """Save the Keras model with the publication's names and the weights of `twin`."""
    parts: dict[str, Any] = dict(twin.named_children())
    layers: list[Any] = []
    for name, part in parts.items():
        if name.startswith("conv"):
            layers += convolution(name, part.conv)
        elif name.startswith("maxpool"):
            layers.append(L.MaxPooling3D(2, name=name))
        elif name == "flatten":
            layers.append(L.Flatten(name=name))
        elif name.startswith("fc"):
            linear = part if isinstance(part, nn.Linear) else part.linear
            kind = "softmax" if isinstance(part, nn.Linear) else "relu"
            layers.append(L.Dense(linear.out_features, activation=kind, name=name))
    model = keras.Sequential([keras.Input((16, 16, 16, 1)), *layers])
    for layer in model.layers:
        part = parts.get(layer.name)
        if layer.name.startswith("conv"):
            copied(layer, part.conv)
        elif layer.name.startswith("fc"):
            linear = part if isinstance(part, nn.Linear) else part.linear
            edge = round((linear.in_features / 64) ** (1 / 3)) if layer.name == "fc1" else None
            copied(layer, linear, edge)
    model.save(path)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("make", [cnn_1, cnn_2])
def test_the_publications_networks_give_identical_maps(
    make: Any, suffix: str, tmp_path: Path
) -> None:
    twin = make(3, 16)
    with pytest.warns(RespondCAMWarning, match="softmax"):
        network = load_keras(publication(tmp_path / f"net{suffix}", twin))
    x = torch.randn(2, 1, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), twin(x), rtol=1e-5, atol=1e-6)
    for layer in ("conv1", "conv2", "maxpool1", "maxpool2"):
        for method in (GradCAM, RespondCAM):
            ours, theirs = (method(one, layer=layer)(x, target="all") for one in (twin, network))
            assert isinstance(ours, Explanation)
            assert isinstance(theirs, Explanation)
            torch.testing.assert_close(theirs.maps, ours.maps, rtol=1e-4, atol=1e-7)
            assert theirs.grid.stride == ours.grid.stride
            assert theirs.grid.offset == ours.grid.offset


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (lambda: [L.Conv1D(4, 4, 2, "same"), L.GlobalMaxPooling1D(), L.Dense(2)], (None, 3)),
        (
            lambda: [
                L.ZeroPadding2D(((1, 0), (2, 3))),
                L.Conv2D(4, (3, 2), (2, 1), "same", use_bias=False),
                L.BatchNormalization(),
                L.LeakyReLU(),
                L.AveragePooling2D(2),
                L.SpatialDropout2D(0.5),
                L.GlobalAveragePooling2D(),
                L.Dense(2),
            ],
            (15, 17, 3),
        ),
        (
            lambda: [
                L.Conv3D(4, 3, dilation_rate=2, padding="same", groups=2),
                L.BatchNormalization(scale=False),
                L.Activation("elu"),
                L.MaxPooling3D(3, 2, "same"),
                L.Flatten(),
                L.Dropout(0.5),
                L.Dense(5, activation="tanh"),
                L.BatchNormalization(center=False),
                L.Dense(2, use_bias=False),
            ],
            (7, 8, 9, 2),
        ),
    ],
)
def test_layers_are_translated(layers: Any, shape: tuple[int | None, ...], tmp_path: Path) -> None:
    path = saved(tmp_path / "net.keras", layers(), shape)
    original = keras.models.load_model(path)
    for layer in original.layers:  # statistics and offsets that are not the initial ones
        drawn = [np.random.default_rng(1).uniform(0.2, 1, one.shape) for one in layer.get_weights()]
        layer.set_weights(drawn)
    original.save(path)
    network = load_keras(path)
    size = [12 if one is None else one for one in shape]
    x = np.random.default_rng(2).normal(size=(3, *size)).astype(np.float32)
    expected = original(x, training=False).detach().numpy()
    with torch.inference_mode():
        found = network(torch.tensor(np.moveaxis(x, -1, 1).copy())).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_by_its_address(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "net.keras", [L.Conv3D(2, 3, name="c"), L.Flatten(name="f")], (4, 4, 4, 1)
    )
    loaded = load_model(f"keras:{path}")
    assert [name for name, _ in loaded.module.named_children()] == ["c", "f"]
    with pytest.raises(ModelError, match="takes no arguments"):
        load_model(f"keras:{path}", arguments={"classes": 2})


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_keras(tmp_path / "absent.h5")
    (tmp_path / "net.txt").write_text("", encoding="utf-8")
    with pytest.raises(ModelError, match="is no Keras file"):
        load_keras(tmp_path / "net.txt")
    for config in ("{}", "[]", "null", '{"class_name": "Dense"}'):
        with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("metadata.json", "{}")
        with pytest.raises(ModelError, match="holds no configuration of a network"):
            load_keras(tmp_path / "empty.keras")
    with zipfile.ZipFile(tmp_path / "layer.keras", "w") as archive:
        layer = {"module": "keras.layers", "class_name": "ReLU", "config": {"name": "r"}}
        archive.writestr("config.json", json.dumps(layer))
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ModelError, match="holds no network: its configuration is that of ReLU"):
        load_keras(tmp_path / "layer.keras")
    (tmp_path / "broken.keras").write_text("no archive", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        load_keras(tmp_path / "broken.keras")
    path = saved(tmp_path / "lstm.keras", [L.LSTM(2)], (4, 1))
    with pytest.raises(ModelError, match="of kind LSTM"):
        load_keras(path)
    path = saved(tmp_path / "odd.keras", [L.Dense(2, activation="mish")], (4,))
    with pytest.raises(ModelError, match="activation 'mish'"):
        load_keras(path)


@pytest.mark.parametrize(
    ("layers", "shape", "words"),
    [
        (
            lambda: [L.AveragePooling2D(2, padding="same")],
            (5, 5, 1),
            "Average pooling with",
        ),
        (lambda: [L.Conv1D(2, 3, padding="causal")], (9, 1), "Padding 'causal' is not supported"),
        (lambda: [L.Dense(3), L.ReLU(threshold=0.1)], (4,), "A ReLU layer with a threshold"),
        (lambda: [L.GlobalMaxPooling1D(keepdims=True)], (9, 2), r"scores of shape \(2, 2\), not"),
        (lambda: [L.Dense(2)], (9, 5), "cannot be translated exactly"),
    ],
)
def test_options_that_are_not_translated_are_no_map(
    tmp_path: Path, layers: Any, shape: tuple[int, ...], words: str
) -> None:
    path = saved(tmp_path / "odd.keras", layers(), shape)
    with pytest.raises(ModelError, match=rf"odd\.keras.*{words}|^{words}"):
        load_keras(path)


@pytest.mark.parametrize("options", [{}, {"max_value": 0.1}, {"negative_slope": 0.3}])
def test_options_of_a_relu_are_kept(tmp_path: Path, options: dict[str, float]) -> None:
    """Checked on values that reach them, which a random network's may not."""
    network = load_keras(saved(tmp_path / "relu.keras", [L.Dense(3), L.ReLU(**options)], (4,)))
    relu = [
        one for one in network.modules() if isinstance(one, nn.ReLU | nn.Hardtanh | nn.LeakyReLU)
    ]
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(L.ReLU(**options)(x)))
    np.testing.assert_allclose(relu[0](torch.from_numpy(x)).numpy(), expected, rtol=1e-6)


def test_a_model_without_layers_is_none(tmp_path: Path) -> None:
    entry = keras.Input((4,))
    keras.Model(entry, entry).save(tmp_path / "empty.keras")
    with pytest.raises(ModelError, match=r"empty\.keras' holds no layers"):
        load_keras(tmp_path / "empty.keras")


def test_a_layer_that_is_used_twice_is_not_translated_into_one(tmp_path: Path) -> None:
    entry, dense = keras.Input((4,)), L.Dense(4)
    keras.Model(entry, dense(dense(entry))).save(tmp_path / "twice.keras")
    with pytest.raises(ModelError, match=r"exactly .*its layers are not one behind the other"):
        load_keras(tmp_path / "twice.keras")


def test_a_model_in_memory_with_branches_is_explained_as_it_is() -> None:
    entry = keras.Input((6, 6, 6, 1))
    first = L.Conv3D(3, 3, padding="same", activation="relu", name="first")(entry)
    second = L.Conv3D(3, 1, name="second")(entry)
    joined = L.Add(name="sum")([first, second])
    scores = L.Dense(2, name="scores")(L.GlobalAveragePooling3D(name="pool")(joined))
    model = keras.Model(entry, scores)
    network = KerasNetwork(model)
    assert {"first", "second", "sum", "pool", "scores"} <= dict(network.named_children()).keys()
    x = torch.randn(2, 1, 6, 6, 6)
    expected = model(x.movedim(1, -1), training=False).detach()
    torch.testing.assert_close(network(x).detach(), expected)
    explained = RespondCAM(network, layer="sum")(x, target="all")
    assert isinstance(explained, Explanation)
    # behind it the network is linear, so that nothing is left over
    torch.testing.assert_close(explained.account.gap, torch.zeros(2, 2).double(), rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match=r"Keras model hides its layers .*KerasNetwork\(model\)"):
        RespondCAM(model)


def test_dense_scores_of_a_model_in_memory_have_channels_first() -> None:
    model = keras.Sequential([keras.Input((5, 6, 1)), L.Conv2D(3, 3, padding="same")])
    assert KerasNetwork(model)(torch.randn(2, 1, 5, 6)).shape == (2, 3, 5, 6)
    with pytest.raises(ModelError, match="no forward pass without data"):
        KerasNetwork(model)(torch.randn(2, 1, 5, 6, device="meta"))


def test_what_is_no_keras_model_of_this_backend() -> None:
    with pytest.raises(ModelError, match="Linear is no Keras model, but may be used as it is"):
        KerasNetwork(nn.Linear(2, 2))
    other = type("Model", (), {"__module__": "keras.src.models.model"})()
    with pytest.raises(ModelError, match=r"another backend than torch.*KERAS_BACKEND=torch"):
        KerasNetwork(other)


def test_a_file_that_declares_more_weights_than_it_holds(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.keras", [L.Dense(2, name="d")], (4,))
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    config = members["config.json"].replace(b'"units": 2', b'"units": 2000000')
    assert config != members["config.json"]
    lies = members["config.json"].replace(
        b'"input_shape": [null, 4]', b'"input_shape": [null, 2147483648]'
    )
    assert lies != members["config.json"]
    for name, changed in (
        ("lying.keras", members | {"config.json": lies}),
        ("wide.keras", members | {"config.json": config}),
        ("bare.keras", {name: data for name, data in members.items() if name != "config.json"}),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, data in changed.items():
                archive.writestr(member, data)
    with pytest.raises(ModelError, match=r"declares 10000000 weights, more than its \d+ bytes"):
        load_keras(tmp_path / "wide.keras")
    with pytest.raises(ModelError, match="holds no configuration of a network"):
        load_keras(tmp_path / "bare.keras")
    with pytest.raises(ModelError, match=r"lying.keras' cannot be built: .*2147483648"):
        load_keras(tmp_path / "lying.keras")
    saved(tmp_path / "vast.keras", [L.GlobalAveragePooling3D(), L.Dense(2)], (2048, 2048, 2048, 1))
    with pytest.raises(ModelError, match=r"fixes an input of shape \(2048, 2048, 2048, 1\)"):
        load_keras(tmp_path / "vast.keras")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(1 << 27))
    with pytest.raises(ModelError, match=r"unpacks to \d+ bytes, many times its own size"):
        load_keras(tmp_path / "bomb.keras")


def test_branches_are_not_translated_into_something_else(tmp_path: Path) -> None:
    entry = keras.Input((6, 6, 6, 1))
    first = L.Conv3D(1, 3, padding="same")(entry)
    second = L.Conv3D(1, 3, padding="same")(entry)
    keras.Model(entry, L.Add()([first, second])).save(tmp_path / "branch.keras")
    with pytest.raises(ModelError, match="of kind Add"):
        load_keras(tmp_path / "branch.keras")
    # layers that could stand in a row, but do not
    model = keras.Model(entry, L.Conv3D(1, 3, padding="same")(L.ReLU()(entry)))
    hidden = keras.Model(entry, [first, second])
    hidden.save(tmp_path / "two.keras")
    with pytest.raises(ModelError, match="several inputs or outputs"):
        load_keras(tmp_path / "two.keras")
    model.save(tmp_path / "row.keras")
    assert isinstance(load_keras(tmp_path / "row.keras"), nn.Module)

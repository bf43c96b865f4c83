"""The publication's networks: names, shapes, and values against a plain float64 re-computation."""

import pytest
import torch
import torch.nn.functional as F

from respondcam.errors import ModelError
from respondcam.network.paper import CNN1, CNN2, cnn_1, cnn_2
from respondcam.network.vgg import LAST_CONVOLUTION, VGG16, scale_random_weights

FIGURE_4 = ["input", "conv1", "conv2", "maxpool1", "conv3", "conv4", "maxpool2"]


def layer_outputs(network, names, x):
    outputs = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: outputs.__setitem__(name, output)
        )
        for name in names
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return outputs


def test_names_of_figure_4_are_layers_of_cnn1_with_the_published_shapes():
    outputs = layer_outputs(cnn_1(), FIGURE_4, torch.randn(1, 1, 40, 40, 40))
    assert [(name, *outputs[name].shape[1:3]) for name in FIGURE_4] == [
        ("input", 1, 40),
        ("conv1", 32, 40),
        ("conv2", 32, 40),
        ("maxpool1", 32, 20),
        ("conv3", 64, 20),
        ("conv4", 64, 20),
        ("maxpool2", 64, 10),
    ]


@pytest.mark.parametrize("network", [CNN1, CNN2])
def test_conv_layers_give_activations_and_scores_are_raw(network):
    network = network(5, size=16)
    x = torch.randn(3, 1, 16, 16, 16)
    names = [name for name, _ in network.named_children() if name.startswith("conv")]
    for name, output in layer_outputs(network, names, x).items():
        assert output.min() == 0, name
        assert output.max() > 0, name
    scores = network(x)
    head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.bias += torch.tensor([-50.0, 0.0, 50.0, 0.0, 0.0])
    # Raw: a bias of the head arrives unsquashed, whatever its sign.
    torch.testing.assert_close(
        network(x) - scores, torch.tensor([-50.0, 0.0, 50.0, 0.0, 0.0]).expand(3, 5)
    )


def test_cnn1_equals_its_layers_written_out():
    torch.manual_seed(1)
    network = CNN1(4, in_channels=2, size=12).double()
    x = torch.randn(2, 2, 12, 12, 12, dtype=torch.float64)
    w = network.state_dict()
    h = x
    for name in ("conv1", "conv2", "pool", "conv3", "conv4", "pool"):
        if name == "pool":
            h = h.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).flatten(5).amax(5)
        else:
            weight, bias = w[f"{name}.conv.weight"], w[f"{name}.conv.bias"]
            h = F.conv3d(h, weight, bias, padding=1).clamp(min=0)
    h = h.reshape(2, -1)
    for name in ("fc1", "fc2"):
        h = (h @ w[f"{name}.linear.weight"].T + w[f"{name}.linear.bias"]).clamp(min=0)
    torch.testing.assert_close(network(x), h @ w["fc3.weight"].T + w["fc3.bias"])


def test_cnn2_has_its_grid_of_five_cells_and_is_smaller_than_cnn1():
    outputs = layer_outputs(
        cnn_2(), ["conv1", "maxpool1", "maxpool2"], torch.randn(1, 1, 40, 40, 40)
    )
    assert {name: output.shape[-1] for name, output in outputs.items()} == {
        "conv1": 20,
        "maxpool1": 10,
        "maxpool2": 5,
    }
    count = [sum(p.numel() for p in network.parameters()) for network in (cnn_1(), cnn_2())]
    assert count[1] < count[0] / 5


@pytest.mark.parametrize("size", [9, 17, 30, 33])
@pytest.mark.parametrize("network", [CNN1, CNN2])
def test_sizes_that_the_strides_do_not_divide_work(network, size):
    assert network(3, size=size)(torch.randn(1, 1, size, size, size)).shape == (1, 3)


@pytest.mark.parametrize("network", [CNN1, CNN2])
@pytest.mark.parametrize(
    "shape", [(1, 1, 16, 16, 17), (1, 1, 32, 32, 32), (1, 2, 16, 16, 16), (1, 1, 16, 16)]
)
def test_an_input_of_another_shape_is_an_error_that_names_both_shapes(network, shape):
    with pytest.raises(ModelError) as error:
        network(2, size=16)(torch.zeros(shape))
    assert str(shape) in str(error.value)
    assert "(batch, 1, 16, 16, 16)" in str(error.value)


@pytest.mark.parametrize("wrong", [{"size": 3}, {"classes": 0}, {"in_channels": 0}])
@pytest.mark.parametrize("network", [CNN1, CNN2])
def test_sizes_that_make_no_network_are_errors(network, wrong):
    with pytest.raises(ModelError, match=str(next(iter(wrong.values())))):
        network(**wrong)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    network = CNN2(3, size=16, dropout=0.5)
    x = torch.randn(1, 1, 16, 16, 16)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_vgg_16_has_its_layers_and_random_weights_that_keep_the_signal():
    network = VGG16(10, width=0.125)
    convolutions = [m for m in network.features if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels * 8 for m in convolutions] == [
        64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512,
    ]  # fmt: skip
    assert isinstance(network.get_submodule(LAST_CONVOLUTION), torch.nn.ReLU)
    scale_random_weights(network, seed=1)
    weights = [p.clone() for p in network.parameters()]
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = layer_outputs(network.eval(), ["features.1", LAST_CONVOLUTION, "classifier.4"], x)
        assert network(x).shape == (2, 10)
    for output in seen.values():
        assert 0.2 < output.square().mean() < 5
    scale_random_weights(network, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True))
    scale_random_weights(network, seed=2)
    assert not torch.equal(weights[0], next(network.parameters()))

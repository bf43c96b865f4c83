"""The measured calibration against networks whose centres are known."""

import pytest
import torch
from torch import nn

from respondcam.errors import LayerError, PlacementWarning
from respondcam.network.calibration import measure_grid
from respondcam.network.grid import LayerGrid
from respondcam.network.layout import trace_layers

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def looking_aside(rank: int, channels: int, into: int) -> nn.Module:
    """A convolution k5 s2 p2 that looks one voxel to the right along every axis."""
    conv = CONV[rank](into, channels, 5, 2, 2, bias=False)
    line = torch.tensor([0.0, 0.0, 0.25, 0.5, 0.25])
    kernel = line
    for _ in range(rank - 1):
        kernel = kernel[..., None] * line
    signs = torch.randn(channels, into, *[1] * rank, generator=torch.Generator().manual_seed(0))
    conv.weight.data = signs * kernel
    return conv


def traced(model: nn.Module, layer: nn.Module, x: torch.Tensor) -> LayerGrid:
    return trace_layers(model, {"layer": layer}, x)["layer"].grid


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_known_shift_is_found(rank):
    # one voxel of the input, then one of the first layer: 1 + 2
    model = nn.Sequential(looking_aside(rank, 3, 1), looking_aside(rank, 4, 3), nn.Flatten())
    x = torch.rand(2, 1, *[40, 48, 44][:rank], generator=torch.Generator().manual_seed(1))
    grid = traced(model, model[1], x)
    assert grid.stride == (4.0,) * rank
    assert grid.offset == (0.0,) * rank
    found = measure_grid(model, model[1], x, grid)
    assert found.origin == "measured"
    assert found.stride == grid.stride
    assert found.shape == grid.shape
    assert found.offset == pytest.approx((3.0,) * rank, abs=0.05)
    assert found.uncertainty == pytest.approx((0.0,) * rank, abs=0.05)
    order = " (z, y, x)" if rank == 3 else ""
    assert found.note.startswith("the map was moved by +3.0")
    assert f" voxels{order} against the layout, measured on the gradients of at " in found.note


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d, lambda c: nn.GroupNorm(1, c)])
def test_norms_that_mix_globally_do_not_pull_it_to_the_middle(norm):
    torch.manual_seed(0)
    model = nn.Sequential(
        looking_aside(2, 8, 1), norm(8), nn.ReLU(), looking_aside(2, 8, 8), norm(8)
    )
    x = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    grid = traced(model, model[4], x)
    found = measure_grid(model, model[4], x, grid)
    assert found.offset == pytest.approx((3.0, 3.0), abs=0.5)


def test_rectifiers_only_scatter_it():
    torch.manual_seed(0)
    layers = [looking_aside(1, 8, 1), nn.ReLU(), looking_aside(1, 16, 8), nn.ReLU()]
    model = nn.Sequential(*layers)
    x = torch.rand(8, 1, 80, generator=torch.Generator().manual_seed(1))
    found = measure_grid(model, model[3], x, traced(model, model[3], x))
    assert found.offset == pytest.approx((3.0,), abs=0.5)
    assert found.uncertainty[0] < 1


def test_the_order_of_magnitude_of_activations_does_not_matter():
    model = nn.Sequential(looking_aside(1, 4, 1)).double()
    x = torch.rand(1, 1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grid = traced(model, model[0], x)
    reference = measure_grid(model, model[0], x, grid).offset
    with torch.no_grad():
        model[0].weight.mul_(1e-100)
    assert measure_grid(model, model[0], x, grid).offset == pytest.approx(reference)


def test_tokens_and_models_with_several_inputs():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix = looking_aside(2, 4, 1), nn.Linear(4, 4)

        def forward(self, meta, image):
            tokens = self.embed(image).flatten(2).transpose(1, 2)
            return self.mix(tokens) * meta[:, None]

    model = Tokens()
    inputs = {"meta": torch.rand(2, 4), "image": torch.rand(2, 1, 20, 24)}
    grid = traced(model, model.mix, inputs)
    found = measure_grid(model, model.mix, inputs, grid)
    assert found.offset == pytest.approx((1.0, 1.0), abs=1e-3)


def test_calls_of_one_layer():
    shared = looking_aside(1, 1, 1)
    model = nn.Sequential(shared, shared)
    x = torch.rand(1, 1, 40)
    calls = trace_layers(model, {"shared": shared}, x)["shared"].calls
    offsets = [
        measure_grid(model, shared, x, call.grid, number=number).offset[0]
        for number, call in enumerate(calls)
    ]
    assert offsets == pytest.approx([1.0, 3.0], abs=0.01)
    with pytest.raises(LayerError, match="grid"):
        measure_grid(model, shared, x, calls[0].grid, number=2)


def test_a_blind_layer_keeps_its_place_with_a_warning():
    conv = nn.Conv1d(1, 2, 3, 2, 1)
    model = nn.Sequential(conv, nn.ReLU())
    nn.init.constant_(conv.bias, -1e9)
    x = torch.rand(1, 1, 21)
    grid = traced(model, model[1], x)
    with pytest.warns(PlacementWarning, match="cannot be located"):
        found = measure_grid(model, model[1], x, grid)
    assert found.offset == grid.offset


def test_a_layer_behind_a_wall():
    class Wall(nn.Module):
        def forward(self, x):
            return x.detach()

    model = nn.Sequential(Wall(), nn.Conv1d(1, 2, 3, 2, 1))
    x = torch.rand(1, 1, 21)
    with pytest.raises(LayerError, match="no gradient"):
        measure_grid(model, model[1], x, traced(model, model[1], x))


def test_blocks_without_gradient_inside_the_model_are_seen_through():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = looking_aside(1, 2, 1)

        def forward(self, x):
            with torch.no_grad():
                return self.conv(x)

    model = nn.Sequential(Frozen(), nn.ReLU(inplace=True))
    x = torch.rand(1, 1, 40)
    with torch.inference_mode():
        found = measure_grid(model, model[0], x, traced(model, model[0], x))
    assert found.offset == pytest.approx((1.0,), abs=1e-3)


def test_inputs_of_another_shape_than_the_grid():
    model = nn.Sequential(nn.Conv1d(1, 2, 3, 2, 1))
    grid = traced(model, model[0], torch.zeros(1, 1, 21))
    with pytest.raises(LayerError, match="shape"):
        measure_grid(model, model[0], torch.zeros(1, 1, 22), grid)


def test_the_model_and_the_inputs_are_untouched():
    model = nn.Sequential(nn.ReLU(inplace=True), looking_aside(1, 2, 1), nn.BatchNorm1d(2)).train()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    x = torch.randn(2, 1, 40)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    copy, chance = x.clone(), torch.get_rng_state()
    measure_grid(model, model[2], x, traced(model, model[2], x))
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(x, copy)
    assert x.grad is None
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), chance)

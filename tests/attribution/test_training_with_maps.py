"""Maps with a graph: their gradients against finite differences, and their use in a loss."""

import copy
import gc
import itertools
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import respondcam as rc
from respondcam.attribution.placing import place
from respondcam.errors import InputError, ModelError

METHODS = ["respond", "integrated-respond", "grad", "grad++", "hires", "layer"]


def network(rank: int = 3, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Trunk, layer "2" and a head that is not linear; the map depends on every weight twice."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    model = nn.Sequential(
        conv(2, 3, 2),
        norm(3),
        activation(),
        nn.Flatten(),
        nn.Linear(3 * 4**rank, 4),
        nn.Softplus(),
        nn.Dropout(0.5),
        nn.Linear(4, 2),
    )
    return model.double().train()


def image(rank: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, *[5] * rank, dtype=torch.float64)


def loss_of(explainer: Any, x: Tensor, weights: Tensor) -> Tensor:
    found = explainer(x, target=1, create_graph=True)
    return (weights * found.maps).sum() + found.maps.square().sum() + found.scores.sum()


def central_difference(
    function: Any, tensor: Tensor, direction: Tensor, step: float = 1e-6
) -> float:
    data, values = tensor.detach(), []
    for sign in (1, -2):
        data.add_(direction, alpha=sign * step)
        values.append(float(function()))
    data.add_(direction, alpha=step)
    return (values[0] - values[1]) / (2 * step)


def check_against_differences(explainer: Any, x: Tensor) -> None:
    parameters = list(explainer.model.parameters())
    weights = torch.randn(explainer(x, target=1).maps.shape, dtype=torch.float64)
    x.requires_grad_(True)
    found = torch.autograd.grad(loss_of(explainer, x, weights), [*parameters, x])
    for tensor, gradient in zip([*parameters, x], found, strict=True):
        assert bool(gradient.isfinite().all())
        direction = torch.randn_like(tensor)
        expected = central_difference(
            lambda: loss_of(explainer, x, weights).detach(), tensor, direction
        )
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_equal_finite_differences(method: str, rank: int) -> None:
    check_against_differences(rc.METHODS[method](network(rank), layer="2"), image(rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_signed_layer(rank: int) -> None:
    """Negative values in the layer: the signed form."""
    check_against_differences(rc.RespondCAM(network(rank, nn.Tanh), layer="2"), image(rank))


def test_paper_quotient() -> None:
    explainer = rc.RespondCAM(network(2, nn.Tanh), layer="2", denominator="paper")
    check_against_differences(explainer, image(2))


def test_placed_maps() -> None:
    explainer = rc.RespondCAM(network(2), layer="2")
    x = image(2, batch=1).requires_grad_(True)
    torch.autograd.gradcheck(lambda x: explainer(x, target=0, create_graph=True).place(), x)
    grid = explainer(x, target=0).grid
    maps = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda m: place(m, grid), maps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Softplus, nn.Identity])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silent_channels_give_finite_gradients(
    method: str, activation: type[nn.Module], dtype: torch.dtype
) -> None:
    """Channels that are zero, or so nearly zero that the inverse of their sum overflows."""
    model = network(2, activation).to(dtype)
    with torch.no_grad():
        model[1].weight[0], model[1].bias[0] = 0, -95.0 if dtype is torch.float32 else -720.0
        model[1].weight[1], model[1].bias[1] = 0, 0
    x = image(2).to(dtype).requires_grad_(True)
    found = rc.METHODS[method](model, layer="2")(x, target=1, create_graph=True)
    found.maps.square().sum().backward()
    reached = [t for t in (x, *model.parameters()) if t.grad is not None]
    assert len(reached) >= 8  # all but the last bias
    assert all(bool(t.grad.isfinite().all()) for t in reached)
    assert float(model[4].weight.grad.abs().sum()) > 0


def test_equals_the_map_without_a_graph_and_leaves_the_model_alone() -> None:
    model, x = network(), image()
    before = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    for method in METHODS:
        explainer = rc.METHODS[method](model, layer=["0", "2"] if method == "respond" else "2")
        plain, kept = explainer(x, target="all"), explainer(x, target="all", create_graph=True)
        pairs = (
            [(plain, kept)] if isinstance(plain, rc.Explanation) else zip(plain, kept, strict=True)
        )
        for one, other in pairs:
            torch.testing.assert_close(one.maps, other.maps.detach(), rtol=1e-12, atol=1e-14)
            assert other.maps.requires_grad
            assert other.scores.requires_grad
            assert not one.maps.requires_grad
            torch.testing.assert_close(one.account.gap, other.account.gap)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()


def test_frozen_parameters() -> None:
    model, x = network(2), image(2)
    explainer = rc.RespondCAM(model, layer="2")
    everything = torch.autograd.grad(
        explainer(x, target=0, create_graph=True).maps.square().sum(), list(model.parameters())[:-1]
    )
    model[:3].requires_grad_(False)
    explainer(x, target=0, create_graph=True).maps.square().sum().backward()
    for parameter, expected in zip(list(model.parameters())[:-1], everything, strict=True):
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected)
        else:
            assert parameter.grad is None
    model.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter of the model and no input requires"):
        explainer(x, target=0, create_graph=True)
    found = explainer(x.requires_grad_(True), target=0, create_graph=True)
    assert float(torch.autograd.grad(found.maps.square().sum(), x)[0].abs().sum()) > 0


def test_under_autocast() -> None:
    model, x = network(2).float(), image(2).float()
    explainer = rc.RespondCAM(model, layer="2")

    def gradients() -> list[Tensor]:
        maps = explainer(x, target=0, create_graph=True).maps
        assert maps.dtype == torch.float32
        return list(torch.autograd.grad(maps.square().sum(), list(model.parameters())[:-1]))

    expected = gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0.1, atol=0.05 * float(other.abs().max()) + 1e-6
        )


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2))[:, None].chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed[:, 0].mean(dim=1))


def test_through_fused_attention() -> None:
    """Its fused kernels have no second derivative."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), Attention()).double()
    check_against_differences(rc.RespondCAM(model, layer="1"), image(2))


class WritesInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.mul_(2))


def test_a_model_that_writes_to_its_input() -> None:
    x = image(2)
    before = x.clone()
    check_against_differences(rc.RespondCAM(WritesInput(), layer="net.2"), x)
    torch.testing.assert_close(x.detach(), before)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network(2)

    def forward(self, x: Tensor) -> Tensor:
        below = checkpoint(self.net[:2], x, use_reentrant=False)
        return self.net[2:](below)


def test_checkpointing_is_refused() -> None:
    """It would run the trunk again in training mode, and silently give other gradients."""
    explainer, x = rc.RespondCAM(Checkpointed(), layer="net.2"), image(2)
    explainer(x, target=0)
    with pytest.raises(ModelError, match="does not go with activation checkpointing"):
        explainer(x, target=0, create_graph=True)


def test_memory_is_released() -> None:
    """Nothing but the explanation holds the graph, and no cycle waits for the collector."""
    model, x = network(2), image(2).requires_grad_(True)
    explainer = rc.RespondCAM(model, layer="2")
    seen: list[weakref.ref[Tensor]] = []
    explainer(x, target=0)
    gc.collect()
    gc.disable()
    try:
        handle = model[1].register_forward_hook(lambda m, a, out: seen.append(weakref.ref(out)))
        found = explainer(x, target=0, create_graph=True)
        handle.remove()
        found.maps.sum().backward()
        del found
        assert seen
        assert all(reference() is None for reference in seen)
    finally:
        gc.enable()


def test_a_loss_pulls_the_map_into_a_mask() -> None:
    """Two blobs are both evidence; the loss asks for the map to lie on the fainter one."""
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool3d(2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    x, classes = 0.1 * torch.randn(8, 1, 8, 8, 8), torch.arange(8) % 2
    x[classes == 1, :, 1:4, 1:4, 1:4] += 1  # the structure
    x[classes == 1, :, 5:7, 5:7, 5:7] += 2  # a marker that comes with it
    mask = torch.zeros(8, 8, 8)
    mask[:5, :5, :5] = 1
    explainer = rc.RespondCAM(model, layer="4")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inside = []
    for _ in range(30):
        explanation = explainer(x, target=classes.tolist(), create_graph=True)
        placed = explanation.place()[classes == 1, 0].abs()
        share = (placed * mask).sum() / placed.sum()
        loss = nn.functional.cross_entropy(model(x), classes) + 2 * (1 - share)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        inside.append(float(share.detach()))
    assert inside[0] < 0.5
    assert inside[-1] > inside[0] + 0.2
    assert torch.equal(model(x).argmax(dim=1), classes)


def test_one_at_a_time_or_all_at_once() -> None:
    """Samples do not influence each other, nor do targets."""
    model, x = network(2), image(2)
    explainer = rc.RespondCAM(model, layer="2")
    together = explainer(x, target="all", create_graph=True).maps
    for sample, target in itertools.product(range(2), range(2)):
        alone = explainer(x[sample : sample + 1], target=target, create_graph=True).maps
        one, other = (
            torch.autograd.grad(m.square().sum(), model[0].weight, retain_graph=True)[0]
            for m in (alone[0, 0], together[sample, target])
        )
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("method", ["ablation", "score", "eigen", "occlusion"])
def test_methods_without_gradients_say_that_they_carry_no_graph(method: str) -> None:
    with pytest.raises(rc.InputError, match="carry no graph"):
        rc.METHODS[method](network(3))(image(3), target=0, create_graph=True)

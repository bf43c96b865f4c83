"""What comes through each input channel, against references written out one by one."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.errors import InputError


def network(rank: int = 3, channels: int = 3, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    layers = [conv(channels, 4, 3), activation(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(4 * 3**rank, 6), nn.Tanh(), nn.Linear(6, 3))
    return model.double().eval()


def image(rank: int = 3, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, *[5] * rank, dtype=torch.float64)


def slow_flow(model: nn.Module, x: Tensor, start: Tensor, target: int) -> Tensor:
    """A fine midpoint rule, (batch, channel)."""
    total = torch.zeros_like(x)
    for k in range(300):
        point = (start + (k + 0.5) / 300 * (x - start)).requires_grad_(True)
        total += torch.autograd.grad(model(point)[:, target].sum(), point)[0] / 300
    return ((x - start) * total).flatten(2).sum(dim=2)


def with_only(present: tuple[int, ...], x: Tensor, start: Tensor) -> Tensor:
    mixed = start.clone()
    for k in present:
        mixed[:, k] = x[:, k]
    return mixed


def slow_shapley(model: nn.Module, x: Tensor, start: Tensor, target: int) -> Tensor:
    """The mean over all orders of what each channel adds, (batch, channel)."""
    count = x.shape[1]
    found = torch.zeros(len(x), count, dtype=x.dtype)
    for order in itertools.permutations(range(count)):
        for place, k in enumerate(order):
            before, after = order[:place], order[: place + 1]
            rise = model(with_only(after, x, start)) - model(with_only(before, x, start))
            found[:, k] += rise[:, target].detach() / math.factorial(count)
    return found


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_equals_the_references(rank: int, baseline: str) -> None:
    model, x = network(rank), image(rank)
    start = torch.zeros_like(x)
    if baseline == "mean":
        start = start + x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
    explainer = rc.RespondCAM(model, layer="0")
    found = rc.channel_contributions(explainer, x, "all", baseline=baseline, nodes=64)
    assert found.names == ("channel 0", "channel 1", "channel 2")
    scores = model(x).detach()
    torch.testing.assert_close(found.score, scores)
    torch.testing.assert_close(found.baseline, model(start).detach())
    for target in range(3):
        flow = slow_flow(model, x, start, target)
        torch.testing.assert_close(found.flow[:, target], flow, rtol=0.01, atol=5e-3)
        torch.testing.assert_close(found.shapley[:, target], slow_shapley(model, x, start, target))
        for k in range(3):
            others = tuple(j for j in range(3) if j != k)
            expected = scores - model(with_only(others, x, start)).detach()
            torch.testing.assert_close(found.drop[:, target, k], expected[:, target])
    assert float((found.flow.sum(2) + found.flow_gap - scores + found.baseline).abs().max()) < 1e-12
    assert float(found.flow_gap.abs().max()) < 1e-2
    torch.testing.assert_close(found.shapley.sum(2), found.score - found.baseline)
    assert not torch.allclose(found.drop_gap, torch.zeros_like(found.drop_gap), atol=1e-3)


def test_one_node_is_input_times_gradient() -> None:
    model, x = network(2), image(2)
    found = rc.channel_contributions(rc.RespondCAM(model, layer="0"), x, 1, nodes=1)
    point = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(point)[:, 1].sum(), point)
    torch.testing.assert_close(found.flow[:, 0], (x * gradient).flatten(2).sum(dim=2))


def test_a_linear_network_by_hand() -> None:
    """Channel 0 counts three times, channel 1 not at all, channel 2 against the class."""
    model = nn.Sequential(nn.Conv1d(3, 1, 1), nn.Flatten(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([3.0, 0, -1]).view(1, 3, 1))
        model[0].bias.fill_(0.5)
        model[2].weight.fill_(1)
        model[2].bias.fill_(0)
    x = torch.tensor([[[1.0, 1, 0, 0], [5, 5, 5, 5], [0, 0, 1, 0]]])
    found = rc.channel_contributions(rc.RespondCAM(model, layer="0"), x, "value", nodes=2)
    for each in (found.flow, found.drop, found.shapley):
        torch.testing.assert_close(each[0, 0], torch.tensor([6.0, 0, -1], dtype=torch.float64))
    assert float(found.baseline) == 2.0
    assert found.columns()["flow"] == pytest.approx([6, 0, -1, 0])
    assert (
        found.lines().splitlines()[0] == "score 7.000 = baseline 2.000 + 5.000 through the channels"
    )


class Two(nn.Module):
    """A scan of two channels and the patient's age; a table of ints that is no channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv3d(2, 4, 3), nn.Linear(5, 2)

    def forward(self, scan: Tensor, age: Tensor, site: Tensor | None = None) -> dict[str, Tensor]:
        deep = torch.tanh(self.conv(scan)).mean(dim=(2, 3, 4))
        return {"scores": torch.tanh(self.last(torch.cat([deep, age], dim=1))), "aside": deep}


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_several_inputs(kind: str) -> None:
    model, scan, age = Two().double().eval(), torch.randn(2, 2, 5, 5, 5).double(), torch.ones(2, 1)
    site = torch.tensor([1, 2])
    values: dict[str, Any] = {"scan": scan, "age": age.double(), "site": site}
    inputs = values if kind == "dict" else tuple(values.values())
    explainer = rc.RespondCAM(model, layer="conv", output=lambda out: out["scores"])
    found = rc.channel_contributions(explainer, inputs, 1)
    names = ("scan 0", "scan 1", "age") if kind == "dict" else ("input 0 0", "input 0 1", "input 1")
    assert found.names == names
    without_age = model(scan, torch.zeros(2, 1).double())["scores"][:, 1]
    torch.testing.assert_close(found.drop[:, 0, 2], found.score[:, 0] - without_age.detach())
    assert float(found.flow_gap.abs().max()) < 1e-3
    named = rc.channel_contributions(explainer, inputs, 1, names=["T1", "T2", "age"])
    assert named.names == ("T1", "T2", "age")
    with pytest.raises(InputError, match=r"2 channel names .* for 3 channels"):
        rc.channel_contributions(explainer, inputs, 1, names=["T1", "T2"])


def test_the_predicted_class_is_kept_where_channels_are_missing() -> None:
    model, x = network(), image()
    explainer = rc.RespondCAM(model, layer="0")
    found = rc.channel_contributions(explainer, x)
    best = model(x).argmax(dim=1)
    zeroed = model(torch.zeros_like(x)).detach()
    torch.testing.assert_close(found.baseline[:, 0], zeroed[torch.arange(2), best])


def test_more_channels_than_orders_can_be_tried() -> None:
    model, x = network(1, channels=8), image(1, channels=8)
    found = rc.channel_contributions(rc.RespondCAM(model, layer="0"), x, 0)
    assert found.shapley is None
    assert list(found.columns()) == ["flow", "drop"]
    assert found.drop.shape == (2, 1, 8)


class Blocks(nn.Module):
    """Writes to its input, and computes a part under no_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network(2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x.mul_(2)
        return self.net(x)


def test_models_that_write_to_their_input_and_switch_autograd_off() -> None:
    model, x = Blocks().train(), image(2)
    before = x.clone()
    found = rc.channel_contributions(rc.RespondCAM(model, layer="net.0"), x, 0, nodes=32)
    assert torch.equal(x, before)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert float(found.flow_gap.abs().max()) < 0.02 * float(
        (found.score - found.baseline).abs().max()
    )


def test_wrong_options_are_worded() -> None:
    explainer, x = rc.RespondCAM(network(), layer="0"), image()
    with pytest.raises(InputError, match="neither 'zero', 'mean'"):
        rc.channel_contributions(explainer, x, baseline="median")
    with pytest.raises(InputError, match="broadcasts"):
        rc.channel_contributions(explainer, x, baseline=lambda x: torch.zeros(7))
    with pytest.raises(InputError, match="at least 1"):
        rc.channel_contributions(explainer, x, nodes=0)

"""Baselines on the input against slow references, by hand and in float64."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution.methods import make
from respondcam.errors import InputError, LayerError, RespondCAMWarning

pytest.importorskip("captum")


def network(rank: int = 3, *, relu: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        conv(2, 3, 3, padding=1), relu(), nn.Flatten(), nn.Linear(3 * 4**rank, 20), relu(),
        nn.Linear(20, 3),
    )  # fmt: skip


def image(rank: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, *[4] * rank, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("start", [None, 0.5])
def test_integrated_gradients_equal_a_fine_integration(rank: int, start: float | None) -> None:
    model, x = network(rank, relu=nn.Tanh), image(rank)
    found = rc.IntegratedGradients(model, baseline=start)(x, target="all")
    slow, x64 = copy.deepcopy(model).double().eval(), x.double()
    base = torch.full_like(x64, start or 0.0)
    for target in range(3):
        mean = torch.zeros_like(x64)
        for k in range(400):
            at = (base + (k + 0.5) / 400 * (x64 - base)).requires_grad_(True)
            mean += torch.autograd.grad(slow(at)[:, target].sum(), at)[0] / 400
        expected = ((x64 - base) * mean).sum(dim=1)
        torch.testing.assert_close(found.maps[:, target].double(), expected, rtol=1e-3, atol=1e-5)
    assert float(found.account.gap.abs().max()) < 1e-4
    assert found.layer == "input"
    assert tuple(found.maps.shape[2:]) == found.grid.shape == (4,) * rank


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_occlusion_equals_covering_one_window_at_a_time(rank: int) -> None:
    model, x = network(rank), image(rank)
    found = rc.Occlusion(model, window=2, stride=1, baseline=0.25)(x, target=[2, 0])
    slow, x64 = copy.deepcopy(model).double().eval(), x.double()
    for sample, target in enumerate([2, 0]):
        one = x64[sample : sample + 1]
        total, count = np.zeros((4,) * rank), np.zeros((4,) * rank)
        for corner in itertools.product(range(3), repeat=rank):
            window = tuple(slice(c, c + 2) for c in corner)
            covered = one.clone()
            covered[(slice(None), slice(None), *window)] = 0.25
            total[window] += float((slow(one) - slow(covered))[0, target].detach())
            count[window] += 1
        np.testing.assert_allclose(found.maps[sample, 0].numpy(), total / count, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_guided_backpropagation_by_the_chain_rule(rank: int) -> None:
    model, x = network(rank), image(rank)
    found = rc.GuidedBackprop(model)(x, target="all")
    conv, _, _, hidden, _, head = copy.deepcopy(model).double()
    x64 = x.double()
    first = conv(x64).detach()
    second = hidden(first.relu().flatten(1)).detach()
    for target in range(3):
        back = head.weight[target].clamp(min=0) * (second > 0)
        back = (back @ hidden.weight).view_as(first).clamp(min=0) * (first > 0)
        transposed = (
            torch.nn.functional.conv_transpose1d,
            torch.nn.functional.conv_transpose2d,
            torch.nn.functional.conv_transpose3d,
        )[rank - 1]
        expected = transposed(back, conv.weight, padding=1).sum(dim=1).detach()
        torch.testing.assert_close(found.maps[:, target].double(), expected, rtol=1e-4, atol=1e-6)


def test_one_linear_neuron_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 1))
    model[1].weight.data, model[1].bias.data = torch.tensor([[2.0, -1.0]]), torch.tensor([3.0])
    x = torch.tensor([[[1.0, 4.0]]])
    path = rc.IntegratedGradients(model)(x, target="value")
    torch.testing.assert_close(path.maps, torch.tensor([[[2.0, -4.0]]]))
    assert float(path.account.baseline) == 3.0
    assert rc.Occlusion(model, window=1)(x, target="value").maps.tolist() == [[[2.0, -4.0]]]
    with pytest.warns(RespondCAMWarning, match="plain gradient"):
        explainer = rc.GuidedBackprop(model)
    assert explainer(x, target="value").maps.tolist() == [[[2.0, -1.0]]]


class Inplace(nn.Module):
    """Writes over its activations, keeps statistics, and has a second input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ReLU(inplace=True))
        self.head, self.facts = nn.Linear(3, 2), nn.Linear(2, 3)

    def forward(self, x: Tensor, facts: Tensor) -> Tensor:
        x -= 0.1
        return self.head(self.net(x).mean(dim=(2, 3, 4)) + self.facts(facts))


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion", "guided-backprop"])
def test_the_model_and_the_input_are_left_as_they_were(method: str) -> None:
    model = Inplace().train()
    model.head.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    flags = [p.requires_grad for p in model.parameters()]
    x, facts = torch.randn(3, 1, 5, 5, 5), torch.randn(3, 2)
    kept = x.clone()
    found = rc.METHODS[method](model)({"x": x, "facts": facts}, target="all")
    for sample in range(3):  # samples do not mix
        one = {"x": x[sample : sample + 1], "facts": facts[sample : sample + 1]}
        alone = rc.METHODS[method](model)(one, target="all")
        torch.testing.assert_close(found.maps[sample], alone.maps[0], rtol=1e-4, atol=1e-6)
    assert torch.equal(x, kept)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())
    assert model.net[2].inplace
    assert not any(
        m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.modules()
    )


def test_dense_outputs_keep_the_predicted_region() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    x = torch.randn(1, 1, 6, 6)
    model.requires_grad_(False)
    out = model(x)
    wanted = int(out.argmax(dim=1)[0, 0, 0])
    region = out.argmax(dim=1, keepdim=True) == wanted
    covered = x.clone()
    covered[..., :3, :3] = 0
    expected = float((out[:, [wanted]] - model(covered)[:, [wanted]])[region].sum())
    found = rc.Occlusion(model, window=3)(x, target=wanted)
    assert float(found.maps[0, 0, 0, 0]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("occlusion", {"window": 9}, "from 1 to its size"),
        ("occlusion", {"window": [2, 2]}, "one for each of the axes"),
        ("occlusion", {"window": 1, "stride": 2}, "uncovered"),
        ("integrated-gradients", {"nodes": 0}, "whole number"),
        ("guided-backprop", {"nodes": 3}, "has no option 'nodes'"),
    ],
)
def test_wrong_options_are_worded(method: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(method, network(), options=options)(image())


def test_only_the_input_and_only_with_a_gradient() -> None:
    with pytest.raises(LayerError, match="explains the input"):
        rc.Occlusion(network(), layer="1")

    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().mean(dim=2)

    with pytest.raises(LayerError, match="No gradient leads"):
        rc.IntegratedGradients(Cut())(image(1))

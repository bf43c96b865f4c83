"""Integrated Respond-CAM: the sum is y(A) - y(A0) for every head."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution import integrated
from respondcam.attribution.baseline import activation_of
from respondcam.attribution.quadrature import tilt
from respondcam.errors import InputError, LayerError


def network(rank: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        conv(1, 4, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 3**rank, 10),
        nn.Tanh(),
        nn.Linear(10, 3),
    )


def image(rank: int = 3, batch: int = 2) -> Tensor:
    return 3 * torch.randn(batch, 1, *[7] * rank, generator=torch.Generator().manual_seed(1))


def slow_reference(model: nn.Sequential, x: Tensor, target: int, start: Tensor) -> Tensor:
    """A fine midpoint rule in float64, one node at a time."""
    model = copy.deepcopy(model).double().eval()
    trunk, head = model[:2], model[2:]
    A = trunk(x.double()).detach()
    D = A - start.double()
    mean = torch.zeros_like(A)
    for k in range(1000):
        point = (start.double() + (k + 0.5) / 1000 * D).requires_grad_(True)
        (G,) = torch.autograd.grad(head(point)[:, target].sum(), point)
        mean += G / 1000
    grid = tuple(range(2, A.ndim))
    share = (D * mean).sum(dim=grid, keepdim=True)
    size = D.abs().sum(dim=grid, keepdim=True)
    return (share * D.abs() / size.clamp(min=1e-300)).sum(dim=1)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_equals_a_fine_integration(rank: int, start: float) -> None:
    model, x = network(rank), image(rank)
    baseline = torch.full((4, *[3] * rank), start)
    explainer = rc.IntegratedRespondCAM(model, layer="1", nodes=256, baseline=baseline)
    found = explainer(x, target="all")
    for target in range(3):
        expected = slow_reference(model, x, target, baseline)
        torch.testing.assert_close(found.maps[:, target].double(), expected, rtol=1e-3, atol=1e-4)
    assert float(found.account.gap.abs().max()) < 1e-3
    zeroed = model.eval()[2:](baseline.expand(2, *baseline.shape)).detach().double()
    torch.testing.assert_close(found.account.baseline, zeroed)


def test_one_node_on_a_linear_head_is_respond_cam() -> None:
    model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 125, 3))
    plain = rc.RespondCAM(model, layer="1")(image(), target="all")
    found = rc.IntegratedRespondCAM(model, layer="1", nodes=1)(image(), target="all")
    torch.testing.assert_close(found.maps, plain.maps)


def test_the_map_nears_the_integral_with_the_nodes_and_the_sum_holds_with_few() -> None:
    model, x = network(), image()
    expected = slow_reference(model, x, 1, torch.zeros(4, 3, 3, 3))
    off = []
    for nodes in (4, 16, 64):
        found = rc.IntegratedRespondCAM(model, layer="1", nodes=nodes)(x, target=1)
        off.append(float((found.maps[:, 0].double() - expected).norm() / expected.norm()))
        assert float(found.account.relative_gap.max()) < 1e-5
    assert off[0] > 3 * off[1] > 9 * off[2]
    plain = rc.RespondCAM(model, layer="1")(x, target=1)
    assert float(plain.account.relative_gap.max()) > 0.1


def test_memory_chunks_do_not_change_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rc.IntegratedRespondCAM(network(), layer="1", nodes=10)(image(), target="all")
    monkeypatch.setattr(integrated, "_HEAD_BYTES", 1)
    pieces = rc.IntegratedRespondCAM(network(), layer="1", nodes=10)(image(), target="all")
    torch.testing.assert_close(whole.maps, pieces.maps, rtol=1e-4, atol=1e-5)


class Residual(nn.Module):
    """A path leads around the branch, and a second input leads around everything."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.branch = nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3, padding=1)
        self.head, self.facts = nn.Linear(4, 3), nn.Linear(2, 4)

    def forward(self, x: Tensor, facts: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.branch(x)).relu().mean(dim=(2, 3, 4)) + self.facts(facts)
        return self.head(x.tanh())


@pytest.mark.parametrize("layer", ["stem", "branch", "input"])
@pytest.mark.parametrize("batch", [1, 3])
def test_paths_around_the_layer(layer: str, batch: int) -> None:
    model = Residual()
    inputs = {"facts": torch.randn(batch, 2), "x": image(batch=batch)}
    explanation = rc.IntegratedRespondCAM(model, layer=layer, nodes=200)(inputs, target="all")
    contributed = (explanation.account.score - explanation.account.baseline).abs()
    assert float((explanation.account.gap.abs() / contributed.max()).max()) < 2e-2
    torch.testing.assert_close(
        explanation.scores, model.eval()(**inputs).detach(), rtol=1e-4, atol=1e-5
    )


def test_a_head_built_for_one_batch_size_runs_on_repeated_inputs() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            features = self.net[:2](x)
            return self.net[2:](features.reshape(x.shape[0], 4, 27))  # x's batch, not the layer's

    found = rc.IntegratedRespondCAM(Fixed(), layer="net.1", nodes=8)(image(), target=1)
    expected = rc.IntegratedRespondCAM(network(), layer="1", nodes=8)(image(), target=1)
    torch.testing.assert_close(found.maps, expected.maps)


def test_shared_layers_need_the_number_of_the_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.block = nn.Conv3d(1, 3, 3), nn.Conv3d(3, 3, 3, padding=1)
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block(self.block(self.stem(x)).tanh()).tanh()
            return self.head(x.mean(dim=(2, 3, 4)))

    model = Shared()
    with pytest.raises(LayerError, match="block#0"):
        rc.IntegratedRespondCAM(model, layer="block")(image())
    for call in (0, 1):
        explanation = rc.IntegratedRespondCAM(model, layer=f"block#{call}", nodes=200)(image())
        assert float(explanation.account.gap.abs().max()) < 1e-3


def test_baselines_by_name_number_callable_and_input() -> None:
    model, x = network(), image()
    layer = model[:2]
    blank = torch.full((1, 1, 7, 7, 7), 0.3)
    expected = {
        "zero": lambda A: torch.zeros_like(A),
        "mean": lambda A: A.mean(dim=(2, 3, 4), keepdim=True).expand_as(A),
        0.7: lambda A: torch.full_like(A, 0.7),
        (lambda A: A / 2): lambda A: A / 2,
        activation_of(model, "1", blank): lambda A: layer(blank).expand_as(A),
    }
    A = layer(x).detach()
    for baseline, start in expected.items():
        found = rc.IntegratedRespondCAM(model, layer="1", nodes=32, baseline=baseline)(x, "all")
        torch.testing.assert_close(found.account.baseline, model[2:](start(A)).double())
        assert float(found.account.gap.abs().max()) < 1e-4


def test_the_tilt_keeps_weights_positive_and_meets_the_rise_where_it_can() -> None:
    generator = torch.Generator().manual_seed(4)
    weights = torch.rand(9, 200, generator=generator, dtype=torch.float64)
    weights /= weights.sum(dim=0)
    slopes = torch.randn(9, 200, generator=generator, dtype=torch.float64)
    mean = (weights * slopes).sum(dim=0)
    rise = mean + 0.3 * torch.randn(200, generator=generator, dtype=torch.float64)
    tilted = weights * (1 + tilt(weights, slopes, rise) * (slopes - mean))
    assert float(tilted.min()) > -1e-12
    torch.testing.assert_close(tilted.sum(dim=0), torch.ones(200, dtype=torch.float64))
    met = ((tilted * slopes).sum(dim=0) - rise).abs() < 1e-9
    assert bool(met[tilted.min(dim=0).values > 1e-9].all())
    assert float(met.double().mean()) > 0.8


@pytest.mark.parametrize(
    "options",
    [{"nodes": 0}, {"baseline": torch.zeros(5)}, {"baseline": "median"}, {"baseline": lambda A: 0}],
)
def test_wrong_options_are_worded(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        rc.IntegratedRespondCAM(network(), layer="1", **options)(image())


def test_the_publications_networks_close_their_accounts() -> None:
    from respondcam.network.paper import cnn_2

    torch.manual_seed(0)
    x = torch.randn(2, 1, 40, 40, 40)
    explanation = rc.IntegratedRespondCAM(cnn_2(), layer="maxpool2", nodes=32)(x, target="all")
    account = explanation.account
    contributed = (account.score - account.baseline).abs().mean()
    assert float(account.gap.abs().mean() / contributed) < 1e-5

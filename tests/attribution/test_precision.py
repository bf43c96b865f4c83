"""A trunk in bfloat16: what is cast, what is not, and that its error is said."""

import copy
import inspect

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.network.precision import trunk_precision


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(2, 4, 3),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Conv3d(4, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 3**3, 8),
        nn.ReLU(),
        nn.Linear(8, classes),
    )


def image(batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, 7, 7, 7)


def by_hand(model: nn.Sequential, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and maps of all classes: trunk under autocast, head and gradients in float32."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        A = model[: layer + 1](x).float()
    A.requires_grad_(True)
    scores = model[layer + 1 :](A)
    maps = []
    for k in range(scores.shape[1]):
        (G,) = torch.autograd.grad(scores[:, k].sum(), A, retain_graph=True)
        share = (A * G).sum(dim=(2, 3, 4), keepdim=True)
        size = A.abs().sum(dim=(2, 3, 4), keepdim=True).clamp(min=1e-30)
        maps.append((share * A.abs() / size).sum(dim=1))
    return scores.detach(), torch.stack(maps, dim=1).detach()


@pytest.mark.parametrize("layer", [2, 4])
def test_trunk_in_bfloat16_and_head_in_float32(layer: int) -> None:
    model, x = network(), image()
    found = rc.RespondCAM(model, layer=str(layer), precision="bf16")(x, target="all")
    scores, maps = by_hand(model, layer, x)
    assert found.maps.dtype == found.scores.dtype == torch.float32
    # convolutions may add up in another order with channels last
    torch.testing.assert_close(found.scores, scores, rtol=0.02, atol=0.004)
    torch.testing.assert_close(found.maps, maps, rtol=0.02, atol=0.02 * float(maps.abs().max()))
    plain = rc.RespondCAM(model, layer=str(layer))(x, target="all")
    assert not torch.equal(found.maps, plain.maps)


def test_the_account_closes_as_in_float32_for_a_linear_head() -> None:
    """The head is in float32, so bfloat16 leaves no gap of its own (it would be 0.4 % and more)."""
    model = nn.Sequential(*network()[:5], nn.Flatten(), nn.Linear(6 * 3**3, 3))
    account = rc.RespondCAM(model, layer="4", precision="bf16")(image(), target="all").account
    assert float(account.relative_gap.max()) < 1e-4
    expected = model[-1].bias.detach().double().expand(2, 3)
    torch.testing.assert_close(account.baseline, expected)


def test_the_error_is_measured_on_the_first_input_and_said() -> None:
    model, x = network(), image()
    explainer = rc.RespondCAM(model, layer="4", precision="bf16")
    found, plain = explainer(x, target="all"), rc.RespondCAM(model, layer="4")(x, target="all")
    error = found.precision
    assert error is not None
    difference = (found.scores - plain.scores).abs()
    assert error.score == pytest.approx(float(difference.max()), rel=1e-4)
    assert error.relative_score == pytest.approx(
        float((difference / plain.scores.abs()).max()), rel=1e-4
    )
    far = (found.maps - plain.maps).flatten(2).norm(dim=2) / plain.maps.flatten(2).norm(dim=2)
    assert error.map == pytest.approx(float(far.max()), rel=1e-4)
    assert 0 < error.map < 0.05
    assert "ran in bfloat16" in found.account.note
    assert explainer(image(), target=0).precision is error
    assert plain.precision is None
    assert plain.account.note == ""


def test_another_predicted_class_is_said() -> None:
    """Scores that differ by less than bfloat16 can tell: 1 + 2^-10 is 1."""
    conv = nn.Conv1d(1, 2, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 1 + 2**-10])[:, None, None])
    model = nn.Sequential(conv, nn.AdaptiveAvgPool1d(1), nn.Flatten())
    found = rc.RespondCAM(model, layer="0", precision="bf16")(torch.ones(1, 1, 4))
    assert found.precision is not None
    assert found.precision.other_class
    assert found.targets == ("class 0 (predicted)",)
    assert "another class" in found.account.note
    assert found.precision.score == 0  # of class 0, in both


class Skip(nn.Module):
    """A connection around the layer, and a second layer with weights on it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.gate, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(x)
        deep = self.deep(skip)
        return self.last(torch.cat([deep, self.gate(skip)], dim=1))


@pytest.mark.parametrize(
    "method",
    [
        name
        for name, one in rc.METHODS.items()
        # tubes are for heads of one linear layer alone
        if "precision" in inspect.signature(one).parameters and name != "tubes"
    ],
)
def test_skip_connections_meet_weights_in_float32(method: str) -> None:
    model, x = Skip(), torch.randn(2, 1, 6, 6)
    plain = rc.METHODS[method](model, layer="deep")(x, target=1)
    explainer = rc.METHODS[method](model, layer="deep", precision="bf16")
    found = explainer(x, target=1)
    torch.testing.assert_close(
        found.maps, plain.maps, rtol=0.1, atol=0.05 * float(plain.maps.abs().max())
    )
    torch.testing.assert_close(found.account.baseline, plain.account.baseline, rtol=0.02, atol=0.1)


def test_the_model_and_autocast_are_as_before() -> None:
    model, x = network().train(), image()
    before = {k: (v.clone(), v.dtype, v.stride()) for k, v in model.state_dict().items()}
    rc.RespondCAM(model, layer="4", precision="bf16")(x)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert (value.dtype, value.stride()) == before[name][1:]
    assert not torch.is_autocast_enabled("cpu")
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    with pytest.raises(rc.InputError), trunk_precision("bf16"):
        rc.RespondCAM(model, layer="4")(torch.randn(1, 5, 7, 7, 7))
    assert not torch.is_autocast_enabled("cpu")
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert all(module.training for module in model.modules())


def test_differentiable_in_bfloat16() -> None:
    model, x = network(), image()
    found, expected = (
        torch.autograd.grad(
            rc.RespondCAM(model, layer="4", precision=precision)(x, target=0, create_graph=True)
            .maps.square()
            .sum(),
            list(model.parameters())[:-1],
        )
        for precision in ("bf16", "fp32")
    )
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) <= 0.1 * float(other.norm()) + 1e-6

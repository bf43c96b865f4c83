"""Ablation-CAM, Score-CAM and Eigen-CAM against slow references: a full pass for each channel."""

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution import rerun
from respondcam.attribution.methods import make
from respondcam.errors import EmptyMapWarning, InputError, LayerError


def network(rank: int = 3, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        conv(2, 3, 3, padding=1),
        nn.ReLU(),
        conv(3, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 4**rank, 6),
        nn.Tanh(),
        nn.Linear(6, classes),
    )


def image(rank: int = 3, batch: int = 2) -> Tensor:
    return 2 * torch.randn(batch, 2, *[8] * rank, generator=torch.Generator().manual_seed(1))


def full_pass(model: nn.Module, layer: nn.Module, x: Tensor, change: Callable[[Tensor], Tensor]):
    """One sample through the whole network, one layer's output changed by an own hook."""
    handle = layer.register_forward_hook(lambda module, args, out: change(out))
    with torch.no_grad():
        scores = model(x)
    handle.remove()
    return scores[0]


def slow_ablation(model: nn.Sequential, x: Tensor, weights: str) -> np.ndarray:
    """(batch, target, *grid) in float64: one channel, one sample, one full pass at a time."""
    model, x = copy.deepcopy(model).double().eval(), x.double()
    found = []
    for sample in x.split(1):
        A = model[:4](sample)[0].detach()
        y = model(sample)[0].detach()
        total = torch.zeros(len(y), *A.shape[1:], dtype=torch.float64)
        for channel in range(len(A)):

            def without(out: Tensor, channel: int = channel) -> Tensor:
                out = out.clone()
                out[:, channel] = 0
                return out

            drop = y - full_pass(model, model[3], sample, without)
            weight = drop / y if weights == "paper" else drop
            for target in range(len(y)):
                total[target] += weight[target] * A[channel]
        found.append(total.numpy())
    return np.stack(found)


def stretched(mask: np.ndarray, size: int, stride: float, offset: float) -> np.ndarray:
    """A mask at the input's voxels: numpy's interpolation, axis after axis."""
    centres = offset + stride * np.arange(mask.shape[0])
    for axis in range(mask.ndim):
        mask = np.apply_along_axis(
            lambda line: np.interp(np.arange(size), centres, line), axis, mask
        )
    return mask


def slow_score(model: nn.Sequential, x: Tensor, where: str, weights: str) -> np.ndarray:
    model, x = copy.deepcopy(model).double().eval(), x.double()
    found = []
    for sample in x.split(1):
        A = model[:4](sample)[0].detach()
        increase = []
        for channel in A:
            if channel.min() == channel.max():  # no mask, no weight
                increase.append(np.full(4, -np.inf if weights == "softmax" else 0.0))
                continue
            mask = (channel - channel.min()) / (channel.max() - channel.min())
            if where == "activation":
                behind = full_pass(model, model[3], sample, lambda out, m=mask: out * m)
                nothing = full_pass(model, model[3], sample, torch.zeros_like)
            else:
                wide = torch.tensor(stretched(mask.numpy(), 8, 2.0, 0.0))
                behind, nothing = model(sample * wide)[0], model(sample * 0)[0]
            increase.append((behind - nothing).detach().numpy())
        C = np.stack(increase)
        w = np.exp(C) / np.exp(C).sum(axis=0) if weights == "softmax" else C
        found.append(np.einsum("ct,c...->t...", w, A.numpy()))
    return np.stack(found)


def close(found: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(
        found.numpy(), expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("weights", ["paper", "drop"])
def test_ablation_cam_equals_one_full_pass_per_channel(rank: int, weights: str) -> None:
    model, x = network(rank), image(rank)
    found = rc.AblationCAM(model, layer="3", weights=weights)(x, target="all")
    close(found.maps, slow_ablation(model, x, weights))
    assert found.method == "ablation"
    torch.testing.assert_close(found.scores, model.eval()(x).detach())


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("where", ["activation", "input"])
@pytest.mark.parametrize("weights", ["softmax", "increase"])
def test_score_cam_equals_one_full_pass_per_channel(rank: int, where: str, weights: str) -> None:
    model, x = network(rank), image(rank)
    found = rc.ScoreCAM(model, layer="3", where=where, weights=weights)(x, target="all")
    close(found.maps, slow_score(model, x, where, weights))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("channels", [3, 40])
def test_eigen_cam_equals_a_singular_value_decomposition(rank: int, channels: int) -> None:
    A = torch.randn(2, channels, *[3] * rank, generator=torch.Generator().manual_seed(5))
    model = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(channels * 3**rank, 2))
    found = rc.EigenCAM(model, layer="0")(A, target="all").maps
    for sample in range(2):
        rows = A[sample].double().numpy().reshape(channels, -1).T
        expected = (rows @ np.linalg.svd(rows)[2][0]).reshape([3] * rank)
        expected *= np.sign(expected.sum())
        for target in range(2):
            close(found[sample, target], expected)


def test_four_voxels_by_hand() -> None:
    # Channels (1, 3) and (2, 0); the head adds channel sums with weights 2 and -1, and 1 on top:
    # y = 2 * 4 - 2 + 1 = 7; without the first -1, without the second 9.
    head = nn.Linear(2, 1)
    head.weight.data, head.bias.data = torch.tensor([[2.0, -1.0]]), torch.tensor([1.0])

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Identity(), head

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x).sum(dim=2))

    x = torch.tensor([[[1.0, 3.0], [2.0, 0.0]]])
    # weights 8/7 and -2/7
    paper = rc.AblationCAM(Tiny(), layer="layer")(x, target="value").maps
    torch.testing.assert_close(paper, torch.tensor([[[8.0 - 4.0, 24.0]]]) / 7)
    drop = rc.AblationCAM(Tiny(), layer="layer", weights="drop")(x, target="value").maps
    assert drop.tolist() == [[[8.0 - 4.0, 24.0]]]
    # masks (0, 1) and (1, 0) leave (0, 3; 0, 0) and (1, 0; 2, 0): y = 7 and 1, less y(0) = 1
    score = rc.ScoreCAM(Tiny(), layer="layer", weights="increase")(x, target="value").maps
    assert score.tolist() == [[[6.0 * 1 + 0.0 * 2, 6.0 * 3]]]


class Streams(nn.Module):
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
def test_paths_around_the_layer_cost_full_passes_and_give_the_same(layer: str, batch: int) -> None:
    model = Streams().eval()
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(batch, 1, 6, 6, 6, generator=generator)
    facts = torch.randn(batch, 2, generator=generator)
    found = rc.AblationCAM(model, layer=layer, weights="drop")({"x": x, "facts": facts}, "all")
    for sample in range(batch):
        one, fact = x[sample : sample + 1], facts[sample : sample + 1]
        if layer == "input":
            dropped = (model(one, fact) - model(0 * one, fact))[0].detach()
            expected = dropped[:, None, None, None] * one[0]
        else:
            module = getattr(model, layer)
            A = model.stem(one) if layer == "stem" else model.branch(model.stem(one).relu())
            y, expected = model(one, fact)[0].detach(), 0
            for channel in range(4):
                mask = torch.ones(4, 1, 1, 1)
                mask[channel] = 0
                handle = module.register_forward_hook(lambda m, a, out, mask=mask: out * mask)
                ablated = model(one, fact)[0].detach()
                handle.remove()
                expected = expected + (y - ablated)[:, None, None, None] * A[0, channel].detach()
        torch.testing.assert_close(found.maps[sample], expected, rtol=1e-4, atol=1e-6)


class Tokens(nn.Module):
    """The layer's output is (batch, token, channel), with a class token in front."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(1, 5, 2, stride=2)
        self.mark, self.token = nn.Identity(), nn.Parameter(torch.randn(1, 1, 5))
        self.mix, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        tokens = self.mark(torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1))
        return self.head(self.mix(tokens).tanh().mean(dim=1))


def test_token_layers() -> None:
    model, x = Tokens().eval(), torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    found = rc.AblationCAM(model, layer="mark", weights="drop")(x, target=1)
    assert found.maps.shape == (2, 1, 3, 3)
    tokens = torch.cat([model.token.expand(2, -1, -1), model.patches(x).flatten(2).mT], dim=1)
    tokens, expected = tokens.detach(), torch.zeros(2, 3, 3)
    for channel in range(5):
        changed = tokens.clone()
        changed[:, 1:, channel] = 0  # the class token has no voxel, and stays
        ablated = model.head(model.mix(changed).tanh().mean(dim=1))
        drop = (model(x) - ablated)[:, 1].detach()
        expected += drop[:, None, None] * tokens[:, 1:, channel].view(2, 3, 3)
    torch.testing.assert_close(found.maps[:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["ablation", "score"])
def test_memory_chunks_do_not_change_the_map(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rc.METHODS[method](network(), layer="3")(image(), target="all")
    monkeypatch.setattr(rerun, "_HEAD_BYTES", 1)
    pieces = rc.METHODS[method](network(), layer="3")(image(), target="all")
    torch.testing.assert_close(whole.maps, pieces.maps, rtol=1e-4, atol=1e-5)


def test_only_the_head_is_run_again() -> None:
    model, rows = network(), []
    model[0].register_forward_hook(lambda m, a, out: rows.append(("trunk", len(out))) or None)
    model[5].register_forward_hook(lambda m, a, out: rows.append(("head", len(out))) or None)
    explainer, x = rc.AblationCAM(model, layer="3"), image()
    explainer(x)  # traces the layer
    rows.clear()
    explainer(x)
    assert rows == [("trunk", 2), ("head", 2 * (1 + 5))]


@pytest.mark.parametrize("method", ["ablation", "score", "eigen"])
def test_the_model_is_left_as_it_was(method: str) -> None:
    model = network().train()
    model[5].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    flags = [p.requires_grad for p in model.parameters()]
    x = image()
    kept = x.clone()
    rc.METHODS[method](model, layer=["1", "3"])(x, target="all")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks for m in model.modules())
    assert torch.equal(x, kept)


def test_shared_layers_and_calls() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.block, self.head = nn.Conv3d(2, 2, 3, padding=1), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(self.block(x).tanh()).tanh().mean(dim=(2, 3, 4)))

    model, x = Shared().eval(), torch.randn(1, 2, 4, 4, 4)
    found = rc.AblationCAM(model, layer="block#0", weights="drop")(x, target=0)
    first = model.block(x).detach()
    expected = torch.zeros(4, 4, 4)
    for channel in range(2):
        changed = first.clone()
        changed[:, channel] = 0
        ablated = model.head(model.block(changed.tanh()).tanh().mean(dim=(2, 3, 4)))
        expected += (model(x) - ablated)[0, 0].detach() * first[0, channel]
    torch.testing.assert_close(found.maps[0, 0], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(LayerError, match="no call 2"):
        rc.AblationCAM(model, layer="block#2")(x)


def test_an_empty_map_says_why() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten(), nn.Linear(8, 2))
    nn.init.zeros_(model[2].weight)
    with pytest.warns(EmptyMapWarning, match="leaving out any one channel"):
        rc.AblationCAM(model, layer="0")(torch.rand(1, 1, 4), target=0)
    nn.init.zeros_(model[0].weight)
    with pytest.warns(EmptyMapWarning, match="constant over the grid"):
        rc.ScoreCAM(model, layer="0")(torch.rand(1, 1, 4), target=0)


@pytest.mark.parametrize(
    ("method", "options"),
    [("ablation", {"weights": "none"}), ("score", {"where": "head"}), ("score", {"weights": "x"})],
)
def test_wrong_options_are_worded(method: str, options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="neither"):
        make(method, network(), "3", options=options)


def test_notes_on_what_a_sum_does_not_say() -> None:
    for method, said in itertools.product(["eigen"], ["same for every class"]):
        found = rc.METHODS[method](network(), layer="3")(image())
        assert said in found.account.note

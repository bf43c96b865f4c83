"""Sanity checks: what they find in networks where the answer is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from respondcam import GradCAM, RespondCAM
from respondcam.attribution import Explanation
from respondcam.errors import InputError, ModelError
from respondcam.evidence.curves import correlation
from respondcam.evidence.randomising import randomised_from_the_top
from respondcam.evidence.sanity import class_sensitivity, randomised, stability
from respondcam.evidence.similarity import rank_correlation
from respondcam.network.grid import LayerGrid


class Body(nn.Module):
    """Registered in another order than it runs."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.second = nn.Conv3d(4, 6, 3, padding=1)
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(3))
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x.mean(dim=(2, 3, 4))) * self.scale


def test_layers_are_lost_in_the_order_they_run_and_the_model_stays() -> None:
    model = Body().train()
    image = torch.randn(1, 1, 6, 6, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    for name, lost in randomised_from_the_top(model, image):
        changed = {n for n, v in lost.state_dict().items() if not torch.equal(v, before[n])}
        seen.append((name, changed))
    assert [name for name, _ in seen] == ["", "head", "second", "first", "unused"]
    assert seen[1][1] == {"scale", "head.weight", "head.bias"}
    assert len(seen[-1][1]) == len(before)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_copy_is_random_but_the_same_each_time() -> None:
    def make(net):
        return RespondCAM(net, "second")

    model, image = Body(), torch.randn(2, 1, 6, 6, 6)
    state = torch.get_rng_state()
    one = randomised(model, make, image)
    assert torch.equal(torch.get_rng_state(), state)
    assert one == randomised(model, make, image)
    assert one.layers[-1] == "unused"
    # losing what is never used changes nothing
    assert one.similarity[-1] == one.similarity[-2]


def test_a_map_that_needs_no_weights_is_found_out() -> None:
    class Brightness(RespondCAM):
        def map(self, activation, gradient):
            return activation.sum(dim=1)

    model, image = Body(), torch.randn(1, 1, 6, 6, 6)
    found = randomised(model, lambda net: Brightness(net, "input"), image, 1)
    assert found.similarity[-1] == pytest.approx(1)
    assert found.worry
    assert "hardly depends" in found.verdict
    assert "worry above 0.5" in found.verdict
    real = randomised(model, lambda net: GradCAM(net, "second"), image, 1)
    assert real.similarity[-1] < 0.9


def test_rank_correlation_is_scipy_s() -> None:
    a, b = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    for x, y in ((a, b), (a.round(), (a + b).round())):
        found = rank_correlation(x[None], y[None])
        for t in range(2):
            expected = stats.spearmanr(x[t].ravel(), y[t].ravel()).statistic
            assert found[0, t] == pytest.approx(expected, abs=1e-9)
            r = np.corrcoef(x[t].ravel(), y[t].ravel())[0, 1]
            assert correlation(x[None], y[None])[0, t] == pytest.approx(r, abs=1e-9)
    assert rank_correlation(torch.ones(1, 1, 3), torch.rand(1, 1, 3)).isnan()


def test_classes_that_share_a_map_are_found_out() -> None:
    base = torch.rand(2, 1, 4, 4, 4)
    found = class_sensitivity(torch.cat([base, 2 * base, 3 * base + 1], 1), ["a", "b", "c"])
    assert found.mean == pytest.approx(1)
    assert found.worry
    assert "nearly one map" in found.verdict
    different = class_sensitivity(torch.randn(2, 3, 4, 4, 4), ["a", "b", "c"])
    assert not different.worry
    opposed = class_sensitivity(torch.cat([base, -base], 1), ["a", "b"])
    assert opposed.mean == pytest.approx(-1)
    assert not opposed.worry
    with pytest.raises(InputError, match="at least two"):
        class_sensitivity(base, ["a"])
    with pytest.raises(InputError, match="constant"):
        class_sensitivity(torch.ones(1, 2, 3), ["a", "b"])


def test_a_network_that_commutes_with_shifts_is_stable() -> None:
    model = Body()
    image = torch.nn.functional.avg_pool3d(torch.randn(1, 1, 14, 14, 14), 3, 1)
    steady = stability(RespondCAM(model, "second"), image)
    assert steady.shift > 0.9
    assert steady.noise > 0.9
    assert not steady.worry
    assert steady.noise_worst <= steady.noise
    wild = stability(RespondCAM(model, "second"), image, noise=30.0)
    assert wild.noise < steady.noise
    assert wild.worry
    assert "worry below 0.8" in wild.verdict
    with pytest.raises(InputError, match="shift_voxels=9"):
        stability(RespondCAM(model, "second"), image, shift_voxels=9)


def test_a_shift_is_undone_before_maps_are_compared() -> None:
    class Look(RespondCAM):
        def map(self, activation, gradient):
            return activation.sum(dim=1)

    # the map is the image itself: after an exact shift back nothing differs
    found = stability(Look(Body(), "input"), torch.randn(1, 1, 9, 10, 11), 0, shift_voxels=2)
    assert found.shift_worst == pytest.approx(1)
    assert found.noise == pytest.approx(1 / math.sqrt(1 + 0.05**2), abs=0.002)


def test_networks_that_cannot_be_randomised() -> None:
    class Stubborn(Body):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

    image = torch.randn(1, 1, 6, 6, 6)
    with pytest.raises(ModelError, match="no copies"):
        next(randomised_from_the_top(Stubborn(), image))
    with pytest.raises(ModelError, match="no weights"):
        next(randomised_from_the_top(nn.Flatten(), image))
    with pytest.raises(InputError, match="one layer"):
        randomised(Body(), lambda net: RespondCAM(net, ["first", "second"]), image)


def test_class_sensitivity_against_numpy() -> None:
    maps = torch.randn(2, 4, 3, 4, 5, dtype=torch.float64)
    maps[:, 1] += 0.7 * maps[:, 0]
    pairs = {}
    for a in range(4):
        for b in range(a + 1, 4):
            rs = [np.corrcoef(m[a].ravel(), m[b].ravel())[0, 1] for m in maps.numpy()]
            pairs[str(a), str(b)] = np.mean(rs)
    found = class_sensitivity(maps, ["0", "1", "2", "3"])
    assert found.mean == pytest.approx(np.mean(list(pairs.values())), abs=1e-9)
    assert found.pair == max(pairs, key=pairs.__getitem__) == ("0", "1")
    assert found.largest == pytest.approx(pairs["0", "1"], abs=1e-9)


def test_stability_against_a_slow_loop() -> None:
    image = torch.randn(2, 1, 8, 9, dtype=torch.float64)
    weight = torch.randn(8, 9, dtype=torch.float64)

    class Explained(nn.Module):
        """A map that depends on the place, so that shifts matter: the squared, weighted image."""

        def forward(self, x):
            return weight * x**2

    def explain(x, target):
        maps = Explained()(x)
        grid = LayerGrid((1.0, 1.0), (0.0, 0.0), (8, 9), (8, 9), (0.0, 0.0), "layout")
        return Explanation(maps, torch.zeros(2, 1), ("t",), "l", "m", grid)

    found = stability(explain, image, 0, noise=0.1, draws=3, seed=5)
    base = Explained()(image).numpy()[:, 0]
    chance = torch.Generator().manual_seed(5)
    noisy = []
    for _ in range(3):
        drawn = torch.randn(image.shape, generator=chance).double().numpy()
        for n in range(2):
            spread = image[n, 0].numpy().std(ddof=1)
            changed = weight.numpy() * (image[n, 0].numpy() + 0.1 * spread * drawn[n, 0]) ** 2
            noisy.append(np.corrcoef(changed.ravel(), base[n].ravel())[0, 1])
    assert found.noise == pytest.approx(np.mean(noisy), abs=1e-6)
    assert found.noise_worst == pytest.approx(np.min(noisy), abs=1e-6)
    shifted = []
    for n in range(2):
        for axis in range(2):
            for by in (-1, 1):
                padded = np.pad(image[n, 0].numpy(), 1, mode="edge")
                moved = np.roll(padded, by, axis)[1:-1, 1:-1]
                back = np.roll(np.pad(weight.numpy() * moved**2, 1, mode="edge"), -by, axis)
                inner = back[2:-2, 2:-2].ravel()
                shifted.append(np.corrcoef(inner, base[n][1:-1, 1:-1].ravel())[0, 1])
    assert found.shift == pytest.approx(np.mean(shifted), abs=1e-6)
    assert found.shift_worst == pytest.approx(np.min(shifted), abs=1e-6)

"""Several calls of a layer at once, copies that count for each other, and samples that do.

References are a pass of plain PyTorch for every copy, or a gradient of plain autograd for every
sample, with a hook of their own.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution import mixing
from respondcam.attribution.grad import grad_cam
from respondcam.attribution.hires import hires_cam
from respondcam.attribution.layer import layer_cam
from respondcam.attribution.respond import respond_cam
from respondcam.errors import EmptyMapWarning

ONE = torch.rand(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
THREE = torch.rand(3, 1, 6, 6, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor(
    [0.3, 1.0, 2.0]
).view(3, 1, 1, 1, 1)

Head = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A layer `l`, what `way` makes of it, and a head that is not linear."""

    def __init__(self, way: Head, **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c, self.l, self.d = nn.Conv3d(1, 6, 3, padding=1), nn.Softplus(), nn.Conv3d(6, 6, 3)
        self.way, self.head = way, nn.Linear(6, 3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.d(self.way(self.l(self.c(x))))).mean((2, 3, 4)))


@contextlib.contextmanager
def in_place_of(layer: nn.Module, value: Tensor, call: int = 0) -> Iterator[None]:
    """Hand on `value` in the place of what one call of a layer gives."""
    calls = iter(range(1000))
    handle = layer.register_forward_hook(lambda m, i, o: value if next(calls) == call else None)
    yield
    handle.remove()


def output_of(model: nn.Module, layer: nn.Module, x: Tensor, call: int = 0) -> Tensor:
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[call]


def replaced(A: Tensor, value: Tensor, sample: int | None) -> Tensor:
    """`value` for one sample, or for all (None)."""
    if sample is None:
        return value
    return torch.cat([value[n : n + 1] if n == sample else A[n : n + 1] for n in range(len(A))])


def scores_at(model: nn.Module, layer: nn.Module, x: Tensor, value: Tensor, call: int = 0):
    with torch.no_grad(), in_place_of(layer, value, call):
        return model(x)[:, 1]


def gradient_at(model, layer, x: Tensor, value: Tensor, sample: int, call: int = 0) -> Tensor:
    """Gradient of one sample's score with respect to its own part of a layer's output."""
    leaf = value.clone().requires_grad_(True)
    with in_place_of(layer, leaf.clone(), call):
        score = model(x)[sample, 1]
    return torch.autograd.grad(score, leaf)[0][sample : sample + 1]


def slow_ablation(model, layer, x: Tensor, call: int = 0) -> Tensor:
    """Maps (batch, *grid): a pass for each sample and channel, the other samples as they are."""
    A, y = output_of(model, layer, x, call), model(x)[:, 1].detach()
    maps = torch.zeros_like(A[:, 0])
    for sample in range(len(x)):
        for channel in range(A.shape[1]):
            without = A.clone()
            without[sample, channel] = 0
            ablated = scores_at(model, layer, x, without, call)[sample]
            maps[sample] += (y[sample] - ablated) / y[sample] * A[sample, channel]
    return maps


def slow_integral(model, layer, x: Tensor, call: int = 0, steps: int = 80) -> Tensor:
    """Maps of the mean gradient between nothing and the activation, closer nodes near nothing."""
    A, maps = output_of(model, layer, x, call), []
    ts = [(n / steps) ** 3 for n in range(steps + 1)]
    for sample in range(len(x)):
        mean = torch.zeros_like(A[:1])
        for before, after in itertools.pairwise(ts):
            at = replaced(A, A * (before + after) / 2, sample)
            mean += gradient_at(model, layer, x, at, sample, call) * (after - before)
        maps.append(respond_cam(A[sample : sample + 1], mean))
    return torch.cat(maps)


def close(found: Tensor, expected: Tensor, share: float) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=share * float(expected.abs().max()))


# ------------------------------------------------------------------ calls of one layer


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.relu, self.head = nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sin(self.relu(self.b(self.relu(self.a(x))))).mean((2, 3, 4)))


ORDERS = [["relu#0", "relu#1"], ["relu#1", "relu#0"], ["relu#0", "relu#0"]]
GIVEN = ["respond", "integrated-respond", "ablation", "score", "eigen", "grad", "layer"]


@pytest.mark.parametrize("layers", ORDERS)
@pytest.mark.parametrize("method", GIVEN)
def test_several_calls_of_a_layer_have_each_their_own_map(method: str, layers: list[str]) -> None:
    model = Twice().eval()
    explanations = rc.METHODS[method](model, layer=layers)(ONE, target=1)
    assert [one.layer for one in explanations] == layers
    for one in explanations:
        alone = rc.METHODS[method](model, layer=one.layer)(ONE, target=1)
        torch.testing.assert_close(one.maps, alone.maps)
        torch.testing.assert_close(one.account.baseline, alone.account.baseline)
        call = int(one.layer[-1])
        if method == "ablation":
            close(one.maps[:, 0], slow_ablation(model, model.relu, ONE, call), 1e-4)
        if method == "integrated-respond":
            close(one.maps[:, 0], slow_integral(model, model.relu, ONE, call), 2e-2)
            assert bool(one.account.relative_gap < 1e-3)


@pytest.mark.parametrize("method", ["ablation", "eigen", "respond"])
def test_the_last_call_may_be_named_and_not_named_at_once(method: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        last, named = rc.METHODS[method](Twice(), layer=["relu", "relu#1"])(ONE, target=1)
    torch.testing.assert_close(last.maps, named.maps)


# ------------------------------------------------------------------ copies that run together

WAYS: dict[str, Head] = {
    "largest value": lambda h: h / (h.max() + 1e-3),
    "smallest value": lambda h: h - h.min(),
    "branch": lambda h: h if h.max() < 0.98 else h * 0.5,
    "mean": lambda h: h + 0.1 * h.mean(),
    "small spread": lambda h: h * (1 + 0.01 * h.std()),
    "tiny batch norm": lambda h: h + 0.003 * F.batch_norm(h, None, None, training=True),
    "first": lambda h: h - 0.1 * h[:1],
    "last": lambda h: h - 0.1 * h[-1:],
    "number": lambda h: h / len(h),
    "one by one": lambda h: h if len(h) == 1 else h / 0,
}


@pytest.mark.parametrize("name", WAYS)
def test_copies_that_count_for_each_other_run_alone(name: str) -> None:
    model = Net(WAYS[name]).eval()
    expected = model(ONE)[:, 1].detach()
    for _ in range(2):  # what was learnt of the network is remembered
        found = rc.AblationCAM(model, layer="l")(ONE, target=1)
        assert torch.equal(found.scores[:, 0], expected)
        close(found.maps[:, 0], slow_ablation(model, model.l, ONE), 1e-5)
        path = rc.IntegratedRespondCAM(model, layer="l", nodes=40)(ONE, target=1)
        assert torch.equal(path.scores[:, 0], expected)
        if name != "branch":  # at a jump there is no gradient to integrate
            close(path.maps[:, 0], slow_integral(model, model.l, ONE), 1e-2)
            assert bool(path.account.relative_gap < 1e-3)


@pytest.mark.parametrize("name", ["largest value", "first", "mean"])
def test_score_cam_on_copies_that_count_for_each_other(name: str) -> None:
    model = Net(WAYS[name]).eval()
    A = output_of(model, model.l, ONE)
    nothing = scores_at(model, model.l, ONE, torch.zeros_like(A))
    expected = torch.zeros_like(A[:, 0])
    for channel in range(6):
        mask = A[:, channel : channel + 1] - A[:, channel].min()
        behind = scores_at(model, model.l, ONE, A * mask / mask.max())
        expected += (behind - nothing) * A[:, channel]
    found = rc.ScoreCAM(model, layer="l", weights="increase")(ONE, target=1)
    close(found.maps[:, 0], expected, 1e-4)


def test_methods_on_an_input_whose_copies_count_for_each_other() -> None:
    pytest.importorskip("captum")

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(lambda h: h)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x / x.max())

    model = Scaled().eval()
    expected = torch.zeros(6, 6, 6)
    for corner in torch.cartesian_prod(*[torch.arange(0, 6, 3)] * 3).tolist():
        window = tuple(slice(n, n + 3) for n in corner)
        covered = ONE.clone()
        covered[(0, 0, *window)] = 0
        expected[window] = (model(ONE) - model(covered))[0, 1].item()
    found = rc.METHODS["occlusion"](model, window=3)(ONE, target=1)
    close(found.maps[0, 0], expected, 1e-4)
    path = rc.METHODS["integrated-gradients"](model, baseline=0.1, nodes=40)(ONE, target=1)
    steps, mean = 200, torch.zeros_like(ONE)
    for n in range(steps):
        at = (0.1 + (ONE - 0.1) * (n + 0.5) / steps).requires_grad_(True)
        mean += torch.autograd.grad(model(at)[0, 1], at)[0] / steps
    close(path.maps[0, 0], ((ONE - 0.1) * mean)[0, 0], 2e-2)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("method", ["respond", "ablation", "integrated-respond"])
def test_whether_samples_count_is_asked_once(method: str, batch: int) -> None:
    model, passes = Net(lambda h: h).eval(), []
    handle = model.d.register_forward_hook(lambda *_: passes.append(1))
    explainer = rc.METHODS[method](model, layer="l")
    counts = []
    for values in (THREE, THREE.flip(2), THREE * 2):
        passes.clear()
        explainer(values[:batch], target=1)
        counts.append(len(passes))
    handle.remove()
    assert counts[0] > counts[1] == counts[2] == (1 if method == "respond" else counts[2])
    assert counts[2] <= 2


# ------------------------------------------------------------------ samples of one batch

NORMS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm3d(6, track_running_stats=False),
    "first": lambda: Way(lambda h: h - 0.3 * h[:1]),
    "last": lambda: Way(lambda h: h - 0.3 * h[-1:]),
    "largest value": lambda: Way(lambda h: h / h.max()),
}
GRADIENTS = {"respond": respond_cam, "hires": hires_cam, "grad": grad_cam, "layer": layer_cam}


class Way(nn.Module):
    def __init__(self, way: Head) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(x)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("method", GRADIENTS)
def test_each_sample_is_explained_by_its_own_score(method: str, name: str) -> None:
    norm = NORMS[name]()
    model = Net(norm, norm=norm).eval()
    A, expected = output_of(model, model.l, THREE), model(THREE).detach()
    found = rc.METHODS[method](model, layer="l")(THREE, target="all")
    torch.testing.assert_close(found.scores, expected)
    gradients = [gradient_at(model, model.l, THREE, A, sample) for sample in range(3)]
    maps = [GRADIENTS[method](A[n : n + 1], gradient) for n, gradient in enumerate(gradients)]
    close(found.maps[:, 1], torch.cat(maps), 1e-5)
    starts = [replaced(A, torch.zeros_like(A), sample) for sample in range(3)]
    baseline = [scores_at(model, model.l, THREE, start)[n] for n, start in enumerate(starts)]
    torch.testing.assert_close(found.account.baseline[:, 1].float(), torch.stack(baseline))
    assert "influence each other" in found.account.note


@pytest.mark.parametrize("name", NORMS)
def test_paths_and_channels_of_one_sample_while_the_others_stay(name: str) -> None:
    norm = NORMS[name]()
    model = Net(norm, norm=norm).eval()
    path = rc.IntegratedRespondCAM(model, layer="l", nodes=40)(THREE, target=1)
    close(path.maps[:, 0], slow_integral(model, model.l, THREE), 2e-2)
    assert bool((path.account.relative_gap < 1e-3).all())
    found = rc.AblationCAM(model, layer="l")(THREE, target=1)
    close(found.maps[:, 0], slow_ablation(model, model.l, THREE), 1e-4)
    score = rc.ScoreCAM(model, layer="l", where="input")(THREE, target=1)
    assert bool(score.maps.isfinite().all())


def test_the_input_of_a_batch_whose_samples_count_for_each_other() -> None:
    pytest.importorskip("captum")
    norm = NORMS["batch norm"]()
    model = Net(norm, norm=norm).eval()
    path = rc.METHODS["integrated-gradients"](model, nodes=40)(THREE, target=1)
    assert bool((path.account.relative_gap < 1e-3).all())
    found = rc.METHODS["occlusion"](model, window=6)(THREE, target=1)
    for sample in range(3):
        with torch.no_grad():
            covered = replaced(THREE, torch.zeros_like(THREE), sample)
            drop = (model(THREE) - model(covered))[sample, 1]
        torch.testing.assert_close(found.maps[sample, 0], drop.expand(6, 6, 6))


class Tokens(nn.Module):
    """Tokens beside one for the class, and a norm over the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.mix, self.head = (
            nn.Conv3d(1, 5, 3, stride=3),
            nn.Linear(5, 5),
            nn.Linear(5, 3),
        )
        self.norm = nn.BatchNorm1d(5, track_running_stats=False)
        self.token = nn.Parameter(torch.randn(1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.mix(tokens)], dim=1)
        return self.head(self.norm(tokens.tanh().mean(dim=1)))


@pytest.mark.parametrize("method", ["hires", "integrated-respond"])
def test_tokens_of_samples_that_count_for_each_other(method: str) -> None:
    model = Tokens().eval()
    found = rc.METHODS[method](model, layer="mix", **({"nodes": 40} if method[0] == "i" else {}))(
        THREE, target=1
    )
    A = output_of(model, model.mix, THREE)
    for sample in range(3):
        gradient = gradient_at(model, model.mix, THREE, A, sample)
        own = (A[sample] * gradient[0]).sum(dim=1).view(2, 2, 2)
        if method == "hires":
            close(found.maps[sample, 0], own, 1e-4)
    if method == "integrated-respond":
        assert bool((found.account.relative_gap < 1e-3).all())


def test_slices_in_the_batch_of_samples_that_count_for_each_other() -> None:
    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.l = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
            self.norm, self.head = nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            b, c, d, h, w = x.shape
            frames = self.l(x.transpose(1, 2).reshape(b * d, c, h, w)).mean((2, 3))
            return self.head(self.norm(frames.view(b, d, -1).mean(1)).tanh())

    model = Frames().eval()
    A = output_of(model, model.l, THREE)
    found = rc.HiResCAM(model, layer="l")(THREE, target=1)
    for sample in range(3):
        leaf = A.clone().requires_grad_(True)
        with in_place_of(model.l, leaf.clone()):
            gradient = torch.autograd.grad(model(THREE)[sample, 1], leaf)[0]
        own = (A * gradient).sum(dim=1)[6 * sample : 6 * sample + 6]
        close(found.maps[sample, 0], own, 1e-4)
    path = rc.IntegratedRespondCAM(model, layer="l", nodes=40)(THREE, target=1)
    assert bool((path.account.relative_gap < 1e-3).all())


def test_several_layers_and_a_graph_of_samples_that_count_for_each_other() -> None:
    norm = NORMS["batch norm"]()
    model = Net(norm, norm=norm).eval()
    for explanation in rc.HiResCAM(model, layer=["c", "l", "d"])(THREE, target=1):
        alone = rc.HiResCAM(model, layer=explanation.layer)(THREE, target=1)
        torch.testing.assert_close(explanation.maps, alone.maps)
        # behind the norm nothing is shared any more, but all come from the same passes
    plain = rc.HiResCAM(model, layer="d")(THREE, target=1)
    assert "influence" not in plain.account.note
    kept = rc.HiResCAM(model, layer="l")(THREE, target=1, create_graph=True)
    kept.maps.square().sum().backward()
    assert bool(model.d.weight.grad.abs().sum() > 0)


def test_an_empty_map_among_samples_that_count_for_each_other() -> None:
    norm = NORMS["first"]()
    model = Net(norm, norm=norm).eval()
    model.l = nn.ReLU()
    nn.init.zeros_(model.c.bias)
    images = THREE * torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1, 1)
    with pytest.warns(EmptyMapWarning, match="sample 1"):
        found = rc.RespondCAM(model, layer="l")(images, target=1)
    assert list(found.empty) == [(1, 0)]


def test_samples_that_do_not_count_for_each_other_are_explained_in_one_pass(monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("one pass is enough")

    monkeypatch.setattr(mixing.EachSample, "__call__", never)
    for way in (
        lambda h: h,
        lambda h: F.dropout(h, 0.5, training=True),
        lambda h: h / h.amax(1, True),
    ):
        rc.RespondCAM(Net(way), layer="l")(THREE, target=1)
    net = Net(lambda h: h, norm=nn.BatchNorm3d(6))
    net.way = net.norm  # with running statistics, in training mode
    rc.RespondCAM(net.train(), layer="l")(THREE, target=1)

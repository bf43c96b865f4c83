"""Random small networks, and what must hold for each: the map, its account, its place, no trace.

``python -m tests.fuzz.networks --networks 5000`` from the root of the repository.
"""

import argparse
import random
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution.explanation import Explanation

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_MEANS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_GLOBAL = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


class Residual(nn.Module):
    """``x + f(x)``."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


class Dense(nn.Module):
    """x beside f(x)."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inside(x)], dim=1)


class Gate(nn.Module):
    """Squeeze and excitation: one weight for each channel."""

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        self.pool, self.weigh = _GLOBAL[axes - 1](1), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.weigh(self.pool(x).flatten(1)))
        return x * weights.reshape(*weights.shape, *[1] * (x.ndim - 2))


@dataclass
class Drawn:
    """A network under construction, with the place of its last layer by the textbook recursion."""

    axes: int
    random_: random.Random
    channels: int
    size: tuple[int, ...]
    stride: list[float] = field(default_factory=list)
    offset: list[float] = field(default_factory=list)
    layers: list[nn.Module] = field(default_factory=list)

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> bool:
        """Follow a window over the grid; False, and nothing done, if it does not fit."""
        reach = dilation * (kernel - 1)
        size = tuple((n + 2 * padding - reach - 1) // stride + 1 for n in self.size)
        if min(size) < 2 or min(self.size) + 2 * padding <= reach:
            return False
        for axis in range(self.axes):
            self.offset[axis] += self.stride[axis] * (reach / 2 - padding)
            self.stride[axis] *= stride
        self.size = size
        return True


def draw(seed: int) -> tuple[nn.Module, str, Drawn, Tensor, bool]:
    """A network, the name of its last layer with a grid, its drawing, an input, linear head."""
    random_ = random.Random(seed)
    torch.manual_seed(seed)
    axes = random_.choice((1, 2, 3, 3))
    size = tuple(random_.randint(7, 14) for _ in range(axes))
    drawn = Drawn(axes, random_, random_.randint(1, 3), size, [1.0] * axes, [0.0] * axes)
    image = torch.randn(random_.randint(1, 3), drawn.channels, *size, dtype=torch.float64)
    for _ in range(random_.randint(1, 4)):
        random_.choice(_BLOCKS)(drawn)
        if random_.random() < 0.5:
            drawn.layers.append(_norm(drawn))
        if random_.random() < 0.8:
            drawn.layers.append(random_.choice(_ACTIVATIONS)())
    _convolve(drawn)
    body = nn.Sequential(*drawn.layers)
    voxels = torch.tensor(drawn.size).prod().item()
    linear = random_.random() < 0.5
    if linear:
        head = nn.Sequential(_GLOBAL[axes - 1](1), nn.Flatten(), nn.Linear(drawn.channels, 3))
    else:
        hidden = nn.Linear(int(drawn.channels * voxels), 5)
        head = nn.Sequential(
            nn.ReLU(inplace=True), nn.Flatten(), hidden, nn.ReLU(), nn.Linear(5, 3)
        )
    model = nn.Sequential()
    model.add_module("body", body)
    model.add_module("head", head)
    for norm in model.modules():
        if isinstance(norm, _NORMS):  # statistics of a trained network
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    model = model.double().train(random_.random() < 0.5)
    for parameter in model.parameters():
        parameter.requires_grad_(random_.random() < 0.8)
    return model, "body", drawn, image, linear


def _convolve(drawn: Drawn) -> None:
    kernel, stride = drawn.random_.randint(1, 4), drawn.random_.choice((1, 1, 2, 3))
    padding, dilation = drawn.random_.randint(0, kernel // 2), drawn.random_.choice((1, 1, 2))
    if not drawn.window(kernel, stride, padding, dilation):
        kernel, stride, padding, dilation = 1, 1, 0, 1
    channels = drawn.random_.randint(1, 4)
    drawn.layers.append(
        _CONVS[drawn.axes - 1](drawn.channels, channels, kernel, stride, padding, dilation=dilation)
    )
    drawn.channels = channels


def _pool(drawn: Drawn) -> None:
    kernel, stride = drawn.random_.randint(2, 3), drawn.random_.randint(1, 2)
    padding = drawn.random_.randint(0, kernel // 2)
    kind = drawn.random_.choice((_MAXIMA, _MEANS))[drawn.axes - 1]
    # PyTorch's mean pooling takes no image smaller than its window, however it is padded
    if min(drawn.size) >= kernel and drawn.window(kernel, stride, padding):
        drawn.layers.append(kind(kernel, stride, padding))


def _same(drawn: Drawn) -> nn.Module:
    """A branch that keeps grid and channels."""
    half = drawn.random_.randint(0, 1)
    conv = _CONVS[drawn.axes - 1](drawn.channels, drawn.channels, 2 * half + 1, padding=half)
    return nn.Sequential(conv, nn.ReLU(inplace=drawn.random_.random() < 0.5))


def _residual(drawn: Drawn) -> None:
    drawn.layers.append(Residual(_same(drawn)))


def _dense(drawn: Drawn) -> None:
    drawn.layers.append(Dense(_same(drawn)))
    drawn.channels *= 2


def _gate(drawn: Drawn) -> None:
    drawn.layers.append(Gate(drawn.axes, drawn.channels))


def _norm(drawn: Drawn) -> nn.Module:
    kinds: tuple[Callable[[], nn.Module], ...] = (
        lambda: _NORMS[drawn.axes - 1](drawn.channels),
        lambda: nn.GroupNorm(1, drawn.channels),
        lambda: _INSTANCE[drawn.axes - 1](drawn.channels, affine=True),
    )
    return drawn.random_.choice(kinds)()


_BLOCKS = (_convolve, _convolve, _convolve, _pool, _residual, _dense, _gate)
_ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, lambda: nn.ReLU(inplace=True), nn.ELU, nn.SiLU, lambda: nn.LeakyReLU(0.1),
)  # fmt: skip


def violations(seed: int) -> list[str]:
    """What does not hold for one network, in words."""
    model, layer, drawn, image, linear = draw(seed)
    before = _trace(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # maps may be empty: a ReLU that is dead at random
        explanation = rc.RespondCAM(model, layer=layer)(image, target="all")
        integrated = _integrated(model, layer, image, nodes=32)
        if _open(integrated) > _CLOSED:  # many switches in few nodes: more of them must close it
            integrated = _integrated(model, layer, image, nodes=512)
        assert isinstance(explanation, Explanation)
        account = explanation.account
    found = [] if _trace(model) == before else ["the model was changed"]
    activation, gradients, scores = _reference(model, layer, image)
    if not torch.allclose(explanation.scores, scores, rtol=1e-9, atol=1e-12):
        found.append("other scores than the model's")
    for target, gradient in enumerate(gradients):
        expected = _slow_map(activation, gradient)
        if not torch.allclose(explanation.maps[:, target], expected, rtol=1e-6, atol=1e-10):
            found.append(f"map of class {target} differs from full autograd")
    grid = explanation.grid
    if grid.stride != tuple(drawn.stride) or grid.offset != tuple(drawn.offset):
        found.append(f"grid {grid.stride} {grid.offset}, not {drawn.stride} {drawn.offset}")
    placed, maps = explanation.place().flatten(2).sum(2), explanation.maps.flatten(2).sum(2)
    largest = explanation.maps.abs().flatten(2).sum(2)
    if bool(((placed - maps).abs() > 1e-5 * largest).any()):
        found.append("placing changed a sum")
    if linear and float(account.gap.abs().max()) > 1e-5 * _scale(integrated):
        found.append(f"a linear head leaves a gap of {float(account.gap.abs().max()):.2g}")
    if _open(integrated) > _CLOSED:
        found.append(f"the integrated gap is {_open(integrated):.2g}")
    return found


_CLOSED = 1e-2  # of what the image contributed to the highest score


def _integrated(model: nn.Module, layer: str, image: Tensor, nodes: int) -> Explanation:
    made = rc.IntegratedRespondCAM(model, layer=layer, nodes=nodes)(image, target="all")
    assert isinstance(made, Explanation)
    return made


def _scale(explanation: Explanation) -> float:
    account = explanation.account
    return float((account.score - account.baseline).abs().amax().clamp_min(1e-3))


def _open(explanation: Explanation) -> float:
    return float(explanation.account.gap.abs().max()) / _scale(explanation)


def _reference(model: nn.Module, layer: str, image: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """Activation, gradient of each class, and scores, by plain autograd over all of the network."""
    flags = [(m, m.training) for m in model.modules()]
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor) -> Tensor:
        output.retain_grad()
        kept.append(output)
        return output.clone()

    handle = model.get_submodule(layer).register_forward_hook(keep)
    try:
        model.eval()
        scores = model(image.clone().requires_grad_(True))
        gradients = [
            torch.autograd.grad(scores[:, n].sum(), kept[0], retain_graph=True)[0]
            for n in range(scores.shape[1])
        ]
    finally:
        handle.remove()
        for module, training in flags:
            module.training = training
    return kept[0].detach(), gradients, scores.detach()


def _slow_map(activation: Tensor, gradient: Tensor) -> Tensor:
    """The signed form, channel by channel."""
    found = torch.zeros_like(activation[:, 0])
    for sample in range(len(activation)):
        for channel in range(activation.shape[1]):
            one, slope = activation[sample, channel], gradient[sample, channel]
            total = one.abs().sum()
            if total > 0:
                found[sample] += (one * slope).sum() * one.abs() / total
    return found


def _trace(model: nn.Module) -> object:
    """Everything of a model that an explanation must not change."""
    state = tuple((k, v.clone().numpy().tobytes()) for k, v in model.state_dict().items())
    flags = tuple(module.training for module in model.modules())
    grads = tuple((p.requires_grad, p.grad is None) for p in model.parameters())
    hooks = tuple(
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for m in model.modules()
    )
    return state, flags, grads, hooks, torch.get_rng_state().numpy().tobytes()


def main() -> int:
    """Draw networks and say what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    failed = 0
    for seed in range(given.seed, given.seed + given.networks):
        try:
            found = violations(seed)
        except Exception:
            found = [traceback.format_exc(limit=-3)]
        if found:
            failed += 1
            sys.stdout.write(f"network {seed}: {'; '.join(found)}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{given.networks} networks, {failed} with a violation\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

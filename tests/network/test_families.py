"""Families of networks as their authors wrote them: the same checks for every one.

Each is run with random weights at a small size. The map is compared with one made the long way, the
grid with the architecture and with the voxels that the layer really sees.
"""

import copy
import functools
import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.families import FAMILIES, WARNINGS_OF_OTHERS, weighted
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution import Explanation

pytestmark = WARNINGS_OF_OTHERS
EVERY = [
    pytest.param(name, marks=[pytest.mark.slow] if family.slow else [], id=name)
    for name, family in FAMILIES.items()
]


@dataclass(frozen=True)
class Explained:
    family: Any
    model: nn.Module
    inputs: Any
    explanation: Explanation
    before: dict[str, Any]
    after: dict[str, Any]


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that an explanation must leave alone."""
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "training": [m.training for m in model.modules()],
        "trainable": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad for p in model.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
        "rng": torch.get_rng_state(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


@functools.lru_cache(maxsize=1)
def explained(name: str) -> Explained:
    family = FAMILIES[name]
    if not importlib.util.find_spec(family.needs):
        pytest.skip(f"{family.needs} is not installed")
    model, inputs = family.network(), family.inputs()
    model.train()
    next(iter(model.modules())).training = False  # flags that differ must all come back
    for number, parameter in enumerate(model.parameters()):
        if parameter.is_floating_point() and number % 3 == 0:
            parameter.requires_grad_(False)
    before = state(model)
    explainer = rc.RespondCAM(model, family.layer, output=family.output)
    explanation = explainer(inputs, target=weighted)
    return Explained(family, model, inputs, explanation, before, state(model))


def on_grid(values: Tensor, one: Explained) -> Tensor:
    """A layer's output as (batch, channel, *grid), by hand."""
    shape = one.explanation.maps.shape[2:]
    if one.family.tokens is not None:
        tokens = values[:, one.family.tokens :]
        return tokens.transpose(1, 2).reshape(len(values), -1, *shape)
    if one.family.needs == "keras":
        return values.movedim(-1, 1)  # channels last
    return values.reshape(*values.shape[:2], *shape)


def the_long_way(one: Explained) -> tuple[Tensor, Tensor]:
    """The map from a whole graph, and the score: nothing of the library is used."""
    layer, _, call = one.family.layer.partition("#")
    model = one.model if one.family.needs == "keras" else copy.deepcopy(one.model)
    module = model.get_submodule(layer)
    flags = [(m, m.training) for m in model.modules()]
    seen: list[Tensor] = []

    def hook(_: nn.Module, args: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        tensor.retain_grad()
        seen.append(tensor)
        copied = tensor.clone()  # something in place may follow
        return (copied, *output[1:]) if isinstance(output, tuple) else copied

    handle = module.register_forward_hook(hook)
    model.eval()
    given = one.inputs if isinstance(one.inputs, tuple) else (one.inputs,)
    given = [t.clone().requires_grad_(True) for t in given]
    out = model(*given)
    out = one.family.output(out) if one.family.output else out
    out = out[None] if out.ndim == 1 and len(given[0]) == 1 else out
    score = weighted(out)
    score.sum().backward()
    handle.remove()
    for m, training in flags:
        m.training = training
    tensor = seen[int(call)] if call else seen[-1]
    assert tensor.grad is not None
    A, G = (on_grid(t.detach(), one).double() for t in (tensor, tensor.grad))
    for parameter in model.parameters():
        parameter.grad = None
    axes = tuple(range(2, A.ndim))
    share = (A * G).sum(dim=axes, keepdim=True)
    size = A.abs().sum(dim=axes, keepdim=True)
    maps = torch.where(size > 0, share * A.abs() / size.clamp(min=1e-300), 0.0).sum(dim=1)
    return maps, score.detach()


@pytest.mark.parametrize("name", EVERY)
def test_the_map_is_that_of_full_autograd(name: str) -> None:
    one = explained(name)
    maps, score = the_long_way(one)
    found = one.explanation.maps[:, 0].double()
    assert float(maps.abs().max()) > 0
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-5 * float(maps.abs().max()))
    torch.testing.assert_close(
        one.explanation.scores[:, 0], score.expand(len(found)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", EVERY)
def test_the_grid_is_where_the_architecture_puts_it(name: str) -> None:
    one = explained(name)
    family, grid = one.family, one.explanation.grid
    rank = len(grid.shape)

    def per_axis(value: Any) -> tuple[float, ...]:
        return tuple(map(float, value)) if isinstance(value, tuple) else (float(value),) * rank

    assert grid.origin == "layout"
    assert grid.stride == per_axis(family.stride)
    assert grid.offset == per_axis(family.offset)
    assert grid.uncertainty == pytest.approx(per_axis(family.slack))
    conflict = grid.note.partition("traced in a real forward pass")[0]
    assert bool(conflict) == (family.slack > 0)  # a conflict is named
    assert one.explanation.bypassed == family.bypassed


@pytest.mark.parametrize("name", EVERY)
def test_the_account_closes(name: str) -> None:
    one = explained(name)
    family, account = one.family, one.explanation.account
    if not family.linear:
        if name == "bag of instances":
            pytest.skip("a path through one bag has no meaning: its own test says how it is worded")
        options: dict[str, Any] = {"output": family.output, "nodes": family.nodes}
        explainer = rc.IntegratedRespondCAM(one.model, family.layer, **options)
        account = explainer(one.inputs, target=weighted).account
    scale = (account.score - account.baseline).abs().max()
    rounding = 1e-5 * float(account.score.abs().max())
    assert (
        float(account.gap.abs().max()) <= (0 if family.linear else 0.05) * float(scale) + rounding
    )


@pytest.mark.parametrize("name", EVERY)
def test_the_network_is_as_it_was(name: str) -> None:
    one = explained(name)
    weights, others = one.before["weights"], one.after["weights"]
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert torch.equal(one.before["rng"], one.after["rng"])
    for what in ("training", "trainable", "gradients", "hooks", "grad mode"):
        assert one.before[what] == one.after[what], what


@pytest.mark.parametrize("name", EVERY)
def test_a_layer_is_chosen_without_being_named(name: str) -> None:
    one = explained(name)
    family = one.family
    found = rc.RespondCAM(one.model, output=family.output)(one.inputs, target=weighted)
    assert found.layer == (family.chosen or family.layer.partition("#")[0])
    assert found.layer_reason
    assert float(found.maps.abs().max()) > 0


# Where the layer's voxels really look ------------------------------------------------------------


def straightened(model: nn.Module) -> nn.Module:
    """The network with positive weights and nothing that switches or normalises.

    What a voxel sees is then exactly where its gradient is not zero.
    """
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            setattr(parent, name, _straight(child))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.ones_like(parameter) / max(1, parameter[:1].numel()))
    return model


def _straight(module: nn.Module) -> nn.Module:
    kind = type(module).__name__
    if isinstance(module, nn.MaxPool3d | nn.MaxPool2d | nn.MaxPool1d):
        pool = getattr(nn, kind.replace("Max", "Avg"))
        return pool(module.kernel_size, module.stride, module.padding, module.ceil_mode)
    activations = ("ReLU", "LeakyReLU", "PReLU", "ELU", "GELU", "Mish", "Dropout", "Dropout3d")
    if kind in activations or ("Norm" in kind and not list(module.children())):
        return nn.Identity()
    return module


LOCAL = [p for p in EVERY if FAMILIES[str(p.values[0])].local and p.id != "DiNTS"]


class ReachedError(Exception):
    """Ends the forward pass at the layer: what comes after it does not matter."""


def sees(family: Any, length: int) -> tuple[int, range]:
    """An inner voxel along the first axis, and the voxels of a long input that it sees."""
    layer, _, call = family.layer.partition("#")
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.append(output)
        if len(seen) > int(call or 0):
            raise ReachedError

    model = straightened(family.network())
    model.get_submodule(layer).register_forward_hook(hook)
    widths = [s[3:] if len(set(s[2:])) > 1 else [min(n, 16) for n in s[3:]] for s in family.shapes]
    shapes = [(1, s[1], length, *w)[: len(s)] for s, w in zip(family.shapes, widths, strict=True)]
    given = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    with pytest.raises(ReachedError):
        model(*(tensor * 1 for tensor in given))
    middle = seen[-1].shape[2] // 2
    (gradient,) = torch.autograd.grad(seen[-1][:, :, middle].sum(), given[family.source])
    reached = gradient.transpose(0, 2).flatten(1).abs().sum(dim=1).nonzero()[:, 0]
    return middle, range(int(reached.min()), int(reached.max()) + 1)


@pytest.mark.parametrize("name", LOCAL)
def test_the_grid_is_where_the_layer_looks(name: str) -> None:
    """The middle of what an inner voxel sees, along the first axis, is where the grid has it."""
    family = FAMILIES[name]
    if not importlib.util.find_spec(family.needs):
        pytest.skip(f"{family.needs} is not installed")
    stride, offset = (v[0] if isinstance(v, tuple) else v for v in (family.stride, family.offset))
    length = int(16 * stride) + 64
    middle, reached = sees(family, length)
    assert 0 < reached[0] < reached[-1] < length - 1, "the border cuts off what the voxel sees"
    centre = (reached[0] + reached[-1]) / 2
    assert abs(centre - (offset + stride * middle)) <= family.slack

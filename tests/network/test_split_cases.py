"""The split forward pass against full autograd, case by case."""

import copy
import dataclasses
import random
import threading
from collections import namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from respondcam.errors import LayerError, ModelError
from respondcam.network.calling import INPUT
from respondcam.network.split import run_head, split_pass


def pair(name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
    """Keep both, so that a test can compare them."""
    return torch.stack([activation, gradient])


def split(model: nn.Module, layers: dict[str, nn.Module], inputs: Any, score: Any = None) -> Any:
    return split_pass(model, layers, inputs, score or (lambda out: out), pair)


def full_autograd(
    model: nn.Module, layer: nn.Module, x: Tensor, target: int, call: int = -1
) -> tuple[Tensor, Tensor]:
    """Activation and gradient by recording the whole network, independent of the library."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda m, a, out: (seen.append(out), out.clone())[1])
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    with torch.enable_grad():
        score = model(x.detach().clone().requires_grad_(True))[:, target].sum()
        (gradient,) = torch.autograd.grad(score, seen[call])
    handle.remove()
    for module, mode in modes:
        module.training = mode
    return seen[call].detach(), gradient


def cnn(rank: int = 3, *, inplace: bool = False, head: str = "gap") -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    tail = [pool(1), nn.Flatten(), nn.Linear(6, 4)]
    if head == "mlp":
        tail = [nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 4)]
    model = nn.Sequential(
        conv(2, 5, 3, padding=1),
        nn.ReLU(inplace=inplace),
        conv(5, 6, 3, stride=2),
        norm(6),
        nn.ReLU(inplace=inplace),
        *tail,
    )
    model(torch.randn(3, 2, *[9] * rank))  # lets the statistics differ from their defaults
    return model


def image(rank: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, *[9] * rank, generator=torch.Generator().manual_seed(1))


def assert_equals_autograd(
    model: nn.Module, layer: nn.Module, x: Tensor, *, reference: nn.Module | None = None
) -> None:
    other = reference or model
    twin = dict(other.named_modules())[
        next(name for name, module in model.named_modules() if module is layer)
    ]
    kept = split(model, {"layer": layer}, x).kept["layer"][-1]
    for target in range(len(kept)):
        activation, gradient = full_autograd(other, twin, x, target)
        torch.testing.assert_close(kept[target, 0], activation, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(kept[target, 1], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("head", ["gap", "mlp"])
@pytest.mark.parametrize("index", [0, 1, 2, 3, 4])
def test_equals_full_autograd(rank: int, head: str, index: int) -> None:
    model = cnn(rank, head=head)
    assert_equals_autograd(model, model[index], image(rank))


@pytest.mark.parametrize("index", [0, 3])
def test_in_place_operation_right_after_the_layer(index: int) -> None:
    plain, inplace = cnn(), cnn(inplace=True)
    inplace.load_state_dict(plain.state_dict())
    x = image()
    kept = split(inplace, {"layer": inplace[index]}, x).kept["layer"][0]
    activation, gradient = full_autograd(plain, plain[index], x, 1)
    torch.testing.assert_close(kept[1, 0], activation)
    torch.testing.assert_close(kept[1, 1], gradient)


def test_several_nested_layers_in_one_pass() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = cnn()[:5]
            self.head = cnn()[5:]

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.trunk(x))

    model, x = Nested().eval(), image()
    layers = {"trunk": model.trunk, "trunk.1": model.trunk[1], "trunk.4": model.trunk[4]}
    layers[INPUT] = model
    kept = split(model, layers, x).kept
    for name in ("trunk", "trunk.1", "trunk.4"):
        activation, gradient = full_autograd(model, layers[name], x, 2)
        torch.testing.assert_close(kept[name][0][2, 0], activation)
        torch.testing.assert_close(kept[name][0][2, 1], gradient)
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(leaf)[:, 2].sum(), leaf)
    torch.testing.assert_close(kept[INPUT][0][2, 0], x)
    torch.testing.assert_close(kept[INPUT][0][2, 1], gradient)


def test_module_called_several_times() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Conv3d(2, 2, 3, padding=1)
            self.head = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.block(x).relu()
            return self.head(x.mean(dim=(2, 3, 4)))

    torch.manual_seed(0)
    model, x = Shared(), image()
    calls = split(model, {"block": model.block}, x).kept["block"]
    assert len(calls) == 3
    for call in range(3):
        activation, gradient = full_autograd(model, model.block, x, 0, call)
        torch.testing.assert_close(calls[call][0, 0], activation)
        torch.testing.assert_close(calls[call][0, 1], gradient)


def test_two_streams_through_one_module() -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = cnn()[:5]
            self.head = nn.Linear(12, 2)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            both = [self.trunk(x).mean(dim=(2, 3, 4)) for x in (left, right)]
            return self.head(torch.cat(both, dim=1))

    model, x = Siamese().eval(), image()
    calls = split(model, {"trunk": model.trunk}, {"left": x, "right": -x}).kept["trunk"]
    assert len(calls) == 2
    weight = model.head.weight
    for call, half in enumerate((weight[0, :6], weight[0, 6:])):
        voxels = calls[call][0, 1][0, 0].numel()
        expected = (half / voxels).view(1, 6, 1, 1, 1).expand_as(calls[call][0, 1])
        torch.testing.assert_close(calls[call][0, 1], expected.detach())


def test_frozen_parameters() -> None:
    model = cnn().requires_grad_(False)
    assert_equals_autograd(model, model[2], image())
    assert not any(p.requires_grad for p in model.parameters())


def test_weight_norm_and_user_hooks() -> None:
    model = cnn()
    nn.utils.parametrizations.weight_norm(model[2])
    model[4].register_forward_hook(lambda m, a, out: out * 2)
    x = image()
    kept = split(model, {"layer": model[4]}, x).kept["layer"][0]
    activation, gradient = full_autograd(model, model[4], x, 0)
    torch.testing.assert_close(kept[0, 0], activation)
    torch.testing.assert_close(kept[0, 1], gradient)


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_callers_without_autograd(caller: Any) -> None:
    model = cnn()
    expected = split(model, {"layer": model[4]}, image()).kept["layer"][0]
    with caller():
        x = image()  # made inside, so an inference tensor in the second case
        kept = split(model, {"layer": model[4]}, x).kept["layer"][0]
        assert torch.is_inference_mode_enabled() == (caller is torch.inference_mode)
    torch.testing.assert_close(kept, expected)


class Around(nn.Module):
    """Autograd is switched off and on inside the forward pass."""

    def __init__(self, trunk: Any, layer: Any) -> None:
        super().__init__()
        self.net = cnn()
        self.trunk_mode, self.layer_mode = trunk, layer

    def forward(self, x: Tensor) -> Tensor:
        with self.trunk_mode():
            x = self.net[:4](x)
            if self.layer_mode is None:
                x = self.net[4](x)
        if self.layer_mode is not None:
            with self.layer_mode():
                x = self.net[4](x)
        return self.net[5:](x)


@pytest.mark.parametrize(
    ("trunk", "layer"),
    [
        (torch.no_grad, None),
        (torch.no_grad, torch.enable_grad),
        (torch.enable_grad, torch.no_grad),
        (torch.no_grad, torch.no_grad),
        (torch.inference_mode, torch.enable_grad),
    ],
)
def test_grad_mode_changes_inside_the_model(trunk: Any, layer: Any) -> None:
    model, x = Around(trunk, layer).eval(), image()
    activation, gradient = full_autograd(model.net, model.net[4], x, 3)
    kept = split(model, {"layer": model.net[4]}, x).kept["layer"][0]
    torch.testing.assert_close(kept[3, 0], activation)
    torch.testing.assert_close(kept[3, 1], gradient)


def test_inference_mode_around_the_layer_is_refused() -> None:
    model = Around(torch.no_grad, torch.inference_mode)
    with pytest.raises(LayerError, match="inference_mode"):
        split(model, {"layer": model.net[4]}, image())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_model_built_under_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Conv3d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 343, 2))
    with pytest.raises(ModelError, match="built under"):
        split(model, {"0": model[0]}, image())


@pytest.mark.parametrize("cut", ["detach", "data", "argmax"])
def test_a_cut_gradient_is_named(cut: str) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv3d(2, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).mean(dim=(2, 3, 4))
            cuts = {"detach": x.detach(), "data": x.data, "argmax": x.argmax(1, keepdim=True)}
            return self.head(cuts[cut].expand(-1, 4).float())

    model = Cut()
    with pytest.raises(LayerError, match=r"does not depend on layer 'conv'.*detach"):
        split(model, {"conv": model.conv}, image())


@pytest.mark.filterwarnings("ignore")  # those of torch about its own quantisation
def test_a_quantised_head_has_no_gradient() -> None:
    model = cnn()
    model[-1] = torch.ao.nn.quantized.dynamic.Linear(6, 4)
    with pytest.raises(LayerError, match=r"does not depend on layer '4'.*quantised layer"):
        split(model, {"4": model[4]}, image())


def test_a_layer_that_is_not_called_lists_those_that_are() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare, self.direct = nn.Conv3d(2, 2, 3), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.direct.forward(self.used(x)).mean(dim=(2, 3, 4))

    model = Spare()
    for name in ("spare", "direct"):
        with pytest.raises(LayerError, match=rf"{name}.*not called.*Layers that were called: used"):
            split(model, {name: getattr(model, name)}, image())


@dataclasses.dataclass
class Features:
    maps: Tensor
    note: str = "kept"


Pair = namedtuple("Pair", ["maps", "extra"])


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "namedtuple", "dataclass"])
def test_layers_returning_containers(kind: str) -> None:
    wrap = {
        "tuple": lambda x: (x, x.mean()),
        "list": lambda x: [x, 3],
        "dict": lambda x: {"maps": x, "other": None},
        "namedtuple": lambda x: Pair(x, "text"),
        "dataclass": Features,
    }[kind]
    first = {
        "dict": lambda out: out["maps"],
        "namedtuple": lambda out: out.maps,
        "dataclass": lambda out: out.maps,
    }.get(kind, lambda out: out[0])

    class Trunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = cnn()[:5]

        def forward(self, x: Tensor) -> Any:
            return wrap(self.net(x))

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head = Trunk(), cnn()[5:]

        def forward(self, x: Tensor) -> Tensor:
            out = self.trunk(x)
            assert type(out) is type(wrap(x))
            return self.head(first(out))

    model, x = Whole().eval(), image()
    kept = split(model, {"trunk": model.trunk}, x).kept["trunk"][0]
    activation, gradient = full_autograd(model, model.trunk.net, x, 1)
    torch.testing.assert_close(kept[1, 0], activation)
    torch.testing.assert_close(kept[1, 1], gradient)


class Own(dict):
    """A mapping of its own, which torch's trees do not look into."""


@dataclasses.dataclass(frozen=True)
class Growing:
    """With a field that its own checks would empty."""

    first: Tensor
    second: Tensor | None = dataclasses.field(init=False, default=None)


@pytest.mark.parametrize("kind", ["mapping", "growing"])
def test_layers_returning_containers_of_their_own(kind: str) -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Any:
            if kind == "mapping":
                return Own(first=x.exp(), second=2 * x)
            found = Growing(x.exp())
            object.__setattr__(found, "second", 2 * x)
            return found

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Layer()

        def forward(self, x: Tensor) -> Tensor:
            found = self.layer(x)
            one, two = found.values() if kind == "mapping" else (found.first, found.second)
            return (one * two).mean((2, 3, 4))

    model, x = Model(), image()
    kept = split(model, {"layer": model.layer}, x).kept["layer"][0]
    torch.testing.assert_close(kept[0, 0], x.exp())
    torch.testing.assert_close(kept[0, 1, :, 0], 2 * x[:, 0] / x[0, 0].numel())


def test_a_layer_that_gives_one_tensor_twice() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = Twice()

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.twice(x)
            return (a.sum(dim=(2, 3, 4)) + 2 * b.sum(dim=(2, 3, 4)))[:, :1]

    model = Whole()
    gradient = split(model, {"twice": model.twice}, image()).kept["twice"][0][0, 1]
    torch.testing.assert_close(gradient[:, 0], torch.full_like(gradient[:, 0], 3.0))


@pytest.mark.parametrize("where", ["inside", "before", "second"])
def test_non_reentrant_checkpointing(where: str) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = cnn()[:2], cnn()[2:5], cnn()[5:]

        def forward(self, x: Tensor) -> Tensor:
            x = checkpoint(self.first, x, use_reentrant=False)
            x = checkpoint(self.second, x, use_reentrant=False)
            return self.head(x)

    model, x = Checkpointed().eval(), image()
    picked = {
        "inside": {"second.1": model.second[1]},
        "before": {"first": model.first},
        "second": {"first.0": model.first[0], "second.0": model.second[0]},
    }[where]
    kept = split(model, picked, x).kept
    for name, layer in picked.items():
        activation, gradient = full_autograd(model, layer, x, 0, call=0)
        torch.testing.assert_close(kept[name][0][0, 0], activation)
        torch.testing.assert_close(kept[name][0][0, 1], gradient)


def test_a_model_that_takes_gradients_of_a_checkpointed_part() -> None:
    class Energy(nn.Module):
        """The gradient of a scalar field is part of the scores."""

        def __init__(self) -> None:
            super().__init__()
            self.field, self.head = nn.Conv3d(1, 1, 3, padding=1), nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.requires_grad_()
                value = checkpoint(lambda y: self.field(y).tanh(), x, use_reentrant=False)
                (force,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
                return self.head((value + force.detach()).mean(dim=(2, 3, 4)))

    torch.manual_seed(0)
    model, x = Energy().eval(), torch.randn(1, 1, 4, 4, 4)
    (kept,) = split(model, {"field": model.field}, x).kept["field"]  # of one call, not of two
    activation, gradient = full_autograd(model, model.field, x, 0, call=0)
    torch.testing.assert_close(kept[0, 0], activation)
    torch.testing.assert_close(kept[0, 1], gradient)


def test_inside_a_backward_pass() -> None:
    model, x = cnn().eval(), image()
    expected = split(model, {"2": model[2]}, x).kept["2"][0]
    found: list[Tensor] = []
    other = torch.ones(1, requires_grad=True)
    other.register_hook(lambda _: found.append(split(model, {"2": model[2]}, x).kept["2"][0]))
    (2 * other).backward()
    torch.testing.assert_close(found[0], expected)


def test_reentrant_checkpointing_around_the_layer_is_refused() -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head = cnn()[:5], cnn()[5:]

        def forward(self, x: Tensor) -> Tensor:
            return self.head(checkpoint(self.trunk, x, use_reentrant=True))

    model = Checkpointed().eval()
    with (
        pytest.warns(UserWarning, match="requires_grad"),
        pytest.raises(LayerError, match="reentrant"),
    ):
        split(model, {"trunk.2": model.trunk[2]}, image())


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("how", ["wrapper", "method"])
@pytest.mark.usefixtures("plain_import")
def test_compiled_models(warm: bool, how: str) -> None:
    model, x = cnn().eval(), image()
    reference = copy.deepcopy(model)
    compiled = model
    if how == "wrapper":
        compiled = torch.compile(model, backend="eager")
    else:
        model.compile(backend="eager")
    if warm:
        with torch.no_grad():
            compiled(x)
    kept = split(compiled, {"layer": model[4]}, x).kept["layer"][0]
    activation, gradient = full_autograd(reference, reference[4], x, 1)
    torch.testing.assert_close(kept[1, 0], activation)
    torch.testing.assert_close(kept[1, 1], gradient)
    torch.testing.assert_close(compiled(x), reference(x))  # and it still runs compiled


def test_data_parallel_wrapper() -> None:
    model, x = cnn(), image()
    expected = split(model, {"layer": model[4]}, x).kept["layer"][0]
    kept = split(nn.DataParallel(model), {"layer": model[4]}, x).kept["layer"][0]
    torch.testing.assert_close(kept, expected)


def test_bfloat16_autocast_gives_full_precision_maps() -> None:
    model, x = cnn().eval(), image()
    with torch.autocast("cpu", torch.bfloat16):
        kept = split(model, {"layer": model[4]}, x).kept["layer"][0]
    assert kept.dtype == torch.float32
    activation, gradient = full_autograd(model, model[4], x, 0)
    torch.testing.assert_close(kept[0, 0], activation, rtol=0.05, atol=0.05)
    torch.testing.assert_close(kept[0, 1], gradient, rtol=0.05, atol=1e-3)


def test_float16_gradients_do_not_underflow() -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).mean(dim=(2, 3, 4)) * 1e-4

    model = Tiny().half()
    x = torch.rand(1, 2, 24, 24, 24).half()
    gradient = split(model, {"conv": model.conv}, x).kept["conv"][0][0, 1]
    torch.testing.assert_close(
        gradient[0, 0], torch.full((24, 24, 24), 1e-4 / 24**3), rtol=2e-2, atol=0
    )


def test_channels_last_and_train_mode_leave_the_model_as_it_was() -> None:
    model = cnn().to(memory_format=torch.channels_last_3d).train()
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    flags = [m.training for m in model.modules()]
    x = image().to(memory_format=torch.channels_last_3d)
    kept = split(model, {"layer": model[4]}, x).kept["layer"][0]
    activation, _ = full_autograd(model, model[4], x, 0)
    torch.testing.assert_close(kept[0, 0], activation)
    assert [m.training for m in model.modules()] == flags
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


class BoomError(RuntimeError):
    pass


@pytest.mark.parametrize("error", [BoomError, KeyboardInterrupt, LayerError])
@pytest.mark.parametrize("where", ["model", "score", "reduce"])
def test_everything_is_restored_after_an_exception(error: type[BaseException], where: str) -> None:
    model = cnn().train()
    model[0].weight.requires_grad_(False)
    trainable = [p.requires_grad for p in model.parameters()]
    torch.manual_seed(5)
    rng = torch.get_rng_state()

    def fail(*_: Any) -> Any:
        torch.rand(3)
        raise error("boom")

    def score(out: Tensor) -> Tensor:
        return fail() if where == "score" else out

    handle = model[5].register_forward_hook(fail) if where == "model" else None
    with pytest.raises(ModelError if (where, error) == ("model", BoomError) else error):
        split_pass(model, {"4": model[4]}, image(), score, fail if where == "reduce" else pair)
    if handle:
        handle.remove()
    assert torch.is_grad_enabled()
    assert all(m.training for m in model.modules())
    assert [p.requires_grad for p in model.parameters()] == trainable
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(p.grad is None for p in model.parameters())


class Sealed(nn.Identity):
    """Once it is part of a network, its flags cannot be set."""

    sealed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self.sealed:
            raise BoomError("sealed")
        super().__setattr__(name, value)


def test_a_module_that_refuses_to_be_switched_leaves_the_others_as_they_were() -> None:
    model = nn.Sequential(*cnn(), Sealed()).train()
    vars(model[-1])["sealed"] = True
    with pytest.raises(BoomError):
        split(model, {"4": model[4]}, image())
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    vars(model[-1])["sealed"] = False
    split(model, {"4": model[4]}, image())
    assert all(m.training for m in model.modules())


def test_the_input_is_never_written_to() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv3d(2, 3, 3), nn.Flatten(2))
    x = image()
    before = x.clone()
    split(model, {"1": model[1]}, x, lambda out: out.mean(dim=2))
    assert torch.equal(x, before)


def test_random_state_is_left_alone() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.conv(x) + torch.randn(1)).mean(dim=(2, 3, 4))

    torch.manual_seed(3)
    model = Noisy()
    state = torch.get_rng_state()
    split(model, {"conv": model.conv}, image())
    assert torch.equal(torch.get_rng_state(), state)


def test_eight_threads_on_one_model() -> None:
    model = cnn(head="mlp").train()
    inputs = [image(batch=1) * (i + 1) for i in range(24)]
    expected = [split(model, {"4": model[4]}, x).kept["4"][0] for x in inputs]
    wrong: list[int] = []

    def work(indices: list[int]) -> None:
        for i in indices:
            if not torch.equal(split(model, {"4": model[4]}, inputs[i]).kept["4"][0], expected[i]):
                wrong.append(i)

    order = list(range(24)) * 4
    random.Random(0).shuffle(order)
    threads = [threading.Thread(target=work, args=(order[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_batched_targets_equal_the_loop_and_survive_missing_batching_rules() -> None:
    class NoRule(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return torch.from_numpy(gradient.numpy() * 2)  # no batching rule for numpy()

    class Custom(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = cnn()

        def forward(self, x: Tensor) -> Tensor:
            return self.net[5:](NoRule.apply(self.net[:5](x)))

    model, x = Custom().eval(), image()
    kept = split(model, {"layer": model.net[4]}, x).kept["layer"][0]
    for target in range(4):
        activation, gradient = full_autograd(model, model.net[4], x, target)
        torch.testing.assert_close(kept[target, 0], activation)
        torch.testing.assert_close(kept[target, 1], gradient)


def test_functional_transforms_are_refused() -> None:
    model = cnn().eval()
    with pytest.raises(ModelError, match="vmap"):
        torch.vmap(lambda x: split(model, {"4": model[4]}, x[None]).scores)(image())


@pytest.mark.parametrize("shape", [(1, 3, 9, 9, 9), (1, 2, 4, 9), (1, 2, 1, 1, 1)])
def test_an_input_that_does_not_fit_is_worded(shape: tuple[int, ...]) -> None:
    model = cnn()
    with pytest.raises(ModelError, match="does not run on the input"):
        split(model, {"4": model[4]}, torch.zeros(shape))


def test_the_head_runs_again_on_changed_activations() -> None:
    model, x = cnn(), image()
    out = run_head(model, ("4", model[4]), x, torch.zeros_like)
    torch.testing.assert_close(out, model[7].bias.detach().expand(2, 4))
    torch.testing.assert_close(
        run_head(model, ("4", model[4]), x, lambda a: a), model.eval()(x).detach()
    )


def test_differentiable_results_reach_the_parameters() -> None:
    model = cnn().double().eval()
    x = image().double()

    def total(name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        return F.relu(activation * gradient).sum()

    def loss() -> Tensor:
        kept = split_pass(
            model, {"2": model[2]}, x, lambda o: o[:, :1], total, create_graph=True
        ).kept
        return kept["2"][0].sum()

    (gradient,) = torch.autograd.grad(loss(), model[0].weight, allow_unused=False)
    step = 1e-6
    with torch.no_grad():
        model[0].weight[0, 0, 1, 1, 1] += step
        up = loss().item()
        model[0].weight[0, 0, 1, 1, 1] -= 2 * step
        down = loss().item()
    assert gradient[0, 0, 1, 1, 1].item() == pytest.approx((up - down) / (2 * step), rel=1e-4)

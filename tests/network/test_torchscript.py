"""TorchScript programs: layers, maps and grids are those of the Python network behind them."""

import copy
import warnings
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respondcam.attribution import Explanation, GradCAM, IntegratedRespondCAM, RespondCAM
from respondcam.errors import LayerError, ModelError
from respondcam.network.inspection import inspect
from respondcam.network.torchscript import as_module

pytestmark = [  # of TorchScript itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Net(nn.Module):
    """A shared layer, a branch, a method of its own, an operation in place, and functions."""

    def __init__(self, rank: int = 3):
        super().__init__()
        conv, norm = CONVS[rank - 1], NORMS[rank - 1]
        self.stem = nn.Sequential(conv(1, 4, 3, 2, 1), norm(4), nn.ReLU(inplace=True))
        self.twice = conv(4, 4, 3, padding=1)
        self.side = conv(4, 4, 1)
        self.drop = nn.Dropout(0.5)
        self.scores = nn.Linear(4, 3)

    def helper(self, x: Tensor) -> Tensor:
        return F.relu(self.twice(x)) + self.side(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.helper(self.helper(self.stem(x)))
        x = F.interpolate(x, scale_factor=2.0)
        return self.scores(self.drop(x).flatten(2).mean(2))


def network(rank: int = 3) -> Net:
    torch.manual_seed(1)
    net = Net(rank).eval()
    for module in net.modules():
        if isinstance(module, NORMS):
            assert module.running_mean is not None
            nn.init.normal_(module.running_mean)
    return net


def made(kind: str, net: nn.Module, x: Any, path: Any = None) -> torch.jit.ScriptModule:
    script = torch.jit.script(net) if kind.startswith("script") else torch.jit.trace(net, x)
    if kind.endswith("file"):
        torch.jit.save(script, str(path / "net.pt"))
        script = torch.jit.load(str(path / "net.pt"))
    assert isinstance(script, torch.jit.ScriptModule)
    return script


def one(found: Any) -> Explanation:
    assert isinstance(found, Explanation)
    return found


KINDS = ["script", "trace", "script file", "trace file"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_maps_grids_and_accounts_are_those_of_the_python_network(kind, rank, tmp_path):
    net, x = network(rank), torch.randn(2, 1, *(9, 10, 11)[:rank])
    script = made(kind, net, x, tmp_path)
    layers = ["stem", "stem.0", "stem.2", "twice#0", "twice#1", "side#1", "input"]
    for theirs, ours in zip(
        RespondCAM(net, layer=layers)(x, target="all"),
        RespondCAM(script, layer=layers)(x, target="all"),
        strict=True,
    ):
        torch.testing.assert_close(ours.maps, theirs.maps, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-6, atol=1e-7)
        assert ours.grid == theirs.grid
        assert ours.grid.origin in ("layout", "input")
        assert ours.bypassed == theirs.bypassed
        torch.testing.assert_close(ours.account.gap, theirs.account.gap, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_the_preflight_table_and_the_chosen_layer_are_the_same(kind):
    net, x = network(), torch.randn(1, 1, 8, 8, 8)
    script = made(kind, net, x)
    rows, expected = inspect(script, x), inspect(net, x)
    assert [(r.name, r.kind, r.shape, r.grid, r.calls, r.reached, r.head_bytes) for r in rows] == [
        (r.name, r.kind, r.shape, r.grid, r.calls, r.reached, r.head_bytes) for r in expected
    ]
    assert rows.chosen == expected.chosen
    assert RespondCAM(script, layer="twice#0")(x).layer == "twice#0"


@pytest.mark.parametrize("kind", ["script", "trace"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_every_grad_mode_of_the_caller_and_several_layers(kind, mode):
    net, x = network(), torch.randn(2, 1, 6, 6, 6)
    script = made(kind, net, x)
    expected = [one(e).maps for e in GradCAM(net, layer=["stem", "side#0"])(x, target="all")]
    with mode():
        found = GradCAM(script, layer=["stem", "side#0"])(x, target="all")
        for ours, maps in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.maps, maps, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_the_integrated_form_closes_the_account(kind):
    net, x = network(), torch.randn(2, 1, 6, 6, 6)
    script = made(kind, net, x)
    explanation = one(IntegratedRespondCAM(script, layer="stem")(x, target="all"))
    assert explanation.account.gap.abs().max() < 1e-3 * explanation.scores.abs().max()
    same = one(IntegratedRespondCAM(net, layer="stem")(x, target="all"))
    torch.testing.assert_close(explanation.maps, same.maps, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["script", "trace"])
@pytest.mark.parametrize("training", [False, True])
def test_the_program_is_left_as_it_was(kind, training):
    script = made(kind, network(), torch.randn(1, 1, 6, 6, 6)).train(training)
    next(script.parameters()).requires_grad_(False)
    before = {
        "state": {name: value.clone() for name, value in script.state_dict().items()},
        "flags": [p.requires_grad for p in script.parameters()],
        "training": [m.training for m in script.modules()],
        "graphs": [str(m.graph) for m in script.modules() if hasattr(m, "graph")],
        "versions": [t._version for t in (*script.parameters(), *script.buffers())],
    }
    x = torch.randn(1, 1, 6, 6, 6)
    kept = x.clone()
    inspect(script, x)
    one(RespondCAM(script, layer="stem")(x)).place()
    assert torch.equal(x, kept)
    state = script.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before["state"].items())
    assert [p.requires_grad for p in script.parameters()] == before["flags"]
    assert [m.training for m in script.modules()] == before["training"]
    assert [str(m.graph) for m in script.modules() if hasattr(m, "graph")] == before["graphs"]
    assert [t._version for t in (*script.parameters(), *script.buffers())] == before["versions"]
    assert all(p.grad is None for p in script.parameters())


def test_what_is_changed_in_the_program_shows_in_its_maps():
    net, x = network(), torch.randn(1, 1, 6, 6, 6)
    script = torch.jit.script(net)
    explainer = RespondCAM(script, layer="stem")
    first = one(explainer(x)).maps
    with torch.no_grad():
        script.scores.weight.mul_(2)
    torch.testing.assert_close(one(explainer(x)).maps, 2 * first)
    double = torch.jit.script(copy.deepcopy(net)).double()
    assert one(RespondCAM(double, layer="stem")(x.double())).maps.dtype == torch.float64


def test_layers_are_found_as_modules_of_the_program():
    script = torch.jit.script(network())
    layer = dict(script.named_modules())["stem.0"]
    x = torch.randn(1, 1, 6, 6, 6)
    assert one(RespondCAM(script, layer=layer)(x)).layer == "stem.0"
    with pytest.raises(LayerError, match="the model itself"):
        RespondCAM(script, layer=script)
    with pytest.raises(LayerError, match=r"Net has no layer 'twize'. Near names: twice"):
        RespondCAM(script, layer="twize")


def test_no_tensor_outlives_its_last_use():
    """The price of a pass is that of an inference, in memory too."""
    module = as_module(torch.jit.script(network()))
    outputs: dict[str, Any] = {}
    alive: list[str] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            outputs[name] = weakref.ref(output)

        return hook

    def look(*_: Any) -> None:
        alive.extend(name for name, ref in outputs.items() if ref() is not None)

    for name in ("stem.0", "stem.1", "stem", "twice", "side"):
        module.get_submodule(name).register_forward_hook(note(name))
    module.get_submodule("scores").register_forward_pre_hook(look)
    with torch.no_grad():
        module(torch.randn(1, 1, 6, 6, 6))
    assert len(outputs) == 5
    assert alive == []


class Language(nn.Module):
    """Control flow and containers: what TorchScript has beyond operators on tensors."""

    steps: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv1d(2, 2, 3, padding=1) for _ in range(3))
        self.named = nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()})
        self.steps = [1, 2]
        self.maybe = None
        self.count = 0
        self.register_buffer("seen", torch.zeros(1))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, times: int = 2, extra: Tensor | None = None) -> dict[str, Tensor]:
        if x.dim() != 3:
            raise ValueError(f"expected three dimensions, got {x.dim()}")
        found: list[Tensor] = []
        sizes: dict[str, int] = {"x": x.size(2)}
        for block in self.blocks:
            x = block(x)
            found.append(x)
        i = 0
        while i < times and float(x.detach().abs().max()) > 0:
            x = self.named["a"](x) * self.scale
            for j in range(3):
                if j == 1:
                    continue
                x = x + float(j)
            i += 1
        if extra is not None:
            x = x + extra
        with torch.no_grad():
            weight = torch.cat(found, 1).mean()
        a, b = torch.split(x, 1, 1)
        sizes["y"] = len(found) + sum(self.steps)
        del sizes["x"]
        text = "mean"
        if text in ["mean", "sum"] and "y" in sizes:
            x = torch.stack([a, b, found[-1][:, :1]], dim=0).mean(0) * sizes["y"]
        found = found[1:] + [x]  # noqa: RUF005
        shape = list(x.shape[:-1]) + [-1]  # noqa: RUF005, as TorchScript takes it
        assert x.dtype == torch.float32
        last, n = self.pair(found)
        return {"scores": last.reshape(shape).mean(2) + weight * n, "named": self.named["b"](x)}

    def pair(self, items: list[Tensor]) -> tuple[Tensor, int]:
        items.insert(0, items.pop())
        return items[0], len(items)


def test_control_flow_and_containers_mean_what_they_mean_in_torchscript():
    torch.manual_seed(2)
    net = Language().eval()
    script = torch.jit.script(net)
    module = as_module(script)
    x, extra = torch.randn(2, 2, 7), torch.randn(2, 2, 7)
    for args, kwargs in [((x,), {}), ((x, 4), {}), ((x,), {"extra": extra}), ((), {"x": x})]:
        ours, theirs = module(*args, **kwargs), script(*args, **kwargs)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def pick(output: Any) -> Tensor:
        return output["scores"]

    for layer in ("blocks.1", "named.a#0"):
        theirs = one(RespondCAM(net, layer=layer, output=pick)(x, target="all"))
        ours = one(RespondCAM(script, layer=layer, output=pick)(x, target="all"))
        torch.testing.assert_close(ours.maps, theirs.maps, rtol=1e-6, atol=1e-7)
        assert ours.grid == theirs.grid


class Dialect(nn.Module):
    """What is rarer: unions, texts, warnings, and all that lists and dictionaries can do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 2, 3)

    def forward(self, x: Tensor, by: int | float | str = 2, bias: Tensor | None = None) -> Tensor:
        if x.dim() != 3:
            raise ValueError(f"expected three dimensions, got {x.dim()}")
        x = self.conv(x)
        if isinstance(by, int):
            x = x * by
        elif isinstance(by, float):
            x = x * by + 1.0
        else:
            warnings.warn("no number", stacklevel=1)
        if bias is not None:
            x = x + torch.jit._unwrap_optional(bias)
        order: list[int] = torch.tensor([3, 1, 2]).tolist()
        order.sort(reverse=True)
        order.extend(sorted([5, 4]))
        order.reverse()
        order.remove(4)
        again = order.copy()
        again[0] = 7
        again.clear()
        again.append(order.pop(0))
        shares = {"a": 1, "b": 2}
        shares.update({"c": 3})
        shares.setdefault("d", len("%d and {}" % 4 + "{}".format(5)))  # noqa: UP031, UP032
        total = shares.get("e", 10) + shares["d"]
        for name, share in shares.items():
            if name in shares.keys():  # noqa: SIM118
                total += share * (1 + again[0])
        total += sum(list(shares.values())) + (order * 2)[-1] + order[1:][0]
        table = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64).float()
        line = torch.as_tensor([1, 2], device=x.device) + torch.tensor(0.5)
        return (x.mean(2) * float(total)) @ table + line + torch.as_tensor(line, dtype=x.dtype)


def test_the_rest_of_the_language():
    torch.manual_seed(3)
    net = Dialect().eval()
    script = torch.jit.script(net)
    module, x = as_module(script), torch.randn(1, 2, 7)
    for given in ((x,), (x, 3), (x, 1.5), (x, 2, torch.ones(1))):
        assert torch.equal(module(*given), script(*given))
        assert torch.equal(module(*given), net(*given))
    with pytest.warns(UserWarning, match="no number"):
        module(x, "text")
    with pytest.raises(RuntimeError, match="expected three dimensions, got 2"):
        module(x[0])


class Pair:
    def __init__(self, first: int) -> None:
        self.first = first


class Objects(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(2) * Pair(2).first


def test_objects_of_other_classes_are_named():
    with pytest.raises(ModelError, match=r"prim::CreateObject of .*Pair.*Python network"):
        RespondCAM(torch.jit.script(Objects()), layer="conv")(torch.randn(1, 1, 5))


class Modes(nn.Module):
    """Sets its own mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        self.training = not self.training
        return x * (2 if self.training else 1)


def test_a_program_that_changes_its_mode():
    script = torch.jit.script(Modes().eval())
    module, x = as_module(script), torch.ones(1)
    assert [float(module(x)) for _ in range(3)] == [2.0, 1.0, 2.0]
    assert module.training
    assert not script.training


class Counting(nn.Module):
    """Writes to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3)
        self.calls = 0
        self.register_buffer("total", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.total += 1
        self.total = self.total + 1
        return self.conv(x).mean(2) * (2 if self.training else 1)


def test_a_program_that_writes_to_itself():
    script = torch.jit.script(Counting())
    module = as_module(script)
    x = torch.randn(1, 1, 5)
    module.eval()
    assert torch.equal(module(x), script.eval()(x))
    assert module.value("calls") == 1
    module.train()
    assert torch.equal(module(x), script.train()(x))
    assert module.value("calls") == 2


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda net: torch.jit.freeze(torch.jit.script(net)), "torch.jit.freeze"),
        (lambda net: nn.Sequential(torch.jit.script(net)), "part '0' is TorchScript.*as_module"),
    ],
)
def test_programs_without_layers_that_can_be_hooked(program, words):
    with pytest.raises((LayerError, ModelError), match=words):
        RespondCAM(program(network()))(torch.randn(1, 1, 6, 6, 6))


def test_a_program_as_part_of_a_python_network():
    net, x = network(), torch.randn(1, 1, 6, 6, 6)
    whole = nn.Sequential(nn.AvgPool3d(1), as_module(torch.jit.script(net)))
    theirs = one(RespondCAM(nn.Sequential(nn.AvgPool3d(1), net), layer="1.stem")(x))
    assert torch.equal(one(RespondCAM(whole, layer="1.stem")(x)).maps, theirs.maps)


def test_inputs_that_the_program_does_not_take_are_named():
    script = torch.jit.script(network())
    x = torch.randn(1, 1, 6, 6, 6)
    for inputs in ((x, x), {"y": x}):
        with pytest.raises(ModelError, match=r"takes 1 input \(x\)"):
            RespondCAM(script, layer="stem")(inputs)


def test_operators_without_a_meaning_in_python_are_named():
    class Forks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            future = torch.jit.fork(torch.neg, x)
            return self.conv(torch.jit.wait(future)).mean(2)

    with pytest.raises(ModelError, match=r"operator prim::fork.*Python network"):
        RespondCAM(torch.jit.script(Forks()), layer="conv")(torch.randn(1, 1, 5))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * grads[0]


def test_python_functions_in_a_trace_are_named():
    class Custom(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return Doubled.apply(self.conv(x)).mean(2)  # type: ignore[no-any-return]

    x = torch.randn(1, 1, 5)
    with pytest.raises(ModelError, match=r"operator prim::PythonOp"):
        RespondCAM(torch.jit.trace(Custom(), x, check_trace=False), layer="conv")(x)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("densenet", "script"), ("unet", "trace")])
def test_networks_of_monai(name: str, kind: str) -> None:
    nets: Any = pytest.importorskip("monai.networks.nets")
    makers: dict[str, Any] = {
        "densenet": lambda: nets.DenseNet(3, 1, 3, 4, 2, (2, 2)),
        "unet": lambda: nets.UNet(3, 1, 2, (2, 4), (2,), num_res_units=1),
    }
    net, x = makers[name]().eval(), torch.randn(1, 1, 32, 32, 32)
    if kind == "script":
        script = torch.jit.script(net)
    else:
        script = torch.jit.trace(net, x, check_trace=False)
    theirs, ours = one(RespondCAM(net)(x)), one(RespondCAM(script)(x))
    assert ours.layer == theirs.layer
    assert ours.grid == theirs.grid
    torch.testing.assert_close(ours.maps, theirs.maps, rtol=1e-5, atol=1e-7)

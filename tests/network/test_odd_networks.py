"""Networks that keep things, build layers or hand on outputs in ways of their own."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import respondcam as rc
from respondcam.errors import LayerError


def total(found: rc.Explanation) -> Tensor:
    """What the account adds up to without its gap."""
    return (found.account.baseline + found.account.mapped).float()


@dataclass
class State:
    """What a recurrent network carries from call to call."""

    hidden: Tensor


class Recurrent(nn.Module):
    """Adds what it saw last, which it keeps in an attribute as an object."""

    def __init__(self, make: Callable[[Tensor], Any], start: Any) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Linear(4, 2)
        self.make, self.state = make, start

    def forward(self, image: Tensor) -> Tensor:
        x = self.act(self.conv(image))
        if self.state is not None:
            x = x + self.state.hidden
        self.state = self.make(x.detach())
        return self.head(x.mean((2, 3, 4)))


@pytest.mark.parametrize("kind", [State, lambda hidden: SimpleNamespace(hidden=hidden)])
@pytest.mark.parametrize("begun", [False, True])
def test_a_state_that_is_replaced_by_each_call_is_put_back_after_each_map(kind, begun) -> None:
    start = kind(torch.full((1, 4, 4, 4, 4), 0.5)) if begun else None
    net, image = Recurrent(kind, start).eval(), torch.rand(1, 1, 6, 6, 6)
    with torch.no_grad():
        expected = copy.deepcopy(net)(image)[:, 1:]
    for _ in range(3):
        found = rc.RespondCAM(net, layer="act")(image, target=1)
        torch.testing.assert_close(found.scores, expected)
        torch.testing.assert_close(total(found), expected)
        assert net.state is start
    rc.inspect(net, image)
    assert net.state is start


def test_what_lies_in_a_namespace_within_a_namespace_is_put_back() -> None:
    class Net(Recurrent):
        def forward(self, image: Tensor) -> Tensor:
            x = self.act(self.conv(image))
            self.make.inner.hidden = x.detach()
            return self.head(x.mean((2, 3, 4)))

    store: Any = SimpleNamespace(inner=SimpleNamespace(hidden=None))
    net, image = Net(store, None).eval(), torch.rand(1, 1, 6, 6, 6)
    for explain in (rc.inspect, rc.RespondCAM(net, layer="act")):
        explain(net, image) if explain is rc.inspect else explain(image, target=1)
        assert store.inner.hidden is None


@pytest.mark.parametrize("built", [lambda: nn.Conv3d(4, 4, 1), lambda: nn.Parameter(torch.ones(1))])
def test_a_network_that_builds_a_part_in_its_first_call_can_still_do_so(built) -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Linear(4, 2)
            self.extra = None

        def forward(self, image: Tensor) -> Tensor:
            x = self.act(self.conv(image))
            if self.extra is None:
                self.extra = built()
            x = self.extra(x) if isinstance(self.extra, nn.Module) else x * self.extra
            return self.head(x.mean((2, 3, 4)))

    net, image = Lazy().eval(), torch.rand(1, 1, 6, 6, 6)
    for method in (rc.RespondCAM, rc.IntegratedRespondCAM, rc.RespondCAM):
        assert method(net, layer="act")(image, target=1).maps.any()
        assert net.extra is None
        assert [name for name, _ in net.named_children()] == ["conv", "act", "head"]
    assert net(image).shape == (1, 2)


def test_layers_below_a_reentrant_checkpoint_are_looked_through() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU())
            self.high = nn.Sequential(nn.Conv3d(4, 4, 3), nn.ReLU())
            self.head = nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            x: Any = checkpoint(self.low, image, use_reentrant=True)
            return self.head(self.high(x).mean((2, 3, 4)))

    net, image = Net().eval(), torch.rand(1, 1, 8, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # checkpoint: no input requires a gradient
        chosen = rc.RespondCAM(net)(image, target=1)
        named = rc.RespondCAM(net, layer=chosen.layer)(image, target=1)
        assert "high.1" in str(rc.inspect(net, image))
        assert rc.AblationCAM(net, layer="high.1")(image, target=1).maps.any()
    torch.testing.assert_close(chosen.maps, named.maps)


def test_layers_within_vmap_are_passed_over() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            rows: Any = torch.vmap(self.head)(self.act(self.conv(image)).mean((2, 3, 4)))
            return rows

    net, image = Net().eval(), torch.rand(2, 1, 6, 6, 6)
    for method in (rc.RespondCAM, rc.IntegratedRespondCAM, rc.AblationCAM):
        found = method(net)(image, target=1)
        assert found.layer == "act"
        torch.testing.assert_close(found.scores, net(image).detach()[:, 1:])


class Named(OrderedDict[str, Any]):
    """A dictionary whose entries are a dataclass's fields as well."""

    def __post_init__(self) -> None:
        for entry in fields(self):  # type: ignore[arg-type]
            self[entry.name] = getattr(self, entry.name)


@dataclass
class Features(Named):
    """What the encoder below gives."""

    last: Any = None
    others: Any = None


@pytest.mark.parametrize(
    "read", [lambda o: o.last, lambda o: o["last"], lambda o: next(iter(o.values()))]
)
def test_an_output_that_is_a_dataclass_and_a_dictionary_has_one_tensor_under_both(read) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 4, 3)

        def forward(self, image: Tensor) -> Any:
            return Features(torch.tanh(self.conv(image)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = Encoder(), nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            return self.head(read(self.encoder(image)).mean((2, 3, 4)))

    net, image = Net().eval(), torch.rand(1, 1, 6, 6, 6)
    for method in (rc.RespondCAM, rc.IntegratedRespondCAM):
        found = method(net, layer="encoder")(image, target=1)
        torch.testing.assert_close(total(found), found.scores)
    weight, activation = net.head.weight[1], torch.tanh(net.encoder.conv(image)).detach()
    drop = rc.AblationCAM(net, layer="encoder")(image, target=1)
    assert drop.maps.any()
    bias = net.head.bias[1:2].detach()[None]
    torch.testing.assert_close(drop.account.baseline.float(), bias)
    score = (weight * activation.mean((2, 3, 4))).sum() + bias
    torch.testing.assert_close(drop.scores, score.detach())


class Kept(nn.Module):
    """A U-Net whose skip connection is what a hook of its own has kept."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(0.1))
        self.high, self.out = nn.Conv3d(4, 4, 1), nn.Conv3d(8, 3, 1)
        self.kept: list[Tensor] = []
        self.low.register_forward_hook(lambda module, args, output: self.kept.append(output))

    def forward(self, image: Tensor) -> Tensor:
        self.kept.clear()
        x = torch.tanh(self.high(self.low(image)))
        return self.out(torch.cat([x, torch.sin(self.kept.pop())], 1)).mean((2, 3, 4))


def test_what_a_hook_of_the_network_s_own_has_kept_counts_as_the_layer_s() -> None:
    net, image = Kept().eval(), torch.rand(2, 1, 6, 6, 6)
    leaf = net.low(image).detach().requires_grad_(True)

    def head(x: Tensor) -> Tensor:
        joined = torch.cat([torch.tanh(net.high(x)), torch.sin(x)], 1)
        return net.out(joined).mean((2, 3, 4))[:, 1:2]

    (gradient,) = torch.autograd.grad(head(leaf).sum(), leaf)
    found = rc.HiResCAM(net, layer="low")(image, target=1)
    torch.testing.assert_close(found.maps[:, 0], (leaf * gradient).sum(1).detach())
    assert not found.bypassed
    silent = head(torch.zeros_like(leaf)).detach()
    torch.testing.assert_close(found.account.baseline.float(), silent)
    path = rc.IntegratedRespondCAM(net, layer="low", nodes=32)(image, target=1)
    torch.testing.assert_close(path.account.baseline.float(), silent)
    torch.testing.assert_close(total(path), found.scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "view", [lambda x: x.flatten(2), lambda x: x.transpose(3, 4), lambda x: x[:, :], lambda x: x]
)
def test_a_view_from_before_a_layer_in_place_counts_as_its_output(view) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.act, self.head = (
                nn.Conv3d(1, 4, 1),
                nn.ELU(inplace=True),
                nn.Linear(4, 2),
            )

        def forward(self, image: Tensor) -> Tensor:
            x = self.stem(image)
            before = view(x)
            y = self.act(x)
            return self.head((torch.sin(y) + before.reshape(y.shape) ** 2).mean((2, 3, 4)))

    net, image = Net().eval(), torch.rand(1, 1, 3, 3, 3)
    leaf = nn.functional.elu(net.stem(image)).detach().requires_grad_(True)
    same = view(leaf).reshape(leaf.shape)
    score = net.head((torch.sin(leaf) + same**2).mean((2, 3, 4)))[:, 1]
    (gradient,) = torch.autograd.grad(score.sum(), leaf)
    found = rc.HiResCAM(net, layer="act")(image, target=1)
    torch.testing.assert_close(found.scores[:, 0], score.detach())
    torch.testing.assert_close(found.maps[:, 0], (leaf * gradient).sum(1).detach())


def test_several_calls_on_one_memory_are_refused_rather_than_wrong() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.drop, self.head = nn.Conv3d(1, 4, 1), nn.Dropout(), nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            skip = self.drop(self.stem(image))
            x = self.drop(skip)
            x += 1  # in evaluation mode this is the skip, too
            return self.head((torch.sin(x) + skip).mean((2, 3, 4)))

    net, image = Net().eval(), torch.rand(1, 1, 3, 3, 3)
    for layer in ("drop", "drop#0", "drop#1"):
        with pytest.raises(LayerError, match="writes to under other names"):
            rc.RespondCAM(net, layer=layer)(image, target=1)
    assert rc.RespondCAM(net, layer="stem")(image, target=1).maps.any()


def test_the_path_through_the_second_call_of_a_layer_in_place_reaches_every_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.act = nn.Conv3d(1, 4, 1), nn.LeakyReLU(0.2, inplace=True)
            self.head = nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            x = self.act(self.stem(image))
            y = self.act(x.add_(-0.1))
            return self.head((torch.sin(y) + x).mean((2, 3, 4)))

    net, image = Net().eval(), torch.rand(1, 1, 3, 3, 3)
    found = rc.IntegratedRespondCAM(net, layer="act#1", nodes=32)(image, target=1)
    sums = total(found)
    torch.testing.assert_close(sums, found.scores, atol=1e-5, rtol=1e-3)

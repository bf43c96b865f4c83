"""Threads that run one network at the same time, made to meet at the worst moments."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.network.test_sharing import KINDS
from tests.network.test_sharing import Net as WrittenTo
from torch import Tensor, nn

import respondcam as rc
from respondcam.network.survey import survey
from respondcam.network.unbatched import refuse_unbatched


def elsewhere(work: Callable[[], Any]) -> Any:
    """What `work` gives in another thread; its error is raised here."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class Meeting(OrderedDict[int, Any]):
    """Where PyTorch notes hooks' wishes: another thread works just before and after each note."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work = work
        self.met = 0

    def __setitem__(self, key: int, value: Any) -> None:
        self._meet()
        super().__setitem__(key, value)
        self._meet()

    def __delitem__(self, key: int) -> None:
        self._meet()
        super().__delitem__(key)
        self._meet()

    def _meet(self) -> None:
        self.met += 1
        elsewhere(self.work)


class Keyword(nn.Module):
    """A layer that is called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3)

    def forward(self, *, image: Tensor) -> Tensor:
        return self.conv(image)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.fc = Keyword(), nn.Linear(4, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.first(image=image).relu().mean((2, 3, 4)))


@pytest.mark.parametrize("method", [rc.RespondCAM, rc.AblationCAM, rc.IntegratedRespondCAM])
@pytest.mark.parametrize("layer", ["first", "input"])
def test_a_thread_may_run_a_layer_while_its_hook_is_put_in_place(method, layer) -> None:
    net, image = Net().eval(), torch.rand(1, 1, 6, 6, 6)
    explainer = method(net, layer=layer)
    expected = explainer(image, target=1).maps
    other = torch.rand(1, 1, 6, 6, 6)
    with torch.no_grad():
        theirs = net(other)

    def work() -> None:
        with torch.no_grad():
            assert torch.equal(net(other), theirs)
            assert torch.equal(net(image=other), theirs)

    hooked = net if layer == "input" else net.first
    hooked._forward_pre_hooks_with_kwargs = meeting = Meeting(work)
    assert torch.equal(explainer(image, target=1).maps, expected)
    assert meeting.met >= 4


def test_a_thread_may_run_a_layer_while_its_batch_axis_is_looked_for() -> None:
    net, image = nn.Sequential(nn.Conv3d(1, 2, 3)).eval(), torch.rand(1, 6, 6, 6)
    met: list[int] = []

    def work() -> None:
        with torch.no_grad():
            met.append(net(torch.rand(2, 1, 6, 6, 6)).ndim)

    net[0]._forward_pre_hooks_with_kwargs = Meeting(work)
    with pytest.raises(rc.InputError, match="no batch axis"):
        refuse_unbatched(net, image)
    assert set(met) == {5}


class Shortcut(nn.Module):
    """The output of `same` is also what it was given, and is written to under that name."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.same, self.conv = nn.Conv3d(1, 3, 3), nn.Identity(), nn.Conv3d(3, 3, 1)
        self.meet: Callable[[], None] | None = None

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        same = self.same(x)
        if same.requires_grad and self.meet is not None:  # the layer is hooked
            meet, self.meet = self.meet, None
            meet()
        return (self.conv(x.relu_()) + same).mean((2, 3, 4))


def test_what_one_thread_learns_of_shared_memory_does_not_excuse_another() -> None:
    net, image = Shortcut().eval(), torch.randn(1, 1, 5, 5, 5)
    with torch.no_grad():
        expected = net(image)[:, :1]
    explainer = rc.RespondCAM(net, layer="same")
    theirs: list[Tensor] = []

    def meet() -> None:  # another thread learns of the layer while this one has handed on a copy
        theirs.append(elsewhere(lambda: explainer(image, target=0)).scores)

    net.meet = meet
    torch.testing.assert_close(explainer(image, target=0).scores, expected)
    torch.testing.assert_close(theirs, [expected])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [rc.RespondCAM, rc.HiResCAM])
def test_a_layer_that_is_learned_of_during_a_pass_keeps_the_others_apart(kind, method) -> None:
    net, image = WrittenTo(kind).eval(), torch.randn(1, 1, 9, 9, 9)
    alone = method(copy.deepcopy(net), layer=["shared", "stem"])
    expected = [one.maps for one in alone(image, target=0)]
    theirs: list[None] = []

    def learn(module: nn.Module, args: Any) -> None:
        if args[0].requires_grad and not theirs:  # the pass of both has begun
            theirs.append(None)
            elsewhere(lambda: method(net, layer="shared")(image, target=0))

    net.shared.register_forward_pre_hook(learn)
    found = [one.maps for one in method(net, layer=["shared", "stem"])(image, target=0)]
    torch.testing.assert_close(found, expected)
    assert theirs


def test_calls_of_another_thread_are_not_counted_as_the_network_s() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    inside = threading.local()

    def meet(module: nn.Module, args: Any, output: Any) -> None:
        if not getattr(inside, "busy", False):

            def work() -> None:
                inside.busy = True
                with torch.no_grad():
                    net(torch.rand(1, 1, 6, 6, 6))

            elsewhere(work)

    net[0].register_forward_hook(meet)
    found = {layer.name: layer for layer in survey(net, torch.rand(1, 1, 6, 6, 6)).layers}
    assert {layer.calls for layer in found.values()} == {1}


@pytest.mark.parametrize("keywords", [False, True])
def test_hooks_that_another_thread_registers_during_a_trace_stay_as_they_are(keywords) -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    handles: list[Any] = []
    called: list[int] = []

    def register(module: nn.Module, args: Any, output: Any) -> None:
        if not handles:  # the first pass of the trace
            handles.append(
                elsewhere(
                    lambda: net[1].register_forward_pre_hook(
                        lambda module, args, *more: called.append(len(more)), with_kwargs=keywords
                    )
                )
            )

    net[0].register_forward_hook(register)
    rc.RespondCAM(net, layer="0")(torch.rand(1, 1, 6, 6, 6), target=0)
    called.clear()
    net(torch.rand(1, 1, 6, 6, 6))
    assert called == [int(keywords)]

"""The split forward pass: everything below the explained layer runs as plain inference.

A hook on the layer replaces its output by a leaf of autograd and switches autograd on, so the rest
of the forward pass (the head) builds the only graph there is. One pass serves all layers and all
targets. The price is an inference plus the backward pass of the head.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from respondcam.errors import LayerError, ModelError, is_out_of_memory
from respondcam.network.called import called_modules
from respondcam.network.calling import (
    call_cast,
    call_model,
    input_name,
    refuse_unhookable,
    unwrap,
)
from respondcam.network.failures import no_gradient, not_differentiable
from respondcam.network.gradients import full_precision, gradients_of
from respondcam.network.hooks import hook_after, hook_before
from respondcam.network.layout.memory import recall, remember
from respondcam.network.sharing import Known, Sharing
from respondcam.network.state import RandomStates, undisturbed
from respondcam.network.taps import GradModeShim, Swap, Tap, node_of, set_grad
from respondcam.network.trees import (
    is_float,
    map_tensors,
    plain,
    private_copy,
    signature,
    spatial_tensor,
    tensors,
)

_NEAR = 1e-3  # of the largest number: half precision differs by less than that

Reduce = Callable[[str, int, Tensor, Tensor], Tensor]
"""(layer, call, activation, gradient of one target's score) -> what is kept of them."""


@dataclass(frozen=True)
class Expansion:
    """Several changed copies of one layer's activation in one pass.

    Parameters
    ----------
    layer, call
        Which layer, and which of its calls.
    copies
        Activation -> the copies, one after the other along the batch axis.
    """

    layer: str
    call: int
    copies: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SplitPass:
    """What one pass gave.

    Parameters
    ----------
    scores
        (batch, target), detached.
    kept
        For each layer, for each of its calls: the stacked results (target, ...) of `reduce`.
    """

    scores: Tensor
    kept: dict[str, tuple[Tensor, ...]]


def split_pass(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    inputs: Any,
    score: Callable[[Any], Tensor],
    reduce: Reduce,
    *,
    expand: Expansion | None = None,
    create_graph: bool = False,
    writes_input: bool = True,
) -> SplitPass:
    """Run `model` once and give `reduce` each layer's activation and gradient, target by target.

    Parameters
    ----------
    model
        Any PyTorch module; parallel wrappers are unwrapped. It is left exactly as it was.
    layers
        Name -> submodule of `model`; the model itself, under its `input_name`, stands for its first
        floating-point input.
    inputs
        Tensor (batch, channel, *spatial), or a tuple or dict of what the model takes.
    score
        Model output -> scores (batch, target). Samples of a batch must not influence each other.
    reduce
        Called as ``reduce(name, call, activation, gradient)`` for every target, layer and call.
    expand
        Lets the part after a layer run on several changed copies of the batch.
    create_graph
        Keep the graph, with the parameters and the inputs in it, so that results can enter a loss.
    writes_input
        Whether the model may write to its inputs (`trace_layers` knows): it then gets a copy, which
        counts where the input is the largest tensor.

    Raises
    ------
    LayerError
        If a layer is never called, or the score does not depend on it.
    ModelError
        If the model cannot run on the inputs, or cannot be hooked at all.
    """
    model = unwrap(model)
    refuse_unhookable(model)
    with (
        undisturbed(model, constant_parameters=not create_graph, backward=True),
        _twice_differentiable(create_graph),
    ):
        kept: dict[str, tuple[Tensor, ...]] = {}
        scores: Tensor | None = None
        pending: list[dict[str, nn.Module]] = [dict(layers)]
        while pending:
            group = pending.pop(0)
            known = Known.of(group.values())
            if len(group) > 1 and known.shares(group.values()):
                pending = [*_apart(group, known), *pending]
                continue
            call = _Forward(model, group, known, inputs, score, expand, create_graph, writes_input)
            one = _passed(call, reduce)
            if one is None:
                pending = [group, *pending]
                continue
            kept |= one.kept
            scores = one.scores if scores is None else scores
        assert scores is not None
        return SplitPass(scores, {name: kept[name] for name in layers})


def _apart(layers: dict[str, nn.Module], known: Known) -> list[dict[str, nn.Module]]:
    """Layers that share their output's memory each by itself, the others together.

    What one of them writes would overwrite what autograd has kept for another.
    """
    alone = [{name: module} for name, module in layers.items() if known.shares([module])]
    rest = {name: module for name, module in layers.items() if not known.shares([module])}
    return [*([rest] if rest else []), *alone]


def _passed(call: "_Forward", reduce: Reduce) -> SplitPass | None:
    """One pass, forward and backward; None if a layer's output has to be handed on otherwise."""
    try:
        taps, scores = _reaching(call)
    except (ModelError, LayerError):
        if {name for name, tap in call.taps.items() if tap.sharing.failed()}:
            return None
        raise
    if {name for name, tap in taps.items() if tap.sharing.parted()}:  # each remembers its layer
        return None
    if missing := _unreached(taps, scores):
        raise no_gradient(missing[0])
    if call.outputs and call.expand is None:
        _refuse_changed(call)
    create_graph = call.record_all
    return SplitPass(
        scores=scores if create_graph else scores.detach(),
        kept=_backward(call.model, taps, scores, reduce, create_graph=create_graph),
    )


def _refuse_changed(call: "_Forward") -> None:
    """Raise LayerError if the network computed something else than it does by itself.

    It takes a pass, once for each kind of inputs.
    """
    model, modules = call.model, list(call.layers.values())
    key = ("computes the same", *call.layers, signature(call.inputs))
    if recall(model, key, modules):
        return
    before = RandomStates.now()
    by_itself = call_cast(model, map_tensors(private_copy, call.inputs))
    if before.left():  # it draws other numbers each time
        return
    for one, other in zip(call.outputs, tensors(by_itself), strict=True):
        if is_float(other):
            near = (one - other).abs() <= _NEAR * other.abs().max()
            if not bool((near | (one.isnan() & other.isnan())).all()):
                raise LayerError(
                    f"The output of layer {next(iter(call.layers))!r} is memory that the network "
                    f"writes to under other names, in a way that cannot be followed: it would "
                    f"compute other scores while it is explained. Choose the layer before or "
                    f"after it, or let the network write to a copy."
                )
    remember(model, key, modules, True)


def _reaching(call: "_Forward") -> tuple[dict[str, Tap], Tensor]:
    """Run the model so that autograd is on from the layers to the scores, whatever it switches."""
    taps, scores, cut = call.run()
    if _unreached(taps, scores):  # a no_grad block inside the model, or no path at all
        taps, scores, _ = call.run(shim=True)
    elif cut:  # a block around the layer ended and took the grad mode with it
        taps, scores, _ = call.run(from_start=True)
    return taps, scores


def run_head(
    model: nn.Module,
    layer: tuple[str, nn.Module],
    inputs: Any,
    change: Callable[[Tensor], Tensor],
    *,
    call: int = -1,
    calls: int = 1,
) -> Any:
    """Run `model` without autograd, with one layer's output replaced by ``change(output)``.

    Parameters
    ----------
    layer
        (name, module) as in `split_pass`.
    call, calls
        Which of the layer's calls is changed, and how many there are.

    Returns
    -------
    The model's output.
    """
    model = unwrap(model)
    name, module = layer
    with undisturbed(model):
        while True:
            sharing = Sharing(module, Known.of([module]))
            swap = Swap(name, sharing, change, call=call, calls=calls)
            with _hooked(model, {name: module}, {name: swap}):
                output = call_cast(model, map_tensors(private_copy, inputs))
            if not swap.sharing.parted():
                return output


def run_watched(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    inputs: Any,
    watch: Callable[[str, Tensor], None],
) -> None:
    """Run `model` without autograd, and show ``watch(name, output)`` what each layer gives."""
    model = unwrap(model)

    def notice(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            found = spatial_tensor(output)
            if found is not None:
                watch(name, found.detach())

        return hook

    with undisturbed(model), contextlib.ExitStack() as stack:
        for name, module in layers.items():
            hook_after(stack, module, notice(name))
        call_cast(model, map_tensors(private_copy, inputs))


@contextlib.contextmanager
def _hooked(
    model: nn.Module, layers: Mapping[str, nn.Module], taps: Mapping[str, Tap | Swap]
) -> Generator[None, None, None]:
    own = input_name(model)
    with contextlib.ExitStack() as stack:
        for name, module in layers.items():
            tap = taps[name]
            if name == own:
                hook_before(stack, module, tap.on_input)
            else:
                hook_before(stack, module, tap.before)
                hook_after(stack, module, tap.on_output)
        yield


@contextlib.contextmanager
def _twice_differentiable(wanted: bool) -> Generator[None, None, None]:
    """Only what has a right second derivative after the pass.

    The fused attention kernels have none; the plain one has. Activation checkpointing runs parts of
    the model again when the loss goes backward, with its training flags restored by then.
    """
    if not wanted:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    why = "create_graph=True does not go with activation checkpointing; switch it off in the model"
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.autograd.graph.disable_saved_tensors_hooks(why),
    ):
        yield


@dataclass(frozen=True)
class _Forward:
    """A forward pass that can be repeated."""

    model: nn.Module
    layers: Mapping[str, nn.Module]
    known: Known
    inputs: Any
    score: Callable[[Any], Tensor]
    expand: Expansion | None
    record_all: bool
    writes_input: bool
    taps: dict[str, Tap] = field(default_factory=dict[str, Tap])
    """Of the last run, also of one that failed."""
    outputs: list[Tensor] = field(default_factory=list[Tensor])
    """What the network gave in it, where that may be something else than it gives by itself."""

    def run(
        self, *, shim: bool = False, from_start: bool = False
    ) -> tuple[dict[str, Tap], Tensor, bool]:
        """Taps that have recorded their layers, the scores, and whether autograd ended up off.

        Parameters
        ----------
        shim
            Leave autograd on after the layer, whatever the model says.
        from_start
            Switch autograd on before the model: its own blocks then end as they do in training.
        """
        taps = {
            name: Tap(name, Sharing(module, self.known), keep_graph=self.record_all)
            for name, module in self.layers.items()
        }
        self.taps.clear()
        self.taps.update(taps)
        if self.expand is not None:
            tap = taps[self.expand.layer]
            tap.expand, tap.expand_call = self.expand.copies, self.expand.call
        # views that were made without a graph take none, and give none
        from_start = from_start or self.known.writes(self.layers.values())
        try:
            set_grad(self.record_all or from_start)
            blocks = GradModeShim() if shim else contextlib.nullcontext()
            with _hooked(self.model, self.layers, taps), blocks:
                output = self._called()
            cut = not torch.is_grad_enabled()
            doubtful = any(tap.sharing.is_doubtful() for tap in taps.values())
            self.outputs[:] = [t.detach() for t in tensors(output)] if doubtful else []
            silent = [name for name, tap in taps.items() if not tap.recorded]
            if silent:
                raise _never_called(self.model, silent[0], self.inputs)
            set_grad(True)
            scores = self.score(output)
        finally:
            set_grad(False)
        return taps, scores, cut

    def _called(self) -> Any:
        """The model's output; each run has inputs that no run before it has written to."""
        if self.writes_input or any(t.is_inference() for t in tensors(self.inputs)):
            copy = torch.clone if self.record_all else private_copy
            return call_cast(self.model, map_tensors(copy, self.inputs))
        shared = self.inputs if self.record_all else map_tensors(torch.detach, self.inputs)
        versions = [t._version for t in tensors(shared)]
        output = call_cast(self.model, shared)
        if [t._version for t in tensors(shared)] != versions:
            raise ModelError(
                "The model wrote to its own input, which it did not do when its layers were "
                "traced, so the tensor that you gave is changed. Give a copy of your input, and "
                "call respondcam.network.layout.memory.forget(model) after changing a model."
            )
        return output


def _unreached(taps: Mapping[str, Tap], scores: Tensor) -> list[str]:
    """Names of the layers from which no graph leads to the scores."""
    reached = _reachable(scores)
    return [
        name
        for name, tap in taps.items()
        if not any(node_of(leaf) in reached for leaf in tap.recorded)
    ]


def _reachable(scores: Tensor) -> set[Any]:
    """All nodes of the graph below `scores` that gradient reaches."""
    seen: set[Any] = set()
    pending = [scores.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen or _has_none(node):
            continue
        seen.add(node)
        pending += [below for below, _ in node.next_functions]
    return seen


def _has_none(node: Any) -> bool:
    """Whether a node stands for an operator without a gradient, such as a quantised layer's."""
    own = type(node).__name__ == "CppFunction"  # others may call anything a name
    return own and node.name().endswith("WarnNotImplemented")


def _backward(
    model: nn.Module,
    taps: Mapping[str, Tap],
    scores: Tensor,
    reduce: Reduce,
    *,
    create_graph: bool,
) -> dict[str, tuple[Tensor, ...]]:
    records = [
        (name, call, leaf) for name, tap in taps.items() for call, leaf in enumerate(tap.recorded)
    ]
    leaves = [leaf for _, _, leaf in records]
    kept: list[list[Tensor]] = [[] for _ in records]
    for gradients in _gradients(model, scores, leaves, create_graph=create_graph):
        for slot, (name, call, leaf), gradient in zip(kept, records, gradients, strict=True):
            activation = plain(leaf if create_graph else leaf.detach())
            with torch.set_grad_enabled(create_graph):
                slot.append(reduce(name, call, *full_precision(activation, gradient)))
    with torch.set_grad_enabled(create_graph):
        stacked = [torch.stack(results) for results in kept]
    return {
        name: tuple(s for s, (n, _, _) in zip(stacked, records, strict=True) if n == name)
        for name in taps
    }


def _gradients(
    model: nn.Module, scores: Tensor, leaves: list[Tensor], *, create_graph: bool
) -> Iterator[tuple[Tensor, ...]]:
    """`gradients_of`, with words for what PyTorch says where there are none."""
    try:
        yield from gradients_of(scores, leaves, create_graph=create_graph)
    except Exception as error:  # a backward pass of the network's own may raise anything
        if is_out_of_memory(error):
            raise
        raise not_differentiable(model, error) from error


def _never_called(model: nn.Module, name: str, inputs: Any) -> LayerError:
    called = called_modules(model, lambda: call_model(model, inputs))
    listed = ", ".join(called) if called else "none"
    return LayerError(
        f"Layer {name!r} exists but was not called in the forward pass, or gives no floating-point "
        f"tensor (a call of its .forward() directly cannot be seen). Layers that were called: "
        f"{listed}."
    )

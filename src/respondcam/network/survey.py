"""Which layers a network has, and which one to explain: the preflight.

One forward pass without data (shapes, no values, no memory) with autograd on tells
for every module its output shape, how often it is called, whether gradient leads from the output
back to it, and how much the backward pass of the head above it keeps in memory.
"""

import contextlib
import threading
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from respondcam.errors import LayerError, ModelError
from respondcam.network.calling import call_model, is_transformed, refuse_unhookable, unwrap
from respondcam.network.failures import lists, no_tensor
from respondcam.network.hooks import hook_after
from respondcam.network.layout.hollow import Hollow, hollow, home
from respondcam.network.layout.protect import untouched
from respondcam.network.taps import GradModeShim, node_of, set_grad
from respondcam.network.torchscript import frozen
from respondcam.network.trees import (
    image_tensor,
    is_float,
    map_tensors,
    signature,
    spatial_tensor,
    tensors,
)
from respondcam.network.typed import class_name, named_modules


@dataclass(frozen=True)
class SurveyedLayer:
    """One module as one forward pass saw it.

    Parameters
    ----------
    name, kind
        Dotted name, and the class.
    shape
        Shape of its (last) output without the batch axis.
    calls
        How often it is called in one forward pass.
    reached
        Whether gradient leads from the network's output to it.
    head_bytes
        What autograd keeps for the part of the network above it, the price of explaining it.
    same_as
        A module further out that gives the very same output, empty if there is none.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    calls: int
    reached: bool
    head_bytes: int
    same_as: str = ""


@dataclass(frozen=True)
class Survey:
    """All called layers in the order of their (last) call, and the one to explain, if any.

    `scoreless` says what is wrong with an output in which there is no tensor.
    """

    layers: tuple[SurveyedLayer, ...]
    chosen: str
    reason: str
    scoreless: str = ""

    def choice(self) -> tuple[str, str]:
        """The layer to explain, and why; LayerError if there is none, ModelError without scores."""
        if not self.chosen and self.scoreless:
            raise ModelError(self.scoreless)
        if not self.chosen:
            raise LayerError(
                "No layer of this model has an output (batch, channel, *spatial) with more than "
                "one voxel that gradient reaches, so none can be chosen. Name a layer yourself; "
                f"{lists()} lists all of them."
            )
        return self.chosen, self.reason


@dataclass
class _Sighting:
    """What the hooks note about one module."""

    kind: str
    calls: int = 0
    order: int = 0
    output: tuple[int, int] = (0, 0)
    shape: tuple[int, ...] = ()
    node: Any = None
    kept_before: int = 0


@dataclass
class _Log:
    seen: dict[str, _Sighting] = field(default_factory=dict[str, _Sighting])
    alive: list[Tensor] = field(default_factory=list[Tensor])  # ids stay unique while tensors live
    owned: set[torch.Size] = field(default_factory=set[torch.Size])
    clock: int = 0
    kept: int = 0
    sources: set[Any] = field(default_factory=set[Any])  # where gradients of the images end
    ends: list[Any] = field(default_factory=list[Any])  # where they start: the outputs

    def avoidable(self, name: str) -> bool:
        """Whether a path from an image to the output avoids this layer."""
        return not self.sources.isdisjoint(_nodes_below(self.ends, without=self.seen[name].node))

    def pack(self, tensor: Tensor) -> Tensor:
        # copies of parameters without data are other tensors, so parameters are known by shape
        if tensor.shape not in self.owned:
            self.kept += tensor.numel() * tensor.element_size()
        return tensor.detach()

    def notice(self, name: str, module: nn.Module, output: Any) -> Any:
        tensor = spatial_tensor(output)
        if tensor is None:
            return None
        self.clock += 1
        entry = self.seen.setdefault(name, _Sighting(class_name(module)))
        entry.calls += 1
        entry.order = self.clock
        entry.shape = tuple(tensor.shape[1:])
        entry.kept_before = self.kept
        if torch.is_inference_mode_enabled() or is_transformed():  # no gradient can start here
            self.alive.append(tensor)
            entry.output = (id(tensor), self.clock)
            return None
        started = tensor if tensor.requires_grad else tensor.detach().requires_grad_(True)
        if tensor.requires_grad and tensor._is_view():
            # what is written into a view leads around its node, to that of what it is a view of
            started = tensor.clone()
        entry.output = (id(started), started._version)
        entry.node = node_of(started)
        self.alive.append(started)
        return map_tensors(lambda t: started if t is tensor else t, output)


def survey(model: nn.Module, inputs: Any) -> Survey:
    """Look at every layer of `model` at the shape of `inputs`.

    Parameters
    ----------
    model
        The network; left as it was.
    inputs
        Tensor, or tuple or dict of tensors, as the model takes them.

    Raises
    ------
    ModelError
        If the model cannot run on these inputs.
    """
    model = unwrap(model)
    refuse_unhookable(model)
    try:
        log, output = _watched_forward(model, inputs, empty=True)
    except Exception:
        # Operators that need data, or control flow that needs values.
        log, output = _watched_forward(model, inputs, empty=False)
    layers = _surveyed(log)
    if not layers and frozen(model):
        raise LayerError(frozen(model))
    chosen, reason = _choose(layers, log, image_tensor(inputs), output)
    return Survey(layers, chosen, reason, no_tensor(output))


_surveys: "weakref.WeakKeyDictionary[nn.Module, dict[Any, Survey]]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def cached_survey(model: nn.Module, inputs: Any) -> Survey:
    """The `survey` of this model object at these shapes, made once.

    A model whose modules were exchanged since must be surveyed anew, with `survey`.
    """
    model = unwrap(model)
    key = signature(inputs)
    with _lock:
        known = _surveys.setdefault(model, {})
        if key not in known:
            known[key] = survey(model, inputs)
        return known[key]


def _watched_forward(model: nn.Module, inputs: Any, *, empty: bool) -> tuple[_Log, Any]:
    log = _Log()
    with untouched(model, real=not empty), contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if empty:
            stack.enter_context(Hollow(home(inputs)))
            inputs = map_tensors(hollow, inputs)
        log.owned = {t.shape for t in (*model.parameters(), *model.buffers())}
        inputs = map_tensors(
            lambda t: t.detach().clone().requires_grad_(True) if is_float(t) else t, inputs
        )
        for name, module in named_modules(model).items():
            if name:
                hook_after(stack, module, _hook(log, name))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(log.pack, lambda t: t))
        set_grad(True)
        with GradModeShim():
            # An operation in place must not hit a leaf: hand the model a copy.
            output = call_model(model, map_tensors(lambda t: t.clone(), inputs))
        images = [t for t in tensors(inputs) if t.requires_grad and t.ndim >= 3]
        log.sources = {torch.autograd.graph.get_gradient_edge(t).node for t in images}
        log.ends = [t.grad_fn for t in tensors(output) if t.requires_grad]
    return log, output


def _hook(log: _Log, name: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        return log.notice(name, module, output)

    return hook


def _surveyed(log: _Log) -> tuple[SurveyedLayer, ...]:
    reached = set(_nodes_below(log.ends))
    outermost: dict[tuple[int, int], str] = {}
    for name, entry in log.seen.items():
        known = outermost.get(entry.output)
        if known is None or name.count(".") < known.count("."):
            outermost[entry.output] = name
    return tuple(
        SurveyedLayer(
            name=name,
            kind=entry.kind,
            shape=entry.shape,
            calls=entry.calls,
            reached=entry.node in reached,
            head_bytes=log.kept - entry.kept_before,
            same_as=outermost[entry.output] if outermost[entry.output] != name else "",
        )
        for name, entry in sorted(log.seen.items(), key=lambda item: item[1].order)
    )


def _nodes_below(nodes: list[Any], without: Any = None) -> Iterator[Any]:
    seen: set[Any] = {without}
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            pending += [below for below, _ in node.next_functions]


def _choose(
    layers: tuple[SurveyedLayer, ...], log: _Log, example: Tensor | None, output: Any
) -> tuple[str, str]:
    if example is None:
        return "", ""
    spatial = [
        layer
        for layer in layers
        if layer.reached
        and not layer.same_as
        and len(layer.shape) == example.ndim - 1
        and _voxels(layer) > 1
        and not _is_output(log, layer, output)
    ]
    if not spatial:
        return "", ""
    dense = any(t.ndim == example.ndim for t in tensors(output) if is_float(t))
    if dense:
        coarsest = min(_voxels(layer) for layer in spatial)
        bottom = [layer for layer in spatial if _voxels(layer) == coarsest]
        widest = max(layer.shape[0] for layer in bottom)
        chosen = [layer for layer in bottom if layer.shape[0] == widest][-1]
        return chosen.name, "the coarsest layer of a network with a dense output (its bottleneck)"
    # a gate beside the last features, such as the weights of an attention, is no place to look
    passed = (layer for layer in reversed(spatial) if not log.avoidable(layer.name))
    return next(passed, spatial[-1]).name, "the last layer with a grid before the scores"


def _voxels(layer: SurveyedLayer) -> int:
    count = 1
    for size in layer.shape[1:]:
        count *= size
    return count


def _is_output(log: _Log, layer: SurveyedLayer, output: Any) -> bool:
    return any(id(t) == log.seen[layer.name].output[0] for t in tensors(output))

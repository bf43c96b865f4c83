"""Which layer is explained when the user names none.

`respondcam.network.survey` chooses by shapes. Here is what shapes alone do not tell: the tokens of
a transformer, whose grid its layout knows, and inputs with more axes than the layers' outputs, such
as a series over time.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from respondcam.network.calling import unwrap
from respondcam.network.layout import LayerTrace, to_grid, trace_layers
from respondcam.network.layout.memory import recall, remember
from respondcam.network.split import split_pass
from respondcam.network.survey import Survey, SurveyedLayer, cached_survey
from respondcam.network.trees import image_tensor, is_float, signature, tensors
from respondcam.network.typed import named_modules

_TOKENS = "the last layer whose tokens lead to the scores"
_TRACED = "the last layer with a grid before the scores"


Read = Callable[[Any], Tensor]
"""What a model returns -> the tensor of scores."""


def chosen_layer(model: nn.Module, inputs: Any, read: Read | None = None) -> tuple[str, str]:
    """Name of the layer to explain, and why; found once for a model object and shapes.

    Parameters
    ----------
    model, inputs
        The network, and what it takes.
    read
        Picks the scores; all that the model returns unless given.

    Raises
    ------
    LayerError
        If there is none.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(14, 2))
    >>> chosen_layer(model, torch.zeros(1, 1, 9))
    ('1', 'the last layer with a grid before the scores')
    """
    model = unwrap(model)
    key = ("choice", signature(inputs))
    objects = [] if read is None else [read]
    known = recall(model, key, objects)
    if known is None:
        known = _chosen(model, inputs, cached_survey(model, inputs), read)
        remember(model, key, objects, known)
    return known


def _chosen(model: nn.Module, inputs: Any, found: Survey, read: Read | None) -> tuple[str, str]:
    example = image_tensor(inputs)
    rank = 0 if example is None else example.ndim - 2
    tokens = [one for one in _own(found) if len(one.shape) == 2 < 1 + rank and one.shape[0] > 1]
    if tokens and (known := _with_tokens(model, inputs, found, tokens, read)):
        return known
    if not found.chosen:
        own = [one for one in _own(found) if len(one.shape) > 2 and prod(one.shape[1:]) > 1]
        if gridded := list(_gridded(model, inputs, own)):
            return gridded[-1], _TRACED
    return found.choice()


def _own(found: Survey) -> list[SurveyedLayer]:
    return [layer for layer in found.layers if layer.reached and not layer.same_as]


def _with_tokens(
    model: nn.Module,
    inputs: Any,
    found: Survey,
    tokens: Sequence[SurveyedLayer],
    read: Read | None,
) -> tuple[str, str] | None:
    """The last block of tokens, unless the layer chosen by its shape comes after it."""
    traces = _gridded(model, inputs, tokens)
    blocks = [name for name in traces if not _inside(name, traces)]
    if not blocks:
        return None
    order = [layer.name for layer in found.layers]
    if found.chosen and not _inside(found.chosen, traces):
        after = order.index(found.chosen)
        if after > max(map(order.index, blocks)):
            return None
    if any(_has_other_tokens(traces[name]) for name in blocks):
        blocks = _alive(model, inputs, blocks, traces, read)
    return (blocks[-1], _TOKENS) if blocks else None


def _alive(
    model: nn.Module,
    inputs: Any,
    blocks: list[str],
    traces: dict[str, LayerTrace],
    read: Read | None,
) -> list[str]:
    """Blocks whose tokens have a gradient, also inside of one that is a whole encoder.

    The last of several equal blocks is passed over where it has none, and what lies inside of it
    stays inside; a block of its own kind is looked into.
    """
    alive = _with_gradient(model, inputs, blocks, traces, read)
    modules = named_modules(model, every_name=True)
    kinds = {type(modules[name]) for name in alive}
    dead = {name for name in blocks if name not in alive and type(modules[name]) not in kinds}
    within = [name for name in traces if _inside(name, dead)]
    inner = [name for name in within if not _inside(name, within)]
    if not inner:
        return alive
    deeper = _alive(model, inputs, inner, traces, read)
    return [name for name in traces if name in {*alive, *deeper}]


def _gridded(
    model: nn.Module, inputs: Any, layers: Sequence[SurveyedLayer]
) -> dict[str, LayerTrace]:
    """Those layers, in the order of their calls, whose layout is known and has several voxels."""
    modules = named_modules(model, every_name=True)
    named = {layer.name: modules[layer.name] for layer in layers}
    traces = trace_layers(model, named, inputs, estimate=False) if named else {}
    return {
        name: trace
        for name, trace in traces.items()
        if trace.calls
        and (grid := trace.calls[-1].grid) is not None
        and grid.origin == "layout"
        and prod(grid.shape) > 1
    }


def _inside(name: str, others: Any) -> bool:
    """Whether a module lies inside another one of these."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in others for end in range(1, len(parts)))


def _has_other_tokens(trace: LayerTrace) -> bool:
    """Whether some tokens, such as a class token, stand for no place."""
    axes = trace.calls[-1].axes
    return axes is not None and bool(axes.drop)


def _with_gradient(
    model: nn.Module,
    inputs: Any,
    names: list[str],
    traces: dict[str, LayerTrace],
    read: Read | None,
) -> list[str]:
    """Layers whose tokens have a gradient: behind the last attention only the class token has."""
    modules = named_modules(model, every_name=True)

    def reduce(name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        axes = traces[name].calls[call].axes
        assert axes is not None  # `_gridded` keeps only layers that have them
        return to_grid(gradient, axes).abs().amax()

    def score(output: Any) -> Tensor:
        scores = [t for t in tensors(output if read is None else read(output)) if is_float(t)]
        return torch.stack([t.float().sum() for t in scores]).sum().reshape(1, 1)

    layers = {name: modules[name] for name in names}
    kept = split_pass(model, layers, inputs, score, reduce).kept
    return [name for name in names if float(kept[name][-1][0]) > 0]

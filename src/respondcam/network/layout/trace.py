"""Trace where the outputs of a model's layers are in its input.

The model runs once on tensors without data, at the actual input's shape, while a dispatch mode
gives every intermediate tensor its layout. What that cannot follow falls back, in this order, to a
real forward pass, to an estimate from gradients, and to even spacing with a warning; the grid's
`origin` and `note` say which.

Limits: positions are those of the architecture. Where a trained network really looks within its
receptive field is another matter (`respondcam.network.calibration`).
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from respondcam._warnings import warn
from respondcam.errors import InputError, ModelError, PlacementWarning
from respondcam.network.calling import call_model, unwrap
from respondcam.network.hooks import hook_after, is_hooked
from respondcam.network.layout.axes import even_grid, plain_axes, read_grid
from respondcam.network.layout.centroids import Probe, estimated
from respondcam.network.layout.digits import NoLayoutError, input_layout
from respondcam.network.layout.hollow import HollowRun, hollow, home
from respondcam.network.layout.memory import recall, remember
from respondcam.network.layout.protect import untouched
from respondcam.network.layout.results import LayerCall, LayerTrace
from respondcam.network.layout.tracker import Track, Tracker, tensors_in
from respondcam.network.taps import HookShim
from respondcam.network.trees import (
    map_tensors,
    plain,
    private_copy,
    signature,
    spatial_tensor,
    tensors,
)

Caller = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class _Seen:
    """One output tensor of a layer, as the pass saw it."""

    shape: tuple[int, ...]
    track: Track | None


@dataclass(frozen=True)
class _Pass:
    """What one pass saw."""

    seen: Mapping[str, Sequence[_Seen]]
    bypassed: Mapping[str, bool]
    frames: Sequence["_Frame"]
    writes_input: bool


@dataclass(frozen=True)
class _Frame:
    """An input that positions can refer to: its place among the tensors, batch, spatial shape."""

    number: int
    batch: int
    spatial: tuple[int, ...]


_LOCK = threading.RLock()


def trace_layers(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    inputs: Tensor | Sequence[Any] | Mapping[str, Any],
    *,
    call: Caller | None = None,
    channel_dim: int = 1,
    estimate: bool = True,
) -> dict[str, LayerTrace]:
    """Trace where the outputs of layers are in the model's input.

    The model is left exactly as it was. Results are remembered for as long as the model lives, by
    layers, shapes and what is no tensor among the inputs, unless the way through the network may
    depend on the values; after changing a model's strides or paddings call `forget`.

    Parameters
    ----------
    model
        Any module; parallel wrappers are looked through.
    layers
        Name to module, each part of the model.
    inputs
        The model's input: a tensor (batch, channel, *spatial), a tuple of positional or a mapping
        of named arguments. The first tensor with spatial axes is the one that grids refer to;
        other inputs of the same spatial shape count as aligned with it.
    call
        ``call(model, inputs)`` runs the model, and returns what the score is computed from;
        `call_model` unless given. `bypassed` refers to what it returns.
    channel_dim
        Dimension of the inputs that holds channels.
    estimate
        Whether to estimate the grid from gradients, with a real forward and backward pass, where
        the layout is lost.

    Raises
    ------
    InputError
        If there is no tensor among the inputs.

    Warns
    -----
    PlacementWarning
        For layers whose grid is only assumed to span the input evenly.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv1d(1, 2, 3, stride=2, padding=1), nn.ReLU())
    >>> trace = trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 9))["0"]
    >>> trace.grid.stride, trace.grid.offset, trace.bypassed
    ((2.0,), (0.0,), False)
    """
    model = unwrap(model)
    key = (tuple(layers), signature(inputs), channel_dim, estimate)
    objects = [*layers.values(), *([] if call is None else [call])]
    with _LOCK:
        traces = recall(model, key, objects)
        if traces is None:
            traces, always = _trace(
                model, layers, inputs, call or call_model, channel_dim, estimate
            )
            if always:
                remember(model, key, objects, traces)
    _warn(traces)
    return dict(traces)


def _warn(traces: Mapping[str, LayerTrace]) -> None:
    for trace in traces.values():
        for one in trace.calls[:1]:
            if one.grid is not None and one.grid.origin == "even":
                warn(
                    f"The place of layer {trace.name!r} is not known: {one.problem}. Its grid is "
                    f"assumed to span the input evenly, which can be wrong by half a stride, and "
                    f"by any distance where the network moves parts of the image.",
                    PlacementWarning,
                )


def _trace(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    inputs: Any,
    call: Caller,
    channel_dim: int,
    estimate: bool,
) -> tuple[dict[str, LayerTrace], bool]:
    """The traces, and whether they hold for all values of inputs of these shapes."""
    note = ""
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ModelError(
            "The model has lazy modules, whose parameters get their shapes in the first forward "
            "pass. Run the model once on an input, then give it."
        )
    try:
        try:
            seen = _hollow_pass(model, layers, inputs, call, channel_dim)
        except ModelError as error:
            if not HookShim.is_wanted(error):
                raise
            seen = _hollow_pass(model, layers, inputs, call, channel_dim)  # without its questions
    except Exception as error:  # whatever a pass without data cannot do, a real one may
        cause = error.__cause__ or error
        note = f"traced in a real forward pass, since one without data failed ({_brief(cause)})"
        seen = _real_pass(model, layers, inputs, call, channel_dim)
    # what a real pass does may depend on the values, so it says nothing of the next one
    writes = seen.writes_input or bool(note)
    traces: dict[str, LayerTrace] = {}
    for name, layer in layers.items():
        calls = [_settled(one, seen.frames, note) for one in seen.seen[name]]
        if estimate:
            calls = [
                _estimated(one, model, layer, inputs, call, number)
                for number, one in enumerate(calls)
            ]
        traces[name] = LayerTrace(name, tuple(calls), seen.bypassed[name], writes)
    return traces, not note


def _estimated(
    one: LayerCall, model: nn.Module, layer: nn.Module, inputs: Any, call: Caller, number: int
) -> LayerCall:
    """Where the grid is merely assumed, ask the gradients."""
    if one.grid is None or one.axes is None or one.grid.origin != "even":
        return one
    probe = Probe(model, layer, inputs, one.axes, call, number, one.input)
    try:
        grid = estimated(probe, one.grid, one.problem)
    except Exception as error:  # then the grid stays assumed, and the warning says so
        return replace(one, problem=f"{one.problem}; no estimate: {_brief(error)}")
    if grid is None:
        return replace(one, problem=f"{one.problem}; the gradients form no grid")
    return replace(one, grid=grid)


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _hollow_pass(
    model: nn.Module, layers: Mapping[str, nn.Module], inputs: Any, call: Caller, channel_dim: int
) -> _Pass:
    with untouched(model, real=False):
        copies = map_tensors(hollow, inputs)
        return _pass(Tracker(HollowRun(home(inputs))), model, layers, copies, call, channel_dim)


def _real_pass(
    model: nn.Module, layers: Mapping[str, nn.Module], inputs: Any, call: Caller, channel_dim: int
) -> _Pass:
    with untouched(model, real=True):
        copies = map_tensors(lambda tensor: plain(private_copy(tensor)), inputs)
        return _pass(Tracker(), model, layers, copies, call, channel_dim)


def _pass(
    tracker: Tracker,
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    inputs: Any,
    call: Caller,
    channel_dim: int,
) -> _Pass:
    frames = _mark_inputs(tracker, inputs, len(layers), channel_dim)
    seen: dict[str, list[_Seen]] = {name: [] for name in layers}
    bits: dict[int, int] = {}
    names: dict[int, list[str]] = {}
    for number, (name, layer) in enumerate(layers.items()):
        bits[id(layer)] = bits.get(id(layer), 0) | 1 << number
        names.setdefault(id(layer), []).append(name)

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        records = [seen[name] for name in names[id(module)]]
        return _tapped(tracker, output, bits[id(module)], records, kept=is_hooked(module))

    distinct = {id(layer): layer for layer in layers.values()}.values()
    with contextlib.ExitStack() as stack:
        for layer in distinct:
            hook_after(stack, layer, hook)
        with tracker:
            output = call(model, inputs)
    around = 0
    for tensor in tensors_in(output):
        track = tracker.track(tensor)
        around |= track.around if track else 0
    bypassed = {name: bool(around >> number & 1) for number, name in enumerate(layers)}
    return _Pass(seen, bypassed, frames, tracker.writes_input)


def _mark_inputs(tracker: Tracker, inputs: Any, count: int, channel_dim: int) -> list[_Frame]:
    """Give the inputs their layouts; return what these refer to, the foremost first."""
    found = list(tensors(inputs))
    if not found:
        raise InputError(
            f"The inputs hold no tensor (got {type(inputs).__name__}). Give a tensor (batch, "
            f"channel, *spatial), or a tuple or mapping of the model's arguments with one."
        )
    spatial = [_spatial(tensor.shape, channel_dim) for tensor in found]
    # positions in the first input with spatial axes win over those in others
    order = sorted(range(len(found)), key=lambda number: not spatial[number])
    for number, tensor in enumerate(found):
        aligned = next(place for place, n in enumerate(order) if spatial[n] == spatial[number])
        layout = input_layout(tensor.shape, channel_dim=channel_dim, frame=aligned)
        tracker.mark_input(tensor, Track(layout, (1 << count) - 1))
    return [_Frame(n, int(found[n].shape[0]) if found[n].ndim else 1, spatial[n]) for n in order]


def _spatial(shape: Sequence[int], channel_dim: int) -> tuple[int, ...]:
    channel = channel_dim % len(shape) if len(shape) > 1 else 1
    return tuple(size for index, size in enumerate(shape) if index not in (0, channel))


def _tapped(
    tracker: Tracker, output: Any, bits: int, seen: Sequence[list[_Seen]], *, kept: bool
) -> Any:
    """Record a layer's output, and replace it by a copy which no path around the layer reaches.

    A copy, since what the layer returns may be its own argument, which goes on elsewhere. Where a
    hook of the network's own may have kept it, what was kept is no path around the layer either.
    """
    chosen = spatial_tensor(output)
    if chosen is None:
        return output
    track = tracker.track(chosen)
    for record in seen:
        record.append(_Seen(tuple(chosen.shape), track))
    copy = chosen.clone()
    if track is not None:
        through = replace(track, around=track.around & ~bits)
        for tensor in (copy, chosen) if kept else (copy,):
            tracker.mark(tensor, through)
    return map_tensors(lambda tensor: copy if tensor is chosen else tensor, output)


def _settled(one: _Seen, frames: Sequence[_Frame], note: str) -> LayerCall:
    """Read the grid of one output off its layout, or say why there is none."""
    if one.track is None:
        return LayerCall(one.shape, None, None, 0, "it does not depend on the input")
    lost = ", ".join(one.track.lost)
    layout = one.track.layout
    if layout is None:
        return _even(one.shape, frames[0], f"positions are lost at {lost}")
    frame = frames[layout.frame]
    if not frame.spatial:
        return _even(one.shape, frame, "it comes from an input without spatial axes")
    try:
        grid, axes = read_grid(layout, frame.spatial)
        batch = [digit.size for dim in layout.dims for digit in dim.digits if digit.batch]
        if frame.batch not in (1, *batch):
            raise NoLayoutError("the batch is spread over other dimensions")
    except NoLayoutError as error:
        return _even(one.shape, frame, str(error))
    aside = f"a branch through {lost} is left out of account" if lost else ""
    notes = "; ".join(text for text in (grid.note, aside, note) if text)
    return LayerCall(one.shape, replace(grid, note=notes), axes, frame.number)


def _even(shape: tuple[int, ...], frame: _Frame, problem: str) -> LayerCall:
    """Assume that the output spans the input evenly, if it has the axes for that."""
    spread = len(shape) == 2 + len(frame.spatial) and shape[0] == frame.batch
    if not frame.spatial or not spread:
        return LayerCall(shape, None, None, frame.number, problem)
    note = f"assumed to span the input evenly, since {problem}"
    grid, axes = even_grid(shape[2:], frame.spatial, note), plain_axes(shape[1], shape[2:])
    return LayerCall(shape, grid, axes, frame.number, problem)

"""One call of an explainer, from tensors to explanations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from respondcam._warnings import warn
from respondcam.attribution.baseline import Baseline
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.outputs import score_rows
from respondcam.attribution.targets import Scores, Target, evaluate, takes_output
from respondcam.errors import (
    EmptyMapWarning,
    InputError,
    LayerError,
    TargetError,
    is_out_of_memory,
)
from respondcam.network.calibration import measure_grid
from respondcam.network.calling import call_model, refuse_unhookable, unwrap
from respondcam.network.failures import cannot_run
from respondcam.network.grid import LayerGrid
from respondcam.network.layers import Layer
from respondcam.network.layout import (
    LayerCall,
    LayerTrace,
    plain_axes,
    to_grid,
    trace_layers,
)
from respondcam.network.precision import Precision, trunk_precision
from respondcam.network.split import run_head, split_pass
from respondcam.network.state import RandomStates
from respondcam.network.trees import image_tensor, plain, spatial_tensor
from respondcam.network.typed import numbers
from respondcam.volume import Volume

Align = Literal["layout", "measured"]
Kept = dict[tuple[str, int], Tensor]
"""By a layer's name and the number of its call, the maps (target, batch, *grid)."""
Schedule = Callable[["Run", Sequence[Layer]], Kept]
"""Which passes are made: run, layers -> the maps of the calls that are asked for, or of more."""

_EACH = (
    "the samples of this batch influence each other; each is explained with the others as they are"
)

# Below this the gradient is what a saturated softmax leaves, not what the image did.
_VANISHED = 1e-12


@dataclass(frozen=True)
class Setting:
    """What a run needs to know of its explainer; see `Explainer` for the meaning."""

    model: nn.Module
    method: str
    map: Callable[[Tensor, Tensor], Tensor]
    output: Callable[[Any], Tensor] | None
    relu: bool
    align: Align
    baseline: Baseline
    precision: Precision = "fp32"
    note: str = ""
    no_weight: str = ""


@dataclass
class Run:
    """One call of an explainer: what the split pass asks for, and what becomes of it.

    Parameters
    ----------
    setting
        Of the explainer.
    goal
        The target.
    inputs
        Tensors as the model takes them.
    traces
        Where each layer's voxels are.
    scores
        Of the targets, once they are known.
    create_graph
        Whether maps and scores keep their graph, so that they can enter a loss.
    weak
        For each layer and call and target: the peaks of activation and gradient where a map is
        nearly nothing.
    only
        The one sample that is explained, where samples influence each other: its score alone
        counts, and the others stay as they are.
    each
        Whether the samples were explained so, one after the other.
    """

    setting: Setting
    goal: Target
    inputs: Any
    traces: Mapping[str, LayerTrace]
    scores: Scores | None = None
    create_graph: bool = False
    weak: dict[tuple[str, int], list[tuple[Tensor, Tensor] | None]] = field(
        default_factory=dict[tuple[str, int], list[tuple[Tensor, Tensor] | None]]
    )
    only: int | None = None
    each: bool = False

    def score(self, output: Any) -> Tensor:
        """Scores of the targets whose gradient is asked for, (sample, target)."""
        self.scores = evaluate(self.goal, self._readable(output))
        return self.counting(self.scores.values)

    def counting(self, values: Tensor) -> Tensor:
        """Of (batch, target) the samples that are explained."""
        return values if self.only is None else values[self.only : self.only + 1]

    def own_changed(self, name: str, call: int, before: Tensor, after: Tensor) -> Tensor:
        """A layer's output, changed for the samples that are explained and as it was for others."""
        if self.only is None:
            return after
        return torch.where(self.entries(name, call, before, [self.only]), after, before)

    def entries(self, name: str, call: int, activation: Tensor, samples: Sequence[int]) -> Tensor:
        """Where a layer's output has the places of some of the samples; broadcasts to it."""
        axes = self.traced(name, call).axes
        assert axes is not None  # `traced` raises where there is no grid
        if axes.identity:
            mine = torch.zeros(len(activation), dtype=torch.bool, device=activation.device)
            mine[list(samples)] = True
            return torch.unflatten(mine, 0, (-1, *[1] * (activation.ndim - 1)))
        numbers = torch.arange(activation.numel(), device=activation.device)
        found = torch.zeros_like(numbers, dtype=torch.bool)
        found[to_grid(numbers.view(activation.shape), axes)[list(samples)].flatten()] = True
        return found.view(activation.shape)

    def samples(self, name: str, call: int) -> int:
        """How many samples one call of a layer has maps of."""
        traced = self.traced(name, call)
        assert traced.axes is not None  # `traced` raises where there is no grid
        return len(to_grid(torch.empty(traced.shape, device="meta"), traced.axes))

    def calls(self, name: str) -> int:
        """How often a layer is called in one forward pass; the input is there once."""
        trace = self.traces.get(name)
        return 1 if trace is None else len(trace.calls)

    def call(self, layer: Layer) -> int:
        """Which call of a layer is explained: the last one unless one was named.

        Raises
        ------
        LayerError
            If there is no such call.
        """
        calls = self.calls(layer.name)
        if (layer.call or 0) >= calls:
            raise LayerError(
                f"Layer {layer.name!r} is called {calls} times, so there is no call "
                f"{layer.call or 0} (they count from 0)."
            )
        return calls - 1 if layer.call is None else layer.call

    def score_again(self, tensor: Tensor) -> Tensor:
        """Scores of the targets in other rows of scores, with what the first decided kept."""
        if self.scores is not None and self.scores.again is not None:
            return self.scores.again(tensor)
        return evaluate(self.goal, tensor).values

    def _readable(self, output: Any) -> Any:
        """What the target takes: the tensor of scores, or the whole output of a detector."""
        if takes_output(self.goal):
            return output if self.setting.output is None else self.setting.output(output)
        return self.score_rows(output)

    def score_rows(self, output: Any, copies: int = 1) -> Tensor:
        """The output's score tensor, with a row for each sample (of so many copies)."""
        image = cast("Tensor", image_tensor(self.inputs))
        return score_rows(output, self.setting.output, image, copies)

    def reduce(self, name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        """The method's map, (batch, *grid), of one target.

        A layer may be called on an image and on something without places, such as the time of a
        diffusion model: then there is nothing to keep of the latter.
        """
        calls = self.traces[name].calls
        if calls[call].grid is None and any(one.grid for one in calls):
            return activation.new_zeros(0)
        axes = self.traced(name, call).axes
        assert axes is not None  # `traced` raises where there is no grid
        return self.finish(name, call, to_grid(activation, axes), to_grid(gradient, axes))

    def finish(self, name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        """The method's map, (batch, *grid), from what is on the grid already.

        `gradient` may be what a method without gradients puts in its place.
        """
        found = self.setting.map(activation, gradient)
        found = found.relu() if self.setting.relu else found
        self._check_rows(name, len(found))
        self._note_if_weak(name, call, found, activation, gradient)
        return found

    def start(self, name: str, call: int, activation: Tensor) -> Tensor:
        """The baseline activation A0; entries that stand for no place, such as a class token, stay.

        They are on no map, so what they say belongs to the baseline.
        """
        start = self.setting.baseline(activation)
        axes = self.traced(name, call).axes
        if axes is None or not axes.drop:
            return start
        places = [slice(None)] * activation.ndim
        for dim, first, stop in axes.drop:
            places[dim] = slice(first, stop)
        kept = activation.detach().clone()
        kept[tuple(places)] = start.expand_as(activation)[tuple(places)]
        return kept

    def _check_rows(self, name: str, samples: int) -> None:
        """One row of scores for each sample, or a single one for all: a bag."""
        assert self.scores is not None
        rows = len(self.scores.values)
        if rows not in (1, samples):
            raise TargetError(
                f"The scores have {rows} rows, but the maps of layer {name!r} have {samples} "
                f"samples, so which row belongs to which map is not clear. Explain one sample at a "
                f"time, or rearrange the output with output=."
            )

    def _note_if_weak(
        self, name: str, call: int, found: Tensor, activation: Tensor, gradient: Tensor
    ) -> None:
        """Keep the peaks of what went into a map that is (nearly) nothing, to say why later."""
        assert self.scores is not None
        notes = self.weak.setdefault((name, call), [])
        score = self.scores.values[:, len(notes)].detach().abs()
        nothing = _peak(found) <= _VANISHED * score.to(found.dtype)
        notes.append((_peak(activation), _peak(gradient)) if bool(nothing.any()) else None)

    def explanation(
        self, layer: Layer, kept: Kept, *, source: Volume | None, reason: str
    ) -> Explanation:
        """What is given back for one layer.

        Parameters
        ----------
        kept
            The maps, as a `Schedule` gives them.
        source
            The volume that was explained, if one was given.
        reason
            Why this layer was chosen, empty if the user chose it.
        """
        call = self.call(layer)
        if layer.call is None:
            _warn_of_calls(layer.name, self.calls(layer.name))
        self.traced(layer.name, call)
        # (target, batch, ...) as it was stacked
        maps = kept[layer.name, call].transpose(0, 1).contiguous()
        assert self.scores is not None
        trace = self.traces[layer.name]
        scores = plain(self.scores.values if self.create_graph else self.scores.values.detach())
        bag = len(scores) == 1 < len(maps)
        if bag:
            scores = scores.expand(len(maps), -1)
        return Explanation(
            maps=maps,
            scores=scores,
            targets=self.scores.labels,
            layer=layer.label,
            method=self.setting.method,
            grid=self._grid(layer, call),
            classes=self.scores.classes,
            layer_reason=reason,
            empty=self._why_empty(maps, layer, call),
            source=source,
            bypassed=trace.bypassed,
            bag=bag,
            note="; ".join(filter(None, (self.setting.note, _EACH if self.each else ""))),
            baseline=self._baseline(layer, call),
            score_count=self.scores.count,
            score_note=self.scores.note,
            predicted=self.scores.predicted,
        )

    def _grid(self, layer: Layer, call: int) -> LayerGrid:
        traced = self.traced(layer.name, call)
        grid = traced.grid
        assert grid is not None
        if self.setting.align == "layout" or layer.is_input:
            return grid
        return measure_grid(
            self.setting.model, layer.module, self.inputs, grid, axes=traced.axes, number=call
        )

    def traced(self, name: str, call: int) -> LayerCall:
        """Where the voxels of one call of a layer are; LayerError if it has no grid."""
        found = self.traces[name].calls[call]
        if found.grid is None or len(found.shape) < 3:
            why = f" ({found.problem})" if found.problem else ""
            raise LayerError(
                f"The output of layer {name!r}, shape {found.shape}, has no grid to map{why}. "
                f"Choose a layer whose output is (batch, channel, *spatial)."
            )
        return found

    def _baseline(self, layer: Layer, call: int) -> Callable[[], Tensor]:
        scores, setting, states = self.scores, self.setting, RandomStates.now()
        assert scores is not None

        def starting(run: Run) -> Tensor:
            def change(activation: Tensor) -> Tensor:
                start = run.start(layer.name, call, activation)
                return run.own_changed(layer.name, call, activation, start)

            with trunk_precision(setting.precision), states.again():
                output = run_head(
                    setting.model,
                    (layer.name, layer.module),
                    run.inputs,
                    change,
                    call=call,
                    calls=run.calls(layer.name),
                )
            tensor = run._readable(output)
            values = (
                evaluate(run.goal, tensor).values if scores.again is None else scores.again(tensor)
            )
            return run.counting(values)

        if not self.each:
            return lambda: starting(self)
        samples = range(len(scores.values))
        return lambda: torch.cat([starting(replace(self, only=sample)) for sample in samples])

    def _why_empty(self, maps: Tensor, layer: Layer, call: int) -> dict[tuple[int, int], str]:
        """Say of every map that is zero everywhere why, and warn of scores that are saturated."""
        assert self.scores is not None
        reasons: dict[tuple[int, int], str] = {}
        faint = False
        for target, peaks in enumerate(self.weak[layer.name, call]):
            if peaks is None:
                continue
            for sample, (activation, gradient) in enumerate(numbers(torch.stack(peaks, dim=1))):
                row = min(sample, len(self.scores.values) - 1)  # a bag has one row
                score = abs(float(self.scores.values[row, target].detach()))
                if not bool(maps[sample, target].any()):
                    reasons[sample, target] = self.scores.notes.get((sample, target)) or _reason(
                        activation, gradient, layer.label, self.setting.no_weight
                    )
                elif activation * gradient < _VANISHED * score:
                    faint = True
        if reasons:
            (sample, target), why = next(iter(reasons.items()))
            more = f" ({len(reasons)} such maps)" if len(reasons) > 1 else ""
            label = self.scores.labels[target]
            warn(
                f"The map of sample {sample}, {label}, is zero everywhere: {why}{more}.",
                EmptyMapWarning,
            )
        if faint:
            warn(
                "The gradient of a score has all but vanished, as behind a saturated softmax or "
                "sigmoid: the map shows rounding, not the image. Explain the score before the "
                "softmax.",
            )
        return reasons


def one_pass(run: Run, layers: Sequence[Layer]) -> Kept:
    """All layers and targets from one split forward pass, with the gradient at the activation."""
    modules = {layer.name: layer.module for layer in layers}
    kept = split_pass(
        run.setting.model,
        modules,
        run.inputs,
        run.score,
        run.reduce,
        create_graph=run.create_graph,
        writes_input=any(trace.writes_input for trace in run.traces.values()),
    ).kept
    return {(name, call): maps for name in kept for call, maps in enumerate(kept[name])}


def by_layer(run: Run, layers: Sequence[Layer], maps: Callable[[Layer], Tensor]) -> Kept:
    """Maps of a method that explains a layer at a time, each once however often it is asked for."""
    asked = {(layer.name, run.call(layer)): layer for layer in layers}
    return {place: maps(layer) for place, layer in asked.items()}


def trace_all(
    model: nn.Module,
    layers: Sequence[Layer],
    inputs: Any,
    call: Callable[[nn.Module, Any], Any] = call_model,
) -> dict[str, LayerTrace]:
    """Where each layer's voxels are; the input stands where it stands.

    ``call(model, inputs)`` gives what the score is computed from: other outputs are no path around
    a layer.
    """
    modules = {layer.name: layer.module for layer in layers if not layer.is_input}
    try:
        traces = trace_layers(unwrap(model), modules, inputs, call=call) if modules else {}
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        refuse_unhookable(unwrap(model))  # what can never work says so better than its error
        if isinstance(error, InputError):
            raise
        raise cannot_run(unwrap(model), inputs, error) from error
    for layer in layers:
        if layer.is_input:
            traces[layer.name] = _input_trace(layer.name, inputs)
    return traces


def _input_trace(name: str, inputs: Any) -> LayerTrace:
    tensor = cast("Tensor", image_tensor(inputs))
    if tensor is not spatial_tensor(inputs):
        raise LayerError(
            f"The input is of type {tensor.dtype}, and whole numbers have no gradient, nor "
            f"anything between them. Choose a layer of the network, or give the input as "
            f"floating-point numbers if the network takes these."
        )
    spatial = tuple(tensor.shape[2:])
    ones, zeros = (1.0,) * len(spatial), (0.0,) * len(spatial)
    grid = LayerGrid(ones, zeros, spatial, spatial, zeros, "layout")
    axes = plain_axes(int(tensor.shape[1]), spatial)
    return LayerTrace(name, (LayerCall(tuple(tensor.shape), grid, axes),), bypassed=False)


def _warn_of_calls(name: str, calls: int) -> None:
    if calls > 1:
        warn(
            f"Layer {name!r} is called {calls} times in one forward pass; its last call is "
            f"explained. Name the call to choose: '{name}#0' to '{name}#{calls - 1}'.",
        )


def _peak(tensor: Tensor) -> Tensor:
    """Largest magnitude per sample."""
    return tensor.detach().abs().flatten(1).amax(dim=1)


def _reason(activation: float, gradient: float, layer: str, no_weight: str) -> str:
    if activation == 0:
        return f"the output of layer {layer!r} is zero everywhere for this input"
    if gradient == 0 and no_weight:
        return no_weight.format(layer=layer)
    if gradient == 0:
        return (
            f"the gradient of this score at layer {layer!r} is zero everywhere (a saturated "
            f"output, or a ReLU that is closed between them)"
        )
    return "positive and negative contributions leave nothing after this method's cut"

"""Run the head again on changed copies of a layer's activation, without autograd.

A general module cannot be cut in two, but the changes depend on the activation alone: the hook on
the layer hands on the batch itself and n changed copies of it, and everything after the layer runs
on the larger batch. Each chunk of copies repeats the part below the layer once, on the batch. Where
a path leads around the layer (or the head is built for one batch size) the input is repeated
instead: then a copy costs a full pass. So it does where samples of a batch influence each other, as
behind a batch norm without running statistics: then every copy runs alone.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.run import Run
from respondcam.attribution.targets import evaluate
from respondcam.errors import LayerError, ModelError
from respondcam.network.calling import unwrap
from respondcam.network.gradients import full_precision
from respondcam.network.hooks import hook_after
from respondcam.network.layers import Layer
from respondcam.network.layout import GridAxes, plain_axes, to_grid
from respondcam.network.layout.memory import recall, remember
from respondcam.network.split import run_head
from respondcam.network.state import RandomStates
from respondcam.network.survey import cached_survey
from respondcam.network.trees import (
    map_tensors,
    plain,
    signature,
    spatial_batch,
    spatial_tensor,
)

# What the copies that run at once may hold.
_HEAD_BYTES = 256 * 2**20

# How far rounding may move a score in a larger batch; beyond it, samples influence each other. What
# is taken for that by mistake runs slower and as right.
_FINE, _COARSE = 1e-3, 3e-2

Copies = Callable[[Tensor, int, int], Tensor]
"""(activation, first, last) -> copies first to last - 1, (copy, batch, channel, *grid)."""


@dataclass
class HeadRuns:
    """One layer of one run, of which the head is run again.

    Parameters
    ----------
    run, layer
        Of the explainer. The layer may be the input.
    """

    run: Run
    layer: Layer
    _seen: Tensor | None = field(default=None, init=False)

    @property
    def call(self) -> int:
        """Which call of the layer is changed."""
        calls = self._calls  # raises for a call that there is not
        return calls - 1 if self.layer.call is None else self.layer.call

    def activation(self) -> Float[Tensor, "batch channel *grid"]:
        """The layer's output; the run then knows its scores."""
        return self.scores(lambda activation, first, last: activation[None][:0], 0)[0]

    def scores(
        self, copies: Copies, count: int
    ) -> tuple[Float[Tensor, "batch channel *grid"], Float[Tensor, "copy batch target"]]:
        """Activation, and the scores of `count` changed copies of it."""
        size = self._chunk()
        found: list[Tensor] = []
        for first in range(0, max(1, count), size):
            last = min(count, first + size)
            found.append(self._chunk_scores(copies, first, last))
        assert self._seen is not None
        return self._seen, torch.cat(found)

    @property
    def channels(self) -> int:
        """Number of the layer's channels."""
        return self._axes().shape[1]

    def maps(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        weights: Float[Tensor, "channel batch target"],
    ) -> tuple[Tensor, ...]:
        """The method's maps from weights of the channels, for each call of the layer.

        Returns
        -------
        tuple
            (target, batch, *grid), as a `Schedule` gives them.
        """
        ones = [1] * (activation.ndim - 2)
        found = [
            self.run.finish(self.layer.name, self.call, *full_precision(activation, each))
            for each in torch.unflatten(weights.permute(2, 1, 0), 2, (-1, *ones))
        ]
        return (torch.stack(found),) * self._calls

    def _chunk_scores(self, copies: Copies, first: int, last: int) -> Tensor:
        together = self._together(copies, first, last)
        if last == first or not samples_mix(self.run, self.layer, self.call, self._calls):
            return together
        return torch.stack([self._alone(copies, number) for number in range(first, last)])

    def _alone(self, copies: Copies, number: int) -> Tensor:
        """Scores of one copy, in a batch as large as the network's own."""
        axes = self._axes()

        def change(activation: Tensor) -> Tensor:
            own = plain(activation)
            self._seen = to_grid(own, axes)
            return from_grid(copies(self._seen, number, number + 1)[0], own, axes)

        return scores_with(self.run, self.layer, change, self.call, self._calls)

    def _together(self, copies: Copies, first: int, last: int) -> Tensor:
        trace = self.run.traces.get(self.layer.name)
        around = self.layer.is_input or trace is None or trace.bypassed
        if not around:
            try:
                return self._pass(copies, first, last, self.run.inputs)
            except ModelError:
                pass  # a head that is built for this batch size, or reads the input again
        repeated = repeat(self.run.inputs, 1 + last - first)
        return self._pass(copies, first, last, repeated)

    def _pass(self, copies: Copies, first: int, last: int, inputs: Any) -> Tensor:
        each, axes = self._shape()[0], self._axes()

        def change(activation: Tensor) -> Tensor:
            own = plain(activation[:each])
            self._seen = to_grid(own, axes)
            changed = copies(self._seen, first, last)
            return torch.cat([own, *(from_grid(one, own, axes) for one in changed)])

        output = run_head(
            self.run.setting.model,
            (self.layer.name, self.layer.module),
            inputs,
            change,
            call=self.call,
            calls=self._calls,
        )
        rows = self.run.score_rows(output, copies=1 + last - first)
        own, *others = torch.split(rows, self._batch)
        if len(others) != last - first:
            raise ModelError("The head gave another number of samples than it was handed.")
        scores = self.run.scores = evaluate(self.run.goal, own)
        values = [self.run.score_again(other) for other in others]
        return torch.stack(values) if values else scores.values[None][:0]

    @property
    def _batch(self) -> int:
        return spatial_batch(self.run.inputs)

    @property
    def _calls(self) -> int:
        trace = self.run.traces.get(self.layer.name)
        calls = 1 if trace is None else len(trace.calls)
        if (self.layer.call or 0) >= calls:
            raise LayerError(
                f"Layer {self.layer.name!r} is called {calls} times, so there is no call "
                f"{self.layer.call} (they count from 0)."
            )
        return calls

    def _shape(self) -> tuple[int, ...]:
        if self.layer.is_input:
            found = spatial_tensor(self.run.inputs)
            assert found is not None
            return tuple(found.shape)
        return self.run.traced(self.layer.name, self.call).shape

    def _axes(self) -> GridAxes:
        if self.layer.is_input:
            shape = self._shape()
            return plain_axes(shape[1], shape[2:])
        axes = self.run.traced(self.layer.name, self.call).axes
        assert axes is not None  # `traced` raises where there is no grid
        return axes

    def _chunk(self) -> int:
        known = cached_survey(self.run.setting.model, self.run.inputs).layers
        trace = self.run.traces.get(self.layer.name)
        kept = [one.head_bytes for one in known if one.name == self.layer.name]
        if not kept or trace is None or trace.bypassed:
            kept = [max((one.head_bytes for one in known), default=0)]
        own = torch.Size(self._shape()).numel() * 4 * 3
        return max(1, _HEAD_BYTES // max(1, kept[0] * self._batch + own))


def scores_with(
    run: Run, layer: Layer, change: Callable[[Tensor], Tensor], call: int, calls: int
) -> Float[Tensor, "batch target"]:
    """The run's scores when one layer's output is changed: its targets are decided already."""
    given = (layer.name, layer.module)
    return decided(
        run, run_head(run.setting.model, given, run.inputs, change, call=call, calls=calls)
    )


def decided(run: Run, output: Any) -> Float[Tensor, "batch target"]:
    """Scores of another output of the network, for the targets that the run has decided on."""
    return run.score_again(run.score_rows(output))


def samples_mix(run: Run, layer: Layer, call: int, calls: int) -> bool:
    """Whether copies beside the batch changed the scores of the batch itself, those of `run`.

    One pass of the batch alone tells, and then gives the scores; that all is well is remembered for
    inputs of this kind. A network that draws random numbers draws others for every copy, unless
    each runs alone.
    """
    model, beside = run.setting.model, run.scores
    assert beside is not None
    key = ("samples apart", layer.label, signature(run.inputs))
    if recall(model, key, [layer.module]):
        return False
    given, before = (layer.name, layer.module), RandomStates.now()
    draws: list[bool] = []

    def note(*_: Any) -> None:
        draws.append(before.left())

    with contextlib.ExitStack() as stack:
        hook_after(stack, unwrap(model), note)
        output = run_head(model, given, run.inputs, lambda own: own, call=call, calls=calls)
    alone = decided(run, output).double()
    coarse = run.setting.precision != "fp32" or beside.values.dtype.itemsize < 4
    allowed = (_COARSE if coarse else _FINE) * alone.abs().amax(dim=1, keepdim=True)
    apart = bool(((alone - beside.values.detach().double()).abs() <= allowed).all())
    if apart and not any(draws):
        remember(model, key, [layer.module], True)
        return False
    run.scores = evaluate(run.goal, run.score_rows(output))  # another class may be predicted
    return True


def repeat(inputs: Any, copies: int) -> Any:
    """Inputs whose batch is there `copies` times, one after the other."""
    batch = spatial_batch(inputs)
    return map_tensors(
        lambda t: torch.cat([t] * copies) if t.ndim and len(t) == batch else t, inputs
    )


def from_grid(
    grid: Float[Tensor, "batch channel *grid"], activation: Tensor, axes: GridAxes
) -> Tensor:
    """Put a changed (batch, channel, *grid) back where `to_grid` read it from.

    What the grid does not show of `activation` (a class token, padding) stays.

    Examples
    --------
    >>> axes = GridAxes((), ((-1,), (2, 3), (5,)), (0, 3, 1, 2), (-1, 5, 2, 3))
    >>> tokens = torch.rand(7, 6, 5)
    >>> bool((from_grid(2 * to_grid(tokens, axes), tokens, axes) == 2 * tokens).all())
    True
    """
    if axes.identity:
        return grid.to(activation)
    numbers = torch.arange(activation.numel(), device=activation.device).view(activation.shape)
    changed = activation.flatten().clone()
    changed[to_grid(numbers, axes).flatten()] = grid.to(activation).flatten()
    return changed.view(activation.shape)

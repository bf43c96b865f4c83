"""Run the head again on changed copies of a layer's activation, without autograd.

A general module cannot be cut in two, but the changes depend on the activation alone: the hook on
the layer hands on the batch itself and n changed copies of it, and everything after the layer runs
on the larger batch. Each chunk of copies repeats the part below the layer once, on the batch. Where
a path leads around the layer (or the head is built for one batch size) the input is repeated
instead: then a copy costs a full pass. So it does where samples of a batch influence each other, as
behind a batch norm without running statistics: then every copy runs alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.mixing import copies_mix, repeat
from respondcam.attribution.run import Run
from respondcam.attribution.targets import evaluate
from respondcam.errors import ModelError
from respondcam.network.gradients import full_precision
from respondcam.network.layers import Layer
from respondcam.network.layout import GridAxes, plain_axes, to_grid
from respondcam.network.split import run_head
from respondcam.network.survey import cached_survey
from respondcam.network.trees import plain, spatial_batch, spatial_tensor

# What the copies that run at once may hold.
_HEAD_BYTES = 256 * 2**20

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
        return self.run.call(self.layer)

    def activation(self) -> Float[Tensor, "batch channel *grid"]:
        """The layer's output; the run then knows its scores."""
        return self.scores(_no_copies, 0)[0]

    def scores(
        self, copies: Copies, count: int
    ) -> tuple[Float[Tensor, "batch channel *grid"], Float[Tensor, "copy batch target"]]:
        """Activation, and the scores of `count` changed copies of it."""
        if count and self._mix:
            found = [self._together(_no_copies, 0, 0)]  # the scores of the batch, of its own pass
            found += [self._alone(copies, number)[None] for number in range(count)]
        else:
            size = self._chunk()
            starts = range(0, max(1, count), size)
            found = [self._together(copies, n, min(count, n + size)) for n in starts]
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
    ) -> Float[Tensor, "target batch *grid"]:
        """The method's maps from weights of the channels."""
        ones = [1] * (activation.ndim - 2)
        found = [
            self.run.finish(self.layer.name, self.call, *full_precision(activation, each))
            for each in torch.unflatten(weights.permute(2, 1, 0), 2, (-1, *ones))
        ]
        return torch.stack(found)

    @property
    def _mix(self) -> bool:
        """Whether each copy has to run alone."""
        return self.run.only is not None or copies_mix(self.run, self.layer, self.call)

    def _alone(self, copies: Copies, number: int) -> Float[Tensor, "batch target"]:
        """Scores of one copy, in a batch as large as the network's own."""
        axes, only = self._axes(), self.run.only

        def change(activation: Tensor) -> Tensor:
            own = plain(activation)
            seen = to_grid(own, axes)
            changed = copies(seen, number, number + 1)[0]
            if only is not None:
                others = torch.arange(len(seen), device=seen.device) != only
                changed[others] = seen[others].to(changed)
            return from_grid(changed, own, axes)

        given = (self.layer.name, self.layer.module)
        model, calls = self.run.setting.model, self.run.calls(self.layer.name)
        output = run_head(model, given, self.run.inputs, change, call=self.call, calls=calls)
        return decided(self.run, output)

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
            calls=self.run.calls(self.layer.name),
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


def _no_copies(activation: Tensor, first: int, last: int) -> Tensor:
    return activation[None][:0]


def decided(run: Run, output: Any) -> Float[Tensor, "batch target"]:
    """Scores of another output of the network, for the targets that the run has decided on.

    Raises
    ------
    ModelError
        If there is no row of scores for each sample.
    """
    rows, batch = run.score_rows(output), spatial_batch(run.inputs)
    if len(rows) != batch:
        raise ModelError(
            f"The network makes {len(rows)} rows of scores of {batch} samples, so samples "
            f"influence each other, as the instances of a bag do. {run.setting.method!r} needs one "
            f"row for each; use respond."
        )
    return run.score_again(rows)


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

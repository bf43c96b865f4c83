"""Whether samples that run together influence each other's scores, and what is done where they do.

Behind a batch norm without running statistics, or a division by the largest value of the whole
tensor, a score depends on what else is in the batch. Two questions follow, each answered once for
every kind of inputs:

- May changed copies of a batch run beside each other (`copies_mix`)? If not, each runs alone.
- Do the samples of the batch itself influence each other (`samples_mix`)? Then the gradient of the
  sum of their scores is that of no one's score, and each sample is explained by itself, its own
  score alone, while the others stay as they are (`EachSample`).

Both run the part behind the layer twice in a batch of one size, with other neighbours: the numbers
are the same to the last digit, unless the neighbours count.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from respondcam.attribution.run import Kept, Run, Schedule
from respondcam.attribution.targets import takes_output
from respondcam.errors import InputError
from respondcam.network.calling import unwrap
from respondcam.network.hooks import hook_after
from respondcam.network.layers import Layer
from respondcam.network.layout.memory import recall, remember
from respondcam.network.split import run_head
from respondcam.network.state import RandomStates
from respondcam.network.trees import (
    map_tensors,
    plain,
    signature,
    spatial_batch,
    spatial_tensor,
    weights,
)

# In units of the precision's rounding, of a sample's largest score: how far atomic sums may move
# scores in a batch of the same size, and other kernels those in a batch of another size.
_SAME_SIZE, _OTHER_SIZE = 8, 200
# The latter where convolutions and products round to 10 bits (TF32), and to 7 or 10 (half).
_TF32, _HALF = 2e-3, 3e-2

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EachSample:
    """The passes of a method once for each sample, whose own score alone counts.

    The other samples of the batch stay as they are: they belong to what the score is computed with.
    """

    schedule: Schedule

    def __call__(self, run: Run, layers: Sequence[Layer]) -> Kept:
        """The maps, as `Schedule` asks."""
        runs = [
            replace(run, only=sample, scores=None, weak={})
            for sample in range(spatial_batch(run.inputs))
        ]
        found = [self.schedule(each, layers) for each in runs]
        run.each, run.scores = True, runs[0].scores
        for place in runs[0].weak:
            notes = [each.weak[place] for each in runs]
            run.weak[place] = [_peaks_of_each(peaks) for peaks in zip(*notes, strict=True)]
        return {
            place: torch.stack([maps[place][:, sample] for sample, maps in enumerate(found)], dim=1)
            for place, first in found[0].items()
            if first.ndim > 2  # a call without places has no map
        }


def _peaks_of_each(
    peaks: Sequence[tuple[Tensor, Tensor] | None],
) -> tuple[Tensor, Tensor] | None:
    """Peaks of activation and gradient, (batch,) each, from a run for each sample.

    A run without any had a map that is more than nothing, which infinity stands for.
    """
    known = next((each for each in peaks if each is not None), None)
    if known is None:
        return None
    activation, gradient = (torch.full_like(part, torch.inf) for part in known)
    for sample, each in enumerate(peaks):
        if each is not None:
            activation[sample], gradient[sample] = each[0][sample], each[1][sample]
    return activation, gradient


def samples_mix(run: Run, layers: Sequence[Layer]) -> bool:
    """Whether the samples of the batch influence each other's scores behind any of the layers.

    It takes three passes without a gradient for each layer, once for every kind of inputs.
    """
    if spatial_batch(run.inputs) < 2 or takes_output(run.goal):  # boxes come image by image
        return False
    places = {(layer.name, run.call(layer)): layer for layer in layers}
    return any(_samples_mix(run, layer, call) for (_, call), layer in places.items())


def _samples_mix(run: Run, layer: Layer, call: int) -> bool:
    model, batch = run.setting.model, spatial_batch(run.inputs)
    key = ("samples mix", layer.name, call, signature(run.inputs))
    about = _about(run, layer)
    known = recall(model, key, about)
    if known is not None:
        return known
    if run.samples(layer.name, call) != batch:  # such as windows of the images: maps of their own
        return False

    def rows(kept: int | None) -> Tensor:
        """Scores while all samples but one have other activations."""

        def change(activation: Tensor) -> Tensor:
            if kept is None:
                return activation
            others = [sample for sample in range(batch) if sample != kept]
            moved = _half(activation) if layer.is_input else _far(activation)
            return torch.where(run.entries(layer.name, call, activation, others), moved, activation)

        calls = run.calls(layer.name)
        output = run_head(
            model, (layer.name, layer.module), run.inputs, change, call=call, calls=calls
        )
        return run.score_rows(output).detach()

    whole = rows(None)
    if len(whole) != batch:  # one score for a bag, or rows that no map belongs to
        return False
    try:
        found = [(slice(sample, sample + 1), rows(sample)) for sample in (0, batch - 1)]
    except InputError:  # it refuses such activations, so nothing is known
        return False
    mix = any(not _same(whole[own], changed[own]) for own, changed in found)
    if mix or any(not torch.equal(whole, changed) for _, changed in found):
        remember(model, key, about, mix)  # unless no change reached the scores
    return mix


def _about(run: Run, layer: Layer) -> list[Any]:
    """What an answer belongs to, besides the inputs: the layer, and the scores that are read."""
    return [layer.module] + ([run.setting.output] if run.setting.output else [])


def copies_mix(run: Run, layer: Layer, call: int) -> bool:
    """Whether changed copies of the batch beside each other have other scores than each alone.

    A network that draws random numbers draws others for every copy, unless each runs alone. It
    takes four passes without a gradient, of one or two copies, once for every kind of inputs.
    """
    model = run.setting.model
    key = ("copies mix", layer.name, call, signature(run.inputs))
    about = _about(run, layer)
    known = recall(model, key, about)
    if known is not None:
        return known
    before = RandomStates.now()
    draws: list[bool] = []

    def note(*_: Any) -> None:
        draws.append(before.left())

    with contextlib.ExitStack() as stack:
        hook_after(stack, unwrap(model), note)
        try:
            mix = _neighbours_count(run, layer, call)
        except InputError:  # it does not run on a larger batch, or gives no row for each copy
            mix = True
    if any(draws):
        return True
    if mix is not None:
        remember(model, key, about, mix)
    return bool(mix)


def _neighbours_count(run: Run, layer: Layer, call: int) -> bool | None:
    """Whether a copy, half of the activation, has scores that depend on the copies beside it.

    None if all copies have the same scores, which tells nothing.
    """

    def rows(*changes: Change) -> Tensor:
        return _rows(run, layer, call, changes)

    other = plain if layer.is_input else _far
    alone, equal = rows(_half)[0], rows(_half, _half)
    after, ahead = rows(other, _half), rows(_half, torch.zeros_like)
    size = _rounding(alone, run)
    same = _same(equal[1], after[1]) and _same(equal[0], ahead[0])
    if not (same and _same(alone, equal[0], size) and _same(alone, equal[1], size)):
        return True
    return None if torch.equal(*after) and torch.equal(*ahead) else False


def _rows(run: Run, layer: Layer, call: int, changes: Sequence[Change]) -> Tensor:
    """Scores of changed copies that run together, (copy, batch, ...)."""
    samples, batch = _layer_rows(run, layer, call), spatial_batch(run.inputs)
    trace, count = run.traces.get(layer.name), len(changes)

    def change(activation: Tensor) -> Tensor:
        own = plain(activation[:samples])
        return torch.cat([each(own) for each in changes])

    def passed(inputs: Any) -> Tensor:
        found = (layer.name, layer.module)
        output = run_head(
            run.setting.model, found, inputs, change, call=call, calls=run.calls(layer.name)
        )
        scores = run.score_rows(output, copies=count).detach()
        if len(scores) != count * batch:
            raise InputError(f"{len(scores)} rows of scores of {count * batch} samples.")
        return torch.unflatten(scores, 0, (count, batch))

    if not (layer.is_input or trace is None or trace.bypassed):
        try:
            return passed(run.inputs)
        except InputError:
            pass  # a head that is built for this batch size, or reads the input again
    return passed(repeat(run.inputs, count))


def _layer_rows(run: Run, layer: Layer, call: int) -> int:
    if layer.is_input:
        found = spatial_tensor(run.inputs)
        assert found is not None
        return len(found)
    return run.traced(layer.name, call).shape[0]


def _half(activation: Tensor) -> Tensor:
    return activation / 2


def _far(activation: Tensor) -> Tensor:
    """A neighbour outside of what is seen, which counts wherever one can.

    Not for inputs, whose numbers may stand for classes or for places of a table.
    """
    return activation * 8 + 1


def _same(one: Tensor, other: Tensor, share: float | None = None) -> bool:
    """Whether (batch, ...) are equal up to a share of each sample's largest value."""
    share = _SAME_SIZE * torch.finfo(one.dtype).eps if share is None else share
    first, second = (part.double().reshape(len(part), -1) for part in (one, other))
    most = first.abs().nan_to_num(0, 0, 0).amax(dim=1, keepdim=True)
    near = torch.isclose(first, second, rtol=0, atol=0, equal_nan=True)
    return bool((near | ((first - second).abs() <= share * most)).all())


def _rounding(scores: Tensor, run: Run) -> float:
    """How far the size of a batch may move scores, as a share of the largest."""
    kinds = [scores, *weights(run.setting.model)]
    if run.setting.precision != "fp32" or any(each.dtype.itemsize < 4 for each in kinds):
        return _HALF
    if scores.is_cuda:
        return _TF32
    return _OTHER_SIZE * torch.finfo(scores.dtype).eps


def repeat(inputs: Any, copies: int) -> Any:
    """Inputs whose batch is there `copies` times, one after the other."""
    batch = spatial_batch(inputs)
    return map_tensors(
        lambda t: torch.cat([t] * copies) if t.ndim and len(t) == batch else t, inputs
    )

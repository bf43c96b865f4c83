r"""Maps of networks that see a volume in windows, mirrored, or in several copies of themselves.

The scores of such a prediction are linear in those of its passes: over windows, flips and networks

.. math::

    S = \sum_n \sum_v w(v)\, \frac{g_n(v)}{\sum_m g_m(v)}\, y_n(v)

with the importance g of a window's voxels and what the target takes from each voxel, w. So each
pass is explained with its own share of the score as its target, the maps are placed in their
windows, turned back and added: the sum of the map is the sum over passes, and the account of the
whole prediction closes as that of one pass does. A region (the predicted class, a component) is
decided once, on the scores of the whole volume.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from respondcam._warnings import warn
from respondcam.attribution.explainer import Explainer
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.outputs import describe, score_rows
from respondcam.attribution.targets import Scores, Target, as_target, evaluate
from respondcam.errors import EmptyMapWarning, InputError, ModelError, TargetError
from respondcam.network.calling import call_model, unwrap
from respondcam.network.grid import LayerGrid
from respondcam.network.preparation import Prepared, Window
from respondcam.network.state import undisturbed
from respondcam.network.trees import plain

# weights of one target: class -> (*spatial), what the target takes from that class's scores
_Weights = dict[int, Tensor]


def explain_prepared(
    explainers: Explainer | Sequence[Explainer], prepared: Prepared, target: Any = "predicted"
) -> Explanation | tuple[Explanation, ...]:
    """Explain a prepared volume; the maps can be written in the grid of the original.

    Parameters
    ----------
    explainers
        One for the network or, where the prediction is the mean of several networks, one for each,
        with the same layers.
    prepared
        What a `Preparation` gives.
    target
        As for every `Explainer`; of dense outputs on `prepared.grid`.

    Returns
    -------
    Explanation
        Or a tuple of them, if a list of layers was given. From several passes, `maps` are on the
        voxels that the network sees; from a single one on the layer's grid.

    Raises
    ------
    InputError
        As for every `Explainer`; and for targets that are no weighted sum of scores, such as a
        probability, if there are several passes.

    Examples
    --------
    >>> import numpy as np
    >>> from respondcam.attribution import RespondCAM
    >>> from respondcam.network.preparation import whole
    >>> from respondcam.volume import Volume
    >>> volume = Volume(np.ones((4, 4, 4)))
    >>> inside = (slice(0, 4), slice(0, 4), slice(0, 4))
    >>> net = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.ReLU())
    >>> one = explain_prepared(
    ...     RespondCAM(net, "1"), Prepared(volume, volume, inside, whole((4, 4, 4))), 1
    ... )
    >>> one.volume().shape
    (4, 4, 4)
    """
    group = [explainers] if isinstance(explainers, Explainer) else list(explainers)
    if not group:
        raise InputError("explain_prepared needs at least one explainer.")
    goal = as_target(target)
    if len(group) == 1 and prepared.tiles.single:
        found = group[0](prepared.volume, target=_without_padding(goal, prepared))
        parts = found if isinstance(found, tuple) else (found,)
    else:
        with torch.no_grad():
            scores = blended_scores(group, prepared)
        parts = _in_passes(group, prepared, goal, scores)
        found = parts if group[0].several and group[0].join is None else parts[0]
    done = tuple(replace(part, original=prepared.original) for part in parts)
    return done if isinstance(found, tuple) else done[0]


def blended_scores(explainers: Sequence[Explainer], prepared: Prepared) -> Tensor:
    """Scores of the whole prepared volume, (1, class, *spatial), padding included."""
    image, tiles = prepared.volume.tensor(), prepared.tiles
    count = len(explainers) * len(tiles.flips)
    total: Tensor | None = None
    for window in tiles.windows:
        for explainer in explainers:
            for flips in tiles.flips:
                piece = _scores_of(explainer, image[(..., *window)], flips)
                if total is None:
                    total = torch.zeros(1, piece.shape[1], *prepared.volume.shape)
                total[(..., *window)] += piece * (tiles.importance / count)
    assert total is not None
    return total / _overlap(prepared)


def _scores_of(explainer: Explainer, image: Tensor, flips: tuple[int, ...]) -> Tensor:
    """Scores of one pass on the CPU, turned back."""
    model = unwrap(explainer.model)
    axes = [axis + 2 for axis in flips]
    with undisturbed(model):
        given = _on_device(image.flip(axes), explainer)
        scores = plain(score_rows(call_model(model, given), explainer.output, image))
    if tuple(scores.shape[2:]) != tuple(image.shape[2:]):
        raise ModelError(
            f"The network's output is {describe(scores)} for a window of {tuple(image.shape[2:])} "
            f"voxels. Only scores for every voxel can be put together from several windows."
        )
    return scores.flip(axes).float().cpu()


def _on_device(image: Tensor, explainer: Explainer) -> Tensor:
    parameter = next(explainer.model.parameters(), None)
    copy = image.clone(memory_format=torch.contiguous_format)
    return copy if parameter is None else copy.to(parameter.device, parameter.dtype)


def _overlap(prepared: Prepared) -> Tensor:
    """Sum of the windows' importance at every voxel."""
    total = torch.zeros(prepared.volume.shape)
    for window in prepared.tiles.windows:
        total[window] += prepared.tiles.importance
    return total


def _without_padding(goal: Target, prepared: Prepared) -> Target:
    """The same target on the part of a dense output that is no padding."""
    shape = prepared.volume.shape

    def cut(output: Tensor) -> Tensor:
        dense = tuple(output.shape[2:]) == shape
        return output[(..., *prepared.inside)] if dense else output

    def score(output: Tensor) -> Any:
        found = goal(cut(output))
        if not isinstance(found, Scores) or found.again is None:
            return found
        again = found.again

        def on_part(other: Tensor) -> Tensor:
            return again(cut(other))

        return replace(found, again=on_part)

    return score


def _in_passes(
    group: Sequence[Explainer], prepared: Prepared, goal: Target, scores: Tensor
) -> tuple[Explanation, ...]:
    found, weights = _weights(goal, scores, prepared)
    total: _Total | None = None
    for part in _passes(len(group), prepared, weights):
        explained = part.explain(group[part.network], prepared, found.labels)
        if total is None:
            total = _Total(explained, prepared)
        total.add(explained, part)
    assert total is not None
    return total.explanations(found)


def _weights(goal: Target, scores: Tensor, prepared: Prepared) -> tuple[Scores, list[_Weights]]:
    """What each target takes from every score: its gradient, which is all of a linear target."""
    with torch.enable_grad():
        inside = scores[(..., *prepared.inside)].detach().requires_grad_()
        found = evaluate(goal, inside)
        weights: list[_Weights] = []
        for column, label in enumerate(found.labels):
            value = found.values[0, column]
            gradient = torch.zeros_like(inside)
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(value, inside, retain_graph=True)
            reached = float((gradient.double() * inside.detach().double()).sum())
            size = float((gradient * inside.detach()).abs().sum())
            if abs(reached - float(value.detach())) > 1e-4 * max(size, abs(float(value.detach()))):
                raise TargetError(
                    f"The target {label!r} is no weighted sum of the scores, so it cannot be "
                    f"shared out between the {prepared_passes(prepared)} passes over this volume. "
                    f"Explain a score: a class, a mask, a box, a voxel, a component or a contrast."
                )
            weights.append(_padded(gradient[0], prepared))
    return replace(found, values=found.values.detach()), weights


def prepared_passes(prepared: Prepared) -> int:
    """Number of passes over a prepared volume, of one network."""
    return len(prepared.tiles.windows) * len(prepared.tiles.flips)


def _padded(gradient: Tensor, prepared: Prepared) -> _Weights:
    kept: _Weights = {}
    for number, plane in enumerate(gradient):
        if bool(plane.any()):
            kept[number] = torch.zeros(prepared.volume.shape)
            kept[number][prepared.inside] = plane
    return kept


@dataclass(frozen=True, eq=False)
class _Pass:
    """One window, flipped or not, before one network, and its share of each target."""

    network: int
    window: Window
    flips: tuple[int, ...]
    shares: list[_Weights]

    def explain(
        self, explainer: Explainer, prepared: Prepared, labels: tuple[str, ...]
    ) -> tuple[Explanation, ...]:
        """Explain this pass's share of the scores."""
        image = prepared.volume.tensor()[(..., *self.window)].flip([a + 2 for a in self.flips])

        def score(output: Tensor) -> Scores:
            return Scores(again(output), labels, again=again)

        def again(output: Tensor) -> Tensor:
            nothing = 0 * output.flatten(1)[:, 0]  # what is reached by no target is connected, too
            return torch.stack([sum(self._taken(output, s), nothing) for s in self.shares], dim=1)

        with warnings.catch_warnings():  # a part of a map may well be empty
            warnings.simplefilter("ignore", EmptyMapWarning)
            found = explainer(_on_device(image, explainer), target=score)
        return found if isinstance(found, tuple) else (found,)

    def _taken(self, output: Tensor, share: _Weights) -> Iterator[Tensor]:
        for number, weight in share.items():
            taken = weight.flip(self.flips).to(output.device, output.dtype)
            yield (output[:, number] * taken).flatten(1).sum(dim=1)


def _passes(networks: int, prepared: Prepared, weights: list[_Weights]) -> Iterator[_Pass]:
    """The passes that anything depends on; at least one, so that empty maps have a grid."""
    tiles = prepared.tiles
    scale = tiles.importance.double()
    overlap = _overlap(prepared).double()
    count = networks * len(tiles.flips)
    last = len(tiles.windows) - 1
    none_yet = True
    for index, window in enumerate(tiles.windows):
        share = (scale / overlap[window] / count).float()
        shares = [{k: w[window] * share for k, w in one.items()} for one in weights]
        shares = [{k: w for k, w in one.items() if bool(w.any())} for one in shares]
        if not any(shares) and not (none_yet and index == last):
            continue
        none_yet = False
        for network in range(networks):
            for flips in tiles.flips:
                yield _Pass(network, window, flips, shares)


class _Total:
    """The sum over passes, for each layer."""

    def __init__(self, first: Sequence[Explanation], prepared: Prepared) -> None:
        self.prepared, self.first, self.passes = prepared, list(first), 0
        targets = first[0].maps.shape[1]
        shape = prepared.volume.shape
        self.maps = [torch.zeros(1, targets, *shape) for _ in first]
        self.baselines = [torch.zeros(1, targets, dtype=torch.float64) for _ in first]
        self.bypassed = [False for _ in first]

    def add(self, explained: Sequence[Explanation], part: _Pass) -> None:
        axes = [axis + 2 for axis in part.flips]
        for layer, one in enumerate(explained):
            placed = one.place().detach().float().cpu().flip(axes)
            self.maps[layer][(..., *part.window)] += placed
            self.baselines[layer] += one.account.baseline.cpu()
            self.bypassed[layer] |= one.bypassed
        self.passes += 1

    def explanations(self, found: Scores) -> tuple[Explanation, ...]:
        return tuple(self._explanation(layer, found) for layer in range(len(self.first)))

    def _explanation(self, layer: int, found: Scores) -> Explanation:
        first, maps, baseline = self.first[layer], self.maps[layer], self.baselines[layer]
        shape = self.prepared.volume.shape
        wide = tuple(first.grid.uncertainty)
        grid = LayerGrid(
            (1.0,) * 3,
            (0.0,) * 3,
            shape,
            shape,
            wide if len(wide) == 3 else (0.0, *wide),
            first.grid.origin,
            first.grid.note,
        )
        return replace(
            first,
            maps=maps,
            scores=found.values.cpu(),
            targets=found.labels,
            classes=found.classes,
            score_note=found.note,
            predicted=found.predicted,
            grid=grid,
            empty=_empty(maps, first, found),
            source=self.prepared.volume,
            bypassed=self.bypassed[layer],
            baseline=lambda: baseline,
        )


def _empty(maps: Tensor, first: Explanation, found: Scores) -> dict[tuple[int, int], str]:
    reasons = {
        (0, target): found.notes.get((0, target))
        or first.empty.get((0, target), "its contributions are zero in every window")
        for target in range(maps.shape[1])
        if not bool(maps[0, target].any())
    }
    for (_, target), why in reasons.items():
        warn(
            f"The map of {found.labels[target]} is zero everywhere: {why}.",
            EmptyMapWarning,
        )
    return reasons

"""What a trunk in bfloat16 costs: the same maps once more in full precision, and the difference."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from respondcam.attribution.account import PrecisionError
from respondcam.attribution.run import Kept, Run, Schedule
from respondcam.attribution.targets import Scores, evaluate
from respondcam.network.layers import Layer
from respondcam.network.precision import trunk_precision
from respondcam.network.typed import norms


def precision_error(
    run: Run, schedule: Schedule, layers: Sequence[Layer], kept: Kept
) -> PrecisionError:
    """Make the maps of a run once more in float32, of the very same targets, and compare.

    Parameters
    ----------
    run, schedule, layers
        Of the run in lower precision.
    kept
        Its maps.
    """
    scores = run.scores
    assert scores is not None
    moved: list[bool] = []

    def same(output: Any) -> Scores:
        fresh = evaluate(run.goal, output)
        if fresh.classes is not None and scores.classes is not None:
            moved.append(bool((fresh.classes != scores.classes).any()))
        values = fresh.values if scores.again is None else scores.again(output)
        return replace(fresh, values=values)

    exact = replace(run, goal=same, scores=None, create_graph=False, weak={})
    with trunk_precision("fp32"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself has warned
        maps = schedule(exact, layers)
    assert exact.scores is not None
    true = exact.scores.values.detach().double()
    difference = (scores.values.detach().double() - true).abs()
    pairs = [(kept[place].detach(), other) for place, other in maps.items()]
    return PrecisionError(
        score=float(difference.max()),
        relative_score=_worst(difference, true.abs()),
        map=max(_worst(_norms(one - other), _norms(other)) for one, other in pairs),
        other_class=any(moved),
    )


def _norms(maps: Tensor) -> Tensor:
    return norms(maps.double().flatten(2), dim=2)


def _worst(difference: Tensor, size: Tensor) -> float:
    return float((difference / size.where(difference != 0, 1)).max())

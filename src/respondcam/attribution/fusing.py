r"""Several layers in one map, in the voxels of the input.

The maps of one run, each of another layer, are put in their places and averaged,

.. math::

    L = \sum_k \beta_k \operatorname{place}(L_k), \qquad \sum_k \beta_k = 1,

which keeps the account: every layer has its own, :math:`y = b_k + \sum L_k + g_k`, and so the mean
of the maps has the mean of the baselines and of the gaps. The fine layers give the detail, the
coarse ones say what it is worth.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from respondcam.attribution.explanation import Explanation
from respondcam.errors import InputError
from respondcam.network.grid import LayerGrid


def fuse(
    explanations: Sequence[Explanation], *, weights: Sequence[float | int] | None = None
) -> Explanation:
    """One explanation from several of the same inputs and targets, each of another layer.

    Parameters
    ----------
    explanations
        As an explainer with a list of layers gives them.
    weights
        One per layer, scaled to add up to one; all the same unless given.

    Raises
    ------
    InputError
        If they are not of the same inputs and targets, or the weights do not fit.

    Examples
    --------
    >>> from torch import nn
    >>> from respondcam.attribution.respond import RespondCAM
    >>> model = nn.Sequential(
    ...     nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(),
    ...     nn.Linear(4 * 64, 2, bias=False),
    ... )
    >>> fused = fuse(RespondCAM(model, layer=["1", "2"])(torch.rand(1, 1, 8, 8, 8), target=0))
    >>> fused.layer, fused.maps.shape, bool(fused.account.relative_gap < 1e-5)
    ('1 + 2', torch.Size([1, 1, 8, 8, 8]), True)
    """
    same_run(explanations)
    shares = _shares(weights, len(explanations))
    maps = sum(share * one.place() for share, one in zip(shares, explanations, strict=True))
    assert isinstance(maps, Tensor)
    baselines = [one.baseline for one in explanations]

    def baseline() -> Tensor:
        found = [share * known() for share, known in zip(shares, baselines, strict=True) if known]
        return torch.stack(found).sum(dim=0)

    return joined(explanations, maps, " + ", baseline=None if None in baselines else baseline)


def joined(
    explanations: Sequence[Explanation], maps: Tensor, sign: str, **changes: object
) -> Explanation:
    """An explanation of all these layers, whose maps are in the voxels of the input."""
    first = explanations[0]
    spatial = first.grid.input_shape
    axes = zip(*(one.grid.uncertainty for one in explanations), strict=True)
    origins = {one.grid.origin for one in explanations}
    fields = {
        "maps": maps,
        "layer": sign.join(one.layer for one in explanations),
        "grid": LayerGrid(
            (1.0,) * len(spatial),
            (0.0,) * len(spatial),
            spatial,
            spatial,
            tuple(max(axis) for axis in axes),
            "even" if "even" in origins else first.grid.origin,
            "; ".join(dict.fromkeys(one.grid.note for one in explanations if one.grid.note)),
        ),
        "empty": {at: why for at, why in first.empty.items() if _all_empty(explanations, at)},
        "bypassed": any(one.bypassed for one in explanations),
        "note": "; ".join(dict.fromkeys(one.note for one in explanations if one.note)),
    }
    return replace(first, **(fields | changes))


def _all_empty(explanations: Sequence[Explanation], at: tuple[int, int]) -> bool:
    return all(at in one.empty for one in explanations)


def same_run(explanations: Sequence[Explanation]) -> None:
    """Raise InputError if these are not several layers' maps of the same inputs and targets."""
    if not explanations or isinstance(explanations, Explanation):
        raise InputError(
            "There is nothing to fuse. Give the explanations of several layers, as an explainer "
            "with a list of layers gives them."
        )
    first = explanations[0]
    for one in explanations[1:]:
        if (
            one.scores.shape != first.scores.shape
            or one.targets != first.targets
            or one.grid.input_shape != first.grid.input_shape
            or not torch.allclose(one.scores, first.scores, rtol=1e-3, atol=1e-4)
        ):
            raise InputError(
                f"The explanations of layers {first.layer!r} and {one.layer!r} are not of the same "
                f"inputs and targets. Explain all layers at once: layer=[...]."
            )


def _shares(weights: Sequence[float | int] | None, count: int) -> list[float]:
    given = [1.0] * count if weights is None else [float(w) for w in weights]
    if len(given) != count or min(given) < 0 or sum(given) <= 0:
        raise InputError(
            f"weights={weights!r}: give {count} numbers that are not negative and not all zero, "
            f"one for each layer."
        )
    return [w / sum(given) for w in given]

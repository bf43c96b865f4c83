"""The sum-to-score figures class by class: which class's maps can be believed.

Within one image Kendall's tau asks whether the sums order the classes as the scores do. For one
class it asks whether the sums order the *images* as the class's scores do, which a map needs that
is used to rank images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.errors import InputError
from respondcam.evidence.audit import kendall_tau
from respondcam.evidence.intervals import Interval, bootstrap


@dataclass(frozen=True)
class ClassAudit:
    """How well the maps of one class add up, over images.

    Parameters
    ----------
    label
        Of the class.
    images
        How many.
    l1
        Mean over images of ``|mapped - score|``, with its interval.
    relative_gap
        Mean over images of ``|gap| / |score - baseline|``, with its interval.
    open_share
        ``sum |gap| / sum |score - baseline|`` over images: images that contribute little count
        little.
    tau
        Kendall's tau-b between sums and scores over images; NaN for fewer than two.
    """

    label: str
    images: int
    l1: Interval
    relative_gap: Interval
    open_share: float
    tau: float


def audit_classes(
    labels: Sequence[str],
    score: Float[Tensor, "image class"],
    baseline: Float[Tensor, "image class"],
    mapped: Float[Tensor, "image class"],
    *,
    seed: int = 0,
) -> list[ClassAudit]:
    """Compare sums of maps with scores, class by class.

    Raises
    ------
    InputError
        If there is no image, or there are more or fewer labels than classes.

    Examples
    --------
    >>> score, baseline = torch.tensor([[5.0], [3.0]]), torch.tensor([[1.0], [1.0]])
    >>> (one,) = audit_classes(["ribosome"], score, baseline, torch.tensor([[4.0], [1.0]]))
    >>> one.l1.mean, one.tau, round(one.open_share, 3)
    (1.5, 1.0, 0.167)
    """
    if not len(score) or len(labels) != score.shape[1]:
        raise InputError(
            f"There are {len(labels)} labels and accounts of shape {tuple(score.shape)}: give one "
            f"row per image, at least one, and one label per column."
        )
    score, baseline, mapped = (part.detach().double().cpu() for part in (score, baseline, mapped))
    l1 = (mapped - score).abs()
    gap, moved = (score - baseline - mapped).abs(), (score - baseline).abs()
    relative = torch.where(moved > 0, gap / moved, torch.nan)
    share = torch.where(moved.sum(0) > 0, gap.sum(0) / moved.sum(0), torch.nan)
    tau = kendall_tau(mapped.T, score.T)
    return [
        ClassAudit(
            label,
            len(score),
            bootstrap(l1[:, k].tolist(), seed=seed),
            bootstrap(relative[:, k].tolist(), seed=seed),
            float(share[k]),
            float(tau[k]),
        )
        for k, label in enumerate(labels)
    ]

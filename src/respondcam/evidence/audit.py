r"""Does the sum of a map follow the score of its class? The publication's own question.

Zhao, Zhou, Wang, Jiang, Xu: Respond-CAM, MICCAI 2018 (arXiv:1806.00102), section 3.2, compares for
each image the sums of the maps of all classes, :math:`\sum_i L^{(c)}_i`, with the classes' scores
:math:`y^{(c)}` by two figures: the L1 error, the mean over classes of their absolute difference,
and Kendall's tau, which asks only whether the two put the classes in the same order.

The L1 error counts what the network adds whatever the image is, such as the biases behind the
layer, as an error of the map. So the relative gap stands beside it: the part of what the image
contributed, ``score - baseline``, that the map leaves open.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam._rounding import without_noise
from respondcam._words import percent
from respondcam.errors import InputError
from respondcam.evidence.intervals import Interval, bootstrap

_LITTLE_OPEN = 0.01
_SAME_ORDER = 0.5
_MUCH_OPEN = 0.1  # of what an image contributed: its map is no account of its score


@dataclass(frozen=True)
class SumToScore:
    """How well the maps of one image add up, over its classes.

    Parameters
    ----------
    l1
        Mean over classes of ``|mapped - score|``, in units of the score.
    tau
        Kendall's tau-b between sums and scores over classes, from -1 to 1; NaN where all classes
        tie or there is only one.
    relative_gap
        ``sum |gap| / sum |score - baseline|`` over classes; 0 is a map that explains everything
        that the image contributed. NaN where the image contributed nothing.
    """

    l1: float
    tau: float
    relative_gap: float


_FIGURES = ("l1", "tau", "relative_gap")


@dataclass(frozen=True)
class Spread:
    """Mean and population standard deviation (ddof 0) of the finite values, and their number."""

    mean: float
    std: float
    count: int


@dataclass(frozen=True)
class AuditSummary:
    """The figures of `SumToScore` over many images.

    Parameters
    ----------
    images
        How many.
    l1, tau, relative_gap
        Mean and deviation over images.
    intervals
        The same three by name, with the interval of the mean.
    much_open
        In how many images more than a tenth of what the image contributed is open.
    """

    images: int
    l1: Spread
    tau: Spread
    relative_gap: Spread
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    much_open: int = 0

    @property
    def verdict(self) -> str:
        """What the figures mean, in plain words."""
        gap, tau = self.relative_gap.mean, self.tau.mean
        words = [_gap_in_words(gap), _order_in_words(tau)]
        if tau < _SAME_ORDER and gap <= _LITTLE_OPEN:
            words.append(
                "That is no fault of the maps: what the network adds whatever the image is (the "
                "baseline) is in the scores' order, not in the sums'."
            )
        if 0 < self.much_open < self.images and self.relative_gap.mean <= _MUCH_OPEN:
            words.append(f"In {self.much_open} of {self.images} images more than 10 % is open.")
        return " ".join(word for word in words if word)


def kendall_tau(
    x: Float[Tensor, "*batch classes"], y: Float[Tensor, "*batch classes"]
) -> Float[Tensor, "*batch"]:
    """Kendall's rank correlation tau-b over the last dimension, ties included.

    ``tau_b = (concordant - discordant) / sqrt((pairs - ties in x) (pairs - ties in y))``
    (Kendall, Biometrika 33, 1945). Every pair is looked at: fine for thousands of classes.

    Returns
    -------
    Tensor
        float64; NaN where all values of `x` or of `y` are equal, or there are fewer than two.

    Examples
    --------
    >>> kendall_tau(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 30.0, 20.0])).item()
    0.333...
    """
    if x.shape[-1] < 2:
        return torch.full(x.shape[:-1], math.nan, dtype=torch.float64)
    first, second = torch.triu_indices(x.shape[-1], x.shape[-1], offset=1)
    sign_x = (x[..., first] - x[..., second]).sign().double()
    sign_y = (y[..., first] - y[..., second]).sign().double()
    untied = sign_x.abs().sum(-1) * sign_y.abs().sum(-1)
    return ((sign_x * sign_y).sum(-1) / untied.sqrt()).cpu()


def sum_to_score(
    score: Float[Tensor, "batch classes"],
    baseline: Float[Tensor, "batch classes"],
    mapped: Float[Tensor, "batch classes"],
) -> list[SumToScore]:
    """Compare the sums of the maps of all classes with their scores, image by image.

    Parameters
    ----------
    score, baseline, mapped
        As in an explanation's account, for all classes.

    Examples
    --------
    >>> score, baseline = torch.tensor([[5.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    >>> sum_to_score(score, baseline, mapped=torch.tensor([[4.0, 0.5]]))
    [SumToScore(l1=0.75, tau=1.0, relative_gap=0.1)]
    """
    score, baseline, mapped = score.double(), baseline.double(), mapped.double()
    l1 = (mapped - score).abs().mean(-1)
    gap = (score - baseline - mapped).abs().sum(-1)
    relative = gap / (score - baseline).abs().sum(-1)
    relative = torch.where(relative.isinf(), math.nan, relative)
    tau = kendall_tau(mapped, score)
    rows = zip(l1.tolist(), tau.tolist(), relative.tolist(), strict=True)
    return [SumToScore(*row) for row in rows]


def summarise(rows: Sequence[SumToScore], *, seed: int = 0) -> AuditSummary:
    """Mean, spread and interval of each figure over images.

    Parameters
    ----------
    rows
        One per image.
    seed
        Of the intervals' resampling.

    Raises
    ------
    InputError
        If there are no rows.

    Examples
    --------
    >>> summary = summarise([SumToScore(1.0, 1.0, 0.0), SumToScore(3.0, 0.5, 0.0)])
    >>> summary.l1, summary.tau.mean
    (Spread(mean=2.0, std=1.0, count=2), 0.75)
    """
    if not rows:
        raise InputError("There is nothing to summarise: no image was explained.")
    columns = {name: [getattr(row, name) for row in rows] for name in _FIGURES}
    return AuditSummary(
        images=len(rows),
        **{name: _spread(values) for name, values in columns.items()},
        intervals={name: bootstrap(values, seed=seed) for name, values in columns.items()},
        much_open=sum(value > _MUCH_OPEN for value in columns["relative_gap"]),
    )


def _spread(values: Sequence[float]) -> Spread:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Spread(math.nan, math.nan, 0)
    mean = math.fsum(finite) / len(finite)
    variance = math.fsum((value - mean) ** 2 for value in finite) / len(finite)
    return Spread(mean, math.sqrt(variance), len(finite))


def _gap_in_words(gap: float) -> str:
    if math.isnan(gap):
        return "The images contributed nothing to the scores, so there is nothing to explain."
    share = percent(without_noise(gap, 1.0))
    if gap <= _LITTLE_OPEN:
        return f"The maps explain what the images contributed to the scores (open: {share})."
    if gap <= _MUCH_OPEN:
        return (
            f"The maps explain most of what the images contributed to the scores (open: {share})."
        )
    return (
        f"The maps do not add up to what the images contributed to the scores (open: {share}): "
        f"what follows the layer is not linear. Use integrated-respond, whose sum is exact for "
        f"every head, or a layer closer to the scores if there is one."
    )


def _order_in_words(tau: float) -> str:
    if math.isnan(tau):
        return ""
    how = (
        "the order of"
        if tau >= 0.9999
        else "nearly the order of"
        if tau >= 0.9
        else "much the order of"
        if tau >= _SAME_ORDER
        else ("another order than")
    )
    return f"Their sums put the classes in {how} the scores (tau {tau:.2f})."

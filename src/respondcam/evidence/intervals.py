r"""Intervals by resampling: how far a mean over images would move with other images.

Efron, Tibshirani: An introduction to the bootstrap (1993). Images are drawn with replacement, the
mean is taken of each draw, and the interval holds the middle share of these means:

- ``"percentile"``: their quantiles as they are;
- ``"bca"``: quantiles shifted for bias and skewness (bias-corrected and accelerated).

Two methods are compared on the same images, so the interval of a difference is that of the mean of
the differences, image by image (`paired`): images that are hard for both do not widen it.

What an interval does not hold: that the images are like those it will be used on, that they are
independent (crops of one tomogram are not), or that another training of the network agrees. With
few images an interval is too short, so below `FEWEST` none is given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from respondcam.errors import InputError

FEWEST = 8
RESAMPLES = 2000
Kind = Literal["percentile", "bca"]


@dataclass(frozen=True)
class Interval:
    """A mean over images with its interval.

    Parameters
    ----------
    mean
        Of the finite values; NaN where there is none.
    low, high
        Of the interval; NaN where there is none, and `note` says why.
    count
        How many finite values there are.
    left_out
        How many values are not finite.
    note
        What there is to know; empty when nothing.
    """

    mean: float
    low: float
    high: float
    count: int
    left_out: int = 0
    note: str = ""

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval excludes zero; False where there is none."""
        return self.low > 0 or self.high < 0


def bootstrap(
    values: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    kind: Kind = "percentile",
) -> Interval:
    """Mean and interval of one figure over images; values that are not finite are left out.

    Parameters
    ----------
    values
        One per image.
    level
        Share of the resampled means within the interval.
    resamples, seed
        How many draws, and of which random numbers: the same give the same interval.
    kind
        As in the module's text.

    Raises
    ------
    InputError
        If an option is out of range.

    Examples
    --------
    >>> found = bootstrap([1.0, 2.0, 3.0, 4.0] * 3)
    >>> found.mean, found.low < 2.5 < found.high, found.count
    (2.5, True, 12)
    >>> bootstrap([1.0, 2.0]).note
    '2 values are too few for an interval (8 are needed)'
    """
    _check(level, resamples, kind)
    finite = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    left_out = len(values) - len(finite)
    gone = f"{left_out} of {len(values)} values are undefined and left out" if left_out else ""
    if not len(finite):
        return Interval(math.nan, math.nan, math.nan, 0, left_out, gone or "there are no values")
    mean = math.fsum(finite) / len(finite)
    if len(finite) < FEWEST:
        what = "value is" if len(finite) == 1 else "values are"
        few = f"{len(finite)} {what} too few for an interval ({FEWEST} are needed)"
        return Interval(mean, math.nan, math.nan, len(finite), left_out, _join(gone, few))
    if finite.min() == finite.max():
        return Interval(mean, mean, mean, len(finite), left_out, _join(gone, "all values agree"))
    means = _resampled(finite, resamples, seed)
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if kind == "bca":
        shares = _corrected(shares, finite, means)
    low, high = np.quantile(means, shares)
    return Interval(mean, float(low), float(high), len(finite), left_out, gone)


def paired(
    values: Sequence[float], reference: Sequence[float], **options: float | int | Kind
) -> Interval:
    """Interval of the mean difference ``values - reference`` over the same images.

    Images where either is not finite are left out of both.

    Examples
    --------
    >>> paired([2.0, 3.0, 4.0] * 3, [1.0, 2.0, 3.0] * 3).note
    'all values agree'
    """
    if len(values) != len(reference):
        raise InputError(
            f"There are {len(values)} values and {len(reference)} to compare with: give both for "
            f"the same images, in the same order."
        )
    differences = [one - other for one, other in zip(values, reference, strict=True)]
    return bootstrap(differences, **options)  # type: ignore[arg-type]


def _resampled(finite: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of the draws, in pieces so that large data sets fit."""
    generator = np.random.default_rng(seed)
    most = max(1, 4_000_000 // len(finite))
    parts = []
    for first in range(0, resamples, most):
        draws = min(most, resamples - first)
        picked = generator.integers(0, len(finite), (draws, len(finite)))
        parts.append(finite[picked].mean(axis=1))
    return np.concatenate(parts)


def _corrected(shares: np.ndarray, finite: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Shares of the resampled means that BCa reads instead (Efron 1987, equation 6.8)."""
    mean = finite.mean()
    below = ((means < mean).mean() + (means <= mean).mean()) / 2  # ties count half
    bias = _ndtri(np.array([below]))[0]
    without = (finite.sum() - finite) / (len(finite) - 1)
    away = without.mean() - without
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    z = bias + _ndtri(shares)
    return torch.special.ndtr(torch.from_numpy(bias + z / (1 - acceleration * z))).numpy()


def _ndtri(shares: np.ndarray) -> np.ndarray:
    return torch.special.ndtri(torch.from_numpy(np.asarray(shares, dtype=np.float64))).numpy()


def _check(level: float, resamples: int, kind: str) -> None:
    if not 0 < level < 1 or resamples < 100 or kind not in ("percentile", "bca"):
        raise InputError(
            f"level={level!r}, resamples={resamples!r}, kind={kind!r}: give a level between 0 and "
            f"1, at least 100 resamples, and the kind 'percentile' or 'bca'."
        )


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)

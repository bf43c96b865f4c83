r"""The score account: how much of the score a map explains.

.. math::

    \text{score} = \text{baseline} + \text{mapped} + \text{gap}, \qquad
    \text{baseline} = y(A_0), \quad \text{mapped} = \sum_i L_i

with :math:`A_0` the layer's output replaced by zero. Zero gap means that the map explains all of
what the image contributed through the layer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam._rounding import without_noise
from respondcam._words import percent
from respondcam.errors import InputError

_MOST_LINES = 20  # of an account that is printed


@dataclass(frozen=True, eq=False)
class ScoreAccount:
    """Where the score comes from, per sample and target; all tensors are (batch, target), float64.

    Parameters
    ----------
    score
        The target's score y(A).
    baseline
        y(A0): the score with the layer's output replaced by zero.
    mapped
        The sum of the map.
    note
        What a reader should know, empty when there is nothing.
    """

    score: Float[Tensor, "batch target"]
    baseline: Float[Tensor, "batch target"]
    mapped: Float[Tensor, "batch target"]
    note: str = ""

    @property
    def gap(self) -> Float[Tensor, "batch target"]:
        """Score - baseline - mapped: what the map leaves unexplained."""
        return self.score - self.baseline - self.mapped

    @property
    def relative_gap(self) -> Float[Tensor, "batch target"]:
        """``|gap| / |score - baseline|``; infinite where only the latter is zero."""
        contributed = (self.score - self.baseline).abs()
        gap = self.gap.abs()
        return torch.where(gap == 0, 0.0, gap / contributed)

    def line(self, sample: int = 0, target: int = 0) -> str:
        """One line for people: ``score 4.213 = baseline 0.104 + mapped 4.109 + gap 0.000``.

        Examples
        --------
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> ScoreAccount(score=3 * one, baseline=one, mapped=2 * one).line()
        'score 3.000 = baseline 1.000 + mapped 2.000 + gap 0.000 (0.0 %)'
        """
        if isinstance(target, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                f"line() takes the number of a target, not {target!r}: its place among the "
                f"explanation's targets."
            )
        at = (sample, target)
        score, baseline, mapped = (
            f"{float(t[at]):.4g}" if abs(float(t[at])) >= 1e4 else f"{float(t[at]):z.3f}"
            for t in (self.score, self.baseline, self.mapped)
        )
        gap = without_noise(float(self.gap[at]), float((self.score - self.baseline)[at]))
        share = 100 * float(self.relative_gap[at]) if gap else 0.0
        return (
            f"score {score} = baseline {baseline} + mapped {mapped} + gap {gap:z.3f} "
            f"({share:.1f} %)"
        )

    def __str__(self) -> str:
        samples, targets = self.score.shape
        if samples * targets == 1:
            return self.line()
        places = [(s, t) for s in range(samples) for t in range(targets)]
        lines = [f"sample {s}, target {t}: {self.line(s, t)}" for s, t in places[:_MOST_LINES]]
        more = len(places) - len(lines)
        return "\n".join([*lines, f"... and {more} more: line(sample, target)"] if more else lines)

    def __repr__(self) -> str:
        samples, targets = self.score.shape
        first = f"; the first: {self.line()}" if samples and targets else ""
        return f"ScoreAccount(samples={samples}, targets={targets}{first})"


@dataclass(frozen=True)
class PrecisionError:
    """How far maps with a trunk in bfloat16 are from those in float32, for the worst map.

    Parameters
    ----------
    score
        Largest difference of a score.
    relative_score
        Largest difference of a score, relative to the score.
    map
        Largest difference of a map: norm of the difference over norm of the map.
    other_class
        Whether another class is predicted in float32.
    """

    score: float
    relative_score: float
    map: float
    other_class: bool = False

    @property
    def note(self) -> str:
        """One sentence for people.

        Examples
        --------
        >>> print(PrecisionError(0.0123, 0.0034, 0.0056).note)
        the network up to the layer ran in bfloat16; on the first input that moved the score by
        0.0123 (0.34 %) and the map by 0.56 %
        """
        other = "; float32 predicts another class" if self.other_class else ""
        return (
            f"the network up to the layer ran in bfloat16; on the first input that moved the score "
            f"by {self.score:.3g} ({percent(self.relative_score)}) and the map by "
            f"{percent(self.map)}{other}"
        )

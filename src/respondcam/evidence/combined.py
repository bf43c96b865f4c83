"""ARCC: one figure of ROAD, coherency and complexity, for those who want a single one.

Domeniconi, Stramiglio, Lombardi, Salti: How to evaluate and refine your CAM (arXiv:2605.14641), as
in the authors' code: see `respondcam.evidence.curves.arcc`. Maps are compared by their positive
part over its maximum. It rewards small maps and maps that repeat themselves, and says little of
maps that are small for another reason; look at its three parts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.errors import InputError
from respondcam.evidence.curves import arcc, complexity, correlation
from respondcam.evidence.faithfulness import Background, Changing, Maps, road, shown_by
from respondcam.evidence.scoring import Scorer

ARCC_SHARES = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, eq=False)
class Composite:
    """ARCC and its parts, each (batch, target)."""

    arcc: Float[Tensor, "batch target"]
    road: Float[Tensor, "batch target"]
    coherency: Float[Tensor, "batch target"]
    complexity: Float[Tensor, "batch target"]


def composite(
    scorer: Scorer,
    maps: Maps,
    explain: Callable[[Tensor], Tensor],
    how: Changing | None = None,
    background: Background | None = None,
) -> Composite:
    """Measure ARCC.

    Parameters
    ----------
    scorer
        With a class as the target, since ROAD is measured in probabilities.
    maps
        Placed, one per target.
    explain
        The same method for the same classes on other images (batch, channel, *spatial); gives
        placed maps (batch, target, *spatial).
    how, background
        As in `respondcam.evidence.faithfulness`.

    Raises
    ------
    InputError
        If the target is no class, or as there.
    """
    if scorer.measure != "probability":
        raise InputError(
            "ARCC needs a probability, and this target has none: explain a class, or look at ROAD, "
            "coherency and complexity by themselves."
        )
    shares = road(scorer, maps, how, background, shares=ARCC_SHARES)
    shown = shown_by(maps)
    again = []
    for target in range(maps.shape[1]):
        masked = scorer.image * shown[:, target, None].to(scorer.image)
        again.append(explain(masked)[:, target].to(maps))
    coherency = (1 + correlation(shown_by(torch.stack(again, dim=1)), shown)) / 2
    # a map that masking leaves without any positive part repeats nothing of itself
    coherency = coherency.nan_to_num(nan=0.0)
    size = complexity(shown)
    shares = shares.to(size.device)
    return Composite(arcc(shares, coherency, size), shares, coherency, size)

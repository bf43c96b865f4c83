r"""Faithfulness as numbers: from scores of changed images to one figure per image.

Pure functions of scores; `respondcam.evidence.faithfulness` makes the images and runs the network.

- Deletion and insertion (Petsiuk, Das, Saenko: RISE, BMVC 2018): area under the score as ever more
  of the image is taken away, or put back, the voxels that the map ranks highest first. A faithful
  map has a small deletion and a large insertion area.
- ROAD (Rong et al., ICML 2022): the score left when the highest voxels are taken away (MoRF) and
  the lowest (LeRF), filled in from their neighbours; half of LeRF minus MoRF, averaged over shares.
- Average drop and increase (Chattopadhay et al., Grad-CAM++, WACV 2018): how much of the score is
  lost, and how often it rises, when the map masks the image. A map that is one everywhere is
  perfect by this figure: read it with the complexity.
- ARCC (Domeniconi et al., How to evaluate and refine your CAM, arXiv:2605.14641): harmonic mean of
  ROAD, coherency and one minus complexity, as in the authors' code.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.errors import InputError

Scores = Float[Tensor, "batch target"]


def area_under(
    fractions: Float[Tensor, " step"], scores: Float[Tensor, "*batch step"]
) -> Float[Tensor, "*batch"]:
    """Area under scores along fractions, by trapezoids.

    Examples
    --------
    >>> area_under(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.5, 0.0])).item()
    0.5
    """
    if fractions.shape[0] < 2:
        raise InputError(f"A curve needs at least two points; there are {fractions.shape[0]}.")
    return torch.trapezoid(scores.double(), fractions.double(), dim=-1)


def relative_drop(full: Scores, kept: Scores) -> Scores:
    """Share of the score that is lost when only what the map shows is kept.

    ``max(0, full - kept) / full``; NaN where the full score is not positive: give probabilities.

    Examples
    --------
    >>> relative_drop(torch.tensor([[0.5]]), torch.tensor([[0.375]])).item()
    0.25
    """
    lost = (full.double() - kept.double()).clamp(min=0)
    return torch.where(full > 0, lost / full.double(), torch.nan)


def increased(full: Scores, kept: Scores) -> Scores:
    """1 where the score rises when only what the map shows is kept, else 0."""
    return (kept > full).double()


def road_combined(
    least_first: Float[Tensor, "share batch target"],
    most_first: Float[Tensor, "share batch target"],
) -> Scores:
    """Half the score without the lowest voxels minus that without the highest, over shares.

    From -1/2 to 1/2 for probabilities; 0 is a map whose order says nothing.
    """
    return (least_first.double() - most_first.double()).mean(dim=0) / 2


def correlation(
    a: Float[Tensor, "batch target *spatial"], b: Float[Tensor, "batch target *spatial"]
) -> Scores:
    """Pearson's correlation of two maps over their voxels; NaN where either is constant.

    Examples
    --------
    >>> a = torch.tensor([[[1.0, 2.0, 3.0]]])
    >>> correlation(a, -2 * a).item()
    -1.0
    """
    x, y = a.double().flatten(2), b.double().flatten(2)
    x, y = x - x.mean(dim=2, keepdim=True), y - y.mean(dim=2, keepdim=True)
    scale = (x.square().sum(dim=2) * y.square().sum(dim=2)).sqrt()
    return torch.where(scale > 0, (x * y).sum(dim=2) / scale, torch.nan)


def complexity(shown: Float[Tensor, "batch target *spatial"]) -> Scores:
    """Mean of a map scaled to 0 to 1: the share of the image that it shows."""
    return shown.double().abs().flatten(2).mean(dim=2)


def arcc(road: Scores, coherency: Scores, complexity: Scores) -> Scores:
    """Harmonic mean of ROAD (doubled and cut to 0 to 1), coherency and one minus complexity.

    Parameters
    ----------
    road
        `road_combined` of probabilities at the shares 0.2, 0.4, 0.6, 0.8.
    coherency
        ``(1 + correlation) / 2`` of the map with the map of the image masked by it.
    complexity
        Of the map.

    Examples
    --------
    >>> half = torch.tensor([[0.5]])
    >>> round(arcc(half / 2, half, half).item(), 6)
    0.5
    """
    parts = [(2 * road.double()).clamp(0, 1), coherency.double(), 1 - complexity.double()]
    return 3 / sum(1 / (part + 1e-8) for part in parts)  # type: ignore[return-value]

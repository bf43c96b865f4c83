r"""How well a map separates the object from the rest, over all thresholds.

With precision :math:`P` and recall :math:`R` of the voxels at or above a threshold:

- voxel average precision :math:`\sum_k (R_k - R_{k-1}) P_k` over the map's distinct values;
- MaxF1, the largest :math:`2PR/(P+R)`, with P and R there.

Both look at the order of the voxels alone: any scaling of the map that keeps the order gives the
same. They reward a map for covering the whole object, which a faithful map need not do: a network
may decide on one part of it. The value by chance is the mask's share of the box (average
precision). SE3D pools voxels over images and uses fixed thresholds on scaled maps: see
`respondcam.evidence.se3d`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class BestThreshold:
    """Where a map cut in two agrees best with the mask.

    Parameters
    ----------
    f1, threshold, precision, recall
        The largest F1, the value at or above which voxels count, and both its parts.
    """

    f1: float
    threshold: float
    precision: float
    recall: float


def average_precision(
    maps: Float[Tensor, "image *spatial"], masks: Bool[Tensor, "image *spatial"]
) -> Float[Tensor, " image"]:
    """Area under the precision-recall curve of the voxels, one number per image.

    Equal to scikit-learn's ``average_precision_score``. A constant map gives the mask's share.

    Examples
    --------
    >>> average_precision(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[True, False, True]]))
    tensor([0.8333], dtype=torch.float64)
    """
    found = []
    for one, mask in zip(maps, masks, strict=True):
        hits, counted, _ = _ranked(one, mask)
        recall = hits / hits[-1]
        steps = torch.diff(recall, prepend=recall.new_zeros(1))
        found.append((steps * hits / counted).sum())
    return torch.stack(found).cpu() if found else torch.zeros(0, dtype=torch.float64)


def max_f1(
    maps: Float[Tensor, "image *spatial"], masks: Bool[Tensor, "image *spatial"]
) -> list[BestThreshold]:
    """The best F1 over all thresholds, for each image.

    Examples
    --------
    >>> max_f1(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[True, False, False]]))
    [BestThreshold(f1=1.0, threshold=3.0, precision=1.0, recall=1.0)]
    """
    found = []
    for one, mask in zip(maps, masks, strict=True):
        hits, counted, values = _ranked(one, mask)
        f1 = 2 * hits / (counted + hits[-1])
        best = int(f1.argmax())
        precision, recall = hits[best] / counted[best], hits[best] / hits[-1]
        figures = (f1[best], values[best], precision, recall)
        found.append(BestThreshold(*(float(figure) for figure in figures)))
    return found


def _ranked(one: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each distinct value from above: hits and voxels at or above it, and the value."""
    values, order = one.flatten().double().sort(descending=True)
    hits = mask.flatten()[order].double().cumsum(dim=0)
    last = torch.cat([values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)])
    places = last.nonzero()[:, 0]
    return hits[places], (places + 1).double(), values[places]

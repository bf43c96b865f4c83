"""How alike two maps are: by their values, and by the order of their voxels."""

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.evidence.curves import correlation

Maps = Float[Tensor, "batch target *spatial"]


def rank_correlation(a: Maps, b: Maps) -> Float[Tensor, "batch target"]:
    """Spearman's correlation over voxels, ties sharing their mean rank; NaN for a constant map.

    Equal to scipy's ``spearmanr``.

    Examples
    --------
    >>> a = torch.tensor([[[1.0, 2.0, 30.0]]])
    >>> rank_correlation(a, a**3).item()
    1.0
    """
    return correlation(_mean_ranks(a), _mean_ranks(b))


def _mean_ranks(maps: Maps) -> Maps:
    flat = maps.detach().double().flatten(0, 1).flatten(1)
    found = []
    for one in flat:
        _, which, count = torch.unique(one, return_inverse=True, return_counts=True)
        last = count.cumsum(dim=0).double()
        found.append((last - (count.double() - 1) / 2)[which])
    return torch.stack(found).view(maps.shape)

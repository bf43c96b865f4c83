"""Where the weight of a map is: its mass inside a mask, and whether it points into it.

Each figure is one number per image, from maps and masks in the same voxels; see
`respondcam.evidence.overlap` for figures that need a threshold.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Maps = Float[Tensor, "image *spatial"]
Masks = Bool[Tensor, "image *spatial"]
Figures = Float[Tensor, " image"]

_ROUNDING = 1e-6  # relative; of interpolation in single precision


def positive_mass(maps: Maps, masks: Masks) -> Figures:
    """Share of the positive values' sum that is inside; NaN where no value is positive.

    The "relevance mass accuracy" of Arras, Osman, Samek (Information Fusion 81, 2022) on the
    positive part; Quantus calls it so on the whole map.

    Examples
    --------
    >>> positive_mass(torch.tensor([[3.0, 1.0, -2.0]]), torch.tensor([[True, False, True]])).item()
    0.75
    """
    return _share(maps.double().clamp(min=0), masks)


def absolute_mass(maps: Maps, masks: Masks) -> Figures:
    """Share of the values' magnitudes that is inside; NaN where the map is zero.

    Examples
    --------
    >>> absolute_mass(torch.tensor([[3.0, 1.0, -4.0]]), torch.tensor([[True, False, True]])).item()
    0.875
    """
    return _share(maps.double().abs(), masks)


def peak_pointing(maps: Maps, masks: Masks, shares: Maps | None = None) -> Figures:
    """1 where the largest value is inside, else 0: the pointing game.

    Zhang et al., "Top-down neural attention by excitation backprop", IJCV 126 (2018) 1084. Where
    several voxels hold the largest value, the share of them inside; 0 where none is positive.
    `shares`: see `peaks`.
    """
    highest = peaks(maps, shares)
    inside = (highest & masks.to(highest.device)).flatten(1).sum(dim=1).double()
    return inside / highest.flatten(1).sum(dim=1).clamp(min=1)


def centroid_pointing(maps: Maps, masks: Masks) -> Figures:
    """1 where the voxel nearest to the positive part's centre of mass is inside, else 0.

    Less at the mercy of one voxel than the peak; fooled by an object that surrounds its centre.
    """
    centres = centroids(maps.double().clamp(min=0))
    found = torch.zeros(len(maps), dtype=torch.float64)
    for image, centre in enumerate(centres.tolist()):
        if all(math.isfinite(place) for place in centre):
            voxel = tuple(math.floor(place + 0.5) for place in centre)
            found[image] = float(masks[(image, *voxel)])
    return found


def peak_distance(maps: Maps, masks: Masks, shares: Maps | None = None) -> Figures:
    """Voxels from the largest value (its tied voxels' mean place) to the mask's centre of mass.

    NaN where no value is positive. `shares`: see `peaks`.
    """
    return (centroids(peaks(maps, shares).double()) - centroids(masks.double())).norm(dim=1)


def peaks(maps: Maps, shares: Maps | None = None) -> Masks:
    """Which voxels hold the largest value, if it is positive; all that tie.

    Parameters
    ----------
    maps
        Where the largest value is looked for: ``explanation.place("value")[:, 0]``, or any map.
    shares
        ``explanation.place()[:, 0]`` of the same map. Beyond the outermost voxels of a layer their
        values go on to the border, and all of that plateau ties, though the map says nothing there.
        Of voxels that tie and touch, those with the larger share are then the peak: the layer's
        voxel itself.

    Examples
    --------
    >>> heights = torch.tensor([[3.0, 3.0, 3.0, 2.0]])
    >>> peaks(heights).tolist()
    [[True, True, True, False]]
    >>> peaks(heights, torch.tensor([[0.0, 1.0, 2.0, 1.5]])).tolist()
    [[False, False, True, False]]
    """
    top = _largest(maps.double())
    # what was interpolated between equal values in single precision may differ in its last digits
    tied = (maps.double() >= top * (1 - _ROUNDING)) & (top > 0)
    if shares is None:
        return tied
    share = torch.where(tied, shares.double(), 0.0).clamp(min=0)
    around = share
    for axis in range(1, maps.ndim):
        along = share.movedim(axis, -1)
        padded = torch.nn.functional.pad(along, (1, 1))
        beside = torch.maximum(padded[..., 2:], padded[..., :-2]).movedim(-1, axis)
        around = torch.maximum(around, beside)
    kept = tied & (share > 0) & (share >= around * (1 - _ROUNDING))
    return torch.where(_largest(share) > 0, kept, tied)


def _largest(maps: Maps) -> Tensor:
    return maps.amax(dim=tuple(range(1, maps.ndim)), keepdim=True)


def centroid_distance(maps: Maps, masks: Masks) -> Figures:
    """Voxels from the positive part's centre of mass to the mask's; NaN without a positive part."""
    return (centroids(maps.double().clamp(min=0)) - centroids(masks.double())).norm(dim=1)


def centroids(weights: Float[Tensor, "image *spatial"]) -> Float[Tensor, "image axis"]:
    """Centre of mass in voxels; NaN where the weights add up to zero.

    Examples
    --------
    >>> centroids(torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)).tolist()
    [[1.75]]
    """
    total = weights.flatten(1).sum(dim=1)
    places = []
    for axis, edge in enumerate(weights.shape[1:], start=1):
        others = [a for a in range(1, weights.ndim) if a != axis]
        along = weights.sum(dim=others) if others else weights
        ruler = torch.arange(edge, dtype=weights.dtype, device=weights.device)
        places.append((along * ruler).sum(dim=1) / total)
    return torch.stack(places, dim=1).cpu()


def _share(weights: Maps, masks: Masks) -> Figures:
    flat, inside = weights.flatten(1), masks.flatten(1)
    total = flat.sum(dim=1)
    return torch.where(total > 0, (flat * inside).sum(dim=1) / total, math.nan)

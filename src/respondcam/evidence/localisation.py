"""Does a map lie on the object? Two figures, and the controls without which they mean little.

A particle in the middle of every image is found by a blob in the middle of the box, and maps of one
network look much the same for all classes. So whoever reports these figures reports them for the
controls of `respondcam.evidence.controls`, too, on images where the object is not in the middle, or
not alone.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from respondcam.errors import InputError


@dataclass(frozen=True)
class Localisation:
    """How much of one map lies on the object.

    Parameters
    ----------
    mass
        Share of the map's positive values, by their sum, inside the mask; NaN where the map has no
        positive value.
    pointing
        1 where the map's largest value is inside the mask, else 0 (the "pointing game" of Zhang et
        al., "Top-down neural attention by excitation backprop", IJCV 126 (2018) 1084); where
        several voxels hold the largest value, the share of them inside. 0 where the map has no
        positive value.
    """

    mass: float
    pointing: float


@dataclass(frozen=True)
class LocalisationSummary:
    """The figures of `Localisation` over many maps.

    Parameters
    ----------
    images
        How many.
    mass, mass_std
        Mean and population standard deviation over the maps that have positive values.
    pointing
        Mean over all maps.
    without_positive
        How many maps have no positive value.
    """

    images: int
    mass: float
    mass_std: float
    pointing: float
    without_positive: int


def localise(
    maps: Float[Tensor, "image *spatial"], masks: Bool[Tensor, "image *inside"]
) -> list[Localisation]:
    """Compare maps with the masks of the objects that they should lie on.

    Raises
    ------
    InputError
        If the shapes differ, or a mask is empty.

    Examples
    --------
    >>> maps = torch.tensor([[3.0, 1.0, -2.0]])
    >>> localise(maps, torch.tensor([[True, False, True]]))
    [Localisation(mass=0.75, pointing=1.0)]
    """
    if maps.shape != masks.shape:
        raise InputError(
            f"Maps of shape {tuple(maps.shape)} do not match masks of shape {tuple(masks.shape)}: "
            f"bring the maps to the input's voxels with explanation.place()."
        )
    flat, inside = maps.detach().double().flatten(1), masks.flatten(1)
    if not bool(inside.any(dim=1).all()):
        raise InputError("A mask is empty: there is nothing for the map to lie on.")
    positive = flat.clamp(min=0)
    total = positive.sum(dim=1)
    mass = torch.where(total > 0, (positive * inside).sum(dim=1) / total, math.nan)
    peak = (flat == flat.amax(dim=1, keepdim=True)) & (total > 0)[:, None]
    pointing = (peak & inside).sum(dim=1).double() / peak.sum(dim=1).clamp(min=1)
    pairs = zip(mass.tolist(), pointing.tolist(), strict=True)
    return [Localisation(share, hit) for share, hit in pairs]


def summarise_localisation(found: list[Localisation]) -> LocalisationSummary:
    """Mean figures over maps.

    Raises
    ------
    InputError
        If there are none.

    Examples
    --------
    >>> summarise_localisation([Localisation(0.5, 1.0), Localisation(math.nan, 0.0)])
    LocalisationSummary(images=2, mass=0.5, mass_std=0.0, pointing=0.5, without_positive=1)
    """
    if not found:
        raise InputError("There is nothing to summarise: no map was compared with a mask.")
    masses = [one.mass for one in found if not math.isnan(one.mass)]
    mean = math.fsum(masses) / len(masses) if masses else math.nan
    variance = math.fsum((m - mean) ** 2 for m in masses) / len(masses) if masses else math.nan
    return LocalisationSummary(
        images=len(found),
        mass=mean,
        mass_std=math.sqrt(variance),
        pointing=sum(one.pointing for one in found) / len(found),
        without_positive=len(found) - len(masses),
    )

"""The order in which a map takes voxels away."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from respondcam.errors import InputError
from respondcam.evidence.checks import check_maps


def ranks(
    maps: Float[Tensor, "batch *spatial"],
    background: Bool[Tensor, "batch *spatial"] | None = None,
    *,
    seed: int = 0,
) -> tuple[Int[Tensor, "batch *spatial"], Int[Tensor, " batch"]]:
    """Place of every voxel when the map's highest value comes first, and how many have one.

    Equal values are put in random order: a map that is flat takes voxels away at random, and not
    slice by slice from one side. Background voxels come last and are not counted.

    Raises
    ------
    InputError
        If a map is not finite, or the background covers everything.

    Examples
    --------
    >>> places, count = ranks(torch.tensor([[1.0, 5.0, 3.0]]))
    >>> places.tolist(), count.tolist()
    ([[2, 0, 1]], [3])
    """
    check_maps(maps)
    flat = maps.detach().flatten(1)
    outside = None if background is None else background.to(flat.device).flatten(1)
    if outside is not None and bool(outside.all(dim=1).any()):
        raise InputError("The background covers a whole image: there is nothing to take away.")
    generator = torch.Generator().manual_seed(seed)
    places = []
    for one in range(len(flat)):
        shuffled = torch.randperm(flat.shape[1], generator=generator).to(flat.device)
        values = flat[one, shuffled]
        if outside is not None:
            values = values.masked_fill(outside[one, shuffled], -torch.inf)
        order = shuffled[values.argsort(descending=True, stable=True)]
        places.append(
            torch.empty_like(order).scatter_(0, order, torch.arange(len(order)).to(order))
        )
    count = torch.full((len(flat),), flat.shape[1], device=flat.device)
    if outside is not None:
        count = count - outside.sum(dim=1)
    return torch.stack(places).view(maps.shape), count

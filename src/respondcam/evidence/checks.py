"""What cannot be measured is refused here, in words, before anything is measured."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from respondcam.errors import InputError


def check_maps(maps: Float[Tensor, "image *spatial"]) -> None:
    """Refuse maps that hold NaN or infinity.

    Raises
    ------
    InputError
        With the first such map.
    """
    bad = (~torch.isfinite(maps)).flatten(1).sum(dim=1)
    for image, count in enumerate(bad.tolist()):
        if count:
            raise InputError(
                f"Map {image} holds {count} values that are NaN or infinite, so nothing can be "
                f"measured on it. Check the input's normalisation and the model's precision."
            )


def check_masks(
    maps: Float[Tensor, "image *spatial"], masks: Bool[Tensor, "image *inside"]
) -> None:
    """Refuse masks on another grid than the maps, and masks that are empty or cover everything.

    Raises
    ------
    InputError
        With the first such mask.
    """
    if maps.shape != masks.shape:
        raise InputError(
            f"Maps of shape {tuple(maps.shape)} do not match masks of shape {tuple(masks.shape)}: "
            f"bring the maps to the input's voxels with explanation.place(), and the masks to the "
            f"input's grid."
        )
    inside = masks.flatten(1)
    for image, (some, every) in enumerate(
        zip(inside.any(dim=1).tolist(), inside.all(dim=1).tolist(), strict=True)
    ):
        if not some:
            raise InputError(f"Mask {image} is empty: there is nothing for the map to lie on.")
        if every:
            raise InputError(
                f"Mask {image} covers the whole image: every map lies on it, so nothing is "
                f"measured. Give a mask of the object alone."
            )


def check_scores(name: str, scores: Sequence[float]) -> None:
    """Refuse scores that are NaN or infinite.

    Raises
    ------
    InputError
        With the first such score.
    """
    for place, score in enumerate(scores):
        if not -float("inf") < score < float("inf"):
            raise InputError(
                f"{name} {place} is {score}: the network gives no number there. Check the fill, "
                f"the input's normalisation and the model's precision."
            )

"""What a map must beat: maps that know nothing of the score.

`uniform` knows nothing at all, `centred` only that objects tend to be in the middle, and
`ChannelSum` what the layer sees, whatever is asked. A figure of localisation means something by how
far it is above the best of the three.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from respondcam.attribution import Explainer

_CENTRED_WIDTH = 0.15  # standard deviation of the centred control, of the box's edge


def uniform(masks: Bool[Tensor, "image *spatial"]) -> Float[Tensor, "image *spatial"]:
    """Control: the same value everywhere; its mass and pointing are the mask's share of the box."""
    return torch.ones(masks.shape, dtype=torch.float64)


def centred(masks: Bool[Tensor, "image *spatial"]) -> Float[Tensor, "image *spatial"]:
    """Control: a Gaussian in the middle of the box, whatever is in the image.

    Examples
    --------
    >>> centred(torch.zeros(1, 3, 3, dtype=torch.bool))[0].argmax().item()
    4
    """
    blob = torch.ones((), dtype=torch.float64)
    for edge in masks.shape[1:]:
        away = (torch.arange(edge, dtype=torch.float64) - (edge - 1) / 2) / edge
        blob = blob[..., None] * torch.exp(-((away / _CENTRED_WIDTH) ** 2) / 2)
    return blob.expand(masks.shape)


class ChannelSum(Explainer):
    """Control: the plain sum of the layer's channels, which knows nothing of the score."""

    method = "channel sum"

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """Sum over channels."""
        del gradient
        return activation.sum(dim=1)


CONTROLS: dict[str, Any] = {"uniform": uniform, "centre": centred, "channel-sum": ChannelSum}
"""Name -> a function of the masks, or an explainer that is run like any method."""

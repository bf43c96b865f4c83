r"""Guided backpropagation on the input, by captum.

J. T. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller: Striving for Simplicity: The All
Convolutional Net. ICLR Workshops 2015, arXiv:1412.6806.

The gradient of the score at the image, where each ReLU passes back only what is positive,

.. math::

    R^{l} = (f^{l} > 0)\, (R^{l+1} > 0)\, R^{l+1}, \qquad L_i = \sum_c R^0_{c,i} .

Departure: summed over the input's channels, with its sign.

Limits: only ReLUs that are modules of their own (`torch.nn.ReLU`) are seen; one called as a
function is passed as a plain gradient, and so is every other nonlinearity. The map hardly depends
on the class, or even on the weights of the upper layers (J. Adebayo et al., NeurIPS 2018): it is a
baseline to compare with, not evidence. Its sum has no relation to the score.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from respondcam._warnings import warn
from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.on_input import (
    InputPasses,
    OneScore,
    captum_for,
    only_input,
    separate_relus,
)
from respondcam.attribution.run import Align
from respondcam.network.calling import unwrap


class GuidedBackprop(Explainer):
    """Explain with guided backpropagation; parameters as for every `Explainer`, on the input.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8, 2))
    >>> GuidedBackprop(model)(torch.rand(1, 1, 4, 4, 4), target=0).maps.shape
    torch.Size([1, 1, 4, 4, 4])
    """

    method = "guided-backprop"
    differentiable = False
    note = "guided backpropagation gives a changed gradient, whose sum says nothing of the score"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
    ) -> None:
        super().__init__(
            model, only_input(model, layer, self.method), output=output, relu=relu, align=align
        )
        captum_for(self.method)
        self.schedule = InputPasses(self._attribute)
        if not any(isinstance(module, nn.ReLU) for module in unwrap(model).modules()):
            warn(
                f"{type(model).__name__} has no torch.nn.ReLU module, so guided backpropagation is "
                f"the plain gradient there.",
            )

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """Sum over channels."""
        return gradient.sum(dim=1)

    def _attribute(self, scored: OneScore, image: Tensor) -> Tensor:
        with separate_relus(scored.model):
            return captum_for(self.method).GuidedBackprop(scored).attribute(image)

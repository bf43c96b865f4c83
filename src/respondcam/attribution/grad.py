r"""Grad-CAM.

R. R. Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization. ICCV 2017, arXiv:1610.02391.

.. math::

    \alpha_l = \frac{1}{Z} \sum_i G_{l,i}, \qquad L = \sum_l \alpha_l A_l

Departure: the paper's final ReLU is an option of the explainer and off by default, since it throws
away the sign. Limit: the sum of the map has no fixed relation to the score.
"""

from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.explainer import Explainer


def grad_cam(
    activation: Float[Tensor, "batch channel *grid"],
    gradient: Float[Tensor, "batch channel *grid"],
) -> Float[Tensor, "batch *grid"]:
    """Channels weighted by their mean gradient.

    Examples
    --------
    >>> import torch
    >>> A, G = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 0.0]]])
    >>> grad_cam(A, G)
    tensor([[1., 3.]])
    """
    grid = tuple(range(2, activation.ndim))
    weight = gradient.mean(dim=grid, keepdim=True)
    return (weight * activation).sum(dim=1)


class GradCAM(Explainer):
    """Explain with Grad-CAM; parameters as for every `Explainer`."""

    method = "grad"

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`grad_cam`."""
        return grad_cam(activation, gradient)

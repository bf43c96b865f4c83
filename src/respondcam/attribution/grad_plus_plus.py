r"""Grad-CAM++.

A. Chattopadhay, A. Sarkar, P. Howlader, V. N. Balasubramanian: Grad-CAM++: Generalized
Gradient-based Visual Explanations for Deep Convolutional Networks. WACV 2018, arXiv:1710.11063.

With the score passed through an exponential, its second and third derivatives at a ReLU layer are
powers of the first (equation 19 of the paper), so that

.. math::

    \alpha_{l,i} = \frac{G_{l,i}^2}{2 G_{l,i}^2 + \sum_j A_{l,j}\, G_{l,i}^3}, \qquad
    w_l = \sum_i \alpha_{l,i} \operatorname{ReLU}(G_{l,i}), \qquad L = \sum_l w_l A_l .

Departures: the final ReLU is an option of the explainer and off by default; G is the gradient of
the score itself, since the factor exp(score) is the same for all voxels; where the denominator is
zero, alpha is zero. Limits: where A is not negative, as behind a ReLU, the weights are not either,
so the map cannot say what speaks against a class; where A is negative, the denominator can vanish
and the weights explode. The sum has no fixed relation to the score.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.explainer import Explainer


def grad_cam_plus_plus(
    activation: Float[Tensor, "batch channel *grid"],
    gradient: Float[Tensor, "batch channel *grid"],
) -> Float[Tensor, "batch *grid"]:
    """Channels weighted by their positive gradients, each weighted by alpha.

    Examples
    --------
    >>> A, G = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 0.0]]])
    >>> grad_cam_plus_plus(A, G)
    tensor([[0.2000, 0.6000]])
    """
    grid = tuple(range(2, activation.ndim))
    # the powers of G cancel, and would underflow
    below = 2 + activation.sum(dim=grid, keepdim=True) * gradient
    alpha = torch.where(below != 0, 1 / torch.where(below != 0, below, 1), 0)
    weight = (alpha * gradient.relu()).sum(dim=grid, keepdim=True)
    return (weight * activation).sum(dim=1)


class GradCAMPlusPlus(Explainer):
    """Explain with Grad-CAM++; parameters as for every `Explainer`."""

    method = "grad++"

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`grad_cam_plus_plus`."""
        return grad_cam_plus_plus(activation, gradient)

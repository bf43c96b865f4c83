r"""HiResCAM.

R. L. Draelos, L. Carin: Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
neural networks. arXiv:2011.08891.

.. math::

    L = \sum_l A_l \odot G_l

Departure: the final ReLU is an option of the explainer and off by default. The sum is the same as
Respond-CAM's; the map is finer where the gradient varies over the grid, and as noisy as it.
"""

from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.explainer import Explainer


def hires_cam(
    activation: Float[Tensor, "batch channel *grid"],
    gradient: Float[Tensor, "batch channel *grid"],
) -> Float[Tensor, "batch *grid"]:
    """Activation times gradient, voxel by voxel, summed over channels.

    Examples
    --------
    >>> import torch
    >>> A, G = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 0.0]]])
    >>> hires_cam(A, G)
    tensor([[2., 0.]])
    """
    return (activation * gradient).sum(dim=1)


class HiResCAM(Explainer):
    """Explain with HiResCAM; parameters as for every `Explainer`."""

    method = "hires"

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`hires_cam`."""
        return hires_cam(activation, gradient)

r"""LayerCAM.

P.-T. Jiang, C.-B. Zhang, Q. Hou, M.-M. Cheng, Y. Wei: LayerCAM: Exploring Hierarchical Class
Activation Maps for Localization. IEEE Transactions on Image Processing 30, 2021.

.. math::

    L = \sum_l \operatorname{ReLU}(G_l) \odot A_l

Departure: the final ReLU is an option of the explainer and off by default. Limit: what speaks
against the class is left out, so the sum has no fixed relation to the score.
"""

from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.explainer import Explainer


def layer_cam(
    activation: Float[Tensor, "batch channel *grid"],
    gradient: Float[Tensor, "batch channel *grid"],
) -> Float[Tensor, "batch *grid"]:
    """Activation times positive gradient, voxel by voxel, summed over channels.

    Examples
    --------
    >>> import torch
    >>> A, G = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, -1.0]]])
    >>> layer_cam(A, G)
    tensor([[2., 0.]])
    """
    return (activation * gradient.relu()).sum(dim=1)


class LayerCAM(Explainer):
    """Explain with LayerCAM; parameters as for every `Explainer`."""

    method = "layer"

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`layer_cam`."""
        return layer_cam(activation, gradient)

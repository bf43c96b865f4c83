r"""Saliency Tubes.

A. Stergiou, G. Kapidis, G. Kalliatakis, C. Chrysoulas, R. Veltkamp, R. Poppe: Saliency Tubes:
Visual Explanations for Spatio-Temporal Convolutions. ICIP 2019, arXiv:1902.01078.

For networks that end in global average pooling and one linear layer: the activations of the last
convolution, weighted by that layer's weights for the class c (class activation maps, CAM, B. Zhou
et al., CVPR 2016, in space and time),

.. math::

    L = \sum_l w_{c,l} A_l .

Departures: the 1/Z of the pooling over Z voxels is kept, so that the map sums to the score less the
class's bias; it is then Grad-CAM's and Respond-CAM's sum as well. The sign stays, and nothing is
scaled to between 0 and 1.

Limits: other heads are refused. The weights are read off the gradient at the layer, which must be
the same for all voxels, and then looked for among the network's linear layers (and convolutions of
one voxel): so nothing but pooling and that layer lies between, for this input.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.ablation import weighted_channels
from respondcam.attribution.explainer import Explainer
from respondcam.errors import LayerError
from respondcam.network.calling import unwrap


class SaliencyTubes(Explainer):
    """Explain with Saliency Tubes; parameters as for every `Explainer`.

    Examples
    --------
    >>> model = nn.Sequential(
    ...     nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    ... )
    >>> explanation = SaliencyTubes(model, layer="1")(torch.rand(1, 1, 8, 8, 8), target=0)
    >>> bool(explanation.account.gap.abs() < 1e-6)
    True
    """

    method = "tubes"

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """Weighted sum of the channels, once the weights are known to be a linear layer's."""
        weights = pooled_weights(gradient)
        if weights is None or not all(_is_row(row, self.model) for row in weights):
            raise LayerError(
                "Saliency Tubes need a network that ends in global average pooling and one linear "
                "layer after the explained layer, and a class as target; here more lies between "
                "this layer and this score. Choose the last layer before the pooling, or a method "
                "for any head: respond, grad, hires."
            )
        voxels = activation[0, 0].numel()
        ones = [1] * (activation.ndim - 2)
        return weighted_channels(activation, weights.reshape(*weights.shape, *ones) / voxels)


def pooled_weights(
    gradient: Float[Tensor, "batch channel *grid"],
) -> Float[Tensor, "batch channel"] | None:
    """Weights of the linear layer behind the pooling; None where there is no such head.

    Examples
    --------
    >>> pooled_weights(torch.tensor([[[0.5, 0.5], [-1.0, -1.0]]]))
    tensor([[ 1., -2.]])
    >>> pooled_weights(torch.tensor([[[0.5, 0.0]]])) is None
    True
    """
    flat = gradient.flatten(2)
    apart = flat.amax(dim=2) - flat.amin(dim=2)
    if bool((apart > _tolerance(flat) * flat.abs().amax()).any()):
        return None
    return flat.sum(dim=2)


def _is_row(weights: Float[Tensor, "channel"], model: nn.Module) -> bool:
    """Whether some linear layer has these weights for one output, or minus these (one logit)."""
    for module in unwrap(model).modules():
        table = getattr(module, "weight", None)
        if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            continue
        assert isinstance(table, Tensor)
        if table.shape[1] != len(weights) or table[0].numel() != len(weights):
            continue
        rows = table.detach().flatten(1).to(weights)
        for sign in (1, -1):
            off = (rows - sign * weights).abs().amax(dim=1)
            if bool((off <= 10 * _tolerance(table) * weights.abs().amax()).any()):
                return True
    return False


def _tolerance(tensor: Tensor) -> float:
    return 2e-2 if tensor.dtype in (torch.float16, torch.bfloat16) else 1e-4

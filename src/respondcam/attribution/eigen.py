r"""Eigen-CAM.

M. B. Muhammad, M. Yeasin: Eigen-CAM: Class Activation Map using Principal Components. IJCNN 2020,
arXiv:2008.00299.

The activation as a matrix O (grid voxel, channel) is projected onto its first right singular
vector:

.. math::

    O = U \Sigma V^\top, \qquad L = O\, v_1 .

Neither score nor class enters: the map is the same for every target. A singular vector has no sign
of its own; here it is the one with which the map's sum is positive (that of the strongest voxel,
should the sum be zero). As in the paper, channels are not centred.

Limits: the map shows what dominates the activation, not what the network concludes from it, and its
sum has no relation to the score.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.rerun import HeadRuns
from respondcam.attribution.run import Align, Kept, Run, by_layer
from respondcam.network.layers import Layer
from respondcam.network.typed import symmetric_eigen


def eigen_cam(activation: Float[Tensor, "batch channel *grid"]) -> Float[Tensor, "batch *grid"]:
    """Projection of every voxel's channels onto the first principal direction.

    Examples
    --------
    Both channels rise together, the second twice as fast: the direction is (1, 2) / sqrt 5.

    >>> eigen_cam(torch.tensor([[[1.0, 3.0], [2.0, 6.0]]]))
    tensor([[2.2361, 6.7082]])
    """
    voxels = activation.flatten(2).double()  # (batch, channel, voxel): O transposed
    if voxels.shape[1] <= voxels.shape[2]:
        _, vectors = symmetric_eigen(voxels @ voxels.mT)  # rising eigenvalues
        found = torch.einsum("bcv,bc->bv", voxels, vectors[..., -1])
    else:  # fewer voxels than channels: O v = sigma u, from the smaller matrix
        values, vectors = symmetric_eigen(voxels.mT @ voxels)
        found = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
    total = found.sum(dim=1, keepdim=True)
    strongest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
    balanced = total.abs() <= 1e-12 * found.abs().sum(dim=1, keepdim=True)
    sign = torch.where(torch.where(balanced, strongest, total) < 0, -1.0, 1.0)
    return (sign * found).to(activation).view(len(activation), *activation.shape[2:])


class EigenCAM(Explainer):
    """Explain with Eigen-CAM; parameters as for every `Explainer`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8, 2))
    >>> maps = EigenCAM(model, layer="1")(torch.rand(1, 1, 4, 4, 4), target="all").maps
    >>> bool((maps[:, 0] == maps[:, 1]).all())
    True
    """

    method = "eigen"
    differentiable = False
    note = (
        "Eigen-CAM does not look at the score: its map is the same for every class, and its sum "
        "says nothing about any"
    )

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align)
        self.schedule = _projections

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`eigen_cam`; nothing takes the place of the gradient."""
        return eigen_cam(activation)


def _projections(run: Run, layers: Sequence[Layer]) -> Kept:
    """One inference for each layer."""
    return by_layer(run, layers, lambda layer: _of_layer(HeadRuns(run, layer)))


def _of_layer(head: HeadRuns) -> Tensor:
    activation = head.activation()
    assert head.run.scores is not None
    targets = head.run.scores.values.shape[1]
    even = activation.new_ones(activation.shape[1], len(activation), targets)
    return head.maps(activation, even)

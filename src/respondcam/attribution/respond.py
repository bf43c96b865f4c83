r"""Respond-CAM.

G. Zhao, B. Zhou, K. Wang, R. Jiang, M. Xu: Respond-CAM: Analyzing Deep Models for 3D Imaging Data
by Visualizations. MICCAI 2018, arXiv:1806.00102.

With :math:`A_l` the layer's output of channel l and :math:`G_l = \partial y / \partial A_l`,

.. math::

    \alpha_l = \frac{\sum_i A_{l,i} G_{l,i}}{\sum_i A_{l,i}}, \qquad L = \sum_l \alpha_l A_l .

The sum of the map is :math:`\sum_{l,i} A_{l,i} G_{l,i}` and follows the score: for a linear head it
is the score less the head's bias.

Departure from the paper: where a layer has negative values, :math:`\sum_i A_{l,i}` can vanish and
the quotient explodes. The signed form spreads each channel's share over :math:`|A_l|` instead,

.. math::

    L = \sum_l \Bigl(\sum_i A_{l,i} G_{l,i}\Bigr) \frac{|A_l|}{\sum_i |A_{l,i}|},

which is the paper's formula wherever :math:`A_l \ge 0`, has the same sum always, and gives nothing
to a channel that is silent.

Limits: the sum is the score (less the baseline) for heads that are linear in A, and but for their
biases for heads of ReLUs, which are linear piece by piece; the score account says how much is left.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.run import Align
from respondcam.errors import InputError
from respondcam.network.precision import Precision

Denominator = Literal["signed", "paper"]


def respond_cam(
    activation: Float[Tensor, "batch channel *grid"],
    gradient: Float[Tensor, "batch channel *grid"],
    *,
    denominator: Denominator = "signed",
) -> Float[Tensor, "batch *grid"]:
    """Signed map whose sum is ``sum(activation * gradient)``.

    Parameters
    ----------
    activation
        The layer's output A.
    gradient
        Gradient G of the score at A.
    denominator
        ``"signed"``: spread over ``|A|``; ``"paper"``: the original quotient, which explodes where
        a channel sums to nearly zero. They agree wherever A has no negative values.

    Examples
    --------
    >>> A, G = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 0.0]]])
    >>> respond_cam(A, G)
    tensor([[0.5000, 1.5000]])
    """
    grid = tuple(range(2, activation.ndim))
    share = (activation * gradient).sum(dim=grid, keepdim=True)
    spread = activation.abs() if denominator == "signed" else activation
    total = spread.sum(dim=grid, keepdim=True)
    # below this the quotient's derivative would overflow
    heard = total.abs() > 2**20 * torch.finfo(total.dtype).tiny
    weight = torch.where(heard, share / torch.where(heard, total, 1), 0)
    return (weight * spread).sum(dim=1)


class RespondCAM(Explainer):
    """Explain with Respond-CAM; parameters as for every `Explainer`, and one more.

    Parameters
    ----------
    denominator
        ``"signed"`` (default) or ``"paper"``, as in `respond_cam`.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(
    ...     nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    ... )
    >>> explanation = RespondCAM(model, layer="1")(torch.rand(1, 1, 8, 8, 8), target=0)
    >>> explanation.maps.shape
    torch.Size([1, 1, 6, 6, 6])
    >>> bool(explanation.account.gap.abs() < 1e-6)  # a linear head: all of the score is explained
    True
    """

    method = "respond"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        precision: Precision = "fp32",
        denominator: Denominator = "signed",
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align, precision=precision)
        if denominator not in ("signed", "paper"):
            raise InputError(f"denominator={denominator!r} is neither 'signed' nor 'paper'.")
        self.denominator: Denominator = denominator

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`respond_cam`."""
        return respond_cam(activation, gradient, denominator=self.denominator)

r"""Ablation-CAM.

S. Desai, H. G. Ramaswamy: Ablation-CAM: Visual Explanations for Deep Convolutional Network via
Gradient-free Localization. WACV 2020.

With :math:`y_l` the score when channel l of the layer's output is set to zero,

.. math::

    w_l = \frac{y - y_l}{y}, \qquad L = \sum_l w_l A_l .

Departures: the final ReLU is an option of the explainer and off by default. The published quotient
turns every weight around where the score is negative, so that what speaks for the class becomes
negative; ``weights="drop"`` leaves the division out, :math:`w_l = y - y_l`, and is also right for
scores near zero. Where y is exactly zero the quotient's weights are zero, and the map says so.

Cost: one pass of the head for each channel, in batches; of the whole network where a path leads
around the layer. Limit: the sum of the map has no fixed relation to the score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.rerun import HeadRuns
from respondcam.attribution.run import Align, Kept, Run, by_layer
from respondcam.errors import InputError
from respondcam.network.layers import Layer


def ablation_weights(
    scores: Float[Tensor, "*batch"],
    ablated: Float[Tensor, "channel *batch"],
    *,
    weights: str = "paper",
) -> Float[Tensor, "channel *batch"]:
    """Weight of each channel.

    Parameters
    ----------
    scores
        The score y.
    ablated
        The score without each channel.
    weights
        ``"paper"``: (y - y_l) / y, zero where y is; ``"drop"``: y - y_l.

    Examples
    --------
    >>> ablation_weights(torch.tensor([4.0]), torch.tensor([[3.0], [5.0]])).flatten()
    tensor([ 0.2500, -0.2500])
    """
    drop = scores - ablated
    if weights == "drop":
        return drop
    return torch.where(scores != 0, drop / torch.where(scores != 0, scores, 1), 0)


def weighted_channels(
    activation: Float[Tensor, "batch channel *grid"], weights: Float[Tensor, "batch channel *#grid"]
) -> Float[Tensor, "batch *grid"]:
    """Sum over channels of weight times activation.

    Examples
    --------
    >>> A, w = torch.tensor([[[1.0, 3.0], [0.0, 1.0]]]), torch.tensor([[[2.0], [-1.0]]])
    >>> weighted_channels(A, w)
    tensor([[2., 5.]])
    """
    return (weights * activation).sum(dim=1)


class AblationCAM(Explainer):
    """Explain with Ablation-CAM; parameters as for every `Explainer`, and one more.

    Parameters
    ----------
    weights
        ``"paper"`` (default) or ``"drop"``, as in `ablation_weights`.

    Examples
    --------
    >>> model = nn.Sequential(
    ...     nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    ... )
    >>> AblationCAM(model, layer="1")(torch.rand(1, 1, 8, 8, 8), target=0).maps.shape
    torch.Size([1, 1, 6, 6, 6])
    """

    method = "ablation"
    differentiable = False
    note = "Ablation-CAM weighs channels, so its sum has no fixed relation to the score"
    no_weight = "leaving out any one channel of layer {layer!r} does not change this score"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        weights: str = "paper",
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align)
        if weights not in ("paper", "drop"):
            raise InputError(f"weights={weights!r} is neither 'paper' nor 'drop'.")
        self.schedule = _AblationPasses(weights)

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`weighted_channels`, with the channels' weights in the place of the gradient."""
        return weighted_channels(activation, gradient)


@dataclass(frozen=True)
class _AblationPasses:
    weights: str

    def __call__(self, run: Run, layers: Sequence[Layer]) -> Kept:
        return by_layer(run, layers, lambda layer: self._maps(HeadRuns(run, layer)))

    def _maps(self, head: HeadRuns) -> Tensor:
        channels = head.channels
        activation, ablated = head.scores(without_channels, channels)
        scores = head.run.scores
        assert scores is not None
        weights = ablation_weights(scores.values, ablated, weights=self.weights)
        return head.maps(activation, weights)


def without_channels(
    activation: Float[Tensor, "batch channel *grid"], first: int, last: int
) -> Float[Tensor, "copy batch channel *grid"]:
    """Copies of an activation, each without one of its channels `first` to `last` - 1.

    Examples
    --------
    >>> without_channels(torch.ones(1, 3, 1), 1, 3).flatten(1)
    tensor([[1., 0., 1.],
            [1., 1., 0.]])
    """
    copies = activation.repeat(last - first, *[1] * activation.ndim)
    copies[torch.arange(last - first), :, torch.arange(first, last)] = 0
    return copies

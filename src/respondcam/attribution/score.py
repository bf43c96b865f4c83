r"""Score-CAM.

H. Wang, Z. Wang, M. Du, F. Yang, Z. Zhang, S. Ding, P. Mardziel, X. Hu: Score-CAM: Score-Weighted
Visual Explanations for Convolutional Neural Networks. CVPR Workshops 2020, arXiv:1910.01279.

Each channel is scaled to between 0 and 1 and used as a mask :math:`H_l`; how much of the score is
left behind that mask is the channel's weight:

.. math::

    H_l = \frac{A_l - \min A_l}{\max A_l - \min A_l}, \quad
    C_l = y(X \circ H_l) - y(X_b), \quad
    w_l = \frac{\exp C_l}{\sum_k \exp C_k}, \quad L = \sum_l w_l A_l .

Departures:

- ``where="activation"``, the default, puts the mask on the layer's own output, :math:`y(A \circ
  H_l)`, all its channels under the same mask, so that only the head is run again. This is not the
  published form: what the masked image would do to the layers below is not asked.
- ``where="input"`` is the published form: the mask, brought to the input's voxels, multiplies the
  image (all its channels), and each channel costs a full pass. The mask is interpolated linearly
  between the true places of the layer's voxels instead of stretched over the input.
- The score is pre-softmax, as everywhere here. The baseline :math:`X_b` (zero) cancels in the
  softmax over channels; with ``weights="increase"`` the :math:`C_l` themselves are the weights,
  and keep their sign.
- A constant channel masks nothing and has no weight. The final ReLU is an option, off by default.

Limits: softmax weights are never negative, so the map cannot say what speaks against a class. Its
sum has no fixed relation to the score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from respondcam.attribution.ablation import weighted_channels
from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.placing import interpolate
from respondcam.attribution.rerun import HeadRuns
from respondcam.attribution.run import Align, Kept, Run, by_layer
from respondcam.errors import InputError
from respondcam.network.calling import input_name, unwrap
from respondcam.network.grid import LayerGrid
from respondcam.network.layers import Layer, find_layer


def channel_masks(
    activation: Float[Tensor, "batch channel *grid"],
) -> tuple[Float[Tensor, "batch channel *grid"], Bool[Tensor, "batch channel"]]:
    """Each channel scaled to between 0 and 1, and whether it varies at all.

    Examples
    --------
    >>> masks, varies = channel_masks(torch.tensor([[[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]]]))
    >>> masks, varies
    (tensor([[[0.0000, 1.0000, 0.5000],
             [0.0000, 0.0000, 0.0000]]]), tensor([[ True, False]]))
    """
    grid = tuple(range(2, activation.ndim))
    low = activation.amin(dim=grid, keepdim=True)
    width = activation.amax(dim=grid, keepdim=True) - low
    masks = torch.where(width > 0, (activation - low) / torch.where(width > 0, width, 1), 0)
    return masks, (width > 0).flatten(1)


def score_weights(
    increase: Float[Tensor, "channel batch target"],
    varies: Bool[Tensor, "batch channel"],
    *,
    weights: str = "softmax",
) -> Float[Tensor, "channel batch target"]:
    """Weight of each channel from the score behind its mask; zero for constant channels.

    Examples
    --------
    >>> C = torch.tensor([1.0, 1.0, 9.0]).view(3, 1, 1)
    >>> score_weights(C, torch.tensor([[True, True, False]])).flatten()
    tensor([0.5000, 0.5000, 0.0000])
    """
    used = varies.T[:, :, None]
    if weights == "increase":
        return torch.where(used, increase, 0)
    # a sample of which no channel varies would give 0/0
    kept = torch.where(used, increase, -torch.inf)
    return torch.where(used, torch.softmax(kept, dim=0), 0)


class ScoreCAM(Explainer):
    """Explain with Score-CAM; parameters as for every `Explainer`, and two more.

    Parameters
    ----------
    where
        ``"activation"`` (default): masks on the layer's output, the head is run again.
        ``"input"``: as published, masks on the image, a full pass for each channel.
    weights
        ``"softmax"`` (default, as published) or ``"increase"``, as in `score_weights`.

    Examples
    --------
    >>> model = nn.Sequential(
    ...     nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    ... )
    >>> ScoreCAM(model, layer="1", where="input")(torch.rand(1, 1, 8, 8, 8), target=0).maps.shape
    torch.Size([1, 1, 6, 6, 6])
    """

    method = "score"
    differentiable = False
    note = "Score-CAM weighs channels, so its sum has no fixed relation to the score"
    no_weight = "no channel of layer {layer!r} has a weight: each is constant over the grid"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        where: str = "activation",
        weights: str = "softmax",
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align)
        if where not in ("activation", "input"):
            raise InputError(f"where={where!r} is neither 'activation' nor 'input'.")
        if weights not in ("softmax", "increase"):
            raise InputError(f"weights={weights!r} is neither 'softmax' nor 'increase'.")
        self.schedule = _MaskPasses(where, weights)

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`weighted_channels`, with the channels' weights in the place of the gradient."""
        return weighted_channels(activation, gradient)


@dataclass(frozen=True)
class _MaskPasses:
    where: str
    weights: str

    def __call__(self, run: Run, layers: Sequence[Layer]) -> Kept:
        return by_layer(run, layers, lambda layer: self._maps(HeadRuns(run, layer)))

    def _maps(self, head: HeadRuns) -> Tensor:
        channels = head.channels
        if self.where == "activation":
            activation, scores = head.scores(_under_own_masks, channels + 1)
        else:
            activation = head.activation()
            grid = head.run.traced(head.layer.name, head.call).grid
            assert grid is not None
            model = unwrap(head.run.setting.model)
            image = HeadRuns(head.run, find_layer(model, input_name(model)))
            scores = image.scores(_UnderMasks(channel_masks(activation)[0], grid), channels + 1)[1]
        increase = scores[:-1] - scores[-1]  # the last copy is zero everywhere
        weights = score_weights(increase, channel_masks(activation)[1], weights=self.weights)
        return head.maps(activation, weights)


def _under_own_masks(activation: Tensor, first: int, last: int) -> Tensor:
    masks, _ = channel_masks(activation)
    return torch.stack([activation * _mask(masks, number) for number in range(first, last)])


@dataclass(frozen=True)
class _UnderMasks:
    """Copies of the image, each behind one mask."""

    masks: Tensor
    grid: LayerGrid

    def __call__(self, image: Tensor, first: int, last: int) -> Tensor:
        return torch.stack(
            [
                image * interpolate(_mask(self.masks, number), self.grid).to(image)
                for number in range(first, last)
            ]
        )


def _mask(masks: Tensor, number: int) -> Tensor:
    """One channel's mask; past the last channel the mask that lets nothing through."""
    if number == masks.shape[1]:
        return torch.zeros_like(masks[:, :1])
    return masks[:, number : number + 1]

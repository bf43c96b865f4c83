r"""Occlusion on the input, by captum.

M. D. Zeiler, R. Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014,
arXiv:1311.2901.

A window moves over the image; what the score loses when the window is covered is the value of the
voxels in it,

.. math::

    L_i = \operatorname{mean}_{w \ni i} \bigl(y(x) - y(x \text{ without window } w)\bigr).

Departures: the drop of the score itself, not of a probability, with its sign; a window covers all
channels of the input. Limits: one full pass for each window; the sum of the map has no fixed
relation to the score, since what two windows share is counted twice or not at all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam._kinds import is_listed
from respondcam.attribution.baseline import BaselineSpec, as_baseline
from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.on_input import InputPasses, OneScore, captum_for, only_input
from respondcam.attribution.run import Align
from respondcam.errors import InputError

Sizes = int | Sequence[int] | None


class Occlusion(Explainer):
    """Explain with occlusion; the layer is the input, and three more parameters.

    Parameters
    ----------
    window
        Voxels that are covered along each axis; an eighth of the image unless given.
    stride
        Voxels from one window to the next; the window itself unless given.
    baseline
        What the window shows, as in `as_baseline`; zero unless given.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8, 2))
    >>> explanation = Occlusion(model, window=2)(torch.rand(1, 1, 4, 4, 4), target=0)
    >>> explanation.maps.unique().numel()  # two windows along each axis
    8
    """

    method = "occlusion"
    differentiable = False
    note = "occlusion gives the score's drop behind each window, and these drops do not add up"
    no_weight = "covering any one window of the {layer} does not change this score"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        window: Sizes = None,
        stride: Sizes = None,
        baseline: BaselineSpec = None,
    ) -> None:
        super().__init__(
            model, only_input(model, layer, self.method), output=output, relu=relu, align=align
        )
        self.window, self.stride = window, stride
        self.baseline = as_baseline(baseline)
        captum_for(self.method)
        self.schedule = InputPasses(self._attribute)

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """The drop behind the windows, the same in all channels, in the place of the gradient."""
        return gradient.mean(dim=1)

    def _attribute(self, scored: OneScore, image: Tensor) -> Tensor:
        channels, *spatial = image.shape[1:]
        window = sizes("window", self.window, spatial, [max(1, n // 8) for n in spatial])
        stride = sizes("stride", self.stride, spatial, window)
        if any(step > size for step, size in zip(stride, window, strict=True)):
            raise InputError(
                f"stride={stride} leaves voxels between windows of {window} uncovered. Give a "
                f"stride that is not larger than the window."
            )
        with torch.no_grad():
            return (
                captum_for(self.method)
                .Occlusion(scored)
                .attribute(
                    image,
                    sliding_window_shapes=(channels, *window),
                    strides=(channels, *stride),
                    baselines=self.baseline(image).contiguous(),
                    perturbations_per_eval=scored.copies,
                )
            )


def sizes(name: str, given: Sizes, spatial: Sequence[int], otherwise: Sequence[int]) -> list[int]:
    """One size per axis from what a user gave.

    Examples
    --------
    >>> sizes("window", 2, [8, 8], [1, 1]), sizes("window", None, [8, 8], [1, 1])
    ([2, 2], [1, 1])
    """
    if given is None:
        return list(otherwise)
    listed = [given] * len(spatial) if isinstance(given, int) else given
    entries = listed if is_listed(listed) else []
    found = [n for n in entries if isinstance(n, int)]
    fits = len(found) == len(entries) == len(spatial)
    if not fits or any(not 1 <= n <= most for n, most in zip(found, spatial, strict=True)):
        raise InputError(
            f"{name}={given!r}: give a whole number, or one for each of the axes of the image "
            f"{tuple(spatial)}, from 1 to its size."
        )
    return found

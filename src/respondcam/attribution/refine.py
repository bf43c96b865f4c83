r"""RefineCAM.

L. Domeniconi, A. Stramiglio, M. Lombardi, S. Salti: How to Evaluate and Refine your CAM. 2026,
arXiv:2605.14641.

Maps of several layers, from fine to coarse, each cut to its positive part, brought to the input's
size and scaled to a maximum of one, are multiplied voxel by voxel:

.. math::

    L = \prod_k \frac{\operatorname{up}(\operatorname{ReLU}(L_k))}
                     {\max \operatorname{up}(\operatorname{ReLU}(L_k))}

so that what a fine layer shows is kept where the coarse ones agree. The base method that gives the
:math:`L_k` is Grad-CAM++ unless another is named.

Departures: a layer's values are interpolated between the true places of its voxels instead of
stretched over the input; the product is not scaled to a maximum of one once more. Written after the
definition that the authors' own code gives (MultiplierMix in github.com/liuktc/RefineCAM).

Limits: a product is zero where any one layer is, and has no sign; its sum says nothing about the
score (`respondcam.fuse` combines layers and keeps the account).
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.fusing import joined, same_run
from respondcam.attribution.grad import grad_cam
from respondcam.attribution.grad_plus_plus import grad_cam_plus_plus
from respondcam.attribution.hires import hires_cam
from respondcam.attribution.layer import layer_cam
from respondcam.attribution.placing import interpolate
from respondcam.attribution.respond import respond_cam
from respondcam.attribution.run import Align
from respondcam.errors import InputError, LayerError
from respondcam.network.failures import lists
from respondcam.network.survey import Survey

BASES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad++": grad_cam_plus_plus,
    "grad": grad_cam,
    "hires": hires_cam,
    "layer": layer_cam,
    "respond": respond_cam,
}
# As in the authors' example: the last layer of each of the four stages of a ResNet.
_STAGES = 4


def refined(
    maps: Sequence[Float[Tensor, "batch target *spatial"]],
) -> Float[Tensor, "batch target *spatial"]:
    """Product of maps without negative values, each scaled to a maximum of one.

    Examples
    --------
    >>> fine, coarse = torch.tensor([[[4.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 2.0, 2.0]]])
    >>> refined([fine, coarse])
    tensor([[[0.5000, 0.2500, 0.0000]]])
    """
    return reduce(torch.mul, [_scaled(one) for one in maps])


class RefineCAM(Explainer):
    """Explain with RefineCAM; parameters as for every `Explainer`, and one more.

    The explanation is one for all layers, in the voxels of the input.

    Parameters
    ----------
    layer
        At least two layers. None takes the last layer of each of the (up to four) coarsest grids.
    base
        Method of the single layers' maps: ``"grad++"`` (default), ``"grad"``, ``"hires"``,
        ``"layer"`` or ``"respond"``.

    Examples
    --------
    >>> model = nn.Sequential(
    ...     nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 4, 1),
    ...     nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2),
    ... )
    >>> explanation = RefineCAM(model)(torch.rand(1, 1, 8, 8, 8), target=0)
    >>> explanation.layer, explanation.maps.shape
    ('1 * 4', torch.Size([1, 1, 8, 8, 8]))
    """

    method = "refine"
    note = "RefineCAM multiplies scaled maps of several layers, so its sum is no score"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        base: str = "grad++",
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align)
        if base not in BASES:
            raise InputError(f"base={base!r} is unknown. Known: {', '.join(BASES)}.")
        if len(self._layers) == 1:
            raise LayerError(
                f"RefineCAM combines layers, and only {self._layers[0].label!r} was given. Name at "
                f"least two, from fine to coarse, or none to have them chosen."
            )
        self.base = base
        self.choose = stages
        self.join = _product

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """The base method's map of one layer."""
        return BASES[self.base](activation, gradient)


def stages(survey: Survey) -> tuple[list[str], str]:
    """The last layer of each of the coarsest grids, from fine to coarse, and why."""
    chosen, _ = survey.choice()
    names = [layer.name for layer in survey.layers]
    end = survey.layers[names.index(chosen)]
    last: dict[tuple[int, ...], str] = {}
    for layer in survey.layers[: names.index(chosen) + 1]:
        grid = layer.shape[1:]
        several = len(layer.shape) == len(end.shape) and max(grid, default=1) > 1
        if layer.reached and not layer.same_as and several:
            last.pop(grid, None)  # the order is that of each grid's last layer
            last[grid] = layer.name
    found = list(last.values())[-_STAGES:]
    if len(found) < 2:
        raise LayerError(
            f"All layers up to {chosen!r} have the same grid, so there is nothing to refine. Name "
            f"at least two layers yourself; {lists()} lists them."
        )
    return found, "the last layer of each of the coarsest grids"


def _product(explanations: tuple[Explanation, ...]) -> Explanation:
    same_run(explanations)
    maps = refined([interpolate(one.maps.relu(), one.grid) for one in explanations])
    empty = {at: why for one in explanations for at, why in one.empty.items()}
    last = explanations[-1].baseline  # of the layer nearest to the score
    return joined(explanations, maps, " * ", empty=empty, baseline=last)


def _scaled(maps: Tensor) -> Tensor:
    most = maps.flatten(2).amax(dim=2).view(*maps.shape[:2], *[1] * (maps.ndim - 2))
    return torch.where(most > 0, maps / torch.where(most > 0, most, 1), 0)

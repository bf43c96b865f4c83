"""All methods by name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from respondcam.attribution.ablation import AblationCAM
from respondcam.attribution.eigen import EigenCAM
from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.grad import GradCAM
from respondcam.attribution.grad_plus_plus import GradCAMPlusPlus
from respondcam.attribution.guided_backprop import GuidedBackprop
from respondcam.attribution.hires import HiResCAM
from respondcam.attribution.inputs import Inputs
from respondcam.attribution.integrated import IntegratedRespondCAM
from respondcam.attribution.integrated_gradients import IntegratedGradients
from respondcam.attribution.layer import LayerCAM
from respondcam.attribution.occlusion import Occlusion
from respondcam.attribution.refine import RefineCAM
from respondcam.attribution.respond import RespondCAM
from respondcam.attribution.score import ScoreCAM
from respondcam.attribution.tubes import SaliencyTubes
from respondcam.errors import InputError

METHODS: dict[str, type[Explainer]] = {
    method.method: method
    for method in (
        RespondCAM,
        IntegratedRespondCAM,
        GradCAM,
        GradCAMPlusPlus,
        HiResCAM,
        LayerCAM,
        AblationCAM,
        ScoreCAM,
        EigenCAM,
        RefineCAM,
        SaliencyTubes,
        IntegratedGradients,
        Occlusion,
        GuidedBackprop,
    )
}


def make(
    method: str,
    model: nn.Module,
    layer: LayerSpec | Sequence[LayerSpec] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
) -> Explainer:
    """The explainer of that name.

    Parameters
    ----------
    method
        A name of `METHODS`.
    model, layer
        As for every `Explainer`.
    options
        Its other parameters, by name.

    Raises
    ------
    InputError
        If the method or an option is unknown, or an option cannot be used.

    Examples
    --------
    >>> make("respond", nn.Identity(), options={"nodes": 3})
    Traceback (most recent call last):
        ...
    respondcam.errors.InputError: Method 'respond' has no option 'nodes'. It has: output, relu, ...
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown. Known: {', '.join(METHODS)}.")
    known = list(inspect.signature(METHODS[method]).parameters)[2:]
    for name in options or {}:
        if name not in known:
            others = [one for one in METHODS if name in inspect.signature(METHODS[one]).parameters]
            whose = f" {name!r} belongs to {', '.join(others)}." if others else ""
            raise InputError(
                f"Method {method!r} has no option {name!r}. It has: {', '.join(known)}.{whose}"
            )
    return METHODS[method](model, layer, **(options or {}))


def explain(
    model: nn.Module,
    inputs: Inputs,
    target: Any = "predicted",
    *,
    layer: LayerSpec | None = None,
    method: str = "respond",
    output: Callable[[Any], Tensor] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Explanation:
    """Explain one input with all defaults: Respond-CAM of the predicted class, layer chosen.

    Parameters
    ----------
    model, layer, output
        As for every `Explainer`.
    inputs, target
        As for its call.
    method
        A name of `METHODS`.
    options
        Parameters of that method, by name, such as ``{"nodes": 32}``.

    Raises
    ------
    InputError
        If the method or an option is unknown, or the model, input, layer or target cannot be used.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8, 2))
    >>> explain(model, torch.rand(1, 1, 4, 4, 4), target=1).layer
    '1'
    """
    given = {"output": output, **(options or {})}
    return make(method, model, layer, options=given)(inputs, target)  # type: ignore[return-value]

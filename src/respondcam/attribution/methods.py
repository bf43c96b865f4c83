"""All methods by name."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.grad import GradCAM
from respondcam.attribution.grad_plus_plus import GradCAMPlusPlus
from respondcam.attribution.hires import HiResCAM
from respondcam.attribution.inputs import Inputs
from respondcam.attribution.integrated import IntegratedRespondCAM
from respondcam.attribution.layer import LayerCAM
from respondcam.attribution.respond import RespondCAM
from respondcam.errors import InputError

METHODS: dict[str, type[Explainer]] = {
    method.method: method
    for method in (RespondCAM, IntegratedRespondCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM)
}


def explain(
    model: nn.Module,
    inputs: Inputs,
    target: Any = "predicted",
    *,
    layer: LayerSpec | None = None,
    method: str = "respond",
    output: Callable[[Any], Tensor] | None = None,
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

    Raises
    ------
    InputError
        If the method is unknown, or the model, input, layer or target cannot be used.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8, 2))
    >>> explain(model, torch.rand(1, 1, 4, 4, 4), target=1).layer
    '1'
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown. Known: {', '.join(METHODS)}.")
    return METHODS[method](model, layer, output=output)(inputs, target)  # type: ignore[return-value]

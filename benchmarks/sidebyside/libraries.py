"""How each library is asked for the same map, by its own public call.

Each function takes a model, the name of a layer and the goal, and gives a function from the input
to what the library returns. Explainers are made once, outside of what is timed. Hooks that a
library leaves on the model stay there, so each library has a model of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sidebyside.cases import CLASS, CLASSES, Goal

Maker = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Library:
    """One column of the table.

    Parameters
    ----------
    name
        As in the results file.
    package
        What to look up for the version.
    prepare
        (model, layer, goal) -> function of the input.
    voxels
        What comes back: a map on the "layer"'s grid, or on the "input"'s voxels.
    """

    name: str
    package: str
    prepare: Callable[[nn.Module, str, Goal], Maker]
    voxels: str


def _classes(goal: Goal) -> range:
    return range(CLASSES) if goal == "every class" else range(CLASS, CLASS + 1)


def _channel_sum(output: Tensor) -> Tensor:
    """Score of a dense output (batch, channel, *spatial): one channel, summed."""
    return output[:, CLASS].flatten(1).sum(dim=1)


def _inference(model: nn.Module, layer: str, goal: Goal) -> Maker:
    def run(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(x)

    return run


def _respondcam(model: nn.Module, layer: str, goal: Goal) -> Maker:
    from respondcam import RespondCAM

    explainer = RespondCAM(model, layer=layer)
    target: Any = {"class": CLASS, "every class": "all", "dense": _channel_sum}[goal]
    return lambda x: explainer(x, target=target).maps


def _respondcam_placed(model: nn.Module, layer: str, goal: Goal) -> Maker:
    from respondcam import RespondCAM

    explainer = RespondCAM(model, layer=layer)
    target: Any = {"class": CLASS, "every class": "all", "dense": _channel_sum}[goal]
    return lambda x: explainer(x, target=target).place()


def _torchcam(model: nn.Module, layer: str, goal: Goal) -> Maker:
    """One forward pass also for many classes: the library can keep the graph."""
    from torchcam.methods import XGradCAM

    extractor = XGradCAM(model, target_layer=layer)
    last = _classes(goal)[-1]

    def run(x: Tensor) -> list[Tensor]:
        scores = model(x)
        return [extractor(c, scores, retain_graph=c != last)[0] for c in _classes(goal)]

    return run


def _captum(model: nn.Module, layer: str, goal: Goal) -> Maker:
    from captum.attr import LayerGradCam

    forward = model if goal != "dense" else lambda x: _channel_sum(model(x))
    attribution = LayerGradCam(forward, model.get_submodule(layer))
    targets = [None] if goal == "dense" else list(_classes(goal))
    return lambda x: [attribution.attribute(x, target=target) for target in targets]


def _monai(model: nn.Module, layer: str, goal: Goal) -> Maker:
    """It sums a channel of a dense output by itself."""
    from monai.visualize import GradCAM

    cam = GradCAM(nn_module=model, target_layers=layer)
    return lambda x: [cam(x=x, class_idx=c) for c in _classes(goal)]


def _pytorch_grad_cam(model: nn.Module, layer: str, goal: Goal) -> Maker:
    from sidebyside.torchvision_stand_in import stand_in

    stand_in()
    from pytorch_grad_cam import XGradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = XGradCAM(model, target_layers=[model.get_submodule(layer)])

    def target(c: int) -> Any:  # it hands each sample over by itself, without the batch axis
        return ClassifierOutputTarget(c) if goal != "dense" else lambda out: out[c].sum()

    return lambda x: [cam(input_tensor=x, targets=[target(c)]) for c in _classes(goal)]


INFERENCE = Library("inference", "torch", _inference, "")
LIBRARIES: tuple[Library, ...] = (
    Library("respondcam RespondCAM", "respondcam", _respondcam, "layer"),
    Library("respondcam RespondCAM, placed", "respondcam", _respondcam_placed, "input"),
    Library("torch-cam XGradCAM", "torchcam", _torchcam, "layer"),
    Library("captum LayerGradCam", "captum", _captum, "layer"),
    Library("MONAI GradCAM", "monai", _monai, "input"),
    Library("pytorch-grad-cam XGradCAM", "grad-cam", _pytorch_grad_cam, "input"),
)

"""The same maps by other libraries, as far as theirs run on volumes; maps in the input's voxels.

Each is called as its documentation says, with what it does to a map (its ReLU, its scaling, its way
of resizing) left as it is. One exception: MONAI's default scaling turns a map upside down (its
maximum becomes 0), so it is asked for the map itself.
"""

import contextlib
import copy
import io
from collections.abc import Callable
from typing import Any

import torch
from sidebyside.torchvision_stand_in import stand_in
from torch import Tensor, nn

_PYTORCH_GRAD_CAM = (
    "GradCAM",
    "HiResCAM",
    "XGradCAM",
    "GradCAMPlusPlus",
    "LayerCAM",
    "EigenCAM",
    "AblationCAM",
)


def peers(model: nn.Module, layer: str) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Name -> (volume, class) -> map (1, 1, z, y, x); libraries that are not installed are said."""
    found: dict[str, Callable[[Tensor, int], Tensor]] = {}
    for make in (_captum, _monai, _pytorch_grad_cam):
        try:
            found |= make(copy.deepcopy(model), layer)
        except ImportError as error:
            print(f"  {error}; see requirements.txt")
    return found


def _captum(model: nn.Module, layer: str) -> dict[str, Any]:
    from captum.attr import LayerAttribution, LayerGradCam

    cam = LayerGradCam(model, model.get_submodule(layer))

    def run(volume: Tensor, label: int) -> Tensor:
        maps: Any = cam.attribute(volume, target=label)
        return LayerAttribution.interpolate(maps, volume.shape[2:], "trilinear").detach()

    return {"captum LayerGradCam": run}


def _monai(model: nn.Module, layer: str) -> dict[str, Any]:
    from monai.visualize import GradCAM

    cam = GradCAM(nn_module=model, target_layers=layer, postprocessing=lambda maps: maps)
    return {"MONAI GradCAM": lambda volume, label: torch.as_tensor(cam(x=volume, class_idx=label))}


def _pytorch_grad_cam(model: nn.Module, layer: str) -> dict[str, Any]:
    stand_in()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def of(name: str) -> Callable[[Tensor, int], Tensor]:
        def run(volume: Tensor, label: int) -> Tensor:
            make, own = (
                getattr(pytorch_grad_cam, name),
                copy.deepcopy(model),
            )  # some leave it changed
            with (
                make(own, [own.get_submodule(layer)]) as cam,
                contextlib.redirect_stderr(io.StringIO()),
            ):
                maps = cam(input_tensor=volume, targets=[ClassifierOutputTarget(label)])
            return torch.from_numpy(maps)[:, None]

        return run

    return {f"pytorch-grad-cam {name}": of(name) for name in _PYTORCH_GRAD_CAM}

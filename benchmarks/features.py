"""What each library does with a 3-D network, tried out: the table of docs/comparison.md.

    cd benchmarks && .venv/bin/python features.py

in the environment of `make table`; medcam is tried where it is installed beside it
(``pip install --no-deps medcam==0.1.22``). Every cell is the outcome of a call, none is an opinion:
"yes", "no", or the error that came back. Each library is asked as its documentation says.
"""

import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from sidebyside.torchvision_stand_in import stand_in
from torch import Tensor, nn

Call = Callable[[nn.Module, str, Tensor, int], Any]
SIZE = 16


class Network(nn.Module):
    """A convolution without bias, a ReLU, the mean over the grid, a linear layer."""

    def __init__(self, stride: int = 2, *, inplace: bool = False, output: Callable = lambda s: s):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 4, 3, stride=stride, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=inplace)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        self.output = output

    def forward(self, x: Tensor) -> Any:
        found = self.relu(self.conv(x))
        return self.output(self.head(self.drop(found.mean((2, 3, 4)))))


def respondcam(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    from respondcam import RespondCAM

    return RespondCAM(model, layer=layer)(x, target=c).place()[0, 0]


def torch_cam(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    from torchcam.methods import GradCAM

    with GradCAM(model, target_layer=layer) as extractor:
        return extractor(c, model(x), normalized=False)[0][0]


def torch_cam_x(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    from torchcam.methods import XGradCAM

    with XGradCAM(model, target_layer=layer) as extractor:
        return extractor(c, model(x), normalized=False)[0][0]


def captum(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    from captum.attr import LayerGradCam

    return LayerGradCam(model, model.get_submodule(layer)).attribute(x, target=c)[0, 0]


def captum_placed(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    from captum.attr import LayerAttribution

    found = captum(model, layer, x, c)[None, None]
    return LayerAttribution.interpolate(found, x.shape[2:], "trilinear")[0, 0]


def monai(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    """On the layer's grid, before its normaliser, which scales to 0 .. 1."""
    from monai.visualize import GradCAM

    return GradCAM(nn_module=model, target_layers=layer).compute_map(x, class_idx=c)[0, 0]


def monai_placed(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    from monai.visualize import GradCAM

    cam = GradCAM(nn_module=model, target_layers=layer, postprocessing=lambda found: found)
    return cam(x=x, class_idx=c)[0, 0]


def _pytorch_grad_cam(kind: str) -> Call:
    def call(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
        stand_in()
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        cam = getattr(pytorch_grad_cam, kind)(model, target_layers=[model.get_submodule(layer)])
        return torch.as_tensor(cam(input_tensor=x, targets=[ClassifierOutputTarget(c)])[0])

    return call


def medcam(model: nn.Module, layer: str, x: Tensor, c: int) -> Tensor:
    from medcam import medcam as library

    injected = library.inject(model, layer=layer, label=c, return_attention=True)
    return torch.as_tensor(injected(x)[1])[0, 0]


@dataclass(frozen=True)
class Library:
    """How a library is asked: for Grad-CAM's map, raw where it has that, for that of Respond-CAM's
    formula, and for the map in the input's voxels.
    """

    package: str
    raw: Call
    formula: Call | None
    placed: Call | None


PGC = _pytorch_grad_cam("GradCAM")
LIBRARIES: dict[str, Library] = {
    "respondcam": Library("respondcam", respondcam, respondcam, respondcam),
    "torch-cam": Library("torchcam", torch_cam, torch_cam_x, None),
    "captum": Library("captum", captum, None, captum_placed),
    "MONAI": Library("monai", monai, None, monai_placed),
    "pytorch-grad-cam": Library("grad-cam", PGC, _pytorch_grad_cam("XGradCAM"), PGC),
    "medcam (M3d-CAM)": Library("medcam", medcam, None, medcam),
}


def image() -> Tensor:
    return torch.randn(1, 1, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def a_map_in_3d(library: Library) -> bool:
    return library.raw(Network().eval(), "relu", image(), 1).ndim == 3


def the_formula_of_respond_cam_in_3d(library: Library) -> bool:
    return (
        library.formula is not None
        and library.formula(Network().eval(), "relu", image(), 1).ndim == 3
    )


def negative_values_are_kept(library: Library) -> bool:
    model = Network().eval()
    nn.init.constant_(model.head.weight, -1.0)
    return bool(library.raw(model, "relu", image(), 1).min() < 0)


def in_the_right_voxel(library: Library) -> bool:
    """A bright voxel at 8 and stride 4, padding 1: the layer's voxel 2 lies on the input's 8."""
    model = Network(stride=4).eval()
    nn.init.constant_(model.conv.weight, 1.0)
    nn.init.constant_(model.head.weight, 1.0)
    x = torch.zeros(1, 1, SIZE, SIZE, SIZE)
    x[0, 0, 8, 8, 8] = 1
    if library.placed is None:
        return False
    found = library.placed(model, "relu", x, 1)
    if found.shape != (SIZE, SIZE, SIZE):
        return False
    mass = found.double().clamp(min=0)
    centre = (mass.sum((1, 2)) * torch.arange(SIZE)).sum() / mass.sum()
    return bool((centre - 8).abs() < 0.01)


def with_frozen_parameters(library: Library) -> bool:
    frozen = library.raw(Network().eval().requires_grad_(False), "relu", image(), 1)
    return _same(frozen, library.raw(Network().eval(), "relu", image(), 1))


def under_no_grad(library: Library) -> bool:
    with torch.no_grad():
        found = library.raw(Network().eval(), "relu", image(), 1)
    return _same(found, library.raw(Network().eval(), "relu", image(), 1))


def before_a_relu_in_place(library: Library) -> bool:
    """The layer is the convolution; its output must not be overwritten by what comes behind."""
    after = library.raw(Network(inplace=True).eval(), "conv", image(), 1)
    return _same(after, library.raw(Network().eval(), "conv", image(), 1))


def an_output_that_is_a_dict(library: Library) -> bool:
    model = Network(output=lambda scores: {"logits": scores}).eval()
    return _same(
        library.raw(model, "relu", image(), 1), library.raw(Network().eval(), "relu", image(), 1)
    )


def the_model_s_training_flags_stay(library: Library) -> bool:
    model = Network().train()
    library.raw(model, "relu", image(), 1)
    return model.training and model.drop.training


def the_same_map_of_a_model_in_training_mode(library: Library) -> bool:
    """Dropout must not make the map a lottery."""
    return _same(
        library.raw(Network().train(), "relu", image(), 1),
        library.raw(Network().eval(), "relu", image(), 1),
    )


def no_hooks_stay_behind(library: Library) -> bool:
    model = Network().eval()
    library.raw(model, "relu", image(), 1)
    return not any(
        module._forward_hooks or module._backward_hooks or module._forward_pre_hooks
        for module in model.modules()
    )


def no_gradients_are_left_in_the_parameters(library: Library) -> bool:
    model = Network().eval()
    library.raw(model, "relu", image(), 1)
    return all(parameter.grad is None for parameter in model.parameters())


def the_sum_is_the_score_less_the_bias(library: Library) -> bool:
    """On the layer's grid where the library gives that: for this network Grad-CAM's is, too."""
    model = Network().eval()
    nn.init.constant_(model.head.weight, 1.0)
    with torch.no_grad():
        score = (model(image()) - model.head.bias)[0, 1]
    total = library.raw(model, "relu", image(), 1).sum().float()
    return bool(torch.isclose(total, score, rtol=1e-4))


PROBES: tuple[Callable[[Library], bool], ...] = (
    a_map_in_3d,
    the_formula_of_respond_cam_in_3d,
    negative_values_are_kept,
    the_sum_is_the_score_less_the_bias,
    in_the_right_voxel,
    with_frozen_parameters,
    under_no_grad,
    before_a_relu_in_place,
    an_output_that_is_a_dict,
    the_same_map_of_a_model_in_training_mode,
    the_model_s_training_flags_stay,
    no_hooks_stay_behind,
    no_gradients_are_left_in_the_parameters,
)


def _same(one: Any, other: Any) -> bool:
    one, other = torch.as_tensor(one).detach(), torch.as_tensor(other).detach()
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-8)


def cell(probe: Callable[[Library], bool], library: Library) -> str:
    """yes, no, or the kind of error."""
    try:
        return "yes" if probe(library) else "no"
    except Exception as error:
        if "--errors" in sys.argv:
            traceback.print_exc()
        return f"no: {type(error).__name__}"


def main() -> None:
    warnings.simplefilter("ignore")
    there = {}
    for name, library in LIBRARIES.items():
        try:
            there[f"{name} {metadata.version(library.package)}"] = library
        except metadata.PackageNotFoundError:
            print(f"{name} is not installed here", flush=True)
    rows = [("", *there), ("---", *["---"] * len(there))]
    for probe in PROBES:
        words = probe.__name__.replace("_s_", "'s ").replace("_", " ").replace("in 3d", "in 3-D")
        rows.append((words, *[cell(probe, library) for library in there.values()]))
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


if __name__ == "__main__":
    main()

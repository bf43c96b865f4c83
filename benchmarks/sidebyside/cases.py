"""What is measured: networks with random weights, a layer, a size, and what is explained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

CLASSES = 23
CLASS = 1
"""The class (or the channel of a dense output) that is explained."""

Goal = Literal["class", "every class", "dense"]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Parameters
    ----------
    name
        Short and unique, for the command line and the results file.
    network
        Title of the network.
    layer
        Dotted name of the explained layer.
    size
        Voxels along each axis of the input (1, 1, size, size, size).
    build
        Size -> network. Weights are drawn at random: they change no cost.
    goal
        "class": one map of one class; "every class": a map of each of the classes; "dense": one map
        of the sum of one channel of a dense output.
    small
        The size of the warm-up in a memory measurement, and of a trial run.
    """

    name: str
    network: str
    layer: str
    size: int
    build: Callable[[int], nn.Module]
    goal: Goal = "class"
    small: int = 32

    def model(self) -> nn.Module:
        """The network in evaluation mode, as a user has it: its parameters require gradients."""
        torch.manual_seed(0)
        return self.build(self.size).eval()

    def volume(self) -> Tensor:
        """The input."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(1, 1, *(self.size,) * 3, generator=generator)

    def shrunk(self) -> "Case":
        """The same on a small input."""
        return replace(self, size=min(self.small, self.size))


def _cnn_1(size: int) -> nn.Module:
    from respondcam.network.paper import cnn_1

    return cnn_1(classes=CLASSES, size=size)


def _resnet_18(stride: int) -> Callable[[int], nn.Module]:
    def build(size: int) -> nn.Module:
        from monai.networks.nets import resnet18

        return resnet18(
            spatial_dims=3, n_input_channels=1, num_classes=CLASSES, conv1_t_stride=stride
        )

    return build


def _densenet_121(size: int) -> nn.Module:
    from monai.networks.nets import DenseNet121

    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=CLASSES)


def _unet(size: int) -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )


_CNN_1 = Case("cnn-1-40", "CNN-1", "maxpool2", 40, _cnn_1, small=8)
_BOTTLENECK = "model" + 4 * ".1.submodule"

CASES: tuple[Case, ...] = (
    _CNN_1,
    replace(_CNN_1, name="cnn-1-40-every-class", goal="every class"),
    Case("resnet-18-96", "ResNet-18, first stride 2", "layer4", 96, _resnet_18(2)),
    Case("resnet-18-128", "ResNet-18, first stride 2", "layer4", 128, _resnet_18(2)),
    Case("resnet-18-stride-1-96", "ResNet-18, first stride 1", "layer4", 96, _resnet_18(1)),
    Case("densenet-121-96", "DenseNet-121", "class_layers.relu", 96, _densenet_121),
    Case("densenet-121-128", "DenseNet-121", "class_layers.relu", 128, _densenet_121),
    Case("unet-96", "U-Net, bottleneck", _BOTTLENECK, 96, _unet, "dense"),
    Case("unet-128", "U-Net, bottleneck", _BOTTLENECK, 128, _unet, "dense"),
)


def case_named(name: str) -> Case:
    """One of `CASES`.

    Raises
    ------
    SystemExit
        If there is none of that name; the message lists them.
    """
    for case in CASES:
        if case.name == name:
            return case
    raise SystemExit(f"no case {name!r}; there are {', '.join(c.name for c in CASES)}")

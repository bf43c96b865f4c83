"""Grids of published networks, against values worked out from their papers' architectures."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from respondcam.network.layout import from_grid, to_grid, trace_layers

nets = pytest.importorskip("monai.networks.nets")
pytestmark = pytest.mark.slow

IO = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
CLASSES = {"spatial_dims": 3, "in_channels": 1, "num_classes": 2}
RESNET = {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 2}
UNET = {"channels": (4, 8, 16, 32, 64), "strides": (2, 2, 2, 2)}
DYN = {"kernel_size": [3] * 5, "strides": [1, 2, 2, 2, 2], "upsample_kernel_size": [2] * 4}
VIT = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 4}
BOTTOM = "model.1.submodule.1.submodule.1.submodule.1.submodule"

NETWORKS = {
    "resnet18": lambda: nets.resnet18(conv1_t_stride=2, **RESNET),
    "resnet18 fine": lambda: nets.resnet18(conv1_t_stride=1, **RESNET),
    "resnet50": lambda: nets.resnet50(conv1_t_stride=2, **RESNET),
    "resnet50 A": lambda: nets.resnet50(conv1_t_stride=2, shortcut_type="A", **RESNET),
    "densenet121": lambda: nets.DenseNet121(**IO),
    "seresnet50": lambda: nets.SEResNet50(**CLASSES),
    "efficientnet": lambda: nets.EfficientNetBN("efficientnet-b0", pretrained=False, **CLASSES),
    "swinunetr": lambda: nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12),
    "vnet": lambda: nets.VNet(**IO),
    "unet": lambda: nets.UNet(**UNET, num_res_units=2, **IO),
    "dynunet": lambda: nets.DynUNet(**DYN, filters=[4, 8, 8, 8, 8], **IO),
    "segresnet": lambda: nets.SegResNet(**IO),
    "unetr": lambda: nets.UNETR(in_channels=1, out_channels=2, img_size=(96,) * 3, **VIT),
}

# network, layer, input size -> stride, offset, uncertainty, whether something passes it by
EXPECTED = [
    ("resnet18", "layer4", 96, 32, 0, 0, False),
    ("resnet18", "layer4", 97, 32, 0, 0, False),
    ("resnet18", "layer4.1.conv1", 96, 32, 0, 0, True),
    ("resnet18 fine", "layer4", 96, 16, 0, 0, False),
    ("resnet50", "layer4", 100, 32, 0, 0, False),
    ("resnet50 A", "layer4", 96, 32, 0, 0, False),
    ("densenet121", "class_layers.relu", 96, 32, 14, 0, False),
    ("densenet121", "features.denseblock1", 96, 4, 0, 0, False),
    ("seresnet50", "layer4", 96, 32, 2, 0, False),
    ("seresnet50", "layer4", 127, 32, 2, 0, False),
    ("efficientnet", "_conv_head", 96, 32, 31, 0, False),
    ("swinunetr", "encoder10", 96, 32, 15.5, 0, True),
    ("swinunetr", "decoder1", 96, 1, 0, 0, False),
    ("vnet", "down_tr256", 96, 16, 7.5, 0, True),
    ("vnet", "up_tr32", 96, 1, 0, 0, False),
    ("unet", BOTTOM, 96, 16, 0, 0, True),
    ("dynunet", "bottleneck", 96, 16, 0, 0, True),
    ("dynunet", "upsamples.3", 96, 1, 0, 7.5, False),
    ("segresnet", "down_layers.3", 96, 8, 0, 0, True),
    ("segresnet", "up_layers.2", 96, 1, 0, 3.5, False),
    ("unetr", "vit.blocks.11", 96, 16, 7.5, 0, True),
]


@pytest.mark.parametrize(
    ("name", "layer", "size", "stride", "offset", "slack", "bypassed"),
    EXPECTED,
    ids=[f"{name} {layer.split('.')[0]} {size}" for name, layer, size, *_ in EXPECTED],
)
def test_published_networks(name, layer, size, stride, offset, slack, bypassed):
    model = NETWORKS[name]()
    x = torch.zeros(1, 1, size, size, size)
    found = trace_layers(model, {layer: model.get_submodule(layer)}, x)[layer]
    assert found.grid.origin == "layout"
    assert found.grid.stride == (stride,) * 3
    assert found.grid.offset == (offset,) * 3
    assert found.grid.uncertainty == (slack,) * 3
    assert found.bypassed == bypassed


def test_tensorflow_same_padding_depends_on_the_size():
    model = NETWORKS["efficientnet"]()
    # MONAI's padding is fixed when the network is built (for an image of 224): it is the same at
    # all sizes, and that is what is traced
    layers = {"head": model.get_submodule("_conv_head")}
    grids = [
        trace_layers(model, layers, torch.zeros(1, 1, *[n] * 3))["head"].grid for n in (96, 127)
    ]
    assert [grid.offset[0] for grid in grids] == [31, 31]


def test_every_leaf_of_every_network_has_a_grid_from_its_layout():
    for name in ("resnet18", "densenet121", "seresnet50", "swinunetr", "vnet", "unet", "segresnet"):
        model = NETWORKS[name]()
        leaves = {n: m for n, m in model.named_modules() if n and not list(m.children())}
        for layer, found in trace_layers(model, leaves, torch.zeros(1, 1, 96, 96, 96)).items():
            for call in found.calls:
                assert call.grid is not None, (name, layer, call.problem)
                assert call.grid.origin == "layout", (name, layer, call.problem)


@pytest.mark.parametrize("block", [0, 1])
def test_windows_of_swin_become_the_grid_that_they_were_cut_from(block):
    """With real numbers: what goes into the windows, read as a grid, is what they were cut from.

    The second block's windows are shifted, and both blocks pad the grid to whole windows.
    """
    torch.manual_seed(0)
    model = nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12).swinViT.eval()
    stage = model.layers1[0].blocks[block]
    x = torch.rand(2, 1, 32, 64, 48)
    layers = {"qkv": stage.attn.qkv, "norm": stage.norm1}
    found = trace_layers(model, layers, x)
    caught: dict[str, torch.Tensor] = {}
    stage.attn.register_forward_pre_hook(lambda m, args: caught.update(windows=args[0]))
    stage.norm1.register_forward_hook(lambda m, args, out: caught.update(norm=out))
    with torch.no_grad():
        model(x)
    axes = found["qkv"].axes
    # the tokens before the linear layer that triples their channels
    before = replace(axes, split=(*axes.split[:2], (12,)), shape=(-1, 12, *axes.shape[2:]))
    grid = to_grid(caught["windows"], before)
    assert found["qkv"].grid.offset == found["norm"].grid.offset == (0.5, 0.5, 0.5)
    assert found["norm"].grid.shape == (16, 32, 24)
    assert torch.equal(grid[:, :, :16, :32, :24], to_grid(caught["norm"], found["norm"].axes))
    assert torch.equal(from_grid(grid, before, caught["windows"]), caught["windows"])


def test_two_dimensional_networks():
    model = nets.DenseNet121(spatial_dims=2, in_channels=3, out_channels=5)
    relu = model.class_layers.relu
    assert isinstance(relu, nn.ReLU)
    found = trace_layers(model, {"relu": relu}, torch.zeros(2, 3, 96, 128))["relu"]
    assert found.grid.stride == (32, 32)
    assert found.grid.offset == (14, 14)

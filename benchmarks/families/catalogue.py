"""All families: how each is built, what it takes, which layer is explained, where that layer is."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from families import published, written


@dataclass(frozen=True)
class Family:
    """One family.

    Parameters
    ----------
    build
        Makes the network, with random weights.
    shapes
        Of its inputs, batch first; several inputs are given by position.
    layer
        What is explained: dotted name, with ``#k`` for a layer that is called several times.
    stride, offset
        Of the layer's grid in the (first) input, worked out from the architecture by hand: of its
        first axis, or one number for each axis.
    slack
        How far branches disagree about the offset.
    chosen
        The layer that is explained when none is named, if it is another one.
    bypassed
        Whether something passes the layer by, such as a skip connection.
    tokens
        For a layer that gives (batch, token, channel): how many tokens stand for no place.
    linear
        Whether the scores are linear in the layer, so that the account closes without a path.
    output
        Picks the tensor of scores.
    local
        Whether a voxel of the layer sees a part of the input only, once norms are left out.
    source
        Which of the inputs the grid refers to.
    needs
        The package that has it.
    slow
        Takes more than two seconds.
    nodes
        Of the path of integrated-respond. Instance norms right behind the layer turn sharply near
        zero, and need more.
    """

    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    layer: str
    stride: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    slack: float = 0
    chosen: str = ""
    bypassed: bool = False
    tokens: int | None = None
    linear: bool = False
    output: Callable[[Any], Tensor] | None = None
    local: bool = True
    source: int = 0
    needs: str = "torch"
    slow: bool = False
    nodes: int = 12

    def network(self) -> nn.Module:
        """The network in evaluation mode."""
        torch.manual_seed(0)
        return self.build().eval()

    def inputs(self) -> Any:
        """What it takes."""
        chance = torch.Generator().manual_seed(1)
        made = tuple(torch.randn(shape, generator=chance) for shape in self.shapes)
        return made if len(made) > 1 else made[0]


def monai(build: Callable[[], nn.Module], size: int, *place: Any, **options: Any) -> Family:
    return Family(build, ((1, 1, *(size,) * 3),), *place, needs="monai", **options)


def nnunet(build: Callable[[], nn.Module], *place: Any, **options: Any) -> Family:
    needs = "dynamic_network_architectures"
    return Family(build, ((1, 1, 32, 32, 32),), *place, needs=needs, **options)


def own(build: Callable[[], nn.Module], *place: Any, **options: Any) -> Family:
    return Family(build, ((2, 1, 16, 16, 16),), *place, **options)


def keras_functional() -> nn.Module:
    """A functional Keras model with a branch, on its torch backend."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    L = keras.layers
    image = keras.Input((16, 16, 16, 1))
    x = L.Conv3D(6, 3, 2, padding="same", activation="relu", name="first")(image)
    y = L.Conv3D(6, 3, padding="same", activation="relu", name="aside")(x)
    x = L.Add(name="sum")([x, y])
    x = L.Conv3D(8, 3, 2, padding="same", activation="relu", name="last")(x)
    from respondcam.network.keras_model import KerasNetwork

    return KerasNetwork(keras.Model(image, L.Dense(3)(L.GlobalAveragePooling3D()(x))))


CLIP = ((2, 3, 8, 32, 32),)
first = published.first

FAMILIES: dict[str, Family] = {
    # classification, MONAI
    "ResNet": monai(published.resnet, 64, "layer4", 32, 0, linear=True),
    "ResNet, fine": monai(
        lambda: published.resnet(1), 32, "layer3", 8, 0, chosen="layer4"
    ),
    "ResNet, bottlenecks": monai(published.bottleneck_resnet, 64, "layer4", 32, 0, linear=True),
    "DenseNet": monai(published.densenet, 32, "class_layers.relu", 16, 6, linear=True),
    "SEResNet": monai(published.seresnet, 64, "layer4", 32, 2, linear=True, local=False, slow=True),
    "SEResNeXt": monai(
        published.seresnext, 64, "layer4", 32, 2, linear=True, local=False, slow=True,
    ),
    "EfficientNet": monai(
        published.efficientnet, 64, "_conv_head", 32, 31, chosen="_swish", local=False, slow=True
    ),
    "Classifier": monai(published.classifier, 32, "net", 8, 0, linear=True),
    "ViT": monai(
        published.vit, 32, "blocks.0", 8, 3.5, tokens=1, output=first, local=False, bypassed=False
    ),
    "ViT, all tokens": monai(
        lambda: published.vit(False), 32, "norm", 8, 3.5, tokens=0, output=first, local=False,
        linear=True,
    ),
    # segmentation, MONAI
    "UNet": monai(
        published.unet, 32, "model.1.submodule.1.submodule.1", 8, 0, bypassed=True, nodes=48,
    ),
    "BasicUNet": monai(published.basic_unet, 32, "down_4", 16, 7.5, bypassed=True, slow=True),
    "BasicUNet++": monai(
        published.basic_unet_plus_plus, 32, "conv_4_0", 16, 7.5, bypassed=True, output=first,
        slow=True,
    ),
    "AttentionUnet": monai(
        published.attention_unet, 32, "model.1.submodule.1.submodule.1.submodule", 8, 0,
        bypassed=True, slow=True),
    "SegResNet": monai(published.segresnet, 32, "down_layers.3", 8, 0, bypassed=True),
    "SegResNetDS": monai(
        published.segresnet_ds, 32, "encoder.layers.2.blocks", 4, 0, bypassed=True
    ),
    "DynUNet": monai(published.dynunet, 32, "bottleneck", 8, 0, bypassed=True, slow=True),
    "VNet": monai(published.vnet, 32, "down_tr256", 16, 7.5, bypassed=True, slow=True),
    "UNETR": monai(
        published.unetr, 32, "vit.norm", 16, 7.5, chosen="vit", bypassed=True, tokens=0,
        local=False, slow=True,
    ),
    "SwinUNETR": monai(
        published.swin_unetr, 64, "encoder10", 32, 15.5, bypassed=True, local=False, slow=True
    ),
    "ViTAutoEnc": monai(
        published.vit_autoencoder, 32, "norm", 16, 7.5, tokens=0, output=first, local=False
    ),
    "HighResNet": monai(published.highresnet, 32, "blocks.4", 1, 0),
    "FlexibleUNet": monai(
        published.flexible_unet, 64, "encoder.layer4", 32, 0, bypassed=True, slow=True
    ),
    "MedNeXt": monai(
        published.mednext, 32, "bottleneck.0.conv3", 8, 0, chosen="bottleneck.0.act", bypassed=True,
        slow=True,
    ),
    "DiNTS": monai(  # gradients have their middle at an offset of 2.7
        published.dints, 32, "stem_up.2.mod.0", 8, 3, 6.161904761904762, bypassed=True, slow=True
    ),
    "AutoEncoder": monai(published.autoencoder, 32, "intermediate", 8, 0),
    "VoxelMorph": Family(
        published.voxelmorph, ((1, 2, 32, 32, 32),),
        "net.0.1.submodule.1.submodule.1.submodule.1.submodule.0", 16, 7.5, bypassed=True,
        needs="monai",
    ),
    # nnU-Net
    "PlainConvUNet": nnunet(
        published.plain_conv_unet, "encoder.stages.3", 8, 0, bypassed=True, nodes=48,
    ),
    "PlainConvUNet, deep supervision": nnunet(
        lambda: published.plain_conv_unet(deep_supervision=True), "encoder.stages.3", 8, 0,
        bypassed=True, output=first, slow=True),
    "ResidualEncoderUNet": nnunet(
        published.residual_encoder_unet, "encoder.stages.3", 8, 3.5, 3.5, bypassed=True, slow=True),
    "nnU-Net ResNet": nnunet(
        published.nnunet_resnet, "encoder", 8, 3.5, 3.5, linear=True, local=False, slow=True
    ),
    # video
    "R3D": Family(
        lambda: written.Video(apart=False), CLIP, "layer3", (4, 8, 8), 0, linear=True
    ),
    "R(2+1)D": Family(lambda: written.Video(apart=True), CLIP, "layer3", (4, 8, 8), 0, linear=True),
    "S3D": Family(
        written.S3D, CLIP, "features.4", (2, 8, 8), 0, chosen="classifier", linear=True
    ),
    # several inputs, repeated calls, bags
    "two streams": Family(
        written.TwoStreams, ((2, 1, 16, 16, 16), (2, 2, 8, 8, 8)), "image", 4, 0, chosen="flow",
        bypassed=True, linear=True,
    ),
    "two streams, the second": Family(
        written.TwoStreams, ((2, 1, 16, 16, 16), (2, 2, 8, 8, 8)), "flow", 4, 0, bypassed=True,
        linear=True, source=1,
    ),
    "siamese": Family(written.Siamese, ((2, 1, 16, 16, 16),) * 2, "trunk#1", 4, 0, source=1),
    "image and facts": Family(
        written.WithFacts, ((2, 1, 16, 16, 16), (2, 5)), "trunk", 4, 0, bypassed=True
    ),
    "ConvLSTM": Family(
        written.ConvLSTM, ((2, 3, 1, 16, 16, 16),), "out", (1, 2, 2, 2), 0, linear=True,
        local=False,
    ),
    # every call of the block is passed by, so that none is chosen
    "shared block": own(written.Recurrent, "block#0", 2, 0, bypassed=True, chosen="stem"),
    "bag of instances": own(written.Bag, "trunk", 4, 0, linear=False),
    "attention pooling": own(written.AttentionPooling, "trunk", 4, 0),
    # the plain ones
    "fully connected head": Family(
        written.Volumetric, ((2, 1, 32, 32, 32),), "features", 4, 4.5
    ),
    "1-D": Family(lambda: written.Plain(1), ((2, 1, 64),), "trunk", 4, 0, linear=True),
    "2-D": Family(lambda: written.Plain(2), ((2, 1, 32, 24),), "trunk", 4, 0, linear=True),
    "squeezed scores": Family(
        lambda: written.Plain(shape=torch.squeeze), ((1, 1, 16, 16, 16),), "trunk", 4, 0,
        linear=True,
    ),
    "Keras, functional": Family(
        keras_functional, ((2, 1, 16, 16, 16),), "last", 4, 3, linear=True, needs="keras",
        local=False,
    ),
}  # fmt: skip

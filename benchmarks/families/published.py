"""Published networks, small: from MONAI and from nnU-Net's library of architectures."""

from typing import Any

from torch import nn

IO: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
CLASSES: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "num_classes": 2}
UNET: dict[str, Any] = {"channels": (4, 8, 16, 32), "strides": (2, 2, 2)}
TOKENS: dict[str, Any] = {"hidden_size": 24, "mlp_dim": 48, "num_heads": 4}
STAGES: dict[str, Any] = {
    "input_channels": 1,
    "n_stages": 4,
    "features_per_stage": (4, 8, 16, 32),
    "conv_op": nn.Conv3d,
    "kernel_sizes": 3,
    "strides": (1, 2, 2, 2),
    "num_classes": 2,
    "n_conv_per_stage_decoder": (1, 1, 1),
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
}


def _nets() -> Any:
    import monai.networks.nets as nets

    return nets


def resnet(stride: int = 2, **options: Any) -> nn.Module:
    from monai.networks.nets.resnet import ResNet, ResNetBlock

    return ResNet(
        ResNetBlock,
        [1, 1, 1, 1],
        [8, 8, 16, 16],
        n_input_channels=1,
        num_classes=3,
        conv1_t_stride=stride,
        **options,
    )


def bottleneck_resnet() -> nn.Module:
    from monai.networks.nets.resnet import ResNet, ResNetBottleneck

    return ResNet(
        ResNetBottleneck,
        [1, 1, 1, 1],
        [4, 4, 8, 8],
        n_input_channels=1,
        num_classes=3,
        conv1_t_stride=2,
        shortcut_type="A",
    )


def densenet() -> nn.Module:
    return _nets().DenseNet(
        3, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2, 2), bn_size=2
    )


def seresnet() -> nn.Module:
    return _nets().SENet(
        3, 1, "se_resnet_bottleneck", [1, 1, 1, 1], 1, 8, None, inplanes=16, num_classes=3
    )


def seresnext() -> nn.Module:
    return _nets().SENet(
        3, 1, "se_resnetxt_bottleneck", [1, 1, 1, 1], 4, 8, None, inplanes=16, num_classes=3
    )


def efficientnet() -> nn.Module:
    return _nets().EfficientNetBN("efficientnet-b0", pretrained=False, **CLASSES)


def classifier() -> nn.Module:
    return _nets().Classifier((1, 32, 32, 32), 3, (4, 8, 8), (2, 2, 2), num_res_units=1)


def unet() -> nn.Module:
    return _nets().UNet(**UNET, num_res_units=1, **IO)


def basic_unet() -> nn.Module:
    return _nets().BasicUNet(features=(4, 4, 8, 8, 16, 4), **IO)


def basic_unet_plus_plus() -> nn.Module:
    return _nets().BasicUNetPlusPlus(features=(4, 4, 8, 8, 16, 4), **IO)


def attention_unet() -> nn.Module:
    return _nets().AttentionUnet(**UNET, **IO)


def segresnet() -> nn.Module:
    return _nets().SegResNet(init_filters=8, blocks_down=(1, 1, 1, 1), **IO)


def segresnet_ds() -> nn.Module:
    return _nets().SegResNetDS(init_filters=4, blocks_down=(1, 1, 1), dsdepth=2, **IO)


def dynunet(**options: Any) -> nn.Module:
    return _nets().DynUNet(
        kernel_size=[3] * 4,
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2] * 3,
        filters=[4, 8, 8, 16],
        **options,
        **IO,
    )


def vnet() -> nn.Module:
    return _nets().VNet(**IO)


def unetr() -> nn.Module:
    return _nets().UNETR(
        in_channels=1, out_channels=2, img_size=(32,) * 3, feature_size=4, **TOKENS
    )


def swin_unetr() -> nn.Module:
    return _nets().SwinUNETR(
        in_channels=1, out_channels=2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2)
    )


def vit(classification: bool = True) -> nn.Module:
    return _nets().ViT(
        1, (32,) * 3, (8,) * 3, num_layers=2, classification=classification, **TOKENS
    )


def vit_autoencoder() -> nn.Module:
    return _nets().ViTAutoEnc(1, (32,) * 3, (16,) * 3, num_layers=2, **TOKENS)


def highresnet() -> nn.Module:
    from monai.networks.nets.highresnet import HighResNet

    layers = (
        {"name": "conv_0", "n_features": 4, "kernel_size": 3},
        {"name": "res_1", "n_features": 4, "kernels": (3, 3), "repeat": 1},
        {"name": "res_2", "n_features": 8, "kernels": (3, 3), "repeat": 1},
        {"name": "res_3", "n_features": 8, "kernels": (3, 3), "repeat": 1},
        {"name": "conv_1", "n_features": 8, "kernel_size": 1},
        {"name": "conv_2", "kernel_size": 1},
    )
    return HighResNet(layer_params=layers, **IO)


def flexible_unet() -> nn.Module:
    return _nets().FlexibleUNet(
        1, 2, "resnet10", decoder_channels=(32, 16, 8, 4, 4), spatial_dims=3
    )


def mednext() -> nn.Module:
    from monai.networks.nets.mednext import MedNeXt

    return MedNeXt(
        3, 4, 1, 2, encoder_expansion_ratio=2, decoder_expansion_ratio=2,
        bottleneck_expansion_ratio=2, blocks_down=(1, 1, 1), blocks_bottleneck=1,
        blocks_up=(1, 1, 1),
    )  # fmt: skip


def dints() -> nn.Module:
    from monai.networks.nets.dints import DiNTS, TopologyInstance

    space = TopologyInstance(channel_mul=0.25, num_blocks=2, num_depths=3, use_downsample=True)
    return DiNTS(space, in_channels=1, num_classes=2, use_downsample=True)


def autoencoder() -> nn.Module:
    return _nets().AutoEncoder(
        3, 1, 2, (4, 8, 16), (2, 2, 2), inter_channels=[16], num_inter_units=1
    )


def voxelmorph() -> nn.Module:
    return _nets().VoxelMorphUNet(3, 2, 3, (8, 16, 16, 16, 16, 16, 8, 8), (8, 8))


def plain_conv_unet(**options: Any) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(n_conv_per_stage=1, **STAGES, **options)


def residual_encoder_unet() -> nn.Module:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    return ResidualEncoderUNet(n_blocks_per_stage=(1, 1, 2, 2), **STAGES)


def nnunet_resnet() -> nn.Module:
    from dynamic_network_architectures.architectures.resnet import ResNet18_CIFAR

    return ResNet18_CIFAR(3, 1, 3, squeeze_excitation=True)


def first(output: Any) -> Any:
    """Of several outputs, such as those of deep supervision, the one of the full network."""
    return output[0]

"""VGG-16 for photographs, with the names of its parts as in the published weight files.

K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
ICLR 2015 (arXiv:1409.1556), configuration D. The names (``features.0`` to ``features.30``,
``classifier.0`` to ``classifier.6``) are those of torchvision, so that its weights fit.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

# where torchvision publishes the weights (ImageNet, 138 million parameters)
VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
LAST_CONVOLUTION = "features.29"  # its ReLU: the layer that class activation maps take
_FILTERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


class VGG16(nn.Module):
    """VGG-16: thirteen convolutions, five poolings (zeros in the list), three dense layers.

    Parameters
    ----------
    classes
        Number of scores.
    width
        Share of the published number of filters and units; less for small experiments.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in VGG16(width=0.125).parameters())
    2612368
    """

    def __init__(self, classes: int = 1000, *, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for filters in _FILTERS:
            if filters == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            filters = int(filters * width)
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        units = int(4096 * width)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, units),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(units, classes),
        )

    def forward(self, x: Float[Tensor, "batch 3 y x"]) -> Float[Tensor, "batch class"]:
        """Scores before the softmax."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def scale_random_weights(network: nn.Module, *, seed: int) -> None:
    """Draw weights (He et al., 2015) under which the signal neither dies nor grows with depth."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.01, generator=generator)

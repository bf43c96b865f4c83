"""Networks with weights by hand: which voxel they answer to is known without training.

The first layer is a matched filter for a ball, bright in one channel and dark in the other; every
further layer blurs both symmetrically or takes the largest value around. So the cell whose centre
is nearest to the ball answers most, and a map is right when it points there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from planted.scenes import Images, ball


@dataclass(frozen=True)
class Known:
    """A network by hand.

    Parameters
    ----------
    make
        Builds it; its last layer with a grid is number -4.
    size
        Voxels along an edge of its input.
    stride
        Of that grid, in voxels.
    even
        Whether stretching the grid over the input is right for it.
    """

    make: Callable[[], nn.Sequential]
    size: int
    stride: int
    even: bool = False


def balls(count: int, size: int, margin: int, generator: torch.Generator) -> Images:
    """One bright or dark ball in noise, its centre anywhere that far from the border."""
    volumes = 0.1 * torch.randn(count, size, size, size, generator=generator)
    masks = torch.zeros(count, size, size, size, dtype=torch.bool)
    labels = torch.arange(count) % 2
    for image in range(count):
        centre = torch.randint(margin, size - margin, (3,), generator=generator)
        masks[image] = ball(centre, 5, size)
        volumes[image] += (1.0 - 2.0 * labels[image]) * masks[image]
    return Images(volumes[:, None], labels, masks)


def _filter(kernel: int, stride: int, padding: int) -> nn.Sequential:
    """Matched filter of the ball, or of as much of it as the kernel holds; noise stays below."""
    conv = nn.Conv3d(1, 2, kernel, stride=stride, padding=padding)
    inside = ball(torch.full((3,), (kernel - 1) / 2), 5, kernel).float()
    with torch.no_grad():
        conv.weight.copy_(torch.stack([inside, -inside])[:, None] / inside.sum())
        nn.init.constant_(conv.bias, -0.1)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.ReLU())


def _blur(kernel: int, stride: int, padding: int) -> nn.Conv3d:
    """Binomial weights, each channel alone."""
    conv = nn.Conv3d(2, 2, kernel, stride=stride, padding=padding, groups=2, bias=False)
    line = torch.ones(1)
    for _ in range(kernel - 1):
        line = torch.nn.functional.pad(line, (0, 1)) + torch.nn.functional.pad(line, (1, 0))
    line /= line.sum()
    with torch.no_grad():
        conv.weight.copy_(torch.einsum("i,j,k->ijk", line, line, line).expand(2, 1, -1, -1, -1))
    return conv


def _same(block: nn.Module) -> list[nn.Module]:
    """Padding as TensorFlow's "same" for kernel 3 and stride 2: at the end only."""
    return [nn.ConstantPad3d((0, 1, 0, 1, 0, 1), 0.0), block]


def _made(*blocks: nn.Module) -> Callable[[], nn.Sequential]:
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    return lambda: nn.Sequential(*blocks, nn.AdaptiveAvgPool3d(1), nn.Flatten(), head)


KNOWN: dict[str, Known] = {
    "5 / 2, padded": Known(_made(_filter(5, 2, 2)), 32, 2),
    "5 / 2, 3 / 2, 3 / 1, padded": Known(
        _made(_filter(5, 2, 2), _blur(3, 2, 1), _blur(3, 1, 1)), 32, 4
    ),
    "5 / 2, max-pooling 3 / 2, 3 / 1, padded": Known(
        _made(_filter(5, 2, 2), nn.MaxPool3d(3, 2, 1), _blur(3, 1, 1)), 32, 4
    ),
    "5 / 2, max-pooling 3 / 2, padded": Known(
        _made(_filter(5, 2, 2), nn.MaxPool3d(3, 2, 1)), 32, 4
    ),
    "7 / 4, 3 / 1, padded": Known(_made(_filter(7, 4, 3), _blur(3, 1, 1)), 32, 4),
    "3 / 2 three times, padded": Known(
        _made(_filter(3, 2, 1), _blur(3, 2, 1), _blur(3, 2, 1)), 64, 8
    ),
    "3 / 2 four times, padded": Known(
        _made(_filter(3, 2, 1), *[_blur(3, 2, 1) for _ in range(3)]), 96, 16
    ),
    "7 / 2, max-pooling 3 / 2, 3 / 2 twice, padded": Known(
        _made(_filter(7, 2, 3), nn.MaxPool3d(3, 2, 1), _blur(3, 2, 1), _blur(3, 2, 1)), 96, 16
    ),
    '3 / 2 twice, padded as "same"': Known(
        _made(*_same(_filter(3, 2, 0)), *_same(_blur(3, 2, 0))), 32, 4
    ),
    "5 / 1, 3 / 2, 5 / 2, not padded": Known(
        _made(_filter(5, 1, 0), _blur(3, 2, 0), _blur(5, 2, 0)), 32, 4
    ),
    "4 / 2 twice, padded": Known(_made(_filter(4, 2, 1), _blur(4, 2, 1)), 32, 4, even=True),
    "5 / 1, average-pooling 2 / 2 twice": Known(
        _made(_filter(5, 1, 2), nn.AvgPool3d(2), nn.AvgPool3d(2)), 32, 4, even=True
    ),
    "5 / 1, max-pooling 2 / 2 twice": Known(
        _made(_filter(5, 1, 2), nn.MaxPool3d(2), nn.MaxPool3d(2)), 32, 4, even=True
    ),
}

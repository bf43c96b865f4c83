"""Small networks with strides and padding, trained in the run."""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from planted.scenes import Images

presence = functional.binary_cross_entropy_with_logits


def _block(into: int, out: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    conv = nn.Conv3d(into, out, kernel, stride=stride, padding=padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(out), nn.ReLU())


def _network(*blocks: nn.Module, channels: int) -> nn.Sequential:
    head = (nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, 3))
    return nn.Sequential(*blocks, *head)


def halved() -> nn.Sequential:
    """Two strided convolutions with padding: the grid starts at voxel 0, its stride is 4."""
    return _network(
        _block(1, 8, 5, 2, 2), _block(8, 16, 3, 2, 1), _block(16, 24, 3, 1, 1), channels=24
    )


def fine() -> nn.Sequential:
    """Stride 2 once, so that the grid is fine: for the comparison of methods."""
    return _network(
        _block(1, 8, 5, 2, 2), _block(8, 16, 3, 1, 1), _block(16, 24, 3, 1, 1), channels=24
    )


def unpadded() -> nn.Sequential:
    """No padding: the grid leaves the border out."""
    return _network(
        _block(1, 8, 5, 1, 0), _block(8, 16, 3, 2, 0), _block(16, 24, 5, 2, 0), channels=24
    )


def pooled() -> nn.Sequential:
    """Overlapping max-pooling with padding, as a ResNet begins."""
    pool = nn.MaxPool3d(3, stride=2, padding=1)
    return _network(_block(1, 8, 5, 2, 2), pool, _block(8, 24, 3, 1, 1), channels=24)


def patched() -> nn.Sequential:
    """One wide convolution with a stride of 4."""
    return _network(_block(1, 12, 7, 4, 3), _block(12, 24, 3, 1, 1), channels=24)


STRIDED: dict[str, Callable[[], nn.Sequential]] = {
    "convolutions 5 / 2 and 3 / 2, padded": halved,
    "convolution 5 / 2, max-pooling 3 / 2, padded": pooled,
    "convolution 7 / 4, padded": patched,
    "strides 1, 2, 2, not padded": unpadded,
}


def narrow() -> nn.Sequential:
    """As `halved`, but the last convolution sees one cell."""
    return _network(
        _block(1, 8, 5, 2, 2), _block(8, 16, 3, 2, 1), _block(16, 24, 1, 1, 0), channels=24
    )


CONTROLLED: dict[str, tuple[Callable[[], nn.Sequential], int]] = {
    "the first, trained on 33 voxels": (halved, 33),
    "the first, its last convolution 1 / 1": (narrow, 32),
}


def last_block(model: nn.Sequential) -> str:
    """Name of the layer before the mean."""
    return str(len(model) - 4)


def trained(make: Callable[[], nn.Sequential], images: Images, epochs: int, seed: int) -> nn.Module:
    """Train with Adam and a falling rate; labels are classes, or which classes are there."""
    torch.manual_seed(seed)
    model = make()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = epochs * -(-len(images) // 16)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    begin = time.process_time()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(16):
            optimiser.zero_grad()
            scores, labels = model(images.volumes[batch]), images.labels[batch]
            (presence if labels.is_floating_point() else functional.cross_entropy)(
                scores, labels
            ).backward()
            optimiser.step()
            schedule.step()
    print(f"  trained {make.__name__} in {time.process_time() - begin:.0f} CPU-s", flush=True)
    return model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, images: Images) -> float:
    """Share of images whose asked class scores highest."""
    best = torch.cat([model(part).argmax(1) for part in images.volumes.split(16)])
    return float((best == images.labels).float().mean())

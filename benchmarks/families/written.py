"""Kinds of network that people write themselves: video, two streams, recurrence, bags."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _unit(in_c: int, out_c: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> nn.Sequential:
    padding = tuple(k // 2 for k in kernel)
    conv = nn.Conv3d(in_c, out_c, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.BatchNorm3d(out_c), nn.ReLU(inplace=True))


class VideoBlock(nn.Module):
    """A residual block over (time, y, x), its convolutions whole or taken apart."""

    def __init__(self, in_c: int, out_c: int, stride: int, apart: bool) -> None:
        super().__init__()
        steps = (stride,) * 3
        if apart:  # R(2+1)D: space, then time
            self.first = nn.Sequential(
                _unit(in_c, out_c, (1, 3, 3), (1, stride, stride)),
                _unit(out_c, out_c, (3, 1, 1), (stride, 1, 1)),
            )
        else:
            self.first = _unit(in_c, out_c, (3, 3, 3), steps)
        self.second = nn.Sequential(
            nn.Conv3d(out_c, out_c, 3, padding=1, bias=False), nn.BatchNorm3d(out_c)
        )
        self.short = nn.Sequential(nn.Conv3d(in_c, out_c, 1, stride), nn.BatchNorm3d(out_c))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.first(x)) + self.short(x))


class Video(nn.Module):
    """R3D or R(2+1)D: (batch, channel, time, y, x) -> classes."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.stem = _unit(3, 8, (3, 7, 7), (1, 2, 2))
        self.layer1 = VideoBlock(8, 8, 1, apart)
        self.layer2 = VideoBlock(8, 16, 2, apart)
        self.layer3 = VideoBlock(16, 16, 2, apart)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(self.avgpool(x).flatten(1))


class Inception(nn.Module):
    """Four branches side by side, as in S3D."""

    def __init__(self, in_c: int) -> None:
        super().__init__()
        one = (1, 1, 1)
        self.point = _unit(in_c, 4, one, one)
        self.wide = nn.Sequential(
            _unit(in_c, 4, one, one), _unit(4, 4, (1, 3, 3), one), _unit(4, 4, (3, 1, 1), one)
        )
        self.pooled = nn.Sequential(nn.MaxPool3d(3, 1, 1), _unit(in_c, 4, one, one))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.point(x), self.wide(x), self.pooled(x)], dim=1)


class S3D(nn.Module):
    """Separable Inception over (time, y, x); scores are averaged over the grid at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _unit(3, 8, (1, 7, 7), (1, 2, 2)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            Inception(8),
            nn.MaxPool3d(3, 2, 1),
            Inception(12),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Conv3d(12, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).mean(dim=(2, 3, 4))


def _trunk(channels: int, rank: int = 3) -> nn.Sequential:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        conv(channels, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        conv(6, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    )


class TwoStreams(nn.Module):
    """Two modalities, a trunk for each, fused before the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.flow = _trunk(1), _trunk(2)
        self.head = nn.Linear(16, 3)

    def forward(self, image: Tensor, flow: Tensor) -> Tensor:
        pooled = [t.mean(dim=(2, 3, 4)) for t in (self.image(image), self.flow(flow))]
        return self.head(torch.cat(pooled, dim=1))


class Siamese(nn.Module):
    """One trunk for two scans; the score is how alike they are."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _trunk(1)
        self.embed = nn.Linear(8, 4)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        left, right = (self.embed(self.trunk(x).mean(dim=(2, 3, 4))) for x in (before, after))
        return F.cosine_similarity(left, right, dim=1)[:, None]


class ConvLSTM(nn.Module):
    """A convolutional LSTM over time: (batch, time, channel, z, y, x) -> classes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 4
        self.stem = nn.Conv3d(1, 4, 3, stride=2, padding=1)
        self.gates = nn.Conv3d(4 + self.hidden, 4 * self.hidden, 3, padding=1)
        self.out = nn.ReLU()
        self.head = nn.Linear(self.hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        frames = [self.stem(frame) for frame in x.unbind(dim=1)]
        state = torch.zeros_like(frames[0])
        memory = torch.zeros_like(state)
        for frame in frames:
            i, f, o, g = self.gates(torch.cat([frame, state], dim=1)).chunk(4, dim=1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            state = o.sigmoid() * memory.tanh()
        return self.head(self.out(state).mean(dim=(2, 3, 4)))


class Recurrent(nn.Module):
    """One block that is called several times, as in unrolled and weight-shared networks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 6, 3, stride=2, padding=1)
        self.block = nn.Sequential(nn.Conv3d(6, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + self.block(x)
        return self.head(x.mean(dim=(2, 3, 4)))


class Bag(nn.Module):
    """Attention over the instances of a bag: (instance, channel, z, y, x) -> one row of scores."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _trunk(1)
        self.attention = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.trunk(x).mean(dim=(2, 3, 4))
        weights = self.attention(pooled).softmax(dim=0)
        return self.head((weights * pooled).sum(dim=0, keepdim=True))


class AttentionPooling(nn.Module):
    """Voxels of the last layer are weighted by an attention of their own before the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.weight, self.head = _trunk(1), nn.Conv3d(8, 1, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        weight = self.weight(x).flatten(2).softmax(dim=2)
        return self.head((x.flatten(2) * weight).sum(dim=2))


class Plain(nn.Module):
    """Convolutions, pooling, a linear layer: any rank, any way to hand the scores on."""

    def __init__(
        self, rank: int = 3, classes: int = 3, shape: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.trunk, self.head, self.shape = _trunk(1, rank), nn.Linear(8, classes), shape

    def forward(self, x: Tensor) -> Tensor:
        scores = self.head(self.trunk(x).flatten(2).mean(dim=2))
        return scores if self.shape is None else self.shape(scores)


class WithFacts(nn.Module):
    """An image and a row of facts about the patient."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.facts = _trunk(1), nn.Linear(5, 8)
        self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, image: Tensor, facts: Tensor) -> Tensor:
        pooled = self.trunk(image).mean(dim=(2, 3, 4))
        return self.head(torch.cat([pooled, self.facts(facts)], dim=1))


class Volumetric(nn.Module):
    """The classic: convolutions, max pooling, and fully connected layers with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(1, 6, 3), nn.ReLU(True), nn.MaxPool3d(2),
            nn.Conv3d(6, 8, 3), nn.ReLU(True), nn.MaxPool3d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(8 * 6**3, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))

"""Images whose truth is known: which object decides, and where it is."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from respondcam.cryoet import (
    Imaging,
    Poses,
    crowded_boxes,
    density_radius,
    phantom,
    random_poses,
    simulate_subtomograms,
)

SIZE = 32
SHAPES = ("ball", "cube", "cross")
PARTICLES = ("groel", "apoferritin", "rubisco")
VOXEL_ANGSTROM = 20.0


@dataclass(frozen=True)
class Images:
    """Images (image, 1, z, y, x), the asked class of each, and the asked object's voxels."""

    volumes: Tensor
    labels: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def shapes(count: int, generator: torch.Generator, *, pairs: bool) -> Images:
    """SE3D's way: objects of known classes anywhere in noise; in pairs, the first one is asked."""
    labels = torch.arange(count) % len(SHAPES)
    volumes = 0.15 * torch.randn(count, SIZE, SIZE, SIZE, generator=generator)
    masks = torch.zeros(count, SIZE, SIZE, SIZE, dtype=torch.bool)
    for image in range(count):
        first, second = _apart(generator)
        masks[image] = _shape(int(labels[image]), first)
        volumes[image] += masks[image]
        if pairs:
            other = (int(labels[image]) + 1 + int(torch.randint(2, (), generator=generator))) % 3
            volumes[image] += _shape(other, second)
    return Images(_standard(volumes[:, None]), labels, masks)


def _shape(kind: int, centre: Tensor) -> Tensor:
    axes = torch.meshgrid(*[torch.arange(SIZE)] * 3, indexing="ij")
    z, y, x = (axis - place for axis, place in zip(axes, centre.tolist(), strict=True))
    if kind == 0:
        return z**2 + y**2 + x**2 <= 12
    if kind == 1:
        return (z.abs() <= 2) & (y.abs() <= 2) & (x.abs() <= 2)
    on = [(a.abs() <= 1) & (b.abs() <= 1) for a, b in ((y, x), (z, x), (z, y))]
    return (on[0] | on[1] | on[2]) & (z.abs() <= 4) & (y.abs() <= 4) & (x.abs() <= 4)


def _apart(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    while True:
        first, second = torch.randint(5, SIZE - 5, (2, 3), generator=generator)
        if (first - second).float().norm() >= 12:
            return first, second


def specks(count: int, generator: torch.Generator, *, pairs: bool, size: int = SIZE) -> Images:
    """Small objects of three kinds, bright, dark, and bright in dark, away from the border.

    In pairs, as to learn from, each kind is there in every second image, and the labels say which;
    else there is one object in each image, and the label is its kind.
    """
    volumes = 0.1 * torch.randn(count, size, size, size, generator=generator)
    masks = torch.zeros(count, size, size, size, dtype=torch.bool)
    there = torch.rand(count, 3, generator=generator) < 0.5
    if not pairs:
        there = functional.one_hot(torch.arange(count) % 3, 3).bool()
    for image in range(count):
        placed: list[Tensor] = []
        for kind in there[image].nonzero()[:, 0].tolist():
            centre = torch.randint(6, size - 6, (3,), generator=generator)
            while any((centre - other).float().norm() < 10 for other in placed):
                centre = torch.randint(6, size - 6, (3,), generator=generator)
            placed.append(centre)
            inside, core = ball(centre, 5, size), ball(centre, 2, size)
            volumes[image] += (inside, -1.0 * inside, 2.0 * core - 1.0 * inside)[kind]
            masks[image] |= inside
    labels = there.float() if pairs else there.long().argmax(dim=1)
    return Images(4 * volumes[:, None], labels, masks)


def ball(centre: Tensor, radius_squared: float, size: int) -> Tensor:
    """Voxels of a cube that are no further from the centre."""
    axes = torch.meshgrid(*[torch.arange(size)] * 3, indexing="ij")
    away = [(axis - place) ** 2 for axis, place in zip(axes, centre.tolist(), strict=True)]
    return sum(away[1:], away[0]) <= radius_squared


def particles(count: int, generator: torch.Generator, *, pairs: bool) -> Images:
    """Subtomograms with the missing wedge: one particle off the middle, or two of two kinds."""
    grid = {"size": 16, "voxel_size_angstrom": VOXEL_ANGSTROM}
    densities = torch.stack([torch.tensor(phantom(p, **grid).voxels) for p in PARTICLES])
    radii = torch.tensor([density_radius(density) for density in densities])
    imaging = Imaging(VOXEL_ANGSTROM, resolution_angstrom=40.0, snr=1.0)
    if not pairs:
        labels = torch.arange(count) % len(PARTICLES)
        poses = random_poses(count, max_shift_voxels=1.0, generator=generator)
        poses.shifts.mul_((SIZE / 2 - radii[labels]).clamp(min=0)[:, None])
        kinds = labels
    else:
        found, drawn = crowded_boxes(radii, 3 * count, 2, size=SIZE, generator=generator)
        keep = (found[:, 0] != found[:, 1]).nonzero()[:count, 0]
        kinds, poses = found[keep], Poses(drawn.rotations[keep], drawn.shifts[keep])
        labels = kinds[:, 0]
    boxes = simulate_subtomograms(densities, kinds, poses, imaging, size=SIZE, generator=generator)
    masks = boxes.masks[:, 0] if pairs else boxes.masks
    return Images(_standard(boxes.volumes), labels, masks)


def _standard(volumes: Tensor) -> Tensor:
    mean, spread = volumes.mean((2, 3, 4), keepdim=True), volumes.std((2, 3, 4), keepdim=True)
    return (volumes - mean) / spread

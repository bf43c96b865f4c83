"""Simulated subtomograms: densities turned, moved, imaged, with everything about them known."""

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from respondcam.cryoet.imaging import Imaging, image_boxes
from respondcam.cryoet.poses import Poses, place_densities
from respondcam.errors import InputError

# a particle ends where its density falls below this share of its own maximum
MASK_LEVEL = 0.25


@dataclass(frozen=True, eq=False)
class Subtomograms:
    """Images of particles and the truth about them.

    Parameters
    ----------
    volumes
        Images, each with mean 0 and standard deviation 1.
    labels
        Index of each particle's density.
    poses
        Rotation and position of each particle.
    masks
        Voxels that belong to each particle.
    """

    volumes: Float[Tensor, "batch 1 z y x"]
    labels: Int[Tensor, "batch *particle"]
    poses: Poses
    masks: Bool[Tensor, "batch *particle z y x"]


def simulate_subtomograms(
    densities: Float[Tensor, "density depth height width"],
    labels: Int[Tensor, "batch *particle"],
    poses: Poses,
    imaging: Imaging,
    *,
    size: int,
    density_voxel_size_angstrom: float | None = None,
    generator: torch.Generator,
) -> Subtomograms:
    """Simulate boxes that hold one particle each, or several when `labels` has a second axis.

    Parameters
    ----------
    densities
        The kinds of particles.
    labels
        Which density: (batch,) for one particle per box, (batch, particle) for several.
    poses
        Rotations and shifts of the same shape as `labels`, for example from `random_poses`.
    imaging
        Voxel size, missing wedge, resolution, contrast transfer and noise.
    size
        Voxels along each axis of the boxes.
    density_voxel_size_angstrom
        Of `densities`, where it differs from the images' own.
    generator
        Source of the noise; the images are on the device of `densities`.

    Raises
    ------
    InputError
        If a density does not fit into the box in every orientation, is empty, or is not there.

    Examples
    --------
    >>> from respondcam.cryoet.poses import random_poses
    >>> generator = torch.Generator().manual_seed(0)
    >>> densities = torch.zeros(2, 16, 16, 16)
    >>> densities[0, 6:10, 6:10, 6:10] = densities[1, 4:12, 7:9, 7:9] = 1
    >>> labels = torch.tensor([0, 1, 1])
    >>> poses = random_poses(3, max_shift_voxels=1.0, generator=generator)
    >>> imaging = Imaging(snr=0.5)
    >>> boxes = simulate_subtomograms(
    ...     densities, labels, poses, imaging, size=16, generator=generator)
    >>> boxes.volumes.shape, boxes.masks.shape
    (torch.Size([3, 1, 16, 16, 16]), torch.Size([3, 16, 16, 16]))
    """
    ratio = imaging.voxel_size_angstrom / (
        density_voxel_size_angstrom or imaging.voxel_size_angstrom
    )
    _check(densities, labels, poses, size=size * ratio)
    flat = labels.flatten().to(densities.device)
    each = Poses(poses.rotations.reshape(-1, 3, 3), poses.shifts.reshape(-1, 3))
    placed = place_densities(densities[flat], each, size=size, density_voxels_per_voxel=ratio)
    maxima = reduce(densities, "density z y x -> density 1 1 1", "max")
    masks = placed > MASK_LEVEL * maxima[flat]
    boxes = rearrange(placed, "(batch particle) z y x -> batch particle z y x", batch=len(labels))
    images = image_boxes(boxes.sum(dim=1), imaging, generator=generator)
    return Subtomograms(
        volumes=images[:, None],
        labels=labels,
        poses=poses,
        masks=masks.reshape(*labels.shape, size, size, size),
    )


def density_radius(density: Float[Tensor, "z y x"]) -> float:
    """Largest distance, in voxels, of a particle's voxels from the centre of its box.

    Examples
    --------
    >>> density = torch.zeros(5, 5, 5)
    >>> density[2, 2, 4] = 1.0
    >>> density_radius(density)
    2.5
    """
    inside = (density > MASK_LEVEL * density.max()).nonzero()
    middle = (torch.tensor(density.shape, device=density.device) - 1) / 2
    # half a voxel more: voxels have a width
    return (inside - middle).norm(dim=1).max().item() + 0.5


def _check(densities: Tensor, labels: Tensor, poses: Poses, *, size: float) -> None:
    if poses.shifts.shape[:-1] != labels.shape:
        message = (
            f"poses of shape {tuple(poses.shifts.shape[:-1])} do not match labels of shape "
            f"{tuple(labels.shape)}; draw them with random_poses(*labels.shape, ...)"
        )
        raise InputError(message)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(densities):
        message = (
            f"labels from {int(labels.min())} to {int(labels.max())} do not all name one of the "
            f"{len(densities)} densities; they count from 0"
        )
        raise InputError(message)
    for index in labels.unique().tolist():
        density = densities[index]
        if not bool(density.isfinite().all()) or not bool((density > 0).any()):
            message = f"density {index} has no positive voxel, or one that is not a finite number"
            raise InputError(message)
        diameter = 2 * density_radius(density)
        if diameter > size:
            message = (
                f"density {index} is larger than the box: {diameter:.1f} of its voxels across "
                f"when turned, where {size:.1f} fit; give a larger size or larger voxels"
            )
            raise InputError(message)

"""Several particles in one box, none touching another."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from respondcam.cryoet.poses import Poses, uniform_rotations
from respondcam.errors import InputError

_DRAWS = 256  # placements of one set of particles that are tried at once
_SETS = 200  # sets of particles that are tried before a box is given up


def crowded_boxes(
    radii_voxels: Float[Tensor, " kind"],
    boxes: int,
    particles: int,
    *,
    size: int,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "box particle"], Poses]:
    """Draw which particles are in each box, where, and how they are turned.

    Every particle is kept inside the box and apart from the others in any orientation, by the
    sphere around it. Kinds are drawn evenly, without regard to each other; a set of particles that
    finds no place is drawn anew, so that large kinds are rarer where boxes are crowded.

    Parameters
    ----------
    radii_voxels
        Of the sphere around each kind of particle, for example from `density_radius`.
    boxes, particles
        How many boxes, and how many particles in each.
    size
        Voxels along each axis of the box.
    generator
        Source of the random numbers.

    Returns
    -------
    labels, poses
        Kind (box, particle) of each particle, and its pose.

    Raises
    ------
    InputError
        If that many particles find no place in the box, whichever they are.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> labels, poses = crowded_boxes(
    ...     torch.tensor([4.0, 6.0]), 5, 2, size=24, generator=generator)
    >>> labels.shape, poses.shifts.shape
    (torch.Size([5, 2]), torch.Size([5, 2, 3]))
    """
    drawn = [_box(radii_voxels, particles, size, generator) for _ in range(boxes)]
    labels, shifts = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    rotations = uniform_rotations(boxes * particles, generator=generator)
    rotations = rearrange(rotations, "(box particle) i j -> box particle i j", box=boxes)
    return labels, Poses(rotations, shifts)


def _box(
    radii: Tensor, particles: int, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Kinds (particle,) and places (particle, 3) of one box."""
    device = generator.device
    for _ in range(_SETS):
        kinds = torch.randint(len(radii), (particles,), generator=generator, device=device)
        radius = radii.to(device)[kinds]
        room = size / 2 - radius
        if bool((room < 0).any()):
            continue
        unit = torch.rand(_DRAWS, particles, 3, generator=generator, device=device)
        places = (2 * unit - 1) * room[:, None]
        distances = (places[:, :, None] - places[:, None]).norm(dim=-1)
        closest = radius[:, None] + radius
        closest.fill_diagonal_(0)
        good = (distances >= closest).all(dim=(1, 2)).nonzero()
        if len(good):
            return kinds, places[good[0, 0]]
    message = (
        f"{particles} particles with radii from {radii.min():.1f} to {radii.max():.1f} voxels "
        f"find no place in a box of {size} voxels; give a larger box or fewer particles"
    )
    raise InputError(message)

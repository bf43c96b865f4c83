"""Orientations and positions of particles in a box, and the densities put there.

Vectors and rotation matrices are in **x, y, z** order, as in the affine of a `Volume`, while arrays
are (z, y, x). A point ``p`` of a density, measured from the density's centre, goes to
``rotation @ p + shift`` in the box, measured from the box's centre. The centre of an axis of n
voxels is (n - 1) / 2; for even n that is half a voxel below the n / 2 of RELION.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from respondcam.errors import InputError


@dataclass(frozen=True, eq=False)
class Poses:
    """Where particles are and how they are turned.

    Parameters
    ----------
    rotations
        Matrices (..., 3, 3) in x, y, z order.
    shifts
        Positions (..., 3) of the particles' centres from the box's centre, in voxels, x, y, z.
    """

    rotations: Float[Tensor, "*particles 3 3"]
    shifts: Float[Tensor, "*particles 3"]


def uniform_rotations(count: int, *, generator: torch.Generator) -> Float[Tensor, "count 3 3"]:
    """Rotation matrices that are uniform over all orientations.

    Four independent normal numbers, normalised, are a uniform unit quaternion (M. E. Muller,
    "A note on a method for generating points uniformly on n-dimensional spheres", Commun. ACM 2
    (1959) 19), and unit quaternions cover the rotations evenly.

    Examples
    --------
    >>> rotations = uniform_rotations(5, generator=torch.Generator().manual_seed(0))
    >>> torch.linalg.det(rotations).allclose(torch.ones(5))
    True
    """
    q = torch.randn(count, 4, generator=generator, dtype=torch.float64, device=generator.device)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=1),
    ]
    return torch.stack(rows, dim=1).float()


def random_poses(
    *particles: int, max_shift_voxels: float = 2.0, generator: torch.Generator
) -> Poses:
    """Uniform orientations, and shifts that are uniform in a cube around the box's centre.

    Parameters
    ----------
    particles
        Shape of the set of particles: ``random_poses(64)`` for 64 boxes of one particle,
        ``random_poses(64, 2)`` for two particles in each.
    max_shift_voxels
        Half the edge of the cube.
    generator
        Source of the random numbers; the poses are on its device.

    Examples
    --------
    >>> poses = random_poses(64, max_shift_voxels=3.0, generator=torch.Generator().manual_seed(0))
    >>> poses.rotations.shape, bool(poses.shifts.abs().max() <= 3)
    (torch.Size([64, 3, 3]), True)
    """
    if max_shift_voxels < 0:
        message = f"max_shift_voxels={max_shift_voxels} must not be negative"
        raise InputError(message)
    count = int(torch.Size(particles).numel())
    rotations = uniform_rotations(count, generator=generator).reshape(*particles, 3, 3)
    unit = torch.rand(*particles, 3, generator=generator, device=generator.device)
    return Poses(rotations, (2 * unit - 1) * max_shift_voxels)


def place_densities(
    densities: Float[Tensor, "particle z y x"],
    poses: Poses,
    *,
    size: int,
    density_voxels_per_voxel: float = 1.0,
) -> Float[Tensor, "particle size size size"]:
    """Turn each density, move it, and put it into a box of its own, by trilinear interpolation.

    Parameters
    ----------
    densities
        One density per particle, in a box of any size.
    poses
        Rotations (particle, 3, 3) and shifts (particle, 3) in voxels of the box.
    size
        Voxels along each axis of the box.
    density_voxels_per_voxel
        How many voxels of the density go into one of the box: 2 for a density in 5 Å voxels and a
        box in 10 Å voxels. Such a density must hold nothing finer than the box can carry.

    Examples
    --------
    >>> still = Poses(torch.eye(3)[None], torch.tensor([[1.0, 0.0, 0.0]]))
    >>> density = torch.zeros(1, 3, 3, 3)
    >>> density[0, 1, 1, 1] = 1
    >>> place_densities(density, still, size=3)[0, 1, 1].round(decimals=3).tolist()
    [0.0, 0.0, 1.0]
    """
    inverse = rearrange(poses.rotations, "particle i j -> particle j i").to(densities)
    shift = einsum(inverse, poses.shifts.to(densities), "particle i j, particle j -> particle i")
    # from the box's normalised coordinates (edges at -1 and 1) to the density's
    edges = torch.tensor(densities.shape[:0:-1], dtype=densities.dtype, device=densities.device)
    scale = density_voxels_per_voxel / edges
    theta = torch.cat([inverse * (size * scale)[:, None], -2 * (shift * scale)[..., None]], dim=2)
    boxes = F.grid_sample(densities[:, None], _grid(theta, size), align_corners=False)
    return boxes[:, 0]


def _grid(
    theta: Float[Tensor, "particle 3 4"], size: int
) -> Float[Tensor, "particle size size size 3"]:
    """Do what `torch.nn.functional.affine_grid` does for cubes, in a fifth of its time."""
    centres = (2 * torch.arange(size, device=theta.device, dtype=theta.dtype) + 1) / size - 1
    along_x, along_y, along_z, moved = theta[..., None, None, None].unbind(2)
    planes = along_z * centres[:, None, None] + along_y * centres[:, None] + moved
    return rearrange(planes + along_x * centres, "particle xyz a b c -> particle a b c xyz")

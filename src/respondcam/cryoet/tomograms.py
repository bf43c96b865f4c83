"""Small crowded tomograms: many particles in one volume, each one's place and pose known."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from respondcam.cryoet.imaging import Imaging, image_boxes
from respondcam.cryoet.poses import Poses, place_densities, uniform_rotations
from respondcam.cryoet.subtomograms import MASK_LEVEL
from respondcam.errors import InputError

_DRAWS = 4096  # places tried at once for one particle
_TRIES = 25  # times that
_FAINT = 1e-3  # of the maximum: what a density may lose at the border of its box


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A simulated tomogram and the truth about it.

    Parameters
    ----------
    volume
        The image, with mean 0 and standard deviation 1.
    labels
        Index of each particle's density.
    poses
        Rotations, and positions from the tomogram's centre in voxels, x, y, z.
    particles
        Which particle each voxel belongs to: 1 for the first, 0 for none.
    """

    volume: Float[Tensor, "z y x"]
    labels: Int[Tensor, " particle"]
    poses: Poses
    particles: Int[Tensor, "z y x"]

    @property
    def positions(self) -> Float[Tensor, "particle 3"]:
        """Voxel indices x, y, z of the particles' centres, from 0, fractions kept."""
        return self.poses.shifts + _middle(self.volume.shape).to(self.poses.shifts)


def crowd(
    radii_voxels: Float[Tensor, " kind"],
    particles: int,
    *,
    shape: tuple[int, int, int],
    generator: torch.Generator,
) -> tuple[Int[Tensor, " particle"], Poses]:
    """Draw kinds, places and orientations such that no two particles touch.

    Each is kept inside the tomogram and apart from the others by the sphere around it. Kinds are
    drawn evenly; the large ones are put down first, since they find a place least easily.

    Parameters
    ----------
    radii_voxels
        Of the sphere around each kind of particle, for example from `density_radius`.
    particles
        How many.
    shape
        Voxels of the tomogram along z, y, x.
    generator
        Source of the random numbers.

    Raises
    ------
    InputError
        If a kind does not fit into the tomogram, or they do not all find a place.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> labels, poses = crowd(
    ...     torch.tensor([3.0, 5.0]), 8, shape=(16, 40, 40), generator=generator)
    >>> labels.shape, poses.shifts.shape
    (torch.Size([8]), torch.Size([8, 3]))
    """
    _check_crowd(radii_voxels, particles, shape)
    device = generator.device
    labels = torch.randint(len(radii_voxels), (particles,), generator=generator, device=device)
    radii = radii_voxels.to(device)[labels]
    edges = torch.tensor(shape[::-1], dtype=radii.dtype, device=device)
    shifts = torch.zeros(particles, 3, dtype=radii.dtype, device=device)
    placed: list[int] = []
    for index in radii.argsort(descending=True, stable=True).tolist():
        room = edges / 2 - radii[index]
        apart = radii[placed] + radii[index]
        place = _free_place(room, shifts[placed], apart, generator)
        if place is None:
            raise InputError(
                f"only {len(placed)} of {particles} particles find a place in a tomogram of "
                f"{' x '.join(map(str, shape))} voxels (z, y, x); give fewer, or a larger one"
            )
        shifts[index] = place
        placed.append(index)
    return labels, Poses(uniform_rotations(particles, generator=generator), shifts)


def simulate_tomogram(
    densities: Float[Tensor, "density depth height width"],
    labels: Int[Tensor, " particle"],
    poses: Poses,
    imaging: Imaging,
    *,
    shape: tuple[int, int, int],
    density_voxel_size_angstrom: float | None = None,
    generator: torch.Generator,
) -> Tomogram:
    """Put particles into a tomogram and image it by the Fourier route.

    Parameters
    ----------
    densities
        The kinds of particles.
    labels
        Which density each particle is.
    poses
        Rotations, and positions from the tomogram's centre in voxels, for example from `crowd`.
        A particle may reach over the border and is then cut there.
    imaging
        As for subtomograms; the signal-to-noise ratio is that of the whole tomogram.
    shape
        Voxels of the tomogram along z, y, x.
    density_voxel_size_angstrom
        Of `densities`, where it differs from the tomogram's own.
    generator
        Source of the noise.

    Raises
    ------
    InputError
        If labels and poses do not match, a label names no density, or nothing is in the tomogram.

    Examples
    --------
    >>> from respondcam.cryoet.subtomograms import density_radius
    >>> densities = torch.zeros(1, 9, 9, 9)
    >>> densities[0, 2:7, 3:6, 3:6] = 1
    >>> generator = torch.Generator().manual_seed(0)
    >>> radii = torch.tensor([density_radius(densities[0])])
    >>> labels, poses = crowd(radii, 4, shape=(12, 32, 32), generator=generator)
    >>> tomogram = simulate_tomogram(
    ...     densities, labels, poses, Imaging(snr=1.0), shape=(12, 32, 32), generator=generator)
    >>> tomogram.volume.shape, tomogram.positions.shape
    (torch.Size([12, 32, 32]), torch.Size([4, 3]))
    """
    _check(densities, labels, poses, shape)
    voxel = imaging.voxel_size_angstrom
    ratio = voxel / (density_voxel_size_angstrom or voxel)
    volume = torch.zeros(shape, dtype=densities.dtype, device=densities.device)
    owners = torch.zeros(shape, dtype=torch.int32, device=densities.device)
    for index, label in enumerate(labels.tolist()):
        pose = Poses(poses.rotations[index], poses.shifts[index])
        _put(volume, owners, densities[label], pose, ratio=ratio, number=index + 1)
    image = image_boxes(volume[None], imaging, generator=generator)[0]
    return Tomogram(image, labels, poses, owners)


def _put(
    volume: Tensor, owners: Tensor, density: Tensor, pose: Poses, *, ratio: float, number: int
) -> None:
    """Add one particle, turned in a small box of its own, to the volume."""
    size = math.ceil(2 * _reach(density) / ratio) + 2
    first = pose.shifts.double().cpu() + _middle(volume.shape) - (size - 1) / 2
    corner = first.round()
    rest = Poses(pose.rotations[None], (first - corner)[None].to(pose.shifts))
    box = place_densities(density[None], rest, size=size, density_voxels_per_voxel=ratio)[0]
    inside, part = [], []
    for start, edge in zip(corner.flip(0).int().tolist(), volume.shape, strict=True):
        low, high = max(start, 0), min(start + size, edge)
        if low >= high:
            return
        inside.append(slice(low, high))
        part.append(slice(low - start, high - start))
    place, cut = tuple(inside), box[tuple(part)]
    volume[place] += cut
    owners[place] = torch.where(cut > MASK_LEVEL * density.max(), number, owners[place])


def _reach(density: Tensor) -> float:
    """Distance in voxels from the centre beyond which nothing is left to speak of."""
    present = (density > _FAINT * density.max()).nonzero().cpu()
    return float((present.flip(1) - _middle(density.shape)).norm(dim=1).max()) + 1


def _free_place(
    room: Tensor, others: Tensor, apart: Tensor, generator: torch.Generator
) -> Tensor | None:
    for _ in range(_TRIES):
        unit = torch.rand(_DRAWS, 3, generator=generator, device=generator.device)
        places = (2 * unit - 1) * room
        free = (torch.cdist(places, others) >= apart).all(dim=1).nonzero()
        if len(free):
            return places[free[0, 0]]
    return None


def _middle(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Voxel index x, y, z of the centre."""
    return (torch.tensor(tuple(shape)[::-1], dtype=torch.float64) - 1) / 2


def _check_crowd(radii: Tensor, particles: int, shape: tuple[int, int, int]) -> None:
    if particles < 1:
        raise InputError(f"{particles=}; a tomogram holds one particle or more")
    if 2 * float(radii.max()) > min(shape):
        raise InputError(
            f"the largest particle is {2 * float(radii.max()):.1f} voxels across, and the "
            f"tomogram of {' x '.join(map(str, shape))} voxels (z, y, x) too thin for it"
        )


def _check(densities: Tensor, labels: Tensor, poses: Poses, shape: tuple[int, int, int]) -> None:
    if poses.shifts.shape[:-1] != labels.shape:
        raise InputError(
            f"{tuple(poses.shifts.shape[:-1])} poses do not match {tuple(labels.shape)} labels"
        )
    if not len(labels) or not 0 <= int(labels.min()) <= int(labels.max()) < len(densities):
        raise InputError(
            f"the labels do not all name one of the {len(densities)} densities, from 0, or there "
            f"are none"
        )
    if min(shape) < 2:
        raise InputError(f"{shape=} (z, y, x) is too small for a tomogram")

"""What a simulated data set is made of, before any image is: settings, labels, poses, names."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.cryoet.crowding import crowded_boxes
from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.particles_star import ParticleList
from respondcam.cryoet.poses import Poses, random_poses
from respondcam.cryoet.projections import tilt_angles
from respondcam.cryoet.subtomograms import density_radius
from respondcam.cryoet.tomograms import crowd
from respondcam.errors import InputError

Route = Literal["fourier", "projection"]


@dataclass(frozen=True)
class Simulation:
    """What to simulate.

    Parameters
    ----------
    imaging
        Voxel size, tilts, resolution, contrast transfer and noise.
    size
        Voxels along each axis of a subtomogram.
    per_class
        Subtomograms for each kind; with several particles in a box, whose kinds are drawn, there
        are as many boxes in all.
    particles
        In each subtomogram or tomogram.
    max_shift_voxels
        Largest shift of a single particle along each axis.
    route
        ``"fourier"`` or ``"projection"``.
    tilt_step_degrees
        Of the tilt series of the projection route.
    tomogram
        Voxels along z, y, x, for tomograms instead of subtomograms.
    tomograms
        How many of these.
    masks
        Write masks, too.
    seed
        Of everything that is drawn.

    Raises
    ------
    InputError
        If a value is impossible, or two do not go together.

    Examples
    --------
    >>> Simulation(per_class=5).route
    'fourier'
    """

    imaging: Imaging = field(default_factory=lambda: Imaging(snr=0.1))
    size: int = 40
    per_class: int = 10
    particles: int = 1
    max_shift_voxels: float = 2.0
    route: Route = "fourier"
    tilt_step_degrees: float = 3.0
    tomogram: tuple[int, int, int] | None = None
    tomograms: int = 1
    masks: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("size", 8), ("per_class", 1), ("particles", 1), ("tomograms", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}; it must be {least} or more")
        if not 0 <= self.max_shift_voxels < self.size / 2:
            raise InputError(
                f"max_shift_voxels={self.max_shift_voxels} must lie between 0 and half the size"
            )
        if self.route not in get_args(Route):
            raise InputError(f"route={self.route!r}; accepted are {', '.join(get_args(Route))}")
        if self.route == "projection":
            tilt_angles(self.imaging.tilt_degrees, self.tilt_step_degrees)
            if self.tomogram:
                raise InputError(
                    "tomograms are simulated by the fourier route; the projection route is for "
                    "subtomograms"
                )
        if self.tomogram is not None and min(self.tomogram) < 8:
            raise InputError(f"tomogram={self.tomogram} voxels (z, y, x); 8 or more are needed")


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything but the noise: labels (image, particle), poses, and files in the folder."""

    files: tuple[str, ...]
    names: tuple[str, ...]
    labels: Tensor
    poses: Poses


def make_plan(
    simulation: Simulation, densities: Float[Tensor, "density z y x"], names: tuple[str, ...]
) -> Plan:
    """Draw classes, places and orientations of all particles of a data set.

    Raises
    ------
    InputError
        If particles that share a volume find no place in it.

    Examples
    --------
    >>> densities = torch.zeros(1, 8, 8, 8)
    >>> densities[0, 3:5, 3:5, 3:5] = 1
    >>> make_plan(Simulation(size=8, per_class=2), densities, ("dot",)).files
    ('subtomograms/000000-dot.mrc', 'subtomograms/000001-dot.mrc')
    """
    generator = seeded(simulation.seed, "poses")
    if not simulation.tomogram and simulation.particles == 1:
        return _single(simulation, names, generator)
    radii = torch.tensor([density_radius(density) for density in densities])
    if simulation.tomogram:
        drawn = [
            crowd(radii, simulation.particles, shape=simulation.tomogram, generator=generator)
            for _ in range(simulation.tomograms)
        ]
        labels = torch.stack([one for one, _ in drawn])
        rotations = torch.stack([one.rotations for _, one in drawn])
        poses = Poses(rotations, torch.stack([one.shifts for _, one in drawn]))
        files = tuple(f"tomograms/tomogram-{index:04d}.mrc" for index in range(len(labels)))
        return Plan(files, names, labels, poses)
    count = simulation.per_class * len(names)
    labels, poses = crowded_boxes(
        radii, count, simulation.particles, size=simulation.size, generator=generator
    )
    return Plan(
        tuple(f"subtomograms/{index:06d}.mrc" for index in range(count)), names, labels, poses
    )


def _single(simulation: Simulation, names: tuple[str, ...], generator: torch.Generator) -> Plan:
    """One particle in each box, the classes one after the other."""
    labels = torch.arange(len(names)).repeat_interleave(simulation.per_class)
    poses = random_poses(
        len(labels), 1, max_shift_voxels=simulation.max_shift_voxels, generator=generator
    )
    files = tuple(
        f"subtomograms/{index:06d}-{names[label]}.mrc"
        for index, label in enumerate(labels.tolist())
    )
    return Plan(files, names, labels[:, None], poses)


def particle_list(plan: Plan, simulation: Simulation) -> ParticleList:
    """List every particle with its file, class, position and pose.

    Examples
    --------
    >>> simulation = Simulation(size=8, per_class=1, max_shift_voxels=0.0)
    >>> plan = make_plan(simulation, torch.ones(1, 8, 8, 8), ("dot",))
    >>> particle_list(plan, simulation).positions
    array([[3.5, 3.5, 3.5]])
    """
    shape = simulation.tomogram or (simulation.size,) * 3
    middle = (torch.tensor(shape[::-1], dtype=torch.float64) - 1) / 2
    alone = plan.labels.shape[1] == 1 and not simulation.tomogram
    positions = plan.poses.shifts.double().reshape(-1, 3) + middle
    return ParticleList(
        files=tuple(file for file in plan.files for _ in range(plan.labels.shape[1])),
        classes=tuple(plan.names[label] for label in plan.labels.flatten().tolist()),
        positions=positions.numpy(),
        rotations=plan.poses.rotations.double().reshape(-1, 3, 3).numpy(),
        voxel_size_angstrom=simulation.imaging.voxel_size_angstrom,
        box_size=simulation.size if alone else None,
    )


def seeded(seed: int, purpose: str) -> torch.Generator:
    """Random numbers of their own for each purpose, the same on every machine.

    Examples
    --------
    >>> seeded(0, "noise 8").initial_seed() == seeded(0, "noise 16").initial_seed()
    False
    """
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") % 2**63)

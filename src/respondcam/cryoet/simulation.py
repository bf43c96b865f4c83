"""Data sets of simulated subtomograms or tomograms, written to a folder with their truth.

The folder holds

- ``simulation.json``: what was asked for, written first; it tells whether a folder that is there
  already belongs to the same run, which is then continued;
- ``densities/``: the kinds of particles;
- ``subtomograms/`` or ``tomograms/``: the images;
- ``masks/`` on request: which particle each voxel belongs to, 0 for none;
- ``particles.star``: class, place and pose of every particle, written last.

The same settings give the same bytes: images are made in groups whose noise depends on the seed
and the group's number alone, and no file holds the time of day.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from respondcam._extras import require
from respondcam.cryoet.particles_star import write_particles
from respondcam.cryoet.poses import Poses
from respondcam.cryoet.projections import simulate_by_projection
from respondcam.cryoet.simulation_files import STAR, claim_folder, run_record
from respondcam.cryoet.simulation_plan import (
    Plan,
    Simulation,
    make_plan,
    particle_list,
    seeded,
)
from respondcam.cryoet.subtomograms import density_radius, simulate_subtomograms
from respondcam.cryoet.templates import stacked
from respondcam.cryoet.tomograms import simulate_tomogram
from respondcam.errors import InputError
from respondcam.volume import Volume, write_volume

__all__ = ["Simulation", "Written", "write_simulation"]
_GROUP = 8  # boxes made at once


@dataclass(frozen=True)
class Written:
    """What is in the folder.

    Parameters
    ----------
    folder
        Where.
    star
        The list of particles.
    images, particles
        How many.
    made
        How many of the images are new; the others were there from an earlier run.
    """

    folder: Path
    star: Path
    images: int
    particles: int
    made: int


def write_simulation(
    simulation: Simulation,
    templates: Mapping[str, Volume],
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """Simulate a data set into a folder; continue where an interrupted run stopped.

    Parameters
    ----------
    simulation
        What to make.
    templates
        Names and densities, for example from `load_templates`, in the images' voxel size.
    folder
        Where to; made if it is not there.
    device
        Where to compute. Random numbers are those of the CPU everywhere.
    on_progress
        Called with the number of images that are there and that are wanted.

    Raises
    ------
    InputError
        If the folder holds another run, or the particles do not fit.
    MissingExtraError
        If starfile is not installed or, for the projection route, torch-fourier-slice or torch-ctf.

    Examples
    --------
    >>> import tempfile
    >>> from respondcam.cryoet.templates import load_templates
    >>> templates = load_templates(["groel"], size=24)
    >>> done = write_simulation(
    ...     Simulation(size=24, per_class=2), templates, tempfile.mkdtemp())
    >>> done.images, done.star.name
    (2, 'particles.star')
    """
    place = Path(folder)
    _check_packages(simulation)
    _check_templates(simulation, templates)
    densities = stacked(templates)
    plan = make_plan(simulation, densities, tuple(templates))
    claim_folder(place, run_record(simulation, templates))
    for path in (place / "densities" / "any", *(place / file for file in plan.files)):
        path.parent.mkdir(parents=True, exist_ok=True)
    for name, volume in templates.items():
        write_volume(place / "densities" / f"{name}.mrc", volume)
    densities = densities.to(device)
    made = 0
    for done, group in _groups(plan.files):
        on_progress(done, len(plan.files))
        wanted = [place / plan.files[index] for index in group]
        if simulation.masks:
            wanted += [_mask_path(path) for path in wanted]
        if not all(path.is_file() for path in wanted):
            _make(simulation, densities, plan, group, place)
            made += len(group)
    on_progress(len(plan.files), len(plan.files))
    write_particles(place / STAR, particle_list(plan, simulation), ctf=simulation.imaging.ctf)
    count = plan.labels.numel()
    return Written(place, place / STAR, len(plan.files), count, made)


def _groups(files: Sequence[str]) -> Iterator[tuple[int, range]]:
    for first in range(0, len(files), _GROUP):
        yield first, range(first, min(first + _GROUP, len(files)))


def _make(
    simulation: Simulation, densities: Tensor, plan: Plan, group: range, folder: Path
) -> None:
    """Simulate one group of images and write each whole."""
    generator = seeded(simulation.seed, f"noise {group.start}")
    labels = plan.labels[group.start : group.stop]
    poses = Poses(
        plan.poses.rotations[group.start : group.stop], plan.poses.shifts[group.start : group.stop]
    )
    images, owners = _simulated(simulation, densities, labels, poses, generator)
    affine = np.diag([simulation.imaging.voxel_size_angstrom] * 3 + [1.0])
    for index, image, owner in zip(group, images, owners, strict=True):
        path = folder / plan.files[index]
        if simulation.masks:
            _mask_path(path).parent.mkdir(parents=True, exist_ok=True)
            write_volume(_mask_path(path), Volume(owner.float().cpu().numpy(), affine, "angstrom"))
        write_volume(path, Volume(image.cpu().numpy(), affine, "angstrom"))


def _simulated(
    simulation: Simulation,
    densities: Tensor,
    labels: Tensor,
    poses: Poses,
    generator: torch.Generator,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Images, and which particle each voxel belongs to."""
    if simulation.tomogram:
        made = [
            simulate_tomogram(
                densities,
                kinds,
                Poses(rotations, shifts),
                simulation.imaging,
                shape=simulation.tomogram,
                generator=generator,
            )
            for kinds, rotations, shifts in zip(labels, poses.rotations, poses.shifts, strict=True)
        ]
        return [one.volume for one in made], [one.particles for one in made]
    common = {"size": simulation.size, "generator": generator}
    if simulation.route == "projection":
        boxes = simulate_by_projection(
            densities,
            labels,
            poses,
            simulation.imaging,
            tilt_step_degrees=simulation.tilt_step_degrees,
            **common,
        )
    else:
        boxes = simulate_subtomograms(densities, labels, poses, simulation.imaging, **common)
    numbers = torch.arange(1, labels.shape[1] + 1, device=boxes.masks.device)
    owners = (boxes.masks * numbers[:, None, None, None]).amax(dim=1)
    return list(boxes.volumes[:, 0]), list(owners)


def _check_packages(simulation: Simulation) -> None:
    """What is missing is said before the work, not after it."""
    for package in ("starfile", "pandas"):
        require(package, extra="cryoet", purpose="write STAR files")
    if simulation.route == "projection":
        for package in ("torch_fourier_slice", "torch_ctf"):
            require(package, extra="cryoet", purpose="simulate tilt series")


def _check_templates(simulation: Simulation, templates: Mapping[str, Volume]) -> None:
    if not templates:
        raise InputError("there are no densities to simulate")
    wanted = simulation.imaging.voxel_size_angstrom
    for name, volume in templates.items():
        if not np.allclose(volume.voxel_size, wanted, rtol=1e-3):
            raise InputError(
                f"the density {name!r} has voxels of {volume.voxel_size[0]:g} Å, and the images "
                f"of {wanted:g} Å; load it in the images' voxel size"
            )
        across = 2 * density_radius(torch.tensor(volume.voxels))
        if across > simulation.size and not simulation.tomogram:
            raise InputError(
                f"the density {name!r} is larger than the box: {across:.0f} voxels across when "
                f"turned, where {simulation.size} fit; give a larger size or larger voxels"
            )


def _mask_path(path: Path) -> Path:
    return path.parents[1] / "masks" / path.name

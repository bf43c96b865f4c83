"""Data sets of simulated subtomograms or tomograms, written to a folder with their truth.

The folder holds

- ``simulation.json``: what was asked for, written first; it tells whether a folder that is there
  already belongs to the same run, which is then continued;
- ``densities/``: the kinds of particles;
- ``subtomograms/`` or ``tomograms/``: the images;
- ``masks/`` on request: which particle each voxel belongs to, 0 for none;
- ``particles.star``: class, place and pose of every particle, written last;

or, on request, all of it but the first in one ``simulation.zarr``.

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
from respondcam.cryoet.poses import Poses
from respondcam.cryoet.projections import simulate_by_projection
from respondcam.cryoet.simulation_files import claim_folder, run_record
from respondcam.cryoet.simulation_plan import (
    Plan,
    Simulation,
    make_plan,
    seeded,
)
from respondcam.cryoet.simulation_stores import STORES, Format
from respondcam.cryoet.subtomograms import density_radius, simulate_subtomograms
from respondcam.cryoet.templates import stacked
from respondcam.cryoet.tomograms import simulate_tomogram
from respondcam.errors import InputError
from respondcam.volume import Volume

__all__ = ["Simulation", "Written", "write_simulation"]
_GROUP = 8  # boxes made at once


@dataclass(frozen=True)
class Written:
    """What is in the folder.

    Parameters
    ----------
    folder
        Where.
    truth
        The list of particles (STAR), or the dataset that holds everything (Zarr).
    images, particles
        How many.
    made
        How many of the images are new; the others were there from an earlier run.
    """

    folder: Path
    truth: Path
    images: int
    particles: int
    made: int


def write_simulation(
    simulation: Simulation,
    templates: Mapping[str, Volume],
    folder: str | Path,
    *,
    format: Format = "mrc",
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
    format
        ``"mrc"``: a file for each image and a STAR file. ``"zarr"``: one dataset,
        ``simulation.zarr``, see `respondcam.cryoet.simulation_stores.ZarrStore`.
    device
        Where to compute. Random numbers are those of the CPU everywhere.
    on_progress
        Called with the number of images that are there and that are wanted.

    Raises
    ------
    InputError
        If the folder holds another run, or the particles do not fit.
    MissingExtraError
        If starfile (or zarr) is not installed or, for the projection route,
        torch-fourier-slice or torch-ctf.

    Examples
    --------
    >>> import tempfile
    >>> from respondcam.cryoet.templates import load_templates
    >>> templates = load_templates(["groel"], size=24)
    >>> done = write_simulation(
    ...     Simulation(size=24, per_class=2), templates, tempfile.mkdtemp())
    >>> done.images, done.truth.name
    (2, 'particles.star')
    """
    place = Path(folder)
    if format not in STORES:
        raise InputError(f"format={format!r}; accepted are {', '.join(STORES)}")
    _check_packages(simulation, format)
    _check_templates(simulation, templates)
    densities = stacked(templates)
    plan = make_plan(simulation, densities, tuple(templates))
    claim_folder(place, {**run_record(simulation, templates), "format": format})
    store = STORES[format](place, simulation, plan, templates)
    densities = densities.to(device)
    made = 0
    for done, group in _groups(plan.files):
        on_progress(done, len(plan.files))
        if not store.has(group):
            store.write(group, *_made(simulation, densities, plan, group))
            made += len(group)
    on_progress(len(plan.files), len(plan.files))
    truth = store.finish()
    count = plan.labels.numel()
    return Written(place, truth, len(plan.files), count, made)


def _groups(files: Sequence[str]) -> Iterator[tuple[int, range]]:
    for first in range(0, len(files), _GROUP):
        yield first, range(first, min(first + _GROUP, len(files)))


def _made(
    simulation: Simulation, densities: Tensor, plan: Plan, group: range
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Simulate one group of images: the images, and which particle each voxel belongs to."""
    generator = seeded(simulation.seed, f"noise {group.start}")
    labels = plan.labels[group.start : group.stop]
    poses = Poses(
        plan.poses.rotations[group.start : group.stop], plan.poses.shifts[group.start : group.stop]
    )
    return _simulated(simulation, densities, labels, poses, generator)


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


def _check_packages(simulation: Simulation, format: Format) -> None:
    """What is missing is said before the work, not after it."""
    for package in ("starfile", "pandas") if format == "mrc" else ():
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

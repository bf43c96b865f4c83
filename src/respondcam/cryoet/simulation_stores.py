"""Where simulated images go: a file for each (MRC), or one dataset for all (Zarr).

Both are filled in groups, so that an interrupted run is continued; what was written whole stays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from respondcam._extras import require
from respondcam.cryoet.particles_star import write_particles
from respondcam.cryoet.simulation_files import DATASET, STAR
from respondcam.cryoet.simulation_plan import Plan, Simulation, particle_list
from respondcam.cryoet.templates import stacked
from respondcam.volume import Volume, write_volume

Format = Literal["mrc", "zarr"]


class Store(Protocol):
    """What a simulation writes to."""

    def __init__(
        self, folder: Path, simulation: Simulation, plan: Plan, templates: Mapping[str, Volume]
    ) -> None:
        """Make what the images go into, or open what is there from an earlier run."""
        ...

    def has(self, group: range) -> bool:
        """Tell whether a group of images is there already."""
        ...

    def write(self, group: range, images: Sequence[Tensor], owners: Sequence[Tensor]) -> None:
        """Write a group of images, and which particle each voxel belongs to where masks count."""
        ...

    def finish(self) -> Path:
        """Write the truth, when all images are there; give where it is."""
        ...


class MRCStore:
    """A file for each image and each mask, and a STAR file."""

    def __init__(
        self, folder: Path, simulation: Simulation, plan: Plan, templates: Mapping[str, Volume]
    ) -> None:
        self._folder, self._simulation, self._plan = folder, simulation, plan
        self._files = [folder / name for name in plan.files]
        for path in (folder / "densities" / "any", *self._files):
            path.parent.mkdir(parents=True, exist_ok=True)
        for name, volume in templates.items():
            write_volume(folder / "densities" / f"{name}.mrc", volume)

    def has(self, group: range) -> bool:
        """Tell whether all files are there."""
        wanted = [self._files[index] for index in group]
        if self._simulation.masks:
            wanted += [_mask_path(path) for path in wanted]
        return all(path.is_file() for path in wanted)

    def write(self, group: range, images: Sequence[Tensor], owners: Sequence[Tensor]) -> None:
        """Write each image whole."""
        affine = np.diag([self._simulation.imaging.voxel_size_angstrom] * 3 + [1.0])
        for index, image, owner in zip(group, images, owners, strict=True):
            path = self._files[index]
            if self._simulation.masks:
                mask = _mask_path(path)
                mask.parent.mkdir(parents=True, exist_ok=True)
                write_volume(mask, Volume(owner.float().cpu().numpy(), affine, "angstrom"))
            write_volume(path, Volume(image.cpu().numpy(), affine, "angstrom"))

    def finish(self) -> Path:
        """Write the list of particles."""
        star = self._folder / STAR
        particles = particle_list(self._plan, self._simulation)
        write_particles(star, particles, ctf=self._simulation.imaging.ctf)
        return star


class ZarrStore:
    """One group of arrays, one chunk for each image.

    ``images`` (image, z, y, x); ``masks`` likewise on request: which particle, from 1, each voxel
    belongs to; ``labels`` (image, particle): number of the class in the attribute ``classes``;
    ``positions`` (image, particle, xyz): voxel indices of the particles' centres, from 0;
    ``rotations`` (image, particle, 3, 3): matrices that turn a density into the image, in x, y, z
    order; ``densities`` (class, z, y, x). ``done`` says which images are written.
    """

    def __init__(
        self, folder: Path, simulation: Simulation, plan: Plan, templates: Mapping[str, Volume]
    ) -> None:
        zarr = require("zarr", extra="large", purpose="write Zarr datasets")
        self._path = folder / DATASET
        self._group: Any = zarr.open_group(str(self._path), mode="a")
        count = len(plan.files)
        shape = simulation.tomogram or (simulation.size,) * 3
        axes = ("image", "z", "y", "x")
        self._array("images", (count, *shape), "float32", axes, chunks=(1, *shape))
        if simulation.masks:
            self._array("masks", (count, *shape), "uint16", axes, chunks=(1, *shape))
        self._array("done", (count,), "bool", ("image",))
        self._masks = simulation.masks
        middle = (np.array(shape[::-1]) - 1) / 2
        poses = plan.poses
        self._truth = {
            "labels": (plan.labels.numpy(), ("image", "particle")),
            "positions": (poses.shifts.double().numpy() + middle, ("image", "particle", "xyz")),
            "rotations": (poses.rotations.double().numpy(), ("image", "particle", "to", "from")),
            "densities": (stacked(templates).numpy(), ("class", "z", "y", "x")),
        }
        self._group.attrs.update(
            classes=list(plan.names),
            voxel_size_angstrom=simulation.imaging.voxel_size_angstrom,
        )

    def has(self, group: range) -> bool:
        """Tell whether all images were written."""
        return bool(np.asarray(self._group["done"][group.start : group.stop]).all())

    def write(self, group: range, images: Sequence[Tensor], owners: Sequence[Tensor]) -> None:
        """Write the images, and only then that they are there."""
        for index, image, owner in zip(group, images, owners, strict=True):
            self._group["images"][index] = image.float().cpu().numpy()
            if self._masks:
                self._group["masks"][index] = owner.cpu().numpy().astype(np.uint16)
        self._group["done"][group.start : group.stop] = True

    def finish(self) -> Path:
        """Write the truth beside the images."""
        for name, (values, axes) in self._truth.items():
            self._array(name, values.shape, str(values.dtype), axes)
            self._group[name][...] = values
        return self._path

    def _array(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        axes: tuple[str, ...],
        *,
        chunks: tuple[int, ...] | None = None,
    ) -> None:
        if name not in self._group:
            self._group.create_array(
                name,
                shape=shape,
                dtype=dtype,
                chunks=chunks or "auto",
                dimension_names=axes,
            )


STORES: dict[Format, type[Store]] = {"mrc": MRCStore, "zarr": ZarrStore}


def _mask_path(path: Path) -> Path:
    return path.parents[1] / "masks" / path.name

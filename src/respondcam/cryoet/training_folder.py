"""Images to train on from a folder: what ``simulate`` wrote, or a folder of volumes per class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from respondcam._extras import require
from respondcam.cryoet.particles_star import particle_files, read_particles
from respondcam.cryoet.simulation_files import DATASET, STAR
from respondcam.cryoet.training_data import Images
from respondcam.errors import InputError
from respondcam.volume import read_suffixes, read_volume


@dataclass(frozen=True)
class Listed:
    """Files of a folder with their classes.

    Parameters
    ----------
    files
        One image each; in a Zarr dataset the dataset's path and the image's number.
    labels
        Class of each, counted from 0.
    classes
        Names.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


def list_folder(folder: Path, only: Sequence[str] | None = None) -> Listed:
    """Find the images of a folder: by its particles.star, or else by its sub-folders' names.

    Raises
    ------
    InputError
        If there are no images, only one class, or a class with a single image.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {str(folder)!r} does not exist.")
    star, dataset = folder / STAR, folder / DATASET
    if dataset.is_dir():
        pairs = _in_dataset(dataset)
    elif star.is_file():
        particles = read_particles(star)
        if particles.box_size is None:
            raise InputError(
                f"{str(star)!r} lists particles in tomograms. Training takes one particle per "
                f"file: simulate without --tomogram, or cut the particles out."
            )
        pairs = list(zip(particle_files(particles, star), particles.classes, strict=True))
    else:
        pairs = [
            (file, sub.name)
            for sub in sorted(folder.iterdir())
            if sub.is_dir() and not sub.name.startswith(".")
            for file in sorted(sub.iterdir())
            if file.is_file() and file.name.lower().endswith(read_suffixes())
        ]
    there = sorted({name for _, name in pairs})
    missing = [name for name in only or () if name not in there]
    if missing:
        raise InputError(
            f"There is no class {missing[0]!r} in {str(folder)!r}. There are: "
            f"{', '.join(there) or 'none'}."
        )
    classes = tuple(only or there)
    pairs = [(file, name) for file, name in pairs if name in classes]
    _check(folder, pairs, classes)
    return Listed(
        files=tuple(file for file, _ in pairs),
        labels=tuple(classes.index(name) for _, name in pairs),
        classes=classes,
    )


def split_listed(listed: Listed, *, share: float, seed: int) -> tuple[Listed, Listed]:
    """Part every class at random into images to learn from and images to measure on.

    Examples
    --------
    >>> files = tuple(Path(f"{n}.mrc") for n in range(8))
    >>> listed = Listed(files, (0, 0, 0, 0, 1, 1, 1, 1), ("a", "b"))
    >>> learn, held_out = split_listed(listed, share=0.25, seed=0)
    >>> learn.labels, held_out.labels
    ((0, 0, 0, 1, 1, 1), (0, 1))
    """
    generator = torch.Generator().manual_seed(seed)
    held: set[int] = set()
    for label in range(len(listed.classes)):
        own = [i for i, one in enumerate(listed.labels) if one == label]
        count = min(len(own) - 1, max(1, round(share * len(own))))
        order = torch.randperm(len(own), generator=generator)[:count]
        held |= {own[i] for i in order.tolist()}
    return _some(listed, held, inside=False), _some(listed, held, inside=True)


def read_images(listed: Listed) -> Images:
    """Read the volumes and standardise each to mean 0 and standard deviation 1.

    Raises
    ------
    InputError
        If a file cannot be read, has several channels, is constant, or has another shape than the
        first.
    """
    volumes, shape = [], None
    for file in listed.files:
        voxels = torch.tensor(_voxels(file), dtype=torch.float32)
        if voxels.ndim != 3:
            raise InputError(f"{str(file)!r} has several channels; training takes one.")
        shape = shape or voxels.shape
        if voxels.shape != shape:
            raise InputError(
                f"{str(file)!r} has {tuple(voxels.shape)} voxels, {str(listed.files[0])!r} has "
                f"{tuple(shape)}. Give boxes of one size."
            )
        deviation = voxels.std(correction=0)
        if not bool(deviation > 0):
            raise InputError(f"{str(file)!r} is constant: there is nothing to learn from.")
        volumes.append(((voxels - voxels.mean()) / deviation).half())
    return Images(torch.stack(volumes), torch.tensor(listed.labels))


def _in_dataset(dataset: Path) -> list[tuple[Path, str]]:
    group = _opened(dataset)
    names, labels = list(group.attrs["classes"]), np.asarray(group["labels"])
    if labels.shape[1] != 1:
        raise InputError(
            f"{str(dataset)!r} holds {labels.shape[1]} particles in each image; training takes one."
        )
    return [(dataset / str(number), names[label]) for number, (label,) in enumerate(labels)]


def _opened(dataset: Path) -> Any:
    zarr = require("zarr", extra="large", purpose="read Zarr datasets")
    group = zarr.open_group(str(dataset), mode="r")
    if "labels" not in group:
        raise InputError(
            f"{str(dataset)!r} is not finished: run the same respondcam simulate command again."
        )
    return group


def _voxels(file: Path) -> np.ndarray:
    if file.parent.name == DATASET:
        return np.asarray(_opened(file.parent)["images"][int(file.name)])
    return read_volume(file).voxels


def _some(listed: Listed, held: set[int], *, inside: bool) -> Listed:
    chosen = [i for i in range(len(listed.files)) if (i in held) == inside]
    return Listed(
        tuple(listed.files[i] for i in chosen),
        tuple(listed.labels[i] for i in chosen),
        listed.classes,
    )


def _check(folder: Path, pairs: Sequence[tuple[Path, str]], classes: Sequence[str]) -> None:
    if not pairs:
        raise InputError(
            f"The folder {str(folder)!r} holds no images. Accepted: a folder that respondcam "
            f"simulate wrote, or one sub-folder of volumes for each class."
        )
    if len(classes) < 2:
        raise InputError(f"{str(folder)!r} holds one class, {classes[0]!r}; two are needed.")
    counts = {name: sum(name == other for _, other in pairs) for name in classes}
    few = [name for name, count in counts.items() if count < 2]
    if few:
        raise InputError(
            f"Class {few[0]!r} in {str(folder)!r} has one image; at least two are needed, one to "
            f"learn from and one to measure on."
        )

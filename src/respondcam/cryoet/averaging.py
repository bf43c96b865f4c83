"""Averages in the particle's own frame: turn every box back by its pose, then average.

A map of one image is noisy and seen from one side. In the particle's frame the maps of many images
lie on top of each other, beside the averaged density: which parts of the particle count.

The missing wedge of the boxes is not compensated: the averages hold what the boxes held.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from respondcam.cryoet.particles_star import ParticleList
from respondcam.cryoet.poses import Poses, place_densities
from respondcam.errors import InputError, RespondCAMWarning
from respondcam.volume import Volume, read_volume


@dataclass(frozen=True, eq=False)
class Particle:
    """One particle's box.

    Parameters
    ----------
    box
        The image around it, (z, y, x).
    rotation
        Turns the particle's own frame into the box.
    shift
        The particle's centre from the box's centre, in voxels, x, y, z.
    file
        It was cut out of, or is.
    """

    box: Volume
    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]
    file: Path


class FrameMean:
    """Mean and spread of volumes in the particle's frame, one volume at a time.

    Welford's method ("Note on a method for calculating corrected sums of squares and products",
    Technometrics 4 (1962) 419), in float64.

    Examples
    --------
    >>> mean = FrameMean()
    >>> for value in (1.0, 3.0):
    ...     mean.add(torch.full((2, 2, 2), value), np.eye(3), np.zeros(3))
    >>> mean.count, mean.mean[0, 0, 0].item(), mean.spread[0, 0, 0].item()
    (2, 2.0, 1.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._squares = torch.zeros(())

    def add(
        self,
        voxels: Float[Tensor, "z y x"],
        rotation: Float[np.ndarray, "3 3"],
        shift: Float[np.ndarray, "3"],
    ) -> None:
        """Turn a box back and add it.

        Parameters
        ----------
        voxels
            Of a cubic box.
        rotation, shift
            As in `Particle`.
        """
        turned = turned_back(voxels, rotation, shift).double()
        self.count += 1
        if self.count == 1:
            self._mean, self._squares = turned, torch.zeros_like(turned)
            return
        before = turned - self._mean
        self._mean = self._mean + before / self.count
        self._squares = self._squares + before * (turned - self._mean)

    @property
    def mean(self) -> Float[Tensor, "z y x"]:
        """Of the volumes so far, in float64."""
        return self._mean

    @property
    def spread(self) -> Float[Tensor, "z y x"]:
        """Population standard deviation of the volumes so far, voxel by voxel."""
        return (self._squares / max(self.count, 1)).clamp(min=0).sqrt()


def turned_back(
    voxels: Float[Tensor, "z y x"],
    rotation: Float[np.ndarray, "3 3"],
    shift: Float[np.ndarray, "3"],
) -> Float[Tensor, "z y x"]:
    """Undo a pose: the particle upright, in the middle of a box of the same size.

    By trilinear interpolation; what the box did not hold is zero.

    Examples
    --------
    >>> box = torch.zeros(5, 5, 5)
    >>> box[2, 2, 4] = 1  # a point at +x from the centre ...
    >>> quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> turned_back(box, quarter, np.zeros(3)).nonzero().tolist()  # ... was at -y
    [[2, 0, 2]]
    """
    inverse = torch.tensor(np.ascontiguousarray(rotation.T), dtype=torch.float32)
    back = -einsum(inverse, torch.tensor(shift, dtype=torch.float32), "i j, j -> i")
    poses = Poses(inverse[None], back[None])
    boxes = rearrange(voxels.float(), "z y x -> 1 z y x")
    return place_densities(boxes, poses, size=voxels.shape[0])[0]


def cut_particles(
    particles: ParticleList,
    files: Sequence[Path],
    *,
    only: str | None = None,
    box: int | None = None,
    prepare: Callable[[np.ndarray], np.ndarray] = lambda voxels: voxels,
) -> Iterator[Particle]:
    """Read the particles one after the other, each in a box of its own.

    Parameters
    ----------
    particles, files
        The list, and the file of each particle, as `particle_files` gives them.
    only
        Name of a class; all unless given.
    box
        Voxels along each axis of the boxes to cut; particles whose box reaches over the border of
        their file are left out, and a warning says so at the end. None: files that hold one
        particle each are taken as they are, but for particles whose centre lies outside.
    prepare
        Done to the voxels (channel, z, y, x) of each box, such as a normalisation.

    Raises
    ------
    InputError
        If no particle is of that class, a file is no cube and `box` is not given, every box
        reaches over the border, every centre lies outside, or the voxel size contradicts the list.
    """
    chosen = [i for i, name in enumerate(particles.classes) if only is None or name == only]
    if not chosen:
        there = ", ".join(dict.fromkeys(particles.classes))
        raise InputError(f"No particle is of class {only!r}. There are: {there}.")
    if box is None and particles.box_size is None:
        raise InputError(
            "The particles are in tomograms: say how large the boxes around them are, such as "
            "--box 40, which is what the network takes."
        )
    left_out: list[tuple[int, str]] = []
    for path, group in groupby(chosen, key=lambda index: files[index]):
        volume = _read(path, particles.voxel_size_angstrom)
        for index in group:
            if why := _why_not(volume, particles.positions[index], box):
                left_out.append((index, why))
                continue
            yield _cut(volume, path, particles, index, box, prepare)
    if left_out:
        text, remedy = _told(left_out, len(chosen), particles, files)
        if len(left_out) == len(chosen):
            raise InputError(f"{text}. {remedy}")
        warnings.warn(text, RespondCAMWarning, stacklevel=2)


_OUTSIDE = "their centres lie outside their files"


def _why_not(volume: Volume, position: np.ndarray, box: int | None) -> str:
    """Why a particle has to be left out, if it has."""
    size = np.array(volume.shape[::-1])
    if not ((position >= -0.5) & (position <= size - 0.5)).all():  # nor is it a number
        return _OUTSIDE
    if box is not None and not _holds(volume, position, box):
        return f"their boxes of {box} voxels reach over the border"
    return ""


def _told(
    left_out: Sequence[tuple[int, str]], count: int, particles: ParticleList, files: Sequence[Path]
) -> tuple[str, str]:
    """What was left out, and what to do about it."""
    parts: list[str] = []
    for why in dict.fromkeys(why for _, why in left_out):
        own = [index for index, one in left_out if one == why]
        place = ", ".join(f"{value:.6g}" for value in np.round(particles.positions[own[0]], 1))
        many = f" ({len(own)} of them)" if len(own) < len(left_out) else ""
        parts.append(f"{why}{many}, such as at [{place}] (x, y, z) in {str(files[own[0]])!r}")
    text = f"{len(left_out)} of {count} particles were left out: {'; '.join(parts)}"
    if any(why != _OUTSIDE for _, why in left_out):
        return text, "Give a smaller --box, or larger tomograms."
    return text, (
        "Accepted: coordinates, and origins (in Å), that lead to a voxel of the file. Correct them "
        "or the voxel size in the list."
    )


def _corner(position: np.ndarray, box: int) -> np.ndarray:
    """First voxel, x, y, z, of the box whose middle is nearest to a position."""
    return np.rint(position - (box - 1) / 2).astype(int)


def _holds(volume: Volume, position: np.ndarray, box: int) -> bool:
    corner = _corner(position, box)
    return bool((corner >= 0).all() and (corner + box <= np.array(volume.shape[::-1])).all())


def _read(path: Path, voxel_size_angstrom: float) -> Volume:
    volume = read_volume(path)
    if volume.channels != 1:
        raise InputError(f"{str(path)!r} has {volume.channels} channels; particles have one.")
    if volume.unit == "angstrom" and not np.allclose(
        volume.voxel_size, voxel_size_angstrom, rtol=0.01
    ):
        raise InputError(
            f"{str(path)!r} has voxels of {volume.voxel_size[0]:g} Å, and the list of particles "
            f"says {voxel_size_angstrom:g} Å: correct one of them."
        )
    return volume


def _cut(
    volume: Volume,
    path: Path,
    particles: ParticleList,
    index: int,
    box: int | None,
    prepare: Callable[[np.ndarray], np.ndarray],
) -> Particle:
    voxels = np.asarray(volume.voxels, np.float32).reshape(volume.shape)
    position = particles.positions[index]
    corner = np.zeros(3, int)
    if box is not None:
        corner = _corner(position, box)
        x, y, z = (slice(low, low + box) for low in corner)
        voxels = voxels[z, y, x]
    if len(set(voxels.shape)) != 1:
        raise InputError(
            f"{str(path)!r} has {voxels.shape} voxels (z, y, x) and is no cube, so it cannot be "
            f"turned: give --box."
        )
    affine = np.diag([particles.voxel_size_angstrom] * 3 + [1.0])
    prepared = prepare(voxels[None])[0]
    middle = corner + (voxels.shape[0] - 1) / 2
    return Particle(
        Volume(prepared, affine, "angstrom"), particles.rotations[index], position - middle, path
    )

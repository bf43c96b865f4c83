"""Densities from map files, brought into one box size and voxel size to simulate from."""

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from respondcam.errors import VolumeError
from respondcam.volume import Volume, read_suffixes, read_volume, stem

_LEVEL = 0.05  # of the maximum: what is below is background


def density_from_file(
    path: str | os.PathLike[str],
    *,
    size: int = 40,
    voxel_size_angstrom: float = 10.0,
    level: float | None = None,
) -> Volume:
    """Read a density map and put its particle into the middle of a cubic box.

    The particle is what rises above `level`; its centre of mass goes to the box's centre. A map
    that has the wanted voxels already is moved by whole voxels, so that its values stay; others
    are low-passed to what the box can hold, where they are finer, and interpolated. Axes of the
    box are those of the map's world: x, y, z for every order of axes in the file.

    Parameters
    ----------
    path
        A map that `respondcam.read_volume` reads, with its voxel size in Å: MRC, MAP, CCP4.
    size
        Voxels along each axis of the box.
    voxel_size_angstrom
        Edge of its voxels.
    level
        Density at the particle's surface, such as the contour level recommended for a map of the
        Electron Microscopy Data Bank; one twentieth of the maximum unless given.

    Returns
    -------
    Volume
        float32 (z, y, x), from 0 in the background to 1 at the maximum, in angstrom.

    Raises
    ------
    VolumeError
        If the file cannot be read, does not give its voxel size in Å, has several channels, has
        nothing above the level, or holds a particle that is larger than the box.

    Examples
    --------
    >>> import tempfile
    >>> from respondcam.cryoet.phantoms import phantom
    >>> from respondcam.volume import write_volume
    >>> path = f"{tempfile.mkdtemp()}/groel.mrc"
    >>> write_volume(path, phantom("groel", size=40, voxel_size_angstrom=5.0))
    >>> density_from_file(path, size=24)
    Volume(z, y, x = 24, 24, 24; voxel 10 x 10 x 10 angstrom; from groel.mrc)
    """
    volume = read_volume(path)
    _check_map(volume, path, size, voxel_size_angstrom)
    voxels = _particle(volume.voxels, level, path)
    to_index = np.linalg.inv(volume.affine[:3, :3]) * voxel_size_angstrom
    centre = _centre(voxels)
    _check_fits(voxels, volume.affine, centre, size * voxel_size_angstrom, path)
    density = torch.from_numpy(voxels)
    if min(volume.voxel_size) < 0.999 * voxel_size_angstrom:
        density = _low_pass(density, volume.voxel_size, 2 * voxel_size_angstrom)
    density = _resample(density, to_index, centre, size).clamp(min=0)
    affine = np.diag([voxel_size_angstrom] * 3 + [1.0])
    return Volume((density / density.max()).numpy(), affine, "angstrom", volume.source)


def densities_from_folder(
    folder: str | os.PathLike[str], *, size: int = 40, voxel_size_angstrom: float = 10.0
) -> tuple[tuple[str, ...], Float[Tensor, "density z y x"]]:
    """Read every density map in a folder, in the order of their names.

    Parameters
    ----------
    folder
        Where the maps are.
    size, voxel_size_angstrom
        As for `density_from_file`.

    Returns
    -------
    names, densities
        File names without their suffix, and the densities.

    Raises
    ------
    VolumeError
        If there is no such folder, it holds no map, or one of them cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from respondcam.cryoet.phantoms import phantom
    >>> from respondcam.volume import write_volume
    >>> folder = tempfile.mkdtemp()
    >>> write_volume(f"{folder}/groel.mrc", phantom("groel", size=20))
    >>> names, densities = densities_from_folder(folder, size=24)
    >>> names, densities.shape
    (('groel',), torch.Size([1, 24, 24, 24]))
    """
    place = Path(folder)
    if not place.is_dir():
        raise VolumeError(f"There is no folder {str(place)!r}; give one that holds density maps")
    paths = sorted(path for path in place.iterdir() if path.name.lower().endswith(read_suffixes()))
    if not paths:
        raise VolumeError(f"The folder {str(place)!r} holds no density map (*.mrc, *.map)")
    volumes = [
        density_from_file(path, size=size, voxel_size_angstrom=voxel_size_angstrom)
        for path in paths
    ]
    densities = torch.stack([torch.tensor(volume.voxels) for volume in volumes])
    return tuple(stem(path) for path in paths), densities


def _check_map(volume: Volume, path: str | os.PathLike[str], size: int, voxel: float) -> None:
    if size < 1 or not voxel > 0:
        raise VolumeError(f"a box of {size=} voxels of {voxel} Å is impossible; both are positive")
    if volume.channels > 1:
        raise VolumeError(f"{str(path)!r} has {volume.channels} channels; a density has one")
    if volume.unit != "angstrom":
        raise VolumeError(
            f"{str(path)!r} does not say how large its voxels are in Å; write the voxel size into "
            f"it, for example with mrcfile: mrcfile.open(path, 'r+').voxel_size = 10.0"
        )


def _particle(
    voxels: np.ndarray, level: float | None, path: str | os.PathLike[str]
) -> Float[np.ndarray, "z y x"]:
    """The density where it is above the level, and 0 elsewhere."""
    voxels = voxels.reshape(voxels.shape[-3:])
    highest = float(voxels.max())
    surface = _LEVEL * highest if level is None else level
    if not highest > max(surface, 0.0):
        raise VolumeError(
            f"{str(path)!r} has no density above {max(surface, 0.0):g}: its maximum is {highest:g}"
        )
    return np.where(voxels > max(surface, 0.0), voxels, np.float32(0)).astype(np.float32)


def _centre(voxels: Float[np.ndarray, "z y x"]) -> np.ndarray:
    """Centre of mass in voxel indices, x, y, z."""
    profiles = [voxels.sum(axis=other, dtype=np.float64) for other in ((0, 1), (0, 2), (1, 2))]
    return np.array([profile @ np.arange(len(profile)) / profile.sum() for profile in profiles])


def _check_fits(
    voxels: np.ndarray, affine: np.ndarray, centre: np.ndarray, box: float, path: object
) -> None:
    inside = np.argwhere(voxels > 0)[:, ::-1] - centre
    reach = np.abs(inside @ affine[:3, :3].T).max()
    if reach > box / 2:
        raise VolumeError(
            f"The particle in {str(path)!r} reaches {reach:.0f} Å from its centre, and the box of "
            f"{box:g} Å only {box / 2:.0f} Å: give more or larger voxels, or, if what sticks out "
            f"is noise, the level of density at the particle's surface"
        )


def _low_pass(
    density: Float[Tensor, "z y x"], voxel_size: tuple[float, float, float], resolution: float
) -> Float[Tensor, "z y x"]:
    """Blur to 1/e of the amplitude at 1 / resolution, as phantoms are."""
    z, y, x = density.shape
    squares = [
        torch.fft.fftfreq(z, voxel_size[0])[:, None, None] ** 2,
        torch.fft.fftfreq(y, voxel_size[1])[:, None] ** 2,
        torch.fft.rfftfreq(x, voxel_size[2]) ** 2,
    ]
    gain = torch.exp(-(resolution**2) * (squares[0] + squares[1] + squares[2]))
    return torch.fft.irfftn(torch.fft.rfftn(density) * gain, density.shape)


def _resample(
    density: Float[Tensor, "z y x"], to_index: np.ndarray, centre: np.ndarray, size: int
) -> Float[Tensor, "size size size"]:
    """Interpolate at the box's voxels: index (x, y, z) = centre + to_index @ (voxel - middle)."""
    middle = np.full(3, (size - 1) / 2)
    corner = centre - to_index @ middle
    turn = to_index.round()
    whole = np.allclose(to_index, turn, atol=1e-4) and abs(np.linalg.det(turn)) == 1
    if whole:
        to_index, corner = turn, corner.round()
    steps = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)[..., ::-1]
    index = steps @ to_index.T + corner
    edges = np.array(density.shape[::-1])
    grid = torch.from_numpy((2 * index + 1) / edges - 1)
    mode = "nearest" if whole else "bilinear"  # the values of whole voxels stay as they are
    sampled = F.grid_sample(density.double()[None, None], grid[None], mode, align_corners=False)
    return sampled[0, 0].float()

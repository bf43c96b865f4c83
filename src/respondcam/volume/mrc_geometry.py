"""Where an MRC map is in the world.

MRC2014 (Cheng et al., J. Struct. Biol. 192, 2015) leaves choices; they are made as UCSF ChimeraX
makes them (its bundle map_data, mrc/mrc_format.py), since that is where maps are looked at:

- columns, rows and sections lie along the axes that mapc, mapr and maps name; nxstart, nystart and
  nzstart, like nx, ny and nz, count columns, rows and sections, not x, y and z;
- the voxel size along x, y, z is cella / (mx, my, mz), and the angles cellb may make the axes
  oblique: a along x, b in the x-y plane (the convention of CCP4 and the PDB);
- a header origin that is not zero is the world position of the first voxel; otherwise the first
  voxel lies at the start indices. A header without the MAP stamp has no origin.

The unit of the format is the ångström. Other units are named in a label, and our reader turns them
back: millimetres are converted (1 mm = 1e7 Å), a volume without a unit is written one voxel unit to
the ångström.
"""

from math import acos, cos, degrees, isfinite, radians, sin, sqrt
from typing import Any

import numpy as np

from respondcam.errors import VolumeError
from respondcam.volume.geometry import ANGSTROM_PER, disagreement, scaled, to_axis_order
from respondcam.volume.volume import Unit

_UNIT_LABEL = "respondcam unit "
_TOLERANCE = 1e-3  # voxels


def header_affine(header: Any) -> tuple[np.ndarray, Unit, list[str]]:
    """Affine and unit that a header gives to its map, with what had to be assumed.

    Parameters
    ----------
    header
        Record of mrcfile's header type.

    Returns
    -------
    affine
        4x4, from x, y, z indices to x, y, z.
    unit
        "angstrom", or "voxel" when the header has no cell.
    assumptions
        One sentence each, for a warning.
    """
    assumed: list[str] = []
    lengths, unit = _voxel_lengths(header, assumed)
    affine = np.eye(4)
    affine[:3, :3] = _cell_axes(_cell_angles(header, assumed)) * lengths
    axes = _axes(header)
    start = [0, 0, 0]
    for axis, index in zip(axes, _integers(header, "nxstart", "nystart", "nzstart"), strict=True):
        start[axis] = index
    origin = _origin(header, assumed)
    affine[:3, 3] = origin if any(origin) else affine[:3, :3] @ start
    if sorted(_integers(header, "mapc", "mapr", "maps")) != [1, 2, 3]:
        assumed.append("does not say how its axes lie: columns, rows, sections taken as x, y, z")
    return affine, unit, assumed


def start_indices(header: Any) -> bool:
    """Say whether the map is placed by nxstart, nystart and nzstart."""
    return any(_integers(header, "nxstart", "nystart", "nzstart")) and not any(_origin(header, []))


def array_order(header: Any) -> list[int]:
    """Axes that bring an array (section, row, column) to z, y, x."""
    axes = _axes(header)
    return [2 - axes.index(axis) for axis in (2, 1, 0)]


def labelled_unit(header: Any, affine: np.ndarray, unit: Unit) -> tuple[np.ndarray, Unit]:
    """Turn a map that was written from millimetres or voxels back into them."""
    labels = [bytes(label).decode("ascii", "replace").strip(" \0") for label in header["label"]]
    if _UNIT_LABEL + "mm" in labels:
        return scaled(affine, 1 / ANGSTROM_PER["mm"]), "mm"
    if _UNIT_LABEL + "voxel" in labels:
        return affine, "voxel"
    return affine, unit


def storable(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn a grid, without interpolation, so that a cell and an origin describe its place.

    Raises
    ------
    VolumeError
        If the grid is oblique in a way that no cell describes.
    """
    linear = affine[:3, :3]
    scale = np.abs(linear).max()
    if (np.diag(linear) > 0).all() and np.abs(np.tril(linear, -1)).max() < 1e-9 * scale:
        return voxels, affine
    turned = to_axis_order(voxels, affine)
    if turned is None:
        raise VolumeError(
            "MRC cannot hold a volume that lies obliquely to the axes of the world. Write it to "
            ".nii.gz or .nrrd, or resample it first"
        )
    return turned


def place_in_header(header: Any, affine: np.ndarray, unit: Unit, *, use_start: bool) -> str:
    """Write cell and origin for an affine that `storable` gave; return the unit's label, if any.

    Parameters
    ----------
    header
        Of a new file that holds the voxels; written to.
    affine, unit
        Of the volume.
    use_start
        Place the map by start indices as its source is placed, where these are whole numbers: some
        programs read these alone. The origin is used otherwise.

    Raises
    ------
    VolumeError
        If the header's float32 numbers cannot hold the place.
    """
    shape = tuple(_integers(header, "nz", "ny", "nx"))
    wanted = scaled(affine, ANGSTROM_PER.get(unit, 1.0))
    lengths = np.linalg.norm(wanted[:3, :3], axis=0)
    x, y, z = (wanted[:3, :3] / lengths).T
    header.cella = tuple(lengths * shape[::-1])
    header.cellb = tuple(degrees(acos(np.clip(pair, -1, 1))) for pair in (y @ z, x @ z, x @ y))
    start = np.linalg.solve(wanted[:3, :3], wanted[:3, 3])
    if use_start and np.allclose(start, np.round(start), rtol=0, atol=_TOLERANCE / 10):
        header.nxstart, header.nystart, header.nzstart = (int(n) for n in np.round(start))
    else:
        header.origin = tuple(wanted[:3, 3])
    written, _, _ = header_affine(header)
    if not disagreement(wanted, written, shape) < _TOLERANCE:
        raise VolumeError(
            "MRC keeps places as float32 numbers, too coarse for this volume so far from the "
            "origin. Write it to .nrrd or .npz"
        )
    return "" if unit == "angstrom" else _UNIT_LABEL + unit


def _axes(header: Any) -> list[int]:
    """Axis of the world (0 is x) of columns, rows and sections."""
    named = _integers(header, "mapc", "mapr", "maps")
    return [axis - 1 for axis in named] if sorted(named) == [1, 2, 3] else [0, 1, 2]


def _voxel_lengths(header: Any, assumed: list[str]) -> tuple[np.ndarray, Unit]:
    cell = np.array(_floats(header["cella"]))
    intervals = np.array(_integers(header, "mx", "my", "mz"))
    if np.isfinite(cell).all() and (cell > 0).all() and (intervals > 0).all():
        return cell / intervals, "angstrom"
    assumed.append("has no voxel size in its header: one voxel is taken as the unit of length")
    return np.ones(3), "voxel"


def _cell_angles(header: Any, assumed: list[str]) -> list[float]:
    angles = _floats(header["cellb"])
    possible = all(0 < angle < 180 for angle in angles) and 2 * max(angles) < sum(angles) < 360
    if possible:
        return angles
    if any(angles):  # zeros are common in old files and mean nothing else
        assumed.append(f"has impossible cell angles {angles}: taken as right angles")
    return [90.0, 90.0, 90.0]


def _cell_axes(angles: list[float]) -> np.ndarray:
    """Unit vectors along the cell's edges a, b, c, as columns."""
    if angles == [90.0, 90.0, 90.0]:
        return np.eye(3)  # exactly, without the rounding of cos(pi / 2)
    cos_alpha, cos_beta, cos_gamma = (cos(radians(angle)) for angle in angles)
    sin_gamma = sin(radians(angles[2]))
    cy = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    cz = sqrt(1 - cos_beta**2 - cy**2)
    return np.array([[1, cos_gamma, cos_beta], [0, sin_gamma, cy], [0, 0, cz]])


def _origin(header: Any, assumed: list[str]) -> list[float]:
    origin = _floats(header["origin"])
    if bytes(header["map"])[:3] != b"MAP":
        if any(origin):
            assumed.append("has no MAP stamp and so no origin: placed by its start indices")
        return [0.0, 0.0, 0.0]
    if not all(isfinite(coordinate) and abs(coordinate) < 1e12 for coordinate in origin):
        assumed.append(f"has an impossible origin {origin}: placed by its start indices")
        return [0.0, 0.0, 0.0]
    return origin


def _integers(header: Any, *names: str) -> list[int]:
    return [int(header[name]) for name in names]


def _floats(record: Any) -> list[float]:
    return [float(record[axis]) for axis in record.dtype.names]

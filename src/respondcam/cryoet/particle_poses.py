"""Where the particles of a STAR file are and how they are turned, as RELION puts it together.

In a tomogram a particle may have two orientations: that of its subtomogram
(rlnTomoSubtomogramRot, Tilt and Psi), and its own within it (rlnAngleRot, Tilt and Psi). Origins
are told along the axes of the subtomogram:

    rotation = A_subtomogram A_particle,    position = coordinate - A_subtomogram origin / voxel

(`getMatrix3x3` and `getPosition` in RELION's particle_set.cpp). A box of its own was cut out along
the axes of the subtomogram, so that the particle's own angles and origin are its pose there. An
origin that is not given for an axis is 0 there, as it is to RELION. RELION 3.0 told origins in
pixels.
"""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from respondcam.cryoet.angles import relion_rotations
from respondcam.errors import InputError

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_ORIGINS_IN_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
_VOXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize", "rlnTomoTiltSeriesPixelSize")
_ALIKE = 1e-3  # of a voxel's size

_Path = str | os.PathLike[str]


def voxel_size(rows: Any, optics: Any, path: _Path, *, boxed: bool) -> float:
    """Voxel size of the particles' files, in Å.

    Raises
    ------
    InputError
        If there is none or, in tomograms, several: RELION 4 counts coordinates in voxels of the
        tilt series, whatever the images are binned to.
    """
    found: dict[str, float] = {}
    for name in _VOXEL_SIZES:
        size = from_either(rows, optics, name, path)
        if size is not None:
            found[name] = size
            if boxed:
                break
    if not found:
        raise InputError(
            f"{str(path)!r} has none of the columns {', '.join(_VOXEL_SIZES)}; add one of them"
        )
    first = next(iter(found.values()))
    if not all(math.isclose(first, n, rel_tol=_ALIKE) for n in found.values()):
        told = ", ".join(f"{name} {size:g}" for name, size in found.items())
        raise InputError(
            f"{str(path)!r} gives several voxel sizes: {told}. In which of them rlnCoordinateX, Y "
            f"and Z count, and the tomograms are, it does not say. Accepted: one size, that of the "
            f"tomograms, with coordinates in their voxels"
        )
    return first


def from_either(rows: Any, optics: Any, name: str, path: _Path) -> float | None:
    """One number for all particles, from their own table or that of the optics groups.

    Raises
    ------
    InputError
        If there are several, or it is not positive.
    """
    for table in (rows, optics):
        if table is None or name not in table:
            continue
        values = np.unique(numbers(table, (name,), path))
        if not len(values):
            raise InputError(f"{str(path)!r} has the column {name} and no row in it")
        if len(values) > 1 or values[0] <= 0:
            raise InputError(
                f"{str(path)!r} gives {len(values)} values of {name}, the first is "
                f"{values[0]:g}; one positive value for all particles is accepted: write each "
                f"optics group to a file of its own"
            )
        return float(values[0])
    return None


def numbers(table: Any, names: Sequence[str], path: _Path) -> Float[np.ndarray, "row column"]:
    """Columns of a table.

    Raises
    ------
    InputError
        If a value is missing, or no finite number.
    """
    try:
        values = table[list(names)].to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{str(path)!r} has values that are no numbers in {', '.join(names)}: {error}"
        ) from error
    if not np.isfinite(values).all():
        raise InputError(f"{str(path)!r} has rows without a value in {', '.join(names)}")
    return values


def rotations(rows: Any, path: _Path, *, boxed: bool) -> Float[np.ndarray, "particle 3 3"]:
    """Matrices that turn the reference into the particles' files."""
    own = relion_rotations(numbers(rows, ANGLES, path))
    return own if boxed else _subtomograms(rows, path) @ own


def positions(
    rows: Any, voxel: float, box: int | None, path: _Path
) -> Float[np.ndarray, "particle 3"]:
    """Voxel indices x, y, z of the particles' centres in their files; in boxes of `box` voxels."""
    ways = _origins(rows, voxel, path)
    if box is not None:
        return box // 2 - ways
    missing = [name for name in COORDINATES if name not in rows]
    if missing:
        raise InputError(f"{str(path)!r} has no positions: {', '.join(missing)} are missing")
    turned = np.einsum("nij,nj->ni", _subtomograms(rows, path), ways)
    return numbers(rows, COORDINATES, path) - turned


def _subtomograms(rows: Any, path: _Path) -> Float[np.ndarray, "particle 3 3"]:
    """How the subtomograms lie in the tomogram."""
    given = [name for name in _SUBTOMOGRAM if name in rows]
    if not given:
        return np.broadcast_to(np.eye(3), (len(rows), 3, 3))
    if len(given) < len(_SUBTOMOGRAM):
        raise InputError(
            f"{str(path)!r} has {', '.join(given)} of the columns {', '.join(_SUBTOMOGRAM)}; "
            f"accepted are all of them, or none"
        )
    return relion_rotations(numbers(rows, _SUBTOMOGRAM, path))


def _origins(rows: Any, voxel: float, path: _Path) -> Float[np.ndarray, "particle 3"]:
    """Ways from the particles to where their coordinates, or the middles of their boxes, are."""
    ways = np.zeros((len(rows), 3))
    told = any(name in rows for name in ORIGINS)
    for axis, name in enumerate(ORIGINS if told else _ORIGINS_IN_PIXELS):
        if name in rows:
            ways[:, axis] = numbers(rows, (name,), path)[:, 0] / (voxel if told else 1.0)
    return ways

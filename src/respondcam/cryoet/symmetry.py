"""Point groups of symmetric assemblies, as rotation matrices in x, y, z order.

Orientations are the usual ones of the field: the main axis along z, the two-fold axes of Dn along x
and its rotations, the four-fold axes of O along x, y and z, and for I two-fold axes along x, y and
z with a five-fold axis in the plane of y and z (the orientation called I2 in RELION).
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from respondcam.errors import InputError

_GOLDEN = (1 + math.sqrt(5)) / 2


def rotation_matrix(axis: Sequence[float | int], degrees: float) -> np.ndarray:
    """Matrix (3, 3) of the right-handed rotation about an axis (x, y, z), by Rodrigues' formula.

    Examples
    --------
    >>> rotation_matrix((0, 0, 1), 90.0).round(6) @ [1, 0, 0]
    array([0., 1., 0.])
    """
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(degrees)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def symmetry_generators(name: str) -> tuple[np.ndarray, ...]:
    """Rotations that generate a point group.

    Parameters
    ----------
    name
        ``"Cn"`` or ``"Dn"`` with a number n, ``"O"`` or ``"I"``.

    Raises
    ------
    InputError
        If there is no such group.

    Examples
    --------
    >>> len(symmetry_generators("D7"))
    2
    """
    cyclic = re.fullmatch(r"([CD])([1-9]\d?)", name)
    if cyclic:
        main = rotation_matrix((0, 0, 1), 360 / int(cyclic[2]))
        across = rotation_matrix((1, 0, 0), 180.0)
        return (main,) if cyclic[1] == "C" else (main, across)
    if name == "O":
        return rotation_matrix((0, 0, 1), 90.0), rotation_matrix((1, 1, 1), 120.0)
    if name == "I":
        return rotation_matrix((0, 1, _GOLDEN), 72.0), rotation_matrix((0, 0, 1), 180.0)
    message = f"{name!r} is no known point group; known are C1, C2, ..., D1, D2, ..., O and I"
    raise InputError(message)


def symmetry_rotations(name: str) -> np.ndarray:
    """All rotations (order, 3, 3) of a point group, the identity first.

    Parameters
    ----------
    name
        As for `symmetry_generators`.

    Raises
    ------
    InputError
        If there is no such group.

    Examples
    --------
    >>> [len(symmetry_rotations(name)) for name in ("C1", "D7", "O", "I")]
    [1, 14, 24, 60]
    """
    generators = symmetry_generators(name)
    found = [np.eye(3)]
    for element in found:  # grows while it is walked, until every product is known
        for generator in generators:
            product = generator @ element
            if np.abs(np.stack(found) - product).max(axis=(1, 2)).min() > 1e-6:
                found.append(product)
    return np.stack(found)

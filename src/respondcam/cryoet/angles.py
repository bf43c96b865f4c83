"""Orientations as three angles, in the convention of RELION.

Intrinsic rotations about z, the new y and the new z (J. B. Heymann, M. Chagoyen and D. M. Belnap,
"Common conventions for interchange and archiving of three-dimensional electron microscopy
information in structural biology", J. Struct. Biol. 151 (2005) 196). They turn the particle onto
the reference, so that the matrix of a `Poses`, which turns the density into the box, is the
transpose of theirs:

    rotation = (Rz(rot) Ry(tilt) Rz(psi))^T.
"""

import numpy as np
from jaxtyping import Float


def relion_angles(
    rotations: Float[np.ndarray, "*particle 3 3"],
) -> Float[np.ndarray, "*particle 3"]:
    """Angles rot, tilt and psi in degrees, tilt from 0 to 180; psi is 0 where it is undefined.

    Examples
    --------
    >>> import numpy as np
    >>> quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> relion_angles(quarter)
    array([90.,  0.,  0.])
    """
    turned = np.swapaxes(np.asarray(rotations, dtype=np.float64), -1, -2)
    sine = np.hypot(turned[..., 0, 2], turned[..., 1, 2])
    tilt = np.arctan2(sine, turned[..., 2, 2])
    free = sine > 1e-6  # otherwise both other angles turn about one axis
    rot = np.where(
        free,
        np.arctan2(turned[..., 1, 2], turned[..., 0, 2]),
        np.arctan2(-turned[..., 0, 1], turned[..., 1, 1]),
    )
    psi = np.where(free, np.arctan2(turned[..., 2, 1], -turned[..., 2, 0]), 0.0)
    return np.degrees(np.stack([rot, tilt, psi], axis=-1))


def relion_rotations(
    angles_degrees: Float[np.ndarray, "*particle 3"],
) -> Float[np.ndarray, "*particle 3 3"]:
    """Matrices that turn the reference into the particle, from rot, tilt and psi.

    Examples
    --------
    >>> import numpy as np
    >>> relion_rotations(np.array([90.0, 0.0, 0.0])).round(6) @ [1, 0, 0]
    array([ 0., -1.,  0.])
    """
    rot, tilt, psi = np.moveaxis(np.radians(np.asarray(angles_degrees, dtype=np.float64)), -1, 0)
    turned = _about_z(rot) @ _about_y(tilt) @ _about_z(psi)
    return np.swapaxes(turned, -1, -2)


def _about_z(angle: np.ndarray | np.floating) -> np.ndarray:
    cosine, sine, zero, one = (
        np.cos(angle),
        np.sin(angle),
        np.zeros_like(angle),
        np.ones_like(angle),
    )
    rows = [(cosine, -sine, zero), (sine, cosine, zero), (zero, zero, one)]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _about_y(angle: np.ndarray | np.floating) -> np.ndarray:
    cosine, sine, zero, one = (
        np.cos(angle),
        np.sin(angle),
        np.zeros_like(angle),
        np.ones_like(angle),
    )
    rows = [(cosine, zero, sine), (zero, one, zero), (-sine, zero, cosine)]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

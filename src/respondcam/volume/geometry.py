"""Affines: where the voxels of a grid are in the world, and the same place in other conventions.

All matrices are 4x4 and take homogeneous x, y, z indices to x, y, z world coordinates.
"""

from typing import Literal

import numpy as np

from respondcam.errors import VolumeError

ANGSTROM_PER = {"angstrom": 1.0, "mm": 1e7}

_PREFIXES = {
    "yocto": 1e-24, "zepto": 1e-21, "atto": 1e-18, "femto": 1e-15, "pico": 1e-12,
    "deci": 1e-1, "deca": 1e1, "hecto": 1e2, "kilo": 1e3, "mega": 1e6, "giga": 1e9,
    "tera": 1e12, "peta": 1e15, "exa": 1e18, "zetta": 1e21, "yotta": 1e24,
}  # fmt: skip
_SYMBOLS = {
    "yocto": "ym", "zepto": "zm", "atto": "am", "femto": "fm", "pico": "pm",
    "deci": "dm", "deca": "dam", "hecto": "hm", "kilo": "km",
}  # fmt: skip

# Names of lengths in headers, in lower case -> our unit, and how many of ours one of them is. The
# first name of each length is the one to write.
LENGTH_UNITS: dict[str, tuple[Literal["angstrom", "mm", "voxel"], float]] = {
    **dict.fromkeys(("angstrom", "angstroms", "\u00e5", "\u212b", "a"), ("angstrom", 1.0)),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), ("angstrom", 10.0)),
    **dict.fromkeys(
        ("micron", "microns", "um", "\u00b5m", "\u03bcm", "micrometer", "micrometers"),
        ("angstrom", 1e4),
    ),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), ("mm", 1.0)),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), ("mm", 10.0)),
    **dict.fromkeys(("inch", "inches", "in"), ("mm", 25.4)),
    **dict.fromkeys(("m", "meter", "meters"), ("mm", 1e3)),
    **dict.fromkeys(("pixel", "pixels", "voxel", "voxels"), ("voxel", 1.0)),
    # what else OME and OME-Zarr measure in
    **{
        name: ("angstrom", metres * 1e10) if metres < 1e-6 else ("mm", metres * 1e3)
        for prefix, metres in _PREFIXES.items()
        for name in (f"{prefix}meter", f"{prefix}meters", _SYMBOLS.get(prefix, f"{prefix}meter"))
    },
    **dict.fromkeys(("foot", "feet", "ft"), ("mm", 304.8)),
    **dict.fromkeys(("yard", "yards", "yd"), ("mm", 914.4)),
    **dict.fromkeys(("mile", "miles", "mi"), ("mm", 1609344.0)),
    **dict.fromkeys(("thou",), ("mm", 0.0254)),
    **dict.fromkeys(("line", "li"), ("mm", 25.4 / 12)),
    **dict.fromkeys(("point", "pt"), ("mm", 25.4 / 72)),
    **dict.fromkeys(("ua", "au"), ("mm", 1.495978707e14)),
    **dict.fromkeys(("ly",), ("mm", 9.4607304725808e18)),
    **dict.fromkeys(("parsec", "pc"), ("mm", 3.0856775814913673e19)),
}
# OME's symbols that differ from those of small lengths in case alone
_LARGE = {
    "Mm": "megameter", "Gm": "gigameter", "Tm": "terameter", "Pm": "petameter",
    "Em": "exameter", "Zm": "zettameter", "Ym": "yottameter",
}  # fmt: skip
LENGTHS_IN_WORDS = "lengths such as angstrom, nm, micrometer, mm, cm, m and inch"

# ITK and DICOM count x to the left and y to the back, NIfTI to the right and to the front.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def length_name(told: str) -> str:
    """A unit of OME or OME-Zarr by the name that `LENGTH_UNITS` has, if it has one.

    Examples
    --------
    >>> length_name("Mm"), length_name("MM"), length_name(" Picometer")
    ('megameter', 'mm', 'picometer')
    """
    return _LARGE.get(told.strip(), told.strip().lower())


def lengths_in(one: str, other: str) -> float | None:
    """How many of the unit `other` one of the unit `one` is; None if one of them is no length.

    Examples
    --------
    >>> lengths_in("mm", "cm"), lengths_in("\u00b5m", "nm"), lengths_in("nm", "pixel")
    (0.1, 1000.0, None)
    """
    if one == other:
        return 1.0
    found: list[float] = []
    for name in (one, other):
        unit, factor = LENGTH_UNITS.get(name, ("voxel", 1.0))
        if unit not in ANGSTROM_PER:
            return None
        found.append(factor * ANGSTROM_PER[unit])
    return found[0] / found[1]


def as_affine(affine: object) -> np.ndarray:
    """Check `affine` and return it as a new, not writable float64 array.

    Raises
    ------
    VolumeError
        If it is not a finite, invertible 4x4 matrix with last row 0, 0, 0, 1.

    Examples
    --------
    >>> as_affine([[2, 0, 0, 5], [0, 2, 0, 5], [0, 0, 2, 5], [0, 0, 0, 1]])[:3, 3]
    array([5., 5., 5.])
    """
    try:
        matrix = np.array(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise VolumeError(f"affine must be a 4x4 matrix of numbers, received {affine!r}") from error
    if matrix.shape != (4, 4):
        raise VolumeError(f"affine must have shape (4, 4), received shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise VolumeError(f"affine must be finite, received {matrix.tolist()}")
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise VolumeError(f"affine must end with the row 0, 0, 0, 1, received {matrix[3].tolist()}")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    # relative to the voxel's size: a small voxel is no singular matrix
    if not lengths.all() or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-9:
        raise VolumeError(f"affine must be invertible, received {matrix.tolist()}")
    matrix.setflags(write=False)
    return matrix


def scaled(affine: np.ndarray, factor: float) -> np.ndarray:
    """Measure the same world in another unit: all lengths times `factor`.

    Examples
    --------
    >>> scaled(np.eye(4), 10.0)[0, 0]
    np.float64(10.0)
    """
    out = np.array(affine)
    out[:3] *= factor
    return out


def disagreement(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance between two placements of a grid, in voxels of the first.

    Parameters
    ----------
    one, other
        Affines of the same grid.
    shape
        Spatial shape of the grid (z, y, x); affine maps differ most at a corner.

    Examples
    --------
    >>> disagreement(np.eye(4), np.diag([1.0, 1.0, 1.5, 1.0]), (3, 3, 3))
    1.0
    """
    z, y, x = (np.array([0, n - 1]) for n in shape)
    corners = np.array(np.meshgrid(x, y, z, [1.0])).reshape(4, -1)
    moved = np.linalg.solve(one, other @ corners) - corners
    return float(np.abs(moved).max())


def to_axis_order(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Turn a grid by permuting and flipping its axes until its affine has a positive diagonal.

    Every voxel keeps its value and its place in the world; nothing is interpolated.

    Parameters
    ----------
    voxels
        Array (z, y, x).
    affine
        Its affine.

    Returns
    -------
    tuple or None
        View (z, y, x) of `voxels` and its affine with a positive diagonal and zeros elsewhere; None
        if the grid is oblique to the world's axes.

    Examples
    --------
    >>> left = np.diag([-1.0, 1.0, 1.0, 1.0])
    >>> turned, affine = to_axis_order(np.arange(3.0).reshape(1, 1, 3), left)
    >>> turned.ravel(), affine[0]
    (array([2., 1., 0.]), array([ 1.,  0.,  0., -2.]))
    """
    linear = affine[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    on_axis = np.abs(linear / lengths) > 1 - 1e-9
    if not ((on_axis.sum(axis=0) == 1).all() and (on_axis.sum(axis=1) == 1).all()):
        return None
    order = [int(np.flatnonzero(row)[0]) for row in on_axis]  # index axis of each world axis
    out = np.eye(4)
    out[:3, 3] = affine[:3, 3]
    array = voxels.transpose([2 - order[axis] for axis in (2, 1, 0)])
    for world, index in enumerate(order):
        out[world, world] = lengths[index]
        if linear[world, index] < 0:
            array = np.flip(array, axis=2 - world)
            out[world, 3] -= lengths[index] * (voxels.shape[2 - index] - 1)
    return array, out

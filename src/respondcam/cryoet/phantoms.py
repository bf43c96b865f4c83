"""Phantoms: assemblies with the sizes and symmetries of known complexes, built from ellipsoids.

A phantom is no molecule. It has the published size, point group and gross shape (rings, cavities,
shells, lobes, stalks) of one, filled with even density: enough to simulate tomograms that look like
tomograms, to teach, and to test, without any file. One subunit is described as a few ellipsoids,
filled with beads on a lattice, and copied by the point group; beads are then rendered as Gaussians
at their exact places, so that the symmetry holds to the rendering's precision in any voxel size.
"""

import math
from dataclasses import dataclass

import numpy as np
from einops import einsum, rearrange

from respondcam.cryoet.symmetry import symmetry_rotations
from respondcam.errors import InputError
from respondcam.volume import Volume

_SPACING = 8.0  # of the beads, Å: half the thinnest wall of any phantom
_BEAD = 0.45 * _SPACING  # standard deviation of a bead's Gaussian, Å: even density inside

Point = tuple[int, int, int]  # x, y, z in Å
Ellipsoid = tuple[Point, Point]  # centre, half axes


@dataclass(frozen=True)
class Assembly:
    """What a phantom is made of.

    Parameters
    ----------
    title
        What it resembles.
    symmetry
        Point group, in the orientation of `respondcam.cryoet.symmetry`.
    height_angstrom
        Extent along z.
    width_angstrom
        Twice the largest distance from the z axis.
    subunit
        Ellipsoids of one subunit; where they overlap, the density is that of one.
    reference
        Where the size and the symmetry are published.
    """

    title: str
    symmetry: str
    height_angstrom: int
    width_angstrom: int
    subunit: tuple[Ellipsoid, ...]
    reference: str

    def beads(self) -> np.ndarray:
        """Places (bead, 3) in Å, x, y, z, with their mean at the origin."""
        unit = np.concatenate([_fill(index, self.subunit) for index in range(len(self.subunit))])
        rotations = symmetry_rotations(self.symmetry)
        copies = einsum(rotations, unit, "copy i j, bead j -> copy bead i")
        beads = rearrange(copies, "copy bead i -> (copy bead) i")
        return beads - beads.mean(axis=0)


def phantom(
    name: str,
    *,
    size: int = 40,
    voxel_size_angstrom: float = 10.0,
    resolution_angstrom: float | None = None,
) -> Volume:
    """Render a phantom in the middle of a cubic box, with even density of about 1 inside.

    Parameters
    ----------
    name
        A name in `PHANTOMS`.
    size
        Voxels along each axis.
    voxel_size_angstrom
        Edge of a voxel.
    resolution_angstrom
        Where the amplitude has fallen to 1/e by blurring, two voxels unless given.

    Returns
    -------
    Volume
        float32 (z, y, x), in angstrom, with the phantom's centre at the box's centre; the corner
        voxel's centre is the origin of the world.

    Raises
    ------
    InputError
        If there is no such phantom, it does not fit into the box, or a size is impossible.

    Examples
    --------
    >>> phantom("groel", size=24)
    Volume(z, y, x = 24, 24, 24; voxel 10 x 10 x 10 angstrom)
    """
    assembly = _assembly(name)
    if resolution_angstrom is None:
        resolution_angstrom = 2 * voxel_size_angstrom
    _check(name, assembly, size, voxel_size_angstrom, resolution_angstrom)
    blur = math.hypot(_BEAD, resolution_angstrom / (math.pi * math.sqrt(2)))
    density = _render(assembly.beads(), size, voxel_size_angstrom, blur)
    affine = np.diag([voxel_size_angstrom] * 3 + [1.0])
    return Volume(density.astype(np.float32), affine, "angstrom")


def _render(beads: np.ndarray, size: int, voxel: float, blur: float) -> np.ndarray:
    """Sum of normalised Gaussians, one factor per axis, times the volume that a bead stands for."""
    places = (np.arange(size) - (size - 1) / 2) * voxel
    distance = places[:, None, None] - beads  # (voxel, bead, xyz)
    factors = np.exp(-(distance**2) / (2 * blur**2)) * (_SPACING / (blur * math.sqrt(2 * math.pi)))
    x, y, z = rearrange(factors, "voxel bead xyz -> xyz voxel bead")
    plane = einsum(y, x, "y bead, x bead -> bead y x")
    return np.tensordot(z, plane, axes=1)


def _fill(index: int, ellipsoids: tuple[Ellipsoid, ...]) -> np.ndarray:
    """Lattice points (bead, 3) inside one ellipsoid and in none of those before it."""
    centre, half = (np.asarray(part, dtype=np.float64) for part in ellipsoids[index])
    low, high = np.floor((centre - half) / _SPACING), np.ceil((centre + half) / _SPACING)
    axes = [np.arange(a, b + 1) * _SPACING for a, b in zip(low, high, strict=True)]
    lattice = rearrange(np.stack(np.meshgrid(*axes, indexing="ij")), "xyz a b c -> (a b c) xyz")
    inside = _contains(ellipsoids[index], lattice)
    for earlier in ellipsoids[:index]:
        inside &= ~_contains(earlier, lattice)
    return lattice[inside]


def _contains(ellipsoid: Ellipsoid, points: np.ndarray) -> np.ndarray:
    centre, half = ellipsoid
    return (((points - np.asarray(centre)) / np.asarray(half)) ** 2).sum(axis=1) <= 1


def _assembly(name: str) -> Assembly:
    if name not in PHANTOMS:
        message = f"there is no phantom {name!r}; there are {', '.join(PHANTOMS)}"
        raise InputError(message)
    return PHANTOMS[name]


def _check(name: str, assembly: Assembly, size: int, voxel: float, resolution: float) -> None:
    if not voxel > 0:
        message = f"voxel_size_angstrom={voxel} must be positive"
        raise InputError(message)
    if not resolution > 0:
        message = f"resolution_angstrom={resolution} must be positive"
        raise InputError(message)
    largest = max(assembly.height_angstrom, assembly.width_angstrom)
    if size * voxel < largest:
        message = (
            f"phantom {name!r} is {largest:g} Å large and the box of {size} voxels of {voxel:g} Å "
            f"is {size * voxel:g} Å; give {math.ceil(largest / voxel)} voxels or more"
        )
        raise InputError(message)


PHANTOMS: dict[str, Assembly] = {
    "groel": Assembly(
        title="GroEL-like barrel of two rings of seven",
        symmetry="D7",
        height_angstrom=146,
        width_angstrom=137,
        subunit=(
            ((45, 4, 20), (24, 18, 19)),
            ((46, -4, 57), (22, 18, 16)),
            ((54, 3, 39), (13, 13, 12)),
        ),
        reference="K. Braig et al., Nature 371 (1994) 578",
    ),
    "proteasome-20s": Assembly(
        title="20S-proteasome-like stack of four rings of seven",
        symmetry="D7",
        height_angstrom=148,
        width_angstrom=113,
        subunit=(
            ((40, 0, 18), (17, 16, 18)),
            ((38, 5, 55), (18, 16, 19)),
            ((15, 2, 66), (9, 8, 8)),
        ),
        reference="J. Löwe et al., Science 268 (1995) 533",
    ),
    "apoferritin": Assembly(
        title="ferritin-like shell of 24",
        symmetry="O",
        height_angstrom=120,
        width_angstrom=120,
        subunit=(
            ((14, 7, 48), (11, 11, 11)),
            ((31, 8, 39), (12, 12, 12)),
            ((23, 22, 38), (10, 10, 10)),
        ),
        reference="D. M. Lawson et al., Nature 349 (1991) 541",
    ),
    "ribosome-70s": Assembly(
        title="ribosome-like body of two lobes",
        symmetry="C1",
        height_angstrom=240,
        width_angstrom=250,
        subunit=(
            ((42, 0, -8), (70, 100, 92)),
            ((40, -5, 92), (26, 28, 30)),
            ((30, -100, 52), (20, 22, 18)),
            ((30, 104, 36), (17, 24, 16)),
            ((-66, 8, -40), (36, 62, 74)),
            ((-56, -52, 18), (24, 28, 28)),
            ((-70, 12, 76), (38, 56, 34)),
        ),
        reference="M. M. Yusupov et al., Science 292 (2001) 883",
    ),
    "p97": Assembly(
        title="p97-like disc of two unequal rings of six",
        symmetry="C6",
        height_angstrom=90,
        width_angstrom=160,
        subunit=(
            ((38, 0, -22), (24, 20, 21)),
            ((34, 3, 22), (22, 18, 20)),
            ((66, 8, -20), (14, 15, 16)),
        ),
        reference="B. DeLaBarre and A. T. Brunger, Nat. Struct. Biol. 10 (2003) 856",
    ),
    "rubisco": Assembly(
        title="RuBisCO-like block of eight large and eight small subunits",
        symmetry="D4",
        height_angstrom=105,
        width_angstrom=115,
        subunit=(
            ((35, 8, 17), (22, 20, 22)),
            ((24, -12, 40), (16, 14, 13)),
        ),
        reference="I. Andersson, J. Mol. Biol. 259 (1996) 160",
    ),
    "atp-synthase": Assembly(
        title="ATP-synthase-like head on a stalk",
        symmetry="C1",
        height_angstrom=220,
        width_angstrom=120,
        subunit=(
            ((30, 0, 58), (19, 19, 42)),
            ((15, 26, 58), (19, 19, 42)),
            ((-15, 26, 58), (19, 19, 42)),
            ((-30, 0, 58), (19, 19, 42)),
            ((-15, -26, 58), (19, 19, 42)),
            ((15, -26, 58), (19, 19, 42)),
            ((4, 3, -6), (14, 13, 40)),
            ((0, 0, -72), (31, 31, 28)),
            ((38, 4, -74), (20, 18, 26)),
            ((58, 4, -10), (10, 10, 62)),
            ((52, 4, 66), (12, 12, 42)),
            ((6, 2, 104), (14, 14, 12)),
        ),
        reference="H. Guo et al., eLife 8 (2019) e43128",
    ),
    "encapsulin": Assembly(
        title="encapsulin-like shell of 60",
        symmetry="I",
        height_angstrom=240,
        width_angstrom=240,
        subunit=(
            ((6, 41, 98), (13, 13, 13)),
            ((13, 20, 102), (14, 14, 14)),
            ((24, 12, 101), (12, 12, 12)),
        ),
        reference="M. Sutter et al., Nat. Struct. Mol. Biol. 15 (2008) 939",
    ),
    "beta-galactosidase": Assembly(
        title="beta-galactosidase-like slab of four",
        symmetry="D2",
        height_angstrom=175,
        width_angstrom=135,
        subunit=(
            ((32, 8, 45), (36, 30, 42)),
            ((24, -14, 22), (22, 24, 22)),
        ),
        reference="R. H. Jacobson et al., Nature 369 (1994) 761",
    ),
    "fatty-acid-synthase": Assembly(
        title="yeast-fatty-acid-synthase-like barrel with a wheel",
        symmetry="D3",
        height_angstrom=270,
        width_angstrom=230,
        subunit=(
            ((40, 18, 6), (40, 16, 16)),
            ((84, 28, 8), (24, 32, 18)),
            ((84, -8, 50), (22, 36, 30)),
            ((64, 18, 90), (28, 34, 26)),
            ((22, 12, 116), (28, 24, 18)),
        ),
        reference="M. Leibundgut et al., Science 316 (2007) 288",
    ),
}

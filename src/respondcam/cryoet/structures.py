"""Densities from atomic models: PDB and mmCIF files, by way of gemmi.

Each atom is a sum of Gaussians with the electron scattering factors of L.-M. Peng, "Electron atomic
scattering factors and scattering potentials of crystals", Micron 30 (1999) 625, blurred to the
wanted resolution. All atoms have one and the same displacement factor: those in files say how
well an atom was refined rather than how it moves, and vary from laboratory to laboratory.

Limits: no solvent around the atoms, so that the density's contrast is that of a vacuum, and no
charges.
"""

import math
import os
import re
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from respondcam._extras import require
from respondcam._files import check_regular
from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume import Volume
from respondcam.volume._stream import open_stream

STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
DEPOSITED = "deposited"  # the name that stands for the atoms of the file, without any assembly
_B_FACTOR = 20.0  # displacement factor of every atom, Å^2: that of a well-ordered protein
_CUTOFF = 1e-5
# Bytes that a packed file may unpack to: so many, or so many times its own. Coordinates pack to a
# tenth at most, and what packs better says the same again and again.
_UNPACKED, _RATIO = 1 << 24, 32
_PIECE = 1 << 20


def density_from_structure(
    path: str | os.PathLike[str],
    *,
    size: int = 40,
    voxel_size_angstrom: float = 10.0,
    resolution_angstrom: float | None = None,
    assembly: str | None = None,
) -> Volume:
    r"""Render an atomic model in the middle of a cubic box.

    Waters and hydrogens are left out. Of several models, as in NMR ensembles, the first is taken.
    The centre of mass goes to the box's centre. The same file gives the same bits every time.

    Parameters
    ----------
    path
        A PDB or mmCIF file (.pdb, .ent, .cif, .mmcif), plain or with .gz.
    size
        Voxels along each axis of the box.
    voxel_size_angstrom
        Edge of a voxel.
    resolution_angstrom
        Where the amplitude has fallen to 1/e by blurring, two voxels unless given.
    assembly
        Name of a biological assembly that the file lists, such as ``"1"``; ``"deposited"`` for the
        atoms as the file holds them (the asymmetric unit of a crystal). Unless given the first
        assembly or, with a warning, where the file lists none, the atoms as they are.

    Returns
    -------
    Volume
        float32 (z, y, x), from 0 to 1 at the maximum, in angstrom; the centre of the corner
        voxel is the origin of the world.

    Raises
    ------
    VolumeError
        If the file cannot be read, holds no atoms or atoms of unknown elements, does not list the
        assembly, or is larger than the box, or if a size or the resolution is impossible.
    MissingExtraError
        If gemmi is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "alanine.pdb")
    >>> _ = path.write_text(
    ...     "ATOM      1  N   ALA A   1      10.000  10.000  10.000  1.00 20.00           N\n"
    ...     "ATOM      2  CA  ALA A   1      11.458  10.000  10.000  1.00 20.00           C\n")
    >>> density_from_structure(path, size=12, voxel_size_angstrom=2.0, assembly="deposited")
    Volume(z, y, x = 12, 12, 12; voxel 2 x 2 x 2 angstrom; from alanine.pdb)
    """
    resolution = 2 * voxel_size_angstrom if resolution_angstrom is None else resolution_angstrom
    _check_box(size, voxel_size_angstrom, resolution)
    model = _assembled(Path(path), assembly)
    _centre(model, path, size * voxel_size_angstrom)
    density = _render(model, size, voxel_size_angstrom, resolution)
    if not density.max() > 0:
        raise VolumeError(f"The atoms in {str(path)!r} have no density: are all occupancies zero?")
    affine = np.diag([voxel_size_angstrom] * 3 + [1.0])
    return Volume(density / density.max(), affine, "angstrom", Path(path))


def _check_box(size: int, voxel: float, resolution: float) -> None:
    if size < 1 or not (voxel > 0 and math.isfinite(voxel)):
        raise VolumeError(f"a box of {size=} voxels of {voxel} Å is impossible; both are positive")
    if not (resolution >= 2 * voxel and math.isfinite(resolution)):
        raise VolumeError(
            f"resolution_angstrom={resolution} is finer than voxels of {voxel} Å can hold; give "
            f"{2 * voxel} Å or more, or smaller voxels"
        )


def _assembled(path: Path, assembly: str | None) -> Any:
    """Read a file and build the assembly: a gemmi model without waters and hydrogens."""
    gemmi = require("gemmi", extra="cryoet", purpose="read atomic structures")
    structure = _read(gemmi, path)
    structure.setup_entities()
    if not len(structure) or not structure[0].count_atom_sites():
        raise VolumeError(
            f"{str(path)!r} holds no atoms: is it a file of structure factors, ligand definitions "
            f"or sequences? Give the coordinates (ATOM records or an _atom_site loop)"
        )
    chosen = _chosen(structure, assembly, path)
    if chosen:
        _check_complete(chosen, structure, path)
    structure.remove_hydrogens()
    structure.remove_waters()
    structure.remove_empty_chains()
    if not len(structure) or not structure[0].count_atom_sites():
        raise VolumeError(f"{str(path)!r} holds no atoms other than hydrogens and waters")
    model = structure[0]
    _check_elements(model, path)
    return gemmi.make_assembly(chosen, model, gemmi.HowToNameCopiedChain.Dup) if chosen else model


def _read(gemmi: Any, path: Path) -> Any:
    known = re.search(r"\.(pdb\d*|ent|cif|mmcif)(\.gz)?$", path.name, re.IGNORECASE)
    check_regular(path, VolumeError)
    if not known:
        raise VolumeError(
            f"{str(path)!r} is no atomic structure by its name; accepted are "
            f"{', '.join(STRUCTURE_SUFFIXES)}, each also with .gz"
        )
    if known[2]:
        _check_unpacked(path)
    cif = "cif" in known[1].lower()
    form = gemmi.CoorFormat.Mmcif if cif else gemmi.CoorFormat.Pdb
    try:
        return gemmi.read_structure(str(path), format=form)
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        raise VolumeError(
            f"{str(path)!r} cannot be read as {'mmCIF' if cif else 'PDB'} file: {error}"
        ) from error


def _check_unpacked(path: Path) -> None:
    """Refuse a packed file that is damaged, or would unpack to far more than coordinates do."""
    most = max(_UNPACKED, _RATIO * path.stat().st_size)
    with open_stream(path) as stream:
        unpacked = 0
        while piece := stream.read(_PIECE):
            unpacked += len(piece)
            if unpacked > most:
                raise VolumeError(
                    f"{str(path)!r} unpacks to more than {most} bytes, which {path.stat().st_size} "
                    f"bytes of packed coordinates do not. Unpack it if it is meant"
                )


def _chosen(structure: Any, assembly: str | None, path: Path) -> Any | None:
    """The assembly of that name, or None for the atoms as they are."""
    listed = {found.name: found for found in structure.assemblies}
    if assembly == DEPOSITED:
        return None
    if assembly is None and not listed:
        warnings.warn(
            f"{str(path)!r} lists no biological assembly: its atoms are taken as they are. Pass "
            f"assembly={DEPOSITED!r} if that is meant",
            RespondCAMWarning,
            stacklevel=4,
        )
        return None
    name = next(iter(listed)) if assembly is None else assembly
    if name not in listed:
        names = ", ".join(map(repr, listed)) or "none"
        raise VolumeError(
            f"{str(path)!r} lists no assembly {name!r}. Listed: {names}. Also accepted: "
            f"{DEPOSITED!r}, for the atoms as they are in the file"
        )
    return listed[name]


def _check_complete(assembly: Any, structure: Any, path: Path) -> None:
    """An assembly of chains that the file does not hold would lack a part in silence."""
    model = structure[0]
    chains = {chain.name for chain in model}
    parts = {part.subchain_id() for part in model.subchains()}
    wanted = {name for generator in assembly.generators for name in generator.chains} - chains
    wanted |= {name for generator in assembly.generators for name in generator.subchains} - parts
    if wanted:
        raise VolumeError(
            f"Assembly {assembly.name!r} of {str(path)!r} is made of chains that the file does not "
            f"hold: {', '.join(sorted(wanted)[:8])}. Give the whole file, or assembly="
            f"{DEPOSITED!r} for the atoms that are there"
        )


def _check_elements(model: Any, path: Path) -> None:
    unknown = [
        _atom_in_words(where)
        for where in model.all()
        if where.atom.element.atomic_number == 0 or where.atom.element.c4322 is None
    ]
    if unknown:
        raise VolumeError(
            f"{str(path)!r} has {len(unknown)} atoms of unknown elements, the first is "
            f"{unknown[0]}: remove them, or name their elements (columns 77 and 78 of a PDB "
            f"file, _atom_site.type_symbol of mmCIF)"
        )


def _atom_in_words(where: Any) -> str:
    residue, chain = where.residue, where.chain
    try:
        return f"{residue.name} {residue.seqid} {where.atom.name} of chain {chain.name}"
    except UnicodeDecodeError:  # the names are bytes of a damaged file
        return f"atom number {where.atom.serial}"


def _centre(model: Any, path: str | os.PathLike[str], box: float) -> None:
    """Move the centre of mass to the origin, and make sure that all fits into the box."""
    atoms = model.count_atom_sites()
    weights = (one.atom.element.weight * one.atom.occ for one in model.all())
    mass = np.fromiter(weights, np.float64, atoms)
    numbers = chain.from_iterable(one.atom.pos.tolist() for one in model.all())
    places = np.fromiter(numbers, np.float64, 3 * atoms).reshape(-1, 3)
    if not np.isfinite(places).all() or not mass.sum() > 0:
        raise VolumeError(
            f"{str(path)!r} has atoms without a place, or no atom with an occupancy above zero"
        )
    centre = mass @ places / mass.sum()
    reach = np.abs(places - centre).max()
    if reach > box / 2:
        raise VolumeError(
            f"The structure in {str(path)!r} reaches {reach:.0f} Å from its centre of mass, and "
            f"the box of {box:g} Å only {box / 2:g} Å: give more or larger voxels"
        )
    for where, place in zip(model.all(), places - centre, strict=True):
        where.atom.pos.fromlist(place.tolist())


def _render(model: Any, size: int, voxel: float, resolution: float) -> np.ndarray:
    """Density (z, y, x) of a model around the origin, which goes to the box's centre."""
    gemmi = require("gemmi", extra="cryoet", purpose="read atomic structures")
    # gemmi's grids are periodic: what reaches over one border must not come in at the other
    margin = math.ceil(2 * resolution / voxel)
    padded = size + 2 * margin
    middle = gemmi.Position(*[(padded - 1) / 2 * voxel] * 3)
    for where in model.all():
        where.atom.pos += middle
        where.atom.b_iso = _B_FACTOR
        where.atom.aniso = gemmi.SMat33f(0, 0, 0, 0, 0, 0)
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate = 2 * voxel, 1.0
    sigma = resolution / (math.pi * math.sqrt(2))  # amplitude exp(-resolution^2 f^2)
    calculator.blur = 8 * math.pi**2 * sigma**2
    # where an atom ends, as a share of its height: blurred atoms are low, and there are many
    calculator.cutoff = _CUTOFF * (4 * math.pi / (_B_FACTOR + calculator.blur)) ** 1.5
    calculator.grid.unit_cell = gemmi.UnitCell(*[padded * voxel] * 3, 90, 90, 90)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(padded, padded, padded)
    calculator.add_model_density_to_grid(model)
    density = np.array(calculator.grid, copy=True).transpose(2, 1, 0)
    inside = slice(margin, margin + size)
    return np.ascontiguousarray(np.clip(density[inside, inside, inside], 0, None))

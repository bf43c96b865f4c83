"""The kinds of particles to simulate, from whatever names them: files, identifiers, phantoms."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam._files import expanded
from respondcam.cryoet.densities import density_from_file
from respondcam.cryoet.fetching import (
    EMDB_URL,
    PDB_URL,
    fetch_map,
    fetch_structure,
    is_emdb_identifier,
    is_pdb_identifier,
)
from respondcam.cryoet.phantoms import PHANTOMS, phantom
from respondcam.cryoet.simulation_files import DATASET, STAR
from respondcam.cryoet.structures import STRUCTURE_SUFFIXES, density_from_structure
from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume import Volume, read_suffixes, stem

ALL_PHANTOMS = "phantoms"


@dataclass(frozen=True)
class Banks:
    """Where structures and maps are fetched from and kept, as for `fetch_structure`."""

    cache: str | os.PathLike[str] | None = None
    pdb_url: str = PDB_URL
    emdb_url: str = EMDB_URL


def load_templates(
    names: Sequence[str] = (ALL_PHANTOMS,),
    *,
    only: Sequence[str] | None = None,
    size: int = 40,
    voxel_size_angstrom: float = 10.0,
    assembly: str | None = None,
    banks: Banks | None = None,
) -> dict[str, Volume]:
    """Load the densities that a list of names stands for, in cubic boxes of one kind.

    Parameters
    ----------
    names
        Each one a map (MRC, MAP, CCP4) or an atomic structure (PDB, mmCIF), a folder of such files,
        an identifier of the Protein Data Bank (``"1bxn"``) or the Electron Microscopy Data Bank
        (``"EMD-3001"``), the name of a phantom, or ``"phantoms"`` for all of these. What exists as
        a file or folder is taken first.
    only
        Kinds to keep, by their names; all unless given.
    size, voxel_size_angstrom
        Of the boxes.
    assembly
        As for `density_from_structure`.
    banks
        Mirrors and cache of the data banks.

    Returns
    -------
    dict
        Name of each kind and its density, in the order given; in folders by name.

    Raises
    ------
    VolumeError
        If a name stands for nothing, two kinds have one name, or a density cannot be used.
    InputError
        If something cannot be fetched.

    Examples
    --------
    >>> list(load_templates(["groel", "p97"], size=24))
    ['groel', 'p97']
    """
    listed = [kind for given in names for kind in _listed(given)]
    found = dict(listed)
    twice = [name for name in found if sum(name == other for other, _ in listed) > 1]
    if twice:
        raise VolumeError(f"Two densities are called {twice[0]!r}: rename or leave out one of them")
    missing = [name for name in only or () if name not in found]
    if missing or not found:
        wanted = f"There is no density {missing[0]!r}" if missing else "No density was named"
        raise VolumeError(f"{wanted}. There are: {', '.join(found) or 'none'}; {_known()}")
    return {
        name: _load(name, found[name], size, voxel_size_angstrom, assembly, banks or Banks())
        for name in (found if only is None else dict.fromkeys(only))
    }


def stacked(templates: Mapping[str, Volume]) -> Float[Tensor, "density z y x"]:
    """Densities as one tensor, in the order of the names.

    Examples
    --------
    >>> stacked(load_templates(["groel", "p97"], size=24)).shape
    torch.Size([2, 24, 24, 24])
    """
    return torch.stack([torch.tensor(volume.voxels) for volume in templates.values()])


def _load(
    name: str, path: Path | None, size: int, voxel: float, assembly: str | None, banks: Banks
) -> Volume:
    level = None
    if path is None and name in PHANTOMS:
        return phantom(name, size=size, voxel_size_angstrom=voxel)
    if path is None and is_emdb_identifier(name):
        fetched = fetch_map(name, folder=banks.cache, url=banks.emdb_url)
        path, level = fetched.path, fetched.level
    elif path is None:
        path = fetch_structure(name, folder=banks.cache, url=banks.pdb_url)
    if _is_structure(path):
        return density_from_structure(path, size=size, voxel_size_angstrom=voxel, assembly=assembly)
    return density_from_file(path, size=size, voxel_size_angstrom=voxel, level=level)


def _listed(given: str) -> list[tuple[str, Path | None]]:
    """Names of the kinds that one given name stands for, each with its file if it has one."""
    path = expanded(given)
    if path.exists() and given in (*PHANTOMS, ALL_PHANTOMS):
        warnings.warn(
            f"{given!r} is the name of a phantom, but also of something in this folder, which is "
            f"taken. Rename that, or run the command elsewhere, for the phantom.",
            RespondCAMWarning,
            stacklevel=4,
        )
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if _is_density(file))
        if not files and any((path / name).exists() for name in (STAR, DATASET)):
            raise VolumeError(
                f"The folder {given!r} holds images that respondcam simulate wrote, not kinds of "
                f"particles. respondcam train takes them with --folder {given}"
            )
        if not files:
            raise VolumeError(
                f"The folder {given!r} holds no densities (*.mrc, *.map, ...) and no structures "
                f"({', '.join(STRUCTURE_SUFFIXES)})"
            )
        return [(_stem(file), file) for file in files]
    if path.is_file():
        return [(_stem(path), path)]
    if path.exists():
        raise VolumeError(
            f"{given!r} is a pipe or a device; accepted are regular files and folders"
        )
    if given == ALL_PHANTOMS:
        return [(name, None) for name in PHANTOMS]
    if given in PHANTOMS:
        return [(given, None)]
    if is_pdb_identifier(given):
        return [(given.lower().removeprefix("pdb:"), None)]
    if is_emdb_identifier(given):
        number = given.lower().removeprefix("emdb:").removeprefix("emd-")
        return [(f"EMD-{number}", None)]
    raise VolumeError(
        f"{given!r} is no file or folder, no identifier such as 1bxn (PDB) or EMD-3001 (EMDB), and "
        f"no phantom; {_known()}"
    )


def _known() -> str:
    return f"phantoms are {', '.join(PHANTOMS)}, or {ALL_PHANTOMS!r} for all of them"


def _is_structure(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(STRUCTURE_SUFFIXES)


def _is_density(path: Path) -> bool:
    known = path.name.lower().endswith(read_suffixes()) or _is_structure(path)
    return path.is_file() and known and not path.name.startswith(".")


def _stem(path: Path) -> str:
    if not _is_structure(path):
        return stem(path)
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return name.rpartition(".")[0]

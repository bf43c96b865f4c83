"""Lists of particles with their poses, as RELION writes and reads them (STAR files).

**Angles** are rlnAngleRot, rlnAngleTilt and rlnAnglePsi, as `respondcam.cryoet.angles` has them.

**Positions** here are voxel indices x, y, z that count from 0, fractions kept. For particles in
tomograms they are rlnCoordinateX, Y and Z. For particles in files of their own they are rlnOriginX,
Y and ZAngst: the way in Å from the particle to the voxel at half the box's size, rounded down.

What RELION writes beside these is put together in `particle_poses`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from respondcam._extras import require
from respondcam._files import check_regular, whole_file
from respondcam._version import __version__
from respondcam.cryoet.angles import relion_angles
from respondcam.cryoet.imaging import CTF
from respondcam.cryoet.particle_poses import (
    ANGLES,
    COORDINATES,
    ORIGINS,
    from_either,
    numbers,
    positions,
    rotations,
    voxel_size,
)
from respondcam.cryoet.star_lines import check_lines
from respondcam.errors import InputError

_FILES = ("rlnImageName", "rlnTomoName", "rlnMicrographName")
_NAMES = (*_FILES, "rlnReferenceImage")  # texts, whatever numbers they look like
_LARGEST_BOX = 1 << 16  # voxels along an axis


@dataclass(frozen=True, eq=False)
class ParticleList:
    """Particles in files, with class and pose.

    Parameters
    ----------
    files
        The file that each particle is in: a tomogram, or a box of its own.
    classes
        Name of each particle's class.
    positions
        Voxel indices (particle, 3) of the particles' centres in their files, x, y, z, from 0.
    rotations
        Matrices (particle, 3, 3) that turn the reference into the file, x, y, z.
    voxel_size_angstrom
        Of the files.
    box_size
        Voxels along the boxes' axes if each particle has a file of its own, None in tomograms.
    """

    files: tuple[str, ...]
    classes: tuple[str, ...]
    positions: Float[np.ndarray, "particle 3"]
    rotations: Float[np.ndarray, "particle 3 3"]
    voxel_size_angstrom: float
    box_size: int | None = None


def write_particles(
    path: str | os.PathLike[str], particles: ParticleList, *, ctf: CTF | None = None
) -> None:
    """Write a list of particles as a STAR file with optics, particles and names of the classes.

    The same list gives the same bytes. Class numbers count from 1 in the order of the names.

    Parameters
    ----------
    path
        The file; replaced if it exists.
    particles
        What to write.
    ctf
        The microscope, for the optics table.

    Raises
    ------
    InputError
        If the file cannot be written.
    MissingExtraError
        If starfile is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> one = ParticleList(
    ...     ("tomogram.mrc",), ("groel",), np.array([[3.0, 4.0, 5.0]]), np.eye(3)[None], 10.0)
    >>> path = f"{tempfile.mkdtemp()}/particles.star"
    >>> write_particles(path, one)
    >>> read_particles(path).positions
    array([[3., 4., 5.]])
    """
    starfile = require("starfile", extra="cryoet", purpose="write STAR files")
    text = starfile.to_string(_tables(particles, ctf))
    # the library begins with the time of day: the same list would give other bytes each time
    body = "\n".join(line for line in text.splitlines() if not line.startswith("# ")).strip()
    with whole_file(path) as beside:
        beside.write_text(f"# respondcam {__version__}\n\n{body}\n", encoding="utf-8")


def read_particles(path: str | os.PathLike[str]) -> ParticleList:
    r"""Read a STAR file of RELION 3.0 or later (or of `write_particles`) with poses.

    Raises
    ------
    InputError
        If the file cannot be read, has a table or a label twice or rows that do not fit the labels,
        has no table of particles, or lacks angles, positions, names of files or the voxel size, or
        has values that are no numbers.
    MissingExtraError
        If starfile is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "empty.star")
    >>> _ = path.write_text("data_particles\n\nloop_\n_rlnImageName #1\na.mrc\nb.mrc\n")
    >>> read_particles(path)
    Traceback (most recent call last):
    respondcam.errors.InputError: ... has no poses: the columns rlnAngleRot, rlnAngleTilt, ...
    """
    tables = _read_tables(path)
    rows = tables.get("particles", tables.get("", next(iter(tables.values()), None)))
    if rows is None or not len(rows):
        raise InputError(f"{str(path)!r} lists no particles: it has no table of them, or no rows")
    missing = [name for name in ANGLES if name not in rows]
    if missing:
        raise InputError(
            f"{str(path)!r} has no poses: the columns {', '.join(missing)} are missing. Give the "
            f"STAR file of a refinement (run_data.star), or one that simulate wrote"
        )
    optics = tables.get("optics")
    boxed = "rlnImageName" in rows
    voxel = voxel_size(rows, optics, path, boxed=boxed)
    box = _box_size(from_either(rows, optics, "rlnImageSize", path), path) if boxed else None
    return ParticleList(
        files=_files(rows, path),
        classes=_classes(rows, tables, path),
        positions=positions(rows, voxel, box, path),
        rotations=rotations(rows, path, boxed=boxed),
        voxel_size_angstrom=voxel,
        box_size=box,
    )


def particle_files(particles: ParticleList, star: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Find the file of each particle: beside the list, or in the folder of the program.

    RELION writes names from its project's folder, `write_particles` from that of the list.

    Raises
    ------
    InputError
        If a file is not there, or is one image of a stack.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.mrc").write_text("")
    >>> one = ParticleList(("a.mrc",), ("groel",), np.zeros((1, 3)), np.eye(3)[None], 10.0)
    >>> particle_files(one, folder / "particles.star")[0].name
    'a.mrc'
    """
    beside = Path(star).parent
    found, missing = {}, []
    for name in dict.fromkeys(particles.files):
        if "@" in name:
            raise InputError(
                f"{str(star)!r} lists {name!r}, one image of a stack; volumes in files of their "
                f"own are accepted, one name in each row"
            )
        places = [path for path in (beside / name, Path(name)) if path.is_file()]
        found[name] = places[0] if places else None
        missing += [] if places else [name]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{str(star)!r} lists files that are not there: {', '.join(missing[:3])}{more}. They "
            f"were looked for in {str(beside)!r} and in {str(Path.cwd())!r}"
        )
    return tuple(found[name] for name in particles.files)


def _tables(particles: ParticleList, ctf: CTF | None) -> dict[str, Any]:
    pandas = require("pandas", extra="cryoet", purpose="write STAR files")
    names = sorted(set(particles.classes))
    optics: dict[str, list[Any]] = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["opticsGroup1"],
        "rlnImagePixelSize": [particles.voxel_size_angstrom],
        "rlnImageDimensionality": [3],
    }
    if particles.box_size is not None:
        optics["rlnImageSize"] = [particles.box_size]
    if ctf is not None:
        optics["rlnVoltage"] = [ctf.voltage_kv]
        optics["rlnSphericalAberration"] = [ctf.spherical_aberration_mm]
        optics["rlnAmplitudeContrast"] = [ctf.amplitude_contrast]
    rows: dict[str, Any] = dict(_place_columns(particles))
    rows |= dict(zip(ANGLES, relion_angles(particles.rotations).T, strict=True))
    rows["rlnClassNumber"] = [names.index(name) + 1 for name in particles.classes]
    rows["rlnOpticsGroup"] = [1] * len(particles.files)
    classes = {"rlnClassNumber": range(1, len(names) + 1), "rlnReferenceImage": names}
    return {
        "optics": pandas.DataFrame(optics),
        "particles": pandas.DataFrame(rows),
        "model_classes": pandas.DataFrame(classes),
    }


def _place_columns(particles: ParticleList) -> dict[str, Any]:
    if particles.box_size is None:
        columns = dict(zip(COORDINATES, particles.positions.T, strict=True))
        return {"rlnTomoName": list(particles.files), **columns}
    ways = (particles.box_size // 2 - particles.positions) * particles.voxel_size_angstrom
    columns = dict(zip(ORIGINS, ways.T, strict=True))
    return {"rlnImageName": list(particles.files), **columns}


def _read_tables(path: str | os.PathLike[str]) -> dict[str, Any]:
    starfile = require("starfile", extra="cryoet", purpose="read STAR files")
    check_regular(path)
    check_lines(Path(path))
    try:
        found = starfile.read(path, always_dict=True, parse_as_string=list(_NAMES))
    except Exception as error:  # the library lets whatever fails inside it through
        raise InputError(f"{str(path)!r} cannot be read as STAR file: {error}") from error
    pandas = require("pandas", extra="cryoet", purpose="read STAR files")
    return {
        str(name): pandas.DataFrame([table]) if isinstance(table, Mapping) else table
        for name, table in found.items()
    }


def _box_size(size: float | None, path: str | os.PathLike[str]) -> int:
    if size is None:
        raise InputError(f"{str(path)!r} has no column rlnImageSize; add it")
    if size != int(size) or size > _LARGEST_BOX:
        raise InputError(
            f"{str(path)!r} gives {size:g} for rlnImageSize, the size of the boxes; accepted are "
            f"whole numbers of voxels up to {_LARGEST_BOX}"
        )
    return int(size)


def _files(rows: Any, path: str | os.PathLike[str]) -> tuple[str, ...]:
    for name in _FILES:
        if name in rows:
            return _texts(rows, name, path)
    raise InputError(
        f"{str(path)!r} does not say which files its particles are in; rlnImageName, rlnTomoName "
        f"and rlnMicrographName are accepted"
    )


def _texts(table: Any, column: str, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names as they are written, with the exception of those that stand for nothing."""
    if not all(isinstance(name, str) for name in table[column]):
        raise InputError(
            f"{str(path)!r} has rows without a name in {column}; nan, NaN and <NA> are read as "
            f"none. Accepted are other names"
        )
    return tuple(table[column])


def _classes(rows: Any, tables: Mapping[str, Any], path: str | os.PathLike[str]) -> tuple[str, ...]:
    if "rlnClassNumber" not in rows:
        return ("1",) * len(rows)
    names: dict[int, str] = {}
    table = tables.get("model_classes")
    if table is not None and {"rlnClassNumber", "rlnReferenceImage"} <= set(table):
        known = _class_numbers(table, path)
        names = dict(zip(known, _texts(table, "rlnReferenceImage", path), strict=True))
    return tuple(names.get(number, str(number)) for number in _class_numbers(rows, path))


def _class_numbers(table: Any, path: str | os.PathLike[str]) -> list[int]:
    """Whole numbers, whichever way they are written."""
    found = numbers(table, ("rlnClassNumber",), path)[:, 0]
    if (found != np.floor(found)).any():
        raise InputError(f"{str(path)!r} has values that are no whole numbers in rlnClassNumber")
    return [int(number) for number in found]

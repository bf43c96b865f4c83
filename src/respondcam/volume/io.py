"""Read and write volumes: which module serves which suffix, and what is checked for all of them."""

import contextlib
import difflib
import importlib
import itertools
import os
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

from respondcam._files import whole_file, whole_folder, why_unwritten
from respondcam._readers import way
from respondcam.errors import VolumeError
from respondcam.volume._wording import IMAGES
from respondcam.volume.volume import Volume

NonFinite = Literal["error", "zero", "keep"]

_MRC = (".mrc", ".map", ".rec", ".ccp4")
_READERS = {
    **{f"{suffix}{packing}": "mrc" for suffix in _MRC for packing in ("", ".gz", ".bz2")},
    **dict.fromkeys((".nii", ".nii.gz", ".hdr", ".img"), "nifti"),
    **dict.fromkeys((".nrrd", ".nhdr"), "nrrd"),
    **dict.fromkeys((".mha", ".mhd"), "metaimage"),
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
    **dict.fromkeys((".npy", ".npz"), "numpy_files"),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), "dicom"),
    **dict.fromkeys((".ome.zarr", ".zarr"), "ome_zarr"),
}
# Kinds that are read and not written: what a companion is written to instead. Halves of pairs are
# among them, since two files cannot appear at once.
_INSTEAD = {
    **dict.fromkeys((".hdr", ".img", ".dcm", ".dicom", ".ima"), ".nii.gz"),
    ".nhdr": ".nrrd",
    ".mhd": ".mha",
    ".zarr": ".ome.zarr",
}
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_WRITERS = {suffix: module for suffix, module in _READERS.items() if suffix not in _INSTEAD}


def read_volume(path: str | os.PathLike[str], *, nonfinite: NonFinite = "error") -> Volume:
    """Read a volume with its place in the world.

    Parameters
    ----------
    path
        A file of a kind that `read_suffixes` lists, a file of a DICOM series (whatever its name),
        an OME-Zarr image, or a folder that holds one DICOM series.
    nonfinite
        What to do about voxels that are NaN or infinite: ``"error"``, put ``"zero"`` in their
        place, or ``"keep"`` them.

    Returns
    -------
    Volume
        float32 voxels (z, y, x) or (channel, z, y, x), affine, unit, source and header.

    Raises
    ------
    VolumeError
        If the file is missing, of no known kind, damaged, no volume, larger than its own size
        allows, or holds NaN or infinite voxels.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/ball.mrc"
    >>> write_volume(path, Volume(np.ones((4, 5, 6)), np.diag([3.0, 3.0, 3.0, 1.0]), "angstrom"))
    >>> read_volume(path)
    Volume(z, y, x = 4, 5, 6; voxel 3 x 3 x 3 angstrom; from ball.mrc)
    """
    source = Path(path)
    if nonfinite not in ("error", "zero", "keep"):
        raise VolumeError(f"nonfinite must be 'error', 'zero' or 'keep', received {nonfinite!r}")
    reader = _reader(source)
    try:
        volume = reader.read(source)
    except VolumeError as error:
        if str(source) in str(error):
            raise
        raise VolumeError(f"{str(source)!r}: {error}") from error
    except OSError as error:
        raise VolumeError(f"Cannot read {str(source)!r}: {error}") from error
    except MemoryError as error:
        raise VolumeError(f"{str(source)!r} does not fit into this machine's memory") from error
    return _with_finite_voxels(volume, nonfinite)


def write_volume(path: str | os.PathLike[str], volume: Volume) -> None:
    """Write a volume as float32, in the format that the suffix names, whole or not at all.

    A place in the world that the format cannot hold is an error, never an approximation. Lengths
    are converted to what the format counts in, and `read_volume` gives the unit and affine back:

    ==================  ==========================================================================
    MRC                 ångström; a label names the unit when it was millimetres or none
    NIfTI               millimetres; ångström become micrometres
    NRRD, MetaImage     millimetres; a field of ours names the unit when it was another
    TIFF, NPZ, OME-Zarr the volume's own unit
    ==================  ==========================================================================

    A volume read from NIfTI, NRRD, MetaImage or TIFF is written to the same format in its source's
    unit, so that the numbers agree for programs that look at nothing else.

    Parameters
    ----------
    path
        Where to; one of the suffixes that `write_suffixes` lists.
    volume
        What to write.

    Raises
    ------
    VolumeError
        If the suffix is unknown, the format cannot hold the volume, or voxels are NaN or infinite.
    InputError
        If the folder does not exist or cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> write_volume(f"{tempfile.mkdtemp()}/ball.nii.gz", Volume(np.ones((4, 5, 6)), unit="mm"))
    """
    target = Path(path)
    suffix = _known_suffix(target, _READERS)
    if suffix not in _WRITERS:
        instead = f"; write to {_INSTEAD[suffix]} instead" if suffix in _INSTEAD else ""
        raise VolumeError(
            f"Cannot write a volume to {str(target)!r}: its suffix must be one of "
            f"{', '.join(write_suffixes())}{instead}"
        )
    if bad := _count_nonfinite(volume):
        raise VolumeError(
            f"Cannot write {str(target)!r}: {bad} voxels of {volume.voxels.size} are NaN or "
            f"infinite, and few programs can show them. Replace them, for example with "
            f"numpy.nan_to_num"
        )
    writer = _module(_WRITERS[suffix])
    whole = whole_folder if suffix == ".ome.zarr" else whole_file
    try:
        with whole(target) as beside:
            writer.write(beside, volume, suffix)
    except VolumeError as error:
        raise VolumeError(f"Cannot write {str(target)!r}: {error}") from error
    except OSError as error:
        raise VolumeError(f"Cannot write {str(target)!r}: {why_unwritten(error)}") from error


def read_suffixes() -> tuple[str, ...]:
    """Suffixes that `read_volume` knows, compound ones included.

    Examples
    --------
    >>> ".nii.gz" in read_suffixes()
    True
    """
    return tuple(_READERS)


def write_suffixes() -> tuple[str, ...]:
    """Suffixes that `write_volume` knows, compound ones included.

    Examples
    --------
    >>> ".mrc" in write_suffixes()
    True
    """
    return tuple(_WRITERS)


def companion_suffix(volume: Volume) -> str:
    """Suffix for a file to write beside a volume's source, so that the same programs open both.

    The suffix of the source, where that is written; for DICOM and for pairs of header and voxels
    the single file that comes closest; for a volume without a source what suits its unit.

    Examples
    --------
    >>> companion_suffix(Volume(np.zeros((2, 2, 2)), source=Path("scan.MHD")))
    '.mha'
    >>> companion_suffix(Volume(np.zeros((2, 2, 2)), unit="angstrom"))
    '.mrc'
    """
    by_unit = {"mm": ".nii.gz", "angstrom": ".mrc", "voxel": ".npz"}
    if volume.source is None:
        return by_unit[volume.unit]
    suffix = _known_suffix(volume.source, _READERS)
    if suffix is None:
        return ".nii.gz" if (volume.header or {}).get("format") == "dicom" else by_unit[volume.unit]
    # a coarser map has another place than its source, which an array alone cannot say
    return ".npz" if suffix == ".npy" else _INSTEAD.get(suffix, suffix)


def stem(path: str | os.PathLike[str]) -> str:
    """Name of a volume's file or folder without its suffix, compound suffixes included.

    Examples
    --------
    >>> stem("scans/brain.nii.gz"), stem("scans/1.2.840")
    ('brain', '1.2.840')
    """
    name = Path(path).name
    suffix = _known_suffix(Path(path), _READERS) or ""
    return name[: len(name) - len(suffix)] or name


def _reader(source: Path) -> ModuleType:
    check_readable(source)
    return module_of(source)


def _near(source: Path) -> str:
    """A name in the same folder that may have been meant."""
    with contextlib.suppress(OSError, ValueError):  # a name that no folder can have
        names = [one.name for one in itertools.islice(source.parent.iterdir(), 10_000)]
        for name in difflib.get_close_matches(source.name, names, n=1, cutoff=0.8):
            return f"; there is {str(source.with_name(name))!r}"
    return ""


def check_readable(source: Path) -> None:
    """Raise a worded error for what is missing, empty or no file."""
    try:
        there = bool(source.stat())
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except (OSError, ValueError) as error:  # a name that no file can have
        raise VolumeError(f"Cannot read {str(source)!r}: {error}") from error
    if not there and source.is_symlink():
        raise VolumeError(
            f"{str(source)!r} is a link that leads nowhere: there is no {str(source.readlink())!r}"
        )
    if not there:
        raise VolumeError(f"There is no file or folder {str(source)!r}{_near(source)}")
    if source.is_dir():
        return
    if not source.is_file():
        raise VolumeError(f"{str(source)!r} is no regular file")
    if source.stat().st_size == 0:
        raise VolumeError(f"{str(source)!r} is empty")


def module_of(source: Path) -> ModuleType:
    """The module that reads a file or folder.

    Raises
    ------
    VolumeError
        If its kind is unknown.
    """
    if source.is_dir():
        return _module("ome_zarr" if is_zarr(source) else "dicom")
    suffix = _known_suffix(source, _READERS)
    if suffix is not None and _READERS[suffix] != "ome_zarr":
        return _module(_READERS[suffix])
    dicom = _module("dicom")
    if dicom.has_dicom_stamp(source):  # DICOM files often have no suffix
        return dicom
    if source.suffix.lower() == ".star":
        raise VolumeError(
            f"{str(source)!r} is a list of particles, not a volume. "
            + way(
                python="respondcam.cryoet.particles_star reads it; give the images that it lists",
                command_line="Give the folder of the images that it lists; the list itself is for "
                "respondcam average",
            )
        )
    if source.suffix.lower() in _PICTURES:
        raise VolumeError(
            f"{str(source)!r} is a picture, not a volume. {IMAGES}; a stack of sections is read "
            f"as one TIFF file"
        )
    raise VolumeError(
        f"{str(source)!r} is of no known kind: its suffix must be one of "
        f"{', '.join(read_suffixes())}, or it must be a DICOM file"
    )


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr group or array.

    Examples
    --------
    >>> is_zarr(Path("/"))
    False
    """
    try:
        return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    except PermissionError:  # of the folder, which whoever reads it will name
        return False


def _known_suffix(path: Path, known: dict[str, str]) -> str | None:
    """The longest suffix of the name that is known, whatever its case."""
    name = path.name.lower()
    return max((suffix for suffix in known if name.endswith(suffix)), key=len, default=None)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"respondcam.volume.{name}")


def _with_finite_voxels(volume: Volume, nonfinite: NonFinite) -> Volume:
    if nonfinite == "keep":
        return volume
    bad = _count_nonfinite(volume)
    if not bad:
        return volume
    if nonfinite == "error":
        raise VolumeError(
            f"{str(volume.source)!r} has {bad} voxels of {volume.voxels.size} that are NaN or "
            f"infinite. Pass nonfinite='zero' (--nonfinite zero) to read them as zero"
        )
    return volume.with_voxels(np.nan_to_num(volume.voxels, nan=0.0, posinf=0.0, neginf=0.0))


def _count_nonfinite(volume: Volume) -> int:
    # section by section, since a mask of the whole volume would take a quarter of its memory
    sections = (section for channel in _channels(volume) for section in channel)
    return sum(section.size - int(np.count_nonzero(np.isfinite(section))) for section in sections)


def _channels(volume: Volume) -> np.ndarray:
    return volume.voxels if volume.voxels.ndim == 4 else volume.voxels[None]

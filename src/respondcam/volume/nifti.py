"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, and reading pairs .hdr + .img), with nibabel's geometry.

The affine is nibabel's own choice: sform if it has a code, else qform if it has one, else the voxel
sizes alone with the world's zero in the middle of the grid.

Units: millimetres and metres are read as millimetres, micrometres as ångström; a header that names
no unit is read as millimetres, as every viewer does. Writing, ångström become micrometres
(1 Å = 1e-4 µm, the closest unit that the format has), and a volume without a unit says so in the
description. A companion of a NIfTI file keeps its unit, and both its sform and its qform with
their codes, moved along with the grid.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor, logger
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume._stream import check_size, open_stream, read_exactly, read_rest, read_voxels
from respondcam.volume._wording import described
from respondcam.volume.geometry import disagreement, scaled
from respondcam.volume.lazy import LazyVolume, RawArray, placeholder
from respondcam.volume.volume import Unit, Volume

_NO_UNIT = "unit: voxel"
_TOLERANCE = 1e-3  # voxels
_STAMP = 4  # bytes after a header that say whether extensions follow
_LARGEST_OFFSET = 1 << 26  # bytes; packed files are unpacked to there, and extensions are short
# NIfTI's unit -> our unit, and how many of ours make one of it
_UNITS: dict[str, tuple[Unit, float]] = {
    "unknown": ("mm", 1.0),
    "mm": ("mm", 1.0),
    "meter": ("mm", 1e3),
    "micron": ("angstrom", 1e4),
}
_UNIT_TO_WRITE: dict[Unit, str] = {"mm": "mm", "angstrom": "micron", "voxel": "unknown"}


def read(path: Path) -> Volume:
    """Read a NIfTI file or pair, with its scaling applied.

    Of the axes beyond the third, one may be longer than 1: the fourth (time, echoes) or a later one
    (vectors). It becomes the channels.

    Raises
    ------
    VolumeError
        If the file is no NIfTI file, or holds no volume of real numbers.
    """
    header, shape, dtype, (slope, intercept), voxel_path = _read_layout(path)
    with open_stream(voxel_path) as stream:
        stream.seek(header.get_data_offset())
        voxels = read_voxels(stream, shape, dtype, voxel_path, slope=slope, intercept=intercept)
        read_rest(stream, voxel_path)
    unit, factor = _unit(header)
    affine = scaled(header.get_best_affine(), factor)
    return Volume(voxels, affine, unit, path, _companion_facts(header, affine))


def lay_open(path: Path) -> LazyVolume:
    """Open a NIfTI file that is not compressed, without reading its voxels.

    Raises
    ------
    VolumeError
        As for `read`.
    """
    header, shape, dtype, (slope, intercept), voxel_path = _read_layout(path, in_memory=False)
    if dtype.kind not in "fiub":
        raise VolumeError(f"{str(path)!r} holds voxels of type {dtype}; accepted are real numbers")
    offset = int(header.get_data_offset())
    stored = RawArray(voxel_path, offset, shape, dtype, slope, intercept)
    unit, factor = _unit(header)
    affine = scaled(header.get_best_affine(), factor)
    space = placeholder(shape, affine, unit, path, _companion_facts(header, affine))
    return LazyVolume(space, stored, tuple(range(len(shape))))


def _read_layout(
    path: Path, *, in_memory: bool = True
) -> tuple[Any, tuple[int, ...], np.dtype, tuple[float, float], Path]:
    """Header, shape, type and scaling of the voxels, and the file that holds them."""
    header_path, voxel_path = _pair(path)
    try:
        header = _read_header(header_path)
        dtype, (slope, intercept) = header.get_data_dtype(), header.get_slope_inter()
        offset = header.get_data_offset()
        header.get_best_affine()
    except VolumeError:
        raise
    except (HeaderDataError, ValueError, OverflowError) as error:  # as nibabel finds no words for
        raise VolumeError(f"{str(path)!r} has a damaged NIfTI header: {error}") from error
    shape = _array_shape(header, path)
    check_size(voxel_path, shape, dtype.itemsize, in_memory=in_memory)
    if not 0 <= offset < _LARGEST_OFFSET:
        raise VolumeError(f"{str(path)!r} has a damaged NIfTI header: its voxels begin nowhere")
    if voxel_path == header_path and offset < (length := header.single_vox_offset - _STAMP):
        raise VolumeError(
            f"{str(path)!r} has a damaged NIfTI header: its voxels would begin at byte {offset} "
            f"(vox_offset), within the header, which is {length} bytes long"
        )
    return header, shape, dtype, (slope or 1.0, intercept or 0.0), voxel_path


def write(path: Path, volume: Volume, suffix: str) -> None:
    """Write a NIfTI-1 file, or NIfTI-2 when an axis is too long for that.

    Raises
    ------
    VolumeError
        If float32 numbers cannot hold the volume's place in the world.
    """
    image_class, header = header_for(volume)
    array = volume.voxels.T if volume.voxels.ndim == 3 else volume.voxels.transpose(3, 2, 1, 0)
    image_class(array, None, header).to_filename(path)


def header_for(volume: Volume) -> tuple[Any, Any]:
    """Class of the image and header of a file that holds a volume.

    Raises
    ------
    VolumeError
        If float32 numbers cannot hold the volume's place in the world.
    """
    facts = volume.header or {}
    space_unit = facts.get("space_unit", "")
    if _UNITS.get(space_unit, ("", 0))[0] != volume.unit:
        space_unit, facts = _UNIT_TO_WRITE[volume.unit], {}
    factor = 1.0 if volume.unit == "voxel" else _UNITS[space_unit][1]
    large = max(volume.voxels.shape) > np.iinfo(np.int16).max
    image_class = nib.Nifti2Image if large else nib.Nifti1Image
    header: Any = image_class.header_class()
    header.set_data_shape(volume.voxels.shape[::-1])
    header.set_data_dtype(np.float32)
    header.set_xyzt_units(xyz=space_unit)
    note = f"; {_NO_UNIT}" if volume.unit == "voxel" else ""
    header["descrip"] = described(volume.header, note).encode()
    wanted = scaled(volume.affine, 1 / factor)
    _place(header, wanted, volume, facts)
    if not disagreement(wanted, header.get_best_affine(), volume.shape) < _TOLERANCE:
        raise VolumeError(
            "NIfTI keeps places as float32 numbers, too coarse for this volume so far from the "
            "origin. Write it to .nrrd or .npz"
        )
    return image_class, header


def _pair(path: Path) -> tuple[Path, Path]:
    """Files of the header and of the voxels: the same one, except for .hdr + .img."""
    suffix = path.suffix.lower()
    if suffix not in (".hdr", ".img"):
        return path, path
    other = ".img" if suffix == ".hdr" else ".hdr"
    for candidate in (path.with_suffix(other), path.with_suffix(other.upper())):
        if candidate.is_file():
            return (path, candidate) if suffix == ".hdr" else (candidate, path)
    raise VolumeError(
        f"{str(path)!r} is half of a pair: {str(path.with_suffix(other))!r} is missing beside it"
    )


def _read_header(path: Path) -> Any:
    """Read the header alone, in the version and byte order that its first bytes tell."""
    with open_stream(path) as stream:
        start = stream.read(4)
        size = next((n for n in (348, 540) for order in ("little", "big")
                     if start == n.to_bytes(4, order)), None)  # fmt: skip
        if size is None:
            raise VolumeError(f"{str(path)!r} is no NIfTI file: it does not start with its size")
        raw = start + read_exactly(stream, size - 4, path, "a NIfTI header")
    magic = raw[344:347] if size == 348 else raw[4:7]
    classes = {
        b"n+1": (348, Nifti1Header),
        b"ni1": (348, Nifti1PairHeader),
        b"n+2": (540, Nifti2Header),
        b"ni2": (540, Nifti2PairHeader),
    }
    if magic not in classes:
        raise VolumeError(
            f"{str(path)!r} has no NIfTI stamp. An ANALYZE 7.5 file does not say which side is "
            f"left: convert it to NIfTI with a program that knows where it came from"
        )
    fitting, header = classes[magic]
    if size != fitting:
        raise VolumeError(
            f"{str(path)!r} has a damaged NIfTI header: it says to be {size} bytes long, its stamp "
            f"{magic.decode()!r} asks for {fitting}"
        )
    return _checked(header, raw, path)


def _checked(header: Any, raw: bytes, path: Path) -> Any:
    """Parse a header, and speak up about faults in it that nibabel mends and only logs."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    with LoggingOutputSuppressor():  # which puts nibabel's own handlers back
        logger.addHandler(handler)
        parsed = header(raw)
    for message in logged:
        warnings.warn(
            f"{str(path)!r} has a damaged NIfTI header: {message}", RespondCAMWarning, stacklevel=2
        )
    return parsed


def _array_shape(header: Any, path: Path) -> tuple[int, ...]:
    """Shape (z, y, x) or (channel, z, y, x) of the voxels in the file's order."""
    x_first = tuple(int(n) for n in header.get_data_shape())
    channels = [n for n in x_first[3:] if n != 1]
    if len(x_first) < 3 or len(channels) > 1:
        raise VolumeError(
            f"{str(path)!r} has the shape {x_first} (x, y, z, ...); accepted are three axes, or a "
            f"single further one longer than 1, which becomes the channels"
        )
    return (*channels, *reversed(x_first[:3]))


def _unit(header: Any) -> tuple[Unit, float]:
    described = bytes(header["descrip"].tobytes()).decode("latin-1")
    name = _unit_name(header)
    if name == "unknown" and _NO_UNIT in described:
        return "voxel", 1.0
    return _UNITS[name]


def _unit_name(header: Any) -> str:
    """NIfTI's name for the unit of space; codes that the format does not define mean nothing."""
    return {1: "meter", 2: "mm", 3: "micron"}.get(int(header["xyzt_units"]) % 8, "unknown")


def _companion_facts(header: Any, affine: np.ndarray) -> dict[str, Any]:
    """What a companion file needs to lie in the same place in every program."""
    qform, qform_code = _qform(header)
    return {
        "format": "nifti",
        "space_unit": _unit_name(header),
        "affine": affine,
        "zooms": np.array(header.get_zooms()[:3], dtype=np.float64),
        "sform": header.get_sform(),
        "sform_code": int(header["sform_code"]),
        "qform": qform,
        "qform_code": qform_code,
    }


def _qform(header: Any) -> tuple[np.ndarray, int]:
    """The qform and its code; where its quaternion is no rotation, code 0: nobody reads it."""
    try:
        return header.get_qform(), int(header["qform_code"])
    except ValueError:
        return np.eye(4), 0


def _place(header: Any, wanted: np.ndarray, volume: Volume, facts: dict[str, Any]) -> None:
    """Set voxel sizes, sform and qform; programs differ in which of them they believe."""
    sform = qform = wanted
    sform_code = qform_code = 2  # "aligned", to nothing in particular
    zooms = np.linalg.norm(wanted[:3, :3], axis=0)
    if facts:
        # how the volume's grid lies in the source's: any crop or coarser grid
        source: np.ndarray = facts["affine"]
        moved = np.linalg.solve(source, volume.affine)
        zooms = np.linalg.norm(facts["zooms"][:, None] * moved[:3, :3], axis=0)
        sform_code, qform_code = facts["sform_code"], facts["qform_code"]
        sform = facts["sform"] @ moved if sform_code else wanted
        qform = facts["qform"] @ moved
    header.set_zooms((*zooms, *[1.0] * (volume.voxels.ndim - 3)))
    if qform_code and not _set_qform(header, qform, qform_code, volume.shape):
        sform_code = sform_code or qform_code
    by_zooms = disagreement(wanted, header.get_best_affine(), volume.shape) < _TOLERANCE
    if sform_code or not by_zooms:
        header.set_sform(sform, sform_code or 2)


def _set_qform(header: Any, qform: np.ndarray, code: int, shape: tuple[int, ...]) -> bool:
    """Set the qform unless the grid is sheared, which a quaternion cannot say."""
    zooms = header.get_zooms()
    header.set_qform(qform, code, strip_shears=True)
    if disagreement(qform, np.asarray(header.get_qform()), shape) < _TOLERANCE:
        return True
    header["qform_code"] = 0
    header.set_zooms(zooms)
    return False

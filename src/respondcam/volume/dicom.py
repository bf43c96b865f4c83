"""DICOM series through SimpleITK (GDCM): a folder, or one file of a series.

Slices are sorted by their position along the normal, never by name or number, and the step between
slices is the step between their positions, so that gantry tilt and gaps between slices come out
right (DICOM PS3.3, C.7.6.2). Each slice is rescaled with its own slope and intercept. DICOM's world
is left, posterior, superior, and becomes right, anterior, superior.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from respondcam.errors import VolumeError
from respondcam.volume._stream import UNBOUNDED, check_size
from respondcam.volume._wording import IMAGES
from respondcam.volume.dicom_elements import check_elements, filled_elements
from respondcam.volume.dicom_pixels import check_pixels, check_runs
from respondcam.volume.geometry import LPS_TO_RAS
from respondcam.volume.itk import read_information, reason, simple_itk
from respondcam.volume.volume import Volume

_SERIES = "0020|000e"
_DESCRIPTION = "0008|103e"
_BITS = "0028|0100"
_PHOTOMETRIC, _INTERCEPT, _SLOPE = "0028|0004", "0028|1052", "0028|1053"
_LOOKUP = (0x0028, 0x3000)  # Modality LUT Sequence
_POSITION, _ORIENTATION, _SPACING = "0020|0032", "0020|0037", "0028|0030"
# Tags (7fe0,0010) and (0028,0010) in little-endian byte order: files that have them are images
_PIXEL_DATA, _ROWS = b"\xe0\x7f\x10\x00", b"\x28\x00\x10\x00"
_SUFFIXES = ("", ".dcm", ".dicom", ".ima")  # of files that may lack the stamp
_STAMP_END = 132  # bytes
_UNEVEN = 0.02  # of the distance between slices
_ASKEW = 1e-2  # of direction cosines


_Files = list[tuple[Path, Any]]  # each with ITK's reader, which holds its tags


@dataclass(frozen=True)
class _Slice:
    """One file of a series: where its first pixel is, and its size (columns, rows)."""

    path: Path
    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray
    size: tuple[int, ...]


def read(path: Path) -> Volume:
    """Read the only series of a folder, or the series in its folder that a file belongs to.

    Raises
    ------
    VolumeError
        If there are several series, or the slices make no evenly spaced stack.
    """
    slices = [_slice(file, info) for file, info in _find_series(path)]
    if len(slices) < 2:
        raise VolumeError(f"{str(path)!r} is a series of one 2-D image, not a volume. {IMAGES}")
    _check_alike(slices, path)
    columns, rows = slices[0].size
    shape = (len(slices), rows, columns)
    check_size(path, shape, 1, available=UNBOUNDED)
    normal = np.cross(slices[0].orientation[:3], slices[0].orientation[3:])
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _even_step(slices, path)
    voxels = np.empty(shape, np.float32)
    for section, one in zip(voxels, slices, strict=True):
        section[:] = _pixels(one)
    voxels.setflags(write=False)
    return Volume(voxels, _affine(slices[0], step), "mm", path, {"format": "dicom"})


def has_dicom_stamp(path: Path) -> bool:
    """Say whether a file has 128 bytes of anything and then DICM (DICOM PS3.10)."""
    with path.open("rb") as stream:
        return stream.read(_STAMP_END)[-4:] == b"DICM"


def series_of(path: Path) -> str:
    """Identifier of the series that a file belongs to.

    Raises
    ------
    VolumeError
        If it is no DICOM image, or tells none.
    """
    return _tag(_information(path), _SERIES, path).strip(" \0")


def _find_series(path: Path) -> _Files:
    """Files of the series that a path means, with what ITK knows about each."""
    wanted = None if path.is_dir() else series_of(path)
    series, unreadable = _group(path if path.is_dir() else path.parent)
    if wanted is not None:
        series = {wanted: series.get(wanted, [])}
    if not series and unreadable:
        raise VolumeError(
            f"{str(path)!r} holds no DICOM image that can be read; {len(unreadable)} files looked "
            f"like one. Of the first: {next(iter(unreadable.values()))}"
        )
    if not series:
        raise VolumeError(
            f"{str(path)!r} is a folder without DICOM files; of folders, those of a DICOM series "
            f"and OME-Zarr images are read"
        )
    if len(series) > 1:
        listed = "; ".join(_describe(files) for files in series.values())
        raise VolumeError(
            f"{str(path)!r} holds {len(series)} DICOM series. Give one file of the series that you "
            f"mean: {listed}"
        )
    [(identifier, files)] = series.items()
    whole_identifier = re.compile(
        rb"(?<![0-9.])" + re.escape(os.fsencode(identifier)) + rb"(?![0-9.])"
    )
    for file in unreadable:
        data = file.read_bytes()
        if whole_identifier.search(data) and (_PIXEL_DATA in data or _ROWS in data):
            raise VolumeError(
                f"{str(file)!r} is a slice of the series and damaged. Fetch it anew, or move it "
                f"away to read the series without it"
            )
    return files


def _group(folder: Path) -> tuple[dict[str, _Files], dict[Path, str]]:
    """Sort a folder's images by series; the others are no readable image, for the reason given."""
    series: dict[str, _Files] = {}
    unreadable: dict[Path, str] = {}
    for file in sorted(folder.iterdir()):
        if not file.is_file() or not (file.suffix.lower() in _SUFFIXES or has_dicom_stamp(file)):
            continue
        try:
            info = _information(file)
            identifier = _tag(info, _SERIES, file).strip(" \0")
        except VolumeError as error:
            unreadable[file] = str(error)
        else:
            series.setdefault(identifier, []).append((file, info))
    return series, unreadable


def _information(path: Path) -> Any:
    check_elements(path)
    check_runs(path)
    return read_information(path, "GDCMImageIO")


def _describe(files: _Files) -> str:
    path, info = files[0]
    text = _text(info, _DESCRIPTION)
    return f"{text or 'without description'}, {len(files)} files, such as {path.name!r}"


def _slice(path: Path, info: Any) -> _Slice:
    size = tuple(info.GetSize())
    if len(size) > 2 and size[2] != 1:
        raise VolumeError(
            f"{str(path)!r} is a multi-frame DICOM file of {size[2]} frames; accepted are series "
            f"of single slices. Convert it to NIfTI, for example with dcm2niix"
        )
    if info.GetNumberOfComponents() != 1:
        raise VolumeError(f"{str(path)!r} is a colour image; accepted are grey values")
    bits = int(_numbers(info, _BITS, 1, path)[0])
    if bits == 1:
        raise VolumeError(
            f"{str(path)!r} holds pixels of one bit, of which ITK makes 0 and 255; accepted are 8 "
            f"bits or more. Convert the series to NIfTI, for example with dcm2niix"
        )
    check_pixels(path, size[:2], bits)
    _check_values(path, info)
    orientation, spacing = _numbers(info, _ORIENTATION, 6, path), _numbers(info, _SPACING, 2, path)
    _check_place(path, orientation, spacing)
    return _Slice(path, _numbers(info, _POSITION, 3, path), orientation, spacing, size[:2])


def _check_values(path: Path, info: Any) -> None:
    """Refuse stored values that ITK would not make into slope * value + intercept."""
    if _text(info, _PHOTOMETRIC).upper() == "MONOCHROME1":
        raise VolumeError(
            f"{str(path)!r} is a DICOM image of the kind MONOCHROME1, whose values ITK inverts; "
            f"accepted is MONOCHROME2. Convert the series to NIfTI, for example with dcm2niix"
        )
    if _LOOKUP in filled_elements(path):
        raise VolumeError(
            f"{str(path)!r} tells its values by a table, the Modality LUT Sequence (0028,3000); "
            f"accepted are RescaleSlope and RescaleIntercept. Apply the table and write the series "
            f"anew, for example as NIfTI"
        )
    rescaling = {
        key: _numbers(info, key, 1, path)[0]
        for key in (_INTERCEPT, _SLOPE)
        if _text(info, key)  # empty is as good as none
    }
    if rescaling.get(_SLOPE) == 0:
        raise VolumeError(
            f"{str(path)!r}: RescaleSlope (0028,1053) is 0, with which all values would be the "
            f"same; accepted are other finite numbers"
        )


def _check_place(path: Path, orientation: np.ndarray, spacing: np.ndarray) -> None:
    if (spacing <= 0).any():
        raise VolumeError(
            f"{str(path)!r}: PixelSpacing (0028,0030) is {_listed(spacing)}; accepted are two "
            f"numbers above 0"
        )
    axes = orientation.reshape(2, 3)
    # huge cosines would overflow when squared
    if np.abs(axes).max() > 2 or np.abs(axes @ axes.T - np.eye(2)).max() > 2 * _ASKEW:
        raise VolumeError(
            f"{str(path)!r}: ImageOrientationPatient (0020,0037) is {_listed(orientation)}; "
            f"accepted are two directions of length 1, perpendicular to each other"
        )


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers)


def _text(info: Any, key: str) -> str:
    return info.GetMetaData(key).strip(" \0") if info.HasMetaDataKey(key) else ""


def _tag(info: Any, key: str, path: Path) -> str:
    if not info.HasMetaDataKey(key):
        raise VolumeError(
            f"{str(path)!r} has no DICOM tag ({key.replace('|', ',')}), without which its place is "
            f"not known; it may be a screen shot or a report"
        )
    return info.GetMetaData(key)


def _numbers(info: Any, key: str, count: int, path: Path) -> np.ndarray:
    text = _tag(info, key, path)
    try:
        numbers = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise VolumeError(f"{str(path)!r}: DICOM tag ({key.replace('|', ',')}) is {text!r}")
    return numbers


def _check_alike(slices: list[_Slice], path: Path) -> None:
    first = slices[0]
    for one in slices[1:]:
        if (
            one.size != first.size
            or not np.allclose(one.orientation, first.orientation, rtol=0, atol=1e-3)
            or not np.allclose(one.spacing, first.spacing, rtol=1e-3)
        ):
            raise VolumeError(
                f"{str(path)!r}: the slices {first.path.name!r} and {one.path.name!r} of a series "
                f"differ in size, pixel spacing or orientation. Remove localiser images"
            )


def _even_step(slices: list[_Slice], path: Path) -> np.ndarray:
    """Vector from one slice to the next."""
    positions = np.array([one.position for one in slices])
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    typical = float(np.median(lengths))
    if lengths.min() <= _UNEVEN * typical:
        at = int(lengths.argmin())
        raise VolumeError(
            f"{str(path)!r}: several slices lie in the same place, such as "
            f"{slices[at].path.name!r} and {slices[at + 1].path.name!r}. Separate the time points, "
            f"echoes or reconstructions of the series"
        )
    step: np.ndarray = (positions[-1] - positions[0]) / (len(slices) - 1)
    astray = np.linalg.norm(
        positions - positions[0] - np.outer(np.arange(len(slices)), step), axis=1
    )
    if astray.max() > _UNEVEN * typical:
        at = int(np.abs(lengths - typical).argmax())
        raise VolumeError(
            f"{str(path)!r}: slices are missing or unevenly spaced: {lengths[at]:.4g} mm between "
            f"{slices[at].path.name!r} and {slices[at + 1].path.name!r}, {typical:.4g} mm elsewhere"
            f". Complete the series, or resample it to even spacing"
        )
    return step


def _affine(first: _Slice, step: np.ndarray) -> np.ndarray:
    """DICOM PS3.3, equation C.7.6.2.1-1: spacing is (between rows, between columns)."""
    lps = np.eye(4)
    lps[:3, 0] = first.orientation[:3] * first.spacing[1]
    lps[:3, 1] = first.orientation[3:] * first.spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return LPS_TO_RAS @ lps


def _pixels(one: _Slice) -> np.ndarray:
    """Rescaled grey values (row, column)."""
    sitk = simple_itk()
    try:
        image = sitk.ReadImage(str(one.path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise VolumeError(f"{str(one.path)!r} cannot be read: {reason(error)}") from error
    # a copy: a view would outlive the image that owns its memory
    return sitk.GetArrayFromImage(image).reshape(one.size[::-1])

"""What NRRD, MetaImage and DICOM share: SimpleITK, ITK's world, and writing through it.

ITK's world is left, posterior, superior; ours is right, anterior, superior, so x and y change sign
on the way in and out. ITK counts in millimetres. A header may name another unit, and then its
numbers are taken in that unit. An ångström volume is written in millimetres (1 Å = 1e-7 mm, in
float64) and our own fields in the header tell our reader how to turn it back.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from respondcam._extras import require
from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume.geometry import LENGTH_UNITS, LPS_TO_RAS, disagreement, scaled
from respondcam.volume.volume import Unit, Volume

_UNIT_FIELD, _FACTOR_FIELD = "respondcam_unit", "respondcam_per_mm"
_HEADER_BYTES = 1 << 16
_TOLERANCE = 1e-3  # voxels
_FLAT = re.compile(r"determinant is 0|Zero-valued spacing")
# Names of objects and functions of ITK and of the NRRD library, with their addresses
_INTERNAL = re.compile(
    r"^(ITK ERROR|itk::ERROR|sitk::ERROR): |\w+\(0x[0-9a-f]+\): |\[nrrd\] |_?nrrd\w+: "
    r"|ReadImageInformation: "
)


def write(path: Path, volume: Volume, suffix: str) -> None:
    """Write a .nrrd or .mha file, which hold header and voxels in one.

    Raises
    ------
    VolumeError
        If the format does not keep the volume's place in the world.
    """
    sitk = simple_itk()
    several = volume.channels > 1
    voxels = volume.voxels.reshape(volume.channels, *volume.shape)
    array = np.moveaxis(voxels, 0, -1) if several else voxels[0]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=several)
    # a companion of a file whose numbers stand for another unit keeps its numbers in that unit
    factor = (volume.header or {}).get("per_mm") or {"angstrom": 1e7}.get(volume.unit, 1.0)
    lps = LPS_TO_RAS @ scaled(volume.affine, 1 / factor)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    if volume.unit != "mm" or factor != 1.0:
        image.SetMetaData(_UNIT_FIELD, volume.unit)
        image.SetMetaData(_FACTOR_FIELD, repr(factor))
    sitk.WriteImage(image, str(path))
    written = lps_affine(read_information(path))
    if not disagreement(lps, written, volume.shape) < _TOLERANCE:
        raise VolumeError(f"{suffix} does not keep the place of this volume. Write it to .npz")


def simple_itk() -> Any:
    """SimpleITK, or the error that says how to install it."""
    return require("SimpleITK", extra="imaging", purpose="read and write this kind of file")


def read_information(path: Path, kind: str = "") -> Any:
    """Read a file's header alone; give the reader that knows size, place and tags.

    `kind` is the only one of ITK's readers to be asked. Unless it is given, ITK takes whichever of
    all its readers the content suits, whatever the name says.

    Raises
    ------
    VolumeError
        If ITK finds no image in the file.
    """
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO(kind)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise VolumeError(f"{str(path)!r} cannot be read: {reason(error)}") from error
    return reader


def reason(error: RuntimeError) -> str:
    """Take the reason out of ITK's message, which opens with places in its own source."""
    if _FLAT.search(str(error)):
        return (
            "its axes lie in one plane, or one of them has no length; accepted are three "
            "directions that do not"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "Unable to determine ImageIO reader" in lines[-1]:
        return "its content is not of the kind that its name says"
    return _INTERNAL.sub("", lines[-1]) if lines else "unknown reason"


def lps_affine(info: Any) -> np.ndarray:
    """Affine in ITK's world; the fourth axis of a time series plays no part."""
    rank = len(info.GetSize())
    direction = np.reshape(info.GetDirection(), (rank, rank))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * info.GetSpacing()[:3]
    affine[:3, 3] = info.GetOrigin()[:3]
    return affine


def text_header(path: Path) -> tuple[dict[str, str], int]:
    """Fields of a NRRD ("key: value") or MetaImage ("key = value") header, and its length.

    Returns
    -------
    fields
        Keys in lower case.
    length
        In bytes: where the voxels begin if they are in the same file.
    """
    fields: dict[str, str] = {}
    length = 0
    with path.open("rb") as stream:
        for line in stream.read(_HEADER_BYTES).splitlines(keepends=True):
            length += len(line)
            text = line.decode("latin-1").strip()
            if field := re.match(r"([^:=]+)(?::=|:|=)(.*)", text):
                fields[field[1].strip().lower()] = field[2].strip()
            if not text or "elementdatafile" in fields:
                break
    return fields, length


def unit_of(fields: dict[str, str], path: Path) -> tuple[Unit, float]:
    """Our unit of length, and how many of it one of the file's numbers stands for."""
    if fields.get(_UNIT_FIELD) in ("mm", "angstrom", "voxel") and _FACTOR_FIELD in fields:
        unit: Any = fields[_UNIT_FIELD]
        return unit, numbers(fields, _FACTOR_FIELD, 1, path)[0]
    named = fields.get("space units") or fields.get("units") or fields.get("distanceunits") or "mm"
    names = set(re.findall(r'[^\s"]+', named)) - {"???", "none"}
    known = {LENGTH_UNITS.get(name.lower()) for name in names} or {("mm", 1.0)}
    if len(known) == 1 and (unit_and_factor := known.pop()) is not None:
        return unit_and_factor
    warnings.warn(
        f"{str(path)!r} measures in {named}, which is no known unit of length: taken as mm",
        RespondCAMWarning,
        stacklevel=2,
    )
    return "mm", 1.0


def numbers(fields: dict[str, str], key: str, count: int, path: Path) -> list[float]:
    """The numbers of a field.

    Raises
    ------
    VolumeError
        If the field does not hold `count` finite numbers.
    """
    text = fields[key]
    try:
        values = [float(part) for part in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise VolumeError(
            f"{str(path)!r} has a damaged header: {key} is {text!r}, accepted are {count} numbers"
        )
    return values

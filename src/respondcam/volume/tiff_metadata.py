"""What the metadata of OME and ImageJ in a TIFF say of its voxels: their place, and their values.

ImageJ's function of values is taken as ImageJ takes it (setCalibration in its FileOpener.java):
only beside a unit of values, and of images with 8 or 16 bits; signed numbers are counted from
-32768.
"""

import math
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume.geometry import (
    LENGTH_UNITS,
    LENGTHS_IN_WORDS,
    length_name,
    lengths_in,
)
from respondcam.volume.volume import Unit

Calibration = tuple[float, float]
"""A value is the first times the stored number, plus the second."""

_NO_FUNCTION, _STRAIGHT_LINE = 20, 0  # of ImageJ's Calibration.java
_COUNTED_FROM = {"u1": 0, "i1": 0, "u2": 0, "i2": -32768}


def place_of(file: Any, path: Path) -> tuple[np.ndarray, Unit, float]:
    """Affine in the file's unit, our unit, and how many of ours the file's unit is.

    Raises
    ------
    VolumeError
        If the metadata are damaged, or measure in what is no length.
    """
    if file.is_ome:
        return _place_of_ome(file.ome_metadata, path)
    if file.is_imagej:
        return _place_of_imagej(file, path)
    return np.eye(4), "voxel", 1.0


def calibration_of(file: Any, series: Any, path: Path) -> Calibration | None:
    """How ImageJ makes values of the stored numbers; None: they are the values.

    Raises
    ------
    VolumeError
        If it is by another function than a straight line, or damaged.
    """
    kind = np.dtype(series.dtype).str[1:]
    if file.is_ome or not file.is_imagej or kind not in _COUNTED_FROM or "S" in series.axes:
        return None
    about = file.imagej_metadata
    function = about.get("cf", _NO_FUNCTION)
    if function == _NO_FUNCTION or "vunit" not in about:
        return None
    line = (about.get("c0"), about.get("c1"))
    sound = all(isinstance(n, int | float) and math.isfinite(n) for n in line) and line[1]
    if function != _STRAIGHT_LINE or not sound or about.get("zeroclip"):
        told = ", ".join(f"{n}={about[n]}" for n in ("cf", "c0", "c1", "zeroclip") if n in about)
        raise VolumeError(
            f"{str(path)!r} tells its values by a function of ImageJ ({told}); accepted is a "
            f"straight line, cf=0 with c0 and c1. Apply it in ImageJ, and save the values as 32-bit"
        )
    intercept, slope = float(line[0]), float(line[1])
    return slope, intercept - slope * _COUNTED_FROM[kind]


def _place_of_imagej(file: Any, path: Path) -> tuple[np.ndarray, Unit, float]:
    """In x's unit; y and z may have units of their own."""
    about = file.imagej_metadata
    told = [about.get("unit", "pixel"), about.get("yunit"), about.get("zunit")]
    names = [str(name or told[0]).replace("\\u00B5", "\u00b5").lower() for name in told]
    if names[0] not in LENGTH_UNITS:
        message = f"{str(path)!r} measures in {names[0]!r}, which is no known unit of length"
        warnings.warn(message, RespondCAMWarning, stacklevel=2)
        names = ["voxel"] * 3
    unit, factor = LENGTH_UNITS[names[0]]
    tags = file.pages[0].tags
    lengths: list[float] = []
    for key in ("XResolution", "YResolution"):
        pixels, per = tags[key].value if key in tags else (1, 1)
        lengths.append(per / pixels if pixels and per else 1.0)
    lengths.append(abs(float(about.get("spacing", 1.0))) or 1.0)
    lengths = _in_one_unit(lengths, names, path)
    affine = np.diag([*lengths, 1.0])
    origin = np.array([float(about.get(f"{axis}origin", 0.0)) for axis in "xyz"])
    affine[:3, 3] = -origin * lengths + 0.0
    return affine, unit, factor


def _place_of_ome(xml: str, path: Path) -> tuple[np.ndarray, Unit, float]:
    """OME-XML, schema 2016-06: PhysicalSizeX, Y, Z of the first image, in µm by default.

    Where its axes have units of their own, in x's.
    """
    try:
        elements = ElementTree.fromstring(xml).iter()
    except ElementTree.ParseError as error:
        raise VolumeError(f"{str(path)!r} has damaged OME metadata: {error}") from error
    nothing: dict[str, str] = {}
    pixels = next((one.attrib for one in elements if one.tag.endswith("}Pixels")), nothing)
    if "PhysicalSizeX" not in pixels or "PhysicalSizeY" not in pixels:
        return np.eye(4), "voxel", 1.0
    if "PhysicalSizeZ" not in pixels:
        message = f"{str(path)!r} does not say how far its sections are apart: taken as in x"
        warnings.warn(message, RespondCAMWarning, stacklevel=2)
    told = [axis if f"PhysicalSize{axis}" in pixels else "X" for axis in "XYZ"]
    names = [length_name(pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m")) for axis in told]
    lengths = [float(pixels[f"PhysicalSize{axis}"]) for axis in told]
    lengths = _in_one_unit(lengths, names, path)
    unit, factor = LENGTH_UNITS[names[0]]
    return np.diag([*lengths, 1.0]), unit, factor


def _in_one_unit(lengths: list[float], names: list[str], path: Path) -> list[float]:
    """Lengths along x, y and z, each in its unit, in that of x."""
    factors = [lengths_in(name, names[0]) for name in names]
    if None in factors or names[0] not in LENGTH_UNITS:
        raise VolumeError(
            f"{str(path)!r} measures in {sorted(set(names))}, which is no single length; accepted "
            f"are {LENGTHS_IN_WORDS}, another one along each axis if need be, or 'pixel' along all"
        )
    return [length * (known or 1.0) for length, known in zip(lengths, factors, strict=True)]

"""TIFF stacks (.tif, .tiff) through tifffile, with voxel sizes of OME and ImageJ metadata.

TIFF has no patient and no rotation: x, y, z of the world run along columns, rows and sections.
Resolution tags of plain TIFF files are for printers and say nothing about sections, so without OME
or ImageJ metadata the unit is "voxel". Writing makes an ImageJ hyperstack, with its origin. To all
programs that read TIFF, this one included, a stack of a single section is a 2-D image.
"""

import contextlib
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Generator
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from respondcam._extras import require
from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume._stream import UNBOUNDED, check_size
from respondcam.volume._wording import IMAGES
from respondcam.volume.geometry import LENGTH_UNITS, disagreement, scaled, to_axis_order
from respondcam.volume.lazy import LazyVolume, RawArray, placeholder
from respondcam.volume.tiff_metadata import Calibration, calibration_of, place_of
from respondcam.volume.tiff_parts import check_parts
from respondcam.volume.volume import Volume

_TOLERANCE = 1e-3  # voxels
_SECTION_AXES = "ZQI"  # tifffile's letters: depth, other, page of a plain multi-page file
_CHANNEL_AXES = "CS"
# What decoding bytes that are no image can raise; codecs raise RuntimeError, zlib its own
_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
)
# tifffile fills what is missing with zeros, or leaves it out, and says so in its log
_INCOMPLETE = re.compile(r"page offset|next page|reshape|zeroed|missing|corrupted|got \d")


def read(path: Path) -> Volume:
    """Read a stack of sections, with or without channels.

    Raises
    ------
    VolumeError
        If the file is damaged, or holds a single image, a time series, or several stacks.
    """
    with _stack(path) as (file, series):
        check_size(path, series.shape, series.dtype.itemsize, _bytes_at_most(file, series))
        affine, unit, factor = place_of(file, path)
        calibration = calibration_of(file, series, path)
        _check_pieces(series, path)
        voxels = _calibrated(_ordered(series.asarray(), series.axes), calibration)
    about = {"format": "tiff", "unit_factor": factor}
    return Volume(voxels, scaled(affine, factor), unit, path, about)


def lay_open(path: Path) -> LazyVolume | None:
    """Open a stack whose numbers stand one after the other; None if they do not."""
    with _stack(path) as (file, series):
        apart = _file_sizes(file, series).keys() != {file.filehandle.path}
        # in a damaged file it can be a float
        whole = isinstance(series.dataoffset, int) and series.keyframe.compression == 1
        if apart or not whole:
            return None
        affine, unit, factor = place_of(file, path)
        layout = _layout(series.axes, series.shape) or ""
        kept = [axis for axis in series.axes if axis in layout]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
        shape = tuple(sizes[axis] for axis in kept)
        slope, intercept = calibration_of(file, series, path) or (1.0, 0.0)
        stored = RawArray(path, series.dataoffset, shape, dtype, slope, intercept)
        check_size(path, stored.shape, dtype.itemsize, in_memory=False)
    about = {"format": "tiff", "unit_factor": factor}
    shape = [sizes[axis] for axis in layout]
    space = placeholder(shape, scaled(affine, factor), unit, path, about)
    return LazyVolume(space, stored, tuple(kept.index(axis) for axis in layout))


def unpack(path: Path, target: Path) -> Volume:
    """Write the numbers of a stack to a .npy file, page by page; give their place."""
    with _stack(path) as (file, series):
        available = _bytes_at_most(file, series)
        check_size(path, series.shape, series.dtype.itemsize, available, in_memory=False)
        affine, unit, factor = place_of(file, path)
        calibration = calibration_of(file, series, path)
        _check_pieces(series, path)
        layout = _layout(series.axes, series.shape) or ""
        sizes = dict(zip(series.axes, series.shape, strict=True))
        kept = [axis for axis in series.axes if axis in layout]
        order = [kept.index(axis) for axis in layout]
        if order == sorted(order) and calibration is None:
            shape = tuple(sizes[axis] for axis in layout)
            kind = np.dtype(series.dtype)
            out = np.lib.format.open_memmap(target, mode="w+", dtype=kind, shape=shape)
            series.asarray(out=out.reshape(series.shape))
            out.flush()
        else:
            array = _calibrated(_ordered(series.asarray(), series.axes), calibration)
            shape = array.shape
            np.save(target, array)
    return placeholder(shape, scaled(affine, factor), unit, path)


def write(path: Path, volume: Volume, suffix: str) -> None:
    """Write an ImageJ hyperstack with voxel size, unit and origin.

    Raises
    ------
    VolumeError
        If the volume lies obliquely to the axes of the world.
    """
    channels = volume.voxels.reshape(volume.channels, *volume.shape)
    turned = [to_axis_order(channel, volume.affine) for channel in channels]
    if turned[0] is None:
        raise VolumeError(
            "TIFF cannot hold a volume that lies obliquely to the axes of the world. Write it to "
            ".nii.gz or .nrrd, or resample it first"
        )
    factor = (volume.header or {}).get("unit_factor", 1.0)
    name = next(name for name, pair in LENGTH_UNITS.items() if pair == (volume.unit, factor))
    affine = scaled(turned[0][1], 1 / factor)
    x, y, z = np.diag(affine)[:3].tolist()
    origin = (-affine[:3, 3] / (x, y, z)).tolist()  # ImageJ: index of the world's zero
    hyperstack = np.stack([one[0] for one in turned if one is not None], axis=1)
    _tifffile().imwrite(
        path,
        hyperstack[None, ..., None],  # all six axes, lest one of length 1 is mistaken for samples
        imagej=True,
        photometric="minisblack",
        resolution=(_per_unit(x), _per_unit(y)),
        metadata={
            "axes": "TZCYXS",
            "unit": name,
            "spacing": z,
            **{f"{axis}origin": repr(n) for axis, n in zip("xyz", origin, strict=True)},
        },
    )
    with _open(path) as file:
        written = place_of(file, path)[0]
    if not disagreement(affine, written, volume.shape) < _TOLERANCE:
        raise VolumeError(f"{suffix} does not keep the place of this volume. Write it to .npz")


def _per_unit(length: float) -> tuple[int, int]:
    """How many of a length make one unit, as TIFF tells it: two whole numbers of 32 bits.

    Examples
    --------
    >>> _per_unit(0.0003)
    (10000, 3)
    """
    exact = 1 / Fraction(repr(length))
    most = 2**32 - 1
    near = exact.limit_denominator(max(1, int(most / max(1, exact))))
    return min(max(near.numerator, 1), most), near.denominator  # `write` looks at what came of it


def _tifffile() -> Any:
    return require("tifffile", extra="imaging", purpose="read and write TIFF files")


@contextlib.contextmanager
def _open(path: Path) -> Generator[Any, None, None]:
    """Open a file, and speak up about damage that tifffile only logs."""
    logged: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: logged.append(record)
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        with _tifffile().TiffFile(path) as file:
            yield file
    finally:
        logger.removeHandler(handler)
    for record in logged:
        message = record.getMessage()
        if _INCOMPLETE.search(message):
            raise VolumeError(f"{str(path)!r} is truncated or damaged: {message}")
        if record.levelno >= logging.ERROR:
            message = f"{str(path)!r} has damaged tags, its voxel size may be wrong: {message}"
            warnings.warn(message, RespondCAMWarning, stacklevel=2)


def _check_chain(path: Path) -> int:
    """Refuse pages that lead back to an earlier one: tifffile would follow them for ever.

    Returns
    -------
    int
        How many pages there are, before the file ends.
    """
    seen: set[int] = set()
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return 0  # tifffile says what is wrong
        version = struct.unpack(f"{order}H", head[2:4])[0]
        # BigTIFF counts tags and places in 8 bytes
        count, place, tag = ("Q", "Q", 20) if version == 43 else ("H", "I", 12)
        (at,) = struct.unpack_from(order + place, head, 8 if version == 43 else 4)
        while at:
            if at in seen:
                raise VolumeError(f"{str(path)!r} is damaged: its pages lead round in a circle")
            seen.add(at)
            following = _number(file, at, order + count)
            if following is None:
                return len(seen) - 1
            at = _number(file, at + struct.calcsize(count) + tag * following, order + place)
    return len(seen)


def _number(file: IO[bytes], at: int, kind: str) -> int | None:
    """One number of a file, None where it has ended."""
    if at >= 1 << 62:
        return None
    file.seek(at)
    data = file.read(struct.calcsize(kind))
    return struct.unpack(kind, data)[0] if len(data) == struct.calcsize(kind) else None


@contextlib.contextmanager
def _stack(path: Path) -> Generator[tuple[Any, Any], None, None]:
    """The open file and its only stack; damage that shows while the block reads has words."""
    pages = _check_chain(path)
    try:
        with _open(path) as file:
            check_parts(file, path, _tifffile().tifffile.read_ndtiff_index)
            yield file, _only_stack(file, path, pages)
    except VolumeError:
        raise
    except (*_DAMAGE, _tifffile().TiffFileError) as error:  # the latter once was no ValueError
        raise VolumeError(f"{str(path)!r} cannot be read as TIFF: {error}") from error


def _only_stack(file: Any, path: Path, pages: int) -> Any:
    """The series of the file that is a volume, if there is one and no other."""
    stacks = [series for series in file.series if _layout(series.axes, series.shape)]
    if len(stacks) == 1:
        if (kind := np.dtype(stacks[0].dtype)).kind not in "fiub":
            raise VolumeError(
                f"{str(path)!r} holds voxels of type {kind}; accepted are real numbers. Save the "
                f"magnitude, the real part or single channels instead"
            )
        _check_left_out(file, stacks[0], path, pages)
        return stacks[0]
    if len(file.series) == 1 and set(file.series[0].axes) <= set("YXS"):
        raise VolumeError(
            f"{str(path)!r} holds a single picture, not a stack of sections. {IMAGES}"
        )
    listed = ", ".join(f"{one.name or 'unnamed'} {one.axes} {one.shape}" for one in file.series)
    raise VolumeError(
        f"{str(path)!r} holds {len(stacks) or 'no'} stacks of sections with at most one axis of "
        f"channels; accepted is a single one. It holds: {listed or 'nothing'}. If sections were "
        f"stored as channels or times, write them again as sections (axes='ZYX' in tifffile)"
    )


def _check_left_out(file: Any, stack: Any, path: Path, pages: int) -> None:
    """Refuse a stack that lacks pages of the file: later sections would move up, or be lost.

    Pages of another size behind the stack, and those that say that they are reduced, are pictures
    of it.
    """
    if stack.kind == "imagej":
        sections = stack.size // stack.keyframe.size
        if pages == 1 and stack.keyframe.samplesperpixel == 1:  # all are behind one page
            pages = int(file.imagej_metadata.get("images", 1))
        if sections < pages:
            raise VolumeError(
                f"{str(path)!r}: its ImageJ header tells of {sections} sections, and {pages} are "
                f"stored; accepted are as many as it tells of. Save it again with ImageJ, or take "
                f"the header away to have all pages read as sections"
            )
    if stack.kind != "generic":
        return  # the metadata say what belongs together
    places = [page.index for page in stack.pages if page is not None]
    if not all(isinstance(place, int) for place in places):
        return  # it is within other pages
    for other in file.series:
        for page in other.pages if other is not stack else ():
            place = page.index
            if not isinstance(place, int) or page.is_reduced:
                continue
            if place < max(places) or page.shape == stack.keyframe.shape:
                raise VolumeError(
                    f"{str(path)!r}: page {place + 1} of {pages} holds {_kind(page)}, "
                    f"the others {_kind(stack.keyframe)}; accepted are sections of one size and "
                    f"type, packed and tiled alike. Save them so, or take the page away"
                )


def _kind(page: Any) -> str:
    return f"{' x '.join(map(str, page.shape))} numbers of type {np.dtype(page.dtype).name}"


def _check_pieces(series: Any, path: Path) -> None:
    """Refuse strips and tiles that end beyond the file: memory would be set aside for them."""
    if series.dataoffset is not None:
        return  # read in one piece, whose size is that of the voxels
    for page in series.pages:
        if page is None:
            continue  # a gap, filled with zeros
        size, pieces = page.parent.filehandle.size, prod(series.keyframe.chunked)
        listed = min(len(page.dataoffsets), len(page.databytecounts))
        if listed < pieces:  # tifffile fills the others with zeros, one by one
            raise VolumeError(
                f"{str(path)!r} is truncated or damaged: a page is said to consist of {pieces} "
                f"pieces, and lists {listed}. Copy it anew"
            )
        for start, length in zip(page.dataoffsets, page.databytecounts, strict=False):
            if start + length > size:
                raise VolumeError(
                    f"{str(path)!r} is truncated or damaged: a page says that its {length} bytes "
                    f"begin at {start}, and the file has {size}. Copy it anew"
                )


def _bytes_at_most(file: Any, series: Any) -> int:
    """Bytes of voxels that the files of a stack can hold."""
    plain = series.keyframe.compression == 1
    return sum(_file_sizes(file, series).values()) if plain else UNBOUNDED


def _file_sizes(file: Any, series: Any) -> dict[str, int]:
    """The files that a stack is in; only stacks of some kinds can be in several."""
    several = series.kind in ("ome", "mmstack", "ndtiff")
    holders = [page.parent for page in series.pages if page is not None] if several else [file]
    return {one.filehandle.path: one.filehandle.size for one in holders}


def _layout(axes: str, shape: tuple[int, ...]) -> str | None:
    """Letters of the axes in the order channel, section, Y, X; None if this is no volume."""
    long = [axis for axis, length in zip(axes, shape, strict=True) if length != 1]
    sections = [axis for axis in long if axis in _SECTION_AXES]
    channels = [axis for axis in long if axis in _CHANNEL_AXES]
    rest = set(long) - {*sections, *channels, "Y", "X"}
    if len(sections) != 1 or len(channels) > 1 or rest or not {"Y", "X"} <= set(axes):
        return None
    return "".join((*channels, *sections, "Y", "X"))


def _ordered(array: np.ndarray, axes: str) -> np.ndarray:
    layout = _layout(axes, array.shape) or ""
    short = tuple(position for position, axis in enumerate(axes) if axis not in layout)
    kept = [axis for axis in axes if axis in layout]
    return array.squeeze(short).transpose([kept.index(axis) for axis in layout])


def _calibrated(array: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    """Values of stored numbers, computed in float64, section by section for the sake of memory."""
    if calibration is None:
        return array
    slope, intercept = calibration
    out = np.empty(array.shape, np.float32)
    for index in np.ndindex(array.shape[:-2]):
        out[index] = array[index] * np.float64(slope) + intercept
    return out

"""OME-Zarr images (.ome.zarr, .zarr): NGFF 0.4 and 0.5 are read, 0.5 is written.

Format: Moore et al., "OME-Zarr: a cloud-optimized bioimaging file format", Histochem. Cell Biol.
160 (2023); https://ngff.openmicroscopy.org/0.5. Metadata are built with ome-zarr-models.

NGFF 0.5 places an image by a scale and a translation along its own axes. A volume that is turned or
flipped in the world keeps its voxel size and the place of its first voxel there, and its whole
affine in an attribute of ours, which reading goes by.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from respondcam._extras import require
from respondcam._version import __version__
from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume._stream import UNBOUNDED, check_size
from respondcam.volume.geometry import (
    LENGTH_UNITS,
    LENGTHS_IN_WORDS,
    length_name,
    lengths_in,
)
from respondcam.volume.lazy import LazyVolume, placeholder
from respondcam.volume.volume import Unit, Volume
from respondcam.volume.zarr_chunks import check_chunks, check_declared, check_metadata
from respondcam.volume.zarr_words import no_image, stumbled

OURS = "respondcam"
"""Attribute of an image's group that holds what NGFF has no place for."""

CHUNK = 128
_LEVELS = 64  # of a pyramid
_BEFORE = frozenset({"0.1", "0.2", "0.3"})  # versions without units and scales
_STEPS = frozenset({"identity", "scale", "translation"})
_UNIT_NAMES = {"angstrom": "angstrom", "mm": "millimeter", "voxel": None}


@dataclass(frozen=True)
class ZarrArray:
    """A Zarr array of which boxes are read."""

    array: Any
    path: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array as it is stored."""
        return tuple(self.array.shape)

    def read(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """One box, as float32.

        Raises
        ------
        VolumeError
            If a chunk is damaged.
        """
        check_chunks(self.array, start, stop, self.path)
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        return _values(self.array, box, self.path)

    def files(self, start: Sequence[int], stop: Sequence[int]) -> list[Path]:
        """Files of the chunks, or shards, that a box lies in."""
        sizes = self.array.shards or self.array.chunks
        spans = [range(a // n, -(-b // n)) for a, b, n in zip(start, stop, sizes, strict=True)]
        folder = self.path / self.array.path
        return [folder / self.array.metadata.encode_chunk_key(key) for key in product(*spans)]


def read(path: Path) -> Volume:
    """Read the finest level of an image.

    Raises
    ------
    VolumeError
        If it is no image with z, y, x and at most channels, or damaged.
    """
    lazy = lay_open(path)
    check_size(path, lazy.space.voxels.shape, 4, UNBOUNDED)
    voxels = lazy.read((0, 0, 0), lazy.space.shape)
    space = lazy.space
    return Volume(
        voxels if space.voxels.ndim == 4 else voxels[0],
        space.affine,
        space.unit,
        path,
        space.header,
    )


def lay_open(path: Path) -> LazyVolume:
    """Open the finest level of an image without reading its voxels.

    Raises
    ------
    VolumeError
        As for `read`.
    """
    zarr = require("zarr", extra="large", purpose="read OME-Zarr images")
    check_metadata(path)
    try:
        group = zarr.open_group(str(path), mode="r")
        attributes = dict(group.attrs)
    except Exception as error:  # zarr raises what its parsing stumbles over
        if isinstance(error, zarr.errors.ContainsArrayError) or (path / ".zarray").is_file():
            raise VolumeError(no_image(path, None)) from error
        raise VolumeError(
            f"{str(path)!r} cannot be read as a Zarr group: {stumbled(error)}"
        ) from error
    try:
        about, own = attributes.get("ome", attributes), attributes.get(OURS, {})
        if scales := about.get("multiscales"):
            return _image(path, group, {**scales[0]}, {**own})  # no mappings: a TypeError
    except (VolumeError, RespondCAMWarning):  # also where warnings are made errors
        raise
    except Exception as error:
        raise VolumeError(
            f"{str(path)!r} has damaged OME-Zarr metadata: {stumbled(error)}. Accepted are "
            f"multiscales with axes, datasets and their coordinateTransformations, as OME-Zarr 0.4 "
            f"and 0.5 have them"
        ) from error
    raise VolumeError(no_image(path, attributes))


def write(path: Path, volume: Volume, suffix: str) -> None:
    """Write an image with the levels of its pyramid."""
    image = create_image(path, volume, chunk=CHUNK)
    levels = [volume.voxels]
    while len(levels) < len(image):
        levels.append(halved(levels[-1]))
    for array, level in zip(image, levels, strict=True):
        array[...] = level


def create_image(
    path: Path,
    space: Volume,
    *,
    chunk: int | Sequence[int] = CHUNK,
    levels: int | None = None,
    name: str = "",
    attributes: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    channels_together: bool = False,
) -> list[Any]:
    """Make an empty image: group, metadata, and one array for each level.

    Parameters
    ----------
    path
        Of the group.
    space
        Shape and place of the image; only the shape of its voxels counts.
    chunk
        Voxels of a chunk along z, y, x; a channel is a chunk of its own.
    levels
        How many, each half as fine as the one before; None: until one chunk holds a level.
    name
        Of the image.
    attributes
        More of ours.
    dtype
        Of the voxels.
    channels_together
        Whether a chunk holds all channels, not one.

    Returns
    -------
    list
        The arrays, finest first. Every chunk that is written carries a checksum.
    """
    zarr = require("zarr", extra="large", purpose="write OME-Zarr images")
    spatial = [min(c, n) for c, n in zip(_three(chunk), space.shape, strict=True)]
    shapes = pyramid_shapes(space.shape, spatial, levels)
    lead = space.voxels.shape[:-3]
    names = ("c", "z", "y", "x")[-space.voxels.ndim :]
    chunks = (*(n if channels_together else 1 for n in lead), *spatial)
    own = {"version": __version__, "affine_xyz": space.affine.tolist(), "unit": space.unit}
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(
            str(path),
            mode="w-",
            zarr_format=3,
            attributes={
                "ome": _multiscales(space, shapes, names, name),
                OURS: {**own, **(attributes or {})},
            },
        )
        return [
            group.create_array(
                str(level),
                shape=(*lead, *shape),
                chunks=tuple(min(c, n) for c, n in zip(chunks, (*lead, *shape), strict=True)),
                dtype=dtype,
                compressors=compressors(),
                dimension_names=names,
                fill_value=0,
            )
            for level, shape in enumerate(shapes)
        ]


def compressors() -> list[Any]:
    """Zstandard, and behind it a checksum: damage to a chunk shows when it is read.

    Not Blosc, whose threads put blocks down in the order in which they finish: the same chunk would
    not always be the same bytes.
    """
    from zarr.codecs import Crc32cCodec, ZstdCodec

    return [ZstdCodec(level=1), Crc32cCodec()]


def pyramid_shapes(
    shape: Sequence[int], chunk: Sequence[int], levels: int | None = None
) -> list[tuple[int, ...]]:
    """Shapes of all levels: halved, rounded up, until one chunk holds all.

    Examples
    --------
    >>> pyramid_shapes((5, 8, 16), (4, 4, 4))
    [(5, 8, 16), (3, 4, 8), (2, 2, 4)]
    """
    shapes = [tuple(shape)]
    while len(shapes) < (levels or _LEVELS):
        if levels is None and all(n <= c for n, c in zip(shapes[-1], chunk, strict=True)):
            break
        shapes.append(tuple(-(-n // 2) for n in shapes[-1]))
    return shapes


def halved(voxels: np.ndarray) -> np.ndarray:
    """Means over 2 x 2 x 2 voxels of the last three axes; over fewer at an odd end.

    Examples
    --------
    >>> halved(np.array([[[1.0, 3.0, 7.0]]])).tolist()
    [[[2.0, 7.0]]]
    """
    coarse = voxels.astype(np.float64)
    for axis in (-3, -2, -1):
        fine = np.moveaxis(coarse, axis, 0)
        means, odd = fine[0::2].copy(), fine[1::2]
        means[: len(odd)] += odd
        means[: len(odd)] *= 0.5
        coarse = np.moveaxis(means, 0, axis)
    return np.ascontiguousarray(coarse, dtype=np.float32)


def _multiscales(
    space: Volume, shapes: Sequence[Sequence[int]], names: Sequence[str], title: str
) -> dict[str, Any]:
    """Metadata of NGFF 0.5, checked by ome-zarr-models."""
    require("ome_zarr_models", extra="large", purpose="write OME-Zarr images")
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.image import ImageAttrs
    from ome_zarr_models.v05.multiscales import Dataset, Multiscale

    unit = _UNIT_NAMES[space.unit]
    axes = [
        Axis(name="c", type="channel") if one == "c" else Axis(name=one, type="space", unit=unit)
        for one in names
    ]
    origin = space.affine[:3, 3][::-1]
    lead = len(names) - 3
    datasets: list[Dataset] = []
    for level in range(len(shapes)):
        factor = 2.0**level
        scale = [1.0] * lead + [factor * size for size in space.voxel_size]
        # the centre of a coarse voxel's first block of fine ones
        direction = _directions(space.affine)
        shift = [(factor - 1) / 2 * step for step in direction]
        place = [0.0] * lead + [float(a + b) for a, b in zip(origin, shift, strict=True)]
        datasets.append(Dataset.build(path=str(level), scale=scale, translation=place))
    one = Multiscale(axes=axes, datasets=tuple(datasets), name=title or None, type="mean")
    attrs = ImageAttrs(multiscales=[one], version="0.5")
    return attrs.model_dump(mode="json", exclude_none=True)


def along_axes(affine: np.ndarray) -> bool:
    """Say whether scale and translation alone describe an affine.

    Examples
    --------
    >>> along_axes(np.diag([2.0, 2.0, 3.0, 1.0])), along_axes(np.diag([-2.0, 2.0, 3.0, 1.0]))
    (True, False)
    """
    linear = affine[:3, :3]
    sizes = np.diag(linear)
    return bool((sizes > 0).all() and np.abs(linear - np.diag(sizes)).max() < 1e-9 * sizes.max())


def _directions(affine: np.ndarray) -> list[float]:
    """Step along z, y, x; the voxel size where the grid is turned."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return [float(n) for n in lengths[::-1]]


def _three(chunk: int | Sequence[int]) -> Sequence[int]:
    return (chunk,) * 3 if isinstance(chunk, int) else chunk


def _image(path: Path, group: Any, scales: Mapping[str, Any], own: Mapping[str, Any]) -> LazyVolume:
    version, axes = str(scales.get("version", "")), scales.get("axes", ())
    if version in _BEFORE or any(isinstance(axis, str) for axis in axes):
        raise VolumeError(
            f"{str(path)!r} is OME-Zarr {version if version in _BEFORE else '0.3'} by its metadata "
            f"(version, axes), which tell no voxel size; read are 0.4 and 0.5. Convert it, or "
            f"write it anew"
        )
    finest, array = _finest(path, group, scales["datasets"])
    names = [str(axis["name"]).lower() for axis in scales["axes"]]
    if array.ndim != len(names) or np.dtype(array.dtype).kind not in "fiub":
        raise VolumeError(f"{str(path)!r} holds no real numbers, or other axes than it declares")
    long = [n for n, size in zip(names, array.shape, strict=True) if size > 1 or n in "zyx"]
    clear = set("zyx") <= set(names) and len(set(names)) == len(names)
    if not clear or not set(long) <= set("czyx"):
        raise VolumeError(
            f"{str(path)!r} has the axes {', '.join(names)} of lengths {array.shape}; accepted "
            f"are z, y, x and at most c, or further ones of length 1, each once"
        )
    check_declared(array, path)
    kept = (("c",) if "c" in long else ()) + ("z", "y", "x")
    affine, unit = _place(path, scales, finest, names, own)
    shape = [array.shape[names.index(axis)] for axis in kept]
    stored = _Squeezed(ZarrArray(array, path), tuple(names.index(axis) for axis in kept))
    space = placeholder(shape, affine, unit, path, {"format": "ome-zarr"})
    return LazyVolume(space, stored, tuple(range(len(kept))))


def _finest(path: Path, group: Any, datasets: Sequence[Any]) -> tuple[Mapping[str, Any], Any]:
    """The level of most voxels, which should be listed first, and is not always."""
    finest = datasets[0]
    check_metadata(path, str(finest["path"]))
    array = group[finest["path"]]
    for level in datasets[1:_LEVELS]:
        try:
            check_metadata(path, str(level["path"]))
            other = group[level["path"]]
            finer = prod(other.shape) > prod(array.shape)
        except Exception:  # a coarse level that is damaged or missing is not needed
            continue
        if finer:
            finest, array = level, other
    return finest, array


@dataclass(frozen=True)
class _Squeezed:
    """Some axes of an array, in an order of their own; the others have length one."""

    inner: ZarrArray
    axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.inner.shape[axis] for axis in self.axes)

    def read(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        found = self.inner.read(*self._box(start, stop))
        rest = [axis for axis in range(found.ndim) if axis not in self.axes]
        return found.transpose(*self.axes, *rest).reshape(
            [b - a for a, b in zip(start, stop, strict=True)]
        )

    def files(self, start: Sequence[int], stop: Sequence[int]) -> list[Path]:
        return self.inner.files(*self._box(start, stop))

    def _box(self, start: Sequence[int], stop: Sequence[int]) -> tuple[list[int], list[int]]:
        low, high = [0] * len(self.inner.shape), [1] * len(self.inner.shape)
        for axis, a, b in zip(self.axes, start, stop, strict=True):
            low[axis], high[axis] = a, b
        return low, high


def _place(
    path: Path,
    scales: Mapping[str, Any],
    finest: Mapping[str, Any],
    names: Sequence[str],
    own: Mapping[str, Any],
) -> tuple[np.ndarray, Unit]:
    """Affine and unit: our own attribute where it is there, else scale and translation."""
    if "affine_xyz" in own and "unit" in own:
        return np.array(own["affine_xyz"], dtype=np.float64), own["unit"]
    affine = np.eye(4)
    steps = [
        *(finest.get("coordinateTransformations") or ()),
        *(scales.get("coordinateTransformations") or ()),
    ]
    if unusable := _no_place(steps):
        warnings.warn(
            f"{str(path)!r} {unusable}: its voxel size and place are taken for unknown",
            RespondCAMWarning,
            stacklevel=2,
        )
        return affine, "voxel"
    for step in steps:
        kind = str(step["type"])
        if kind != "identity" and len(step[kind]) != len(names):
            raise VolumeError(
                f"{str(path)!r} has a {kind} of {len(step[kind])} numbers; accepted is one for "
                f"each of its {len(names)} axes {', '.join(names)}"
            )
        moved = np.eye(4)
        for row, axis in enumerate("xyz"):
            if step["type"] == "scale":
                moved[row, row] = step["scale"][names.index(axis)]
            elif step["type"] == "translation":
                moved[row, 3] = step["translation"][names.index(axis)]
        affine = moved @ affine
    return _in_one_unit(path, affine, scales["axes"])


def _in_one_unit(path: Path, affine: np.ndarray, axes: Any) -> tuple[np.ndarray, Unit]:
    """The affine in our unit of x's unit; its rows may each have a unit of their own."""
    told = {str(axis["name"]).lower(): length_name(str(axis.get("unit") or "")) for axis in axes}
    names = [told[axis] for axis in "xyz"]
    if set(names) == {""}:
        return affine, "voxel"
    factors = [lengths_in(name, names[0]) for name in names]
    if None in factors or names[0] not in LENGTH_UNITS:
        warnings.warn(
            f"{str(path)!r} measures in {sorted(set(names))}, which is no single known unit of "
            f"length: its voxel size and place are taken for unknown. Known are {LENGTHS_IN_WORDS}",
            RespondCAMWarning,
            stacklevel=2,
        )
        return affine, "voxel"
    unit, factor = LENGTH_UNITS[names[0]]
    rows = [factor * (known or 1.0) for known in factors]
    return np.diag([*rows, 1.0]) @ affine, unit


def _no_place(steps: Sequence[Mapping[str, Any]]) -> str:
    """Why coordinate transformations do not tell where an image is; empty if they do."""
    others = sorted({str(step["type"]) for step in steps} - _STEPS)
    if others:
        return (
            f"has coordinate transformations of the kind {', '.join(others)}; read are "
            f"{', '.join(sorted(_STEPS))} (OME-Zarr 0.4 and 0.5)"
        )
    if not any(step["type"] == "scale" for step in steps):
        return "has no coordinate transformation of the kind scale, which OME-Zarr demands"
    return ""


def _values(array: Any, box: Any, path: Path) -> np.ndarray:
    try:
        return np.asarray(array[box], dtype=np.float32)
    except Exception as error:  # codecs raise what they like
        raise VolumeError(f"{str(path)!r} has a damaged chunk: {error}") from error

"""MRC2014, CCP4 maps and IMOD reconstructions (.mrc, .map, .rec, .ccp4; plain, gzip or bzip2).

Format: Cheng et al., "MRC2014: Extensions to the MRC format header", J. Struct. Biol. 192 (2015).
The place of a map is worked out in `mrc_geometry`.

Headers in the wild break the standard in many ways. What changes neither the voxels nor their place
(statistics, stamps, labels) is passed over in silence; whatever had to be assumed is warned about.
"""

import warnings
from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal, cast

import mrcfile  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE  # pyright: ignore[reportMissingTypeStubs]

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume._stream import check_size, open_stream, read_exactly, read_rest, read_voxels
from respondcam.volume._wording import IMAGES, described
from respondcam.volume.lazy import LazyVolume, RawArray, placeholder
from respondcam.volume.mrc_geometry import (
    array_order,
    header_affine,
    labelled_unit,
    place_in_header,
    start_indices,
    storable,
)
from respondcam.volume.volume import Unit, Volume

_HEADER_BYTES = 1024
_LONGEST_EXTENDED = 1 << 26  # bytes; packed files are unpacked to their end
_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_OTHER_MODES = {3: "complex integers", 4: "complex floats", 101: "4-bit integers"}
_STAMP_AT, _BIG_ENDIAN = 212, 0x11
_IMOD_STAMP, _IMOD_SIGNED_BYTES, _IMOD_HALF_BYTES = 1146047817, 1, 16


def read(path: Path) -> Volume:
    """Read a map with its place in the world.

    Raises
    ------
    VolumeError
        If the file is no map, holds images or several volumes, or is damaged.
    """
    with open_stream(path) as stream:
        header, shape, dtype = _read_layout(stream, path)
        stored = read_voxels(stream, shape, dtype, path)
        if read_rest(stream, path):
            _warn(path, "is longer than its header says; the bytes after the voxels are ignored")
    affine, unit, about = _place(header, path)
    return Volume(stored.transpose(array_order(header)), affine, unit, path, about)


def lay_open(path: Path) -> LazyVolume:
    """Open a map that is not compressed, without reading its voxels.

    Raises
    ------
    VolumeError
        As for `read`.
    """
    with open_stream(path) as stream:
        header, shape, dtype = _read_layout(stream, path, in_memory=False)
        stored = RawArray(path, stream.tell(), shape, dtype)
    affine, unit, about = _place(header, path)
    order = tuple(array_order(header))
    space = placeholder([shape[axis] for axis in order], affine, unit, path, about)
    return LazyVolume(space, stored, order)


def write(path: Path, volume: Volume, suffix: str) -> None:
    """Write a map as mode 2 (float32) with columns, rows and sections along x, y and z.

    Raises
    ------
    VolumeError
        If the volume has several channels, or lies obliquely to the world's axes.
    """
    if volume.channels > 1:
        raise VolumeError(
            f"MRC holds one channel, the volume has {volume.channels}: write each channel to its "
            f"own file, or all of them to .nii.gz"
        )
    voxels, affine = storable(volume.voxels.reshape(volume.shape), volume.affine)
    compression = {".gz": "gzip", ".bz2": "bzip2"}.get(Path(suffix).suffix)
    with cast("Any", mrcfile).new(path, compression=compression) as file:
        file.set_data(voxels)
        use_start = bool((volume.header or {}).get("start_indices"))
        unit_label = place_in_header(file.header, affine, volume.unit, use_start=use_start)
        # mrcfile's own first label holds the time of day: the same map would never be the same file
        file.header.label, file.header.nlabl = b"", 0
        file.add_label(ascii_label(volume.header))
        if unit_label:
            file.add_label(unit_label)


def ascii_label(header: Mapping[str, Any] | None) -> str:
    """What the file says of itself, in the letters that the format has."""
    return described(header).encode("ascii", "replace").decode()


def _read_layout(
    stream: BufferedIOBase, path: Path, *, in_memory: bool = True
) -> tuple[Any, tuple[int, ...], np.dtype]:
    """Header, shape and type of the voxels; the stream then stands at the first one."""
    header, raw = _read_header(stream, path)
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    dtype = _voxel_type(header, raw, path)
    check_size(path, shape, dtype.itemsize, in_memory=in_memory)
    _refuse_images(header, shape, path)
    _skip_extended_header(stream, header, shape, dtype, path)
    return header, shape, dtype


def _place(header: Any, path: Path) -> tuple[np.ndarray, Unit, dict[str, Any]]:
    affine, unit, assumed = header_affine(header)
    for assumption in assumed:
        _warn(path, assumption)
    affine, unit = labelled_unit(header, affine, unit)
    return affine, unit, {"format": "mrc", "start_indices": start_indices(header)}


def _read_header(stream: BufferedIOBase, path: Path) -> tuple[Any, bytes]:
    """Read the first 1024 bytes in the byte order in which they make sense.

    Stamps are wrong at times, so that one is asked only where both orders do: of bytes (mode 0), if
    all sizes are multiples of 256.
    """
    raw = read_exactly(stream, _HEADER_BYTES, path, "an MRC header")
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders if raw[_STAMP_AT] != _BIG_ENDIAN else orders[::-1]:
        header = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
        sizes = [int(header[name]) for name in ("nx", "ny", "nz")]
        # the mode alone does not tell the order, since it can be 0
        if int(header["mode"]) in {*_TYPES, *_OTHER_MODES} and all(0 <= n < 2**20 for n in sizes):
            return header, raw
    header = np.frombuffer(raw, HEADER_DTYPE)[0]
    raise VolumeError(
        f"{str(path)!r} is no MRC file, or its header is damaged: mode {header['mode']} and size "
        f"{header['nx']} x {header['ny']} x {header['nz']} make no sense in either byte order"
    )


def _refuse_images(header: Any, shape: tuple[int, ...], path: Path) -> None:
    """MRC2014: space group 0 with mz = 1 is a stack of images, 401 to 630 a stack of volumes."""
    space_group = int(header["ispg"])
    images = space_group == 0 and int(header["mz"]) == 1
    if images and shape[0] == 1:
        raise VolumeError(
            f"{str(path)!r} holds a single 2-D image, not a volume. Give a tomogram or "
            f"map of several sections. {IMAGES}"
        )
    if images:
        raise VolumeError(
            f"{str(path)!r} is a stack of {shape[0]} images (space group 0, mz 1), for example a "
            f"tilt series, not a volume. If it is a volume, mend its header: "
            f"mrcfile.open(path, 'r+').set_volume()"
        )
    if 401 <= space_group <= 630:
        raise VolumeError(
            f"{str(path)!r} is a stack of volumes (space group {space_group}, {shape[0]} sections, "
            f"{int(header['mz'])} in each volume). Write the volumes to files of their own"
        )


def _voxel_type(header: Any, raw: bytes, path: Path) -> np.dtype:
    """Type of the voxels, with its byte order."""
    mode = int(header["mode"])
    if mode in _OTHER_MODES:
        raise VolumeError(
            f"{str(path)!r} holds {_OTHER_MODES[mode]} (MRC mode {mode}); accepted are the modes "
            f"0, 1, 2, 6 and 12. Convert it to mode 2, for example with IMOD's newstack -mode 2"
        )
    if mode == 0 and _has_unsigned_bytes(header, raw, path):
        return np.dtype("u1")
    return np.dtype(header.dtype["nx"].str[0] + _TYPES[mode])


def _has_unsigned_bytes(header: Any, raw: bytes, path: Path) -> bool:
    """Say whether mode 0 means 0 .. 255, as IMOD wrote it before MRC2014 made bytes signed."""
    stamp, flags = np.frombuffer(raw, header.dtype["nx"], count=2, offset=152)
    if int(stamp) == _IMOD_STAMP:
        if int(flags) & _IMOD_HALF_BYTES:
            raise VolumeError(
                f"{str(path)!r} holds two 4-bit integers in each byte (mode 0 with flag 16 of "
                f"IMOD); accepted are whole bytes. Convert it, for example with IMOD's newstack "
                f"-mode 2"
            )
        return not int(flags) & _IMOD_SIGNED_BYTES
    unsigned = float(header["dmin"]) >= 0 and 127 < float(header["dmax"]) <= 255
    if unsigned:
        _warn(path, "holds bytes up to 255 according to its statistics: read as unsigned")
    return unsigned


def _skip_extended_header(
    stream: BufferedIOBase, header: Any, shape: tuple[int, ...], dtype: np.dtype, path: Path
) -> None:
    length = int(header["nsymbt"])
    voxels = int(np.prod(shape)) * dtype.itemsize
    if length > 0 and path.stat().st_size == _HEADER_BYTES + voxels:
        _warn(path, f"declares an extended header of {length} bytes that is not there")
    elif 0 <= length <= _LONGEST_EXTENDED:
        stream.seek(_HEADER_BYTES + length)
    else:
        raise VolumeError(
            f"{str(path)!r} has a damaged header: it declares an extended header of {length} "
            f"bytes; accepted are up to {_LONGEST_EXTENDED}"
        )


def _warn(path: Path, what: str) -> None:
    warnings.warn(f"{str(path)!r} {what}", RespondCAMWarning, stacklevel=2)

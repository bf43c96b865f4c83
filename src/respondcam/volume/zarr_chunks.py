"""What a Zarr array may ask for: sizes that its metadata and chunks declare, looked at first.

A store may leave out chunks that are empty, and what compresses well takes a thousandth of its
size, so the files of a store do not bound the voxels as those of other formats do. What is refused
here is beyond both: it takes memory or time for voxels that nobody can have written.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np

from respondcam.errors import VolumeError

_FREE = 1 << 28  # bytes that may be declared whatever is stored
_RATIO = 5000  # bytes declared for one byte stored, beyond that
_CHUNKS = 10_000  # chunks that may be declared whatever is stored
_SLACK = 1 << 16  # bytes for checksums and headers
_INDEX_ENTRY = 16  # bytes that a shard keeps for each chunk in it, stored or not

_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_LONGEST_METADATA = 1 << 26  # bytes; those of a whole store can stand in one file

_ZSTD = b"\x28\xb5\x2f\xfd"


def check_metadata(root: Path, *inner: str) -> None:
    """Refuse files of metadata that are no regular files, or far too long for their purpose.

    Zarr would wait for a pipe, or read a device, for ever.

    Parameters
    ----------
    root
        Of the store.
    inner
        Groups and arrays in it; those that they lie in are looked at, too.

    Raises
    ------
    VolumeError
        Before Zarr opens any.
    """
    folders = {root}
    for one in inner:
        parts = [part for part in one.split("/") if part]
        folders |= {root.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)}
    for file in (folder / name for folder in sorted(folders) for name in _METADATA):
        try:
            status = file.stat()
        except OSError:  # it is not there: Zarr says so if it needs it
            continue
        if not S_ISREG(status.st_mode):
            raise VolumeError(f"{str(root)!r} is damaged: {str(file)!r} is no regular file")
        if status.st_size > _LONGEST_METADATA:
            raise VolumeError(
                f"{str(root)!r} is damaged: {str(file)!r} is {status.st_size} bytes of metadata"
            )


def check_declared(array: Any, path: Path) -> None:
    """Refuse an array that declares far more voxels, or chunks, than are stored.

    Raises
    ------
    VolumeError
        Before any memory is taken; also if any of its files is no regular file.
    """
    outer = array.shards or array.chunks
    voxels, chunk = prod(array.shape), prod(outer)
    declared = max(voxels, chunk) * max(4, np.dtype(array.dtype).itemsize)
    files = list(_sizes(_folder(array), path))
    count = prod(-(-n // c) for n, c in zip(array.shape, outer, strict=True))
    _check_shards(array, sum(files), path)
    sparse = count > _CHUNKS and count > 100 * len(files)
    if sparse or (declared > _FREE and declared > _RATIO * sum(files)):
        raise VolumeError(
            f"{str(path)!r} declares voxels of shape {tuple(array.shape)} in {count} chunks of "
            f"shape {tuple(outer)}, but holds {len(files)} files of {sum(files)} bytes together: "
            f"it is damaged or incomplete, or so sparse that it must be cropped first"
        )


def _check_shards(array: Any, stored: int, path: Path) -> None:
    """Refuse shards of more chunks than their indices can list: Zarr makes a list of all first."""
    inner, codecs = array.chunks, getattr(array.metadata, "codecs", ())
    while found := [one for one in codecs if hasattr(one, "index_codecs")]:  # shards in shards, too
        inner, codecs = found[0].chunk_shape, found[0].codecs
    count = prod(-(-n // c) for n, c in zip(array.shape, inner, strict=True))
    if array.shards and count > _CHUNKS and count * _INDEX_ENTRY > stored:
        raise VolumeError(
            f"{str(path)!r} declares shards with {count} chunks of shape {tuple(inner)} in them, "
            f"whose indices take {count * _INDEX_ENTRY} bytes, but holds {stored} bytes: it is "
            f"damaged or incomplete"
        )


def _sizes(folder: Path, path: Path) -> Iterator[int]:
    """Bytes of each file of an array."""
    for one in folder.rglob("*"):
        try:
            status = one.stat()
        except OSError:  # a link that leads nowhere
            continue
        if S_ISREG(status.st_mode):
            yield status.st_size
        elif not S_ISDIR(status.st_mode):
            raise VolumeError(f"{str(path)!r} is damaged: {str(one)!r} is no regular file")


def check_chunks(array: Any, start: Sequence[int], stop: Sequence[int], path: Path) -> None:
    """Refuse chunks that say of themselves that they unpack to more than a chunk holds.

    Only of compressors that say it: Blosc, and Zstandard as Zarr writes it.

    Raises
    ------
    VolumeError
        Before they are unpacked.
    """
    if array.shards:
        return
    limit = prod(array.chunks) * np.dtype(array.dtype).itemsize + _SLACK
    kinds = [type(one).__name__.lower() for one in array.compressors]
    outer = [kind for kind in kinds if "crc32c" not in kind][-1:]  # a checksum is put behind it
    blosc = any("blosc" in kind for kind in outer)
    for file in _chunk_files(array, start, stop):
        if not file.is_file():  # left out: it is empty
            continue
        try:
            with file.open("rb") as stream:
                head = stream.read(18)
        except OSError:  # Zarr says why
            continue
        stored = file.stat().st_size
        if blosc and not blosc_fits(head, stored):
            raise VolumeError(
                f"{str(path)!r} has a damaged chunk: {file.name!r} of {stored} bytes is no "
                f"chunk of Blosc, or not all of one"
            )
        if max(unpacked_size(head, blosc=blosc), stored // 2) > limit:
            raise VolumeError(
                f"{str(path)!r} has a damaged chunk: {file.name!r} unpacks to more than the "
                f"{prod(array.chunks)} voxels of a chunk"
            )


def blosc_fits(head: bytes, stored: int) -> bool:
    """Whether a Blosc chunk is as long as its head says, and its blocks no longer than itself.

    The library takes both on trust, and reads beyond the end.

    Examples
    --------
    >>> head = bytes.fromhex("02013102 80000000 80000000 68000000")
    >>> blosc_fits(head, 104), blosc_fits(head, 60)
    (True, False)
    """
    unpacked, block, packed = (int.from_bytes(head[at : at + 4], "little") for at in (4, 8, 12))
    return len(head) >= 16 and packed <= stored and (0 < block <= unpacked or unpacked == 0)


def unpacked_size(head: bytes, *, blosc: bool = False) -> int:
    """Bytes that a packed chunk says it unpacks to; 0 where it does not say.

    Blosc has no mark by which it is known.

    Examples
    --------
    >>> unpacked_size(bytes.fromhex("02013102 80000000 80000000 68000000"), blosc=True)
    128
    >>> unpacked_size(bytes.fromhex("28b52ffd 60e000"))  # 256 are added to sizes of two bytes
    480
    >>> unpacked_size(b"")
    0
    """
    if head[:4] == _ZSTD and len(head) > 4:
        return _zstd_size(head[4], head[5:])
    return int.from_bytes(head[4:8], "little") if blosc else 0


def _zstd_size(descriptor: int, rest: bytes) -> int:
    """Frame content size of RFC 8878, section 3.1.1.1."""
    single = descriptor >> 5 & 1
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[descriptor >> 6]
    at = (0 if single else 1) + dictionary
    size = int.from_bytes(rest[at : at + width], "little")
    return size + 256 if width == 2 else size


def _chunk_files(array: Any, start: Sequence[int], stop: Sequence[int]) -> Iterator[Path]:
    spans = [range(a // c, -(-b // c)) for a, b, c in zip(start, stop, array.chunks, strict=True)]
    folder = _folder(array)
    for index in product(*spans):
        yield folder / array.metadata.encode_chunk_key(index)


def _folder(array: Any) -> Path:
    return Path(str(array.store.root)) / array.path

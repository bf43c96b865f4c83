"""A stored image as one MRC or NIfTI file, slab by slab, so that no volume is held in memory."""

import gzip
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import mrcfile
import numpy as np

from respondcam._files import distinct, slug, whole_file
from respondcam.errors import InputError, VolumeError
from respondcam.volume import Volume
from respondcam.volume.lazy import placeholder

Export = Literal["mrc", "nii.gz"]


def check_export(kind: Export, space: Volume) -> None:
    """Refuse a format that cannot hold the volume's place, before any work.

    Raises
    ------
    InputError
        If it cannot.
    """
    try:
        if kind == "mrc":
            _mrc_place(space)
        else:
            from respondcam.volume.nifti import header_for

            header_for(space)
    except VolumeError as error:
        raise InputError(f"--export {kind}: {error}") from error


def export(
    levels: list[Any],
    labels: tuple[str, ...],
    space: Volume,
    stem: Path,
    kind: Export,
    *,
    title: str = "",
) -> list[Path]:
    """Write the finest level beside the store.

    Parameters
    ----------
    levels
        Arrays (target, z, y, x), finest first.
    labels
        One per target, for the names of the files.
    space
        Of the input volume.
    stem
        Path without a suffix.
    kind
        ``"mrc"``: a file for each target; ``"nii.gz"``: one file, targets along its fourth axis.
    title
        What the files say of themselves, before the labels.

    Returns
    -------
    list
        The files.
    """
    array = levels[0]
    if kind == "nii.gz":
        path = stem.with_name(f"{stem.name}.nii.gz")
        _export_nifti(array, space, path, ", ".join((title, *labels)))
        return [path]
    paths = []
    for target, name in enumerate(distinct([slug(label) for label in labels])):
        more = f".{name}" if len(labels) > 1 else ""
        path = stem.with_name(f"{stem.name}{more}.mrc")
        _export_mrc(array, target, space, path, f"{title}, {labels[target]}")
        paths.append(path)
    return paths


def _slabs(array: Any, target: int) -> Iterator[tuple[int, np.ndarray]]:
    depth = array.chunks[1]
    for start in range(0, array.shape[1], depth):
        yield start, np.asarray(array[target, start : start + depth])


def _mrc_place(space: Volume) -> np.ndarray:
    """The affine, if MRC can hold it without turning the voxels."""
    from respondcam.volume.mrc_geometry import storable

    small = np.zeros((1, 1, 1), np.float32)
    _, affine = storable(small, space.affine)
    if not np.array_equal(affine, space.affine):
        raise VolumeError(
            "MRC cannot hold a volume whose axes run against those of the world. Export nii.gz"
        )
    return affine


def _export_mrc(array: Any, target: int, space: Volume, path: Path, title: str) -> None:
    from respondcam.volume.mrc import ascii_label
    from respondcam.volume.mrc_geometry import place_in_header

    affine = _mrc_place(space)
    with whole_file(path) as beside:
        with mrcfile.new_mmap(beside, shape=tuple(array.shape[1:]), mrc_mode=2) as file:
            use_start = bool((space.header or {}).get("start_indices"))
            unit_label = place_in_header(file.header, affine, space.unit, use_start=use_start)
            header: Any = file.header
            header.label, header.nlabl = b"", 0
            file.add_label(ascii_label({"title": title}))
            if unit_label:
                file.add_label(unit_label)
            names = ("dmin", "dmax", "dmean", "rms")
            for name, value in zip(names, _statistics(array, target), strict=True):
                setattr(header, name, value)
        # written past the memory map, whose pages would count as this process's memory
        with beside.open("r+b") as raw:
            raw.seek(1024)
            for _, slab in _slabs(array, target):
                raw.write(slab.astype("<f4").tobytes())


def _statistics(array: Any, target: int) -> tuple[float, float, float, float]:
    low, high, total, squares, count = np.inf, -np.inf, 0.0, 0.0, 0
    for _, slab in _slabs(array, target):
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
        total += float(slab.sum(dtype=np.float64))
        squares += float(np.square(slab, dtype=np.float64).sum())
        count += slab.size
    mean = total / count
    return low, high, mean, float(np.sqrt(max(0.0, squares / count - mean**2)))


def _export_nifti(array: Any, space: Volume, path: Path, title: str) -> None:
    from respondcam.volume.nifti import header_for

    targets = array.shape[0]
    shape = (targets, *space.shape) if targets > 1 else space.shape
    facts = {**(space.header or {}), "title": title}
    whole = placeholder(shape, space.affine, space.unit, space.source, facts)
    _, header = header_for(whole)
    header.set_data_offset(header.single_vox_offset)
    header["magic"] = header.single_magic
    start = io.BytesIO()
    header.write_to(start)
    start.write(b"\0" * (int(header.get_data_offset()) - start.tell()))
    order = header.endianness + "f4"
    with whole_file(path) as beside, _packed(beside) as out:
        out.write(start.getvalue())
        for target in range(targets):
            for _, slab in _slabs(array, target):
                out.write(slab.astype(order).tobytes())


@contextmanager
def _packed(path: Path) -> Generator[Any, None, None]:
    """A gzip file without name and time in it: the same map is the same file."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=3) as out,
    ):
        yield out

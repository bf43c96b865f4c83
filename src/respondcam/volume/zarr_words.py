"""What a Zarr store is that is no image, and where its images are; what its metadata lack."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAMED = 12


def no_image(path: Path, attributes: Mapping[str, Any] | None) -> str:
    """Why a store is not read, and what to give instead.

    Parameters
    ----------
    path
        Of the store.
    attributes
        Of its group; None if it is a bare array.

    Examples
    --------
    >>> no_image(Path("a.zarr"), {"plate": {"wells": [{"path": "B/3"}]}}).partition(": ")[2]
    "give one of them, such as 'a.zarr/B/3/0'"
    """
    if attributes is None:
        above = path.parent
        inside = any((above / name).is_file() for name in (".zattrs", "zarr.json"))
        return (
            f"{str(path)!r} is a single Zarr array, of which nobody knows axes and voxel size. "
            + (f"Give the image that it is in: {str(above)!r}" if inside else _WRITE)
        )
    told: Any = attributes.get("ome", attributes)
    about: dict[str, Any] = {**told}
    for kind, inner in (
        ("plate", f"{_first(about, 'plate', 'wells') or 'A/1'}/0"),
        ("well", _first(about, "well", "images") or "0"),
    ):
        if kind in about:
            return (
                f"{str(path)!r} is a {kind}, whose images are inside: give one of them, such as "
                f"{str(path / inner)!r}"
            )
    if "bioformats2raw.layout" in about:
        images = sorted((one.name for one in path.iterdir() if one.name.isdecimal()), key=int)
        more = ", ..." if len(images) > _NAMED else ""
        return (
            f"{str(path)!r} holds images in groups of their own (bioformats2raw), "
            f"{len(images)} of them: {', '.join(images[:_NAMED])}{more}. Give one of them, such as "
            f"{str(path / (images or ['0'])[0])!r}"
        )
    return (
        f"{str(path)!r} is a Zarr group without OME-Zarr metadata (multiscales), so nobody knows "
        f"which array is the image. {_WRITE}"
    )


_WRITE = "Write it as OME-Zarr 0.4 or 0.5"


def _first(about: Mapping[str, Any], kind: str, parts: str) -> str | None:
    """Path of the first well of a plate, or image of a well, as far as the metadata are sound."""
    try:
        return str(about[kind][parts][0]["path"])
    except (LookupError, TypeError):
        return None


def stumbled(error: Exception) -> str:
    """What is wrong with metadata, by the error that reading them ended in.

    Examples
    --------
    >>> stumbled(KeyError("axes")), stumbled(ValueError("no such codec"))
    ("'axes' is missing", 'no such codec')
    """
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing" if error.args else "something is missing"
    if isinstance(error, IndexError):
        return "a list in them is too short"
    if isinstance(error, AttributeError | TypeError):
        return "a value in them is of another kind than it must be"
    return str(error).rstrip(".") or "they cannot be parsed"

"""Which mask belongs to which volume: by their names."""

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from respondcam._files import expanded
from respondcam.attribution.targets.words import read_on_grid
from respondcam.cli._inputs import Source, suffix_of
from respondcam.errors import InputError
from respondcam.volume import Volume
from respondcam.volume.io import read_suffixes


def find_masks(given: str | None, sources: Sequence[Source], option: str) -> dict[str, Path]:
    """Name of a source -> its mask, for the sources that have one.

    A mask belongs to a volume if their names are the same but for the suffix, or the mask's goes on
    behind the volume's with ``_``, ``-`` or ``.`` (``ribo.mrc``: ``ribo_mask.nii.gz``).

    Raises
    ------
    InputError
        If there are no files, none belongs to a volume, or several to one.
    """
    if given is None:
        return {}
    files = _files(given, option)
    found: dict[str, Path] = {}
    for source in sources:
        stem = _stem(source.path)
        others = {_stem(one.path) for one in sources} - {stem}
        matches = [file for file in files if _belongs(_stem(file), stem, others)]
        matches = [file for file in matches if file.resolve() != source.path.resolve()]
        exact = [file for file in matches if _stem(file) == stem]
        matches = exact or matches
        if len(matches) > 1:
            raise InputError(
                f"{option} {given!r}: several files could belong to {source.path.name!r}: "
                f"{', '.join(file.name for file in matches[:4])}. Give a pattern that holds one "
                f"each, such as '{Path(given).name}/*_mask.mrc'."
            )
        if matches:
            found[source.name] = matches[0]
    if not found:
        raise InputError(
            f"{option} {given!r}: none of its {len(files)} files belongs to a volume by its name, "
            f"such as {files[0].name!r} to {sources[0].path.name!r}. Name a mask like its volume, "
            f"or like it with '_mask' behind."
        )
    return found


def read_mask(path: Path, image: Volume, label: int | None, option: str) -> np.ndarray:
    """True inside, (z, y, x).

    Parameters
    ----------
    label
        Which value counts; None is any but zero.

    Raises
    ------
    InputError
        If it is not on the image's grid, not finite, empty, or covers everything.
    """
    values = read_on_grid(path, image, "mask")
    inside = values != 0 if label is None else values == label
    which = "" if label is None else f" with the label {label}"
    if not inside.any():
        raise InputError(f"{option}: the mask {str(path)!r} is empty: no voxel{which} in it.")
    if inside.all():
        raise InputError(
            f"{option}: the mask {str(path)!r} covers the whole volume{which}, so every map lies "
            f"on it. Give a mask of the object alone."
        )
    return inside


def _files(given: str, option: str) -> list[Path]:
    path = expanded(given)
    if path.is_dir():
        found = [one for one in sorted(path.iterdir()) if one.is_file()]
        found = [one for one in found if suffix_of(one, read_suffixes())]
    else:
        found = [Path(one) for one in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    if not found:
        raise InputError(
            f"{option} {given!r}: there is no such file, and no volume in a folder of that name. "
            f"Give a folder or a pattern such as 'masks/*.mrc'."
        )
    return found


def _stem(path: Path) -> str:
    suffix = suffix_of(path, read_suffixes()) or path.suffix
    return path.name[: len(path.name) - len(suffix)] or path.name


def _belongs(mask: str, volume: str, others: set[str]) -> bool:
    if mask == volume:
        return True
    if not mask.startswith(volume) or mask[len(volume)] not in "_-.":
        return False
    # "a_1_mask" is the mask of "a_1", though it goes on behind "a", too
    closer = [other for other in others if len(other) > len(volume) and mask.startswith(other)]
    return mask not in others and not closer

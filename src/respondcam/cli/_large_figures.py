"""A first look at maps that were made window by window: one section of each, as a picture."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from respondcam._files import distinct, slug
from respondcam.attribution import METHODS
from respondcam.large.job import Job
from respondcam.show import save_figure
from respondcam.show.caption import Caption
from respondcam.show.slices import slice_montage
from respondcam.show.theme import format_score
from respondcam.volume import Volume
from respondcam.volume.lazy import LazyVolume

_MOST = 6  # pictures of one run; the store has the rest
_SEARCHED = 1 << 24  # voxels of the level in which the highest value is looked for
_LONGEST = 2048  # voxels along an edge of a picture


def draw_sections(
    job: Job, levels: Sequence[Any], volume: LazyVolume, order: Sequence[int] = ()
) -> list[Path]:
    """Write ``NAME.METHOD.LAYER.CLASS.section.png``: z-sections through the highest values.

    Parameters
    ----------
    job
        Of the run.
    levels
        Its maps (target, z, y, x), finest first.
    volume
        What was explained, still on disk; a section of it is read.
    order
        Of the targets, of which the first six are drawn; their own without one.
    """
    typed = job.settings.target_name
    asked = slug(str(job.settings.target) if typed is None else typed)
    stem = job.store.name.removesuffix(".ome.zarr").removesuffix(f".{asked}")
    names = distinct([slug(label.removesuffix(" (predicted)")) for label in job.labels])
    paths: list[Path] = []
    thinned = _thinned(volume.space.shape)
    for target in (order or range(len(names)))[:_MOST]:
        name = names[target]
        path = job.store.with_name(f"{stem}.{name}.section.png")
        z, what = z_of(levels, target)
        last = volume.space.shape[0] - 1
        over = np.asarray(levels[0][target, z : z + 1])
        value = _value_of(over, what)
        caption = Caption(
            source=job.source.name,
            target=job.labels[target],
            method=job.settings.method,
            layer=job.layer,
            notes=(
                f"section {z} of 0 to {last} along z, with the {what} value of the map, {value}",
                *[f"1 of {thinned} voxels along y and x is drawn, and places count these"]
                * (thinned > 1),
            ),
            adds_up=not METHODS[job.settings.method].note,
        )
        below = volume.read((z, 0, 0), (z + 1, *volume.space.shape[1:]))
        image = _section(volume.space, np.nan_to_num(below, posinf=0.0, neginf=0.0), z)
        map = _section(volume.space, over, z)
        figure = slice_montage(image, map, count=1, first=z, caption=caption)
        paths.append(save_figure(figure, path))
    return paths


def z_of(levels: Sequence[Any], target: int) -> tuple[int, str]:
    """The section to show, and why: that of the highest value, or of the lowest where none is high.

    It is looked for in a level that fits into memory.

    Examples
    --------
    >>> fine = np.zeros((1, 9, 4, 4))
    >>> fine[0, 6, 1, 1], fine[0, 2, 1, 1] = 1.0, -5.0
    >>> z_of([fine], 0), z_of([-np.abs(fine)], 0)
    ((6, 'highest'), (2, 'lowest'))
    """
    small = next((one for one in levels if prod(one.shape[1:]) <= _SEARCHED), levels[-1])
    values = np.asarray(small[target])
    high, low = values.max(axis=(1, 2)), values.min(axis=(1, 2))
    lowest = high.max() <= 0 and low.min() < 0
    found = int(low.argmin() if lowest else high.argmax())
    step = levels[0].shape[1] / small.shape[1]
    z = min(int((found + 0.5) * step), levels[0].shape[1] - 1)
    return z, "lowest" if lowest else "highest"


def _value_of(section: np.ndarray, what: str) -> str:
    """The value that a section was chosen for, and whether others in it are stronger.

    Examples
    --------
    >>> _value_of(np.array([0.25, -0.5]), "highest"), _value_of(np.array([0.25, -0.1]), "highest")
    ('+0.250, and stronger ones below zero', '+0.250')
    """
    high, low = float(section.max()), float(section.min())
    value = format_score(low if what == "lowest" else high, digits=3, sign=True)
    stronger = what == "highest" and -low > high
    return f"{value}, and stronger ones below zero" if stronger else value


def _section(space: Volume, voxels: np.ndarray, z: int) -> Volume:
    """One section in its place, with every n-th voxel of one that is too large for a picture."""
    step = _thinned(voxels.shape)
    moved = np.eye(4)
    moved[2, 3] = z
    thinner = np.diag([step, step, 1.0, 1.0])
    return replace(
        space, voxels=voxels[..., ::step, ::step].copy(), affine=space.affine @ moved @ thinner
    )


def _thinned(shape: Sequence[int]) -> int:
    """Of how many voxels along y and x one is drawn."""
    return -(-max(shape[-2:]) // _LONGEST)

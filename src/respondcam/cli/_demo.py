"""The scenes of ``respondcam demo``, and what it says about them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from respondcam.cli._batch import Batch
from respondcam.cli._explaining import Settings, explain_source
from respondcam.cli._inputs import Source, find_sources
from respondcam.cli._printing import print_json
from respondcam.cli._tables import explain_table, print_plain
from respondcam.cli._writing import OneMap, write_explained
from respondcam.cryoet.demo import IMAGING, SIZE, demo_scene
from respondcam.cryoet.densities import density_from_file
from respondcam.cryoet.poses import random_poses
from respondcam.cryoet.subtomograms import density_radius, simulate_subtomograms
from respondcam.errors import InputError
from respondcam.network.sources import LoadedModel
from respondcam.volume import Volume, write_volume

_MOST = 96  # voxels along an axis of a box for a density that is larger than the demo's own


@dataclass(frozen=True)
class Scene:
    """An image to explain: how it is made, and what it holds.

    Parameters
    ----------
    source
        Where the image is written to before it is read and explained like any other file.
    make
        Gives the image.
    target
        What is explained.
    """

    source: Source
    make: Callable[[], Volume]
    target: str


def phantoms(folder: Path, seed: int) -> Scene:
    """Two different phantoms in one box; the classes of both are explained."""
    scene = demo_scene(seed)
    name = f"phantoms-{seed}"
    source = Source(folder / f"{name}.mrc", name, ".mrc")
    return Scene(source, lambda: scene.volume, ",".join(scene.classes))


def density_scenes(data: str, folder: Path, seed: int) -> list[Scene]:
    """One box for each density in a folder, imaged as the network's own phantoms were.

    Raises
    ------
    InputError
        If there is no such folder, or it holds no volumes.
    """
    if not Path(data).is_dir():
        raise InputError(
            f"--data {data!r} is no folder. Give one that holds densities (MRC files)."
        )
    return [_density_scene(density, folder, seed) for density in find_sources([data])]


def worker(
    scenes: Sequence[Scene],
    explainer: Callable[..., Any],
    settings: Settings,
    loaded: LoadedModel,
    identity: Mapping[str, Any],
    folder: Path,
) -> Callable[[Source], list[OneMap]]:
    """Give the work on one scene: make its image, write it, explain it, write the results."""
    by_name = {scene.source.name: scene for scene in scenes}

    def work(source: Source) -> list[OneMap]:
        scene = by_name[source.name]
        own = replace(settings, target=scene.target)
        write_volume(source.path, scene.make())
        try:
            explained = explain_source(source, explainer, own, loaded.class_names)
            return write_explained([(own, explained)], folder, identity, overwrite=True)
        except BaseException:
            source.path.unlink()
            raise

    return work


def report(
    batch: Batch[list[OneMap]], pages: Sequence[Path] = (), *, real: bool, as_json: bool
) -> None:
    """Print the accounts and what to open."""
    maps = [one for _, found in batch.done for one in found]
    if as_json:
        files = [{what: str(path) for what, path in one.files.items()} for one in maps]
        print_json(
            {
                "maps": [{**one.record, "files": f} for one, f in zip(maps, files, strict=True)],
                "pages": [str(page) for page in pages],
            }
        )
        return
    explain_table(batch.done, batch.failed, outputs=False)
    if not maps:
        return
    print_plain("")
    print_plain(_REAL if real else _PHANTOMS)
    print_plain(_account_in_words(maps))
    print_plain("")
    print_plain("Open:")
    if pages:
        print_plain(f"  {pages[0]}   (in a browser: the maps in 3-D)")
    for one in maps[:4]:
        name = one.record["target"]["name"].removesuffix(" (predicted)")
        print_plain(f"  {one.files['figure']}   ({name})")
    print_plain("  and, in any viewer of volumes, the map over its image:")
    for one in maps[:4]:
        print_plain(f"  {one.record['input']['path']}   {one.files['input']}")
    if len(maps) > 4:
        print_plain(f"  ... {len(maps)} maps in all")
    print_plain("")
    print_plain("The same by hand, as for volumes and networks of your own:")
    path, settings = maps[0].record["input"]["path"], maps[0].record["settings"]
    print_plain(
        f"  respondcam explain {path} --model demo --normalize {settings['normalize']} "
        f"--target {settings['target']}"
    )


_PHANTOMS = "Two complexes side by side, each explained by the class of its own."
_REAL = (
    "The network knows phantoms only: each real density is explained by the class that it takes it "
    "for."
)


def _account_in_words(maps: Sequence[OneMap]) -> str:
    most = max(one.record["account"]["relative_gap"] for one in maps)
    return (
        f"A score is what the network says with the layer silenced (baseline) plus the map's sum "
        f"(mapped); the gap that is left is at most {100 * most:.1g} % of the image's part."
    )


def _density_scene(density: Source, folder: Path, seed: int) -> Scene:
    name = f"{density.name}-{seed}"
    source = Source(folder / f"{name}.mrc", name, ".mrc")
    return Scene(source, lambda: _imaged(density.path, seed), "predicted")


def _imaged(path: Path, seed: int) -> Volume:
    """Image one density alone, turned at random, in a box that it fits into."""
    voxel_size = IMAGING.voxel_size_angstrom
    density = torch.tensor(
        density_from_file(path, size=_MOST, voxel_size_angstrom=voxel_size).voxels
    )
    across = math.ceil(2 * density_radius(density))
    generator = torch.Generator().manual_seed(seed)
    boxes = simulate_subtomograms(
        density[None],
        torch.zeros(1, dtype=torch.int64),
        random_poses(1, max_shift_voxels=0.0, generator=generator),
        IMAGING,
        size=max(SIZE, across + 2),
        generator=generator,
    )
    affine = np.diag([voxel_size] * 3 + [1.0])
    return Volume(boxes.volumes[0, 0].numpy(), affine, "angstrom")

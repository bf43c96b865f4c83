"""What ``respondcam average`` does with its options."""

import itertools
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from respondcam import __version__
from respondcam._differences import differences
from respondcam._files import read_json, slug, whole_file
from respondcam._rounding import without_noise
from respondcam.attribution import Explanation
from respondcam.attribution.naming import check_names
from respondcam.attribution.targets.words import parse_target
from respondcam.cli._explaining import (
    Settings,
    make_explainer,
    noted,
    sha256_of,
)
from respondcam.cli._printing import console, number, print_json, say, to_json
from respondcam.cli._tables import print_notes
from respondcam.cli._writing import model_record, prepare_folder
from respondcam.cryoet.averaging import FrameMean, Particle, cut_particles
from respondcam.cryoet.particles_star import ParticleList, particle_files, read_particles
from respondcam.errors import InputError
from respondcam.network.sources import LoadedModel
from respondcam.network.weights import state_sha256
from respondcam.show import save_figure
from respondcam.show.average import average_figure
from respondcam.volume import Volume, write_volume
from respondcam.volume.normalize import NORMALIZATIONS

_FEW = 5  # particles


@dataclass(frozen=True)
class Averaged:
    """What was written.

    Parameters
    ----------
    record
        The content of the JSON file.
    files
        By what they hold.
    notes
        What the library warned of.
    """

    record: dict[str, Any]
    files: dict[str, Path]
    notes: tuple[str, ...]


def run(
    star: Path,
    loaded: LoadedModel,
    settings: Settings,
    *,
    class_name: str | None,
    box: int | None,
    limit: int | None,
    out: Path,
    overwrite: bool = False,
) -> Averaged:
    """Explain the particles, turn the maps back, and write their averages.

    Raises
    ------
    InputError
        If the list, the class or the boxes cannot be used.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}. Give at least one particle.")
    if star.is_dir():
        there = sorted(star.glob("*.star"))
        raise InputError(
            f"{str(star)!r} is a folder. Give the STAR file in it"
            f"{f', such as {there[0]}' if there else ''}."
        )
    particles = read_particles(star)
    chosen = _class(particles, class_name)
    goal = _target(settings.target, chosen, loaded)
    files = particle_files(particles, star)
    explainer = make_explainer(loaded, settings)
    count = particles.classes.count(chosen)
    cut = cut_particles(
        particles, files, only=chosen, box=box, prepare=NORMALIZATIONS[settings.normalize]
    )
    identity = _identity(star, chosen, loaded, settings, box, limit)
    if not overwrite:
        _check_free(out / f"{slug(chosen)}.json", identity)
    new = prepare_folder(out)
    try:
        with noted() as notes, _progress(min(count, limit or count)) as step:
            means = _means(step(itertools.islice(cut, limit)), explainer, goal, settings.classes)
        return _write(means, out, chosen, loaded, settings, identity, tuple(notes))
    finally:
        if new and not any(out.iterdir()):
            out.rmdir()


@dataclass(frozen=True, eq=False)
class _Means:
    density: FrameMean
    map: FrameMean
    sums: list[float]
    scores: list[float]
    baselines: list[float]
    layer: str
    target: str
    voxel_size: float


def _means(
    particles: Iterator[Particle],
    explainer: Callable[..., Any],
    target: Any,
    names: Sequence[str],
) -> _Means:
    density, maps = FrameMean(), FrameMean()
    sums: list[float] = []
    scores: list[float] = []
    baselines: list[float] = []
    explanation, voxel = None, 1.0
    for one in particles:
        explanation = explainer(one.box, target=target)
        assert isinstance(explanation, Explanation)
        check_names(names, explanation.score_count)
        placed = explanation.place()[0, 0].detach().cpu()
        voxel = one.box.voxel_size[0]
        density.add(torch.tensor(one.box.voxels), one.rotation, one.shift)
        maps.add(placed, one.rotation, one.shift)
        sums.append(float(explanation.maps[0, 0].double().sum()))
        scores.append(float(explanation.scores[0, 0]))
        baselines.append(float(explanation.account.baseline[0, 0]))
    assert explanation is not None  # there is a particle, or an error was raised
    return _Means(
        density, maps, sums, scores, baselines, explanation.layer, explanation.targets[0], voxel
    )


def _write(
    means: _Means,
    out: Path,
    name: str,
    loaded: LoadedModel,
    settings: Settings,
    identity: dict[str, Any],
    notes: tuple[str, ...],
) -> Averaged:
    stem = slug(name)
    files = {
        "density": out / f"{stem}.density.mrc",
        "map": out / f"{stem}.map.mrc",
        "spread": out / f"{stem}.spread.mrc",
        "figure": out / f"{stem}.png",
        "record": out / f"{stem}.json",
    }
    affine = np.diag([means.voxel_size] * 3 + [1.0])

    def volume(voxels: torch.Tensor) -> Volume:
        return Volume(voxels.float().numpy(), affine, "angstrom")

    volumes = {
        "density": volume(means.density.mean),
        "map": volume(means.map.mean),
        "spread": volume(means.map.spread),
    }
    record: dict[str, Any] = {
        "respondcam": __version__,
        "run": identity,
        "class": name,
        "particles": means.map.count,
        "model": model_record(loaded),
        "settings": {**vars(settings), "target": means.target, "layers": [means.layer]},
        "score": _spread(means.scores),
        "baseline": _spread(means.baselines),
        "map_sum": _spread(means.sums),
        "gap": _spread(
            [
                score - baseline - mapped
                for score, baseline, mapped in zip(
                    means.scores, means.baselines, means.sums, strict=True
                )
            ]
        ),
        "averaged_map_sum": float(means.map.mean.sum()),
        "files": {what: path.name for what, path in files.items()},
    }
    figure = average_figure(
        volumes["density"],
        volumes["map"],
        volumes["spread"],
        name=name,
        count=means.map.count,
        score=record["score"]["mean"],
        method=settings.method,
        layer=means.layer,
    )
    for what, one in volumes.items():
        write_volume(files[what], one)
    save_figure(figure, files["figure"])
    with whole_file(files["record"]) as beside:
        beside.write_text(to_json(record) + "\n", encoding="utf-8")
    return Averaged(record, files, notes)


def report(made: Averaged, notes: Sequence[str], *, as_json: bool) -> None:
    """Say what came out and where it is."""
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        print_json({**json.loads(to_json(made.record)), "files": files})
        return
    record = made.record
    score, baseline, mapped, gap = (
        f"{number(found['mean'])} ± {number(found['std'])}" for found in _in_sum(record)
    )
    say(
        f"{record['particles']} particles of class {record['class']}: score {score} = baseline "
        f"{baseline} + mapped {mapped} + gap {gap}"
    )
    for what in ("density", "map", "spread"):
        say(f"{what}: {made.files[what]}")
    say(f"Open: {made.files['figure']}")
    few = (
        [f"an average of {record['particles']} particles is mostly noise"]
        if record["particles"] < _FEW
        else []
    )
    print_notes([*notes, *made.notes, *few], {})


def _in_sum(record: dict[str, Any]) -> list[dict[str, float]]:
    """Means and deviations of score, baseline, map and gap; a gap of rounding is none.

    Examples
    --------
    >>> record = {part: {"mean": 2.0, "std": 0.5} for part in ("score", "map_sum")}
    >>> record |= {"baseline": {"mean": 0.0, "std": 0.0}, "gap": {"mean": -3e-7, "std": 2e-7}}
    >>> _in_sum(record)[-1]
    {'mean': 0.0, 'std': 0.0}
    """
    score, baseline, mapped, gap = (
        record[part] for part in ("score", "baseline", "map_sum", "gap")
    )
    part = score["mean"] - baseline["mean"]
    return [score, baseline, mapped, {name: without_noise(gap[name], part) for name in gap}]


def _identity(
    star: Path,
    chosen: str,
    loaded: LoadedModel,
    settings: Settings,
    box: int | None,
    limit: int | None,
) -> dict[str, Any]:
    """What makes two averages the same."""
    return {
        "star": str(star.resolve()),
        "star_sha256": sha256_of(star),
        "class": chosen,
        "state_sha256": state_sha256(loaded.module),
        "settings": vars(settings),
        "box": box,
        "limit": limit,
    }


def _check_free(record: Path, identity: dict[str, Any]) -> None:
    """Replace the same average made again, and nothing else."""
    if not record.exists():
        return
    try:
        there = read_json(record)["run"]
    except (OSError, ValueError, KeyError, TypeError):
        there = None
    now = json.loads(json.dumps(identity))  # lists and tuples are one in JSON
    if there != now:
        apart = f" ({'; '.join(differences(there, now))})" if isinstance(there, dict) else ""
        raise InputError(
            f"{str(record)!r} exists already and comes from another run{apart}. Give another "
            f"folder with --out, or allow it to be replaced with --overwrite."
        )


def _spread(values: Sequence[float]) -> dict[str, float]:
    array = np.array(values)
    return {"mean": float(array.mean()), "std": float(array.std())}


def _class(particles: ParticleList, name: str | None) -> str:
    there = list(dict.fromkeys(particles.classes))
    if name is None and len(there) == 1:
        return there[0]
    if name not in there:
        wanted = "Give one with --class" if name is None else f"There is no class {name!r}"
        raise InputError(f"{wanted}. The list has: {', '.join(there)}.")
    return name


def _target(text: str, chosen: str, loaded: LoadedModel) -> Any:
    if text in ("all",):
        raise InputError("--target is 'all'. One score is averaged: give one class.")
    if text:
        return parse_target(text, loaded.class_names)
    if chosen in loaded.class_names:
        return list(loaded.class_names).index(chosen)
    known = ", ".join(loaded.class_names) or "none, since the weights hold no names"
    raise InputError(
        f"The network has no class named {chosen!r} (it has: {known}). Say which of its scores is "
        f"to be explained with --target, such as --target 3 or --target predicted."
    )


@contextmanager
def _progress(
    count: int,
) -> Generator[Callable[[Iterator[Particle]], Iterator[Particle]], None, None]:
    """A bar on a terminal that vanishes when done; nothing where the output goes to a file."""
    from rich.progress import Progress

    screen = console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        yield lambda particles: iter(bar.track(particles, total=count, description=""))

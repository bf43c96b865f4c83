"""What ``respondcam reproduce`` does with its options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from respondcam.cli import _simulating
from respondcam.cli._options import choice, pick_device
from respondcam.cli._printing import percent, print_json, say
from respondcam.cli._reporting import read_table
from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.simulation_plan import Simulation
from respondcam.errors import InputError
from respondcam.paper.figure3 import reproduce_figure3
from respondcam.paper.figure4 import reproduce_figure4
from respondcam.paper.localisation import record, reproduce_localisation
from respondcam.paper.natural_images import reproduce_natural_images
from respondcam.paper.networks import EFFORTS, NETWORKS, SNRS, Laboratory, Plan, quiet, snr_in_words
from respondcam.paper.table1 import Row, columns
from respondcam.paper.table1_run import reproduce_table1
from respondcam.show.report.evidence import write_evidence


@dataclass(frozen=True)
class Wanted:
    """The options, as they were given."""

    what: str
    data: tuple[str, ...]
    out: Path
    classes: str | None
    per_class: int
    budget: str
    networks: tuple[str, ...]
    snr: str
    size: int
    voxel_size: float
    weights: Path | None
    seed: int
    device: str
    loud: bool


@dataclass(frozen=True)
class Made:
    """What an experiment gave.

    Parameters
    ----------
    name
        Of the experiment.
    files
        What to open.
    lines
        For people.
    record
        For machines.
    """

    name: str
    files: tuple[Path, ...]
    lines: tuple[str, ...] = ()
    record: Any = None


def run(wanted: Wanted) -> list[Made]:
    """Check the options and make the experiments.

    Raises
    ------
    InputError
        If an option is impossible.
    """
    choice(wanted.what, [*_EXPERIMENTS, "all"], "The experiment")
    names = list(_EXPERIMENTS) if wanted.what == "all" else [wanted.what]
    return [_EXPERIMENTS[name](wanted) for name in names]


def report(made: Sequence[Made], *, as_json: bool) -> None:
    """Print what came out and where it is."""
    if as_json:
        print_json({one.name: {"files": one.files, "results": one.record} for one in made})
        return
    for one in made:
        for line in one.lines:
            say(line)
        for path in one.files:
            say(f"Open: {path}")


def write_page(made: Sequence[Made], folder: Path) -> Made:
    """Write a page with the figures and tables of the experiments, which lie in `folder`."""
    pictures = [path for one in made for path in one.files if path.suffix == ".png"]
    tables = [path for one in made for path in one.files if path.suffix == ".csv"]
    page = write_evidence(
        folder / "reproduction.html",
        "The publication reproduced",
        lead=[f"{one.name}: {line}" for one in made for line in one.lines],
        figures={f"{path.stem}": path for path in pictures},
        tables=[read_table(path) for path in tables],
    )
    return Made("page", (page,))


def _laboratory(wanted: Wanted) -> Laboratory:
    choice(wanted.budget, list(EFFORTS), "--budget")
    _networks(wanted)
    if wanted.per_class < 1:
        raise InputError(f"--per-class is {wanted.per_class}. Give at least one image.")
    plan = Plan(
        efforts=EFFORTS[wanted.budget],  # pyright: ignore[reportArgumentType]  (checked above)
        size=wanted.size,
        voxel_size_angstrom=wanted.voxel_size,
        seed=wanted.seed,
    )
    imaging = Imaging(voxel_size_angstrom=wanted.voxel_size)
    simulation = Simulation(imaging, size=wanted.size)
    templates = _simulating.templates(wanted.data, wanted.classes, simulation, None)
    return Laboratory(
        templates=templates,
        plan=plan,
        folder=wanted.out,
        device=pick_device(wanted.device),
        tell=_tell if wanted.loud else quiet,
    )


def _tell(line: str) -> None:
    say(line, err=True)


def _networks(wanted: Wanted) -> list[str]:
    known = {name.lower(): name for name in NETWORKS}
    given = wanted.networks or (("cnn-2",) if wanted.budget == "quick" else tuple(known))
    return [known[choice(name.lower(), list(known), "--network")] for name in dict.fromkeys(given)]


def _snr(wanted: Wanted) -> float:
    accepted = {f"{snr:g}": snr for snr in SNRS}
    return accepted[choice(wanted.snr, list(accepted), "--snr")]


def _table1(wanted: Wanted) -> Made:
    rows = reproduce_table1(_laboratory(wanted), _networks(wanted), per_class=wanted.per_class)
    files = tuple(wanted.out / f"table1.{suffix}" for suffix in ("md", "png", "csv"))
    return Made("table1", files, tuple(map(_row_in_words, rows)), columns(rows))


def _row_in_words(row: Row) -> str:
    return (
        f"{row.network}, SNR {snr_in_words(row.snr)}: {percent(row.accuracy)} of {row.images} "
        f"images right; L1 {row.grad.l1.mean:.4g} with Grad-CAM, "
        f"{row.respond.l1.mean:.4g} with Respond-CAM "
        f"(sum = 0: {row.zero.l1.mean:.4g}); tau {row.grad.tau.mean:.3f} and "
        f"{row.respond.tau.mean:.3f}"
    )


def _figure3(wanted: Wanted) -> Made:
    return Made("figure3", (reproduce_figure3(_laboratory(wanted), snr=_snr(wanted)),))


def _figure4(wanted: Wanted) -> Made:
    return Made("figure4", (reproduce_figure4(_laboratory(wanted), snr=_snr(wanted)),))


def _natural_images(wanted: Wanted) -> Made:
    found = reproduce_natural_images(
        # with all, --data names densities
        [Path(name) for name in wanted.data] if wanted.what == "natural-images" else [],
        wanted.out,
        weights=wanted.weights,
        seed=wanted.seed,
        device=pick_device(wanted.device),
        tell=_tell if wanted.loud else quiet,
    )
    lines = tuple(
        f"{one.source.name}: class {one.label}, score {one.score:.4g}; sum {one.grad_sum:.4g} with "
        f"Grad-CAM, {one.respond_sum:.4g} with Respond-CAM"
        for one in found
    )
    return Made("natural-images", tuple(one.figure for one in found), lines, found)


def _localisation(wanted: Wanted) -> Made:
    rows = reproduce_localisation(
        _laboratory(wanted), _networks(wanted), per_class=wanted.per_class
    )
    lines = tuple(
        f"{row.network}, {row.images}, {row.method}: mass {row.figures.mass:.3f}, pointing "
        f"{percent(row.figures.pointing)} of {row.figures.images} ({percent(row.accuracy)} right)"
        for row in rows
    )
    files = tuple(wanted.out / f"localisation.{suffix}" for suffix in ("md", "csv"))
    return Made("localisation", files, lines, [record(row) for row in rows])


_EXPERIMENTS: dict[str, Callable[[Wanted], Made]] = {
    "table1": _table1,
    "figure3": _figure3,
    "figure4": _figure4,
    "natural-images": _natural_images,
    "localisation": _localisation,
}

"""What ``respondcam simulate`` does with its options."""

import math
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from respondcam._words import counted
from respondcam.cli._options import choice, pick_device, three_numbers
from respondcam.cli._printing import console, number, print_json, say
from respondcam.cryoet.imaging import CTF, Imaging
from respondcam.cryoet.simulation import Simulation, Written, write_simulation
from respondcam.cryoet.simulation_stores import STORES
from respondcam.cryoet.templates import ALL_PHANTOMS, load_templates
from respondcam.errors import InputError, RespondCAMWarning
from respondcam.volume import Volume

_CROWD = 20  # particles in a tomogram


@dataclass(frozen=True)
class Timed:
    """What was written, and in how many seconds."""

    written: Written
    seconds: float


def wanted(
    *, snr: str, tilt_range: str, resolution: str, defocus: str, **options: Any
) -> Simulation:
    """Check the options and put them together.

    Raises
    ------
    InputError
        If one of them is impossible.
    """
    route = choice(options["route"], ["fourier", "projection"], "--route")
    if options["tilt_step"] is not None and route != "projection":
        raise InputError("--tilt-step belongs to --route projection; leave it out, or add that.")
    distance = _number(defocus, "--defocus", "none")
    imaging = Imaging(
        voxel_size_angstrom=options["voxel_size"],
        tilt_degrees=_tilts(tilt_range),
        resolution_angstrom=_number(resolution, "--resolution", "none"),
        ctf=None if distance is None else CTF(defocus_um=distance),
        snr=_ratio(snr),
    )
    shape = None if options["tomogram"] is None else _shape(options["tomogram"])
    default = _CROWD if shape else 1
    return Simulation(
        imaging=imaging,
        size=options["size"],
        per_class=options["per_class"],
        particles=default if options["particles"] is None else options["particles"],
        max_shift_voxels=options["max_shift"],
        route=route,  # pyright: ignore[reportArgumentType]  (checked above)
        tilt_step_degrees=options["tilt_step"] or 3.0,
        tomogram=shape,
        tomograms=options["tomograms"],
        masks=options["masks"],
        seed=options["seed"],
    )


def templates(
    densities: Sequence[str] | None,
    classes: str | None,
    simulation: Simulation,
    assembly: str | None,
) -> dict[str, Volume]:
    """Load the kinds of particles; print each thing that had to be assumed once."""
    only = None
    if classes is not None:
        only = [name.strip() for name in classes.split(",") if name.strip()]
        if not only:
            raise InputError("--classes names no class. Give names, such as --classes groel,p97.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RespondCAMWarning)
        found = load_templates(
            densities or [ALL_PHANTOMS],
            only=only,
            size=simulation.size,
            voxel_size_angstrom=simulation.imaging.voxel_size_angstrom,
            assembly=assembly,
        )
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        say(f"respondcam: note: {message}", err=True)
    return found


def write(
    simulation: Simulation, found: Mapping[str, Volume], out: Path, device: str, format: str
) -> Timed:
    """Simulate, with a bar of progress on a terminal."""
    choice(format, list(STORES), "--format")
    where, begin = pick_device(device), time.perf_counter()
    with _progress() as step:
        written = write_simulation(
            simulation,
            found,
            out,
            format=format,  # pyright: ignore[reportArgumentType]  (checked above)
            device=where,
            on_progress=step,
        )
    return Timed(written, time.perf_counter() - begin)


def report(timed: Timed, simulation: Simulation, names: Sequence[str], *, as_json: bool) -> None:
    """Say what is there and where."""
    written, rate = timed.written, timed.written.made / max(timed.seconds, 1e-9)
    if as_json:
        print_json(
            {
                "folder": written.folder,
                "truth": written.truth,
                "images": written.images,
                "made": written.made,
                "particles": written.particles,
                "classes": list(names),
                "seed": simulation.seed,
                "seconds": timed.seconds,
                "images_per_second": rate,
            }
        )
        return
    what = "tomogram" if simulation.tomogram else "subtomogram"
    say(
        f"{counted(written.images, what)} with {counted(written.particles, 'particle')} of "
        f"{len(names)} {'class' if len(names) == 1 else 'classes'} in {written.folder}"
    )
    if written.made < written.images:
        say(f"{written.images - written.made} of them were there from an earlier run.")
    if written.made:
        say(f"{number(timed.seconds)} s, {number(rate)} {what}s per second")
    say(f"Classes, places and orientations: {written.truth}")


@contextmanager
def _progress() -> Generator[Callable[[int, int], None], None, None]:
    """A bar on a terminal that vanishes when done; nothing where the output goes to a file."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    screen = console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _number(text: str, option: str, nothing: str) -> float | None:
    if text.strip().lower() == nothing:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{option} is {text!r}. Accepted: a number, or {nothing}.")
    return value


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise InputError(f"--snr is {text!r}. Accepted: a positive number such as 0.1, or inf.")
    return value


def _tilts(text: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise InputError(
            f"--tilt-range is {text!r}. Accepted: smallest and largest tilt, such as -60,60."
        ) from None
    return low, high


def _shape(text: str) -> tuple[int, int, int]:
    found = three_numbers(text)
    if found is None:
        raise InputError(
            f"--tomogram is {text!r}. Accepted: voxels along z, y and x, such as 64x256x256."
        )
    return found

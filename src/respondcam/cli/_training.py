"""What ``respondcam train`` does with its options."""

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from respondcam.cli import _simulating
from respondcam.cli._options import choice, parse_arguments, pick_device
from respondcam.cli._printing import console, percent, print_json, say
from respondcam.cryoet.model_card import NORMALIZATION
from respondcam.cryoet.simulation_files import run_record
from respondcam.cryoet.simulation_plan import Simulation
from respondcam.cryoet.templates import stacked
from respondcam.cryoet.training import Epoch, Schedule, TrainingResult, train_classifier
from respondcam.cryoet.training_data import Images, simulated_images
from respondcam.cryoet.training_folder import list_folder, read_images, split_listed
from respondcam.errors import InputError
from respondcam.network.sources import BUILT_IN, load_model

# seeds of poses that are far apart for any two --seed
_LEARN, _MEASURE = 1, 2
_USUAL_SIZE = 40  # of the publication's networks unless told otherwise
_GUESSING = 1.5  # times the accuracy of a guess
_SHARE = 0.1  # of a folder's images to measure on


@dataclass(frozen=True)
class Source:
    """Where the images come from.

    Parameters
    ----------
    learn, measure
        Make the images.
    classes
        Names.
    size
        Voxels along the boxes' axes, where that is known beforehand.
    facts
        For the card, and to tell one training from another.
    kinds
        Whether kinds of particles are simulated, as many images as asked for.
    """

    learn: Callable[[], Images]
    measure: Callable[[], Images]
    classes: tuple[str, ...]
    size: int | None
    facts: Mapping[str, Any]
    kinds: bool


def simulated(
    simulation: Simulation, data: Sequence[str] | None, classes: str | None, held_out: int
) -> Source:
    """Subtomograms that are simulated on the way."""
    templates = _simulating.templates(data, classes, simulation, None)
    if len(templates) < 2:
        raise InputError(
            f"There is one kind of particle, {next(iter(templates))!r}; a classifier needs two."
        )
    densities = stacked(templates)

    def make(per_class: int, stream: int) -> Images:
        return simulated_images(
            densities,
            simulation.imaging,
            per_class=per_class,
            size=simulation.size,
            max_shift_voxels=simulation.max_shift_voxels,
            seed=1000 * simulation.seed + stream,
        )

    record = run_record(simulation, templates)
    imaging = {**asdict(simulation.imaging), "snr": str(simulation.imaging.snr)}
    digest = hashlib.sha256("".join(record["densities"].values()).encode()).hexdigest()
    return Source(
        learn=lambda: make(simulation.per_class, _LEARN),
        measure=lambda: make(held_out, _MEASURE),
        classes=tuple(templates),
        size=simulation.size,
        facts={
            "data": ", ".join(data or ["phantoms"]),
            "densities (sha256)": digest,
            "poses of each class": simulation.per_class,
            "held-out poses of each class": held_out,
            "largest shift (voxels)": simulation.max_shift_voxels,
            "box (voxels)": simulation.size,
            "imaging": imaging,
        },
        kinds=True,
    )


def from_folder(folder: Path, classes: str | None, seed: int) -> Source:
    """Images that are there."""
    only = [name.strip() for name in classes.split(",") if name.strip()] if classes else None
    listed = list_folder(folder, only)
    learn, measure = split_listed(listed, share=_SHARE, seed=seed)
    names = hashlib.sha256("\n".join(str(file) for file in listed.files).encode()).hexdigest()
    return Source(
        learn=lambda: read_images(learn),
        measure=lambda: read_images(measure),
        classes=listed.classes,
        size=None,
        facts={
            "data": str(folder),
            "images": len(listed.files),
            "held-out images": len(measure.files),
            "names of the files (sha256)": names,
        },
        kinds=False,
    )


def two_sources() -> InputError:
    """What to say when there are images and kinds to simulate."""
    return InputError(
        "--folder gives images and --data gives kinds of particles to simulate. Give one of them."
    )


def schedule(**options: Any) -> Schedule:
    """How long and how fast."""
    choice(options["precision"], ["auto", "fp32", "bf16"], "--precision")
    return Schedule(**options)


def run(
    spec: str,
    pairs: Sequence[str] | None,
    source: Source,
    how: Schedule,
    out: Path,
    device: str,
) -> TrainingResult:
    """Build the network and train it, with a line of progress on a terminal."""
    where = pick_device(device)
    arguments = _model_arguments(spec, pairs, source)
    torch.manual_seed(how.seed)
    network = load_model(spec, arguments=arguments).module
    with _progress(how.epochs) as on_epoch:
        return train_classifier(
            network,
            source.learn,
            source.measure,
            classes=source.classes,
            folder=out,
            schedule=how,
            facts={"model": spec, "arguments": arguments, **source.facts, "command": _command()},
            device=where,
            on_epoch=on_epoch,
        )


def _model_arguments(spec: str, pairs: Sequence[str] | None, source: Source) -> dict[str, Any]:
    """What the network is built with: as asked, and what the images say of the publication's."""
    arguments = parse_arguments(pairs)
    if spec in BUILT_IN and spec.startswith("paper:"):
        arguments.setdefault("classes", len(source.classes))
        if source.size is not None:
            arguments.setdefault("size", source.size)
    return arguments


def _address(spec: str, pairs: Sequence[str] | None, source: Source) -> str:
    """Options that build the same network again; the weights themselves tell how many classes."""
    arguments = _model_arguments(spec, pairs, source)
    if spec in BUILT_IN:
        arguments.pop("classes", None)
        arguments = {n: v for n, v in arguments.items() if (n, v) != ("size", _USUAL_SIZE)}
    given = [f"--model-arg {shlex.quote(f'{n}={json.dumps(v)}')}" for n, v in arguments.items()]
    return " ".join([f"--model {shlex.quote(spec)}", *given])


def report(
    result: TrainingResult,
    source: Source,
    spec: str,
    pairs: Sequence[str] | None,
    *,
    as_json: bool,
) -> None:
    """Say how well it does, where it is, and the command that explains with it."""
    if as_json:
        print_json({**asdict(result), "classes": source.classes})
        return
    epochs = len(result.history)
    say(
        f"{percent(result.accuracy)} of the held-out images right, {len(source.classes)} classes, "
        f"{epochs} epoch{'' if epochs == 1 else 's'} of {result.seconds:.0f} s in all "
        f"({result.samples_per_second:.0f} images/s, {result.precision}; making the images and "
        f"writing the weights comes on top)"
    )
    if result.accuracy <= _GUESSING / len(source.classes):
        say(
            "Note: that is hardly better than guessing; its maps say nothing about the classes. "
            f"Train on more images{' (--per-class)' if source.kinds else ''} or for longer "
            f"(--epochs)."
        )
    say(f"Weights: {result.weights}, with a card beside them")
    say(
        f"Explain: respondcam explain FILE {_address(spec, pairs, source)} "
        f"--weights {shlex.quote(str(result.weights))} --normalize {NORMALIZATION}"
    )


def _command() -> str:
    return shlex.join(["respondcam", *sys.argv[1:]])


@contextmanager
def _progress(epochs: int) -> Generator[Callable[[Epoch], None], None, None]:
    """A line per epoch on a terminal; nothing where the output goes to a file."""
    screen = console(stderr=True)
    if screen.is_terminal:
        screen.print("preparing the images ...", end="\r")

    def tell(epoch: Epoch) -> None:
        left = (epochs - epoch.number) * epoch.seconds
        if screen.is_terminal:
            screen.print(
                f"epoch {epoch.number}/{epochs}: {100 * epoch.accuracy:.1f} % right, loss "
                f"{epoch.loss:.3f}, {epoch.seconds:.0f} s, about {left:.0f} s left"
            )

    yield tell

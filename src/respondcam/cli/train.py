"""``respondcam train``: a classifier from simulated subtomograms, or from a folder."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam.cli._options import (
    DeviceOption,
    JSONOption,
    ModelArgumentsOption,
    ModelOption,
    QuietOption,
    folder_option,
)
from respondcam.cli._panels import IMAGING, PARTICLES, RUNS, TRAINING


def train(
    model: ModelOption = "paper:cnn-2",
    model_arg: ModelArgumentsOption = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="The kinds of particles to simulate: a map (MRC), an atomic structure (PDB, "
            "mmCIF), a folder of these, an identifier such as 1bxn or EMD-3001, a phantom by name; "
            "may be repeated. All phantoms unless given.",
            rich_help_panel=PARTICLES,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Train on these images instead: a folder that simulate wrote, or one sub-folder "
            "of volumes for each class.",
            rich_help_panel=PARTICLES,
        ),
    ] = None,
    out: Annotated[
        Path, folder_option("Where it goes; the same training is continued.", RUNS)
    ] = Path("respondcam-training"),
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Take only these, in this order.", rich_help_panel=PARTICLES
        ),
    ] = None,
    per_class: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Poses of each kind; noise is drawn anew each time.",
            rich_help_panel=PARTICLES,
        ),
    ] = 300,
    held_out: Annotated[
        int,
        typer.Option(
            metavar="N", help="Further poses of each kind to measure on.", rich_help_panel=PARTICLES
        ),
    ] = 20,
    snr: Annotated[
        str,
        typer.Option(
            metavar="RATIO|inf",
            help="Variance of the signal over the noise's.",
            rich_help_panel=IMAGING,
        ),
    ] = "0.1",
    tilt_range: Annotated[
        str,
        typer.Option(
            metavar="LOW,HIGH",
            help="Smallest and largest tilt, in degrees.",
            rich_help_panel=IMAGING,
        ),
    ] = "-60,60",
    size: Annotated[
        int,
        typer.Option(metavar="N", help="Voxels along the boxes' axes.", rich_help_panel=IMAGING),
    ] = 40,
    voxel_size: Annotated[
        float, typer.Option(metavar="Å", help="Edge of a voxel.", rich_help_panel=IMAGING)
    ] = 10.0,
    resolution: Annotated[
        str,
        typer.Option(
            metavar="Å|none",
            help="Where the signal has fallen to one half.",
            rich_help_panel=IMAGING,
        ),
    ] = "40",
    defocus: Annotated[
        str,
        typer.Option(
            metavar="UM|none", help="Underfocus in µm; none for no CTF.", rich_help_panel=IMAGING
        ),
    ] = "5",
    max_shift: Annotated[
        float,
        typer.Option(
            metavar="VOXELS",
            help="Largest shift of a particle along each axis.",
            rich_help_panel=PARTICLES,
        ),
    ] = 2.0,
    epochs: Annotated[
        int, typer.Option(metavar="N", help="Times it sees each image.", rich_help_panel=TRAINING)
    ] = 12,
    batch: Annotated[
        int, typer.Option(metavar="N", help="Images per step.", rich_help_panel=TRAINING)
    ] = 64,
    learning_rate: Annotated[
        float,
        typer.Option(
            metavar="RATE", help="At the start; falls along a cosine.", rich_help_panel=TRAINING
        ),
    ] = 0.01,
    patience: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Stop after so many epochs that bring no better accuracy.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|fp32|bf16",
            help="auto tries both and takes what is faster here.",
            rich_help_panel=TRAINING,
        ),
    ] = "auto",
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", help="Of weights, poses, noise, order.", rich_help_panel=TRAINING
        ),
    ] = 0,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Train a network to tell particles apart, from simulated subtomograms or a folder.

    Writes model.safetensors, classes.json and a card. An interrupted training is continued by the
    same command. Explain with it: respondcam explain FILE --model paper:cnn-2 --weights
    OUT/model.safetensors --normalize zscore.
    """
    from respondcam.cli import _simulating, _training

    simulation = _simulating.wanted(
        snr=snr,
        tilt_range=tilt_range,
        tilt_step=None,
        route="fourier",
        voxel_size=voxel_size,
        resolution=resolution,
        defocus=defocus,
        size=size,
        per_class=per_class,
        particles=1,
        max_shift=max_shift,
        tomogram=None,
        tomograms=1,
        masks=False,
        seed=seed,
    )
    if folder is None:
        source = _training.simulated(simulation, data, classes, held_out)
    elif data:
        raise _training.two_sources()
    else:
        source = _training.from_folder(folder, classes, seed)
    schedule = _training.schedule(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        patience=patience,
        precision=precision,
        seed=seed,
    )
    result = _training.run(model, model_arg, source, schedule, out, device)
    if not quiet or as_json:
        _training.report(result, source, model, model_arg, as_json=as_json)

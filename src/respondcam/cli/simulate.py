"""``respondcam simulate``: subtomograms and tomograms whose truth is known."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam.cli._options import JSONOption, QuietOption, folder_option
from respondcam.cli._panels import IMAGING, PARTICLES, RUNS


def simulate(
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="The kinds of particles: a map (MRC), an atomic structure (PDB, mmCIF), a folder "
            "of these, an identifier such as 1bxn or EMD-3001, a phantom by name; may be repeated. "
            "All phantoms unless given.",
            rich_help_panel=PARTICLES,
        ),
    ] = None,
    out: Annotated[
        Path, folder_option("Where the files go; the same run is continued.", RUNS)
    ] = Path("respondcam-simulation"),
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Take only these of the kinds.", rich_help_panel=PARTICLES
        ),
    ] = None,
    per_class: Annotated[
        int, typer.Option(metavar="N", help="Subtomograms of each kind.", rich_help_panel=PARTICLES)
    ] = 10,
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
    tilt_step: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            help="For --route projection; 3 if not given.",
            rich_help_panel=IMAGING,
        ),
    ] = None,
    route: Annotated[
        str,
        typer.Option(
            metavar="fourier|projection",
            help="One filter in Fourier space (fast), or a tilt series that is reconstructed.",
            rich_help_panel=IMAGING,
        ),
    ] = "fourier",
    size: Annotated[
        int,
        typer.Option(
            metavar="N", help="Voxels along a subtomogram's axes.", rich_help_panel=IMAGING
        ),
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
    particles: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="In each box: 1 if not given, in each tomogram 20.",
            rich_help_panel=PARTICLES,
        ),
    ] = None,
    tomogram: Annotated[
        str | None,
        typer.Option(
            metavar="ZxYxX",
            help="Crowded tomograms of so many voxels instead of boxes.",
            rich_help_panel=PARTICLES,
        ),
    ] = None,
    tomograms: Annotated[
        int, typer.Option(metavar="N", help="How many with --tomogram.", rich_help_panel=PARTICLES)
    ] = 1,
    assembly: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|deposited",
            help="Biological assembly of atomic structures: the first listed unless given.",
            rich_help_panel=PARTICLES,
        ),
    ] = None,
    masks: Annotated[
        bool,
        typer.Option(
            "--masks", help="Write which particle each voxel belongs to, too.", rich_help_panel=RUNS
        ),
    ] = False,
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="mrc|zarr",
            help="A file for each image and a STAR file, or one Zarr dataset.",
            rich_help_panel=RUNS,
        ),
    ] = "mrc",
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="The same seed gives the same bytes.", rich_help_panel=RUNS),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda[:n]", help="Where it is computed.", rich_help_panel=RUNS
        ),
    ] = "auto",
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Simulate subtomograms or tomograms of known particles: MRC files with a STAR file, or Zarr.

    Classes, places and orientations are in particles.star in RELION's convention, or beside the
    images in simulation.zarr. An interrupted run is continued by the same command.
    """
    from respondcam.cli import _simulating

    wanted = _simulating.wanted(
        snr=snr,
        tilt_range=tilt_range,
        tilt_step=tilt_step,
        route=route,
        voxel_size=voxel_size,
        resolution=resolution,
        defocus=defocus,
        size=size,
        per_class=per_class,
        particles=particles,
        max_shift=max_shift,
        tomogram=tomogram,
        tomograms=tomograms,
        masks=masks,
        seed=seed,
    )
    templates = _simulating.templates(data, classes, wanted, assembly)
    written = _simulating.write(wanted, templates, out, device, file_format)
    if not quiet or as_json:
        _simulating.report(written, wanted, list(templates), as_json=as_json)

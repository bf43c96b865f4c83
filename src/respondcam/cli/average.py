"""``respondcam average``: maps of many particles in the particle's own frame."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam.cli._options import (
    ClassesOption,
    DeviceOption,
    JSONOption,
    MethodOption,
    ModelArgumentsOption,
    ModelOption,
    NormalizeOption,
    OutputOption,
    OverwriteOption,
    QuietOption,
    TrustOption,
    WeightsOption,
    folder_option,
)
from respondcam.cli._panels import GOES_IN, RUNS, WHAT


def average(
    star: Annotated[
        Path,
        typer.Argument(
            metavar="STAR", help="List of particles with poses, from RELION or respondcam simulate."
        ),
    ],
    model: ModelOption,
    weights: WeightsOption = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="Which class of the list to average.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Score to explain; the same class unless given.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Layer to explain; chosen if not given.", rich_help_panel=WHAT
        ),
    ] = None,
    method: MethodOption = "respond",
    box: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Voxels of the boxes to cut, for particles in tomograms.",
            rich_help_panel=GOES_IN,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Take only so many particles, the first ones.",
            rich_help_panel=GOES_IN,
        ),
    ] = None,
    normalize: NormalizeOption = "none",
    out: Annotated[Path, folder_option("Where the results go.", RUNS)] = Path("respondcam-average"),
    overwrite: OverwriteOption = False,
    output: OutputOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = "auto",
    model_arg: ModelArgumentsOption = None,
    trust: TrustOption = False,
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Average the maps of one class in the particle's own frame, turned back by their poses.

    Writes CLASS.density.mrc (the averaged images), CLASS.map.mrc and CLASS.spread.mrc (mean and
    standard deviation of the maps), CLASS.png (the density's surface coloured by the map) and
    CLASS.json.
    """
    from respondcam.cli import _averaging
    from respondcam.cli._explaining import Settings, advice, class_list, open_model
    from respondcam.errors import InputError

    settings = Settings(
        method,
        () if layer is None else (layer,),
        target or "",
        normalize,
        output=output,
        classes=class_list(classes),
    )
    loaded, notes = open_model(
        model, weights, model_arg, device, trust=trust, classes=settings.classes
    )
    if loaded.preparation is not None:
        raise InputError(
            f"average explains boxes cut from tomograms as they are, but {model} comes with its "
            f"own preprocessing. Switch that off with --model-arg preprocess=false."
        )
    made = _averaging.run(
        star,
        loaded,
        settings,
        class_name=class_name,
        box=box,
        limit=limit,
        out=out,
        overwrite=overwrite,
    )
    if not quiet or as_json:
        _averaging.report(made, [*notes, *advice(loaded, settings)], as_json=as_json)

"""``respondcam reproduce``: the publication's experiments, made again."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam.cli._options import DeviceOption, JSONOption, PageOption, QuietOption, folder_option


def reproduce(
    what: Annotated[
        str, typer.Argument(metavar="table1|figure3|figure4|natural-images|localisation|all")
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="The classes: a map (MRC), an atomic structure (PDB, mmCIF), a folder of these, "
            "an identifier such as 1bxn or EMD-3001, a phantom by name; may be repeated. All "
            "phantoms unless given. For natural-images: images, or folders of them.",
        ),
    ] = None,
    out: Annotated[Path, folder_option("Where it goes; the same run is continued.")] = Path(
        "respondcam-reproduction"
    ),
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Take only these, in this order.")
    ] = None,
    per_class: Annotated[int, typer.Option(metavar="N", help="Test images of each class.")] = 20,
    budget: Annotated[
        str,
        typer.Option(
            metavar="quick|full",
            help="How long the networks are trained. Table 1 is of CNN-2 alone with quick.",
        ),
    ] = "quick",
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="cnn-1|cnn-2", help="Networks of Table 1 and localisation; may be repeated."
        ),
    ] = None,
    snr: Annotated[
        str, typer.Option(metavar="inf|0.1", help="Noise of the images of Figures 3 and 4.")
    ] = "inf",
    size: Annotated[int, typer.Option(metavar="N", help="Voxels along the boxes' axes.")] = 40,
    voxel_size: Annotated[float, typer.Option(metavar="Å", help="Edge of a voxel.")] = 10.0,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of VGG-16, for natural-images; fetched unless given."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, poses and noise.")] = 0,
    device: DeviceOption = "auto",
    with_page: PageOption = False,
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Make an experiment of the publication again, from the data to the table or figure.

    Trained networks are kept in the folder and shared by all experiments in it. An interrupted run
    is continued by the same command.
    """
    from respondcam.cli import _reproducing

    wanted = _reproducing.Wanted(
        what=what,
        data=tuple(data or ()),
        out=out,
        classes=classes,
        per_class=per_class,
        budget=budget,
        networks=tuple(network or ()),
        snr=snr,
        size=size,
        voxel_size=voxel_size,
        weights=weights,
        seed=seed,
        device=device,
        loud=not (as_json or quiet),
    )
    made = _reproducing.run(wanted)
    if with_page:
        made.append(_reproducing.write_page(made, out))
    if not quiet or as_json:
        _reproducing.report(made, as_json=as_json)

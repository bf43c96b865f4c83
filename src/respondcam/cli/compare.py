"""``respondcam compare``: methods side by side on many volumes."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam.cli._options import (
    AxesOption,
    ClassesOption,
    DeviceOption,
    JSONOption,
    ModelArgumentsOption,
    ModelOption,
    NormalizeOption,
    OutputOption,
    PageOption,
    QuietOption,
    TrustOption,
    WeightsOption,
    folder_option,
)
from respondcam.cli._panels import MEASURED, RUNS, WHAT


def compare(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILES", help="Folders, volumes or patterns."),
    ],
    model: ModelOption,
    weights: WeightsOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="Method; may be repeated; all. The others are compared with the first. "
            "[default: respond and grad]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    method_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--method-arg",
            metavar="[METHOD.]NAME=VALUE",
            help="An option of one method, such as integrated-respond.nodes=32, or without its "
            "name of all that have it; may be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="Layer; may be repeated; chosen and said if not given.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            metavar="CLASS",
            help="What is explained, as for explain; one of each.",
            rich_help_panel=WHAT,
        ),
    ] = "predicted",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="account, deletion, insertion, drop, road, arcc, location, boxes, classes, "
            "stability, randomised; may be repeated; all. [default: account, deletion, insertion, "
            "drop, and location where there are masks]",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|PATTERN",
            help="Masks of what should be found, on the volumes' grids, named like them.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    mask_label: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Which value of the masks counts. [any but 0]",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|PATTERN",
            help="Masks of what does not count, such as padding; named like the volumes.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    fill: Annotated[
        str,
        typer.Option(
            metavar="zero|mean|blur|noise",
            help="What stands in for voxels that are taken away.",
            rich_help_panel=MEASURED,
        ),
    ] = "mean",
    steps: Annotated[
        int, typer.Option(metavar="N", help="Steps of a curve.", rich_help_panel=MEASURED)
    ] = 20,
    controls: Annotated[
        bool,
        typer.Option(
            help="Also measure the controls: uniform, centre and channel-sum.",
            rich_help_panel=MEASURED,
        ),
    ] = True,
    batch: Annotated[
        int, typer.Option(metavar="N", help="Volumes per inference.", rich_help_panel=RUNS)
    ] = 8,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of all that is drawn.", rich_help_panel=MEASURED)
    ] = 0,
    normalize: NormalizeOption = "none",
    axes: AxesOption = "zyx",
    output: OutputOption = None,
    classes: ClassesOption = None,
    out: Annotated[
        Path, folder_option("Where the results go; a later run goes on there.", RUNS)
    ] = Path("respondcam-compare"),
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Start anew in a folder of another comparison.",
            rich_help_panel=RUNS,
        ),
    ] = False,
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|bf16",
            help="bf16 runs the network up to the layer in bfloat16.",
            rich_help_panel=RUNS,
        ),
    ] = "fp32",
    device: DeviceOption = "auto",
    model_arg: ModelArgumentsOption = None,
    trust: TrustOption = False,
    with_page: PageOption = False,
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Compare methods, layers and controls: accounts, faithfulness, localisation, sanity.

    One row per measure, method and layer: the mean over volumes, its 95 % interval by bootstrap,
    and the difference to the first method on the same volumes. Writes compare.csv, volumes.csv,
    compare.json, compare.png, with --report compare.html, and one record per volume, so that a run
    that was stopped goes on.
    """
    from respondcam.cli._beforehand import check_beforehand

    sources = check_beforehand(files, method or (), every=True)
    from respondcam.cli import _compare_report
    from respondcam.cli._batch import run_batch
    from respondcam.cli._comparing import Asked, Comparison, open_comparison
    from respondcam.cli._explaining import class_list
    from respondcam.cli._inputs import left_out

    asked = Asked(
        methods=tuple(method or ("respond", "grad")),
        layers=tuple(layer or ()),
        metrics=tuple(metric or ()),
        target=target,
        masks=masks,
        mask_label=mask_label,
        background=background,
        fill=fill,
        steps=steps,
        controls=controls,
        batch=batch,
        seed=seed,
        normalize=normalize,
        axes=axes,
        output=output,
        classes=class_list(classes),
        method_arguments=tuple(method_arg or ()),
        precision=precision,
    )
    comparison: Comparison = open_comparison(
        asked, sources, out, (model, weights, model_arg, device, trust), overwrite=overwrite
    )
    comparison.notes += left_out(files, sources)
    done = run_batch(sources, comparison.measure)
    _compare_report.report(comparison, done, out, with_page=with_page, quiet=quiet, as_json=as_json)
    done.leave()

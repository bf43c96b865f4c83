"""``respondcam audit``: whether the maps of many volumes add up to the scores."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam._methods import METHOD_SUMMARIES
from respondcam.cli._options import (
    AxesOption,
    ClassesOption,
    DeviceOption,
    JSONOption,
    ModelArgumentsOption,
    ModelOption,
    NormalizeOption,
    OutputOption,
    QuietOption,
    TrustOption,
    WeightsOption,
)
from respondcam.cli._panels import FIGURES, RUNS, WHAT


def audit(
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
            help=f"Method; may be repeated: {', '.join(METHOD_SUMMARIES)}. [default: respond]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Layer; chosen and said if not given.", rich_help_panel=WHAT
        ),
    ] = None,
    normalize: NormalizeOption = "none",
    axes: AxesOption = "zyx",
    output: OutputOption = None,
    classes: ClassesOption = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Also write the table as CSV.", rich_help_panel=RUNS
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Also write a web page with the tables.",
            rich_help_panel=FIGURES,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace files of these names that audit did not write.",
            rich_help_panel=RUNS,
        ),
    ] = False,
    device: DeviceOption = "auto",
    model_arg: ModelArgumentsOption = None,
    trust: TrustOption = False,
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Check over many volumes whether the sums of the maps follow the scores of all classes.

    L1 is the mean over classes of |sum of the map - score| (for a map of zeros: of |score|), tau is
    Kendall's rank correlation of the two over classes (of one class: over volumes), and open is the
    share of what the volume contributed to the scores that the maps leave open. Intervals are of
    the mean over volumes, 95 % by bootstrap. With --csv A.csv the figures of each class go to
    A.classes.csv. Tables and pages of an earlier audit are written anew; any other file is left
    alone unless --overwrite.
    """
    from respondcam.cli._beforehand import check_beforehand

    sources = check_beforehand(files, method or ())
    from respondcam.cli import _auditing
    from respondcam.cli._audit_files import check_files
    from respondcam.cli._batch import run_batch
    from respondcam.cli._explaining import Settings, advice, class_list, make_explainer, open_model
    from respondcam.cli._inputs import left_out, without_channel_files

    check_files(csv_file, page, overwrite=overwrite)
    layers = (layer,) if layer else ()
    names = class_list(classes)
    settings = [
        Settings(name, layers, "all", normalize, axes, output=output, classes=names)
        for name in dict.fromkeys(method or ["respond"])
    ]
    loaded, notes = open_model(model, weights, model_arg, device, trust=trust, classes=names)
    notes += [*left_out(files, sources), *advice(loaded, settings[0])]
    explainers = [(one, make_explainer(loaded, one)) for one in settings]
    if loaded.preparation is not None and loaded.preparation.channel_files > 1:
        sources = without_channel_files(sources)
    batch = run_batch(
        sources,
        lambda source: _auditing.rows_of(
            source, explainers, loaded.class_names, overlapping=loaded.overlapping
        ),
    )
    summaries = _auditing.summaries_of(batch)
    by_class = _auditing.class_summaries_of(batch)
    if csv_file:
        _auditing.write_csv(csv_file, batch, by_class)
    if page:
        _auditing.write_page(page, batch, summaries, by_class, notes)
    if not quiet or as_json:
        _auditing.report(batch, summaries, by_class, notes, (csv_file, page), as_json=as_json)
    batch.leave()

"""``respondcam audit``: whether the maps of many volumes add up to the scores."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam._methods import METHOD_SUMMARIES
from respondcam.cli._common import (
    AxesOption,
    DeviceOption,
    JSONOption,
    ModelArgumentsOption,
    ModelOption,
    NormalizeOption,
    OutputOption,
    TrustOption,
    WeightsOption,
)


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
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Layer; chosen and said if not given.")
    ] = None,
    normalize: NormalizeOption = "none",
    axes: AxesOption = "zyx",
    output: OutputOption = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write the table as CSV.")
    ] = None,
    device: DeviceOption = "auto",
    model_arg: ModelArgumentsOption = None,
    trust: TrustOption = False,
    as_json: JSONOption = False,
) -> None:
    """Check over many volumes whether the sums of the maps follow the scores of all classes.

    L1 is the mean over classes of |sum of the map - score|, tau is Kendall's rank correlation of
    the two over classes, and open is the share of what the volume contributed to the scores that
    the maps leave open.
    """
    from respondcam.cli import _auditing
    from respondcam.cli._batch import run_batch
    from respondcam.cli._explaining import Settings, advice, make_explainer, open_model
    from respondcam.cli._inputs import find_sources

    sources = find_sources(files)
    _auditing.check_csv(csv_file)
    layers = (layer,) if layer else ()
    settings = [
        Settings(name, layers, "all", normalize, axes, output=output)
        for name in dict.fromkeys(method or ["respond"])
    ]
    loaded, notes = open_model(model, weights, model_arg, device, trust=trust)
    notes += advice(loaded, settings[0])
    explainers = [(one, make_explainer(loaded, one)) for one in settings]
    batch = run_batch(
        sources, lambda source: _auditing.rows_of(source, explainers, loaded.class_names)
    )
    summaries = _auditing.summaries_of(batch)
    if csv_file:
        _auditing.write_csv(csv_file, batch)
    _auditing.report(batch, summaries, notes, csv_file, as_json=as_json)
    batch.leave()

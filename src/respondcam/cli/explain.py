"""``respondcam explain``: maps of one or many volumes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from respondcam._methods import METHOD_SUMMARIES
from respondcam.cli._options import (
    AxesOption,
    ClassesOption,
    DeviceOption,
    JSONOption,
    ModelArgumentsOption,
    ModelOption,
    OutputOption,
    OverwriteOption,
    QuietOption,
    ReportOption,
    TrustOption,
    WeightsOption,
    WindowsNormalizeOption,
    folder_option,
)
from respondcam.cli._panels import FIGURES, GOES_IN, RUNS, WHAT, WINDOWS

if TYPE_CHECKING:
    from respondcam.cli._batch import Batch
    from respondcam.cli._writing import OneMap


def explain(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILES", help="Volumes, patterns such as 'data/*.mrc', folders."),
    ],
    model: ModelOption,
    weights: WeightsOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            help="Layer to explain; may be repeated. "
            "Chosen and said if not given; see: respondcam layers.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            metavar="CLASS",
            help="predicted, all, a class number, several as 0,3,5, a class name, contrast:3,5, "
            "probability:3, log-probability:3; value for a regression; of dense outputs "
            "mask:FILE@3, box:Z,Y,X-Z,Y,X@3, voxel:Z,Y,X@3, component:largest@3; of detectors "
            "detection:best@3.",
            rich_help_panel=WHAT,
        ),
    ] = "predicted",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help=f"Method: {', '.join(METHOD_SUMMARIES)}; may be repeated. [default: respond]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    method_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--method-arg",
            metavar="[METHOD.]NAME=VALUE",
            help="An option of the method, its value as JSON, such as nodes=32, baseline=mean, "
            "denominator=paper, where=input; of one of several methods "
            "integrated-respond.nodes=32; may be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    normalize: WindowsNormalizeOption = "none",
    axes: AxesOption = "zyx",
    out: Annotated[Path, folder_option("Where the results go.", RUNS)] = Path("respondcam-maps"),
    overwrite: OverwriteOption = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep what the same command finished in that folder; do the rest.",
            rich_help_panel=RUNS,
        ),
    ] = False,
    align: Annotated[
        str,
        typer.Option(
            metavar="layout|measured", help="How the map is put in its place.", rich_help_panel=RUNS
        ),
    ] = "layout",
    keep: Annotated[
        str,
        typer.Option(
            metavar="value|sum",
            help="What the map in the volume's voxels keeps: its values, for looking at, or its "
            "sum, for how much of the score lies where.",
            rich_help_panel=RUNS,
        ),
    ] = "value",
    output: OutputOption = None,
    classes: ClassesOption = None,
    nonfinite: Annotated[
        str,
        typer.Option(
            metavar="error|zero",
            help="What to do about voxels that are NaN.",
            rich_help_panel=GOES_IN,
        ),
    ] = "error",
    channels: Annotated[
        bool,
        typer.Option(
            "--channels",
            help="Also say how much comes through each input channel.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    channel_names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Names of the channels, such as T1,T2,FLAIR.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    channel_baseline: Annotated[
        str,
        typer.Option(
            metavar="zero|mean", help="What a channel is compared with.", rich_help_panel=WHAT
        ),
    ] = "zero",
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|bf16",
            help="bf16 runs the network up to the layer in bfloat16, and says what that costs.",
            rich_help_panel=RUNS,
        ),
    ] = "fp32",
    device: DeviceOption = "auto",
    model_arg: ModelArgumentsOption = None,
    trust: TrustOption = False,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="N|Z,Y,X",
            help="Explain window by window, on disk, volumes of any size: voxels of a window.",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="How much of a window the next covers too; 0.5.",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    stitch: Annotated[
        str | None,
        typer.Option(
            metavar="mean|sum",
            help="How windows are combined: a weighted mean, or a sum that keeps the account.",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Windows in the network at a time; 8.", rich_help_panel=WINDOWS
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Work in N processes of this machine.", rich_help_panel=WINDOWS
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Threads of each process; all cores in sum.", rich_help_panel=WINDOWS
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Dask cluster, such as tcp://node1:8786.",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what --window will take, and write nothing.",
            rich_help_panel=WINDOWS,
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Read back what is there; do damaged chunks again.",
            rich_help_panel=WINDOWS,
        ),
    ] = False,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="mrc|nii.gz",
            help="Also write the whole map in this format; may be repeated.",
            rich_help_panel=WINDOWS,
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="shared|VALUE",
            help="Value of the strongest colours in figures and on pages: one for all classes of a "
            "volume, or a number. Each map's own unless given.",
            rich_help_panel=FIGURES,
        ),
    ] = None,
    with_report: ReportOption = False,
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Explain volumes: maps in each volume's own format and place, a figure, and the account.

    For each volume, method, layer and target this writes NAME.METHOD.LAYER.TARGET with four
    endings: .input and .layer (the map in the voxels of the volume and of the layer), .png (slices)
    and .json (scores, account and everything needed to repeat it).

    The same command with --resume continues one that was stopped.

    With --window it writes one OME-Zarr image NAME.METHOD.LAYER.TARGET.ome.zarr instead, the
    targets as channels, with the score of every window in it, and .section.png, the section of the
    highest value, and --resume need not be given.
    """
    from respondcam.cli._beforehand import check_beforehand, check_windows

    if window is not None:
        check_windows()
    sources = check_beforehand(files, method or ())
    from respondcam.cli._batch import run_batch
    from respondcam.cli._explaining import (
        Settings,
        advice,
        class_list,
        explain_source,
        make_explainer,
        open_model,
        sha256_of,
    )
    from respondcam.cli._inputs import Source, left_out, without_channel_files
    from respondcam.cli._resuming import Finished, names_of, record_names
    from respondcam.cli._several import settings_of
    from respondcam.cli._writing import (
        check_before,
        check_names,
        limit_of,
        model_record,
        prepare_folder,
        write_explained,
    )
    from respondcam.errors import InputError

    settings = Settings(
        layers=tuple(layer or ()),
        target=target,
        normalize=normalize,
        axes=axes,
        align=align,
        output=output,
        nonfinite=nonfinite,
        precision=precision,
        channels=channels or channel_names is not None,
        channel_names=tuple(channel_names.split(",")) if channel_names else (),
        channel_baseline=channel_baseline,
        method_arguments=tuple(method_arg or ()),
        classes=class_list(classes),
        keep=keep,
    )
    each = settings_of(settings, method or ())
    colours = limit_of(limit)
    from respondcam.cli import _large

    asked = _large.Asked(
        window,
        overlap,
        stitch,
        batch,
        workers,
        threads,
        scheduler,
        dry_run,
        verify,
        tuple(export or ()),
    )
    if window is not None:
        if with_report:
            raise InputError(
                "--report does not go with --window: a page holds a whole volume. Look at the "
                "OME-Zarr in napari, or give --export mrc."
            )
        if settings.keep != "value":
            raise InputError("--keep is for volumes explained whole; with --window give --stitch.")
        if limit is not None:
            raise InputError("--limit is for figures of volumes that are explained whole.")
        if len(each) > 1:
            raise InputError("Windows are explained by one method. Give --method once.")
        network = _large.Network(model, weights, model_arg, device, trust, settings.classes)
        _large.explain_windows(
            files,
            sources,
            network,
            asked,
            vars(each[0]),
            out,
            overwrite=overwrite,
            quiet=quiet,
            as_json=as_json,
        )
        return
    new = prepare_folder(out)
    try:
        loaded, notes = open_model(
            model, weights, model_arg, device, trust=trust, classes=settings.classes
        )
        explainers = [(one, make_explainer(loaded, one)) for one in each]
        if loaded.preparation is not None and loaded.preparation.channel_files > 1:
            sources = without_channel_files(sources)
        identity = model_record(loaded)
        files_each = loaded.preparation.channel_files if loaded.preparation else 1
        kept = Finished(out, each, identity, colours, channel_files=files_each) if resume else None

        there = [] if overwrite else record_names(out)
        of_network = tuple(notes)

        def work(source: Source) -> "list[OneMap]":
            if kept is not None and (before := kept.maps_of(source)):
                return before
            check_names(source, [one.method for one in each], out)
            if source.path.exists() and (own := names_of(there, source)):
                now = {"input": {"sha256": sha256_of(source.path)}, "model": identity}
                check_before(own, out, each, now)
            found = [
                (
                    one,
                    explain_source(
                        source, explainer, one, loaded.class_names, overlapping=loaded.overlapping
                    ).said_of_network(of_network),
                )
                for one, explainer in explainers
            ]
            return write_explained(found, out, identity, overwrite=overwrite, limit=colours)

        results = run_batch(sources, work)
        notes += kept.note() if kept is not None else []
    finally:
        if new and not any(out.iterdir()):
            out.rmdir()
    pages: list[Path] = []
    if with_report:
        from respondcam.cli._reporting import reports_of

        records = [one.files["record"] for _, maps in results.done for one in maps]
        reports, pages = reports_of(records, out)
        results.code = results.code or reports.code
    if not quiet or as_json:
        _report(
            results,
            [*left_out(files, sources), *notes, *advice(loaded, settings)],
            pages,
            as_json=as_json,
        )
    results.leave()


def _report(
    batch: "Batch[list[OneMap]]", notes: list[str], pages: list[Path], *, as_json: bool
) -> None:
    from respondcam.cli._printing import print_json
    from respondcam.cli._several import notes_of
    from respondcam.cli._tables import channel_tables, explain_table, print_notes, print_plain

    if as_json:
        print_json(_document(batch, notes, pages))
        return
    said = {s.label: notes_of([one.record for one in maps]) for s, maps in batch.done}
    if len(batch.done) + len(batch.failed) > 1 or batch.done:
        explain_table(batch.done, batch.failed, order=batch.order)
    channel_tables(batch.done)
    if pages:
        print_plain(f"Open in a browser: {pages[0]}")
    told = {note for each in said.values() for note in each}
    print_notes([note for note in notes if note not in told], said)


def _document(batch: "Batch[list[OneMap]]", notes: list[str], pages: list[Path]) -> dict[str, Any]:
    return {
        "maps": [
            {**one.record, "files": {what: str(path) for what, path in one.files.items()}}
            for _, maps in batch.done
            for one in maps
        ],
        "failed": [
            {"path": str(source.path), "error": message} for source, message in batch.failed
        ],
        "pages": [str(page) for page in pages],
        "notes": notes,
    }

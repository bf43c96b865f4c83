"""``respondcam demo``: from nothing to a map that adds up."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam.cli._options import (
    DeviceOption,
    JSONOption,
    QuietOption,
    ReportOption,
    folder_option,
)


def demo(
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Use the real densities (MRC files) in this folder instead."
        ),
    ] = None,
    out: Annotated[Path, folder_option("Where the results go.")] = Path("respondcam-demo"),
    seed: Annotated[int, typer.Option(metavar="N", help="Which scene.", min=0)] = 0,
    device: DeviceOption = "auto",
    with_report: ReportOption = False,
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Explain a phantom with the network in the package, and say what to open.

    The image is a simulated cryo-electron tomogram of two different complexes side by side; each
    one's class is explained. With --data, each density in a folder is imaged in the same way.
    """
    from respondcam.cli import _demo
    from respondcam.cli._batch import run_batch
    from respondcam.cli._explaining import Settings, make_explainer, open_model
    from respondcam.cli._writing import model_record, prepare_folder

    scenes = _demo.density_scenes(data, out, seed) if data else [_demo.phantoms(out, seed)]
    prepare_folder(out)
    loaded, _ = open_model("demo", None, None, device, trust=False)
    settings = Settings(normalize="zscore")
    explainer = make_explainer(loaded, settings)
    identity = model_record(loaded)
    batch = run_batch(
        [scene.source for scene in scenes],
        _demo.worker(scenes, explainer, settings, loaded, identity, out),
    )
    pages: list[Path] = []
    if with_report:
        from respondcam.cli._reporting import reports_of

        records = [one.files["record"] for _, maps in batch.done for one in maps]
        reports, pages = reports_of(records, out)
        batch.code = batch.code or reports.code
    if not quiet or as_json:
        _demo.report(batch, pages, real=bool(data), as_json=as_json)
    batch.leave()

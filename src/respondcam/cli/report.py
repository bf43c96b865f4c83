"""``respondcam report``: pages with an interactive viewer, from maps that were made before."""

from pathlib import Path
from typing import Annotated

import typer

from respondcam.cli._options import JSONOption, QuietOption, folder_option


def report(
    maps: Annotated[
        list[Path],
        typer.Argument(metavar="MAPS", help="Folders that explain wrote to, or its .json files."),
    ],
    out: Annotated[
        Path | None,
        folder_option("Where the pages go; the folder of the first maps if not given."),
    ] = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(
            "--table",
            metavar="CSV",
            help="A table to show as evidence, such as that of audit --csv; may be repeated.",
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JSONOption = False,
) -> None:
    """Write one web page for each explained volume, and one that lists them.

    A page shows the volume with its maps in three planes and in 3-D, with threshold, opacity,
    class and layer to choose, the score accounts, and the settings to repeat it. It is one file
    that needs no network: it can be sent to a colleague.
    """
    from respondcam.cli._explaining import noted
    from respondcam.cli._reporting import make_reports, read_table, say_written
    from respondcam.cli._tables import print_notes
    from respondcam.show.report.records import find_records

    tables = [read_table(path) for path in table or ()]
    found = find_records(maps)
    with noted() as notes:
        batch, pages = make_reports(found, out, tables)
    say_written(batch, pages, quiet=quiet, as_json=as_json)
    if not (quiet or as_json):
        print_notes(notes, {})
    batch.leave()

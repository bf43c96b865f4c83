"""Pages for many volumes: a bad one does not stop the others."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from respondcam._files import why_no_file
from respondcam._words import counted
from respondcam.cli._batch import Batch, run_batch
from respondcam.cli._explaining import noted
from respondcam.cli._inputs import Source, shown_names
from respondcam.cli._printing import print_json
from respondcam.cli._tables import print_plain
from respondcam.cli._writing import prepare_folder
from respondcam.errors import InputError
from respondcam.show.report.content import Table
from respondcam.show.report.records import Found, find_records, read_report
from respondcam.show.report.writing import SUMMARY, Entry, entry, write_report, write_summary

_LARGEST = 1 << 26  # bytes of a table
_TABLE = "Give a CSV file with a heading."
_NUMBER = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?)")
_LONGEST = 100  # characters of a number


def make_reports(
    found: Sequence[Found],
    out: Path | None = None,
    tables: Sequence[Table] = (),
    older: Sequence[Found] = (),
) -> tuple[Batch[Entry], list[Path]]:
    """Write a page for each volume, and a summary where there are several or a table.

    Volumes of earlier runs (`older`) are listed too, and have a page written if they lack one that
    leads to the summary; what cannot be read of them any more is said in the summary alone.

    Returns
    -------
    tuple
        What became of each volume, and the pages in the order in which to open them.
    """
    folder = out or found[0].records[0].parent
    prepare_folder(folder)
    several = len(found) + len(older) > 1 or bool(tables)
    listed = (folder / SUMMARY).exists()
    by_name = {one.name: one for one in found}
    every = [*found, *older]
    labels = dict(zip(every, shown_names([one.volume for one in every]), strict=True))
    pages: list[Path] = []

    def work(one: Found, *, fresh: bool) -> Entry:
        report = read_report(one)
        page = folder / f"{one.name}.{SUMMARY}"
        if fresh or not listed or not page.exists():
            write_report(report, page, summary=SUMMARY if several else "")
        if fresh:
            pages.append(page)
        return replace(entry(report, page), name=labels[one])

    sources = [Source(one.volume, one.name, "", shown=labels[one]) for one in found]
    batch = run_batch(sources, lambda source: work(by_name[source.name], fresh=True))
    if several and batch.done:
        failed = [(source.label, why) for source, why in batch.failed]
        entries = {source.name: one for source, one in batch.done}
        for one in older:
            try:
                entries[one.name] = work(one, fresh=False)
            except InputError as error:
                failed.append((labels[one], str(error)))
        ordered = [entries[name] for name in sorted(entries)]
        pages.insert(0, write_summary(ordered, folder / SUMMARY, tables=tables, failed=failed))
    return batch, pages


def reports_of(records: Sequence[Path], folder: Path) -> tuple[Batch[Entry], list[Path]]:
    """Write the pages of maps that were just made, when all notes on them have been given.

    Maps of earlier runs in the folder are shown on the pages of their volumes and listed too.
    """
    if not records:
        return Batch(), []
    new = {path.resolve() for path in records}
    with noted():
        every = find_records([folder])
        found = [one for one in every if new & {path.resolve() for path in one.records}]
        return make_reports(found, folder, older=[one for one in every if one not in found])


def say_written(batch: Batch[Entry], pages: Sequence[Path], *, quiet: bool, as_json: bool) -> None:
    """Print what to open."""
    if as_json:
        failed = [{"path": str(source.path), "error": why} for source, why in batch.failed]
        print_json({"pages": [str(page) for page in pages], "failed": failed})
    elif pages and not quiet:
        print_plain(f"Open in a browser: {pages[0]}")
        if len(pages) > 1:
            print_plain(
                f"  It leads to the pages of {counted(len(batch.done), 'volume')} beside it."
            )


def read_table(path: Path) -> Table:
    """Read a CSV file with a heading as a table of the report.

    Raises
    ------
    InputError
        If it cannot be read, or has no rows.
    """
    if what := why_no_file(path):
        raise InputError(f"--table {str(path)!r} cannot be read: it {what}. {_TABLE}")
    if path.stat().st_size > _LARGEST:
        raise InputError(
            f"--table {str(path)!r} is {path.stat().st_size} bytes long, more than the {_LARGEST} "
            f"that a page can show. {_TABLE}"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--table {str(path)!r} cannot be read ({error}). {_TABLE}") from error
    if len(rows) < 2 or len({len(row) for row in rows}) != 1:
        raise InputError(
            f"--table {str(path)!r} is no table: give a CSV file whose first line names the "
            f"columns and whose lines all have equally many."
        )
    return Table(path.name, rows[0], [[_value(cell) for cell in row] for row in rows[1:]])


def _value(cell: str) -> object:
    """A number where a cell holds one as it would be written again; any other text as it is.

    Python's own reading takes more for numbers, such as 1_000.

    Examples
    --------
    >>> [_value(cell) for cell in ("-12", "0.50", "2e-3", "nan", "007", "1_000", "+5", "")]
    [-12, 0.5, 0.002, nan, '007', '1_000', '+5', '']
    """
    if cell in ("nan", "inf", "-inf"):  # as tables of ours hold them
        return float(cell)
    if not _NUMBER.fullmatch(cell) or len(cell) > _LONGEST:
        return cell
    value = int(cell) if cell.lstrip("-").isdecimal() else float(cell)
    return value if math.isfinite(value) else cell

"""Reports as files: one page for each volume, and one that lists them all."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from respondcam import __version__
from respondcam._files import whole_file
from respondcam.errors import InputError
from respondcam.show.report import words
from respondcam.show.report.content import Report, Table
from respondcam.show.report.rendering import (
    map_figure,
    page_style,
    picture,
    policy,
    report_html,
    template,
)

SUMMARY = "report.html"
_ROWS = 5  # of a volume in the summary
_THUMBNAIL_DPI = 60


@dataclass(frozen=True)
class Entry:
    """A volume in the summary.

    Parameters
    ----------
    name, link
        What is shown, and the address of its page.
    rows
        The accounts of its first maps.
    picture
        Its first map.
    left_out
        How many more maps its page has.
    """

    name: str
    link: str
    rows: Sequence[words.Row]
    picture: str
    left_out: int


def write_report(report: Report, path: str | os.PathLike[str], *, summary: str = "") -> Path:
    """Write the page of one volume, whole or not at all; a page that is there is replaced.

    Parameters
    ----------
    report
        What is on it.
    path
        Ends with .html.
    summary
        Address of the page that lists all volumes; empty for none.

    Raises
    ------
    InputError
        If there is nothing to show, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"A report is a web page: {str(target)!r} must end with .html.")
    evidence = [words.cells(table) for table in report.tables]
    page = report_html(replace(report, tables=evidence), summary=quote(summary))
    with whole_file(target) as beside:
        beside.write_text(page, "utf-8")
    return target


def entry(report: Report, page: Path) -> Entry:
    """Sum up one volume for the page that lists all."""
    thumbnail = picture(map_figure(report, report.maps[0]), dpi=_THUMBNAIL_DPI)
    rows = [words.row(one) for one in report.maps[:_ROWS]]
    return Entry(report.name, quote(page.name), rows, thumbnail, len(report.maps) - len(rows))


def write_summary(
    entries: Sequence[Entry],
    path: str | os.PathLike[str],
    *,
    title: str = "Maps of several volumes",
    tables: Sequence[Table] = (),
    failed: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write the page that lists volumes and links to their pages, which lie beside it.

    Parameters
    ----------
    entries
        One for each volume.
    title
        Heading of the page.
    tables
        Evidence over all volumes.
    failed
        Volumes without a page, and why.
    """
    count = len(entries) + len(failed)
    lead = f"{len(entries)} volumes" if not failed else f"{len(entries)} of {count} volumes"
    page: dict[str, Any] = {
        "version": __version__,
        "policy": policy(page_style(), None),
        "style": words.Markup(page_style()),
        "title": title,
        "lead": f"{lead}. A name opens the page of the volume, with all its maps in 3-D.",
        "entries": entries,
        "tables": [words.cells(table) for table in tables],
        "failed": failed,
    }
    target = Path(path)
    with whole_file(target) as beside:
        beside.write_text(template("summary.html").render(**page), "utf-8")
    return target

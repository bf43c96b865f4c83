"""A page of evidence over many volumes: figures and tables, without a viewer."""

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from respondcam import __version__
from respondcam._files import whole_file
from respondcam.evidence.comparison import METRICS
from respondcam.show.report import words
from respondcam.show.report.content import Table
from respondcam.show.report.rendering import page_style, policy, template


def write_evidence(
    path: str | os.PathLike[str],
    title: str,
    *,
    lead: Sequence[str] = (),
    figures: Mapping[str, Path] | None = None,
    tables: Sequence[Table] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write one HTML file that holds everything and needs no network; every text is escaped.

    Parameters
    ----------
    path
        Where to.
    title, lead
        Heading, and paragraphs below it.
    figures
        What each shows -> its PNG file, which becomes part of the page.
    tables, notes
        Below the figures.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> table = Table("Scores", ("class", "score"), [("<b>", 0.5)])
    >>> page = write_evidence(f"{tempfile.mkdtemp()}/page.html", "Audit", tables=[table])
    >>> "&lt;b&gt;" in page.read_text("utf-8")
    True
    """
    style = page_style()
    target = Path(path)
    text = template("evidence.html").render(
        version=__version__,
        policy=policy(style, None),
        style=Markup(style),
        title=title,
        lead=list(lead),
        figures=[{"source": _embedded(png), "text": what} for what, png in (figures or {}).items()],
        tables=[words.cells(table) for table in tables],
        notes=list(dict.fromkeys(notes)),
    )
    with whole_file(target) as beside:
        beside.write_text(text, "utf-8")
    return target


def table_of(title: str, cells: Sequence[Mapping[str, object]]) -> Table:
    """A table from rows that have the same columns, named in words; an empty cell for None.

    Examples
    --------
    >>> table = table_of("Scores", [{"class": "cat", "score": None, "l1_low": 0.5}])
    >>> table.columns, table.rows
    (['class', 'score', 'L1, from'], [['cat', '', 0.5]])
    """
    columns = [_in_words(name) for name in cells[0]] if cells else []
    return Table(title, columns, [[_value(*item) for item in row.items()] for row in cells])


_WORDS = {
    "l1": "L1",
    "relative_gap": "relative gap",
    "open_share": "relative gap, pooled",
    "tau_over_images": "tau over volumes",
    "images": "volumes",
    "count": "volumes",
    "metric": "measure",
    "difference": "to the first",
    "mean": "mean",
}
_ENDS = {"_low": "from", "_high": "to"}  # of an interval


def _in_words(column: str) -> str:
    for ending, word in _ENDS.items():
        if column == ending.removeprefix("_"):
            return f"95 %, {word}"
        if column.endswith(ending):
            return f"{_in_words(column.removesuffix(ending))}, {word}"
    if column in METRICS:
        return METRICS[column].title
    return _WORDS.get(column, column.replace("_", " "))


def _value(column: str, value: object) -> object:
    if value is None:
        return ""
    return METRICS[str(value)].title if column == "metric" and value in METRICS else value


def _embedded(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode('ascii')}"

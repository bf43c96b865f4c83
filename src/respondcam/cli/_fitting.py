"""Tables that fit the screen: nothing is folded, so that every name and number can be read."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from respondcam.cli._printing import console

if TYPE_CHECKING:
    from rich.table import Table

_APART = 3  # blanks between columns


def print_fitting(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int,
    spare: Sequence[str] = (),
    grouped: bool = True,
    bold: Collection[int] = (),
) -> None:
    """Print a table; where the screen is too narrow for it, in a shape that fits.

    First what all rows share goes above it, then the first column becomes headings above its rows,
    and then columns are left out, which is said.

    Parameters
    ----------
    titles, rows
        The text of all cells.
    left
        How many of the first columns are text; the others are numbers.
    spare
        Titles of columns that may be left out, in this order.
    grouped
        Whether the first column may become headings.
    bold
        Rows that stand out.
    """
    screen = console()
    columns = list(range(len(titles)))
    if _width(titles, rows, columns) > screen.width:
        columns = _without_shared(titles, rows, columns[:left]) + columns[left:]
    heading = None
    if grouped and _width(titles, rows, columns) > screen.width and sum(c < left for c in columns):
        heading, *columns = columns
    out = []
    for title in spare:
        if _width(titles, rows, columns) > screen.width and titles.index(title) in columns:
            columns.remove(titles.index(title))
            out.append(title)
    while _width(titles, rows, columns) > screen.width and len(columns) > 1:
        out.append(titles[columns.pop()])  # the screen would cut it off without a word
    _print(titles, rows, columns, heading, left, bold)
    if out:
        line = f"({', '.join(out)}: in a wider terminal, or with --json)"
        screen.print(line, markup=False, soft_wrap=True)


def _without_shared(
    titles: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> list[int]:
    """Say what all rows have in common, and give the other columns."""
    shared = [c for c in columns if len({row[c] for row in rows}) == 1 and rows[0][c]]
    if shared:
        told = ", ".join(f"{titles[c]}: {rows[0][c]}" for c in shared)
        console().print(told, markup=False, soft_wrap=True)
    return [c for c in columns if c not in shared]


def _width(titles: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]) -> int:
    return sum(_widest(titles, rows, c) for c in columns) + _APART * (len(columns) - 1)


def _widest(titles: Sequence[str], rows: Sequence[Sequence[str]], column: int) -> int:
    from rich.cells import cell_len

    return max(cell_len(text) for text in (titles[column], *(row[column] for row in rows)))


def _print(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: Sequence[int],
    heading: int | None,
    left: int,
    bold: Collection[int],
) -> None:
    from respondcam.cli._tables import add_row

    screen = console()
    table, last = _table(titles, rows, columns, left, header=True), None
    for number, row in enumerate(rows):
        if heading is not None and row[heading] != last:
            screen.print(table)
            screen.print(row[heading], markup=False, soft_wrap=True)
            table, last = _table(titles, rows, columns, left, header=False), row[heading]
        style = "bold" if number in bold else ""
        add_row(table, *(row[column] for column in columns), style=style)
    screen.print(table)


def _table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: Sequence[int],
    left: int,
    *,
    header: bool,
) -> "Table":
    from respondcam.cli._tables import new_table

    table = new_table(*(titles[c] for c in columns), left=sum(c < left for c in columns))
    table.show_header = header
    for place, column in zip(table.columns, columns, strict=True):
        place.min_width = min(_widest(titles, rows, column), console().width)
    return table

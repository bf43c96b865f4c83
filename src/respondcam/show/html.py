"""What a notebook shows: a small picture and a table, in HTML that needs no network.

Every name is escaped: markup in a file's or a class's name is shown, never executed.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from respondcam.errors import InputError
from respondcam.show.canvas import png_bytes
from respondcam.show.slices import orthogonal_planes
from respondcam.show.theme import format_score
from respondcam.volume import Volume

if TYPE_CHECKING:
    from respondcam.attribution import Explanation

_MOST_ROWS = 20
_CELL = "padding:0.15em 0.8em 0.15em 0;text-align:left;vertical-align:top"
_NUMBER = "padding:0.15em 0.8em 0.15em 0;text-align:right;font-variant-numeric:tabular-nums"
_RULE = "border-bottom:1px solid currentColor"


def table_html(rows: Iterable[Sequence[object]], columns: Sequence[str]) -> str:
    """Write a table: numbers to the right in four digits, everything else as escaped text.

    Parameters
    ----------
    rows
        One sequence of cells per row, each as long as `columns`.
    columns
        Names; all empty for a table without a heading.

    Raises
    ------
    InputError
        If a row has another number of cells than there are columns.

    Examples
    --------
    >>> "&lt;b&gt;" in table_html([["<b>", 0.5]], ["class", "score"])
    True
    """
    head = "".join(f'<th scope="col" style="{_CELL};{_RULE}">{escape(c)}</th>' for c in columns)
    body = []
    for row in rows:
        if len(row) != len(columns):
            message = f"A row has {len(row)} cells and the table {len(columns)} columns: {row!r}."
            raise InputError(message)
        body.append("<tr>" + "".join(map(_cell, row)) + "</tr>")
    heading = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    style = "border-collapse:collapse;font-family:sans-serif;font-size:0.9em"
    return f'<table style="{style}">{heading}<tbody>{"".join(body)}</tbody></table>'


def _cell(value: object) -> str:
    if not isinstance(value, Real) or isinstance(value, bool):  # NumPy's numbers are real too
        return f'<td style="{_CELL}">{escape(str(value))}</td>'
    text = str(value) if isinstance(value, Integral) else format_score(float(value))
    return f'<td style="{_NUMBER}">{escape(text)}</td>'


def volume_html(volume: Volume) -> str:
    """Show a volume: three planes through its centre, and what is known about it.

    A volume that cannot be drawn (a voxel is not finite) is shown as its table and the reason.

    Examples
    --------
    >>> import numpy as np
    >>> page = volume_html(Volume(np.zeros((4, 5, 6))))
    >>> "4 × 5 × 6" in page, page.count("<img")
    (True, 1)
    """
    name = volume.source.name if volume.source else "a volume"
    picture = _picture(lambda: orthogonal_planes(volume), f"Three planes through {name}")
    return _block(picture, table_html(_volume_facts(volume), ["", ""]))


def _volume_facts(volume: Volume) -> list[tuple[str, str]]:
    low, high = format_score(float(volume.voxels.min())), format_score(float(volume.voxels.max()))
    size = " × ".join(f"{length:.4g}" for length in volume.voxel_size)
    known = volume.unit != "voxel"
    unit = {"angstrom": "Å"}.get(volume.unit, volume.unit)
    facts = [
        ("file", str(volume.source or "")),
        ("voxels (z, y, x)", " × ".join(map(str, volume.shape))),
        ("channels", str(volume.channels) if volume.channels > 1 else ""),
        ("voxel size (z, y, x)", f"{size} {unit}" if known else "not known"),
        ("orientation", volume.orientation or ""),
        ("values", f"{low} to {high}"),
    ]
    return [(name, fact) for name, fact in facts if fact]


def explanation_html(explanation: "Explanation") -> str:
    """Show an explanation: its first map over the image, and all scores.

    Nothing is computed for it: the account is shown once ``explanation.account`` has been used.

    Examples
    --------
    >>> import torch
    >>> from respondcam.attribution import Explanation
    >>> from respondcam.network.grid import LayerGrid
    >>> grid = LayerGrid((4.0,), (0.0,), (3,), (12,), (0.0,), "layout")
    >>> one = Explanation(torch.ones(1, 1, 3), torch.ones(1, 1), ("<b>",), "conv", "grad", grid)
    >>> "<b>" in explanation_html(one)
    False
    """
    from respondcam.show.figures import explanation_figure  # needs torch, a volume does not

    picture = _picture(lambda: explanation_figure(explanation, account=False), "The first map")
    facts = table_html(_explanation_facts(explanation), ["", ""])
    columns = ["sample", "target", "score", "sum of the map", "lowest", "highest", ""]
    rows = _map_rows(explanation)
    more = f"<p>and {len(rows) - _MOST_ROWS} more</p>" if len(rows) > _MOST_ROWS else ""
    return _block(picture, facts, table_html(rows[:_MOST_ROWS], columns) + more)


def _explanation_facts(explanation: "Explanation") -> list[tuple[str, str]]:
    grid = explanation.grid
    facts = [
        ("method", explanation.method),
        ("layer", explanation.layer),
        ("chosen", explanation.layer_reason),
        ("map", " × ".join(map(str, grid.shape)) + " voxels"),
        ("one of them in voxels of the input", " × ".join(f"{step:g}" for step in grid.stride)),
        ("its place", grid.note),
        ("account", "" if "account" in vars(explanation) else "use explanation.account"),
    ]
    return [(name, fact) for name, fact in facts if fact]


def _map_rows(explanation: "Explanation") -> list[tuple[object, ...]]:
    maps = explanation.maps.detach().double().flatten(2)
    numbers = [explanation.scores.detach(), maps.sum(2), maps.amin(2), maps.amax(2)]
    return [
        (
            sample,
            explanation.label(target, sample),
            *(float(one[sample, target]) for one in numbers),
            why,
        )
        for sample in range(len(maps))
        for target in range(len(explanation.targets))
        for why in [explanation.empty.get((sample, target), "")]
    ]


def _picture(draw: Callable[[], Figure], description: str) -> str:
    try:
        data = base64.b64encode(png_bytes(draw())).decode("ascii")
    except InputError as error:
        return f"<p>{escape(str(error))}</p>"
    alt = escape(description, quote=True)
    return f'<img style="max-width:100%" alt="{alt}" src="data:image/png;base64,{data}">'


def _block(*parts: str) -> str:
    return (
        "<div>" + "".join(f'<div style="margin:0.4em 0">{part}</div>' for part in parts) + "</div>"
    )

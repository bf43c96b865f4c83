"""Tables and notes on the terminal; names are printed as they are, brackets included."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from respondcam._rounding import without_noise
from respondcam._words import counted
from respondcam.cli._fitting import print_fitting
from respondcam.cli._printing import console, number, percent, shown

if TYPE_CHECKING:
    from rich.table import Table

    from respondcam.cli._inputs import Source
    from respondcam.cli._writing import OneMap
    from respondcam.network.inspection import LayerTable

# more rows than this are cut down to the class with the highest score of each volume and layer
_MOST_ROWS = 60


def new_table(*columns: str, left: int = 1) -> "Table":
    """A table whose first `left` columns are text and whose other columns are numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        text = place < left
        table.add_column(
            column, justify="left" if text else "right", overflow="fold", no_wrap=not text
        )
    return table


def add_row(table: "Table", *cells: str, style: str = "") -> None:
    """Add cells literally: no cell is read as markup."""
    from rich.text import Text

    table.add_row(*(Text(shown(cell, one_line=True)) for cell in cells), style=style)


def explain_table(
    done: "Sequence[tuple[Source, list[OneMap]]]",
    failed: "Sequence[tuple[Source, str]]",
    *,
    order: "Sequence[Source]" = (),
    outputs: bool = True,
) -> None:
    """Print the accounts of all maps and the failures in order, and (`outputs`) where files are."""
    maps = [(source, one) for source, found in done for one in _shown(found, len(done))]
    several = len({one.record["settings"]["method"] for _, one in maps}) > 1
    titles = _ACCOUNT_TITLES if several else [t for t in _ACCOUNT_TITLES if t != "method"]
    by_source = [(source, _account_cells(source, one, several=several)) for source, one in maps]
    empty = [""] * (len(titles) - 2)
    by_source += [(source, [source.label, "failed", *empty]) for source, _ in failed]
    rows = in_order(by_source, order)
    if done or len(failed) > 1:
        left = titles.index("score")
        print_fitting(titles, rows, left=left, spare=("baseline", "mapped"))
    if outputs:
        _print_outputs(done, failed)


def in_order(
    rows: "Sequence[tuple[Source, list[str]]]", order: "Sequence[Source]"
) -> list[list[str]]:
    """Rows in the order of their sources, those of one source as they are."""
    places = {source.path: place for place, source in enumerate(order)}
    return [row for _, row in sorted(rows, key=lambda one: places.get(one[0].path, len(places)))]


_ACCOUNT_TITLES = [
    *("file", "method", "layer", "class"),
    *("score", "baseline", "mapped", "gap", "relative gap"),
]


def _account_cells(source: "Source", one: "OneMap", *, several: bool) -> list[str]:
    account = one.record["account"]
    figures, relative = account_cells(account)
    if not account.get("adds_up", True):
        figures[2:], relative = ["-", "-"], "-"
    method = [one.record["settings"]["method"]] if several else []
    names = [source.label, *method, one.record["layer"], one.record["target"]["name"]]
    return [*names, *figures, relative]


def account_cells(account: Mapping[str, Any]) -> tuple[list[str], str]:
    """Score, baseline, mapped and gap for a table, and the gap's share; rounding is no gap."""
    gap = without_noise(account["gap"], account["score"] - account["baseline"])
    figures = [number(account[name]) for name in ("score", "baseline", "mapped")]
    share = account["relative_gap"] if gap else 0.0
    return [*figures, number(gap)], "-" if share is None else percent(share)  # None: not finite


def channel_tables(done: "Sequence[tuple[Source, list[OneMap]]]") -> None:
    """Print what comes through each channel: one table for all, the gap of each account last."""
    found = [
        (source, one)
        for source, maps in done
        for one in {m.record["target"]["name"]: m for m in _shown(maps, len(done))}.values()
        if one.record["channels"]
    ]
    if not found:
        return
    known = found[0][1].record["channels"]
    titles = [title for title in ("shapley", "flow", "drop") if title in known]
    rows = []
    for source, one in found:
        record = one.record["channels"]
        columns = [[*record[title]["channels"], record[title]["gap"]] for title in titles]
        for row, name in enumerate((*record["names"], "gap")):
            figures = [number(column[row]) for column in columns]
            rows.append([source.label, one.record["target"]["name"], name, *figures])
    for source, one in found:
        name = f"{source.label}, {one.record['target']['name']}: " if len(found) > 1 else ""
        print_plain(f"{name}{_through_channels(one.record['channels'])}")
    print_fitting(("file", "class", "channel", *titles), rows, left=3)
    print_plain(f"In units of the score; {'; '.join(_PARTS[title] for title in titles)}.")


def _through_channels(record: Mapping[str, Any]) -> str:
    """What the numbers of each account add up to, with the gap."""
    through = record["score"] - record["baseline"]
    return (
        f"score {number(record['score'])} = baseline {number(record['baseline'])} + "
        f"{number(through)} through the channels"
    )


_PARTS = {
    "shapley": "shapley: what a channel adds to the others, on average over all orders",
    "flow": "flow: what comes through it along the way from the baseline to the image",
    "drop": "drop: what is lost when it alone is set to the baseline",
}


_LAYER_COLUMNS = (
    "calls: how often the layer runs in one pass; head memory: what a map of it keeps in memory, "
    "per volume, of the network behind it."
)


def layer_table(layers: "LayerTable") -> None:
    """Print the layers of a network with the chosen one in bold."""
    titles, rows = layers.cells()
    for layer, cells in zip(layers.rows, rows, strict=True):
        cells[-1] = "chosen" if layer.chosen else cells[-1]  # why is said below
    bold = [number for number, layer in enumerate(layers.rows) if layer.chosen]
    spare = ("calls", "offset", "kind")
    print_fitting(titles, rows, left=len(titles), spare=spare, grouped=False, bold=bold)
    print_plain(_LAYER_COLUMNS)
    if layers.chosen:
        print_plain(f"Chosen when no layer is named: {layers.chosen}, {layers.reason}.")
    else:
        print_plain(f"No layer can be chosen: {layers.reason}")


def _shown(maps: "Sequence[OneMap]", files: int) -> "Sequence[OneMap]":
    if len(maps) * files <= _MOST_ROWS:
        return maps
    best: dict[tuple[str, str], OneMap] = {}
    for one in maps:
        layer = (one.record["settings"]["method"], one.record["layer"])
        if (
            layer not in best
            or one.record["account"]["score"] > best[layer].record["account"]["score"]
        ):
            best[layer] = one
    return list(best.values())


def _print_outputs(
    done: "Sequence[tuple[Source, list[OneMap]]]", failed: "Sequence[tuple[Source, str]]"
) -> None:
    maps = [one for _, found in done for one in found]
    if len(done) + len(failed) > 1:
        total = counted(len(done) + len(failed), "volume")
        print_plain(f"{len(done)} of {total} explained.")
    if not maps:
        return
    if len(maps) == 1:
        print_plain("Written:")
        for path in maps[0].files.values():
            print_plain(f"  {shown(str(path), one_line=True)}")
    else:
        figure = maps[0].files["figure"]
        print_plain(
            f"Written: {len(maps)} maps with figures and accounts in {figure.parent}, "
            f"such as {figure.name}"
        )


def print_notes(notes: Sequence[str], by_name: Mapping[str, Sequence[str]]) -> None:
    """Print each note once, with the names it holds for unless it holds for all."""
    for note in notes:
        print_plain(f"Note: {note}")
    holders: dict[str, list[str]] = {}
    for name, own in by_name.items():
        for note in dict.fromkeys(own):
            holders.setdefault(note, []).append(name)
    for note, names in holders.items():
        if len(names) == len(by_name):
            print_plain(f"Note: {note}")
        else:
            listed = ", ".join(names[:3]) + (
                f" and {len(names) - 3} more" if len(names) > 3 else ""
            )
            print_plain(f"Note on {listed}: {note}")


def print_plain(text: str | Path) -> None:
    """Print a line as it is, without folding it."""
    console().print(str(text), markup=False, soft_wrap=True)

"""What ``respondcam compare`` prints and writes at its end."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from respondcam._files import whole_file
from respondcam._words import counted, layer_named
from respondcam.cli._batch import Batch
from respondcam.cli._compare_files import compared_cells, results_of, volume_cells, write_csv
from respondcam.cli._comparing import NO_LAYER, Comparison
from respondcam.cli._printing import console, number, print_json, to_json
from respondcam.cli._tables import add_row, new_table, print_notes, print_plain
from respondcam.evidence.comparison import (
    METRICS,
    Compared,
    Result,
    compare,
    controls_in_words,
    is_clear,
    words_of,
)
from respondcam.evidence.controls import CONTROLS
from respondcam.evidence.intervals import Interval
from respondcam.show import comparison_figure, save_figure
from respondcam.show.report.content import Table
from respondcam.show.report.evidence import table_of, write_evidence

_ROUNDING = 1e-12  # of sums in another order


def report(
    comparison: Comparison,
    batch: Batch[dict[str, Any]],
    out: Path,
    *,
    with_page: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Summarise all volumes, write the files, and print the table or the document."""
    results = [r for source, record in batch.done for r in results_of(source.name, record)]
    rows = (
        compare(_ordered(results, comparison.asked.names()), seed=comparison.asked.seed)
        if results
        else []
    )
    notes = [*comparison.notes, *_few(rows)]
    measure = _measure([record for _, record in batch.done])
    document = _document(comparison, batch, rows, notes, measure)
    if rows:
        document["files"] = _write(out, rows, results, document, measure)
    if rows and with_page:
        document["files"]["page"] = str(_write_page(out, rows, results, document))
    if as_json:
        print_json(document)
    if as_json or quiet:
        return
    if rows:
        _print_table(rows, measure)
        for line in _verdict(rows):
            print_plain(line)
    resumed = f", {comparison.resumed} of them by an earlier run" if comparison.resumed else ""
    total = len(batch.done) + len(batch.failed)
    print_plain(f"{len(batch.done)} of {counted(total, 'volume')} compared{resumed}.")
    if rows:
        print_plain(f"Written: {', '.join(document['files'].values())}")
    by_name = {source.label: record["notes"] for source, record in batch.done}
    print_notes(notes, by_name)


def _ordered(results: Sequence[Result], methods: Sequence[str]) -> list[Result]:
    """Methods as they were asked for, controls last, whatever the first volume has."""
    places = {name: place for place, name in enumerate((*methods, *CONTROLS))}
    return sorted(results, key=lambda one: places[one.method])


def _write(
    out: Path,
    rows: Sequence[Compared],
    results: Sequence[Result],
    document: dict[str, Any],
    measure: str,
) -> dict[str, str]:
    figure = comparison_figure(rows, images=document["volumes"], measure=measure)
    files = {
        "table": write_csv(out / "compare.csv", compared_cells(rows)),
        "volumes": write_csv(out / "volumes.csv", volume_cells(results)),
        "figure": save_figure(figure, out / "compare.png"),
        "document": out / "compare.json",
    }
    named = {what: str(path) for what, path in files.items()}
    with whole_file(files["document"]) as beside:
        beside.write_text(to_json({**document, "files": named}) + "\n", encoding="utf-8")
    return named


def _write_page(
    out: Path, rows: Sequence[Compared], results: Sequence[Result], document: dict[str, Any]
) -> Path:
    settings = {name: to_json(value) for name, value in document["settings"].items()}
    figures = {
        METRICS[name].title: f"{METRICS[name].better or 'neither'} is better: {one['words']}"
        for name, one in document["metrics"].items()
    }
    return write_evidence(
        out / "compare.html",
        "Methods compared",
        lead=[f"{counted(document['volumes'], 'volume')}.", *_verdict(rows)],
        figures={"Means of all figures with their intervals": out / "compare.png"},
        tables=[
            table_of("All figures", compared_cells(rows)),
            Table("What the measures are", ("measure", "what"), list(figures.items())),
            table_of("Volume by volume", volume_cells(results)),
            Table("To repeat it", ("setting", "value"), list(settings.items())),
        ],
        notes=document["notes"],
    )


def _document(
    comparison: Comparison,
    batch: Batch[dict[str, Any]],
    rows: Sequence[Compared],
    notes: Sequence[str],
    measure: str,
) -> dict[str, Any]:
    return {
        "settings": {
            **vars(comparison.asked),
            "methods": comparison.asked.names(),
            "metrics": comparison.wanted.groups,
        },
        "compared": compared_cells(rows),
        "metrics": {
            name: {"better": METRICS[name].better, "words": words_of(name, measure)}
            for name in dict.fromkeys(row.metric for row in rows)
        },
        "volumes": len(batch.done),
        "resumed": comparison.resumed,
        "failed": [{"path": str(source.path), "error": words} for source, words in batch.failed],
        "notes": list(notes),
        "notes_on_volumes": {
            str(source.path): record["notes"] for source, record in batch.done if record["notes"]
        },
    }


def _measure(records: Sequence[dict[str, Any]]) -> str:
    """What was followed in changed images."""
    found = {record.get("measure", "score") for record in records}
    return found.pop() if len(found) == 1 else "score or probability"


def _print_table(rows: Sequence[Compared], measure: str) -> None:
    """Metric, method, mean, interval and difference: fits into 80 columns."""
    layers = {row.layer for row in rows if row.layer != NO_LAYER}
    table = new_table("measure", "method", "mean", "95 %", "to first", left=2)
    last = ""
    for row in rows:
        metric = METRICS[row.metric]
        arrow = {"higher": " +", "lower": " -"}.get(metric.better, "")
        name = row.method
        if len(layers) > 1 and row.layer != NO_LAYER:
            name = f"{row.method} {layer_named(row.layer)}"
        add_row(
            table,
            "" if row.metric == last else metric.title + arrow,
            name,
            _short(row.value.mean),
            _interval(row.value),
            _difference(row),
            style="dim" if row.method in CONTROLS else "",
        )
        last = row.metric
    console().print(table)
    print_plain(
        "+ higher is better, - lower is better; to first: mean difference to the first row,"
    )
    print_plain("* its 95 % interval excludes zero (by chance 1 in 20 would)")
    for name in dict.fromkeys(row.metric for row in rows):
        print_plain(f"{METRICS[name].title}: {words_of(name, measure)}")


def _verdict(rows: Sequence[Compared]) -> list[str]:
    """By how many measures methods are clearly better or worse than the first, and controls are.

    Nothing is said of a method whose differences have no interval.
    """
    tally: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if row.difference is None or row.method in CONTROLS or math.isnan(row.difference.low):
            continue
        counts = tally.setdefault((row.method, row.layer), [0, 0, 0])
        counts[2] += 1
        if is_clear(row):
            is_better = (row.difference.mean > 0) == (METRICS[row.metric].better == "higher")
            counts[0 if is_better else 1] += 1
    first, blind = rows[0], controls_in_words(rows)
    methods = [
        f"{method} at {layer_named(layer)} against {first.method} at {layer_named(first.layer)}: "
        f"better (*) in {better} of {counted(total, 'measure')}, worse in {worse}."
        for (method, layer), (better, worse, total) in tally.items()
    ]
    return [*methods, *([blind] if blind else [])]


def _few(rows: Sequence[Compared]) -> list[str]:
    """Why intervals are missing, each reason once."""
    few = [row.value for row in rows if row.value.count and math.isnan(row.value.low)]
    notes = [value.note for value in few if value.note]
    return [f"no intervals: {note}" for note in dict.fromkeys(notes)]


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "-"
    return f"{_short(interval.low)} to {_short(interval.high)}"


def _difference(row: Compared) -> str:
    if row.difference is None:
        return ""
    return f"{_signed(row.difference.mean)}{' *' if is_clear(row) else '  '}"


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else number(value)


def _signed(value: float) -> str:
    value = 0.0 if abs(value) < _ROUNDING else value
    return f"{value:+.2g}" if math.isfinite(value) else number(value)

"""What ``respondcam compare`` prints and writes at its end."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from respondcam._files import whole_file
from respondcam.cli._batch import Batch
from respondcam.cli._compare_files import compared_cells, results_of, volume_cells, write_csv
from respondcam.cli._comparing import NO_LAYER, Comparison
from respondcam.cli._printing import console, number, print_json, to_json
from respondcam.cli._tables import add_row, new_table, print_notes, print_plain
from respondcam.evidence.comparison import METRICS, Compared, Result, compare, controls_in_words
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
    document = _document(comparison, batch, rows, notes)
    if rows:
        document["files"] = _write(out, rows, results, document, len(batch.done))
    if rows and with_page:
        document["files"]["page"] = str(_write_page(out, rows, results, document))
    if as_json:
        print_json(document)
    if as_json or quiet:
        return
    if rows:
        _print_table(rows)
        for line in _verdict(rows):
            print_plain(line)
    resumed = f", {comparison.resumed} of them by an earlier run" if comparison.resumed else ""
    total = len(batch.done) + len(batch.failed)
    print_plain(f"{len(batch.done)} of {total} volumes compared{resumed}.")
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
    images: int,
) -> dict[str, str]:
    files = {
        "table": write_csv(out / "compare.csv", compared_cells(rows)),
        "volumes": write_csv(out / "volumes.csv", volume_cells(results)),
        "figure": save_figure(comparison_figure(rows, images=images), out / "compare.png"),
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
        METRICS[name].title: f"{METRICS[name].better or 'neither'} is better: {METRICS[name].words}"
        for name in document["metrics"]
    }
    return write_evidence(
        out / "compare.html",
        "Methods compared",
        lead=[f"{document['volumes']} volumes.", *_verdict(rows)],
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
) -> dict[str, Any]:
    return {
        "settings": {
            **vars(comparison.asked),
            "methods": comparison.asked.names(),
            "metrics": comparison.wanted.groups,
        },
        "compared": compared_cells(rows),
        "metrics": {
            name: {"better": METRICS[name].better, "words": METRICS[name].words}
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


def _print_table(rows: Sequence[Compared]) -> None:
    """Metric, method, mean, interval and difference: fits into 80 columns."""
    layers = {row.layer for row in rows if row.layer != NO_LAYER}
    table = new_table("measure", "method", "mean", "95 %", "to first", left=2)
    last = ""
    for row in rows:
        metric = METRICS[row.metric]
        arrow = {"higher": " +", "lower": " -"}.get(metric.better, "")
        name = row.method
        if len(layers) > 1 and row.layer != NO_LAYER:
            name = f"{row.method} {row.layer}"
        add_row(
            table,
            "" if row.metric == last else metric.title + arrow,
            name,
            _short(row.value.mean),
            _interval(row.value),
            "" if row.difference is None else _difference(row.difference),
            style="dim" if row.method in CONTROLS else "",
        )
        last = row.metric
    console().print(table)
    print_plain(
        "+ higher is better, - lower is better; to first: mean difference to the first row,"
    )
    print_plain("* its 95 % interval excludes zero (by chance 1 in 20 would)")
    for name in dict.fromkeys(row.metric for row in rows):
        print_plain(f"{METRICS[name].title}: {METRICS[name].words}")


def _verdict(rows: Sequence[Compared]) -> list[str]:
    """By how many measures methods are clearly better or worse than the first, and controls are."""
    tally: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if row.difference is None or row.method in CONTROLS:
            continue
        counts = tally.setdefault((row.method, row.layer), [0, 0, 0])
        counts[2] += 1
        sign = 1 if METRICS[row.metric].better == "higher" else -1
        counts[0] += sign * row.difference.low > 0 and sign * row.difference.high > 0
        counts[1] += sign * row.difference.low < 0 and sign * row.difference.high < 0
    first, blind = rows[0], controls_in_words(rows)
    methods = [
        f"{method} at {layer} against {first.method} at {first.layer}: better (*) in {better} "
        f"of {total} measures, worse in {worse}."
        for (method, layer), (better, worse, total) in tally.items()
    ]
    return [*methods, *([blind] if blind else [])]


def _few(rows: Sequence[Compared]) -> list[str]:
    """Why intervals are missing, each reason once."""
    notes = [row.value.note for row in rows if math.isnan(row.value.low) and row.value.note]
    return [f"no intervals: {note}" for note in dict.fromkeys(notes)]


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "-"
    return f"{_short(interval.low)} to {_short(interval.high)}"


def _difference(interval: Interval) -> str:
    star = " *" if interval.clear_of_zero else ""
    return f"{_signed(interval.mean)}{star or '  '}"


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else number(value)


def _signed(value: float) -> str:
    value = 0.0 if abs(value) < _ROUNDING else value
    return f"{value:+.2g}" if math.isfinite(value) else number(value)

"""The accounts of many volumes: rows, table, CSV and summary of ``respondcam audit``."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from respondcam._files import whole_file
from respondcam._words import counted
from respondcam.attribution import Explanation
from respondcam.cli._audit_classes import (
    CLASS_COLUMNS,
    AllClasses,
    class_cells,
    class_records,
    classes_beside,
    classes_of,
    interval_words,
    print_classes,
)
from respondcam.cli._audit_files import COLUMNS, FIGURES, OVER_CLASSES, TITLE
from respondcam.cli._batch import Batch
from respondcam.cli._explaining import Explained, Settings, explain_source
from respondcam.cli._fitting import print_fitting
from respondcam.cli._inputs import Source
from respondcam.cli._printing import for_csv, number, percent, print_json
from respondcam.cli._remarks import notes_on
from respondcam.cli._tables import account_cells, in_order, print_notes, print_plain
from respondcam.cli._writing import account_record
from respondcam.evidence import (
    AuditSummary,
    ClassAudit,
    Spread,
    SumToScore,
    sum_to_score,
    summarise,
)
from respondcam.show.report.content import Table
from respondcam.show.report.evidence import table_of, write_evidence

_ROUNDING = 5e-5  # of the mean, which is shown with four digits


@dataclass(frozen=True)
class Row:
    """The account of one volume by one method.

    Parameters
    ----------
    method, layer
        Names.
    predicted
        Name of the class with the highest score.
    account
        Its score, baseline, mapped, gap and relative gap.
    figures
        Over all classes.
    every
        The accounts of all classes.
    notes
        What a user should know about it.
    """

    method: str
    layer: str
    predicted: str
    account: dict[str, Any]
    figures: SumToScore
    every: AllClasses
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The predicted class as ``explain`` calls it; of a single score its name."""
        name = self.predicted.removesuffix(" (predicted)")
        return f"{name} (predicted)" if len(self.every.labels) > 1 else name


def rows_of(
    source: Source,
    explainers: Sequence[tuple[Settings, Callable[..., Any]]],
    class_names: Sequence[str],
    *,
    overlapping: bool = False,
) -> list[Row]:
    """Explain one volume by each method, for all classes."""
    rows = []
    for settings, explainer in explainers:
        explained = explain_source(
            source, explainer, settings, class_names, overlapping=overlapping
        )
        rows += [_row(explanation, explained) for explanation in explained.explanations]
    return rows


def _row(explanation: Explanation, explained: Explained) -> Row:
    account = explanation.account
    best = int(account.score[0].argmax())
    (figures,) = sum_to_score(account.score, account.baseline, account.mapped)
    return Row(
        explanation.method,
        explanation.layer,
        explanation.targets[best],
        account_record(explanation, best),
        figures,
        AllClasses(
            tuple(label.removesuffix(" (predicted)") for label in explanation.targets),
            *(getattr(account, name)[0].tolist() for name in ("score", "baseline", "mapped")),
        ),
        tuple(notes_on(explanation, explained.notes)),
    )


def summaries_of(batch: Batch[list[Row]]) -> dict[str, AuditSummary]:
    """Summarise the figures of each method over all volumes."""
    by_method: dict[str, list[SumToScore]] = {}
    for _, rows in batch.done:
        for row in rows:
            by_method.setdefault(row.method, []).append(row.figures)
    return {method: summarise(figures) for method, figures in by_method.items()}


def class_summaries_of(batch: Batch[list[Row]]) -> dict[str, list[ClassAudit]]:
    """The figures of each class by method; empty where the volumes' classes differ."""
    by_method: dict[str, list[AllClasses]] = {}
    for _, rows in batch.done:
        for row in rows:
            by_method.setdefault(row.method, []).append(row.every)
    return {method: classes_of(accounts) for method, accounts in by_method.items()}


def write_csv(path: Path, batch: Batch[list[Row]], classes: dict[str, list[ClassAudit]]) -> None:
    """Write one row per volume and method, and one per failure; classes go to a file beside it."""
    with whole_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for source, rows in batch.done:
            writer.writerows(for_csv(_cells(source, row)) for row in rows)
        for source, words in batch.failed:
            writer.writerow(for_csv({"file": str(source.path), "error": words}))
    cells = class_cells(classes)
    if cells:
        with (
            whole_file(classes_beside(path)) as beside,
            beside.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, CLASS_COLUMNS)
            writer.writeheader()
            writer.writerows(for_csv(row) for row in cells)


def write_page(
    path: Path,
    batch: Batch[list[Row]],
    summaries: dict[str, AuditSummary],
    classes: dict[str, list[ClassAudit]],
    notes: Sequence[str],
) -> None:
    """Write the verdicts and all tables as a web page."""
    lead = [
        line
        for method, one in summaries.items()
        for line in (
            f"{method}, {counted(one.images, 'volume')}: {one.verdict}",
            interval_words(one),
        )
    ]
    tables = [
        table_of("Volume by volume", [_cells(s, row) for s, rows in batch.done for row in rows])
    ]
    if cells := class_cells(classes):
        tables.insert(0, table_of("Class by class", cells))
    failed = [(str(source.path), words) for source, words in batch.failed]
    if failed:
        tables.append(Table("Not audited", ("file", "why"), failed))
    said = [note for _, rows in batch.done for row in rows for note in row.notes]
    write_evidence(path, TITLE, lead=lead, tables=tables, notes=[*notes, *said])


def _cells(source: Source, row: Row) -> dict[str, Any]:
    account = {name: row.account[name] for name in FIGURES}
    over_classes = (row.figures.l1, row.figures.tau, row.figures.relative_gap)
    return {
        "file": str(source.path),
        "method": row.method,
        "layer": row.layer,
        "class": row.predicted,
        **account,
        **dict(zip(OVER_CLASSES, over_classes, strict=True)),
    }


def report(
    batch: Batch[list[Row]],
    summaries: dict[str, AuditSummary],
    classes: dict[str, list[ClassAudit]],
    notes: Sequence[str],
    files: tuple[Path | None, Path | None],
    *,
    as_json: bool,
) -> None:
    """Print the table, the summary of each method, and what there is to know."""
    if as_json:
        print_json(_document(batch, summaries, classes, notes))
        return
    if batch.done:
        _print_tables(batch, summaries, classes)
    if len(batch.done) + len(batch.failed) > 1:
        print_plain(f"{len(batch.done)} of {len(batch.done) + len(batch.failed)} volumes audited.")
    csv_file, page = files
    if csv_file:
        also = f" and {classes_beside(csv_file)}" if class_cells(classes) else ""
        print_plain(f"Written: {csv_file}{also}")
    if page:
        print_plain(f"Open in a browser: {page}")
    print_notes(notes, {s.label: [n for row in rows for n in row.notes] for s, rows in batch.done})


def _print_tables(
    batch: Batch[list[Row]],
    summaries: dict[str, AuditSummary],
    classes: dict[str, list[ClassAudit]],
) -> None:
    titles = (
        "file",
        "method",
        "class",
        "score",
        "baseline",
        "mapped",
        "gap",
        "L1",
        "tau",
        "relative gap",
    )
    cells: list[tuple[Source, list[str]]] = []
    for source, rows in batch.done:
        for row in rows:
            figures, _ = account_cells(row.account)
            figures += [number(row.figures.l1), number(row.figures.tau)]
            head = (source.label, row.method, row.shown)
            cells.append((source, [*head, *figures, percent(row.figures.relative_gap)]))
    cells += [(source, [source.label, "failed", *[""] * 8]) for source, _ in batch.failed]
    print_fitting(titles, in_order(cells, batch.order), left=3, spare=("baseline", "mapped"))
    print_classes(classes)
    for method, summary in summaries.items():
        zeros = number(_l1_of_zeros(batch, method))
        spreads = [
            f"L1 {_spread(summary.l1)} (a map of zeros: {zeros})",
            f"tau {_spread(summary.tau)}",
        ]
        volumes = counted(summary.images, "volume")
        print_plain("")
        print_plain(
            f"{method}, {volumes}: {', '.join(spreads)}, open {percent(summary.relative_gap.mean)}"
        )
        print_plain(interval_words(summary))
        print_plain(summary.verdict)


def _l1_of_zeros(batch: Batch[list[Row]], method: str) -> float:
    """What L1 would be were all maps zero: the mean of |score| over classes and volumes."""
    rows = [row for _, rows in batch.done for row in rows if row.method == method]
    return fmean(fmean(map(abs, row.every.score)) for row in rows)


def _spread(spread: Spread) -> str:
    """A mean with its deviation, where several values differ by more than rounding.

    Examples
    --------
    >>> _spread(Spread(0.1266, 1.278e-07, 4)), _spread(Spread(0.5, 0.25, 4)), _spread(
    ...     Spread(0.5, 0.0, 1))
    ('0.1266', '0.5 ± 0.25', '0.5')
    """
    if spread.count < 2 or spread.std < _ROUNDING * abs(spread.mean):
        return number(spread.mean)
    return f"{number(spread.mean)} ± {number(spread.std)}"


def _document(
    batch: Batch[list[Row]],
    summaries: dict[str, AuditSummary],
    classes: dict[str, list[ClassAudit]],
    notes: Sequence[str],
) -> dict[str, Any]:
    return {
        "volumes": [_cells(source, row) for source, rows in batch.done for row in rows],
        "failed": [{"path": str(source.path), "error": words} for source, words in batch.failed],
        "summary": {
            method: {
                "images": summary.images,
                "l1": vars(summary.l1),
                "l1_of_zeros": _l1_of_zeros(batch, method),
                "tau": vars(summary.tau),
                "open_share": vars(summary.relative_gap),
                "intervals": {
                    "open_share" if name == "relative_gap" else name: vars(interval)
                    for name, interval in summary.intervals.items()
                },
                "much_open": summary.much_open,
                "classes": class_records(classes.get(method, [])),
                "verdict": summary.verdict,
            }
            for method, summary in summaries.items()
        },
        "notes": list(notes),
    }

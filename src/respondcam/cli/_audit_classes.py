"""The audit class by class: table, cells and records of ``respondcam audit``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from respondcam.cli._printing import console, number, percent
from respondcam.cli._tables import add_row, new_table, print_plain
from respondcam.evidence import AuditSummary, ClassAudit, Interval, audit_classes

CLASS_COLUMNS: tuple[str, ...] = (
    "method",
    "class",
    "images",
    "l1",
    "l1_low",
    "l1_high",
    "relative_gap",
    "relative_gap_low",
    "relative_gap_high",
    "open_share",
    "tau_over_images",
)
_MOST = 40  # rows on the terminal; CSV and JSON hold all


@dataclass(frozen=True)
class AllClasses:
    """The accounts of all classes of one volume by one method."""

    labels: tuple[str, ...]
    score: Sequence[float]
    baseline: Sequence[float]
    mapped: Sequence[float]


def classes_of(accounts: Sequence[AllClasses]) -> list[ClassAudit]:
    """Figures of each class over volumes; none where there is one class, or they differ."""
    labels = accounts[0].labels
    if len(labels) < 2 or any(one.labels != labels for one in accounts):
        return []
    parts = [
        torch.tensor([getattr(one, name) for one in accounts], dtype=torch.float64)
        for name in ("score", "baseline", "mapped")
    ]
    return audit_classes(labels, *parts)


def classes_beside(path: Path) -> Path:
    """Where the figures of each class go: beside the table.

    Examples
    --------
    >>> classes_beside(Path("out/a.csv")).name
    'a.classes.csv'
    """
    return path.with_name(f"{path.stem}.classes{path.suffix}")


def class_records(classes: Sequence[ClassAudit]) -> list[dict[str, Any]]:
    """Plain values, intervals included."""
    return [
        {**vars(one), "l1": vars(one.l1), "relative_gap": vars(one.relative_gap)} for one in classes
    ]


def class_cells(classes: Mapping[str, Sequence[ClassAudit]]) -> list[dict[str, Any]]:
    """One flat row per method and class."""
    return [
        {
            "method": method,
            "class": one.label,
            "images": one.images,
            "l1": one.l1.mean,
            "l1_low": one.l1.low,
            "l1_high": one.l1.high,
            "relative_gap": one.relative_gap.mean,
            "relative_gap_low": one.relative_gap.low,
            "relative_gap_high": one.relative_gap.high,
            "open_share": one.open_share,
            "tau_over_images": one.tau,
        }
        for method, found in classes.items()
        for one in found
    ]


def print_classes(classes: Mapping[str, Sequence[ClassAudit]]) -> None:
    """Print the figures of each class, the worst first, and those that look alike in order."""
    rows = [(method, one) for method, found in classes.items() for one in found]
    if not rows:
        return
    rows.sort(key=lambda row: (list(classes).index(row[0]), -_as_shown(row[1].open_share)))
    table = new_table("class", "method", "L1", "95 %", "tau", "pooled gap", left=2)
    for method, one in rows[:_MOST]:
        cells = (number(one.l1.mean), interval_text(one.l1), number(one.tau))
        add_row(table, one.label, method, *cells, percent(one.open_share))
    print_plain("")
    console().print(table)
    if len(rows) > _MOST:
        print_plain(f"... and {len(rows) - _MOST} more; see --csv or --json")


def interval_text(interval: Interval) -> str:
    """An interval for a table, a dash where there is none.

    Examples
    --------
    >>> nothing = float("nan")
    >>> interval_text(Interval(2.0, 1.0, 3.0, 9)), interval_text(Interval(2.0, nothing, nothing, 1))
    ('1 to 3', '-')
    >>> interval_text(Interval(2.0, 2.00001, 2.00002, 9))
    '2'
    """
    return _range(interval, number)


def _range(interval: Interval, written: Callable[[float], str]) -> str:
    """From where to where; once where both ends look alike."""
    low, high = written(interval.low), written(interval.high)
    return low if low in ("-", high) else f"{low} to {high}"


def interval_words(summary: AuditSummary) -> str:
    """The intervals of a summary in one line, or why there are none."""
    names = {"l1": "L1", "tau": "tau", "relative_gap": "relative gap"}
    parts, notes = [], []
    for key, interval in summary.intervals.items():
        if interval_text(interval) != "-":
            written = percent if key == "relative_gap" else number
            parts.append(f"{names[key]} {_range(interval, written)}")
        elif interval.note:
            notes.append(interval.note)
    told = "; ".join(dict.fromkeys(notes))
    if not parts:
        return f"No 95 % intervals: {told}."
    return f"95 % intervals of the means: {', '.join(parts)}" + (f" ({told})." if told else ".")


def _as_shown(share: float) -> float:
    """A share as precisely as the table shows it: classes that look alike keep their order.

    Examples
    --------
    >>> _as_shown(2e-8), _as_shown(0.01234), _as_shown(float("nan"))
    (0.0, 1.2, 0.0)
    """
    text = percent(share).removesuffix(" %")
    return 0.0 if text == "-" else float(text)

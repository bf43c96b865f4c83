"""Every measurement as one line of ``results/history.jsonl``: figures, machine, versions, commit.

A run appends and changes nothing that is there, so the file is the history: one line of JSON for
each run, whatever was measured. The large result files beside it hold what the tables are made of.
"""

import datetime
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # whether run from here or from the root
from sidebyside import machine

HISTORY = Path(__file__).parent / "results" / "history.jsonl"


def remember(
    name: str,
    figures: Mapping[str, Any],
    *,
    packages: Sequence[str] = ("torch", "respondcam"),
    file: Path = HISTORY,
    **more: Any,
) -> dict[str, Any]:
    """Append a run: its name, its figures (numbers by name), and what it ran on."""
    entry = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.describe(),
        "versions": machine.versions(list(packages)),
        "figures": dict(figures),
        **more,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:  # one write: lines of two runs do not mix
        lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return entry


def remembered(file: Path = HISTORY) -> Iterator[dict[str, Any]]:
    """All runs, the oldest first."""
    for line in file.read_text("utf-8").splitlines():
        yield json.loads(line)


def side_by_side_figures(results: Mapping[str, Any]) -> dict[str, float]:
    """Of the table against other libraries: time and memory of a map, relative to inference."""
    figures: dict[str, float] = {}
    for case in results["cases"]:
        for what, unit in (("time", "ms"), ("memory", "mib")):
            found = {name: median(one[unit]) for name, one in case[what].items() if one.get(unit)}
            base = found.get("inference")
            for name, value in found.items() if base else ():
                if name != "inference":
                    figures[f"{case['case']}: {name}: {what}"] = round(value / base, 4)
    return figures

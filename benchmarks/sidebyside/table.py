"""Results as tables in Markdown."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN = "<!-- begin: written by `make bench`, do not edit -->"
END = "<!-- end: written by `make bench` -->"
INFERENCE = "inference"
OURS = "respondcam RespondCAM"

Results = dict[str, Any]


def write(readme: Path, results: Results) -> None:
    """Replace what stands between the markers of `readme`.

    Raises
    ------
    ValueError
        If the markers are not there, once each and in order.
    """
    text = readme.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"{readme} must hold {BEGIN!r} and then {END!r}, once each")
    readme.write_text(f"{before}{BEGIN}\n\n{render(results)}\n{END}{after}", "utf-8")


def render(results: Results) -> str:
    """All tables of one results file."""
    cases = results["cases"]
    return "\n\n".join(
        [
            _heading(results),
            "### Time of one map, relative to one inference",
            _time_table(cases),
            "### Peak extra memory of one map, relative to one inference",
            _memory_table(cases),
            "### What respondcam pays once",
            _once_table(cases),
            *_errors(cases),
        ]
    )


def ratio(times: Sequence[float], inference: Sequence[float]) -> str:
    """Ratio of medians, and the quartiles of the ratios round by round.

    >>> ratio([10, 11, 12, 13], [10, 10, 10, 10])
    '1.15 (1.08-1.23)'
    """
    value = statistics.median(times) / statistics.median(inference)
    each = [a / b for a, b in zip(times, inference, strict=True)]
    if len(each) < 2:
        return f"{value:.2f}"
    low, _, high = statistics.quantiles(each, n=4, method="inclusive")
    return f"{value:.2f} ({low:.2f}-{high:.2f})"


def _heading(results: Results) -> str:
    machine, threads = results["machine"], results["options"]["threads"]
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    busiest = max(case["others_busy_cores"] for case in results["cases"])
    rounds = [len(case["time"][INFERENCE]["ms"]) for case in results["cases"]]
    commits = " and ".join(dict.fromkeys(case["commit"] or "unknown" for case in results["cases"]))
    return (
        f"Measured on {results['date']} with `{results['command']}`: {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, Python "
        f"{machine['python']}, {threads} threads; {versions}; respondcam at commit {commits}. "
        f"Medians of {min(rounds)} to {max(rounds)} rounds. Other processes kept at most "
        f"{busiest:.2f} cores busy while a case was timed."
    )


def _time_table(cases: Sequence[Results]) -> str:
    columns = _columns(cases)
    rows = []
    for case in cases:
        base = case["time"][INFERENCE]["ms"]
        cells = [_time_cell(case["time"][name], base) for name in columns]
        rows.append([_title(case), f"{statistics.median(base):.0f} ms", *cells])
    return _markdown(["case", INFERENCE, *columns], rows)


def _time_cell(entry: Results, base: Sequence[float]) -> str:
    return "failed" if "error" in entry else ratio(entry["ms"], base)


def _memory_table(cases: Sequence[Results]) -> str:
    columns = _columns(cases)
    rows = []
    for case in cases:
        base = statistics.median(case["memory"][INFERENCE]["mib"])
        cells = [_memory_cell(case["memory"][name], base) for name in columns]
        rows.append([_title(case), f"{base:.0f} MiB", *cells])
    return _markdown(["case", INFERENCE, *columns], rows)


def _memory_cell(entry: Results, base: float) -> str:
    return "failed" if "error" in entry else f"{statistics.median(entry['mib']) / base:.2f}"


def _once_table(cases: Sequence[Results]) -> str:
    """First calls: in a new process, and at a new size in a process that has made maps before."""
    rows = []
    for case in cases:
        time, memory = case["time"], case["memory"]
        if "error" in time[OURS] or "error" in memory[OURS]:
            continue
        rows.append(
            [
                _title(case),
                f"{time[OURS]['first_ms']:.0f} ms",
                f"{memory[OURS]['first_ms']:.0f} ms",
                f"{statistics.median(time[OURS]['ms']):.0f} ms",
                f"{memory[INFERENCE]['first_mib']:.0f} MiB",
                f"{memory[OURS]['first_mib']:.0f} MiB",
            ]
        )
    header = [
        "case",
        "first map of a process",
        "first map at a new size",
        "every later map",
        "memory, first inference",
        "memory, first map",
    ]
    return _markdown(header, rows)


def _errors(cases: Sequence[Results]) -> list[str]:
    lines = {
        f"- {_title(case)}, {name}: `{entry['error']}`"
        for case in cases
        for kind in ("time", "memory")
        for name, entry in case[kind].items()
        if "error" in entry
    }
    return ["### What failed", "\n".join(sorted(lines))] if lines else []


def _columns(cases: Sequence[Results]) -> list[str]:
    return [name for name in cases[0]["time"] if name != INFERENCE]


def _title(case: Results) -> str:
    maps = ", all 23 classes" if case["goal"] == "every class" else ""
    return f"{case['network']}, {case['size']}³{maps}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))

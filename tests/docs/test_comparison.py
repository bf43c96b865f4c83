"""The comparison says what `benchmarks/features.py` finds, and the benchmarks' own figures."""

import re
import subprocess
import sys

import pytest
from tests.docs.reading import DOCS, ROOT

PAGE = (DOCS / "comparison.md").read_text("utf-8")


def table(text: str, start: str) -> dict[tuple[str, str], str]:
    """(row, column) -> cell of the first table whose head begins so."""
    lines = text[text.index(start) :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    head = head if len(head) == len(rows[0]) else ["", *head]
    return {
        (row[0], column): cell
        for row in rows
        for column, cell in zip(head[1:], row[1:], strict=True)
    }


@pytest.mark.slow
def test_what_was_tried_comes_out_again_for_what_is_installed_here() -> None:
    command = [sys.executable, "features.py"]
    run = subprocess.run(
        command, cwd=ROOT / "benchmarks", capture_output=True, encoding="utf-8", check=True
    )
    page = table(PAGE, "| | respondcam")
    found = table(run.stdout.strip(), "|  | respondcam")
    same = set(page) & set(found)  # the same library in the same version
    assert any(column.startswith("respondcam") for _, column in same)
    assert {at: page[at] for at in same} == {at: found[at] for at in same}


def test_times_and_peaks_are_those_of_the_benchmarks() -> None:
    figures = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    for line in PAGE.splitlines():
        if re.match(r"\| (CNN|ResNet|DenseNet|U-Net).*\d\.\d\d", line):
            values = [cell.strip() for cell in line.strip("| ").split("|")][1:]
            rows = [
                re.findall(r"(?<![\d.(-])\d+\.\d\d(?![\d-])(?= \(| \|)", row)
                for row in figures.splitlines()
                if row.startswith("| " + line.split("|")[1].strip().split(",")[0])
            ]
            assert any(values == [row[0], *row[2:]] for row in rows if row), line

"""The benchmark's tables: figures by hand, failures shown, the page around them kept."""

import copy
import re
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OURS, PEER = "respondcam RespondCAM", "peer"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from sidebyside import table

    return table


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from sidebyside import machine

    return machine


RESULTS = {
    "date": "2030-01-02",
    "command": "make bench",
    "options": {"threads": 2, "rounds": None, "seconds": 20},
    "machine": {
        "cpu": "Some CPU",
        "cores": 2,
        "memory_gib": 16.0,
        "system": "Linux",
        "python": "3.11",
    },
    "versions": {"torch": "2.13.0", "peer": "1.0"},
    "cases": [
        {
            "case": "net-8",
            "network": "Net",
            "layer": "last",
            "size": 8,
            "goal": "class",
            "others_busy_cores": 0.12,
            "commit": "abc1234",
            "time": {
                "inference": {"first_ms": 50.0, "ms": [10.0, 20.0, 30.0]},
                OURS: {"first_ms": 900.0, "ms": [10.0, 22.0, 36.0]},
                PEER: {"first_ms": 60.0, "ms": [30.0, 60.0, 60.0]},
            },
            "memory": {
                "inference": {"first_mib": 90.0, "mib": [100.0, 80.0, 200.0], "first_ms": 55.0},
                OURS: {"first_mib": 95.0, "mib": [104.0, 103.0, 300.0], "first_ms": 300.0},
                PEER: {"first_mib": 500.0, "mib": [500.0, 500.0, 500.0], "first_ms": 60.0},
            },
        }
    ],
}


def _row(text: str, after: str) -> list[str]:
    """Cells of the first row of the table below the heading `after`."""
    lines = text.split(after)[1].strip().splitlines()
    return [cell.strip() for cell in lines[2].strip("|").split("|")]


def test_cells_are_ratios_of_medians(table: ModuleType) -> None:
    text = table.render(RESULTS)
    # medians 20, 22, 60; round by round 1, 1.1, 1.2 and 3, 3, 2
    expected = ["Net, 8³", "20 ms", "1.10 (1.05-1.15)", "3.00 (2.50-3.00)"]
    assert _row(text, "### Time of one map, relative to one inference") == expected
    memory = _row(text, "### Peak extra memory of one map, relative to one inference")
    assert memory == ["Net, 8³", "100 MiB", "1.04", "5.00"]
    once = _row(text, "### What respondcam pays once")
    assert once == ["Net, 8³", "900 ms", "300 ms", "22 ms", "90 MiB", "95 MiB"]


def test_heading_says_machine_versions_date_and_how_quiet_it_was(table: ModuleType) -> None:
    heading = table.render(RESULTS).split("###")[0]
    for part in ("2030-01-02", "`make bench`", "Some CPU", "peer 1.0", "abc1234", "0.12 cores"):
        assert part in heading


def test_a_failure_is_shown_with_its_error(table: ModuleType) -> None:
    results = copy.deepcopy(RESULTS)
    case = results["cases"][0]
    case["time"][PEER] = {"ms": [], "error": "ValueError: no 3-D"}
    case["memory"][PEER] = {"error": "ValueError: no 3-D"}
    text = table.render(results)
    assert _row(text, "### Time of one map, relative to one inference")[-1] == "failed"
    assert _row(text, "### Peak extra memory of one map, relative to one inference")[-1] == "failed"
    assert text.count("- Net, 8³, peer: `ValueError: no 3-D`") == 1


def test_only_what_is_between_the_markers_changes(table: ModuleType, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write(readme, RESULTS)
    once = readme.read_text("utf-8")
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert "1.10 (1.05-1.15)" in once
    table.write(readme, RESULTS)
    assert readme.read_text("utf-8") == once


@pytest.mark.parametrize("text", ["none", "{END} {BEGIN}", "{BEGIN}", "{BEGIN}{BEGIN}{END}"])
def test_a_page_without_markers_is_left_alone(table: ModuleType, tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    page = text.format(BEGIN=table.BEGIN, END=table.END)
    readme.write_text(page)
    with pytest.raises(ValueError, match="once each"):
        table.write(readme, RESULTS)
    assert readme.read_text("utf-8") == page


def test_the_page_in_the_repository_has_its_markers(table: ModuleType, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text((BENCHMARKS / "README.md").read_text("utf-8"), "utf-8")
    table.write(readme, RESULTS)


def test_every_requirement_is_pinned_and_agrees_with_development() -> None:
    def pins(path: Path) -> dict[str, str]:
        lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
        return dict(line.lower().replace("_", "-").split("==") for line in lines)

    ours = pins(BENCHMARKS / "requirements.txt")
    development = pins(BENCHMARKS.parent / "requirements" / "constraints.txt")
    assert ours["torch"] == "2.13.0"
    assert "torchvision" not in ours
    both = ours.keys() & development.keys()
    assert {name: ours[name] for name in both} == {name: development[name] for name in both}


def test_file_names_are_plain(machine: ModuleType) -> None:
    assert machine.slug("AMD EPYC (7763) @ 2.4GHz", 2) == "amd-epyc-7763-2-4ghz-2-cores"


def test_every_run_is_one_line_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import history

    file = tmp_path / "results" / "history.jsonl"
    history.remember("first", {"a": 1.5}, file=file)
    history.remember("second", {"b": 2}, file=file, options={"rounds": 3})
    first, second = history.remembered(file)
    assert (first["benchmark"], first["figures"]) == ("first", {"a": 1.5})
    assert (second["figures"], second["options"]) == ({"b": 2}, {"rounds": 3})
    assert first["machine"]["cores"] > 0
    assert {"torch", "respondcam"} <= first["versions"].keys()
    assert len(first["date"]) == len("2030-01-02T00:00:00+00:00")


def test_the_history_that_is_kept_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import history

    runs = list(history.remembered())
    assert runs
    for run in runs:
        assert {"benchmark", "date", "commit", "machine", "versions", "figures"} <= run.keys()


def test_figures_of_the_table_are_relative_to_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import history

    one = {"inference": {"ms": [2.0, 4.0, 3.0]}, "ours": {"ms": [6.0]}, "failed": {"error": "x"}}
    case = {"case": "net", "time": one, "memory": {"inference": {"mib": [5]}, "ours": {"mib": [4]}}}
    found = history.side_by_side_figures({"cases": [case]})
    assert found == {"net: ours: time": 2.0, "net: ours: memory": 0.8}

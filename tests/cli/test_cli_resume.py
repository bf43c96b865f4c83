"""``respondcam explain --resume``: what the same command finished is kept, all else is made."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from respondcam.cli import _explaining as explaining
from respondcam.cli import _writing as writing

from .conftest import NETWORKS, blob, write_mrc


@pytest.fixture(autouse=True)
def plain_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here only the files count, and figures take most of the time."""
    monkeypatch.setattr(writing, "explanation_figure", lambda *_, **__: Figure((1, 1)))


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    return [write_mrc(folder / f"v{n}.mrc", blob((8, 8, 8), n)) for n in range(2)]


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sources that were run through the network since it was last cleared."""
    names: list[str] = []
    run = explaining.explain_source

    def watched(source, *arguments, **options):
        names.append(source.name)
        return run(source, *arguments, **options)

    monkeypatch.setattr(explaining, "explain_source", watched)
    return names


@pytest.fixture
def base(nets, two) -> tuple[str, ...]:
    model = ("--model", f"{nets}:net", "--layer", "second")
    return ("explain", "in", *model, "--target", "0", "--out", "out", "--resume")


def modified(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_only_what_is_missing_is_made(cli, base, explained, tmp_path):
    base, out = (*base, "--layer", "first", "--target", "0,2"), tmp_path / "out"
    first = cli(*base)
    assert first.code == 0, first.err
    assert explained == ["v0", "v1"]
    assert "before" not in first.out
    before = modified(out)
    gone = out / "v1.respond.first.class-2.layer.mrc"  # as if it had been stopped there
    gone.unlink()
    explained.clear()
    second = cli(*base)
    assert second.code == 0, second.err
    assert explained == ["v1"]
    assert "1 volume was explained before by the same command" in " ".join(second.out.split())
    after = modified(out)
    assert {n for n in before if before[n] != after.get(n)} == {n for n in after if n[:2] == "v1"}
    assert before.keys() == after.keys()
    table = [line for line in second.out.splitlines() if line.startswith("v")]
    assert table == [line for line in first.out.splitlines() if line.startswith("v")]


def test_without_it_all_are_made_again(cli, base, explained):
    assert cli(*base).code == 0
    explained.clear()
    assert cli(*base[:-1]).code == 0
    assert explained == ["v0", "v1"]


@pytest.mark.parametrize("question", [("--layer", "second", "--target", "0,2"), ()], ids=len)
def test_results_of_another_run_are_told_before_the_work(cli, nets, two, explained, question):
    words = ("explain", "in", "--model", f"{nets}:net", "--out", "out", *question)
    assert cli(*words).code == 0
    explained.clear()
    other = cli(*words, "--normalize", "zscore")
    assert other.code == 2
    assert other.err.count('(normalize was "none", is "zscore")') == 2
    assert explained == []
    elsewhere = ("--layer", "second", "--target", "1", "--normalize", "zscore")
    assert cli(*words[:6], *elsewhere).code == 0  # these are in nobody's way
    assert explained == ["v0", "v1"]


@pytest.mark.parametrize(
    "change",
    [
        ("--normalize", "zscore"),
        ("--target", "1"),
        ("--limit", "0.5"),
        ("--method", "grad"),
        ("--classes", "a,b,c"),
    ],
    ids=lambda one: one[0],
)
def test_another_command_makes_all_again(cli, base, explained, change):
    assert cli(*base).code == 0
    explained.clear()
    result = cli(*base, *change, "--overwrite")
    assert result.code == 0, result.err
    assert explained == ["v0", "v1"]


def test_changed_voxels_and_changed_code_are_noticed(cli, base, explained, nets, two):
    assert cli(*base).code == 0
    write_mrc(two[1], blob((8, 8, 8), 7))
    explained.clear()
    result = cli(*base)
    assert result.code == 2  # its results are of another volume, and stay
    assert "v1" in result.err
    assert explained == []
    Path(nets).write_text(NETWORKS.replace("nn.ReLU()", "nn.ELU()"))  # the same parameters
    explained.clear()
    assert cli(*base, "--overwrite").code == 0
    assert explained == ["v0", "v1"]


def test_one_more_method_is_made_and_its_maps_are_resumed_too(cli, base, explained):
    both = (*base, "--method", "respond", "--method", "eigen")
    assert cli(*base).code == 0
    explained.clear()
    assert cli(*both).code == 0
    assert explained == ["v0", "v0", "v1", "v1"]
    explained.clear()
    result = cli(*both, "--json")
    assert result.code == 0, result.err
    assert explained == []
    document = json.loads(result.out)
    assert len(document["maps"]) == 2 * 2
    assert all(Path(one["files"]["layer"]).is_file() for one in document["maps"])
    assert any("2 volumes were explained before" in note for note in document["notes"])


def test_masks_are_looked_at_again(cli, nets, mrc, explained, tmp_path):
    np.save(tmp_path / "mask.npy", np.ones((8, 10, 12), bool))
    dense = tmp_path / "dense.py"
    dense.write_text(
        "from torch import nn\n\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 1))\n"
    )
    words = ("explain", mrc, "--model", f"{dense}:net", "--target", "mask:mask.npy@1", "--resume")
    for _ in range(2):
        result = cli(*words)
        assert result.code == 0, result.err
    assert len(explained) == 2


@pytest.mark.parametrize(
    "damage", ["{", "[]", "{}", '{"settings": 3}', "null", '{"together": 7, "input": []}']
)
def test_damaged_records_are_none(cli, base, explained, tmp_path, damage):
    assert cli(*base).code == 0
    (tmp_path / "out" / "v0.respond.second.class-0.json").write_text(damage)
    explained.clear()
    result = cli(*base, "--overwrite")
    assert result.code == 0, result.err
    assert explained == ["v0"]


@pytest.mark.parametrize("notes", [True, None, "text", [1], {}])
def test_a_record_whose_notes_are_none_is_not_used(cli, base, explained, tmp_path, notes):
    assert cli(*base).code == 0
    file = tmp_path / "out" / "v0.respond.second.class-0.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "notes": notes}))
    explained.clear()
    result = cli(*base, "--overwrite")
    assert result.code == 0, result.err
    assert explained == ["v0"]
    assert isinstance(json.loads(file.read_text())["notes"], list)


def test_a_report_shows_what_was_kept_too(cli, base, tmp_path):
    assert cli(*base).code == 0
    result = cli(*base, "--report")
    assert result.code == 0, result.err
    assert len(list((tmp_path / "out").glob("v*.html"))) == 2

"""``respondcam reproduce``: from the command to tables and figures, and its mistakes."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from respondcam.cli import app
from respondcam.paper.networks import EFFORTS, Effort

SMALL = ["--data", "groel", "--data", "p97", "--size", "16", "--voxel-size", "20"]


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for seconds, in this process."""
    efforts = {"CNN-1": Effort(2, (1, 1)), "CNN-2": Effort(4, (1, 1))}
    monkeypatch.setitem(EFFORTS, "quick", efforts)
    monkeypatch.setattr("respondcam.paper.table1_run.os.cpu_count", lambda: 1)


def test_table_1_from_the_command(brief: None, tmp_path: Path) -> None:
    arguments = ["reproduce", "table1", *SMALL, "--per-class", "2", "--out", tmp_path]
    code, text, errors = run(*arguments)
    assert code == 0, errors
    assert "CNN-2, SNR infinity" in text
    assert "sum = 0" in text
    assert "cnn-2-snr-0.1: epoch 1/1" in errors
    assert f"Open: {tmp_path / 'table1.md'}" in text
    code, text, errors = run(*arguments, "--json")
    assert code == 0
    assert errors == ""
    told = json.loads(text)["table1"]
    assert [row["snr"] for row in told["results"]] == ["infinity", 0.1]
    assert math.isfinite(told["results"][0]["respond_cam_l1_mean"])
    code, _, errors = run(*arguments, "--seed", "1")
    assert code == 2
    assert "holds another reproduction" in errors


def test_figures_share_their_network(brief: None, tmp_path: Path) -> None:
    for name in ("figure4", "figure3"):
        code, text, errors = run("reproduce", name, *SMALL, "--out", tmp_path)
        assert code == 0, errors
        assert Path(text.strip().removeprefix("Open: ")).is_file()
        assert ("cnn-1-no-noise: epoch" in errors) == (name == "figure4")


def test_localisation_from_the_command(brief: None, tmp_path: Path) -> None:
    code, text, errors = run(
        *["reproduce", "localisation", *SMALL, "--per-class", "1", "--out", tmp_path]
    )
    assert code == 0, errors
    assert "control: channel sum" in text
    assert (tmp_path / "localisation.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table2"], "The experiment is 'table2'. Did you mean table1? Accepted: table1, figure3"),
        (["table1", *SMALL, "--budget", "endless"], "--budget is 'endless'"),
        (["table1", *SMALL, "--network", "cnn-3"], "--network is 'cnn-3'"),
        (["table1", *SMALL, "--per-class", "0"], "--per-class is 0"),
        (["figure3", *SMALL, "--snr", "2"], "--snr is '2'. Accepted: inf, 0.1"),
        (["table1", "--data", "groel"], "fewer than two"),
        (["table1", "--data", "absent"], "'absent' is no file"),
        (["natural-images", "--data", "absent.png"], "There is no image or folder"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, _, errors = run("reproduce", *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors

"""``respondcam explain`` with --channels and --precision."""

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def two_channels(tmp_path: Path, make) -> Path:
    path = tmp_path / "two.npy"
    np.save(path, np.stack([make.blob((8, 8, 8)), make.blob((8, 8, 8), seed=1)]))
    return path


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]


def test_channels_as_a_table_and_in_the_record(cli, nets, two_channels, tmp_path):
    result = cli(
        *("explain", two_channels, "--model", f"{nets}:net", "--model-arg", "channels=2"),
        *("--channel-names", "T1,FLAIR", "--target", "0,1", "--layer", "second"),
    )
    assert result.code == 0, result.err
    assert "FLAIR" in result.out
    assert "shapley: what a channel adds" in " ".join(result.out.split())
    for record in records(tmp_path / "respondcam-maps"):
        channels = record["channels"]
        assert channels["names"] == ["T1", "FLAIR"]
        assert channels["score"] == pytest.approx(record["account"]["score"])
        for title in ("shapley", "flow", "drop"):
            explained = channels["baseline"] + sum(channels[title]["channels"])
            assert explained + channels[title]["gap"] == pytest.approx(channels["score"])
        assert channels["shapley"]["gap"] == pytest.approx(0, abs=1e-9)
        through = channels["score"] - channels["baseline"]
        told = (
            f"score {channels['score']:.4g} = baseline {channels['baseline']:.4g} + {through:.4g}"
        )
        assert f"two.npy, {record['target']['name']}: {told} through the channels\n" in result.out


def test_wrong_channel_options(cli, nets, two_channels):
    one = ("explain", two_channels, "--model", f"{nets}:net", "--model-arg", "channels=2")
    result = cli(*one, "--channel-names", "T1")
    assert result.code == 2
    assert "1 channel names (T1) were given for 2 channels" in result.err
    result = cli(*one, "--channels", "--channel-baseline", "median")
    assert result.code == 2
    assert "Accepted: zero, mean" in result.err


def test_precision_is_said(cli, nets, mrc, tmp_path):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--precision", "bf16", "--out", "half")
    assert result.code == 0, result.err
    assert "ran in bfloat16" in result.out
    (half,) = records(tmp_path / "half")
    cli("explain", mrc, "--model", f"{nets}:net", "--out", "full")
    (full,) = records(tmp_path / "full")
    assert full["precision"] is None
    assert half["precision"]["trunk"] == "bf16"
    difference = abs(half["account"]["score"] - full["account"]["score"])
    assert half["precision"]["score"] == pytest.approx(difference, rel=1e-3)
    assert 0 < half["precision"]["map"] < 0.05
    result = cli("explain", mrc, "--model", f"{nets}:net", "--precision", "fp16")
    assert result.code == 2
    assert "Accepted: fp32, bf16" in result.err

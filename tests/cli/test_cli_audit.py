"""``respondcam audit`` against the network's own scores and scipy."""

import csv
import json
import math
import os
import re

import pytest
from scipy import stats


@pytest.fixture
def folder(tmp_path, make):
    place = tmp_path / "volumes"
    place.mkdir()
    for seed in range(4):
        make.mrc(place / f"v{seed}.mrc", make.blob((8, 8, 8), seed=seed))
    return place


def test_a_folder_as_a_table_with_a_verdict(cli, nets, folder):
    result = cli("audit", folder, "--model", f"{nets}:net", "--layer", "second")
    assert result.code == 0, result.err
    for word in ("v0.mrc", "v3.mrc", "respond, 4 volumes", "L1", "tau", "4 of 4"):
        assert word in result.out
    # what follows the layer is linear
    assert "The maps explain what the images contributed" in result.out


def test_the_csv_holds_what_the_maps_hold(cli, nets, folder, tmp_path):
    result = cli(
        "audit",
        folder,
        "--model",
        f"{nets}:net",
        "--layer",
        "first",
        "--csv",
        "a.csv",
        "--method",
        "grad",
        "--method",
        "respond",
    )
    assert result.code == 0, result.err
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 8
    cli(
        "explain",
        folder / "v1.mrc",
        "--model",
        f"{nets}:net",
        "--layer",
        "first",
        "--target",
        "all",
    )
    for path in (tmp_path / "respondcam-maps").glob("*.json"):
        assert "respond" in path.name
    records = [
        json.loads(p.read_text("utf-8")) for p in (tmp_path / "respondcam-maps").glob("*.json")
    ]
    accounts = [record["account"] for record in records]
    scores, sums = [a["score"] for a in accounts], [a["mapped"] for a in accounts]
    (row,) = [r for r in rows if r["file"].endswith("v1.mrc") and r["method"] == "respond"]
    l1 = sum(abs(m - s) for m, s in zip(sums, scores, strict=True)) / len(sums)
    assert float(row["l1"]) == pytest.approx(l1, rel=1e-6)
    assert float(row["tau"]) == pytest.approx(stats.kendalltau(sums, scores).statistic)
    assert float(row["score"]) == pytest.approx(max(scores))
    best = accounts[scores.index(max(scores))]
    assert float(row["gap"]) == pytest.approx(best["gap"], abs=1e-7)


def test_json_and_a_bad_file_among_good_ones(cli, nets, folder):
    (folder / "v9.mrc").write_bytes(b"")
    result = cli("audit", folder, "--model", f"{nets}:net", "--json")
    assert result.code == 2
    document = json.loads(result.out)
    assert len(document["volumes"]) == 4
    assert document["failed"][0]["path"].endswith("v9.mrc")
    assert document["summary"]["respond"]["images"] == 4
    table = cli("audit", folder, "--model", f"{nets}:net", "--csv", "t.csv")
    assert table.code == 2
    assert "4 of 5 volumes audited" in table.out
    assert "empty" in table.err


@pytest.mark.parametrize("place", ["missing/a.csv", "file/a.csv", "volumes"])
def test_a_table_that_cannot_be_written_is_told_before_the_work(cli, folder, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    result = cli("audit", folder, "--model", "nowhere.py:net", "--csv", tmp_path / place)
    assert result.code == 2
    assert "--csv" in result.err


def test_classes_and_intervals_are_reported_and_few_volumes_are_told(cli, nets, folder, tmp_path):
    arguments = ("audit", folder, "--model", f"{nets}:named", "--layer", "first", "--csv", "a.csv")
    few = cli(*arguments)
    assert few.code == 0, few.err
    assert "No 95 % intervals: 4 values are too few for an interval (8 are needed)" in few.out
    assert "a.classes.csv" in few.out
    rows = list(csv.DictReader((tmp_path / "a.classes.csv").read_text("utf-8").splitlines()))
    assert [row["class"] for row in rows] == ["[red]ribosome", "20S proteasome", "ferritin"]
    document = json.loads(cli(*arguments, "--json").out)
    (one,) = [c for c in document["summary"]["respond"]["classes"] if c["label"] == "ferritin"]
    explained = cli("explain", folder, "--model", f"{nets}:named", "--layer", "first", "--target",
                    "ferritin", "--json")  # fmt: skip
    accounts = [one["account"] for one in json.loads(explained.out)["maps"]]
    l1 = sum(abs(a["mapped"] - a["score"]) for a in accounts) / len(accounts)
    assert one["l1"]["mean"] == pytest.approx(l1, rel=1e-6)
    assert float(rows[2]["l1"]) == pytest.approx(l1, rel=1e-6)
    gaps = sum(abs(a["gap"]) for a in accounts)
    assert one["open_share"] == pytest.approx(
        gaps / sum(abs(a["score"] - a["baseline"]) for a in accounts), rel=1e-5
    )


def maps_of_all(cli, nets, folder):
    """The scores of all classes of each volume, as explain records them."""
    result = cli("explain", folder, "--model", f"{nets}:net", "--target", "all", "--json")
    by_volume = {}
    for one in json.loads(result.out)["maps"]:
        by_volume.setdefault(one["input"]["path"], []).append(one["account"]["score"])
    return list(by_volume.values())


def test_intervals_of_many_volumes(cli, nets, folder, make):
    for seed in range(4, 9):
        make.mrc(folder / f"v{seed}.mrc", make.blob((8, 8, 8), seed=seed))
    result = cli("audit", folder, "--model", f"{nets}:net", "--layer", "first")
    assert result.code == 0, result.err
    assert "95 % intervals of the means: L1 " in result.out
    assert " (predicted) " in next(line for line in result.out.splitlines() if "v3.mrc" in line)
    ends = re.findall(r"(\S+) to (\S+)", result.out)
    assert all(low != high for low, high in ends)
    document = json.loads(cli("audit", folder, "--model", f"{nets}:net", "--json").out)
    scores = [abs(s) for one in maps_of_all(cli, nets, folder) for s in one]
    zeros = document["summary"]["respond"]["l1_of_zeros"]
    assert zeros == pytest.approx(sum(scores) / len(scores), rel=1e-5)
    assert f"(a map of zeros: {zeros:.4g})" in result.out
    interval = document["summary"]["respond"]["intervals"]["l1"]
    assert interval["low"] <= document["summary"]["respond"]["l1"]["mean"] <= interval["high"]


@pytest.mark.parametrize("name", ["a.csv", "a.classes.csv", "a.html"])
def test_files_of_others_are_left_alone_and_its_own_written_anew(cli, nets, folder, tmp_path, name):
    arguments = ("audit", folder, "--model", f"{nets}:net", "--csv", "a.csv", "--report", "a.html")
    (tmp_path / name).write_text("mine,and,precious\n1,2,3\n")
    refused = cli(*arguments)
    assert refused.code == 2
    assert f"'{name}' exists already and was not written by audit" in refused.err
    assert "--overwrite" in refused.err
    assert (tmp_path / name).read_text().startswith("mine")
    assert not list(tmp_path.glob("a.*"))[1:]
    assert cli(*arguments, "--overwrite").code == 0
    written = {path: path.read_bytes() for path in tmp_path.glob("a.*")}
    assert len(written) == 3
    assert cli(*arguments).code == 0  # the same again
    assert {path: path.read_bytes() for path in tmp_path.glob("a.*")} == written


def test_classes_that_look_alike_stay_in_order_and_rounding_is_no_deviation(cli, nets, folder):
    result = cli("audit", folder, "--model", f"{nets}:named", "--layer", "second")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    (start,) = [n for n, line in enumerate(lines) if line.startswith("class") and "95 %" in line]
    names = [line.split("  ")[0].strip() for line in lines[start + 2 : start + 5]]
    assert names == ["[red]ribosome", "20S proteasome", "ferritin"]
    (one,) = [line for line in lines if line.startswith("respond, 4 volumes")]
    assert "e-0" not in one
    alone = cli("audit", folder / "v0.mrc", "--model", f"{nets}:named", "--layer", "second")
    (one,) = [line for line in alone.out.splitlines() if line.startswith("respond, 1 volume")]
    assert "±" not in one


def test_names_that_spreadsheets_would_run_stand_behind_an_apostrophe(cli, nets, mrc, tmp_path):
    (tmp_path / "formulas.py").write_text(
        "from nets import net\n\n\ndef build():\n    return net(), ['=1+1', '@sum', '-a']\n"
    )
    odd = mrc.rename(tmp_path / "=cmd.mrc")
    (tmp_path / "bad.mrc").write_bytes(b"")
    given = (odd.name, "bad.mrc", "--model", f"{tmp_path}/formulas.py:build", "--layer", "first")
    cli("audit", *given, "--csv", "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text("utf-8").splitlines()))
    assert rows[0]["file"] == "'=cmd.mrc"
    assert rows[0]["class"] in ("'=1+1", "'@sum", "'-a")
    assert all(math.isfinite(float(rows[0][name])) for name in ("score", "gap"))
    assert rows[1]["file"] == "bad.mrc"
    classes = list(csv.DictReader((tmp_path / "a.classes.csv").read_text("utf-8").splitlines()))
    assert {row["class"] for row in classes} & {"'=1+1", "'@sum", "'-a"}


@pytest.mark.parametrize("option", ["--csv", "--report"])
@pytest.mark.parametrize(
    "words", [("pipe",), ("pipe", "--overwrite"), ("/dev/full",), ("/dev/null",)], ids=" ".join
)
def test_targets_that_are_no_files_are_refused_unread(cli, nets, folder, tmp_path, option, words):
    """Opening a pipe waits until somebody writes, /dev/full has no end, and a name is not taken."""
    os.mkfifo(tmp_path / "pipe")
    result = cli("audit", folder, "--model", f"{nets}:net", option, *words)
    assert result.code == 2
    what = "a pipe" if words[0] == "pipe" else "a device"
    assert f"{words[0]!r} is no regular file but {what}" in result.err
    assert (tmp_path / "pipe").is_fifo()


def test_a_pipe_where_the_classes_would_go(cli, nets, folder, tmp_path):
    os.mkfifo(tmp_path / "a.classes.csv")
    result = cli("audit", folder, "--model", f"{nets}:net", "--csv", "a.csv")
    assert result.code == 2
    assert "a.classes.csv' is no regular file" in result.err

"""``respondcam layers``: the table, what it lists, and the choice it announces."""

import json

import pytest


def test_the_layers_of_a_network_by_shape(cli, nets):
    result = cli("layers", "--model", f"{nets}:net", "--shape", "1,8,8,8")
    assert result.code == 0, result.err
    for word in ("first", "second", "scores"):
        assert word in result.out
    assert "chosen" in result.out.lower()
    assert "calls: how often the layer runs" in result.out
    assert "head memory: what a map of it keeps" in result.out


def test_what_explain_would_choose(cli, nets, mrc, tmp_path):
    listed = json.loads(cli("layers", "--model", f"{nets}:net", "--input", mrc, "--json").out)
    cli("explain", mrc, "--model", f"{nets}:net")
    (path,) = (tmp_path / "respondcam-maps").glob("*.json")
    assert json.loads(path.read_text("utf-8"))["layer"] == listed["chosen"]
    assert {row["name"] for row in listed["rows"]} >= {"first", "pool", "second"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "either --input FILE or --shape"),
        (("--shape", "1,8,8,8", "--input", "x.mrc"), "either --input FILE or --shape"),
        (("--shape", "1,8,-8,8"), "--shape is '1,8,-8,8'"),
        (("--shape", "8"), "--shape is '8'"),
        (("--shape", "1,0,8,8"), "--shape is"),
        (("--shape", "1,99999999,99999999,99999999"), "more than 268435456 numbers"),
        (("--shape", "1,1000,1000,1000"), "more than 268435456 numbers"),
        (("--shape", "1,8,8," + "9" * 5000), "more than 268435456 numbers"),
        (("--shape", "1,8,8," + "0" * 5000), "--shape is"),
        (("--input", "none.mrc"), "none.mrc"),
        (("--shape", "2,8,8,8"), "2, 8, 8, 8"),
        (("--shape", "8,8,8"), "--shape is C,Z,Y,X; did you mean 1,8,8,8?"),
        (("--shape", "2,1,8,8,8"), "without the batch; did you mean 1,8,8,8?"),
        (("--shape", "1,8,8,8", "--axes", "abc"), "--axes is 'abc'"),
    ],
)
def test_bad_input(cli, nets, options, words):
    result = cli("layers", "--model", f"{nets}:net", *options)
    assert result.code == 2, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert result.err.count("respondcam:") == 1


def test_fewer_layers_by_depth_and_by_name(cli, nets):
    def listed(*options):
        result = cli("layers", "--model", f"{nets}:net", "--shape", "1,8,8,8", *options)
        assert result.code == 0, result.err
        return result.out

    shape = ("layers", "--model", f"{nets}:net", "--shape", "1,8,8,8", "--json")
    every = [row["name"] for row in json.loads(cli(*shape).out)["rows"]]
    assert any("." in name for name in every)
    rows = json.loads(cli(*shape, "--depth", 1).out)["rows"]
    shown = [row["name"] for row in rows]
    assert shown == [n for n in every if "." not in n or n == json.loads(cli(*shape).out)["chosen"]]
    assert f"{len(shown)} of {len(every)} layers are listed." in listed("--depth", 1)
    assert "layers are listed" not in listed()
    for pattern in ("first", "first.*"):
        assert "first.0" in listed("--name", pattern)
    assert "pool" not in listed("--name", "first.*").split("Chosen when")[0]

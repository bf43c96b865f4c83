"""``respondcam explain --method``: every name works, options of the method reach it."""

import json

import numpy as np
import pytest
import torch

import respondcam as rc


@pytest.mark.parametrize(
    "method", ["integrated-respond", "ablation", "eigen", "refine", "tubes", "occlusion"]
)
def test_a_method_writes_a_map_and_its_account(cli, nets, mrc, tmp_path, method):
    if method == "occlusion":
        pytest.importorskip("captum")
    common = ("--method", method, "--keep", "sum", "--device", "cpu")
    result = cli("explain", mrc, "--model", f"{nets}:net", *common)
    assert result.code == 0, result.err
    (path,) = (tmp_path / "respondcam-maps").glob("*.json")
    record = json.loads(path.read_text("utf-8"))
    assert record["settings"]["method"] == method
    map_ = rc.read_volume(next((tmp_path / "respondcam-maps").glob("*.input.mrc"))).voxels
    assert record["account"]["mapped"] == pytest.approx(float(map_.sum()), rel=1e-3, abs=1e-4)
    if method in ("integrated-respond", "tubes"):
        assert abs(record["account"]["gap"]) < 1e-4
    if method == "eigen":
        assert "same for every class" in result.out


def test_options_of_the_method_reach_it(cli, nets, mrc, tmp_path):
    given = ["--method", "ablation", "--method-arg", "weights=drop", "--target", "1"]
    result = cli("explain", mrc, "--model", f"{nets}:net", "--layer", "second", *given)
    assert result.code == 0, result.err
    (path,) = (tmp_path / "respondcam-maps").glob("*.layer.mrc")
    import importlib.util

    spec = importlib.util.spec_from_file_location("nets_of_the_methods", nets)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    volume = rc.read_volume(mrc)
    expected = rc.AblationCAM(module.net(), layer="second", weights="drop")(volume, target=1)
    np.testing.assert_allclose(
        rc.read_volume(path).voxels, expected.maps[0, 0].numpy(), rtol=1e-4, atol=1e-6
    )
    record = json.loads(next((tmp_path / "respondcam-maps").glob("*.json")).read_text("utf-8"))
    assert record["settings"]["method_arguments"] == ["weights=drop"]
    assert not torch.equal(
        expected.maps, rc.AblationCAM(module.net(), layer="second")(volume, target=1).maps
    )


@pytest.mark.parametrize(
    ("method", "argument", "said"),
    [
        ("respond", "nodes=3", "has no option 'nodes'. It has: "),
        ("integrated-respond", "nodes=0", "whole number"),
        ("integrated-respond", "baseline=median", "'zero', 'mean'"),
        ("respond", "denominator", "Accepted: NAME=VALUE"),
        ("respond", "output=0", "--output"),
        ("nothing", "a=1", "Accepted: respond, "),
        ("occlusion", "window=[2]", "one for each of the axes"),
    ],
)
def test_wrong_options_are_one_message(cli, nets, mrc, method, argument, said):
    arguments = ["--method", method, "--method-arg", argument]
    result = cli("explain", mrc, "--model", f"{nets}:net", *arguments)
    assert result.code == 2
    assert said in result.err


def test_the_help_names_every_method(cli):
    text = cli("explain", "--help").out
    assert all(name in text for name in rc.METHODS)


def test_several_methods_write_a_map_each(cli, nets, mrc, tmp_path):
    several = ("--method", "respond", "--method", "grad", "--method", "respond")
    result = cli("explain", mrc, "--model", f"{nets}:net", *several, "--target", "1")
    assert result.code == 0, result.err
    table = [line.split() for line in result.out.splitlines() if line.startswith("ribo.mrc")]
    assert [row[1] for row in table] == ["respond", "grad"]
    maps = tmp_path / "respondcam-maps"
    written = {path.name: path.read_bytes() for path in maps.iterdir()}
    assert len(written) == 8
    alone = cli("explain", mrc, "--model", f"{nets}:net", "--method", "grad", "--target", "1",
                "--out", "alone")  # fmt: skip
    assert alone.code == 0, alone.err
    assert "method" not in alone.out.splitlines()[0]
    for path in (tmp_path / "alone").glob("*.mrc"):
        assert path.read_bytes() == written[path.name]
    again = cli("explain", mrc, "--model", f"{nets}:net", "--method", "grad", "--target", "1")
    assert again.code == 0, again.err  # each map is a run of its own


def test_options_and_layers_go_to_the_methods_that_have_them(cli, nets, mrc, tmp_path):
    pytest.importorskip("captum")
    methods = ("integrated-respond", "hires", "occlusion")
    several = [part for name in methods for part in ("--method", name)]
    common = ("explain", mrc, "--model", f"{nets}:net", "--layer", "first", "--target", "1")
    result = cli(*common, *several, "--method-arg", "integrated-respond.nodes=4", "--json")
    assert result.code == 0, result.err
    maps = json.loads(result.out)["maps"]
    assert [one["layer"] for one in maps] == ["first", "first", "input"]
    given = [one["settings"]["method_arguments"] for one in maps]
    assert given == [["nodes=4"], [], []]
    wrong = cli(*common, *several, "--method-arg", "nodez=4")
    assert wrong.code == 2
    assert "no method that it is for has an option 'nodez'" in wrong.err


def test_notes_of_one_of_several_methods_name_it(cli, nets, mrc):
    common = ("explain", mrc, "--model", f"{nets}:net", "--layer", "first", "--target", "1")
    result = cli(*common, "--method", "respond", "--method", "eigen")
    assert result.code == 0, result.err
    notes = [line for line in result.out.splitlines() if line.startswith("Note: ")]
    assert any(line.startswith("Note: eigen: ") for line in notes)
    assert any(line.startswith("Note: no --weights") for line in notes)


def test_windows_take_one_method(cli, nets, mrc):
    several = ("--method", "respond", "--method", "grad", "--window", "8")
    result = cli("explain", mrc, "--model", f"{nets}:net", *several)
    assert result.code == 2
    assert "Windows are explained by one method" in result.err


@pytest.mark.parametrize("wrong", [("--method", "grad", "--method", "gard"), ("--method", "gard")])
def test_a_mistyped_method_among_several(cli, nets, mrc, wrong):
    result = cli("explain", mrc, "--model", f"{nets}:net", *wrong)
    assert result.code == 2
    assert "--method is 'gard'" in result.err


def test_methods_with_commas_are_told_apart(cli, nets, mrc):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--method", "respond,grad")
    assert result.code == 2
    assert "For several give --method respond --method grad." in result.err


def test_the_sum_of_another_method_that_misses_the_score_is_pointed_out(cli, nets, mrc):
    words = ("explain", mrc, "--model", f"{nets}:net", "--layer", "first", "--target", "0")
    said = cli(*words, "--method", "grad", "--method", "eigen").out
    assert "grad: the sum of the grad map misses what the image adds to the score" in said
    assert "sum of the eigen map" not in said  # which says itself that its sum means nothing


def test_an_option_may_name_the_only_method(cli, nets, mrc, tmp_path):
    arguments = ("--method", "ablation", "--method-arg", "ablation.weights=drop", "--json")
    result = cli("explain", mrc, "--model", f"{nets}:net", *arguments)
    assert result.code == 0, result.err
    (one,) = json.loads(result.out)["maps"]
    assert one["settings"]["method_arguments"] == ["weights=drop"]


def test_sums_without_a_meaning_have_no_figures(cli, nets, mrc, tmp_path):
    words = ("explain", mrc, "--model", f"{nets}:net", "--layer", "second", "--target", "0")
    result = cli(*words, "--method", "respond", "--method", "ablation", "--report")
    (page,) = (tmp_path / "respondcam-maps").glob("*.html")
    accounts = page.read_text("utf-8").split('id="accounts"')[1].split("</table>")[0]
    assert accounts.count('<td class="n">–</td>') == 4  # of ablation: all but the score
    rows = [line.split() for line in result.out.splitlines() if line.startswith("ribo.mrc")]
    assert {row[1]: row[-3:] == ["-", "-", "-"] for row in rows} == {
        "respond": False,
        "ablation": True,
    }


def test_what_sets_another_run_apart_is_said(cli, nets, mrc):
    words = ("explain", mrc, "--model", f"{nets}:net", "--target", "0")
    assert cli(*words, "--layer", "second").code == 0
    assert cli(*words).code == 0  # chooses the same layer
    assert cli(*words, "--layer", "second", "--layer", "first").code == 0  # and one more
    other = cli(*words, "--normalize", "zscore")
    assert other.code == 2
    assert 'another run (normalize was "none", is "zscore")' in other.err


def test_an_option_of_another_method_is_sent_there(cli, nets, mrc):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--method-arg", "nodes=32")
    assert result.code == 2
    assert "'nodes' belongs to integrated-respond, " in result.err

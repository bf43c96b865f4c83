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
    result = cli("explain", mrc, "--model", f"{nets}:net", "--method", method, "--device", "cpu")
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

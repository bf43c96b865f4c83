"""``respondcam compare``: the figures against the library's own, resuming, masks, and mistakes."""

import csv
import json
import re

import mrcfile
import numpy as np
import pytest
import torch

from respondcam import METHODS, IntegratedRespondCAM, read_volume
from respondcam.cli import _batch, _comparing
from respondcam.evidence import class_sensitivity
from respondcam.evidence.comparison import METRICS, words_of
from respondcam.evidence.faithfulness import Changing, deletion
from respondcam.evidence.locating import locate
from respondcam.evidence.scoring import Scorer
from respondcam.network.sources import load_model

QUICK = ("--steps", 3)


@pytest.fixture
def folder(tmp_path, make):
    volumes, masks = tmp_path / "volumes", tmp_path / "masks"
    volumes.mkdir()
    masks.mkdir()
    z, y, x = np.ogrid[:8, :8, :8]
    ball = ((z - 4) ** 2 + (y - 3) ** 2 + (x - 5) ** 2 < 6).astype(np.float32)
    for seed in range(3):
        make.mrc(volumes / f"v{seed}.mrc", make.blob((8, 8, 8), seed=seed))
        make.mrc(masks / f"v{seed}_mask.mrc", ball)
    return volumes


@pytest.fixture
def call(cli, nets, folder):
    def run(*arguments, files=folder):
        return cli("compare", files, "--model", f"{nets}:net", *QUICK, *arguments)

    return run


def read(path):
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_figures_are_the_library_s(call, nets, folder, tmp_path) -> None:
    result = call("--masks", "masks", "--layer", "first", "--method", "hires", "--target", 1)
    assert result.code == 0, result.err
    rows = read(tmp_path / "respondcam-compare" / "volumes.csv")
    (row,) = [r for r in rows if r["volume"] == "v1" and r["method"] == "hires"]
    model = load_model(f"{nets}:net").module
    volume = read_volume(folder / "v1.mrc")
    explanation = METHODS["hires"](model, "first")(volume, 1)
    maps = explanation.place()
    area = deletion(Scorer(model, volume, 1), maps, Changing(steps=3)).area
    assert float(row["deletion"]) == pytest.approx(area.item(), abs=1e-6)
    mask = torch.from_numpy(read_volume("masks/v1_mask.mrc").voxels.reshape(1, 8, 8, 8) > 0)
    (found,) = locate(maps[:, 0], mask, heights=explanation.place("value")[:, 0])
    assert float(row["vxap"]) == pytest.approx(found.vxap, abs=1e-6)
    assert float(row["positive_mass"]) == pytest.approx(found.positive_mass, abs=1e-5)
    table = read(tmp_path / "respondcam-compare" / "compare.csv")
    (mean,) = [r for r in table if r["method"] == "hires" and r["metric"] == "deletion"]
    values = [float(r["deletion"]) for r in rows if r["method"] == "hires"]
    assert float(mean["mean"]) == pytest.approx(np.mean(values))
    assert {r["method"] for r in rows} == {"hires", "channel-sum", "uniform", "centre"}
    assert (tmp_path / "respondcam-compare" / "compare.png").read_bytes()[1:4] == b"PNG"


def test_the_table_fits_a_terminal_and_says_what_is_missing(call) -> None:
    result = call("--masks", "masks", "--metric", "location", "--metric", "boxes")
    assert result.code == 0, result.err
    table = result.out.split("+ higher")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "Max3DBoxAcc" in table
    assert "3 of 3 volumes compared" in result.out
    assert "too few for an interval" in result.out
    assert "grad at second against respond at second" not in result.out  # nothing to be said
    # a control does better here than the map of this untrained network, and it is said
    assert "Controls are ahead of respond at second by" in result.out


def test_the_measures_that_are_shown_are_explained_and_no_others(call, tmp_path) -> None:
    result = call("--metric", "account", "--metric", "drop", "--report")
    assert result.code == 0, result.err
    table, below = result.out.split("+ higher")
    assert table.split()[0] == "measure"
    for line in (
        "relative gap: share of the score's change that the map leaves open",
        "drop: share of the probability lost when the map masks the image",
        "increase: how often the probability rises when the map masks the image",
    ):
        assert line in below.splitlines()
    assert "deletion" not in result.out
    assert "drop follows the probability of the class" in result.out
    page = (tmp_path / "respondcam-compare" / "compare.html").read_text("utf-8")
    assert "share of the probability lost when the map masks the image" in page
    for name, one in METRICS.items():
        assert len(f"{one.title}: {words_of(name, 'probability')}") <= 80


def test_a_method_whose_sum_says_nothing_has_no_gap_to_compare(call, tmp_path) -> None:
    result = call("--metric", "account", "--method", "respond", "--method", "eigen")
    assert result.code == 0, result.err
    (line,) = [one for one in result.out.splitlines() if one.strip().startswith("eigen")]
    assert line.split()[1:3] == ["-", "-"]
    assert "undefined" not in result.out
    assert "its sum says nothing about any" in result.out
    rows = read(tmp_path / "respondcam-compare" / "volumes.csv")
    assert {r["open"] for r in rows if r["method"] == "eigen"} == {"nan"}


def test_a_run_goes_on_where_it_stopped(call, folder, tmp_path) -> None:
    held = folder / "v2.mrc"
    whole = held.read_bytes()
    held.write_bytes(b"")
    first = call("--json")
    assert first.code == 2
    document = json.loads(first.out)
    assert (document["volumes"], document["resumed"], len(document["failed"])) == (2, 0, 1)
    held.write_bytes(whole)
    kept = tmp_path / "respondcam-compare" / "volumes" / "v0.json"
    before = kept.stat().st_mtime_ns
    second = json.loads(call("--json").out)
    assert (second["volumes"], second["resumed"], second["failed"]) == (3, 2, [])
    assert kept.stat().st_mtime_ns == before
    # at one go it is the same
    fresh = json.loads(call("--json", "--out", "other").out)
    assert fresh["compared"] == second["compared"]
    # another batch size is no other setting
    assert json.loads(call("--json", "--batch", 3).out)["resumed"] == 3


def test_another_setting_is_refused_with_the_difference(call) -> None:
    assert call().code == 0
    other = call("--steps", 4, "--fill", "zero")
    assert other.code == 2
    assert "settings.steps was 3, is 4" in other.err
    assert 'fill was "mean", is "zero"' in other.err
    anew = call("--steps", 4, "--overwrite", "--json")
    assert json.loads(anew.out)["resumed"] == 0


def test_a_volume_that_changed_is_measured_again(call, folder, make) -> None:
    assert call().code == 0
    make.mrc(folder / "v1.mrc", make.blob((8, 8, 8), seed=9))
    assert json.loads(call("--json").out)["resumed"] == 2


@pytest.mark.slow
def test_every_method_and_every_metric_by_name(call, folder) -> None:
    result = call("--method", "all", "--metric", "all", "--masks", "masks", "--json",
                  files=folder / "v0.mrc")  # fmt: skip
    assert result.code == 0, result.err
    document = json.loads(result.out)
    left_out = " ".join(n for notes in document["notes_on_volumes"].values() for n in notes)
    found = {row["method"] for row in document["compared"]}
    for name in METHODS:
        assert name in found or re.search(rf"\b{name}\b[^:]* left out: ", left_out)
    metrics = {row["metric"] for row in document["compared"]}
    assert {"road", "arcc", "se3d_box_acc", "randomised", "noise", "open"} <= metrics


def test_layers_side_by_side_and_xyz_turns_the_masks_too(call, make, tmp_path, folder) -> None:
    z, y, x = np.ogrid[:8, :8, :12]
    ball = ((z - 4) ** 2 + (y - 3) ** 2 + (x - 8) ** 2 < 6).astype(np.float32)
    for seed in range(3):
        make.mrc(folder / f"v{seed}.mrc", make.blob((8, 8, 12), seed=seed))
        make.mrc(tmp_path / "masks" / f"v{seed}_mask.mrc", ball)
    result = call("--layer", "first", "--layer", "second", "--axes", "xyz", "--masks", "masks",
                  "--metric", "location")  # fmt: skip
    assert result.code == 0, result.err
    rows = read(tmp_path / "respondcam-compare" / "compare.csv")
    assert {r["layer"] for r in rows} == {"first", "second", "-"}


def test_masks_that_do_not_fit(call, folder, make, tmp_path) -> None:
    masks = tmp_path / "masks"
    make.mrc(masks / "v0_mask.mrc", np.ones((8, 8, 9), np.float32))
    make.mrc(masks / "v1_mask.mrc", np.zeros((8, 8, 8), np.float32))
    with mrcfile.open(masks / "v2_mask.mrc", mode="r+") as file:
        file.header.origin = (90.0, 20.0, 30.0)
    result = call("--masks", "masks")
    assert result.code == 2
    for words in ("(8, 8, 9) voxels", "is empty", "lies elsewhere in the world"):
        assert words in result.err
    make.mrc(masks / "v1_mask.mrc", np.ones((8, 8, 8), np.float32))
    assert "covers the whole volume" in call("--masks", "masks").err
    make.mrc(masks / "v1_other.mrc", np.ones((8, 8, 8), np.float32))
    assert "several files could belong to 'v1.mrc'" in call("--masks", "masks").err
    (masks / "v1_other.mrc").unlink()
    for seed in range(3):
        (masks / f"v{seed}_mask.mrc").rename(masks / f"w{seed}.mrc")
    assert "none of its 3 files belongs to a volume" in call("--masks", "masks").err
    assert "no such file" in call("--masks", "nowhere").err


def test_a_volume_without_a_mask_is_compared_without_one(call, tmp_path) -> None:
    (tmp_path / "masks" / "v1_mask.mrc").unlink()
    result = call("--masks", "masks")
    assert result.code == 0, result.err
    assert "Note on v1.mrc: no mask has its name" in result.out
    rows = read(tmp_path / "respondcam-compare" / "volumes.csv")
    assert {r["volume"] for r in rows if not r["vxap"]} == {"v1"}


def test_background_is_left_alone(call, tmp_path, make) -> None:
    places = tmp_path / "outside"
    places.mkdir()
    outside = np.zeros((8, 8, 8), np.float32)
    outside[:, :, :2] = 1
    for seed in range(3):
        make.mrc(places / f"v{seed}.mrc", outside)
    result = call("--background", "outside", "--masks", "masks", "--json")
    assert result.code == 0, result.err
    other = json.loads(call("--masks", "masks", "--json", "--out", "b").out)
    assert json.loads(result.out)["compared"] != other["compared"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "magic"), "--method is 'magic'. Accepted: respond"),
        (("--metric", "beauty"), "--metric is 'beauty'. Accepted: account"),
        (("--metric", "boxes"), "give --masks"),
        (("--fill", "ones"), "--fill is 'ones'"),
        (("--steps", "0"), "must be at least 1"),
        (("--target", "all"), "looks at one for each volume"),
        (("--method-arg", "magic=1"), "no method that it is for has an option 'magic'"),
        (("--method-arg", "ablation.weights=drop"), "'ablation' is not compared"),
        (("--method-arg", "align=measured"), "an option by itself"),
        (("--method", "ablation", "--precision", "bf16"), "run in float32 only: ablation"),
        (("--precision", "fp8"), "--precision is 'fp8'. Accepted: fp32"),
    ],
)
def test_mistakes_are_worded(call, arguments, words) -> None:
    result = call(*arguments)
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err


def test_options_of_methods_and_likeness_of_classes_are_the_library_s(call, nets, tmp_path) -> None:
    asked = ("--method", "integrated-respond", "--method", "respond", "--target", 1,
             "--layer", "first", "--metric", "account", "--metric", "classes")  # fmt: skip
    given = ("--method-arg", "integrated-respond.nodes=2")
    result = call(*asked, *given, "--json")
    assert result.code == 0, result.err
    model, volume = load_model(f"{nets}:net").module, read_volume("volumes/v1.mrc")
    explainer = IntegratedRespondCAM(model, "first", nodes=2)
    every = explainer(volume, "all")
    rows = read(tmp_path / "respondcam-compare" / "volumes.csv")
    (row,) = [r for r in rows if (r["volume"], r["method"]) == ("v1", "integrated-respond")]
    likeness = class_sensitivity(every.maps, every.targets).mean
    assert float(row["classes"]) == pytest.approx(likeness, abs=1e-5)
    open_ = float(explainer(volume, 1).account.relative_gap)
    assert float(row["open"]) == pytest.approx(open_, abs=1e-6)
    other = call(*asked, "--json")
    assert other.code == 2
    assert "method_arguments was" in other.err


def test_what_has_no_figure_is_said_in_words(call, nets, tmp_path) -> None:
    (tmp_path / "odd.py").write_text(
        "from nets import *\n"
        "class Odd(nn.Module):\n"
        "    def __init__(self, flat):\n"
        "        super().__init__()\n"
        "        self.net, self.flat = net(), flat\n"
        "        if flat:\n"
        "            self.net.second[0].weight.data.zero_()\n"
        "    def forward(self, x):\n"
        "        return self.net(x) if self.flat else self.net(x) * float('nan')\n"
        "def flat(): return Odd(True)\n"
        "def nan(): return Odd(False)\n"
    )
    bad = call("--model", "odd.py:nan", "--layer", "net.second")
    assert bad.code == 2
    assert "NaN" in bad.err
    assert "Traceback" not in bad.err
    same = call("--model", "odd.py:flat", "--layer", "net.second", "--metric", "classes",
                "--metric", "location", "--masks", "masks", "--out", "b")  # fmt: skip
    assert same.code == 0, same.err
    assert "likeness of classes is undefined" in same.out
    assert "3 values are too few for an interval" in same.out


def test_networks_that_bring_their_own_preprocessing_are_refused(call, monkeypatch) -> None:
    plain = _comparing.open_model

    def prepared(*given, **options):
        loaded, notes = plain(*given, **options)
        object.__setattr__(loaded, "preparation", object())  # any one; none of it is run
        return loaded, notes

    monkeypatch.setattr(_comparing, "open_model", prepared)
    result = call()
    assert result.code == 2, result.err
    assert "--model-arg preprocess=false" in result.err


def test_layers_are_for_the_methods_that_have_one(call, tmp_path) -> None:
    """``--method all --layer X``: what explains the input does so once, beside the others."""
    methods = ("--method", "respond", "--method", "occlusion", "--metric", "account")
    result = call("--layer", "first", "--layer", "second", *methods)
    assert result.code == 0, result.err
    rows = read(tmp_path / "respondcam-compare" / "volumes.csv")
    places = {(row["method"], row["layer"]) for row in rows if row["method"] in METHODS}
    assert places == {("respond", "first"), ("respond", "second"), ("occlusion", "input")}
    alone = call("--layer", "first", "--method", "occlusion", "--out", "other")
    assert alone.code == 2
    assert "explains the input" in alone.err


def test_a_log_says_how_far_a_long_comparison_is_and_nothing_of_a_short_one(call, monkeypatch):
    arguments = ("--method", "grad", "--method", "respond", "--target", 0)
    assert "done, now" not in call(*arguments).err
    monkeypatch.setattr(_batch, "SECONDS_BETWEEN_LINES", 0.0)
    lines = [
        line for line in call(*arguments, "--out", "again").err.splitlines() if "done, now" in line
    ]
    assert [line.split(maxsplit=1)[1] for line in lines[:3]] == [
        "0 of 3 done, now v0.mrc",
        "0 of 3 done, now v0.mrc: grad",
        "0 of 3 done, now v0.mrc: respond",
    ]
    assert lines[-1].endswith("2 of 3 done, now v2.mrc: channel-sum")
    assert all(line[2] == line[5] == ":" for line in lines)  # the time of day


def test_what_holds_for_several_methods_is_said_once(call):
    result = call("--classes", "a,b", "--method", "grad", "--method", "respond")
    assert result.code == 2
    assert "No method could be measured: grad, respond, channel-sum are left out" in result.err
    assert result.err.count("gives 3 scores") == 1

"""``respondcam explain --window`` from a file to a store."""

import importlib.util
import json

import mrcfile
import numpy as np
import pytest
import zarr

import respondcam as rc
from respondcam.cli import _large

ENDS = ("0,2.ome.zarr", "0,2.run", *(f"0,2.class-{n}.mrc" for n in (0, 2)))
SECTIONS = [f"class-{n}.section.png" for n in (0, 2)]


@pytest.fixture
def base(nets, mrc):
    return ("explain", mrc, "--model", f"{nets}:net", "--layer", "second", "--window", "6")


def test_one_volume(cli, base, tmp_path):
    result = cli(*base, "--target", "0,2", "--stitch", "sum", "--export", "mrc", "--json")
    assert result.code == 0, result.err
    (one,) = json.loads(result.out)["volumes"]
    assert one["labels"] == ["class 0", "class 2"]
    store = zarr.open_group(one["store"], mode="r")
    total = store["0"][...].sum(axis=(1, 2, 3), dtype=np.float64)
    scores = store["windows/scores/0"][...]
    assert [score for score, _ in one["highest"]] == pytest.approx(scores.max(axis=(1, 2, 3)))
    place = np.unravel_index(scores[1].argmax(), scores[1].shape)
    starts = ((0, 2), (0, 3, 4), (0, 3, 6))  # of windows of 6 voxels, half a window apart
    middle = [axis[k] + 3 for axis, k in zip(starts, place, strict=True)]
    assert one["highest"][1][1] == middle
    np.testing.assert_allclose(total, store["windows/mapped/0"][...].sum(axis=(1, 2, 3)), rtol=1e-5)
    names = {path.name for path in (tmp_path / "respondcam-maps").iterdir()}
    assert names == {f"ribo.respond.second.{end}" for end in (*ENDS, *SECTIONS)}
    with mrcfile.open(tmp_path / "respondcam-maps/ribo.respond.second.0,2.class-2.mrc") as map:
        assert bytes(map.header.label[0]).endswith(b": respond, layer second, class 2")
    again = cli(*base, "--target", "0,2", "--stitch", "sum")
    assert "0 explained now" in again.out
    assert "\n  respondcam-maps/ribo.respond.second.class-0.section.png\n" in again.out
    assert "everything is there already" in again.err
    other = cli(*base, "--target", "0,2", "--overlap", "0.25")
    assert other.code == 2
    changes = '--overlap was 0.5, is 0.25; --stitch was "sum", is "mean"'
    assert f"begun by another run: {changes}. Give" in other.err
    assert "--overwrite" in other.err


def test_the_store_can_be_explained_itself(cli, base, nets, tmp_path):
    assert cli(*base, "--target", "1").code == 0
    store = tmp_path / "respondcam-maps/ribo.respond.second.1.ome.zarr"
    for more in ((), ("--window", "8,8,8")):
        result = cli("explain", store, "--model", f"{nets}:net", "--out", "second", *more)
        assert result.code == 0, result.err


def test_a_dry_run_writes_nothing(cli, base, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = cli(*base, "--dry-run")
    assert result.code == 0, result.err
    assert sorted(tmp_path.rglob("*")) == before
    for word in ("18 windows", "1 tile, ", "1 chunk, ", "windows/s", "memory", "output"):
        assert word in result.out, result.out
    document = json.loads(cli(*base, "--dry-run", "--json").out)
    assert document["estimates"][0]["windows"] == 18


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--window", "9"), "larger than 'ribo.mrc', which has 8 x 10 x 12 voxels"),
        (("--window", "0"), "Accepted: voxels of a cube such as 40"),
        (("--window", "4,4"), "Accepted: voxels of a cube such as 40"),
        (("--overlap", "1"), "a share from 0"),
        (("--stitch", "median"), "Accepted: mean, sum"),
        (("--target", "mask:m.nii.gz@1"), "a mask of the whole volume"),
        (("--target", "9"), "out of range"),
        (("--layer", "first"), "Give --layer once"),
        (("--batch", "0"), "--batch is 0. Accepted: numbers from 1 on"),
        (("--threads", "0"), "--threads is 0. Accepted: numbers from 1 on"),
        (("--export", "tiff"), "Accepted: mrc, nii.gz"),
        (("--export", "mrc", "--export", "tiff"), "Accepted: mrc, nii.gz"),
        (("--align", "measured"), "Use --align layout"),
        (("--workers", "2", "--scheduler", "tcp://x:1"), "Give one of them"),
    ],
)
def test_what_cannot_be_done_is_one_message(cli, base, tmp_path, options, words):
    before = sorted(tmp_path.rglob("*"))
    result = cli(*base, *options)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("respondcam:") == 1
    assert "each window explains" not in result.out  # nothing was explained
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["4,5,6", "4x5x6", "4, 5, 6"])
def test_both_ways_to_write_three_numbers(cli, base, text):
    result = cli(*base[:-1], text, "--dry-run")
    assert "36 windows" in result.out, result.err


def test_a_missing_extra_is_said_before_anything_else(cli, base, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "zarr" else find(name)
    )
    result = cli(*base[:-1], "99")
    assert result.code == 2
    assert "pip install 'respondcam[large]'" in result.err


def test_the_speed_is_told_once(cli, base):
    result = cli(*base, "--target", "1")
    assert result.out.count("windows/s") == 1
    assert result.err.count("windows/s") == 0
    assert "18 of 18 windows" in result.err


def test_a_network_that_rejects_the_window(cli, nets, mrc):
    result = cli("explain", mrc, "--model", f"{nets}:Dense", "--layer", "conv", "--window", "6")
    assert result.code == 2
    assert "does not run on the input (1, 1, 6, 6, 6)" in result.err


def test_options_that_go_with_a_window(cli, nets, mrc):
    for option in (("--overlap", "0.5"), ("--dry-run",), ("--verify",)):
        result = cli("explain", mrc, "--model", f"{nets}:net", *option)
        assert result.code == 2
        assert "goes with --window" in result.err


def test_one_bad_volume_does_not_stop_the_others(cli, base, tmp_path, mrc):
    (tmp_path / "bad.mrc").write_bytes(mrc.read_bytes()[:1500])
    result = cli(*base, tmp_path / "bad.mrc", "--target", "0")
    assert result.code == 2
    assert "truncated" in result.err
    assert (tmp_path / "respondcam-maps/ribo.respond.second.0.ome.zarr").exists()


def test_windows_that_predict_different_classes_are_mentioned(cli, base):
    assert "--target names one" in cli(*base).out
    assert "--target names one" not in cli(*base, "--target", "1", "--out", "one").out


def test_the_class_of_the_highest_score_is_named(cli, base):
    names = ("--classes", "liver,spleen,lesion")
    (one,) = json.loads(cli(*base, *names, "--json").out)["volumes"]
    scores = zarr.open_group(one["store"], mode="r")
    place = scores["windows/scores/0"][...].argmax()
    which = ("liver", "spleen", "lesion")[scores["windows/class/0"][...].flat[place]]
    assert one["highest_class"] == [which]
    again = cli(*base, *names)
    assert f"predicted: highest score {one['highest'][0][0]:.4g} of {which}, in the" in again.out
    named = cli(*base, "--target", "1", "--out", "one")
    assert "class 1: highest score" in named.out
    assert " of class" not in named.out


def test_of_many_classes_those_with_the_highest_scores_are_told(cli, base, tmp_path):
    result = cli(*base, "--target", "all", "--model-arg", "classes=9", "--json")
    assert result.code == 0, result.err
    (one,) = json.loads(result.out)["volumes"]
    best = sorted(range(9), key=lambda k: -one["highest"][k][0])
    again = cli(*base, "--target", "all", "--model-arg", "classes=9")
    told = [line.split(":")[0].strip() for line in again.out.splitlines() if ": highest" in line]
    assert told == [f"class {k}" for k in best[:6]]
    assert "\n  and 3 more classes with lower scores, in the OME-Zarr\n" in again.out
    drawn = {path.name.split(".")[-3] for path in tmp_path.glob("respondcam-maps/*.section.png")}
    assert drawn == {f"class-{k}" for k in best[:6]}


def test_all_formats_that_are_named_are_exported(cli, base, tmp_path):
    result = cli(*base, "--target", "1", "--export", "nii.gz", "--export", "mrc")
    assert result.code == 0, result.err
    stem = tmp_path / "respondcam-maps/ribo.respond.second.1"
    with mrcfile.open(f"{stem}.mrc") as map:
        np.testing.assert_array_equal(map.data, rc.read_volume(f"{stem}.nii.gz").voxels)


def test_what_was_verified_is_said(cli, base, tmp_path):
    assert "read back" not in cli(*base, "--target", "1").err
    whole = cli(*base, "--target", "1", "--verify")
    assert "what is there was read back, and nothing of it is damaged" in whole.err
    (chunk,) = tmp_path.glob("respondcam-maps/*.ome.zarr/0/c/0/0/0/0")
    chunk.write_bytes(chunk.read_bytes()[:-3])
    damaged = cli(*base, "--target", "1", "--verify")
    assert "is damaged and done again" in damaged.err
    assert "nothing of it is damaged" not in damaged.err


def test_networks_that_bring_their_own_preprocessing_are_refused(cli, base, tmp_path, monkeypatch):
    """Else windows of the scan as it is would be explained, which the network never saw."""
    plain = _large.open_model

    def prepared(*given, **options):
        loaded, notes = plain(*given, **options)
        object.__setattr__(loaded, "preparation", object())  # any one; none of it is run
        return loaded, notes

    monkeypatch.setattr(_large, "open_model", prepared)
    before = sorted(tmp_path.rglob("*"))
    for more in ((), ("--dry-run",)):
        result = cli(*base, *more)
        assert result.code == 2
        assert "own preprocessing, which --window does not run. Switch it off with" in result.err
        assert "--model-arg preprocess=false" in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_run_keeps_its_gap(cli, base):
    first = cli(*base, "--target", "0,2")
    assert first.code == 0, first.err
    again = cli(*base, "--target", "0,2", "--export", "mrc")
    assert again.code == 0, again.err
    assert "0 explained now; mean gap of their accounts 0 %" in again.out
    assert "; mean gap of their accounts 0 %" in first.out


def test_typed_names_of_classes_are_the_channels(cli, base):
    result = cli(*base, "--target", "0,c", "--classes", "a,b,c", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["volumes"][0]["labels"] == ["a", "c"]


def test_a_wrong_number_of_typed_names_ends_a_run_before_it_begins(cli, base, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = cli(*base, "--classes", "a,b")
    assert result.code == 2
    assert "there are 2 names of classes (a, b), but the network gives 3 scores" in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_windows_are_doubted_as_whole_volumes_are(cli, nets, tmp_path, make):
    """Raw intensities, a layer of a few voxels, and why it was chosen."""
    make.mrc(tmp_path / "loud.mrc", 1000 * make.blob((8, 10, 12)))
    words = ("explain", "loud.mrc", "--model", f"{nets}:net", "--window", "6", "--target", "0")
    said = cli(*words).out
    assert "layer second was chosen: " in said
    assert (
        "layer second has only 3 x 3 x 3 voxels for each window: its map tells one side of the "
        "window from the other" in said
    )
    assert " (in the window in the middle) went in as they are; give --normalize" in said
    (one,) = json.loads(cli(*words, "--json").out)["volumes"]
    assert any("; give --normalize" in note for note in one["notes"])
    flat = np.zeros((8, 10, 12), np.float32)
    make.mrc(tmp_path / "flat.mrc", flat)
    nothing = cli("explain", "flat.mrc", *words[2:], "--normalize", "zscore")
    assert "the window in the middle is constant" in nothing.out


def test_windows_of_one_name_are_told_apart(cli, base, tmp_path, mrc):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mrc").write_bytes(mrc.read_bytes())
    result = cli("explain", "one/a.mrc", "two/a.mrc", *base[2:], "--target", "1")
    assert result.code == 0, result.err
    assert "one/a.mrc: 18 windows" in result.out


def test_an_estimate_counts_the_chunks_that_the_run_counts(cli, base):
    """Also where coarser levels are written behind them."""
    estimated = cli(*base, "--dry-run", "--target", "1").out
    ran = cli(*base, "--target", "1").err
    assert "1 chunk, 1 target" in estimated
    assert "MiB\n" in estimated.split("output ")[1]
    assert "0 MiB" not in estimated.split("output ")[1].split("MiB", 1)[1]
    assert "1 of 1 chunks" in ran


def test_a_section_of_the_map_is_drawn_over_the_volume(cli, base, tmp_path, monkeypatch):
    """In the place of the map's highest value; packed input is still there then."""
    from respondcam.cli import _large_figures

    drawn = []
    montage = _large_figures.slice_montage

    def watched(volume, map, **options):
        drawn.append((volume, map, options["first"]))
        return montage(volume, map, **options)

    monkeypatch.setattr(_large_figures, "slice_montage", watched)
    packed = tmp_path / "ribo.nii.gz"
    given = rc.read_volume(base[1])
    rc.write_volume(packed, rc.Volume(given.voxels, given.affine, "mm"))
    result = cli("explain", packed, *base[2:], "--target", "1", "--out", tmp_path / "packed")
    assert result.code == 0, result.err
    (picture,) = (tmp_path / "packed").glob("*.section.png")
    assert str(picture) in result.out.replace("\n", "")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    ((below, over, first),) = drawn
    (store,) = (tmp_path / "packed").glob("*.ome.zarr")
    values = zarr.open_group(store, mode="r")["0"][0]
    z = int(values.max(axis=(1, 2)).argmax())
    assert first == z  # the picture calls it so
    np.testing.assert_array_equal(over.voxels[0], values[z])
    np.testing.assert_allclose(below.voxels.reshape(over.shape)[0], given.voxels[z])
    for section in (below, over):
        np.testing.assert_allclose(section.world((0, 0, 0)), given.world((z, 0, 0)))

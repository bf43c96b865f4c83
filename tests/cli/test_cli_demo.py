"""``respondcam demo``: the scene, its maps, and the words; with real densities too."""

import json

import mrcfile
import numpy as np
import pytest

from respondcam.cryoet.demo import demo_scene


def test_two_complexes_each_with_its_own_map(cli, tmp_path):
    result = cli("demo")
    assert result.code == 0, result.err
    out = tmp_path / "respondcam-demo"
    scene = demo_scene(0)
    with mrcfile.open(out / "phantoms-0.mrc") as file:
        np.testing.assert_allclose(file.data, scene.volume.voxels, rtol=1e-6)
    for name in scene.classes:
        stem = f"phantoms-0.respond.conv5.{name}"
        for end in ("png", "json", "input.mrc", "layer.mrc"):
            assert (out / f"{stem}.{end}").is_file()
        record = json.loads((out / f"{stem}.json").read_text("utf-8"))
        assert record["account"]["relative_gap"] < 1e-4
        assert record["target"]["name"].removesuffix(" (predicted)") == name
        assert f"{stem}.png" in result.out
    assert "respondcam explain" in result.out


@pytest.mark.slow
def test_the_command_that_it_prints_gives_the_same_maps(cli, tmp_path):
    text = cli("demo", "--seed", "1").out
    (line,) = [line for line in text.splitlines() if line.startswith("  respondcam explain")]
    again = cli(*line.split()[1:])
    assert again.code == 0, again.err
    maps = sorted((tmp_path / "respondcam-demo").glob("*.input.mrc"))
    assert len(maps) == 2
    for path in maps:
        with (
            mrcfile.open(path) as one,
            mrcfile.open(tmp_path / "respondcam-maps" / path.name) as other,
        ):
            np.testing.assert_array_equal(one.data, other.data)


def test_densities_of_a_folder(cli, tmp_path, make):
    densities = tmp_path / "densities"
    densities.mkdir()
    ball = np.linalg.norm(np.indices((12, 14, 16)) - 6.0, axis=0) < 4
    make.mrc(densities / "ball.mrc", ball.astype(np.float32), voxel_size=60.0)
    make.mrc(densities / "fine.mrc", ball.astype(np.float32), voxel_size=4.0)
    make.mrc(densities / "empty.mrc", np.zeros((9, 9, 9), np.float32))
    result = cli("demo", "--data", densities, "--json")
    assert result.code == 2
    assert "empty.mrc" in result.err
    assert "no density above" in result.err
    documents = json.loads(result.out)["maps"]
    sides = {one["input"]["path"].split("/")[-1]: one["input"]["shape_zyx"][0] for one in documents}
    assert sides["fine-0.mrc"] == 40
    assert sides["ball-0.mrc"] > 48, "a box for a particle that is larger than the demo's own"
    assert not list((tmp_path / "respondcam-demo").glob("empty*"))


@pytest.mark.slow
def test_real_densities(cli, shared_data, tmp_path):
    """A small, a middle and a large one."""
    (tmp_path / "real").mkdir()
    for name in ("1s3x.mrc", "4cr2.mrc", "5mrc.mrc"):
        (tmp_path / "real" / name).symlink_to(shared_data / "densities" / name)
    result = cli("demo", "--data", tmp_path / "real", "--json")
    assert result.code == 0, result.err
    maps = json.loads(result.out)["maps"]
    assert len(maps) == 3
    assert max(one["account"]["relative_gap"] for one in maps) < 1e-4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data", "nowhere"), "--data 'nowhere' is no folder"),
        (("--out", "file"), "--out 'file' cannot be written"),
        (("--device", "tpu"), "--device is 'tpu'"),
    ],
)
def test_bad_input(cli, tmp_path, options, words):
    (tmp_path / "file").write_text("in the way")
    result = cli("demo", *options)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("respondcam:") == 1

"""``respondcam simulate``: files and list, continued and refused runs, bad input as one message."""

import json

import numpy as np
import pytest

from respondcam.cryoet.particles_star import read_particles
from respondcam.cryoet.phantoms import phantom
from respondcam.volume import read_volume, write_volume

pytest.importorskip("starfile")

SMALL = ("simulate", "--data", "groel", "--data", "p97", "--size", 24, "--per-class", 2)


def test_files_and_list(cli, tmp_path):
    result = cli(*SMALL, "--snr", "inf", "--out", "made", "--voxel-size", 12, "--masks")
    assert result.code == 0, result.err
    assert "4 subtomograms with 4 particles of 2 classes" in result.out
    listed = read_particles(tmp_path / "made" / "particles.star")
    assert listed.voxel_size_angstrom == 12
    assert sorted(set(listed.classes)) == ["groel", "p97"]
    for file in listed.files:
        volume = read_volume(tmp_path / "made" / file)
        assert volume.voxel_size == (12.0, 12.0, 12.0)
        np.testing.assert_array_equal(volume.affine[:3, 3], 0)


def test_json_and_continuing(cli):
    first = json.loads(cli(*SMALL, "--json").out)
    assert (first["images"], first["made"]) == (4, 4)
    assert first["classes"] == ["groel", "p97"]
    again = json.loads(cli(*SMALL, "--json").out)
    assert (again["images"], again["made"]) == (4, 0)
    other = cli(*SMALL, "--seed", 7)
    assert other.code == 2
    assert "holds another simulation (simulation.seed is 0 there and 7 now)" in other.err


def test_densities_in_a_folder(cli, tmp_path):
    (tmp_path / "kinds").mkdir()
    for name in ("groel", "p97"):
        write_volume(tmp_path / "kinds" / f"my-{name}.mrc", phantom(name, size=24))
    result = cli(
        *("simulate", "--data", "kinds", "--classes", "my-p97", "--size", 24),
        *("--per-class", 1, "--json"),
    )
    assert json.loads(result.out)["classes"] == ["my-p97"]


def test_tomogram(cli, tmp_path):
    result = cli(*SMALL, "--tomogram", "24x60x60", "--particles", 3, "--out", "t")
    assert result.code == 0, result.err
    assert "1 tomogram with 3 particles of 2 classes" in result.out
    assert read_volume(tmp_path / "t" / "tomograms" / "tomogram-0000.mrc").shape == (24, 60, 60)
    assert read_particles(tmp_path / "t" / "particles.star").positions.shape == (3, 3)


def test_projection_route(cli, tmp_path):
    pytest.importorskip("torch_fourier_slice")
    pytest.importorskip("torch_ctf")
    result = cli(*SMALL, "--route", "projection", "--tilt-step", 15, "--out", "p", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["made"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--snr", "loud"), "--snr is 'loud'"),
        (("--snr", "-1"), "--snr is '-1'"),
        (("--tilt-range", "60"), "--tilt-range is '60'"),
        (("--tilt-range", "-100,100"), "between -90 and 90"),
        (("--tilt-step", "3"), "--tilt-step belongs to --route projection"),
        (("--route", "real"), "--route is 'real'. Accepted: fourier, projection."),
        (("--route", "projection", "--tilt-step", "7"), "does not divide the range"),
        (("--resolution", "fine"), "--resolution is 'fine'"),
        (("--resolution", "5"), "finer than voxels"),
        (("--tomogram", "60x60"), "--tomogram is '60x60'"),
        (("--tomogram", "8x60x60"), "too thin"),
        (("--size", "12"), "box"),
        (("--classes", "ribozyme"), "There is no density 'ribozyme'. There are: groel, p97"),
        (("--classes", ","), "--classes names no class"),
        (("--data", "nothing-like-it"), "no file or folder"),
        (("--particles", "40"), "find no place"),
        (("--device", "tpu"), "--device is 'tpu'"),
        (("--voxel-size", "0"), "must be positive"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(cli, tmp_path, options, message):
    result = cli(*SMALL, *options, "--out", "made")
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "made").exists()

"""Folders of both frameworks on the command line, from an oblique scan to files in its space."""

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from typer.testing import CliRunner

from respondcam.cli import app

pytest.importorskip("nnunetv2")
pytest.importorskip("monai")


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments: object):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(params=["nnunet", "monai"])
def model(request, nnunet_folder, bundle) -> list[str]:
    if request.param == "nnunet":
        return ["--model", f"nnunet:{nnunet_folder()}"]
    return ["--model", f"monai:{bundle()}", "--trust"]


def record(folder: Path) -> dict:
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text("utf-8"))


def test_18_maps_are_floats_with_the_scans_affine(cli, model, scan, tmp_path):
    result = cli(
        "explain",
        scan,
        *model,
        "--target",
        "component:largest@1",
        "--keep",
        "sum",
        "--device",
        "cpu",
    )
    assert result.exit_code == 0, result.output
    assert "prepared as" in result.output
    out = tmp_path / "respondcam-maps"
    (placed,), (raw,) = out.glob("*.input.nii.gz"), out.glob("*.layer.nii.gz")
    source, found = nibabel.load(scan), nibabel.load(placed)
    assert found.shape == source.shape
    assert found.get_data_dtype() == np.float32
    assert np.allclose(found.affine, source.affine, atol=1e-6)
    values = found.get_fdata()
    mapped = record(out)["account"]["mapped"]
    assert abs(values.sum() - mapped) < 1e-5 * np.abs(values).sum()
    itk, original = SimpleITK.ReadImage(str(placed)), SimpleITK.ReadImage(str(scan))
    assert np.allclose(itk.GetDirection(), original.GetDirection(), atol=1e-6)
    assert np.allclose(itk.GetOrigin(), original.GetOrigin(), atol=1e-4)
    (figure,) = out.glob("*.png")
    Image.open(figure).verify()
    # the raw map covers the part that the network saw, in the same world
    layer = nibabel.load(raw)
    corners = nibabel.affines.apply_affine(layer.affine, [(0, 0, 0), np.array(layer.shape) - 1])
    inside = nibabel.affines.apply_affine(np.linalg.inv(source.affine), corners)
    assert (inside > -12).all()
    assert (inside < np.array(source.shape) + 12).all()


@pytest.mark.slow
def test_places_are_given_in_the_scans_voxels(cli, model, scan, tmp_path):
    source = nibabel.load(scan)
    x, y, z = np.indices(source.shape)
    where = (x >= 12) & (x < 18) & (y >= 7) & (y < 12) & (z >= 4) & (z < 8)
    nibabel.save(nibabel.Nifti1Image(where.astype(np.uint8), source.affine), tmp_path / "m.nii.gz")
    scores = {}
    for name, target in {
        "mask": "mask:m.nii.gz@2",
        "box": "box:4,7,12-8,12,18@2",
        "voxel": "voxel:6,9,16@2",
    }.items():
        out = tmp_path / name
        result = cli("explain", scan, *model, "--target", target, "--out", out, "--layer", "input")
        assert result.exit_code == 0, result.output
        scores[name] = record(out)["account"]["score"]
    assert scores["mask"] == pytest.approx(scores["box"], rel=1e-5)
    assert scores["voxel"] != scores["box"]
    assert record(tmp_path / "voxel")["target"]["name"] in (
        "lesion at 6, 9, 16",
        "liver at 6, 9, 16",
    )
    for target in ("voxel:60,0,0@1", "box:0,0,0-3,0,3@1"):
        result = cli("explain", scan, *model, "--target", target)
        assert result.exit_code == 2
        assert "not inside the volume's (12, 22, 26) voxels" in result.output


@pytest.mark.slow
def test_audit_and_layers(cli, model, scan):
    result = cli("audit", scan, *model, "--method", "hires", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["volumes"]
    assert row["score"] == pytest.approx(row["baseline"] + row["mapped"] + row["gap"], rel=1e-6)
    result = cli("layers", *model, "--input", scan)
    assert result.exit_code == 0, result.output
    assert "Chosen when no layer is named" in result.output
    assert "prepared as" in result.output


@pytest.mark.slow
def test_preprocessing_can_be_switched_off(cli, nnunet_folder, scan, tmp_path):
    model = ["--model", f"nnunet:{nnunet_folder()}"]
    arguments = ["--model-arg", "preprocess=false", "--normalize", "zscore"]
    result = cli("explain", scan, *model, *arguments, "--target", "1")
    assert result.exit_code == 2  # 22 and 26 voxels do not fit the strides: the network says so
    nifti = nibabel.load(scan)
    fitting = nibabel.Nifti1Image(nifti.get_fdata()[:24, :20, :12], nifti.affine)
    nibabel.save(fitting, tmp_path / "fits.nii.gz")
    result = cli("explain", "fits.nii.gz", *model, *arguments, "--target", "1")
    assert result.exit_code == 0, result.output
    assert "prepared as" not in result.output


def test_channels_in_files_of_their_own(cli, nnunet_folder, scan, tmp_path):
    model = ["--model", f"nnunet:{nnunet_folder(channels=2)}", "--target", "voxel:6,9,16@1"]
    image = nibabel.load(scan)
    for number, values in enumerate((image.get_fdata(), image.get_fdata() ** 2)):
        one = nibabel.Nifti1Image(values.astype(np.float32), image.affine)
        nibabel.save(one, tmp_path / f"case_000{number}.nii.gz")
    result = cli("explain", "case_0000.nii.gz", "case_0001.nii.gz", *model)
    assert result.exit_code == 0, result.output
    (figure,) = (tmp_path / "respondcam-maps").glob("*.png")
    assert figure.name.startswith("case_0000")
    (tmp_path / "case_0001.nii.gz").unlink()
    result = cli("explain", "case_0000.nii.gz", *model, "--out", "other")
    assert result.exit_code == 2
    assert re.search(r"takes 2 channel\(s\) .*has 1.*NAME_0000 beside NAME_0001", result.output)


@pytest.mark.parametrize("option", [["--normalize", "zscore"], ["--axes", "xyz"]])
def test_options_that_the_folder_decides_are_refused(cli, model, scan, option):
    result = cli("explain", scan, *model, *option)
    assert result.exit_code == 2
    assert "comes with its own preprocessing" in result.output
    assert "preprocess=false" in result.output


def test_windows_of_a_scan_that_was_not_prepared_are_refused(cli, model, scan, tmp_path):
    result = cli("explain", scan, *model, "--target", "1", "--window", "8")
    assert result.exit_code == 2
    assert "comes with its own preprocessing, which --window does not run" in result.output
    assert not (tmp_path / "respondcam-maps").exists()


@pytest.mark.parametrize("spec", ["nnunet:nowhere", "monai:nowhere"])
def test_folders_that_are_not_there(cli, scan, spec):
    result = cli("explain", scan, "--model", spec)
    assert result.exit_code == 2
    assert "'nowhere' does not exist" in result.output
    assert "Traceback" not in result.output

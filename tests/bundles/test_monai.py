"""MONAI bundles: the same prediction as the bundle's own inferer, and maps in place."""

import contextlib
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import respondcam as rc
from respondcam.attribution.prepared import blended_scores, explain_prepared
from respondcam.errors import InputError, ModelError
from respondcam.network.sources import load_model

pytest.importorskip("monai")

SLICES = {
    "_target_": "SliceInferer",
    "roi_size": [16, 16],
    "spatial_dim": 2,
    "sw_batch_size": 2,
    "overlap": 0.25,
}
SIMPLE = {"_target_": "SimpleInferer"}
PAD = {"_target_": "DivisiblePadd", "keys": "@image_key", "k": 4}


def theirs(bundle: Path, scan: Path, network: torch.nn.Module):
    """The bundle's own preprocessing and inferer on the file itself."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.json"))
        parser["bundle_root"] = str(bundle)
        image = parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"]
        with torch.no_grad():
            return image, parser.get_parsed_content("inferer")(image[None], network)


@pytest.mark.parametrize("case", ["windows", "whole", "slices", "reflected"])
def test_the_scores_are_those_of_the_bundles_own_inferer(case, bundle, scan):
    options = {
        "windows": {},
        "whole": {"inferer": SIMPLE, "extra": [PAD]},
        "slices": {"inferer": SLICES, "flat": True},
        "reflected": {"windows": {"padding_mode": "reflect", "mode": "constant", "overlap": 0.25}},
    }[case]
    folder = bundle(**options)
    loaded = load_model(f"monai:{folder}", trust=True)
    assert loaded.class_names == ("background", "spleen", "liver")
    seen = loaded.preparation.prepare(rc.read_volume(scan))
    image, expected = theirs(folder, scan, loaded.module)
    assert np.array_equal(seen.grid.voxels, image.numpy())
    assert np.allclose(seen.grid.affine[:, [2, 1, 0, 3]], image.affine.numpy())
    ours = blended_scores([rc.RespondCAM(loaded.module)], seen)[(..., *seen.inside)]
    assert torch.allclose(ours, expected.as_tensor(), atol=1e-5)


def centroid(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = np.indices(voxels.shape)[::-1].reshape(3, -1)
    return affine[:3, :3] @ (index * voxels.ravel()).sum(1) / voxels.sum() + affine[:3, 3]


SPATIAL = {
    "Orientationd": {"axcodes": "PLI", "labels": None},
    "Spacingd": {"pixdim": [1.1, 0.9, 1.7]},
    "Spacingd to the world's axes": {"pixdim": [1.0, 1.0, 1.0], "diagonal": True},
    "Resized": {"spatial_size": [20, 30, 17]},
    "CropForegroundd": {"source_key": "@image_key", "margin": 1},
    "SpatialPadd": {"spatial_size": [32, 32, 32]},
    "CenterSpatialCropd": {"roi_size": [24, 18, 12]},
    "Rotate90d": {"k": 1},
    "Flipd": {"spatial_axis": 1},
    "Zoomd": {"zoom": 1.3, "keep_size": False},
}


@pytest.mark.parametrize("name", SPATIAL)
def test_17_each_spatial_transform_is_undone(name, bundle, scan):
    kind = name.split()[0]
    step = {"_target_": kind, "keys": "@image_key", **SPATIAL[name]}
    loaded = load_model(f"monai:{bundle(only=[step])}", trust=True)
    original = rc.read_volume(scan)
    seen = loaded.preparation.prepare(original)
    bright = np.where(seen.grid.voxels[0] > 2.6, 1.0, 0.0)
    placed = seen.inverse(rc.Volume(bright, seen.grid.affine, "mm"))
    centre = original.world((6, 9, 16))
    assert placed.shape == original.shape
    assert placed.voxels.sum() == pytest.approx(bright.sum(), rel=1e-5)
    assert np.linalg.norm(centroid(placed.voxels, original.affine) - centre) < 0.6


def test_explained_in_the_scans_space(bundle, scan):
    loaded = load_model(f"monai:{bundle()}", trust=True)
    original = rc.read_volume(scan)
    seen = loaded.preparation.prepare(original)
    found = explain_prepared(rc.HiResCAM(loaded.module), seen, rc.targets.voxel([5, 9, 9], 1))
    written = found.volume()
    assert written.shape == original.shape
    assert np.array_equal(written.affine, original.affine)
    size = float(np.abs(written.voxels).sum())
    assert size > 0
    assert abs(written.voxels.sum() - float(found.account.mapped)) < 1e-5 * size


def test_a_bundle_is_refused_until_it_is_trusted(bundle, tmp_path):
    folder = bundle(entries={"imports": [f"$open({str(tmp_path / 'ran')!r}, 'w').close()"]})
    with pytest.raises(ModelError, match=r"_target_.*expressions.*any code.*--trust"):
        load_model(f"monai:{folder}")
    assert not (tmp_path / "ran").exists()


def test_weights_from_a_torchscript_program(bundle, tmp_path):
    folder = Path(shutil.copytree(bundle(), tmp_path / "copy"))
    expected = load_model(f"monai:{folder}", trust=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(expected.module, torch.zeros(1, 1, 16, 16, 16))
        program.save(str(folder / "models" / "model.ts"))
    (folder / "models" / "model.pt").unlink()
    loaded = load_model(f"monai:{folder}", trust=True)
    for name, value in loaded.module.state_dict().items():
        assert torch.equal(value, expected.module.state_dict()[name])
    (folder / "models" / "model.ts").write_text("no program")
    with pytest.raises(ModelError, match="no TorchScript program"):
        load_model(f"monai:{folder}", trust=True)


def test_a_configuration_in_yaml_with_modules_of_its_own(bundle, tmp_path):
    folder = Path(shutil.copytree(bundle(), tmp_path / "copy"))
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").touch()
    (folder / "scripts" / "nets_of_this_bundle.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self):\n        super().__init__(nn.Conv3d(1, 2, 3), nn.ReLU())\n"
    )
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text(
        "network_def:\n  _target_: scripts.nets_of_this_bundle.Net\n"
    )
    torch.save(torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3)).state_dict(), folder / "models/w.pt")
    loaded = load_model(f"monai:{folder}", trust=True, weights=folder / "models" / "w.pt")
    assert type(loaded.module).__name__ == "Net"


def test_classes_with_a_sigmoid_each_may_overlap(bundle):
    after = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    entries = {"postprocessing": {"_target_": "Compose", "transforms": [after]}}
    assert load_model(f"monai:{bundle(entries=entries)}", trust=True).overlapping
    assert not load_model(f"monai:{bundle()}", trust=True).overlapping


def edit(change):
    def spoil(folder: Path) -> None:
        file = folder / "configs" / "inference.json"
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (
            edit(lambda c: (c.pop("network_def"), c.pop("network"))),
            {},
            ["has no entry network_def or network", "preprocessing", "--model-arg network=NAME"],
        ),
        (None, {"network": "nett"}, ["has no entry nett"]),
        (None, {"network": "image_key"}, ["builds no torch.nn.Module in image_key"]),
        (None, {"config": "train"}, ["has no train", "inference.json"]),
        (None, {"net": 1}, ["no argument 'net'", "config, network, preprocess"]),
        (None, {"preprocess": 3}, ["preprocess is 3"]),
        (edit(lambda c: c["network_def"].update(_target_="NoSuchNet")), {}, ["cannot be evaluat"]),
        (edit(lambda c: c["network_def"].update(channels=[4, 6, 9])), {}, ["do not fit the model"]),
        (lambda f: (f / "configs/inference.json").write_text("{"), {}, ["cannot be evaluated"]),
        (lambda f: (f / "configs/metadata.json").write_text("{"), {}, ["metadata.json"]),
        (
            lambda f: (f / "configs/metadata.json").write_text("[]"),
            {},
            ["metadata.json' holds a list", "names with what they stand for"],
        ),
        (
            lambda f: (f / "configs/inference.json").write_text("null"),
            {},
            ["inference.json' holds nothing", "names with what they stand for"],
        ),
        (
            lambda f: (f / "configs/inference.json").write_text('{"network_def": null}'),
            {},
            ["builds no torch.nn.Module in network_def"],
        ),
        (lambda f: (f / "models/model.pt").unlink(), {}, ["neither models/model.pt nor"]),
        (lambda f: shutil.rmtree(f / "configs"), {}, ["has no configs/inference.json"]),
    ],
)
def test_each_mistake_is_worded(bundle, tmp_path, spoil, arguments, words):
    folder = Path(shutil.copytree(bundle(), tmp_path / "copy"))
    if spoil is not None:
        spoil(folder)
    with pytest.raises(InputError) as caught:
        load_model(f"monai:{folder}", arguments=arguments, trust=True)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize("number", ["40000000", "33", "9" * 5000, "10001"])
def test_a_class_number_far_beyond_the_names_is_refused(bundle, tmp_path, number):
    folder = Path(shutil.copytree(bundle(), tmp_path / "copy"))
    file = folder / "configs" / "metadata.json"
    names = {"0": "background", number: "vessel"}
    if number == "10001":
        names |= {str(k): f"part {k}" for k in range(1000)}
    outputs = {"pred": {"num_channels": 3, "channel_def": names}}
    file.write_text(json.dumps({"network_data_format": {"outputs": outputs}}))
    with pytest.raises(ModelError, match=rf"metadata.json.*{number[:40]} in channel_def.*Accepted"):
        load_model(f"monai:{folder}", trust=True)
    names["32"] = names.pop(number)
    file.write_text(json.dumps({"network_data_format": {"outputs": outputs}}))
    assert "vessel" in load_model(f"monai:{folder}", trust=True).class_names


def test_volumes_that_the_bundle_cannot_take(bundle, scan):
    volume = rc.read_volume(scan)
    loaded = load_model(f"monai:{bundle()}", trust=True)
    two = volume.with_voxels(np.stack([volume.voxels, volume.voxels]))
    with pytest.raises(InputError, match=r"takes 1 channel\(s\) \(MRI\), but the volume has 2"):
        loaded.preparation.prepare(two)
    plain = {"_target_": "EnsureTyped", "keys": "@image_key", "track_meta": False}
    loaded = load_model(f"monai:{bundle(extra=[plain])}", trust=True)
    with pytest.raises(ModelError, match="drops the affine"):
        loaded.preparation.prepare(volume)
    needs = {"_target_": "CropForegroundd", "keys": "@image_key", "source_key": "label"}
    loaded = load_model(f"monai:{bundle(only=[needs])}", trust=True)
    with pytest.raises(InputError, match=r"fails on this volume \(KeyError"):
        loaded.preparation.prepare(volume)

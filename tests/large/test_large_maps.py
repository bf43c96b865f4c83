"""The stitched maps against one window after the other, and the store against other readers."""

import mrcfile
import ngff_zarr
import nibabel
import numpy as np
import pytest
import torch
import zarr
from ome_zarr_models.v05.image import Image

import respondcam as rc
from respondcam.large import explain_large
from respondcam.volume.lazy import open_volume


def finest(outcome) -> np.ndarray:
    return np.asarray(zarr.open_array(str(outcome.store / "0"))[...])


@pytest.mark.parametrize("stitch", ["mean", "sum"])
def test_every_voxel_is_what_its_windows_say(run, reference, tomogram, stitch):
    outcome = run(stitch=stitch)
    voxels = rc.read_volume(tomogram).voxels
    explainer = rc.RespondCAM(run.model(), layer="second")
    expected, _ = reference(explainer, voxels, 8, 4, 1, mean=stitch == "mean")
    np.testing.assert_allclose(finest(outcome), expected, rtol=1e-5, atol=1e-7)
    assert np.abs(expected).max() > 1e-4


def test_the_sum_keeps_the_account(run, reference, tomogram):
    outcome = run(stitch="sum")
    explainer = rc.RespondCAM(run.model(), layer="second")
    _, raw = reference(explainer, rc.read_volume(tomogram).voxels, 8, 4, 1, mean=False)
    assert finest(outcome).sum(dtype=np.float64) == pytest.approx(raw, rel=1e-5)
    windows = zarr.open_group(str(outcome.store / "windows"), mode="r")
    mapped, score, baseline = (windows[f"{n}/0"][...] for n in ("mapped", "scores", "baseline"))
    assert mapped.sum() == pytest.approx(raw, rel=1e-5)
    # pooling and a linear layer follow: the maps explain all of each window's score
    np.testing.assert_allclose(mapped, score - baseline, atol=1e-5)
    assert outcome.relative_gap < 1e-4


def test_scores_are_those_of_the_windows_alone(run, tomogram):
    outcome = run(target="predicted", overlap=0.25)
    windows = zarr.open_group(str(outcome.store / "windows"), mode="r")
    starts = windows["scores"].attrs["respondcam"]["starts"]
    assert starts == {"z": [0, 2], "y": [0, 4], "x": [0, 6, 12, 18, 24, 30, 36, 38]}
    voxels = rc.read_volume(tomogram).voxels[2:10, 0:8, 38:46]
    with torch.no_grad():
        alone = run.model()(torch.from_numpy(voxels.copy())[None, None])[0]
    assert windows["scores/0"][0, 1, 0, 7] == pytest.approx(float(alone.max()), rel=1e-5)
    assert windows["class/0"][0, 1, 0, 7] == int(alone.argmax())
    assert outcome.labels == ("predicted",)


def test_other_readers_find_the_image_in_its_place(run):
    outcome = run()
    Image.from_zarr(zarr.open_group(str(outcome.store), mode="r"))
    image = ngff_zarr.from_ngff_zarr(str(outcome.store), validate=True)
    fine, coarse = image.images[:2]
    assert fine.axes_units == {"c": None, "z": "angstrom", "y": "angstrom", "x": "angstrom"}
    assert fine.scale == {"c": 1.0, "z": 12.0, "y": 10.0, "x": 10.0}
    assert fine.translation == {"c": 0.0, "z": 7.0, "y": 6.0, "x": 5.0}
    assert coarse.scale == {"c": 1.0, "z": 24.0, "y": 20.0, "x": 20.0}
    assert coarse.translation == {"c": 0.0, "z": 13.0, "y": 11.0, "x": 10.0}
    np.testing.assert_array_equal(fine.data.compute(), finest(outcome))
    blocks = finest(outcome).reshape(1, 5, 2, 6, 2, 23, 2).mean((2, 4, 6))
    np.testing.assert_allclose(coarse.data.compute(), blocks, rtol=1e-5, atol=1e-9)
    scores = ngff_zarr.from_ngff_zarr(str(outcome.store / "windows/scores"), validate=True)
    # a window's centre: 3.5 voxels behind its first one
    assert scores.images[0].translation == {"c": 0.0, "z": 49.0, "y": 41.0, "x": 40.0}
    assert scores.images[0].scale == {"c": 1.0, "z": 48.0, "y": 40.0, "x": 40.0}


def test_segmentation_with_every_class_as_a_channel(run, reference, tomogram):
    outcome = run(network="dense", layer="conv", target="all", stitch="sum")
    explainer = rc.RespondCAM(run.model("dense"), layer="conv")
    voxels = rc.read_volume(tomogram).voxels
    expected, _ = reference(explainer, voxels, 8, 4, "all", mean=False)
    assert outcome.labels == ("class 0", "class 1", "class 2")
    np.testing.assert_allclose(finest(outcome), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "layer", "options"),
    [
        ("integrated-respond", "second", {"nodes": 3}),
        ("ablation", "second", {}),
        ("eigen", "second", {}),
        ("hires", "second", {"precision": "bf16"}),
        ("integrated-gradients", None, {"nodes": 2}),
    ],
)
def test_every_method_works_in_windows(run, reference, tomogram, method, layer, options):
    settings = run.settings(stitch="sum", method=method, layer=layer, options=options, batch=1)
    outcome = explain_large(tomogram, tomogram.parent / "out", run.model(), settings)
    voxels = rc.read_volume(tomogram).voxels
    explainer = rc.METHODS[method](run.model(), *([layer] if layer else []), **options)
    wanted, _ = reference(explainer, voxels, 8, 4, 1, mean=False)
    found = rc.read_volume(outcome.store).voxels
    np.testing.assert_allclose(found, wanted[0], atol=2e-5 * np.abs(wanted).max())
    assert any("bfloat16" in note for note in outcome.notes) == ("precision" in options)


def test_axes_and_normalisation_count_within_each_window(run, tomogram):
    outcome = run(axes="xyz", normalize="zscore", window=(8, 10, 12), overlap=0.0)
    voxels = rc.read_volume(tomogram).voxels[:8, :10, :12].astype(np.float64)
    voxels = ((voxels - voxels.mean()) / voxels.std()).astype(np.float32)
    found = rc.RespondCAM(run.model(), layer="second")(
        torch.from_numpy(voxels.T.copy())[None, None], target=1
    )
    expected = found.place("value")[0, 0].numpy().T
    # no other window reaches into this corner
    np.testing.assert_allclose(
        finest(outcome)[0, :2, :2, :12], expected[:2, :2], rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "tif", "npy", "nrrd", "ome.zarr", "mrc.gz"])
def test_every_kind_of_volume_gives_the_same_maps(run, tomogram, tmp_path, kind):
    volume = rc.read_volume(tomogram)
    path = tmp_path / f"other.{kind}"
    if kind == "npy":
        np.save(path, volume.voxels)
    else:
        rc.write_volume(path, volume)
    expected = finest(run(overlap=0.0))
    outcome = run(out="other", source=path, overlap=0.0)
    np.testing.assert_array_equal(finest(outcome), expected)
    assert not list((tmp_path / "other").glob("*.unpacked"))
    if kind != "npy":
        written = rc.read_volume(outcome.store)
        np.testing.assert_allclose(written.affine, volume.affine, rtol=1e-6)


def test_regions_of_a_volume_on_disk(tmp_path):
    rng = np.random.default_rng(0)
    channels = rng.normal(size=(2, 5, 6, 70)).astype(np.float32)
    for suffix in (".nii", ".ome.zarr", ".tif"):
        rc.write_volume(tmp_path / f"a{suffix}", rc.Volume(channels, unit="mm"))
        lazy = open_volume(tmp_path / f"a{suffix}", tmp_path)
        for start, stop in (((1, 2, 3), (4, 6, 9)), ((0, 0, 0), (5, 6, 70))):
            z, y, x = (slice(a, b) for a, b in zip(start, stop, strict=True))
            np.testing.assert_array_equal(lazy.read(start, stop), channels[:, z, y, x])


def test_an_image_of_ngff_04_is_read_in_its_place(tmp_path):
    group = zarr.open_group(str(tmp_path / "old.zarr"), mode="w", zarr_format=2)
    values = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)
    group.create_array("s0", data=values, chunks=(1, 2, 2, 2))
    axes = [{"name": "t", "type": "time"}]
    axes += [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    steps = [
        {"type": "scale", "scale": [1, 4, 3, 2]},
        {"type": "translation", "translation": [0, 7, 6, 5]},
    ]
    data = [{"path": "s0", "coordinateTransformations": steps}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": data}]
    volume = rc.read_volume(tmp_path / "old.zarr")
    np.testing.assert_array_equal(volume.voxels, values[0])
    assert volume.unit == "angstrom"
    assert volume.world((0, 0, 1)).tolist() == [70.0, 60.0, 70.0]


def test_an_explanation_is_saved_as_ome_zarr(run, tmp_path, tomogram):
    found = rc.explain(run.model(), rc.read_volume(tomogram), target=0, layer="second")
    path = found.save(tmp_path / "map.ome.zarr")
    back = rc.read_volume(path)
    np.testing.assert_array_equal(back.voxels, found.volume().voxels)
    np.testing.assert_array_equal(back.affine, found.volume().affine)


def test_exports_hold_the_same_numbers_in_the_same_place(run, tomogram):
    to_mrc = run(options={"export_to": "mrc"})
    with mrcfile.open(to_mrc.exported[0]) as file, mrcfile.open(tomogram) as source:
        np.testing.assert_array_equal(file.data, finest(to_mrc)[0])
        assert file.header.origin == source.header.origin
        assert file.voxel_size == source.voxel_size
        assert float(file.header.dmean) == pytest.approx(float(file.data.mean()), rel=1e-3)
    two = run(target="all", options={"export_to": "nii.gz"})
    image = nibabel.load(two.exported[0])
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, finest(two))
    np.testing.assert_allclose(1e4 * image.affine[:3], rc.read_volume(tomogram).affine[:3])

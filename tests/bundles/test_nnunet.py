"""Trained nnU-Net folders: the same prediction as nnU-Net's own predictor, and maps in place."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

import respondcam as rc
from respondcam.attribution.prepared import blended_scores, explain_prepared
from respondcam.errors import InputError, MissingExtraError, ModelError
from respondcam.network.nnunet_folders import quietly
from respondcam.network.sources import load_model
from respondcam.volume.regrid import carry_mask

pytest.importorskip("nnunetv2")


def predictor(folder: Path, folds, *, mirror: bool):
    with quietly():
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        made = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
        made.initialize_from_trained_model_folder(str(folder), use_folds=folds)
    return made


def read_as_nnunet(made, path: Path):
    reader = made.plans_manager.image_reader_writer_class()
    return reader.read_images([str(path)])


CASES = {
    "plain": ({"kind": "PlainConvUNet"}, {}),
    "residual": ({"kind": "ResidualEncoderUNet"}, {}),
    "mirrored": ({"kind": "PlainConvUNet"}, {"mirror": True}),
    "folds": ({"kind": "PlainConvUNet", "folds": (0, 2, "all")}, {"fold": "0,2"}),
    "one window": ({"patch": (16, 32, 24)}, {}),
    "slices": ({"patch": (16, 16)}, {}),
    "reoriented": ({"reader": "NibabelIOWithReorient"}, {}),
}


@pytest.mark.parametrize("case", CASES, ids=CASES)
def test_the_scores_are_those_of_nnunets_own_predictor(case, nnunet_folder, scan):
    options, arguments = CASES[case]
    folder = nnunet_folder(**options)
    loaded = load_model(f"nnunet:{folder}", arguments=arguments)
    seen = loaded.preparation.prepare(rc.read_volume(scan))
    explainers = [rc.RespondCAM(net) for net in (loaded.module, *loaded.others)]
    ours = blended_scores(explainers, seen)[(..., *seen.inside)][0]
    folds = (0, 2) if case == "folds" else (0,)
    made = predictor(folder, folds, mirror=case == "mirrored")
    image, properties = read_as_nnunet(made, scan)
    with quietly():
        data, _, properties = made.configuration_manager.preprocessor_class(
            verbose=False
        ).run_case_npy(
            image,
            None,
            properties,
            made.plans_manager,
            made.configuration_manager,
            made.dataset_json,
        )
        theirs = made.predict_logits_from_preprocessed_data(torch.from_numpy(data)).float()
    assert np.abs(seen.grid.voxels - data).max() < 1e-3
    # nnU-Net adds in half precision, which is coarse where only corners of windows reach
    difference = (ours - theirs).abs()
    assert float((difference > 0.03).float().mean()) < 0.03
    assert float(difference.median()) < 2e-3
    assert float((ours.argmax(0) == theirs.argmax(0)).float().mean()) > 0.99


def test_the_prediction_in_the_scans_space_is_nnunets(nnunet_folder, scan):
    folder = nnunet_folder()
    loaded = load_model(f"nnunet:{folder}")
    seen = loaded.preparation.prepare(rc.read_volume(scan))
    ours = blended_scores([rc.RespondCAM(loaded.module)], seen)[(..., *seen.inside)][0]
    made = predictor(folder, (0,), mirror=False)
    image, properties = read_as_nnunet(made, scan)
    with quietly():
        expected = made.predict_single_npy_array(image, properties)
    original = rc.read_volume(scan)
    for number in (1, 2):
        # by nearest voxels, where nnU-Net interpolates the scores: not equal, but not moved
        region = carry_mask((ours.argmax(0) == number).numpy(), seen.grid, original)
        agree = (region == (expected == number)).mean()
        moved = [
            (np.roll(region, step, axis) == (expected == number)).mean()
            for axis in range(3)
            for step in (-1, 1)
        ]
        assert agree > 0.85
        assert agree > max(moved)


def ball(shape, centre, radius, affine) -> np.ndarray:
    index = np.indices(shape)[::-1].reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    return (np.linalg.norm(world - np.asarray(centre)[:, None], axis=0) < radius).reshape(shape)


def centroid(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = np.indices(voxels.shape)[::-1].reshape(3, -1)
    return affine[:3, :3] @ (index * voxels.ravel()).sum(1) / voxels.sum() + affine[:3, 3]


@pytest.mark.parametrize("case", ["plain", "one window", "slices", "reoriented"])
def test_17_resampling_crop_transpose_and_padding_are_undone(case, nnunet_folder, scan):
    """What is bright in the prepared volume is where it is in the scan, by SimpleITK's count."""
    loaded = load_model(f"nnunet:{nnunet_folder(**CASES[case][0])}")
    original = rc.read_volume(scan)
    seen = loaded.preparation.prepare(original)
    bright = np.where(seen.volume.voxels[0] > 2.0, 1.0, 0.0)
    placed = seen.inverse(rc.Volume(bright, seen.volume.affine, "mm"))
    image = SimpleITK.ReadImage(str(scan))
    lps = np.array(image.TransformContinuousIndexToPhysicalPoint((16.0, 9.0, 6.0)))
    centre = lps * (-1, -1, 1)
    assert placed.shape == original.shape
    assert placed.voxels.sum() == pytest.approx(bright.sum(), rel=1e-5)
    assert np.linalg.norm(centroid(placed.voxels, original.affine) - centre) < 0.5
    assert np.linalg.norm(centroid(bright, seen.volume.affine) - centre) < 0.5


def test_19_a_map_is_neither_flipped_turned_nor_shifted(nnunet_folder, scan):
    """The input's own layer: contributions to a score in a ball lie around that ball."""
    loaded = load_model(f"nnunet:{nnunet_folder(patch=(16, 32, 24))}")
    noise = np.random.default_rng(0).normal(1.0, 0.3, (12, 22, 26))
    original = rc.read_volume(scan).with_voxels(noise)
    seen = loaded.preparation.prepare(original)
    for centre_index in ((8, 6, 5), (4, 15, 20)):
        centre = original.world(centre_index)
        where = ball(original.shape, centre, 4.0, original.affine)
        target = rc.targets.mask(seen.carry(where), 1)
        found = explain_prepared(rc.HiResCAM(loaded.module, "input"), seen, target)
        strength = found.volume().voxels ** 2
        assert np.linalg.norm(centroid(strength, original.affine) - centre) < 4.0


def test_07_deep_supervision_gives_one_output(nnunet_folder, scan):
    """The trainer wrote a network with several outputs; what is explained has one."""
    folder = nnunet_folder()
    loaded = load_model(f"nnunet:{folder}")
    assert isinstance(loaded.module(torch.zeros(1, 1, 8, 16, 16)), torch.Tensor)
    saved = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert any("seg_layers.0" in name for name in saved["network_weights"])


def test_10_a_trained_folder_is_explained_in_the_scans_space(nnunet_folder, scan):
    loaded = load_model(f"nnunet:{nnunet_folder()}", arguments={"mirror": True})
    seen = loaded.preparation.prepare(rc.read_volume(scan))
    assert loaded.class_names == ("background", "vessel", "lesion")
    assert len(seen.tiles.flips) == 8
    assert len(seen.tiles.windows) > 1
    found = explain_prepared(rc.HiResCAM(loaded.module), seen, rc.targets.voxel([5, 9, 9], 1))
    written = found.volume()
    assert np.allclose(written.affine, nibabel.load(scan).affine)
    assert written.voxels.sum() == pytest.approx(float(found.account.mapped), rel=1e-4)
    assert np.isfinite(written.voxels).all()
    assert written.voxels.any()


def test_regions_that_overlap(nnunet_folder, scan):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    loaded = load_model(f"nnunet:{nnunet_folder(labels=labels)}")
    assert loaded.overlapping
    assert loaded.class_names == ("whole", "core")
    seen = loaded.preparation.prepare(rc.read_volume(scan))
    scores = blended_scores([rc.RespondCAM(loaded.module)], seen)[(..., *seen.inside)]
    found = explain_prepared(rc.RespondCAM(loaded.module), seen, rc.targets.overlapping("all"))
    assert torch.allclose(found.scores, scores.clamp(min=0).flatten(2).sum(2), rtol=1e-4)


class Runs:
    """A pickle that would run code when it is opened."""

    def __reduce__(self):
        return (os.mkdir, ("ran-when-opened",))


@pytest.fixture
def copy(nnunet_folder, tmp_path) -> Path:
    return Path(shutil.copytree(nnunet_folder(), tmp_path / "copy"))


def change(folder: Path, change_it) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    change_it(plans["configurations"]["3d_fullres"], plans)
    (folder / "plans.json").write_text(json.dumps(plans))


def test_a_checkpoint_that_could_run_code_is_refused(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = copy / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "more": Runs()}, file)
    with pytest.raises(ModelError, match=r"could run any code.*--trust"):
        load_model(f"nnunet:{copy}")
    assert not Path("ran-when-opened").exists()
    load_model(f"nnunet:{copy}", trust=True)
    assert Path("ran-when-opened").exists()  # what --trust means


def test_plans_that_name_classes_of_other_packages_are_refused(copy):
    kind = "respondcam.network.paper.CNN1"
    change(copy, lambda c, _: c["architecture"].update(network_class_name=kind))
    with pytest.raises(ModelError, match=rf"{kind}, which is no part of nnU-Net.*--trust"):
        load_model(f"nnunet:{copy}")


def remove(name: str):
    return lambda folder: (
        shutil.rmtree(folder / name) if "." not in name else (folder / name).unlink()
    )


def rewrite(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (remove("plans.json"), {}, ["has no plans.json", "trained nnU-Net v2 model"]),
        (remove("dataset.json"), {}, ["has no dataset.json"]),
        (rewrite("plans.json", "{"), {}, ["plans.json", "no JSON"]),
        (rewrite("dataset.json", "[]"), {}, ["no JSON object"]),
        (rewrite("plans.json", "{}"), {}, ["cannot build the network", "belong together"]),
        (remove("fold_0"), {}, ["no fold with 'checkpoint_final.pth'"]),
        (None, {"fold": 3}, ["no fold 3", "fold=0"]),
        (None, {"fold": "0,4"}, ["no fold 4"]),
        (None, {"checkpoint": "checkpoint_best.pth"}, ["checkpoint_final.pth", "checkpoint=NAME"]),
        (rewrite("fold_0/checkpoint_final.pth", ""), {}, ["empty (0 bytes)"]),
        (rewrite("fold_0/checkpoint_final.pth", "text"), {}, ["is no checkpoint"]),
        (None, {"folds": 1}, ["no argument 'folds'", "fold, checkpoint, mirror"]),
        (None, {"mirror": "yes"}, ["mirror is 'yes'", "true, false"]),
        (None, {"step": 0}, ["step is 0"]),
        (
            lambda folder: change(folder, lambda c, _: c.update(previous_stage="3d_lowres")),
            {},
            ["second stage of a cascade", "3d_lowres"],
        ),
        (
            lambda folder: change(
                folder,
                lambda c, _: c["architecture"]["arch_kwargs"].update(features_per_stage=[4, 6, 9]),
            ),
            {},
            ["do not fit the model"],
        ),
        (
            lambda folder: torch.save(
                {"network_weights": {}}, folder / "fold_0/checkpoint_final.pth"
            ),
            {},
            ["no checkpoint of nnU-Net v2", "init_args, trainer_name"],
        ),
    ],
)
def test_each_mistake_is_worded(copy, spoil, arguments, words):
    if spoil is not None:
        spoil(copy)
    with pytest.raises(InputError) as caught:
        load_model(f"nnunet:{copy}", arguments=arguments)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


INTENSITIES = "foreground_intensity_properties_per_channel"
PLANS = {
    "no list": (lambda c, _: c.update(patch_size="abc"), "patch_size as 'abc'"),
    "zero": (lambda c, _: c.update(patch_size=[0, 16, 16]), "patch_size"),
    "fraction": (lambda c, _: c.update(patch_size=[8.5, 16, 16]), "patch_size"),
    "long": (lambda c, _: c.update(patch_size=[2049, 1, 1]), "patch_size.*from 1 to 2048"),
    "large": (lambda c, _: c.update(patch_size=[900] * 3), "patch_size.*at most 268435456 voxels"),
    "zero mm": (lambda c, _: c.update(spacing=[0.0] * 3), "spacing"),
    "negative": (lambda c, _: c.update(spacing=[-1.0, 1, 1]), "spacing"),
    "infinite": (lambda c, _: c.update(spacing=[float("inf"), 1, 1]), "spacing"),
    "two": (lambda c, _: c.update(spacing=[1.0, 1.0]), "spacing as .* 3 finite"),
    "axes": (lambda _, p: p.update(transpose_forward=[0, 0, 5]), "transpose_forward"),
    "true": (lambda _, p: p.update(transpose_backward=[0, True, 2]), "transpose_backward"),
    "scheme": (lambda c, _: c.update(normalization_schemes=["Evil"]), "schemes as 'Evil'"),
    "module": (lambda c, _: c.update(normalization_schemes=["np"]), "schemes as 'np'"),
    "none": (lambda c, _: c.update(normalization_schemes=[]), "normalization_schemes"),
    "mask": (lambda c, _: c.update(use_mask_for_norm=["no"]), "use_mask_for_norm"),
    "absent": (lambda _, p: p.update({INTENSITIES: {}}), f"{INTENSITIES} of channel 0"),
    "ct": (
        lambda c, p: (
            c.update(normalization_schemes=["CTNormalization"]),
            p[INTENSITIES]["0"].pop("std"),
        ),
        f"std in {INTENSITIES} of channel 0 as None",
    ),
    "function": (lambda c, _: c.update(resampling_fn_data="os.system"), "resampling_fn_data"),
    "foreign": (lambda c, _: c.update(resampling_fn_seg="map_coordinates"), "resampling_fn_seg"),
    "order": (
        lambda c, _: c["resampling_fn_data_kwargs"].update(order=99),
        "order in resampling_fn_data_kwargs as 99",
    ),
    "argument": (
        lambda c, _: c["resampling_fn_data_kwargs"].update(orders=1),
        "resampling_fn_data_kwargs.*is_seg, order",
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_plans_by_which_nothing_can_be_prepared_are_refused(copy, case):
    edit, words = PLANS[case]
    change(copy, edit)
    with pytest.raises(ModelError, match=rf"plans\.json.* gives .*{words}") as caught:
        load_model(f"nnunet:{copy}")
    assert "Accepted" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c, _: c.update(spacing=[0.01] * 3), "spacing in .*plans.json"),
        (lambda c, _: c.update(spacing=[1e-300, 1, 1]), "spacing in .*plans.json"),
        (lambda c, _: c.update(spacing=[1e6, 1, 1]), "spacing in .*at least one voxel"),
        (
            lambda c, _: c.update(patch_size=[2048, 2048, 16], spacing=[1.0, 1.0, 0.01]),
            "patch_size in .*plans.json",
        ),
    ],
)
def test_a_scan_is_not_made_absurdly_large(copy, scan, monkeypatch, edit, words):
    change(copy, edit)
    loaded = load_model(f"nnunet:{copy}")

    def no_memory(_):
        raise AssertionError("the scan is resampled")

    monkeypatch.setattr(loaded.preparation, "_preprocessed", no_memory)
    with pytest.raises(ModelError, match=words):
        loaded.preparation.prepare(rc.read_volume(scan))


def test_a_folder_above_the_right_one_is_pointed_out(copy):
    with pytest.raises(ModelError, match=f"Did you mean nnunet:{copy}"):
        load_model(f"nnunet:{copy.parent}")
    with pytest.raises(ModelError, match="does not exist"):
        load_model(f"nnunet:{copy}/none")
    with pytest.raises(ModelError, match="brings its own weights"):
        load_model(f"nnunet:{copy}", weights=copy / "plans.json")


def test_volumes_that_the_network_cannot_take(nnunet_folder, scan):
    loaded = load_model(f"nnunet:{nnunet_folder()}")
    volume = rc.read_volume(scan)
    two = volume.with_voxels(np.stack([volume.voxels, volume.voxels]))
    with pytest.raises(InputError, match=r"takes 1 channel\(s\) \(MRI 0\), but the volume has 2"):
        loaded.preparation.prepare(two)
    with pytest.raises(InputError, match="zero everywhere"):
        loaded.preparation.prepare(volume.with_voxels(np.zeros(volume.shape)))


def test_without_nnunet_the_install_command_is_given(nnunet_folder, monkeypatch):
    folder = nnunet_folder()
    for name in [name for name in sys.modules if name.split(".")[0] == "nnunetv2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden("nnunetv2"), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'respondcam\[nnunet\]'"):
        load_model(f"nnunet:{folder}")


class Hidden:
    """Finds no package of this name."""

    def __init__(self, name: str):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_pickle_of_another_kind_is_refused(copy):
    (copy / "fold_0" / "checkpoint_final.pth").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ModelError, match="could run any code"):
        load_model(f"nnunet:{copy}")

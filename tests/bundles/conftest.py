"""Trained model folders, made by nnU-Net's and MONAI's own tools, and an oblique scan."""

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

CHANNELS = {"0": "MRI"}
LABELS = {"background": 0, "vessel": 1, "lesion": 2}


def architecture(kind: str, conv: str = "Conv3d") -> dict:
    flat = conv == "Conv2d"
    kernels = [[3, 3], [3, 3], [3, 3]] if flat else [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    strides = [[1, 1], [2, 2], [2, 2]] if flat else [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": f"torch.nn.modules.conv.{conv}",
            "kernel_sizes": kernels,
            "strides": strides,
            blocks: [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{conv[-2:]}",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def nnunet_plans(kind: str, patch: list[int], *, reader: str = "SimpleITKIO", channels: int = 1):
    resample = "resample_data_or_seg_to_shape"
    separate = {"order_z": 0, "force_separate_z": None}
    flat = len(patch) == 2
    configuration = {
        "data_identifier": "nnUNetPlans_test",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "median_image_size_in_voxels": patch,
        "spacing": [1.0, 1.0] if flat else [2.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": resample,
        "resampling_fn_seg": resample,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **separate},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **separate},
        "resampling_fn_probabilities": resample,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **separate},
        "architecture": architecture(kind, "Conv2d" if flat else "Conv3d"),
        "batch_dice": False,
    }
    statistics = {"max": 5.0, "mean": 1.0, "median": 1.0, "min": 0.0, "percentile_00_5": 0.0}
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "transpose_forward": [1, 0, 2],
        "transpose_backward": [1, 0, 2],
        "original_median_spacing_after_transp": [2.0, 1.0, 1.0],
        "original_median_shape_after_transp": [20, 30, 30],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(c): {**statistics, "percentile_99_5": 5.0, "std": 1.0} for c in range(channels)
        },
        "configurations": {"2d" if flat else "3d_fullres": configuration},
    }


def train_nnunet(
    folder: Path,
    kind: str = "PlainConvUNet",
    patch: tuple[int, ...] = (8, 16, 16),
    *,
    folds: tuple[int | str, ...] = (0,),
    channels: int = 1,
    labels: dict | None = None,
    reader: str = "SimpleITKIO",
) -> Path:
    """Train for two steps with nnU-Net's own trainer, which writes the checkpoints."""
    kept = {name: os.environ.get(name) for name in ("nnUNet_preprocessed", "nnUNet_results")}
    os.environ.update(dict.fromkeys(kept, str(folder.parent)))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return _trained(folder, kind, list(patch), folds, channels, labels or LABELS, reader)
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _trained(folder, kind, patch, folds, channels, labels, reader) -> Path:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder.mkdir(parents=True)
    plans = nnunet_plans(kind, patch, reader=reader, channels=channels)
    data = folder.parent / plans["dataset_name"] / "nnUNetPlans_test"
    data.mkdir(parents=True, exist_ok=True)
    (data / "case_0.b2nd").touch()  # the trainer looks which format the data have
    dataset = {
        "channel_names": {str(c): f"MRI {c}" for c in range(channels)},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    if any(isinstance(value, list) for value in labels.values()):
        dataset["regions_class_order"] = list(range(1, len(labels)))
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold in folds:
        torch.manual_seed(7 if fold == "all" else int(fold))
        trainer = nnUNetTrainer(
            {**plans, "continue_training": False},
            next(iter(plans["configurations"])),
            fold,
            dataset,
            torch.device("cpu"),
        )
        trainer.initialize()
        trainer.inference_allowed_mirroring_axes = tuple(range(len(patch)))
        target = torch.randint(0, 3, (2, 1, *patch)).float()
        image = torch.randn(2, channels, *patch) + target
        with torch.no_grad():
            sizes = [out.shape[2:] for out in trainer.network(image)]
        goals = [torch.nn.functional.interpolate(target, size) for size in sizes]
        if "regions_class_order" in dataset:
            goals = [torch.cat([(g > k).float() for k in range(len(labels) - 1)], 1) for g in goals]
        losses = [trainer.train_step({"data": image, "target": goals})["loss"] for _ in range(2)]
        for key in ("train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice"):
            trainer.logger.log(key, np.mean(losses), 0)
        trainer._best_ema = np.float64(0.5)
        place = folder / f"fold_{fold}"
        place.mkdir()
        trainer.save_checkpoint(str(place / "checkpoint_final.pth"))
    return folder


@pytest.fixture(scope="session")
def nnunet_folder(tmp_path_factory) -> Callable[..., Path]:
    """Make a model folder; the same one again for the same arguments."""
    pytest.importorskip("nnunetv2")
    made: dict[str, Path] = {}

    def make(kind: str = "PlainConvUNet", patch: tuple[int, ...] = (8, 16, 16), **options) -> Path:
        key = repr((kind, patch, sorted(options.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp("nnunet") / "model"
            made[key] = train_nnunet(folder, kind, patch, **options)
        return made[key]

    return make


def oblique_affine(spacing=(0.8, 1.3, 2.5), origin=(-12.0, 7.0, 30.0)) -> np.ndarray:
    """Axes to the left, the back and upwards, tilted by some degrees: LPS, and oblique."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("zyx", (9, -7, 12), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag((-1.0, -1.0, 1.0)) * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


@pytest.fixture
def scan(tmp_path) -> Path:
    """A NIfTI of anisotropic voxels, oblique, with an empty margin and a bright ball."""
    shape = (26, 22, 12)  # x, y, z
    x, y, z = np.indices(shape)
    rng = np.random.default_rng(3)
    image = rng.normal(1.0, 0.3, shape)
    image += 3.0 * (((x - 16) * 0.8) ** 2 + ((y - 9) * 1.3) ** 2 + ((z - 6) * 2.5) ** 2 < 25)
    image[:3] = image[-2:] = image[:, :2] = image[:, :, -1:] = 0
    nifti = nibabel.Nifti1Image(image.astype(np.float32), oblique_affine())
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nifti, path)
    return path


PREPROCESSING = [
    {"_target_": "LoadImaged", "keys": "@image_key"},
    {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
    {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS", "labels": None},
    {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [1.5, 1.2, 2.0], "mode": "bilinear"},
    {"_target_": "CropForegroundd", "keys": "@image_key", "source_key": "@image_key"},
    {"_target_": "NormalizeIntensityd", "keys": "@image_key"},
    {"_target_": "EnsureTyped", "keys": "@image_key", "device": "@device"},
]
UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 6, 8],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "instance",
}
WINDOWS = {
    "_target_": "SlidingWindowInferer",
    "roi_size": [16, 16, 8],
    "sw_batch_size": 2,
    "overlap": 0.5,
    "mode": "gaussian",
}


def make_bundle(
    folder: Path,
    *,
    preprocessing: list | None = PREPROCESSING,
    inferer: dict | None = WINDOWS,
    network: dict | None = UNET,
    channels: int = 1,
    **entries,
) -> Path:
    """Make a bundle with MONAI's own `init_bundle`, with random weights."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from monai.bundle import ConfigParser, init_bundle

        inference = {
            "imports": ["$import glob", "$import torch"],
            "bundle_root": ".",
            "image_key": "image",
            "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
            "ckpt_path": "$@bundle_root + '/models/model.pt'",
            "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
            "network_def": network,
            "network": "$@network_def.to(@device)",
            "preprocessing": preprocessing and {"_target_": "Compose", "transforms": preprocessing},
            "inferer": inferer,
            **entries,
        }
        inference = {name: value for name, value in inference.items() if value is not None}
        image = {"type": "image", "num_channels": channels, "channel_def": {"0": "MRI"}}
        parts = {"0": "background", "1": "spleen", "2": "liver"}
        metadata = {
            "version": "0.1.0",
            "network_data_format": {
                "inputs": {"image": image},
                "outputs": {"pred": {"type": "image", "num_channels": 3, "channel_def": parts}},
            },
        }
        torch.manual_seed(11)
        parser = ConfigParser({"net": network or UNET})
        init_bundle(
            folder,
            network=parser.get_parsed_content("net"),
            metadata_str=metadata,
            inference_str=inference,
        )
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Callable[..., Path]:
    """Make a bundle; the same one again for the same options."""
    pytest.importorskip("monai")
    made: dict[str, Path] = {}

    def make(
        *,
        only: list | None = None,
        extra: list | None = None,
        windows: dict | None = None,
        inferer: dict | None = None,
        flat: bool = False,
        entries: dict | None = None,
    ) -> Path:
        key = repr((only, extra, windows, inferer, flat, entries))
        if key not in made:
            steps = PREPROCESSING if only is None else [*PREPROCESSING[:2], *only]
            made[key] = make_bundle(
                tmp_path_factory.mktemp("monai") / "bundle",
                preprocessing=[*steps, *(extra or [])],
                inferer=inferer or {**WINDOWS, **(windows or {})},
                network={**UNET, "spatial_dims": 2} if flat else UNET,
                **(entries or {}),
            )
        return made[key]

    return make

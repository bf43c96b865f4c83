"""The folder that the reference pages speak of: a network, its weights, and volumes."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import respondcam as rc

# one channel and 21 classes: pages ask for classes by number
NETWORK = """
from torch import nn


def build(channels=1, classes=4):
    whole = nn.Sequential()
    whole.layer3 = nn.Sequential(nn.Conv3d(channels, 4, 3, stride=2, padding=1), nn.ReLU())
    whole.layer4 = nn.Sequential(nn.Conv3d(4, 8, 3, stride=2, padding=1), nn.ReLU())
    whole.pool = nn.AdaptiveAvgPool3d(1)
    whole.head = nn.Sequential(nn.Flatten(), nn.Linear(8, classes))
    return whole


def tumour():
    return build(channels=4)
"""


def scan(shape: tuple[int, ...], seed: int, at: tuple[int, int, int] = (5, 5, 5)) -> np.ndarray:
    """Noise with a bright ball."""
    ball = sum((axis - centre) ** 2 for axis, centre in zip(np.indices(shape), at, strict=True))
    return np.random.default_rng(seed).normal(size=shape) + 3.0 * (ball < 9)


def furnish(folder: Path) -> None:
    """Put into a folder what the reference pages' examples name."""
    (folder / "mynet.py").write_text(NETWORK, "utf-8")
    names: dict = {}
    exec(NETWORK, names)
    torch.manual_seed(0)
    state = names["build"]().state_dict()
    save_file(state, folder / "weights.safetensors")
    torch.save({"state_dict": {f"net.{key}": value for key, value in state.items()}},
               folder / "last.ckpt")  # fmt: skip
    shape = (20, 21, 22)
    rc.write_volume(folder / "scan.nii.gz", rc.Volume(scan(shape, 0), unit="mm"))
    cubes = np.diag([8.0, 8.0, 8.0, 1.0])
    rc.write_volume(folder / "tomogram.mrc", rc.Volume(scan((44, 48, 60), 9), cubes, "angstrom"))
    case = np.stack([scan(shape, seed) for seed in range(4)])
    rc.write_volume(folder / "case.nii.gz", rc.Volume(case, unit="mm"))
    for kind in ("tomograms", "volumes", "masks"):
        (folder / kind).mkdir()
    for seed, name in enumerate(("a", "b")):
        at = (5, 6 + 2 * seed, 5 + 2 * seed)
        box = scan((20, 20, 20), seed, at)
        rc.write_volume(folder / f"tomograms/{name}.mrc", rc.Volume(box, cubes, "angstrom"))
        rc.write_volume(folder / f"volumes/{name}.nii.gz", rc.Volume(box, unit="mm"))
        ball = sum((a - c) ** 2 for a, c in zip(np.indices(box.shape), at, strict=True)) < 9
        rc.write_volume(folder / f"masks/{name}.nii.gz", rc.Volume(ball * 1.0, unit="mm"))


def furnish_bundles(folder: Path) -> None:
    """Add the trained folders that the page of bundles names, made by the frameworks' own tools."""
    from tests.bundles.conftest import make_bundle, train_nnunet

    results = folder / "nnUNet_results/Dataset004"
    train_nnunet(results / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    make_bundle(folder / "spleen_ct")
    lesion = scan((20, 21, 22), 0) > 2.5
    rc.write_volume(folder / "lesion.nii.gz", rc.Volume(lesion * 1.0, unit="mm"))

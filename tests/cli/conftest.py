"""A small network in a file, volumes in two formats, and the command line itself."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from respondcam.cli import app

NETWORKS = '''
from collections import OrderedDict

import torch
from torch import nn


def net(classes=3, channels=1):
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(
        first=nn.Sequential(nn.Conv3d(channels, 4, 3, padding=1), nn.ReLU()),
        pool=nn.AvgPool3d(2),
        second=nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.ReLU()),
        gap=nn.AdaptiveAvgPool3d(1),
        flat=nn.Flatten(),
        scores=nn.Linear(6, classes),
    ))


def named():
    return net(), ["[red]ribosome", "20S proteasome", "ferritin"]


class Several(nn.Module):
    """Gives a dictionary of two tensors that could both be scores."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        scores = self.net(x)
        return {"first": -scores, "second": (scores, 2 * scores)}


class Dense(nn.Module):
    """Takes 8 voxels per axis only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        self.never = nn.Conv3d(1, 2, 3)
        self.aside = nn.Conv3d(1, 2, 3)
        self.scores = nn.Linear(2 * 8**3, 2)

    def forward(self, x):
        self.aside(x)
        return self.scores(torch.relu(self.conv(x)).flatten(1))


def broken(x=1):
    class Broken(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError("inside the network")

    return Broken()
'''


class Result:
    """What one call of the command line left behind."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Call the command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESPONDCAM_DEBUG", raising=False)

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def nets(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(NETWORKS)
    return str(path)


def blob(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Noise with a bright ball off the centre, (z, y, x)."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    ball = (z - 4) ** 2 + (y - 3) ** 2 + (x - 5) ** 2 < 6
    return (rng.normal(0, 0.1, shape) + ball).astype(np.float32)


def write_mrc(path: Path, voxels: np.ndarray, voxel_size: float = 13.68) -> Path:
    with mrcfile.new(path, overwrite=True) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of voxels that are NaN on purpose
        file.set_data(voxels)
        file.voxel_size = voxel_size
        file.header.origin = (10.0, 20.0, 30.0)
    return path


def write_nifti(path: Path, voxels: np.ndarray) -> Path:
    affine = np.array([[-2.0, 0, 0, 50], [0, 2, 0.1, -20], [0, 0, 3, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(voxels.T, affine), path)
    return path


@pytest.fixture
def make() -> SimpleNamespace:
    """The makers of volumes, for tests that need others than the two below."""
    return SimpleNamespace(blob=blob, mrc=write_mrc, nifti=write_nifti)


@pytest.fixture
def mrc(tmp_path: Path) -> Path:
    return write_mrc(tmp_path / "ribo.mrc", blob((8, 10, 12)))


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "brain.nii.gz", blob((8, 10, 12), seed=1))

"""A small network in a file, a volume that many windows cover, and a slow way to stitch."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import respondcam as rc
from respondcam.large import LargeSettings, explain_large
from respondcam.large.job import ModelAddress
from respondcam.network.sources import load_model

NETWORKS = '''
import time
from collections import OrderedDict

import torch
from torch import nn


def net(classes=3, channels=1):
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(
        first=nn.Sequential(nn.Conv3d(channels, 4, 3, stride=2, padding=1), nn.ReLU()),
        second=nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.ReLU()),
        gap=nn.AdaptiveAvgPool3d(1),
        flat=nn.Flatten(),
        scores=nn.Linear(6, classes),
    ))


class Slow(nn.Module):
    """Takes its time, so that something can happen meanwhile."""

    def __init__(self, seconds=0.02):
        super().__init__()
        self.net, self.seconds = net(), seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return self.net(x)


def fixed():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU())
    return nn.Sequential(OrderedDict(conv=conv, flat=nn.Flatten(), scores=nn.Linear(2 * 8**3, 2)))


class Cropping(nn.Module):
    """Looks at six voxels from the brightest plane on, wherever that is."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        start = int(x.amax((0, 1, 2, 3)).argmax().clamp(0, 2))
        return self.net(x[..., start : start + 6])


def dense():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(
        conv=nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()), scores=nn.Conv3d(4, 3, 1)
    ))
'''
AFFINE = np.array([[10.0, 0, 0, 5], [0, 10, 0, 6], [0, 0, 12, 7], [0, 0, 0, 1]])
SHAPE = (10, 12, 46)  # three tiles, four chunks


@pytest.fixture
def nets(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(NETWORKS)
    return str(path)


@pytest.fixture
def tomogram(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).normal(size=SHAPE)
    rc.write_volume(tmp_path / "tomo.mrc", rc.Volume(voxels, AFFINE, "angstrom"))
    return tmp_path / "tomo.mrc"


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the networks and the volume, for tests that share the cost of a run."""
    folder = tmp_path_factory.mktemp("stage")
    (folder / "nets.py").write_text(NETWORKS)
    voxels = np.random.default_rng(0).normal(size=SHAPE)
    rc.write_volume(folder / "tomo.mrc", rc.Volume(voxels, AFFINE, "angstrom"))
    return folder


class Run:
    """Calls `explain_large` with small defaults."""

    def __init__(self, nets: str, source: Path, folder: Path):
        self.nets, self.source, self.folder = nets, source, folder

    def settings(self, **changes) -> LargeSettings:
        given = {"window": (8, 8, 8), "layer": "second", "target": 1, "threads": 1, "chunk": 12}
        return LargeSettings(**{**given, **changes})

    def __call__(self, out="out", network="net", source=None, options=None, **changes):
        address = ModelAddress(f"{self.nets}:{network}")
        return explain_large(
            source or self.source,
            self.folder / out,
            address,
            self.settings(**changes),
            **(options or {}),
        )

    def model(self, network="net") -> torch.nn.Module:
        return load_model(f"{self.nets}:{network}").module


@pytest.fixture
def run(nets: str, tomogram: Path, tmp_path: Path) -> Run:
    return Run(nets, tomogram, tmp_path)


def slowly(explainer, voxels, window, stride, target, *, mean):
    """One window after the other, placed and added up in float64: (target, z, y, x)."""
    axes = []
    for size in voxels.shape:
        starts = list(range(0, size - window + 1, stride))
        axes.append(starts if starts[-1] + window == size else [*starts, size - window])
    ramp = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1)).astype(float)
    weight = np.einsum("z,y,x->zyx", ramp, ramp, ramp) if mean else np.ones([window] * 3)
    total, weights, raw = 0, np.zeros(voxels.shape), 0
    for corner in product(*axes):
        box = tuple(slice(a, a + window) for a in corner)
        found = explainer(torch.from_numpy(voxels[box].copy())[None, None], target=target)
        placed = found.place("value" if mean else "sum")[0].double().numpy()
        total = np.zeros((len(placed), *voxels.shape)) if isinstance(total, int) else total
        total[(slice(None), *box)] += weight * placed
        weights[box] += weight
        raw += found.maps.double().sum().item()
    return (total / weights if mean else total), raw


@pytest.fixture
def reference():
    return slowly


def content(folder: Path) -> dict[str, bytes]:
    """All files of a result, the manifest's look at the input apart."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    }


@pytest.fixture
def bytes_of():
    return content

"""What the README tells a newcomer to run, runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from respondcam import RespondCAM, Volume
from respondcam.cryoet.demo import demo_network, demo_scene

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, text=True,
        encoding="utf-8",
        capture_output=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def after_the_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    run = shell("respondcam demo", folder)
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow
def test_the_python_runs_as_it_stands(after_the_demo: Path) -> None:
    (code,) = blocks("python")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=after_the_demo, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Explanation(method='respond'" in run.stdout
    assert blocks("text")[0].strip() in run.stdout.splitlines()  # the account as the page has it
    assert (after_the_demo / "map.mrc").stat().st_size > 1024


@pytest.mark.slow
def test_the_picture_is_the_one_that_the_demo_makes(after_the_demo: Path) -> None:
    shown = ROOT / "docs" / "images" / "demo-p97.png"
    assert shown.stat().st_size < 200_000
    made = after_the_demo / "respondcam-demo" / "phantoms-0.respond.conv5.p97.png"
    one, other = (np.asarray(Image.open(path).convert("L"), float) for path in (shown, made))
    assert one.shape == other.shape
    assert np.abs(one - other).mean() < 3  # of 255: fonts differ a little between machines


def test_the_map_touches_the_edge_as_the_caption_and_the_page_on_reading_say() -> None:
    scene = demo_scene(seed=0)
    p97 = scene.masks[scene.classes.index("p97")].numpy()
    assert np.argwhere(p97)[:, 2].min() == 3  # voxels before the particle
    network, names = demo_network()
    volume = scene.volume.normalized("zscore")
    explain = RespondCAM(network, layer="conv5")

    def sums(voxels: np.ndarray) -> np.ndarray:
        """Of the map's voxels at each x; as if the head took no mean."""
        found = explain(Volume(voxels), target=names.index("p97"))
        assert found.grid.stride == (4.0, 4.0, 4.0)
        return found.maps[0, 0].sum(dim=(0, 1)).numpy() * found.maps.shape[-1]

    at_edge = sums(volume.voxels)[0]
    spread = volume.voxels[:, :8].std()  # above both particles
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0, spread, (40, 40, 16)).astype(np.float32)
        inside = sums(np.concatenate([noise, volume.voxels], axis=2))[4]
        assert 0.38 < inside / at_edge < 0.52


NETWORK = """
from torch import nn
def build():
    first, second = nn.Conv3d(1, 4, 3, stride=2), nn.Conv3d(4, 8, 3, stride=2)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool3d(1))
    model.add_module("layer4", nn.Sequential())
    head = nn.Sequential(nn.Flatten(), nn.Linear(8, 4))
    whole = nn.Sequential()
    whole.layer4 = model[:4]
    whole.pool, whole.head = model[4], head
    return whole
"""


@pytest.mark.slow
def test_the_commands_run_as_they_stand(tmp_path: Path) -> None:
    prepare = f"""
import numpy as np, torch, sys
sys.path.insert(0, {str(tmp_path)!r})
import mynet, respondcam as rc
torch.save(mynet.build().state_dict(), "weights.pt")
rng = np.random.default_rng(0)
rc.write_volume("scan.nii.gz", rc.Volume(rng.normal(size=(20, 21, 22)), unit="mm"))
for name in ("a", "b"):
    volume = rc.Volume(rng.normal(size=(20, 20, 20)), np.diag([8.0, 8, 8, 1]), "angstrom")
    rc.write_volume(f"volumes/{{name}}.mrc", volume)
tomogram = rc.Volume(rng.normal(size=(70, 66, 72)), np.diag([8.0, 8, 8, 1]), "angstrom")
rc.write_volume("tomogram.mrc", tomogram)
"""
    (tmp_path / "mynet.py").write_text(NETWORK)
    (tmp_path / "volumes").mkdir()
    subprocess.run([sys.executable, "-c", prepare], cwd=tmp_path, check=True)
    commands = [
        line[2:]
        for console in blocks("console")
        for line in console.splitlines()
        if line.startswith("$ ")
    ]
    assert len(commands) == 11
    for command in commands:
        run = shell(command, tmp_path)
        assert run.returncode == 0, f"{command}\n{run.stderr}"
    assert (tmp_path / "accounts.csv").read_text("utf-8").count("\n") >= 3
    assert any((tmp_path / "respondcam-maps").glob("scan*.nii.gz"))
    assert any((tmp_path / "maps").glob("*.png"))
    assert any((tmp_path / "maps").glob("*.report.html"))
    assert any((tmp_path / "whole").glob("*.ome.zarr"))

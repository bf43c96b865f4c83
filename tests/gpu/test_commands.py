"""The commands on a GPU: each as a user types it, its results beside those of the processor."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import respondcam as rc

MAIN = "from respondcam.cli import main; main()"


def respondcam(*words: object, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, words)],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the volume of the demo."""
    folder = tmp_path_factory.mktemp("boxes")
    if torch.cuda.is_available():
        respondcam("demo", folder=folder)
    return folder


def maps(out: Path) -> np.ndarray:
    (path,) = out.glob("*.input.mrc")
    return rc.read_volume(path).voxels


def test_explain_is_the_same_on_both(boxes: Path) -> None:
    for device in ("cpu", "cuda", "cuda:0"):
        words = ("explain", "respondcam-demo/phantoms-0.mrc", "--model", "demo", "--target", "p97")
        respondcam(*words, "--device", device, "--out", device.replace(":", "-"), folder=boxes)
    one = maps(boxes / "cpu")
    for name in ("cuda", "cuda-0"):
        np.testing.assert_allclose(maps(boxes / name), one, atol=5e-3 * float(np.abs(one).max()))


def test_a_gpu_that_is_not_there(boxes: Path) -> None:
    words = ("explain", "respondcam-demo/phantoms-0.mrc", "--model", "demo", "--device", "cuda:99")
    done = respondcam(*words, folder=boxes, code=2)
    assert "cuda:0" in done.stderr


def test_window_by_window(boxes: Path) -> None:
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("distributed")
    found = []
    for device in ("cpu", "cuda"):
        words = ("explain", "respondcam-demo/phantoms-0.mrc", "--model", "demo", "--target", "p97")
        more = ("--window", "24", "--stitch", "sum", "--device", device, "--out", f"large-{device}")
        respondcam(*words, *more, folder=boxes)
        (store,) = (boxes / f"large-{device}").glob("*.ome.zarr")
        found.append(np.asarray(zarr.open_group(store, mode="r")["0"][...]))
    largest = float(np.abs(found[0]).max())
    np.testing.assert_allclose(found[1], found[0], atol=5e-3 * largest)


def test_a_dry_run_measures_the_gpu(boxes: Path) -> None:
    pytest.importorskip("zarr")
    words = ("explain", "respondcam-demo/phantoms-0.mrc", "--model", "demo", "--window", "24")
    done = respondcam(*words, "--dry-run", "--device", "cuda", "--json", folder=boxes)
    assert json.loads(done.stdout)["estimates"][0]["windows"] > 0


def test_audit_and_compare(boxes: Path) -> None:
    words = ("respondcam-demo/phantoms-0.mrc", "--model", "demo", "--device", "cuda")
    respondcam("audit", *words, "--csv", "accounts.csv", folder=boxes)
    assert (boxes / "accounts.csv").read_text("utf-8").count("\n") > 1
    methods = [word for name in ("respond", "grad", "ablation") for word in ("--method", name)]
    respondcam("compare", *words, *methods, "--out", "compared", folder=boxes)
    assert list((boxes / "compared").glob("*.json"))


@pytest.mark.slow
def test_simulate_train_explain_and_average(tmp_path: Path) -> None:
    pytest.importorskip("gemmi")
    pytest.importorskip("torch_fourier_slice")
    both = ("--data", "groel", "--data", "p97", "--snr", "1", "--device", "cuda")
    respondcam("simulate", *both, "--per-class", "2", "--out", "particles", folder=tmp_path)
    respondcam(
        "train", *both, "--per-class", "20", "--epochs", "1", "--out", "training", folder=tmp_path
    )
    model = ("--model", "paper:cnn-2", "--weights", "training/model.safetensors")
    respondcam(
        "explain",
        *map(str, sorted(tmp_path.glob("particles/subtomograms/*.mrc"))),
        *model,
        "--device",
        "cuda",
        "--report",
        folder=tmp_path,
    )
    respondcam(
        "average",
        "particles/particles.star",
        "--class",
        "p97",
        *model,
        "--device",
        "cuda",
        "--out",
        "average",
        folder=tmp_path,
    )
    assert list((tmp_path / "average").iterdir())

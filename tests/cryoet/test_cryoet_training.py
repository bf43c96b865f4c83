"""Training: what is learned from, that it learns, that it can be interrupted anywhere."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.simulation import Simulation, write_simulation
from respondcam.cryoet.templates import load_templates
from respondcam.cryoet.training import Schedule, TrainingResult, accuracy, train_classifier
from respondcam.cryoet.training_data import Images, simulated_images
from respondcam.cryoet.training_folder import list_folder, read_images, split_listed
from respondcam.errors import InputError
from respondcam.network.sources import load_model
from respondcam.volume import Volume, write_volume


def densities() -> torch.Tensor:
    found = torch.zeros(2, 12, 12, 12)
    found[0, 4:8, 4:8, 4:8] = 1
    found[1, 3:9, 5:7, 5:7] = 1
    return found


def images(per_class: int = 20, seed: int = 1, snr: float = math.inf) -> Images:
    imaging = Imaging(snr=snr, ctf=None, resolution_angstrom=None)
    return simulated_images(
        densities(), imaging, per_class=per_class, size=12, max_shift_voxels=1.0, seed=seed
    )


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv3d(1, 8, 5), nn.ReLU(), nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(8, 2)
    )


def train(folder: Path, model: nn.Module | None = None, **how: object) -> TrainingResult:
    options = {"epochs": 3, "batch": 8, "learning_rate": 0.05, "precision": "fp32", **how}
    return train_classifier(
        model or network(),
        images,
        lambda: images(10, 2),
        classes=["cube", "rod"],
        folder=folder,
        schedule=Schedule(**options),  # pyright: ignore[reportArgumentType]
    )


def test_noise_is_fresh_and_at_the_ratio_asked_for() -> None:
    noisy, clean = images(snr=0.5), images()
    first, labels = next(noisy.batches(8, seed=1, shuffle=False))
    second, _ = next(noisy.batches(8, seed=2, shuffle=False))
    again, _ = next(noisy.batches(8, seed=1, shuffle=False))
    plain, same = next(clean.batches(8, seed=1, shuffle=False))
    assert torch.equal(first, again)
    assert torch.equal(labels, same)
    assert float((first - second).abs().mean()) > 0.1
    torch.testing.assert_close(first.std(dim=(1, 2, 3, 4), correction=0), torch.ones(8))
    # image = (s + n) / sqrt(1 + 1/snr) with s standardised, and s and n independent
    along = (first * plain).mean(dim=(1, 2, 3, 4)).mean()
    assert abs(float(along) - 1 / math.sqrt(1 + 1 / 0.5)) < 0.05


def test_half_turns_are_poses_that_the_simulation_could_have_drawn() -> None:
    """Turning the density by 180 degrees and imaging it gives the flipped image."""
    from respondcam.cryoet.poses import Poses
    from respondcam.cryoet.subtomograms import simulate_subtomograms
    from respondcam.cryoet.training_data import _HALF_TURNS

    density = torch.rand(1, 12, 12, 12) * densities()[1]
    diagonals = {(1, 3): (-1.0, 1.0, -1.0), (1, 2): (-1.0, -1.0, 1.0), (2, 3): (1.0, -1.0, -1.0)}
    generator = torch.Generator().manual_seed(0)

    def imaged(rotation: torch.Tensor) -> torch.Tensor:
        poses = Poses(rotation[None], torch.zeros(1, 3))
        label = torch.zeros(1, dtype=torch.long)
        boxes = simulate_subtomograms(
            density, label, poses, Imaging(), size=16, generator=generator
        )
        return boxes.volumes[:, 0]

    upright = imaged(torch.eye(3))
    matched = 0
    for axes in _HALF_TURNS[1:]:
        turned = [imaged(torch.diag(torch.tensor(d))) for d in diagonals.values()]
        matched += any(torch.allclose(t, upright.flip(axes), atol=1e-3) for t in turned)
    assert matched == 3


def test_a_tilt_range_that_is_not_symmetric_allows_one_half_turn_only() -> None:
    symmetric, lopsided = images(), images()
    lopsided = Images(
        lopsided.volumes, lopsided.labels, Imaging(tilt_degrees=(-60.0, 40.0), snr=math.inf)
    )
    kinds = []
    for source in (symmetric, lopsided):
        seen = set()
        for seed in range(6):
            order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
            batch, _ = next(source.batches(40, seed=seed))
            for image, original in zip(batch[:, 0], source.volumes[order].float(), strict=True):
                for axes in ((), (0, 2), (0, 1), (1, 2)):
                    if torch.allclose(image, original.flip(axes), atol=0.02):
                        seen.add(axes)
                        break
        kinds.append(seen)
    assert kinds[0] == {(), (0, 2), (0, 1), (1, 2)}
    assert kinds[1] == {(), (0, 2)}


def test_it_learns_and_leaves_weights_card_and_nothing_else(tmp_path: Path) -> None:
    model = network()
    before = accuracy(network(), images(10, 2))
    result = train(tmp_path / "run", model, epochs=8)
    assert result.accuracy > max(before, 0.85)
    assert accuracy(model, images(10, 2)) == result.accuracy
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["card.md", "classes.json", "model.safetensors", "training.json"]
    card = (tmp_path / "run" / "card.md").read_text("utf-8")
    assert f"{100 * result.accuracy:.1f} %" in card
    assert json.loads((tmp_path / "run" / "classes.json").read_text("utf-8")) == ["cube", "rod"]
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_a_finished_training_is_read_and_another_one_refused(tmp_path: Path) -> None:
    first = train(tmp_path)
    model = network()
    begin = time.perf_counter()
    again = train(tmp_path, model)
    assert time.perf_counter() - begin < 1
    assert (again.accuracy, again.history) == (first.accuracy, first.history)
    assert accuracy(model, images(10, 2)) == first.accuracy
    with pytest.raises(InputError, match=r'another training: schedule is {"epochs": 3} there'):
        train(tmp_path, epochs=4)


def test_early_stopping(tmp_path: Path) -> None:
    result = train(tmp_path, epochs=40, patience=2)
    assert len(result.history) < 40


def test_bfloat16_learns_too(tmp_path: Path) -> None:
    result = train(tmp_path, epochs=6, precision="bf16")
    assert result.precision == "bf16"
    assert result.accuracy > 0.7


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_cryoet_training as t
from respondcam.cryoet import training
t.train_classifier = lambda *a, **k: training.train_classifier(
    *a, **k, on_epoch=lambda e: (print(e.number, flush=True), time.sleep({pause})))
print(t.train(Path({folder!r}), epochs=5).accuracy, flush=True)
"""


def start(folder: Path, pause: float) -> subprocess.Popen[str]:
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder), pause=pause)
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, how: signal.Signals
) -> None:
    whole = train(tmp_path / "whole", epochs=5)
    with start(tmp_path / "cut", 0.7) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert process.stdout.readline() == "2\n"
        os.kill(process.pid, how)
        process.wait(30)
    assert process.returncode != 0
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    with start(tmp_path / "cut", 0.0) as process:
        output, _ = process.communicate(timeout=120)
    lines = output.split()
    assert lines[0] in ("2", "3")  # not from the beginning
    assert float(lines[-1]) == whole.accuracy
    mine = load_file(tmp_path / "cut" / "model.safetensors")
    for name, value in load_file(tmp_path / "whole" / "model.safetensors").items():
        torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-5)


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        train_classifier(
            network(),
            images,
            lambda: images(10, 2),
            classes=["cube", "rod"],
            folder=tmp_path,
            schedule=Schedule(epochs=3, batch=8, precision="fp32"),
            on_epoch=stop_at(2),
        )
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert last.is_file()
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(InputError, match=r"last\.ckpt.*Delete it"):
        train_classifier(
            network(),
            images,
            lambda: images(10, 2),
            classes=["cube", "rod"],
            folder=tmp_path,
            schedule=Schedule(epochs=3, batch=8, precision="fp32"),
        )


def stop_at(number: int) -> Callable[..., None]:
    def stop(epoch: object) -> None:
        if getattr(epoch, "number", 0) == number:
            raise RuntimeError("stop")

    return stop


def test_scores_that_do_not_match_the_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must give \(1, 3\)"):
        train_classifier(
            network(), images, images, classes=["a", "b", "c"], folder=tmp_path, schedule=Schedule()
        )


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        train(tmp_path / "file" / "run")
    (tmp_path / "model.safetensors").write_text("somebody's")
    with pytest.raises(InputError, match="no training that is known"):
        train(tmp_path)
    assert (tmp_path / "model.safetensors").read_text("utf-8") == "somebody's"


def test_the_weights_bring_their_classes(tmp_path: Path) -> None:
    from respondcam.network.paper import cnn_2

    def big(per_class: int) -> Images:
        return simulated_images(
            torch.nn.functional.pad(densities(), (2, 2) * 3),
            Imaging(snr=1.0),
            per_class=per_class,
            size=16,
            max_shift_voxels=0.5,
            seed=0,
        )

    train_classifier(
        cnn_2(2, 16),
        lambda: big(2),
        lambda: big(1),
        classes=["cube", "rod"],
        folder=tmp_path,
        schedule=Schedule(epochs=1, batch=2, precision="fp32"),
    )
    loaded = load_model(
        "paper:cnn-2", weights=tmp_path / "model.safetensors", arguments={"size": 16}
    )
    assert loaded.class_names == ("cube", "rod")


def fill(folder: Path, counts: dict[str, int], side: int = 8) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            voxels = np.random.default_rng(i).normal(size=(side,) * 3).astype(np.float32)
            write_volume(folder / name / f"{i}.mrc", Volume(voxels, np.eye(4), "angstrom"))
    return folder


def test_a_folder_of_volumes(tmp_path: Path) -> None:
    listed = list_folder(fill(tmp_path, {"a": 5, "b": 3, "c": 2}), ["c", "a"])
    assert listed.classes == ("c", "a")
    assert listed.labels == (1, 1, 1, 1, 1, 0, 0)
    learn, measure = split_listed(listed, share=0.4, seed=0)
    assert sorted(learn.labels) == [0, 1, 1, 1]
    assert sorted(measure.labels) == [0, 1, 1]
    assert not set(learn.files) & set(measure.files)
    found = read_images(learn)
    batch, _ = next(found.batches(4, seed=0))
    torch.testing.assert_close(
        batch.std(dim=(1, 2, 3, 4), correction=0), torch.ones(4), rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize(
    ("counts", "only", "message"),
    [
        ({}, None, "holds no images"),
        ({"a": 3}, None, "holds one class"),
        ({"a": 3, "b": 1}, None, "has one image"),
        ({"a": 3, "b": 3}, ["x"], "There is no class 'x'"),
    ],
)
def test_folders_with_too_little(
    tmp_path: Path, counts: dict[str, int], only: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list_folder(fill(tmp_path, counts), only)


def test_boxes_of_several_sizes(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 2})
    fill(tmp_path, {"b": 2}, side=9)
    with pytest.raises(InputError, match="boxes of one size"):
        read_images(list_folder(tmp_path))


def test_a_zarr_dataset_is_read_like_the_files(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    templates = load_templates(["groel", "p97"], size=24)
    simulation = Simulation(size=24, per_class=2)
    write_simulation(simulation, templates, tmp_path / "files")
    write_simulation(simulation, templates, tmp_path / "one", format="zarr")
    files, one = list_folder(tmp_path / "files"), list_folder(tmp_path / "one")
    assert files.labels == one.labels
    torch.testing.assert_close(read_images(files).volumes, read_images(one).volumes)
    pairs = Simulation(Imaging(voxel_size_angstrom=10.0), size=40, per_class=1, particles=2)
    write_simulation(pairs, load_templates(["groel", "p97"]), tmp_path / "pairs", format="zarr")
    with pytest.raises(InputError, match="2 particles in each image"):
        list_folder(tmp_path / "pairs")

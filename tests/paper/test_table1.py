"""Table 1: the two formulas against an independent computation, the controls, and resuming."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

from respondcam.errors import InputError
from respondcam.network.paper import cnn_2
from respondcam.paper import table1_run
from respondcam.paper.networks import TEST, Laboratory, Setting, quiet
from respondcam.paper.table1 import best_factor, columns, head_with_biases, measure
from respondcam.paper.table1_page import markdown
from respondcam.paper.table1_run import reproduce_table1

SETTING = Setting("CNN-2", math.inf)


def by_hand(model: nn.Module, image: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, sums of Grad-CAM and of Respond-CAM of all classes, from the formulas, in float64."""
    layers = dict(model.double().named_children())
    activation = image.double()
    for name in ("conv1", "maxpool1", "conv2", "maxpool2"):
        activation = layers[name](activation)
    activation = activation.detach().requires_grad_()
    scores = layers["fc2"](layers["fc1"](layers["flatten"](activation)))[0]
    grad, respond = [], []
    for score in scores:
        (slope,) = torch.autograd.grad(score, activation, retain_graph=True)
        one, field = slope[0].detach().numpy(), activation[0].detach().numpy()
        weights = one.mean(axis=(1, 2, 3))
        grad.append((weights[:, None, None, None] * field).sum())
        total = field.sum(axis=(1, 2, 3))
        ratio = np.where(total > 1e-9, (field * one).sum(axis=(1, 2, 3)) / (total + 1e-30), 0.0)
        respond.append((ratio[:, None, None, None] * field).sum())
    return scores.detach().numpy(), np.array(grad), np.array(respond)


def test_rows_are_the_publications_formulas(laboratory: Laboratory) -> None:
    images = laboratory.images(SETTING, 2, TEST)
    model = cnn_2(3, laboratory.plan.size)
    row, sums = measure(model, images, network="CNN-2", snr=math.inf)
    batch = torch.cat([one for one, _ in images.batches(4, seed=0, shuffle=False)])
    expected = [by_hand(model, image[None]) for image in batch]
    score, grad, respond = (np.stack(column) for column in zip(*expected, strict=True))
    np.testing.assert_allclose(sums.score, score, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sums.grad, grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sums.respond, respond, rtol=1e-4, atol=1e-6)
    l1 = np.abs(grad - score).mean(axis=1)
    assert row.grad.l1.mean == pytest.approx(l1.mean(), rel=1e-4)
    assert row.grad.l1.std == pytest.approx(l1.std(), rel=1e-3)
    tau = [
        kendalltau(one, other).statistic
        for one, other in zip(sums.respond.numpy(), sums.score.numpy(), strict=True)
    ]
    assert row.respond.tau.mean == pytest.approx(np.mean(tau))
    assert row.zero.l1.mean == pytest.approx(np.abs(score).mean(), rel=1e-4)
    right = score.argmax(axis=1) == sums.labels.numpy()
    assert row.accuracy == pytest.approx(right.mean())


def test_the_best_rescaling_is_least_squares() -> None:
    mapped, score = torch.randn(7, 5), torch.randn(7, 5)
    (expected,), *_ = np.linalg.lstsq(mapped.reshape(-1, 1), score.flatten(), rcond=None)
    assert best_factor(mapped, score) == pytest.approx(float(expected), rel=1e-5)
    assert math.isnan(best_factor(torch.zeros(2, 2), torch.ones(2, 2)))


def test_biases_of_the_head_are_what_respond_cam_leaves_open(laboratory: Laboratory) -> None:
    images = laboratory.images(SETTING, 2, TEST)
    row, _ = measure(cnn_2(3, laboratory.plan.size), images, network="CNN-2", snr=math.inf)
    by_factor = {factor: summary.l1.mean for factor, summary in row.bias}
    assert list(by_factor) == [0.0, 1.0, 10.0, 30.0, 100.0]
    assert by_factor[0.0] < 1e-5
    assert by_factor[1.0] < by_factor[10.0] < by_factor[100.0]
    assert by_factor[1.0] == pytest.approx(row.respond.l1.mean, rel=1e-3)


def test_biases_before_the_layer_stay() -> None:
    model = cnn_2(3, 16)
    scaled = head_with_biases(model, 10.0)
    before, after = dict(model.named_parameters()), dict(scaled.named_parameters())
    for name in before:
        factor = 10.0 if name in ("fc1.linear.bias", "fc2.bias") else 1.0
        torch.testing.assert_close(after[name], factor * before[name])


def test_table_is_made_and_continued(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    laboratory = dataclasses.replace(laboratory, tell=said.append)
    monkeypatch.setattr(table1_run.os, "cpu_count", lambda: 1)
    rows = reproduce_table1(laboratory, ["CNN-2"], per_class=2)
    assert [(row.network, row.snr, row.images) for row in rows] == [
        ("CNN-2", math.inf, 6),
        ("CNN-2", 0.1, 6),
    ]
    assert any("epoch 1/2" in line for line in said)
    folder = laboratory.folder
    with (folder / "table1.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["snr"] for line in table] == ["infinity", "0.1"]
    assert float(table[0]["respond_cam_l1_mean"]) == pytest.approx(rows[0].respond.l1.mean)
    text = (folder / "table1.md").read_text("utf-8")
    assert f"{rows[1].grad.l1.mean:.3f}" in text
    assert "biases x 100" in text
    assert (folder / "table1.png").read_bytes()[:4] == b"\x89PNG"

    # what is there is not made again; what is missing is
    said.clear()
    kept = folder / "table1" / "cnn-2-no-noise-2.json"
    before = kept.stat().st_mtime_ns
    (folder / "table1" / "cnn-2-snr-0.1-2.json").unlink()
    again = reproduce_table1(laboratory, ["CNN-2"], per_class=2)
    assert kept.stat().st_mtime_ns == before
    assert not any("epoch" in line for line in said)  # the network is there, too
    assert [json.loads(json.dumps(dataclasses.asdict(row))) for row in again] == [
        json.loads(json.dumps(dataclasses.asdict(row))) for row in rows
    ]


def test_two_rows_side_by_side_are_the_same_as_one_after_the_other(
    laboratory: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert laboratory.tell is quiet
    monkeypatch.setattr(table1_run.os, "cpu_count", lambda: 2)
    beside = reproduce_table1(laboratory, ["CNN-2"], per_class=1)
    monkeypatch.setattr(table1_run.os, "cpu_count", lambda: 1)
    other = dataclasses.replace(laboratory, folder=tmp_path / "other")
    after = reproduce_table1(other, ["CNN-2"], per_class=1)
    for one, two in zip(beside, after, strict=True):
        assert one.images == two.images
        # trained with other numbers of threads, so only nearly the same
        assert one.zero.l1.mean == pytest.approx(two.zero.l1.mean, rel=0.2)


def test_columns_and_page_hold_every_row(laboratory: Laboratory) -> None:
    images = laboratory.images(SETTING, 1, TEST)
    row, _ = measure(cnn_2(3, laboratory.plan.size), images, network="CNN-2", snr=math.inf)
    other = dataclasses.replace(row, network="CNN-1", snr=0.1)
    flat = columns([row, other])
    assert [one["network"] for one in flat] == ["CNN-2", "CNN-1"]
    assert flat[0].keys() == flat[1].keys()
    page = markdown([row, other])
    assert page.count("| CNN-1 | 0.1 |") == page.count("| CNN-2 | infinity |") == 3


def test_another_run_and_too_little_are_refused(laboratory: Laboratory) -> None:
    laboratory.claim()
    other = dataclasses.replace(laboratory.plan, seed=1)
    with pytest.raises(InputError, match="holds another reproduction: its plan is"):
        dataclasses.replace(laboratory, plan=other).claim()
    single = dict(list(laboratory.templates.items())[:1])
    with pytest.raises(InputError, match="fewer than two"):
        dataclasses.replace(laboratory, templates=single).claim()
    with pytest.raises(InputError, match="per_class=0"):
        reproduce_table1(laboratory, ["CNN-2"], per_class=0)

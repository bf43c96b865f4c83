"""The localisation experiment: images with the object where the mask says, and its controls."""

import csv
import dataclasses
import math

import pytest
import torch

from respondcam.attribution import Explanation
from respondcam.cryoet.subtomograms import density_radius
from respondcam.network.paper import cnn_2
from respondcam.paper.localisation import (
    ChannelSum,
    _pairs,
    _shifted,
    reproduce_localisation,
)
from respondcam.paper.networks import Laboratory


def test_shifted_particles_are_whole_and_off_the_middle(laboratory: Laboratory) -> None:
    images = _shifted(laboratory, 4, 3.0)
    assert images.volumes.shape == (12, 1, 16, 16, 16)
    assert images.asked.tolist() == [0, 1, 2] * 4
    size = laboratory.plan.size
    for label, mask in zip(images.asked.tolist(), images.masks, strict=True):
        voxels = laboratory.templates[list(laboratory.templates)[label]].voxels
        room = size / 2 - density_radius(torch.tensor(voxels))
        centre = mask.nonzero().double().mean(dim=0) - (size - 1) / 2
        assert centre.abs().max() <= min(3.0, max(room, 0)) + 0.8


def test_pairs_hold_two_classes_and_the_mask_of_the_first(laboratory: Laboratory) -> None:
    small = dataclasses.replace(laboratory, plan=dataclasses.replace(laboratory.plan, size=10))
    assert _pairs(small, 2, 3.0) is None  # there is no room for two
    roomy = dataclasses.replace(laboratory, plan=dataclasses.replace(laboratory.plan, size=24))
    images = _pairs(roomy, 2, 3.0)
    assert images is not None
    assert (images.there[:, 0] != images.there[:, 1]).all()
    assert torch.equal(images.asked, images.there[:, 0])
    assert images.masks.flatten(1).any(dim=1).all()


def test_the_channel_sum_knows_nothing_of_the_target() -> None:
    model = cnn_2(3, 16)
    explanation = ChannelSum(model, layer="maxpool2")(torch.randn(1, 1, 16, 16, 16), target="all")
    assert isinstance(explanation, Explanation)
    maps = explanation.maps[0]
    torch.testing.assert_close(maps[0], maps[1])
    assert maps[0].max() > 0


def test_the_experiment_prints_all_controls(laboratory: Laboratory) -> None:
    rows = reproduce_localisation(laboratory, ["CNN-2"], per_class=2)
    methods = [row.method for row in rows if row.images == "shifted"]
    assert methods[0] == "Respond-CAM"
    assert {"control: channel sum", "control: centred", "control: uniform"} <= set(methods)
    uniform = next(row for row in rows if row.method == "control: uniform")
    assert uniform.figures.mass == pytest.approx(uniform.figures.pointing)
    with (laboratory.folder / "localisation.csv").open(encoding="utf-8", newline="") as file:
        assert [line["method"] for line in csv.DictReader(file)] == [row.method for row in rows]
    text = (laboratory.folder / "localisation.md").read_text("utf-8")
    assert f"{uniform.figures.mass:.3f}" in text
    assert not math.isnan(uniform.figures.mass_std)

"""Targets in a part of a dense output: the parts agree with each other, and the maps add up."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from respondcam import HiResCAM, RespondCAM, Volume, targets
from respondcam.attribution import Explanation
from respondcam.errors import TargetError


def segmenter(classes: int = 3) -> nn.Module:
    """A linear head behind the layer, so that every map adds up."""
    return nn.Sequential(
        nn.Conv3d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv3d(5, classes, 3, padding=1, bias=False)
    )


def explained(model: nn.Module, x: Tensor, target: object, method: type = HiResCAM) -> Explanation:
    found = method(model, layer="1")(x, target=target)
    assert isinstance(found, Explanation)
    return found


BOX = torch.zeros(6, 7, 8, dtype=torch.bool)
BOX[1:3, 2:6, 0:4] = True


@pytest.mark.parametrize("method", [HiResCAM, RespondCAM])
@pytest.mark.parametrize(
    "target",
    [
        targets.mask(BOX, 2),
        targets.box([1, 2, 0], [3, 6, 4], 2),
        targets.voxel([3, 3, 3], 0),
        targets.contrast(1, 2),
    ],
)
def test_maps_of_a_part_add_up(target: object, method: type) -> None:
    found = explained(segmenter(), torch.randn(2, 1, 6, 7, 8), target, method)
    assert found.scores.shape == (2, 1)
    torch.testing.assert_close(found.maps.sum(dim=(2, 3, 4)), found.scores, rtol=1e-4, atol=1e-4)


def test_a_map_stays_near_its_voxel() -> None:
    found = explained(segmenter(), torch.randn(1, 1, 6, 7, 8), targets.voxel([3, 3, 3], 1))
    outside = found.maps[0, 0].clone()
    outside[2:5, 2:5, 2:5] = 0  # the head looks one voxel around
    assert outside.abs().max() == 0


def test_a_box_is_its_mask_and_a_voxel_a_box_of_one() -> None:
    model, x = segmenter(), torch.randn(1, 1, 6, 7, 8)
    whole = explained(model, x, targets.mask(BOX, 2))
    box = explained(model, x, targets.box([1, 2, 0], [3, 6, 4], 2))
    torch.testing.assert_close(box.maps, whole.maps)
    assert box.targets == ("class 2 in the box 1, 2, 0 to 3, 6, 4",)
    one = explained(model, x, targets.voxel([5, 6, 7], 2))
    same = explained(model, x, targets.box([5, 6, 7], [6, 7, 8], 2))
    torch.testing.assert_close(one.maps, same.maps)


@pytest.mark.parametrize("form", [np.asarray, torch.Tensor.float, lambda m: Volume(m.numpy())])
def test_masks_come_in_every_form(form) -> None:
    output = torch.randn(1, 3, 6, 7, 8)
    scores = targets.mask(form(BOX), 1)(output)
    assert isinstance(scores, targets.Scores)
    torch.testing.assert_close(scores.values[0, 0], output[0, 1][BOX].sum())


def test_each_sample_may_have_its_mask() -> None:
    output = torch.randn(2, 3, 6, 7, 8)
    both = torch.stack([BOX, ~BOX])
    scores = targets.mask(both, 0)(output)
    assert isinstance(scores, targets.Scores)
    torch.testing.assert_close(scores.values[1, 0], output[1, 0][~BOX].sum())


def test_components_are_told_apart() -> None:
    output = torch.full((1, 2, 6, 6), -1.0)
    output[0, 0] = 0.0
    output[0, 1, 0, 0:2] = 1.0  # two voxels
    output[0, 1, 3:6, 3:6] = 2.0  # nine
    output[0, 1, 2, 2] = 5.0  # touches the large one by a corner only
    largest = targets.component(1)(output)
    assert isinstance(largest, targets.Scores)
    assert largest.values.item() == 18
    assert largest.labels == ("class 1, largest part",)
    small = targets.component(1, at=[0, 1])(output)
    assert isinstance(small, targets.Scores)
    assert small.values.item() == 2
    # decided once: on another output it is the same part
    assert small.again is not None
    assert small.again(torch.ones_like(output)).item() == 2
    with pytest.raises(TargetError, match=r"not predicted at voxel \[5, 0\]"):
        targets.component(1, at=[5, 0])(output)
    with pytest.raises(TargetError, match="predicted nowhere"):
        targets.component(1)(torch.eye(2)[0].view(1, 2, 1, 1).expand(1, 2, 6, 6))


def test_the_only_component_is_the_predicted_class() -> None:
    model, x = segmenter(2), torch.randn(1, 1, 6, 7, 8)
    output = torch.zeros(1, 2, 4, 4)
    output[0, 1, 1:3, 1:3] = 1.0
    part, whole = targets.component(1)(output), targets.class_score(1)(output)
    assert isinstance(part, targets.Scores)
    assert isinstance(whole, targets.Scores)
    torch.testing.assert_close(part.values, whole.values)
    found = explained(model, x, targets.component(0))
    torch.testing.assert_close(found.maps.sum(dim=(2, 3, 4)), found.scores, rtol=1e-4, atol=1e-4)


def test_a_single_logit_has_two_classes() -> None:
    output = torch.randn(1, 1, 6, 7, 8)
    inside, outside = (targets.mask(BOX, number)(output) for number in (1, 0))
    assert isinstance(inside, targets.Scores)
    assert isinstance(outside, targets.Scores)
    torch.testing.assert_close(inside.values, -outside.values)


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        (targets.mask(BOX), torch.ones(1, 3, 6, 7, 9), r"mask has shape \(6, 7, 8\)"),
        (targets.mask(BOX.expand(3, 6, 7, 8)), torch.ones(2, 3, 6, 7, 8), "2 samples"),
        (targets.mask(torch.zeros(4)), torch.ones(1, 3, 4), "mask is empty"),
        (targets.mask(BOX, 3), torch.ones(1, 3, 6, 7, 8), "out of range"),
        (targets.mask(BOX), torch.ones(1, 3), "no spatial axes"),
        (targets.box([2], [2]), torch.ones(1, 3, 4), "is empty or not inside"),
        (targets.box([0], [5]), torch.ones(1, 3, 4), "is empty or not inside"),
        (targets.box([0, 0], [1, 1]), torch.ones(1, 3, 4), "is empty or not inside"),
        (targets.voxel([4]), torch.ones(1, 3, 4), "is not inside"),
        (targets.voxel([-1]), torch.ones(1, 3, 4), "is not inside"),
        (targets.voxel([0, 0]), torch.ones(1, 3, 4), "is not inside"),
        (targets.component(1), torch.ones(1, 3), "no spatial axes"),
        (targets.value(), torch.ones(1, 3, 4), "one number per sample"),
    ],
)
def test_impossible_parts_are_refused(target, output, message) -> None:
    with pytest.raises(TargetError, match=message):
        target(output)

"""Curves, ROAD and masked scores against slow loops, scipy and Quantus."""

import math

import numpy as np
import pytest
import torch
from quantus.functions.perturb_func import noisy_linear_imputation
from scipy.sparse.linalg import spsolve
from torch import nn

from respondcam import RespondCAM, targets
from respondcam.errors import InputError
from respondcam.evidence.combined import ARCC_SHARES, composite
from respondcam.evidence.curves import area_under
from respondcam.evidence.faithfulness import (
    Changing,
    deletion,
    insertion,
    masked_scores,
    road,
    shown_by,
)
from respondcam.evidence.fills import FILLS, fill_like
from respondcam.evidence.imputing import impute, neighbour_sum
from respondcam.evidence.ranking import ranks
from respondcam.evidence.scoring import Scorer

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def classifier(rank=3, classes=3):
    return nn.Sequential(
        CONV[rank](1, 4, 3, padding=1),
        nn.ReLU(),
        POOL[rank](1),
        nn.Flatten(),
        nn.Linear(4, classes),
    ).double()


def segmenter(classes=2):
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, classes, 1)
    ).double()


def slow_order(one):
    """Flat voxels from the highest value; maps here have no ties."""
    return np.argsort(-one.ravel().numpy(), kind="stable")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("fill", FILLS)
def test_curves_of_a_classifier_against_a_slow_loop(rank, keep, fill) -> None:
    model, spatial = classifier(rank), (5, 6, 7)[:rank]
    image = torch.randn(2, 1, *spatial, dtype=torch.float64)
    maps = torch.randn(2, 2, *spatial, dtype=torch.float64)
    how = Changing(fill=fill, steps=4, at_once=3)
    scorer = Scorer(model, image, targets.classes([2, 0]), measure="score")
    found = (insertion if keep else deletion)(scorer, maps, how)
    rest = fill_like(image, fill)
    for n in range(2):
        for t, number in enumerate((2, 0)):
            order = slow_order(maps[n, t])
            for step in range(5):
                moved = order[: round(step / 4 * len(order))]
                start, end = (rest[n], image[n]) if keep else (image[n], rest[n])
                changed = start.clone().flatten()
                changed[moved] = end.flatten()[moved]
                with torch.no_grad():
                    score = model(changed.view(1, 1, *spatial))[0, number]
                assert found.scores[n, t, step] == pytest.approx(float(score), abs=1e-9)
    assert found.area[0, 0] == pytest.approx(np.trapezoid(found.scores[0, 0].numpy(), dx=0.25))


def test_probabilities_of_classes_and_of_single_logits() -> None:
    image = torch.randn(3, 1, 4, 4, 4, dtype=torch.float64)
    model = classifier()
    wanted = model(image).softmax(1).detach()
    scorer = Scorer(model, image, [2, 0, 1])  # one class per sample
    assert scorer.measure == "probability"
    assert scorer.full[:, 0].tolist() == pytest.approx(wanted[range(3), [2, 0, 1]].tolist())
    assert scorer(image.repeat(2, 1, 1, 1, 1))[1].tolist() == scorer.full.tolist()
    binary = classifier(classes=1)
    chances = binary(image).sigmoid().detach()
    both = Scorer(binary, image, "all").full
    torch.testing.assert_close(both, torch.cat([1 - chances, chances], dim=1))


def test_a_segmentation_s_region_is_the_one_of_the_original_image() -> None:
    model, image = segmenter(), torch.randn(1, 1, 4, 5, 6, dtype=torch.float64)
    maps = torch.randn(1, 1, 4, 5, 6, dtype=torch.float64)
    scorer = Scorer(model, image, 1)
    with torch.no_grad():
        region = model(image).argmax(1)[0] == 1
        gone = fill_like(image, "mean")
        mean = model(gone).softmax(1)[0, 1][region].mean()
    found = deletion(scorer, maps, Changing(steps=2))
    assert found.scores[0, 0, -1] == pytest.approx(float(mean), abs=1e-9)
    inside = torch.zeros(4, 5, 6)
    inside[1:3, 1:3, 1:3] = 1
    of_mask = Scorer(model, image, targets.mask(inside, 1), measure="score")
    with torch.no_grad():
        total = (model(gone)[0, 1] * inside).sum()
    found = deletion(of_mask, maps, Changing(steps=2))
    assert found.scores[0, 0, -1] == pytest.approx(float(total), abs=1e-9)


def test_any_callable_is_a_target_but_has_no_probability() -> None:
    model, image = classifier(), torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)
    scorer = Scorer(model, image, lambda output: output[:, 0] - output[:, 1])
    assert scorer.measure == "score"
    found = deletion(scorer, torch.randn(2, 1, 4, 4, 4), Changing(steps=3))
    assert found.scores.shape == (2, 1, 4)
    with pytest.raises(InputError, match="no probability"):
        Scorer(model, image, targets.value(), measure="probability")
    with pytest.raises(InputError, match="ARCC needs a probability"):
        composite(scorer, torch.randn(2, 1, 4, 4, 4), lambda image: image)


def test_the_other_inputs_of_a_network_go_along() -> None:
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = classifier()

        def forward(self, image, table):
            return self.net(image) + table

    model = Two()
    image, table = torch.randn(2, 1, 4, 4, 4).double(), torch.randn(2, 3).double()
    found = deletion(
        Scorer(model, (image, table), 0), torch.randn(2, 1, 4, 4, 4), Changing(steps=5)
    )
    alone = deletion(
        Scorer(model, (image[1:], table[1:]), 0),
        torch.randn(2, 1, 4, 4, 4)[1:],
        Changing(steps=5),
    )
    torch.testing.assert_close(found.scores[1, :, [0, -1]], alone.scores[0, :, [0, -1]])


def test_a_deletion_curve_of_50_steps_costs_51_inferences() -> None:
    model = nn.Sequential(
        nn.Conv3d(1, 2, 3, stride=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
    )
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    scorer = Scorer(model, torch.randn(1, 1, 96, 96, 96))
    curve = deletion(scorer, torch.randn(1, 1, 96, 96, 96))
    assert sum(seen) == scorer.forwards == 51
    assert curve.forwards == 50
    assert curve.scores.shape == (1, 1, 51)
    assert max(seen) == 8


def test_the_model_is_as_before_and_so_are_the_inputs() -> None:
    model, image = classifier(), torch.randn(1, 1, 4, 4, 4, dtype=torch.float64)
    model.insert(1, nn.BatchNorm3d(4).double()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept, state = image.clone(), torch.get_rng_state()
    scorer = Scorer(model, image)
    deletion(scorer, torch.randn(1, 1, 4, 4, 4), Changing(fill="noise", steps=2))
    torch.set_rng_state(state)
    road(scorer, torch.zeros(1, 1, 4, 4, 4).normal_(), shares=(0.5,))
    assert model.training
    assert torch.equal(image, kept)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_background_is_neither_ranked_nor_changed() -> None:
    model, image = classifier(), torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    background = torch.zeros(1, 6, 6, 6, dtype=torch.bool)
    background[:, :2] = True
    maps = torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    hot = torch.where(background[:, None], 1e3, maps)
    scorer = Scorer(model, image, 0)
    how = Changing(steps=3, fill="zero")
    found = deletion(scorer, hot, how, background)
    assert torch.equal(found.scores, deletion(scorer, maps, how, background).scores)
    emptied = image.masked_fill(~background[:, None], 0.0)
    assert found.scores[0, 0, -1] == pytest.approx(float(scorer(emptied)[0, 0, 0]))
    places, count = ranks(hot[:, 0], background)
    assert count.item() == 4 * 36
    assert places[background].min() == count.item()
    with pytest.raises(InputError, match="covers a whole image"):
        deletion(scorer, maps, how, background | True)
    with pytest.raises(InputError, match="one per image"):
        deletion(scorer, maps, how, background[:, 1:])


def test_a_flat_map_takes_voxels_away_at_random() -> None:
    places, _ = ranks(torch.zeros(1, 20, 20))
    first = (places[0] < 40).float()
    assert first.sum() == 40
    assert (first.sum(dim=1) > 0).sum() > 12  # spread over the rows, not two of them
    assert torch.equal(places, ranks(torch.zeros(1, 20, 20))[0])


@pytest.mark.parametrize("spatial", [(9, 8), (5, 6, 7)])
def test_imputation_solves_the_system_that_scipy_solves(spatial) -> None:
    image = torch.randn(1, 2, *spatial, dtype=torch.float64)
    missing = torch.rand(1, *spatial) < 0.7
    found = impute(image, missing, noise=0.0, tolerance=1e-10)
    voxels = [tuple(v) for v in np.argwhere(missing[0].numpy())]
    number = {v: k for k, v in enumerate(voxels)}
    matrix, right = np.zeros((len(voxels),) * 2), np.zeros((len(voxels), 2))
    for v, k in number.items():
        for w in np.ndindex(*spatial):
            offset = np.abs(np.subtract(v, w))
            if offset.max() == 1:
                weight = 1 / (offset**2).sum()
                matrix[k, k] += weight
                if w in number:
                    matrix[k, number[w]] -= weight
                else:
                    right[k] += weight * image[(0, slice(None), *w)].numpy()
    from scipy.sparse import csc_matrix

    solved = spsolve(csc_matrix(matrix), right)
    for v, k in number.items():
        np.testing.assert_allclose(found[(0, slice(None), *v)], solved[k], atol=1e-6)
    assert torch.equal(found[0, :, ~missing[0]], image[0, :, ~missing[0]])


def test_in_two_dimensions_imputation_is_quantus_s() -> None:
    # Quantus 0.6, adapted from the authors' code; its weights 1/6 and 1/12 are ours over 6
    image = torch.randn(1, 2, 11, 12, dtype=torch.float64)
    missing = torch.rand(1, 11, 12) < 0.5
    indices = np.flatnonzero(missing[0].numpy())
    theirs = noisy_linear_imputation(image[0].numpy(), indices, noise=0.0)
    ours = impute(image, missing, noise=0.0, tolerance=1e-11)
    np.testing.assert_allclose(ours[0], theirs, atol=1e-6)
    kernel = neighbour_sum(torch.eye(9).view(9, 1, 3, 3))[4, 0] / 6
    assert kernel[0, 1] == pytest.approx(1 / 6)
    assert kernel[0, 0] == pytest.approx(1 / 12)


def test_imputation_s_noise_goes_with_the_image_and_nothing_left_is_refused() -> None:
    image = torch.randn(1, 1, 12, 12, 12)
    missing = torch.rand(1, 12, 12, 12) < 0.5
    small, large = (impute(s * image, missing) / s for s in (1, 1000))
    torch.testing.assert_close(small, large, atol=1e-3, rtol=1e-2)
    rough = impute(image, missing, noise=0.1) - impute(image, missing, noise=0.0)
    assert rough[0, 0][missing[0]].std() == pytest.approx(0.1 * image.std().item(), rel=0.15)
    with pytest.raises(InputError, match="nothing to fill"):
        impute(image, torch.ones_like(missing))


def test_road_against_a_slow_loop_and_its_sign() -> None:
    model, image = classifier(), torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    maps = torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    scorer = Scorer(model, image, 1)
    found = road(scorer, maps, shares=(0.3, 0.6), noise=0.0)
    order, total = slow_order(maps[0, 0]), 0.0
    for share in (0.3, 0.6):
        for sign, which in ((1, order[::-1]), (-1, order)):
            missing = torch.zeros(216, dtype=torch.bool)
            missing[which[: round(share * 216)].copy()] = True
            changed = impute(image, missing.view(1, 6, 6, 6), noise=0.0)
            total += sign * float(model(changed).softmax(1)[0, 1].detach())
    assert found.item() == pytest.approx(total / 4, abs=1e-9)
    assert road(scorer, -maps, shares=(0.3, 0.6), noise=0.0).item() == pytest.approx(-total / 4)
    with pytest.raises(InputError, match="between 0 and 1"):
        road(scorer, maps, shares=(0.0,))


def test_masked_scores_by_hand() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 1.0, 1.0, -3.0]]))
    scorer = Scorer(model, torch.tensor([[[2.0, 2.0, 2.0, 1.0]]]), 1, measure="score")  # 3
    half = masked_scores(scorer, torch.tensor([[[4.0, 2.0, 0.0, -9.0]]]))  # 2 + 1 + 0 - 0
    assert (half.drop.item(), half.increase.item()) == (0, 0)
    good = masked_scores(scorer, torch.tensor([[[1.0, 1.0, 1.0, 0.0]]]))
    assert (good.drop.item(), good.increase.item()) == (0, 1)
    bad = masked_scores(scorer, torch.tensor([[[0.0, 0.0, 1.0, 0.0]]]))
    assert bad.drop.item() == pytest.approx(1 / 3)
    negative = Scorer(model, torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]), 1, measure="score")
    assert math.isnan(masked_scores(negative, torch.ones(1, 1, 4)).drop.item())


def test_arcc_follows_its_definition() -> None:
    model, image = classifier(), torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    explainer = RespondCAM(model, layer="1")
    scorer = Scorer(model, image, 1)
    maps = explainer(image, target=1).place()
    found = composite(scorer, maps, lambda other: explainer(other, target=1).place())
    shown = maps[0, 0].clamp(min=0).numpy()
    shown = shown / shown.max()
    masked = explainer(image * torch.from_numpy(shown), target=1).place()[0, 0].clamp(min=0)
    r = np.corrcoef(masked.numpy().ravel(), shown.ravel())[0, 1]
    share = float(road(scorer, maps, shares=ARCC_SHARES))
    parts = (min(max(2 * share, 0), 1), (1 + r) / 2, 1 - shown.mean())
    assert found.coherency.item() == pytest.approx(parts[1], abs=1e-6)
    assert found.complexity.item() == pytest.approx(shown.mean(), abs=1e-6)
    expected = 3 / sum(1 / (part + 1e-8) for part in parts)
    assert found.arcc.item() == pytest.approx(expected, rel=1e-6)


def test_noise_has_the_image_s_spectrum_and_not_its_objects() -> None:
    image = torch.zeros(1, 1, 24, 24, 24)
    image[..., 4:9, 4:9, 4:9] = 1.0
    noise = fill_like(image, "noise")
    axes = (2, 3, 4)
    torch.testing.assert_close(
        torch.fft.rfftn(noise, dim=axes).abs(), torch.fft.rfftn(image, dim=axes).abs(),
        atol=2e-2, rtol=1e-2,
    )  # fmt: skip
    assert noise.mean() == pytest.approx(image.mean().item(), abs=1e-5)
    assert noise.std() == pytest.approx(image.std().item(), rel=1e-2)
    assert torch.corrcoef(torch.stack([noise.flatten(), image.flatten()]))[0, 1].abs() < 0.5
    assert torch.equal(noise, fill_like(image, "noise"))
    assert not torch.equal(noise, fill_like(image, "noise", seed=1))
    with pytest.raises(InputError, match="Accepted: zero, mean"):
        fill_like(image, "ones")


def test_what_cannot_be_measured_is_worded() -> None:
    model, image = classifier(), torch.randn(1, 1, 4, 4, 4, dtype=torch.float64)
    scorer = Scorer(model, image, 0)
    with pytest.raises(InputError, match=r"explanation\.place"):
        deletion(scorer, torch.randn(1, 2, 4, 4, 4))
    with pytest.raises(InputError, match="NaN or infinite"):
        deletion(scorer, torch.full((1, 1, 4, 4, 4), math.nan))
    with pytest.raises(InputError, match="at least 1"):
        Changing(steps=0)
    with pytest.raises(InputError, match="at least two points"):
        area_under(torch.ones(1), torch.ones(3, 1))
    standardising = nn.Sequential(
        nn.Flatten(), nn.LayerNorm(64, eps=0.0), nn.Linear(64, 2)
    ).double()
    with pytest.raises(InputError, match=r"With the fill 'zero', score .* is nan"):
        deletion(Scorer(standardising, image, 0), torch.randn(1, 1, 4, 4, 4), Changing(fill="zero"))
    assert shown_by(-torch.ones(1, 1, 3)).tolist() == [[[0.0, 0.0, 0.0]]]

"""Localisation against scikit-learn, Quantus, scipy and slow loops."""

import math

import numpy as np
import pytest
import quantus
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve

from respondcam.attribution.placing import interpolate, place
from respondcam.errors import InputError
from respondcam.evidence import locate, se3d_figures
from respondcam.evidence.boxes import box_overlaps
from respondcam.evidence.controls import uniform
from respondcam.evidence.overlap import average_precision, max_f1
from respondcam.evidence.pointing import centroid_distance, peak_distance, peaks
from respondcam.evidence.se3d import scaled, se3d_counts
from respondcam.network.grid import LayerGrid


def some(spatial=(6, 7, 8), images=3, levels=None):
    """Maps that point to the mask a little, with ties if there are few levels."""
    masks = torch.zeros(images, *spatial, dtype=torch.bool)
    for image in range(images):
        masks[(image, *(slice(1 + image % 2, 4) for _ in spatial))] = True
    maps = torch.randn(images, *spatial, dtype=torch.float64) + masks
    return (maps * levels).round() if levels else maps, masks


@pytest.mark.parametrize("spatial", [(40,), (9, 11), (6, 7, 8)])
@pytest.mark.parametrize("levels", [None, 2])
def test_average_precision_and_f1_agree_with_scikit_learn(spatial, levels) -> None:
    maps, masks = some(spatial, levels=levels)
    ours, best = average_precision(maps, masks), max_f1(maps, masks)
    for image, (one, mask) in enumerate(zip(maps.numpy(), masks.numpy(), strict=True)):
        truth, scores = mask.ravel(), one.ravel()
        assert ours[image] == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
        precision, recall, cuts = precision_recall_curve(truth, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        k = int(f1[:-1].argmax())
        found = best[image]
        assert found.f1 == pytest.approx(f1[k], abs=1e-9)
        at = int(np.searchsorted(cuts, found.threshold))
        assert (found.precision, found.recall) == pytest.approx((precision[at], recall[at]))


def test_masses_and_pointing_agree_with_quantus() -> None:
    # Quantus 0.6: its relevance mass is of the signed map; on a positive map both are the same
    maps, masks = some()
    maps = maps.abs()
    call = {"model": None, "y_batch": np.zeros(3, int), "channel_first": True}
    x = np.zeros((3, 1, 6, 7, 8))
    options = {"disable_warnings": True, "display_progressbar": False}
    mass = quantus.RelevanceMassAccuracy(abs=False, normalise=False, **options)
    pointing = quantus.PointingGame(abs=False, normalise=False, **options)
    given = {"x_batch": x, "a_batch": maps.numpy()[:, None], "s_batch": masks.numpy()[:, None]}
    found = locate(maps, masks)
    assert [one.positive_mass for one in found] == pytest.approx(mass(**given, **call), abs=1e-6)
    assert [one.peak_pointing for one in found] == pytest.approx(
        np.asarray(pointing(**given, **call), float)
    )


def test_the_same_figures_by_slow_loops() -> None:
    maps, masks = some()
    for one, mask, found in zip(maps.numpy(), masks.numpy(), locate(maps, masks), strict=True):
        voxels = list(np.ndindex(one.shape))
        positive = {v: max(one[v], 0.0) for v in voxels}
        total = sum(positive.values())
        assert found.positive_mass == pytest.approx(
            sum(positive[v] for v in voxels if mask[v]) / total
        )
        assert found.absolute_mass == pytest.approx(np.abs(one[mask]).sum() / np.abs(one).sum())
        centre = np.array(ndimage.center_of_mass(np.clip(one, 0, None)))
        middle = np.array(ndimage.center_of_mass(mask))
        peak = np.array(np.unravel_index(one.argmax(), one.shape))
        assert found.centroid_distance == pytest.approx(np.linalg.norm(centre - middle))
        assert found.peak_distance == pytest.approx(np.linalg.norm(peak - middle))
        assert found.centroid_pointing == float(mask[tuple(np.floor(centre + 0.5).astype(int))])
        assert found.mask_share == pytest.approx(mask.mean())


def test_distances_by_hand() -> None:
    maps = torch.tensor([[[0.0, 3.0, 1.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    masks = torch.tensor([[[False, False, False], [False, True, False]]])
    assert peak_distance(maps, masks).item() == 1
    assert centroid_distance(maps, masks).item() == pytest.approx(math.hypot(1, 0.25))


def slow_boxes(heat, mask, share, *, every):
    """The authors' definition, voxel by voxel: boxes of inclusive corners."""
    levels = np.floor(heat * 255)
    boxes = []
    for where in (levels > share * levels.max(), mask):
        labels, count = ndimage.label(where, ndimage.generate_binary_structure(3, 2))
        found = []
        for label in range(1, count + 1):
            voxels = np.argwhere(labels == label)
            found.append((voxels.min(0), voxels.max(0)))
        if not every:
            found = [max(found, key=lambda box: np.prod(box[1] - box[0]))]
        boxes.append(found)
    best = 0.0
    for a in boxes[0]:
        for b in boxes[1]:
            extent = np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) + 1
            common = float(np.prod(np.maximum(extent, 0)))
            sizes = np.prod(a[1] - a[0] + 1) + np.prod(b[1] - b[0] + 1)
            best = max(best, common / (sizes - common))
    return best


def test_pooled_figures_follow_se3d_s_definitions() -> None:
    maps, masks = some((8, 9, 10), images=4)
    masks[0, 6:, 7:, 8:] = True  # an object in two parts
    heats = [scaled(one) for one in maps.numpy()]
    counts = [se3d_counts(one, m) for one, m in zip(maps.numpy(), masks.numpy(), strict=True)]
    found = se3d_figures(counts)
    voxels, truth = np.concatenate([h.ravel() for h in heats]), masks.numpy().ravel()
    # VxAP: scikit-learn on values that were put in the bins
    binned = np.minimum(np.digitize(voxels, np.arange(0, 1, 0.01)), 100) + (voxels >= 1)
    assert found.vxap == pytest.approx(average_precision_score(truth, binned), abs=1e-6)
    f1s = []
    for cut in np.linspace(0, 1, 100):
        above = voxels >= cut
        hits = (above & truth).sum()
        f1s.append((2 * hits / (above.sum() + truth.sum()), hits / above.sum(), hits / truth.sum()))
    k = int(np.argmax([f1 for f1, _, _ in f1s]))
    assert (found.max_f1, found.precision, found.recall) == pytest.approx(f1s[k], abs=1e-6)
    assert found.threshold == pytest.approx(np.linspace(0, 1, 100)[k])
    shares = np.arange(0, 1, 0.01)[::9]
    for every in (False, True):
        slow = [
            [slow_boxes(h, m, share, every=every) for share in shares]
            for h, m in zip(heats, masks.numpy(), strict=True)
        ]
        ours = [counted.boxes[int(every)][::9] for counted in counts]
        np.testing.assert_allclose(ours, slow, atol=1e-9)


def test_box_accuracy_takes_one_threshold_for_all_images() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[1:4, 1:4, 1:4] = True
    counts = [se3d_counts(mask.astype(float), mask) for _ in range(2)]
    flags = np.zeros((2, 100))
    flags[:, 10] = 0.6  # overlaps at the threshold 0.10 alone
    counts.append(type(counts[0])(counts[0].bins, counts[0].cuts, counts[0].voxels, flags))
    assert se3d_figures(counts).box_acc == 1
    assert se3d_figures(counts).box_acc_v2_mean == pytest.approx((1 + 1 + 2 / 3) / 3)
    other = np.zeros((2, 100))
    other[:, 90] = 0.6
    counts.append(type(counts[0])(counts[0].bins, counts[0].cuts, counts[0].voxels, other))
    assert se3d_figures(counts).box_acc == pytest.approx(3 / 4)


def test_a_map_of_zeros_has_no_box() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = True
    largest, best = box_overlaps(np.zeros((4, 4, 4)), mask)
    assert largest.max() == best.max() == 0


def test_a_constant_map_is_the_uniform_control_and_says_so() -> None:
    _, masks = some()
    (found, *_) = locate(7.0 * uniform(masks), masks)
    for name in ("positive_mass", "absolute_mass", "peak_pointing", "vxap"):
        assert found.figures()[name] == pytest.approx(found.mask_share)
    assert "constant" in found.note
    (negative, *_) = locate(-torch.rand(masks.shape), masks)
    assert "no positive value" in negative.note
    assert math.isnan(negative.positive_mass)
    assert not math.isnan(negative.absolute_mass)


def test_the_background_does_not_count() -> None:
    maps, masks = some()
    background = torch.zeros_like(masks)
    background[:, -1] = True
    hot = maps.clone()
    hot[:, -1] = 1e6
    assert locate(hot, masks, background=background) == locate(
        maps.masked_fill(background, 0), masks
    )
    assert locate(hot, masks)[0].peak_pointing == 0
    with pytest.raises(InputError, match="covers all of mask 0"):
        locate(maps, masks, background=torch.ones_like(masks))
    with pytest.raises(InputError, match="on the masks' grid"):
        locate(maps, masks, background=background[:, 1:])


def test_what_cannot_be_measured_is_worded() -> None:
    maps, masks = some()
    with pytest.raises(InputError, match="do not match masks"):
        locate(maps, masks[:, 1:])
    with pytest.raises(InputError, match="Mask 1 is empty"):
        locate(maps, torch.stack([masks[0], masks[0] & False, masks[0]]))
    with pytest.raises(InputError, match="covers the whole image"):
        locate(maps, torch.ones_like(masks))
    maps[2, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="Map 2 holds 1 values"):
        locate(maps, masks)
    with pytest.raises(InputError, match="nothing to pool"):
        se3d_figures([])


def test_heights_are_read_apart_from_shares() -> None:
    """Masses come from the shares, everything that compares voxels from the values."""
    maps, masks = some((6, 7, 8), images=2)
    heights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(9)).to(maps)
    both = locate(maps, masks, heights=heights)
    apart = locate(maps, masks), locate(heights, masks)
    for found, shares, values in zip(both, *apart, strict=True):
        for name in ("positive_mass", "absolute_mass"):
            assert getattr(found, name) == getattr(shares, name)
        for name in ("peak_pointing", "peak_distance", "centroid_distance", "vxap", "max_f1"):
            assert getattr(found, name) == getattr(values, name)
    with pytest.raises(InputError, match="do not match"):
        locate(maps, masks, heights=heights[:, 1:])


UNPADDED = LayerGrid((4.0,) * 3, (7.0,) * 3, (5,) * 3, (32,) * 3, (0.0,) * 3, "layout")


@pytest.mark.parametrize("cell", [(0, 0, 0), (4, 0, 2), (2, 4, 4), (1, 2, 3)])
def test_a_peak_at_the_grids_edge_is_the_layers_voxel(cell: tuple[int, int, int]) -> None:
    """Its value goes on to the border, but the peak is its centre, not the middle of all that."""
    raw = torch.rand(1, 1, 5, 5, 5, generator=torch.Generator().manual_seed(3))
    raw[(0, 0, *cell)] = 2
    values, shares = interpolate(raw, UNPADDED)[:, 0], place(raw, UNPADDED)[:, 0]
    centre = tuple(7 + 4 * i for i in cell)
    masks = torch.zeros(1, 32, 32, 32, dtype=torch.bool)
    masks[(0, *centre)] = True
    (found,) = locate(shares, masks, heights=values)
    assert (found.peak_distance, found.peak_pointing) == (0, 1)
    # each axis on whose edge it is pulls that middle 3.5 voxels, or 4 at the high end
    pulls = [{0: 3.5, 4: 4}.get(i, 0) for i in cell]
    assert float(peak_distance(values, masks)) == pytest.approx(math.hypot(*pulls))


def test_a_flat_map_has_no_peak_at_a_denser_border() -> None:
    """Shares are densest at voxel 0, fall to voxel 4, are even from there to voxel 28, then fall.

    Of these, 5 to 28 have no neighbour with more, and neither has 0.
    """
    grid = LayerGrid((4.0,) * 3, (0.0,) * 3, (8,) * 3, (32,) * 3, (0.0,) * 3, "layout")
    raw = torch.ones(1, 1, 8, 8, 8)
    found = peaks(interpolate(raw, grid)[:, 0], place(raw, grid)[:, 0])[0]
    along = torch.tensor([i == 0 or 5 <= i <= 28 for i in range(32)])
    assert torch.equal(found, along[:, None, None] & along[:, None] & along)


def test_two_layer_voxels_of_one_value_share_the_peak() -> None:
    """As overlapping max-pooling makes them, and though interpolation rounds between them."""
    raw = torch.zeros(1, 1, 5, 5, 5)
    raw[0, 0, 1:3, 2, 2] = 0.1
    values, shares = interpolate(raw, UNPADDED)[:, 0], place(raw, UNPADDED)[:, 0]
    found = peaks(values, shares).nonzero().tolist()
    assert found == [[0, z, 15, 15] for z in range(11, 16)]
    assert found == peaks(values).nonzero().tolist()

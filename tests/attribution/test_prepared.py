"""Maps put together from windows, flips and several networks, against one graph of all passes."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from respondcam.attribution import HiResCAM, IntegratedRespondCAM, RespondCAM, place, targets
from respondcam.attribution.prepared import blended_scores, explain_prepared
from respondcam.errors import EmptyMapWarning, ModelError, TargetError
from respondcam.network.preparation import Prepared, Tiles, whole
from respondcam.volume import Volume
from respondcam.volume.regrid import put_back

SIZE, PATCH = (10, 8, 8), (6, 8, 8)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv3d(4, 3, 3, padding=1),
    )


def prepared(flips=((),), inside=None, patch=PATCH) -> Prepared:
    rng = np.random.default_rng(1)
    original = Volume(rng.normal(size=(7, 6, 9)), np.diag([1.0, 1.5, 1.5, 1.0]), "mm")
    seen = Volume(rng.normal(size=(1, *SIZE)), np.eye(4), "mm")
    starts = [sorted({0, (n - p) // 2, n - p}) for n, p in zip(SIZE, patch, strict=True)]
    windows = tuple(
        tuple(slice(a, a + p) for a, p in zip(low, patch, strict=True)) for low in product(*starts)
    )
    importance = torch.rand(patch, generator=torch.Generator().manual_seed(3)) + 0.1
    everything = tuple(slice(0, n) for n in SIZE)
    return Prepared(seen, original, inside or everything, Tiles(windows, importance, flips))


def reference(nets, seen: Prepared, number: int):
    """Score and map (HiResCAM) of the whole prediction, from one graph over all passes."""
    image = seen.volume.tensor().double()
    total, weight = torch.zeros(1, 3, *SIZE, dtype=torch.float64), torch.zeros(SIZE).double()
    kept = []
    for window in seen.tiles.windows:
        g = seen.tiles.importance.double()
        weight[window] += g
        for net in nets:
            for flips in seen.tiles.flips:
                axes = [axis + 2 for axis in flips]
                net = net.double()
                activation = net[1](net[0](image[(..., *window)].flip(axes)))
                activation.retain_grad()
                kept.append((activation, window, axes))
                scores = net[3](net[2](activation)).flip(axes)
                total[(..., *window)] = total[(..., *window)] + scores * g / (
                    len(nets) * len(seen.tiles.flips)
                )
    blended = total / weight
    inside = blended[(..., *seen.inside)]
    score = (inside[:, number] * (inside.argmax(1) == number)).sum()
    score.backward()
    found = torch.zeros(SIZE).double()
    for activation, window, axes in kept:
        cam = (activation * activation.grad).sum(1, keepdim=True).detach()
        grid = HiResCAM(network(), "1")(torch.zeros(1, 1, *PATCH), targets.voxel([0, 0, 0], 0)).grid
        found[window] += place(cam, grid).flip(axes)[0, 0]
    for net in nets:
        net.float()
    return float(score.detach()), found, blended.detach()


@pytest.mark.parametrize(
    ("flips", "seeds"),
    [(((),), (0,)), (((), (0,), (1, 2)), (0,)), (((), (2,)), (0, 5))],
    ids=["windows", "flips", "networks"],
)
def test_maps_of_all_passes_add_up_to_the_map_of_the_whole_prediction(flips, seeds):
    inside = (slice(1, 9), slice(0, 8), slice(2, 8))
    seen = prepared(flips, inside)
    nets = [network(seed) for seed in seeds]
    score, expected, blended = reference(nets, seen, 1)
    explainers = [HiResCAM(net, "1") for net in nets]
    assert torch.allclose(blended_scores(explainers, seen).double(), blended, atol=1e-5)
    found = explain_prepared(explainers, seen, 1)
    assert found.scores.item() == pytest.approx(score, rel=1e-5)
    assert torch.allclose(found.maps[0, 0].double(), expected, atol=1e-5)
    assert found.targets == ("class 1",)
    assert found.grid.shape == SIZE


def test_the_account_of_the_whole_prediction_closes():
    seen = prepared(((), (0,)))
    explainers = [IntegratedRespondCAM(network(seed), "1") for seed in (0, 1)]
    found = explain_prepared(explainers, seen, targets.classes([1, 2]))
    account = found.account
    assert torch.allclose(account.gap, torch.zeros(1, 2).double(), atol=1e-3)
    for number in (1, 2):
        volume = found.volume(target=number - 1)
        assert volume.shape == seen.original.shape
        assert volume.voxels.sum() == pytest.approx(float(account.mapped[0, number - 1]), rel=1e-4)


def test_one_pass_is_the_plain_explanation_without_the_padding():
    full = prepared(patch=SIZE)
    inside = (slice(2, 10), slice(0, 8), slice(1, 7))
    seen = Prepared(full.volume, full.original, inside, whole(SIZE))
    net = network()
    where = torch.zeros(SIZE)
    where[inside] = 1
    with torch.no_grad():
        region = (net(seen.volume.tensor()).argmax(1)[0] == 2) * where
    plain = RespondCAM(net, "1")(seen.volume, targets.mask(region, 2))
    found = explain_prepared(RespondCAM(net, "1"), seen, 2)
    assert torch.allclose(found.maps, plain.maps)
    assert torch.allclose(found.account.baseline, plain.account.baseline)
    assert found.grid == plain.grid
    on_layer = found.volume(resolution="layer")
    assert on_layer.shape == (5, 4, 4)
    expected = put_back(plain.volume(), seen.original)
    assert np.allclose(found.volume().voxels, expected.voxels)


def test_several_layers_come_back_in_order():
    both = explain_prepared(RespondCAM(network(), ["1", "0"]), prepared(), 1)
    assert [one.layer for one in both] == ["1", "0"]
    assert both[0].maps.sum() == pytest.approx(float(both[0].account.mapped), rel=1e-4)


def test_slices_of_a_volume_before_a_network_of_images():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    seen = prepared()
    windows = tuple((z, slice(0, 8), slice(0, 8)) for z in range(SIZE[0]))
    seen = Prepared(seen.volume, seen.original, seen.inside, Tiles(windows, torch.ones(8, 8)))
    found = explain_prepared(HiResCAM(net, "1"), seen, targets.voxel([3, 4, 4], 1))
    image = seen.volume.tensor()[:, :, 3]
    alone = HiResCAM(net, "1")(image, targets.voxel([4, 4], 1))
    assert torch.allclose(found.maps[0, 0, 3], alone.maps[0, 0], atol=1e-6)
    assert not found.maps[0, 0, :3].any()
    assert not found.maps[0, 0, 4:].any()


def test_targets_that_are_no_sum_of_scores_are_refused_over_several_passes():
    def nonlinear(output):
        return output.softmax(1)[:, 1].flatten(1).mean(1)

    with pytest.raises(TargetError, match=r"no weighted sum of the scores.*passes"):
        explain_prepared(HiResCAM(network(), "1"), prepared(), nonlinear)
    single = Prepared(prepared().volume, prepared().original, prepared().inside, whole(SIZE))
    explain_prepared(HiResCAM(network(), "1"), single, nonlinear)


def test_scores_that_are_not_on_the_windows_voxels_are_refused():
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(2), nn.Linear(4 * 6 * 6, 2))
    with pytest.raises(ModelError, match="Only scores for every voxel"):
        explain_prepared(HiResCAM(net, "0"), prepared(), 1)


def test_an_empty_map_says_why():
    net = network()
    with torch.no_grad():
        net[3].bias[2] = -1e6
    with pytest.warns(EmptyMapWarning, match="class 2 is predicted nowhere"):
        found = explain_prepared(HiResCAM(net, "1"), prepared(), 2)
    assert not found.maps.any()
    assert "predicted nowhere" in found.empty[0, 0]


def test_the_networks_and_the_volume_stay_as_they_were():
    net, seen = network().train(), prepared(((), (0,)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    voxels, flags = seen.volume.voxels.copy(), [p.requires_grad for p in net.parameters()]
    explain_prepared(RespondCAM(net, "1"), seen, 1)
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert np.array_equal(seen.volume.voxels, voxels)


def test_classes_that_overlap_are_explained_one_by_one():
    scores = torch.tensor([[[2.0, 5.0, -1.0, 3.0], [9.0, 6.0, 4.0, -1.0]]])
    assert targets.overlapping("all")(scores).values.tolist() == [[10.0, 19.0]]
    assert targets.overlapping()(scores).classes.tolist() == [[0]]
    largest = targets.alone(0, targets.component(1))(scores)
    assert (largest.values.item(), largest.labels) == (7.0, ("class 0, largest part",))
    nowhere = targets.overlapping([0, 1])(torch.tensor([[[-1.0, -2.0], [1.0, -1.0]]]))
    assert nowhere.notes == {(0, 0): "class 0 is predicted nowhere in sample 0"}
    assert nowhere.again(torch.ones(1, 2, 2)).tolist() == [[0.0, 1.0]]
    with pytest.raises(TargetError, match=r"overlapping\('most'\)"):
        targets.overlapping("most")

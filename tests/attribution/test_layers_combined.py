"""Several layers in one map, and Saliency Tubes."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution.methods import make
from respondcam.errors import InputError, LayerError


def network(rank: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        conv(1, 4, 3, padding=1),
        nn.ReLU(),
        conv(4, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4**rank, 3),
    )


def pooled(rank: int = 3, head: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    head = nn.Linear(5, 3) if head is None else head
    return nn.Sequential(conv(1, 5, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Dropout(), head)


def image(rank: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, 1, *[8] * rank, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_fused_layers_keep_the_account(weights: list[float] | None) -> None:
    several = rc.RespondCAM(network(), layer=["1", "3"])(image(), target="all")
    assert isinstance(several, tuple)
    fused = rc.fuse(several, weights=weights)
    a, b = (0.5, 0.5) if weights is None else (0.75, 0.25)
    torch.testing.assert_close(fused.maps, a * several[0].place() + b * several[1].place())
    for part in ("score", "baseline", "mapped", "gap"):
        first, second = (getattr(one.account, part) for one in several)
        torch.testing.assert_close(
            getattr(fused.account, part), a * first + b * second, rtol=1e-4, atol=1e-5
        )
    assert fused.grid.shape == fused.grid.input_shape == (8, 8, 8)
    torch.testing.assert_close(fused.place(), fused.maps)
    assert fused.volume().shape == (8, 8, 8)


def test_what_does_not_belong_together_is_not_fused() -> None:
    one = rc.GradCAM(network(), layer="1")(image(), target=0)
    other = rc.GradCAM(network(), layer="3")(image() + 1, target=0)
    with pytest.raises(InputError, match="not of the same inputs"):
        rc.fuse([one, other])
    with pytest.raises(InputError, match="nothing to fuse"):
        rc.fuse([])
    with pytest.raises(InputError, match="give 1 numbers"):
        rc.fuse([one], weights=[1.0, 2.0])


def stretched(grid: np.ndarray, size: int, stride: float) -> np.ndarray:
    for axis in range(grid.ndim):
        centres = stride * np.arange(grid.shape[axis])
        grid = np.apply_along_axis(
            lambda line, centres=centres: np.interp(np.arange(size), centres, line), axis, grid
        )
    return grid


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("base", ["grad", "layer"])
def test_refinecam_multiplies_scaled_maps(rank: int, base: str) -> None:
    model, x = network(rank), image(rank)
    found = rc.RefineCAM(model, layer=["1", "3"], base=base)(x, target="all")
    slow = copy.deepcopy(model).double().eval()
    for target in range(3):
        fine = slow[:2](x.double())
        coarse = slow[2:4](fine)
        score = slow[4:](coarse)[:, target].sum()
        gradients = torch.autograd.grad(score, (fine, coarse))
        for sample in range(2):
            expected = np.ones([8] * rank)
            for A, G, stride in zip((fine, coarse), gradients, (1.0, 2.0), strict=True):
                a, g = A[sample].detach().numpy(), G[sample].numpy()
                flat = g.reshape(len(g), -1).mean(axis=1)
                each = [
                    c * (w if base == "grad" else np.maximum(v, 0))
                    for c, w, v in zip(a, flat, g, strict=True)
                ]
                wide = stretched(np.maximum(np.sum(each, axis=0), 0), 8, stride)
                expected *= wide / wide.max() if wide.max() > 0 else 0
            np.testing.assert_allclose(
                found.maps[sample, target].numpy(), expected, rtol=1e-4, atol=1e-5
            )


def test_refinecam_chooses_the_last_layer_of_each_grid() -> None:
    found = rc.RefineCAM(network())(image(), target=0)
    assert found.layer == "1 * 3"
    assert "coarsest grids" in found.layer_reason
    assert "no score" in found.account.note
    with pytest.raises(LayerError, match="only '1' was given"):
        rc.RefineCAM(network(), layer="1")
    with pytest.raises(LayerError, match="same grid"):
        rc.RefineCAM(pooled())(image())
    with pytest.raises(InputError, match=r"base='score' is unknown\. Known: grad"):
        make("refine", network(), options={"base": "score"})


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_saliency_tubes_are_the_class_weights_times_the_activation(rank: int) -> None:
    model, x = pooled(rank), image(rank)
    found = rc.SaliencyTubes(model, layer="1")(x, target="all")
    slow = copy.deepcopy(model).double().eval()
    A, W = slow[:2](x.double()).detach().numpy(), slow[5].weight.detach().numpy()
    expected = np.zeros(found.maps.shape)
    for target in range(3):
        for channel in range(5):
            expected[:, target] += W[target, channel] * A[:, channel] / 6**rank
    np.testing.assert_allclose(found.maps.numpy(), expected, rtol=1e-5, atol=1e-7)
    assert float(found.account.gap.abs().max()) < 1e-5
    torch.testing.assert_close(found.account.baseline[0], model[5].bias.detach().double())
    grad = rc.GradCAM(model, layer="1")(x, target="all")
    torch.testing.assert_close(found.maps, grad.maps)


def test_saliency_tubes_of_one_logit_and_of_a_convolution_of_one_voxel() -> None:
    single = pooled(head=nn.Linear(5, 1))
    found = rc.SaliencyTubes(single, layer="1")(image())  # class 0 is minus the logit
    torch.testing.assert_close(found.maps, rc.GradCAM(single, layer="1")(image()).maps)
    conv = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 2, 1), nn.Flatten()
    )
    assert rc.SaliencyTubes(conv, layer="1")(image(2), target=1).maps.shape == (2, 1, 6, 6)


@pytest.mark.parametrize(
    "model",
    [
        network(),
        pooled(head=nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))),
        pooled(head=nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 3))),
    ],
)
def test_saliency_tubes_refuse_other_heads(model: nn.Module) -> None:
    with pytest.raises(LayerError, match="global average pooling and one linear"):
        rc.SaliencyTubes(model, layer="1")(image(), target=0)
    contrast = rc.targets.contrast(0, 1)
    with pytest.raises(LayerError, match="a class as target"):
        rc.SaliencyTubes(pooled(), layer="1")(image(), target=contrast)

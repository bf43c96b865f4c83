"""Every method against a slow reference in float64, and against other libraries."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution.grad import grad_cam
from respondcam.attribution.grad_plus_plus import grad_cam_plus_plus
from respondcam.attribution.hires import hires_cam
from respondcam.attribution.layer import layer_cam
from respondcam.attribution.respond import respond_cam


def slow(method: str, A: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Loops over channels and voxels, straight from the papers; one sample."""
    channels, *grid = A.shape
    out = np.zeros(grid)
    voxels = list(itertools.product(*map(range, grid)))
    for c in range(channels):
        a, g = A[c], G[c]
        total = sum(a[v] for v in voxels)
        shared = sum(a[v] * g[v] for v in voxels)
        size = sum(abs(a[v]) for v in voxels)
        weight = 0.0
        if method == "grad++":
            for v in voxels:
                below = 2 * g[v] ** 2 + total * g[v] ** 3
                alpha = g[v] ** 2 / below if below != 0 else 0.0
                weight += alpha * max(g[v], 0.0)
        for v in voxels:
            if method == "paper":
                out[v] += shared / total * a[v] if total else 0.0
            elif method == "signed":
                out[v] += shared * abs(a[v]) / size if size else 0.0
            elif method == "grad":
                out[v] += sum(g[w] for w in voxels) / len(voxels) * a[v]
            elif method == "grad++":
                out[v] += weight * a[v]
            elif method == "hires":
                out[v] += a[v] * g[v]
            elif method == "layer":
                out[v] += a[v] * max(g[v], 0.0)
    return out


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "signed": respond_cam,
    "paper": lambda A, G: respond_cam(A, G, denominator="paper"),
    "grad": grad_cam,
    "grad++": grad_cam_plus_plus,
    "hires": hires_cam,
    "layer": layer_cam,
}


@pytest.mark.parametrize("method", FUNCTIONS)
@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("signed", [False, True])
def test_equals_the_slow_reference(method: str, grid: tuple[int, ...], signed: bool) -> None:
    generator = torch.Generator().manual_seed(len(grid))
    A = torch.randn(2, 3, *grid, generator=generator)
    A = A if signed else A.relu()
    A[0, 1] = 0  # a silent channel
    G = torch.randn(2, 3, *grid, generator=generator)
    G[1, 2] = 0
    found = FUNCTIONS[method](A, G)
    for sample in range(2):
        expected = slow(method, A[sample].double().numpy(), G[sample].double().numpy())
        np.testing.assert_allclose(
            found[sample].numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
        )


def test_four_voxels_by_hand() -> None:
    # One channel A = 1, 3, 0, 4 with G = 2, 0, 5, 1: sum A*G = 2 + 0 + 0 + 4 = 6, sum A = 8.
    A = torch.tensor([[[[1.0, 3.0], [0.0, 4.0]]]])
    G = torch.tensor([[[[2.0, 0.0], [5.0, 1.0]]]])
    assert respond_cam(A, G).tolist() == [[[0.75, 2.25], [0.0, 3.0]]]  # 6/8 of each
    assert grad_cam(A, G).tolist() == [[[2.0, 6.0], [0.0, 8.0]]]  # mean of G is 2
    assert hires_cam(A, G).tolist() == [[[2.0, 0.0], [0.0, 4.0]]]


@settings(deadline=None, max_examples=60)
@given(
    rank=st.integers(1, 3),
    channels=st.integers(1, 4),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 10_000),
)
def test_the_sum_of_the_map_is_the_sum_of_activation_times_gradient(
    rank: int, channels: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    A = scale * torch.randn(2, channels, *[4] * rank, generator=generator)
    G = torch.randn(2, channels, *[4] * rank, generator=generator)
    expected = (A.double() * G.double()).flatten(1).sum(dim=1)
    tolerance = 1e-5 * (A.abs() * G.abs()).flatten(1).sum(dim=1).max().item()
    for method in (respond_cam, hires_cam):
        found = method(A, G).double().flatten(1).sum(dim=1)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_the_signed_form_is_well_conditioned_where_the_papers_explodes() -> None:
    A = torch.tensor([[[1.0, -1.0 + 1e-6]]])  # sums to nearly nothing
    G = torch.tensor([[[1.0, 0.0]]])
    assert respond_cam(A, G, denominator="paper").abs().max() > 1e5
    assert respond_cam(A, G).abs().max() <= 1.0


def test_the_signed_form_is_the_papers_on_activations_without_negative_values() -> None:
    A = torch.rand(2, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    G = torch.randn(2, 4, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(respond_cam(A, G), respond_cam(A, G, denominator="paper"))


def network(rank: int, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    return nn.Sequential(
        conv(1, 4, 3, padding=1),
        nn.ReLU(),
        conv(4, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4**rank, 12),
        nn.ReLU(),
        nn.Linear(12, classes),
    ).eval()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_grad_cam_equals_captum(rank: int) -> None:
    """captum 0.9's LayerGradCam averages gradients over the grid and keeps the sign."""
    captum = pytest.importorskip("captum.attr")
    model = network(rank)
    x = torch.randn(2, 1, *[8] * rank, generator=torch.Generator().manual_seed(2))
    theirs = captum.LayerGradCam(model, model[3]).attribute(x, target=3, relu_attributions=False)
    ours = rc.GradCAM(model, layer="3")(x, target=3).maps
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [2, 3])
def test_respond_cam_equals_torchcams_xgradcam(rank: int) -> None:
    """torch-cam 0.5's XGradCAM has the same weights (its Grad-CAM++ is wrong, this is not)."""
    methods = pytest.importorskip("torchcam.methods")
    model = network(rank)
    x = torch.randn(1, 1, *[8] * rank, generator=torch.Generator().manual_seed(2))
    with methods.XGradCAM(model, model[3], input_shape=(1, *[8] * rank)) as extractor:
        scores = model(x)
        (theirs,) = extractor(2, scores, normalized=False)
    ours = rc.RespondCAM(model, layer="3", relu=True)(x, target=2).maps[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert float(ours.max()) > 0


def test_grad_cam_equals_monais_raw_map() -> None:
    """MONAI 1.6's GradCAM before its ReLU and its normaliser, which inverts polarity."""
    visualize = pytest.importorskip("monai.visualize")
    model = network(3)
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    cam = visualize.GradCAM(model, target_layers="3", register_backward=True)
    _, activations, gradients = cam.nn_module(x, class_idx=1)
    weights = gradients[0].mean(dim=(2, 3, 4), keepdim=True)
    theirs = (weights * activations[0]).sum(dim=1).detach()
    ours = rc.GradCAM(network(3), layer="3")(x, target=1).maps[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    display = cam.compute_map(x, class_idx=1)[:, 0].detach()
    torch.testing.assert_close(ours.relu(), display, rtol=1e-5, atol=1e-6)


def full_precision_reference(model: nn.Module, x: Tensor, target: int, method: str) -> np.ndarray:
    model = model.double()
    A = model[:4](x.double()).detach().requires_grad_(True)
    (G,) = torch.autograd.grad(model[4:](A)[:, target].sum(), A)
    return np.stack(
        [slow(method, a, g) for a, g in zip(A.detach().numpy(), G.numpy(), strict=True)]
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["respond", "grad", "grad++", "hires", "layer"])
def test_explainers_equal_a_float64_reference_end_to_end(rank: int, name: str) -> None:
    x = torch.randn(2, 1, *[8] * rank, generator=torch.Generator().manual_seed(3))
    found = rc.METHODS[name](network(rank), layer="3")(x, target="all").maps
    for target in range(5):
        kind = "signed" if name == "respond" else name
        expected = full_precision_reference(network(rank), x, target, kind)
        np.testing.assert_allclose(
            found[:, target].numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
        )

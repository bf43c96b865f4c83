"""Maps on a GPU are those of the processor, and leave the network as it was."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.families import FAMILIES, WARNINGS_OF_OTHERS, weighted
from torch import Tensor, nn

import respondcam as rc
from respondcam.network.trees import map_tensors

pytestmark = WARNINGS_OF_OTHERS


def small() -> nn.Sequential:
    """Ends in a mean and one linear layer, as Saliency Tubes need it."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv3d(1, 8, 3, stride=2, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
    ]
    layers += [nn.Conv3d(8, 16, 3, stride=2, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 5)]
    return nn.Sequential(*layers).eval()


def volume(batch: int = 1, size: int = 24) -> Tensor:
    return torch.randn(batch, 1, size, size, size, generator=torch.Generator().manual_seed(1))


def moved(value: Any) -> Any:
    return tuple(map(moved, value)) if isinstance(value, tuple) else value.cuda()


def rounding(family: Any, maps: Tensor) -> float:
    """How far single precision alone moves a map on the processor."""
    network = family.network().double()
    inputs = map_tensors(torch.Tensor.double, family.inputs())
    exact = rc.RespondCAM(network, family.layer, output=family.output)(inputs, target=weighted)
    return float((exact.maps - maps).abs().max())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_the_map_of_the_processor(name: str) -> None:
    family = FAMILIES[name]
    if not importlib.util.find_spec(family.needs):
        pytest.skip(f"{family.needs} is not installed")
    if family.needs == "keras":
        pytest.skip("Keras chooses its own device")
    inputs = family.inputs()
    one = rc.RespondCAM(family.network(), family.layer, output=family.output)(
        inputs, target=weighted
    )
    model = family.network().cuda()
    two = rc.RespondCAM(model, family.layer, output=family.output)(moved(inputs), target=weighted)
    assert two.maps.is_cuda
    largest = float(one.maps.abs().max())
    assert largest > 0
    apart = float((two.maps.cpu() - one.maps).abs().max())
    assert apart <= 2e-3 * largest or apart <= 3 * rounding(family, one.maps)
    assert two.grid.stride == pytest.approx(one.grid.stride)
    assert two.grid.offset == pytest.approx(one.grid.offset)
    # sums of single precision: rounding counts against all that is added up, not against the rest
    kept = two.place().double().sum() - two.maps.double().sum()
    assert float(kept.abs()) <= 1e-5 * float(two.maps.double().abs().sum())


@pytest.mark.parametrize("method", sorted(rc.METHODS))
def test_every_method_has_the_map_of_the_processor(method: str) -> None:
    if method in ("integrated-gradients", "occlusion", "guided-backprop"):
        pytest.importorskip("captum")
    layer = "input" if method in ("integrated-gradients", "occlusion", "guided-backprop") else "4"
    options: dict[str, Any] = {} if layer == "input" or method == "refine" else {"layer": layer}
    if method == "refine":
        options = {"layer": ["2", "4"]}
    one = rc.METHODS[method](small(), **options)(volume(2), target=[1, 3])
    two = rc.METHODS[method](small().cuda(), **options)(volume(2).cuda(), target=[1, 3])
    assert two.maps.is_cuda
    largest = float(one.maps.abs().max())
    torch.testing.assert_close(two.maps.cpu(), one.maps, rtol=0, atol=1e-3 * largest)
    torch.testing.assert_close(two.scores.cpu(), one.scores, rtol=1e-4, atol=1e-5)
    assert two.account.line()


def test_everything_stays_as_it_was_also_the_random_numbers_of_the_gpu() -> None:
    model = small().cuda()
    model.insert(5, nn.Dropout(0.5))
    model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.cuda.get_rng_state()
    flags = [module.training for module in model.modules()]
    first = rc.RespondCAM(model, "4")(volume().cuda(), target="all")
    second = rc.RespondCAM(model, "4")(volume().cuda(), target="all")
    torch.testing.assert_close(first.maps, second.maps, rtol=1e-5, atol=1e-7)
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert [module.training for module in model.modules()] == flags
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_volume_follows_the_network_to_its_gpu(tmp_path: Path) -> None:
    box = rc.Volume(volume()[0, 0].numpy(), unit="angstrom")
    found = rc.RespondCAM(small().cuda(), "4")(box, target=2)
    assert found.maps.is_cuda
    found.save(tmp_path / "map.mrc")
    written = rc.read_volume(tmp_path / "map.mrc")
    np.testing.assert_allclose(written.voxels, found.place()[0, 0].cpu().numpy(), atol=1e-6)
    assert found.plot() is not None


def test_a_tensor_on_another_device_is_refused_in_words() -> None:
    with pytest.raises(rc.InputError, match=r"cuda:0.*does not run on the input .* on cpu"):
        rc.RespondCAM(small().cuda(), "4")(volume(), target=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_account_says_what_is_open(dtype: torch.dtype) -> None:
    exact = rc.RespondCAM(small(), "4")(volume(), target=2)
    with torch.autocast("cuda", dtype):
        found = rc.RespondCAM(small().cuda(), "4")(volume().cuda(), target=2)
    largest = float(exact.maps.abs().max())
    assert torch.isfinite(found.maps).all()
    torch.testing.assert_close(found.maps.cpu().float(), exact.maps, rtol=0, atol=0.05 * largest)
    assert float(found.account.relative_gap.abs().max()) < 0.02


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_in_other_precisions(dtype: torch.dtype) -> None:
    exact = rc.RespondCAM(small(), "4")(volume(), target=2)
    found = rc.RespondCAM(small().cuda().to(dtype), "4")(volume().cuda().to(dtype), target=2)
    largest = float(exact.maps.abs().max())
    torch.testing.assert_close(found.maps.cpu().float(), exact.maps, rtol=0, atol=0.05 * largest)


def test_tf32_leaves_the_account_closed_to_a_thousandth() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    found = rc.RespondCAM(small().cuda(), "4")(volume(4).cuda(), target="all")
    assert float(found.account.relative_gap.abs().max()) < 1e-3


def test_wrapped_in_dataparallel_and_in_memory_of_channels_last() -> None:
    exact = rc.RespondCAM(small(), "4")(volume(4), target=2)
    last = small().cuda().to(memory_format=torch.channels_last_3d)
    given = volume(4).cuda().to(memory_format=torch.channels_last_3d)
    wrapper = nn.DataParallel(small().cuda())
    for model, x in ((wrapper, given), (wrapper, volume(4)), (last, given)):
        found = rc.RespondCAM(model, "4")(x, target=2)  # the wrapper moves inputs by itself
        torch.testing.assert_close(found.maps.cpu(), exact.maps, rtol=1e-3, atol=1e-5)
    assert rc.inspect(wrapper, volume()).chosen == "4"


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
def test_a_compiled_network() -> None:
    exact = rc.RespondCAM(small(), "4")(volume(), target=2)
    model = torch.compile(small().cuda())
    with torch.no_grad():
        model(volume().cuda())
    found = rc.RespondCAM(model, "4")(volume().cuda(), target=2)
    torch.testing.assert_close(found.maps.cpu(), exact.maps, rtol=1e-3, atol=1e-5)


def test_a_trunk_in_bfloat16() -> None:
    exact = rc.RespondCAM(small(), "4")(volume(), target=2)
    found = rc.RespondCAM(small().cuda(), "4", precision="bf16")(volume().cuda(), target=2)
    largest = float(exact.maps.abs().max())
    torch.testing.assert_close(found.maps.cpu().float(), exact.maps, rtol=0, atol=0.05 * largest)
    assert found.precision is not None


def test_a_map_in_a_loss() -> None:
    model = small().cuda()
    found = rc.RespondCAM(model, "4")(volume().cuda(), target=2, create_graph=True)
    found.maps.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.is_cuda and torch.isfinite(gradient).all() for gradient in gradients)

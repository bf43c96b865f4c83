"""Every way in which a network may be running when it is explained: the maps stay the same."""

import copy
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import respondcam as rc
from respondcam.errors import LayerError, ModelError
from respondcam.network.split import split_pass


def network(*, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, stride=2, padding=1),
        nn.BatchNorm3d(6) if norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.Conv3d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def image(batch: int = 2) -> Tensor:
    return torch.randn(batch, 1, 10, 10, 10, generator=torch.Generator().manual_seed(4))


def maps(model: nn.Module, layer: str = "4", x: Tensor | None = None) -> Tensor:
    return rc.RespondCAM(model, layer)(image() if x is None else x, target="all").maps


@pytest.fixture
def expected() -> Tensor:
    return maps(network().eval())


# torch.compile ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "no_grad", "inference_mode", "grad"])
@pytest.mark.usefixtures("plain_import")
def test_compiled_whatever_ran_before(before: str, expected: Tensor) -> None:
    compiled = torch.compile(network().eval(), backend="eager")
    if before != "nothing":
        mode = {"grad": torch.enable_grad}.get(before) or getattr(torch, before)
        with mode():
            compiled(image())
    torch.testing.assert_close(maps(compiled), expected)
    torch.testing.assert_close(compiled(image()), network().eval()(image()))


@pytest.mark.slow
@pytest.mark.usefixtures("plain_import")
def test_a_compiled_part_of_a_network(expected: Tensor) -> None:
    model = network().eval()
    whole = nn.Sequential(torch.compile(model[:3], backend="eager"), *model[3:])
    with torch.no_grad():
        whole(image())
    torch.testing.assert_close(maps(whole, "2"), expected)


# Precision and memory format ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype, expected: Tensor) -> None:
    with torch.autocast("cpu", dtype):
        found = maps(network().eval())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02 * float(expected.abs().max()))
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_inside_the_model(expected: Tensor) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.net(x)

    found = maps(Mixed().eval(), "net.4")
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02 * float(expected.abs().max()))


def test_double_precision_and_channels_last(expected: Tensor) -> None:
    double = maps(network().eval().double(), x=image().double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), expected)
    last = network().eval().to(memory_format=torch.channels_last_3d)
    found = maps(last, x=image().to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found, expected)


# Lightning ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("step", ["validate", "predict", "fit"])
@pytest.mark.filterwarnings("ignore")
def test_inside_lightning(step: str, expected: Tensor, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    seen: list[Tensor] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            seen.append(maps(self.net, x=batch))
            assert self.net.training
            return self(batch).square().mean()

        def validation_step(self, batch: Tensor, index: int) -> None:
            seen.append(maps(self, "net.4", x=batch))

        def predict_step(self, batch: Tensor, index: int) -> None:
            assert torch.is_inference_mode_enabled()
            seen.append(maps(self, "net.4", x=batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", default_root_dir=tmp_path,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(list(image()), batch_size=2)
    getattr(trainer, step)(Module(), loader)
    torch.testing.assert_close(seen[0].clone(), expected)


# Checkpointing ------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """The trunk is recomputed in the backward pass; the last block too, if asked."""

    def __init__(self, *, reentrant: bool, last: bool) -> None:
        super().__init__()
        net = network()
        self.trunk, self.block, self.head = net[:3], nn.Sequential(net[3], net[4]), net[5:]
        self.reentrant, self.last = reentrant, last

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.trunk, x, use_reentrant=self.reentrant)
        x = checkpoint(self.block, x, use_reentrant=self.reentrant) if self.last else self.block(x)
        return self.head(x)


@pytest.mark.parametrize("layer", ["block", "block.1"])
def test_checkpointed(layer: str, expected: Tensor) -> None:
    model = Checkpointed(reentrant=False, last=True).eval()
    torch.testing.assert_close(maps(model, layer), expected)


@pytest.mark.filterwarnings("ignore:.*requires_grad=True.*:UserWarning")
def test_reentrant_checkpoints(expected: Tensor) -> None:
    below = Checkpointed(reentrant=True, last=False).eval()
    torch.testing.assert_close(maps(below, "block"), expected)  # below the layer it works
    with pytest.raises(LayerError, match="reentrant"):  # inside, no gradient leads out
        maps(Checkpointed(reentrant=True, last=True).eval(), "block.0")
    assert torch.is_grad_enabled()


# Wrappers -----------------------------------------------------------------------------------------


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of one, without a network."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_data_parallel(expected: Tensor) -> None:
    torch.testing.assert_close(maps(nn.DataParallel(network())), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel(one_process: None, expected: Tensor) -> None:
    wrapped = nn.parallel.DistributedDataParallel(network())
    torch.testing.assert_close(maps(wrapped), expected)
    torch.testing.assert_close(maps(wrapped, "module.4"), expected)
    wrapped(image()).sum().backward()  # and training goes on
    assert all(p.grad is not None for p in wrapped.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fully_sharded(one_process: None, expected: Tensor) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = network(norm=False).eval()
    plain = maps(copy.deepcopy(model))
    mesh = init_device_mesh("cpu", (1,))
    with pytest.raises(ModelError, match=r"model\.unshard\(\)"):
        maps(fully_shard(copy.deepcopy(model), mesh=mesh))
    sharded = fully_shard(model, mesh=mesh)
    sharded.unshard()
    torch.testing.assert_close(maps(sharded), plain)


# Windows ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_windows_of_monai_are_calls_of_the_layer() -> None:
    inferers = pytest.importorskip("monai.inferers")

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1, bias=False)
            )

        def forward(self, x: Tensor) -> Tensor:
            return inferers.sliding_window_inference(x, (8, 8, 8), 1, self.net, overlap=0)

    model, x = Windows().eval(), torch.randn(1, 1, 16, 8, 8)

    def keep(name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        return torch.stack([activation, gradient])

    kept = split_pass(
        model, {"1": model.net[1]}, x, lambda out: out[:, 1].flatten(1).sum(1)[:, None], keep
    ).kept["1"]
    assert len(kept) == 2  # a leaf for each window
    for call, window in enumerate(x.split(8, dim=2)):
        torch.testing.assert_close(kept[call][0, 0], model.net[:2](window).detach())
        weight = model.net[2].weight[1].detach()
        torch.testing.assert_close(kept[call][0, 1], weight.expand_as(kept[call][0, 1]))
    total = sum(float((k[0, 0] * k[0, 1]).sum()) for k in kept)
    assert total == pytest.approx(float(model(x)[:, 1].sum().detach()), rel=1e-4)


# Training mode, threads, interruptions ------------------------------------------------------------


def test_batch_norm_in_training_mode(expected: Tensor) -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    torch.testing.assert_close(maps(model), expected)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())


def test_between_forward_and_backward_of_a_training_step() -> None:
    model, twin = network().train(), network().train()
    loss = model(image()).square().mean()
    maps(model)  # explained while the graph of a training step waits
    loss.backward()
    twin(image()).square().mean().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_one_thread_trains_while_another_explains(expected: Tensor) -> None:
    """Explaining switches a model's flags, so two models with the same weights are used."""
    model, other = network().eval(), network().train()
    found: list[Tensor] = []
    explaining = threading.Thread(target=lambda: found.extend(maps(model) for _ in range(10)))
    explaining.start()
    for _ in range(10):
        other(image()).square().mean().backward()
    explaining.join()
    assert len(found) == 10
    assert all(torch.equal(one, expected) for one in found)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_explanation_leaves_nothing(error: type[BaseException]) -> None:
    model = network().train()
    model[0].requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    rc.RespondCAM(model, "4")(image())  # so that nothing is left to be found out

    def stop(*_: Any) -> None:
        raise error("stopped")

    handle = model[5].register_forward_hook(stop)
    with pytest.raises(ModelError if error is RuntimeError else error):
        maps(model)
    handle.remove()
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert torch.is_grad_enabled()
    torch.testing.assert_close(maps(model), maps(network()))


def test_subclasses_of_tensor(expected: Tensor) -> None:
    data = pytest.importorskip("monai.data")
    found = maps(network().eval(), x=data.MetaTensor(image()))
    assert type(found) is Tensor
    torch.testing.assert_close(found, expected)


def test_a_scan_in_a_meta_tensor_knows_its_place(tmp_path: Path) -> None:
    """As MONAI reads it: i, j, k of the file, and an affine that takes them to millimetres."""
    nibabel = pytest.importorskip("nibabel")
    data = pytest.importorskip("monai.data")
    affine = np.array([[0, -2.0, 0, 30], [0, 0, 3.0, -20], [1.5, 0, 0, 7], [0, 0, 0, 1]])
    voxels = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32)
    path = tmp_path / "scan.nii.gz"
    nibabel.Nifti1Image(voxels, affine).to_filename(path)
    reader = data.NibabelReader()
    read, meta = reader.get_data(reader.read(path))
    scan = data.MetaTensor(torch.from_numpy(np.array(read))[None], meta=meta)
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    explainer = rc.RespondCAM(model, layer="0")
    found = explainer(scan[None], target=1)
    assert found.source is not None
    assert found.source.unit == "mm"
    saved = nibabel.load(found.save(tmp_path / "map.nii.gz"))
    raw = found.maps[0, 0].numpy()
    at = np.array([7, 3, 5])
    world = (affine @ [*at, 1])[:3]
    there = np.rint(np.linalg.solve(saved.affine, [*world, 1])[:3]).astype(int)
    assert saved.get_fdata()[tuple(there)] == pytest.approx(raw[tuple(at)], rel=1e-5)
    assert np.allclose(saved.affine @ [*there, 1], [*world, 1])
    # from a loader, where one matrix is given for each sample
    (batch,) = data.DataLoader(data.Dataset([scan]), batch_size=1)
    again = explainer(batch, target=1)
    assert again.source is not None
    assert np.allclose(again.source.affine, found.source.affine)
    # several scans have several places, and a tensor that nobody gave one has none
    assert explainer(torch.cat([scan[None], scan[None]]), target=1).source is None
    assert explainer(data.MetaTensor(torch.rand(1, 1, 4, 4, 4)), target=1).source is None

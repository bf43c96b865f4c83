"""What users of class activation maps ask for, each from a user's call to what comes back.

The names say what must just work; the numbers only keep them in order.
"""

import copy
import gc
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.errors import EmptyMapWarning, LayerError, ModelError, TargetError


def network(rank: int = 3, channels: int = 1, *, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    return nn.Sequential(
        conv(channels, 6, 3, stride=2, padding=1),
        norm(6),
        nn.ReLU(inplace=inplace),
        conv(6, 8, 3, stride=2, padding=1),
        nn.ReLU(inplace=inplace),
        pool(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()


def segmenter() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1, bias=False)
    ).eval()


def image(rank: int = 3, batch: int = 1, channels: int = 1, size: int = 12) -> Tensor:
    chance = torch.Generator().manual_seed(5)
    return torch.randn(batch, channels, *[size] * rank, generator=chance)


def explained(model: nn.Module, x: Any, layer: str = "4", target: Any = 1) -> Any:
    return rc.RespondCAM(model, layer)(x, target=target)


class Returning(nn.Module):
    """The network, with what it returns wrapped."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.net, self.wrap = network(), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.net(x))


@pytest.mark.parametrize("method", list(rc.METHODS))
def test_need_01_three_dimensions_in_and_out_for_every_method(method: str) -> None:
    on_input = method in ("integrated-gradients", "occlusion", "guided-backprop")
    layer = None if on_input or method == "refine" else "4"
    found = rc.METHODS[method](network(), layer=layer)(image(), target=1)
    assert found.maps.shape == (1, 1, *([12] * 3 if on_input else found.grid.shape))
    assert len(found.grid.shape) == 3
    assert found.place().shape == (1, 1, 12, 12, 12)
    assert float(found.maps.abs().max()) > 0


def test_need_02_segmentation_targets() -> None:
    pytest.importorskip("scipy")
    model, x = segmenter(), image()
    out = model(x).detach()[0, 2]
    inside = torch.zeros(12, 12, 12, dtype=torch.bool)
    inside[2:5, 3:6, 1:4] = True
    at = torch.nonzero(model(x).detach()[0].argmax(dim=0) == 2)[0].tolist()
    targets = {
        float(out[inside].sum()): rc.targets.mask(inside, 2),
        float(out[2:5, 3:6, 1:4].sum()): rc.targets.box([2, 3, 1], [5, 6, 4], 2),
        float(out[tuple(at)]): rc.targets.voxel(at, 2),
    }
    for expected, target in targets.items():
        found = explained(model, x, "1", target)
        assert float(found.scores) == pytest.approx(expected, rel=1e-4)
        assert float(found.maps.sum()) == pytest.approx(expected, rel=1e-4)  # linear, no bias
    part = explained(model, x, "1", rc.targets.component(2, at=at))
    assert float(part.maps.sum()) == pytest.approx(float(part.scores), rel=1e-4)


def test_need_03_several_inputs() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.facts = network(), nn.Linear(2, 3)

        def forward(self, scan: Tensor, facts: Tensor) -> Tensor:
            return self.net(scan) + self.facts(facts)

    model, facts = Both().eval(), torch.randn(1, 2)
    expected = explained(network(), image()).maps
    for inputs in ((image(), facts), {"facts": facts, "scan": image()}):
        torch.testing.assert_close(explained(model, inputs, "net.4").maps, expected)


def test_need_04_in_place_relu_after_the_layer() -> None:
    expected = explained(network(), image(), "3").maps
    torch.testing.assert_close(explained(network(inplace=True), image(), "3").maps, expected)
    assert float(expected.min()) < 0  # of the layer itself, not of what the ReLU leaves


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_need_05_inside_no_grad_and_inference_mode(mode: Any) -> None:
    expected = explained(network(), image()).maps
    with mode():
        found = explained(network_made_outside(), image()).maps
    torch.testing.assert_close(found, expected)


def network_made_outside() -> nn.Module:
    with torch.inference_mode(False):
        return network()


def test_need_06_frozen_parameters() -> None:
    frozen = network().requires_grad_(False)
    torch.testing.assert_close(explained(frozen, image()).maps, explained(network(), image()).maps)
    assert not any(p.requires_grad for p in frozen.parameters())


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


@pytest.mark.parametrize(
    ("wrap", "pick"),
    [
        (lambda y: (y, [y * 2, y * 3]), lambda out: out[0]),  # deep supervision
        (lambda y: {"logits": y, "features": y * 2}, None),
        (Output, None),
    ],
)
def test_need_07_outputs_that_are_no_tensor(wrap: Any, pick: Any) -> None:
    found = rc.RespondCAM(Returning(wrap), "net.4", output=pick)(image(), target=1)
    torch.testing.assert_close(found.maps, explained(network(), image()).maps)


def test_need_08_an_empty_map_says_why() -> None:
    model = network()
    nn.init.constant_(model[3].bias, -1e3)
    with pytest.warns(EmptyMapWarning, match="output of layer '4' is zero everywhere"):
        found = explained(model, image())
    assert "zero everywhere" in found.empty[0, 0]
    with pytest.raises(TargetError, match="NaN"):
        explained(network(), image() * float("nan"))


def test_need_09_nothing_is_kept_between_calls() -> None:
    model, x = network(), image()
    explainer = rc.RespondCAM(model, "4")
    explainer(x)

    def alive() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if type(thing) is Tensor)

    before = alive()
    for _ in range(5):
        explainer(x).account  # noqa: B018
    assert alive() == before


@pytest.mark.parametrize("shape", [(9, 12, 17), (16, 5, 8), (13, 13, 13)])
def test_need_11_the_maps_shape_is_the_inputs(shape: tuple[int, ...]) -> None:
    found = explained(network(), torch.randn(1, 1, *shape))
    placed = found.place()[0, 0]
    assert placed.shape == shape
    assert float(placed.sum()) == pytest.approx(float(found.maps.sum()), rel=1e-4, abs=1e-5)
    for axis in range(3):  # end slices are no copies of their neighbours
        ends = placed.movedim(axis, 0)
        assert not torch.equal(ends[0], ends[1])


def test_need_13_a_batch_with_a_class_for_each_sample() -> None:
    model, x = network(), image(batch=3)
    found = explained(model, x, target=[2, 0, 1])
    for i, number in enumerate([2, 0, 1]):
        one = explained(model, x[i : i + 1], target=number)
        torch.testing.assert_close(found.maps[i], one.maps[0])
        torch.testing.assert_close(found.scores[i], one.scores[0])


def test_need_14_help_with_the_layer() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.spare = network(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    model = Spare()
    table = rc.inspect(model, image())
    assert table.chosen == "net.4"
    assert "spare" not in [row.name for row in table]
    chosen = rc.RespondCAM(model)(image())
    assert (chosen.layer, "last layer" in chosen.layer_reason) == ("net.4", True)
    with pytest.raises(LayerError, match=r"spare.*not called.*net\.4"):
        explained(model, image(), "spare")
    with pytest.raises(LayerError, match="Near names: net"):
        explained(model, image(), "nets")


def test_need_15_transformers_without_a_reshape() -> None:
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    model = nets.ViT(
        1, (16, 24, 16), (8,) * 3, hidden_size=24, mlp_dim=48, num_layers=2, num_heads=4,
        classification=True,
    ).eval()  # fmt: skip
    x = torch.randn(1, 1, 16, 24, 16)
    found = rc.RespondCAM(model, output=lambda out: out[0])(x, target=0)
    assert (found.layer, found.maps.shape[2:]) == ("blocks.0", (2, 3, 2))
    assert (found.grid.stride, found.grid.offset) == ((8.0,) * 3, (3.5,) * 3)
    assert "tokens" in found.layer_reason
    assert float(found.maps.abs().max()) > 0
    assert rc.inspect(model, x).chosen == "blocks.1"  # all outputs, hidden states among them


def test_need_16_hooks_are_removed_and_explainers_do_not_meet() -> None:
    model, x = network(), image()
    first, second = rc.RespondCAM(model, "4"), rc.GradCAM(model, "2")
    one, two = first(x, target=0), second(x, target=0)
    torch.testing.assert_close(first(x, target=0).maps, one.maps)
    torch.testing.assert_close(second(x, target=0).maps, two.maps)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_need_18_nifti_as_floats_with_the_true_affine(tmp_path: Path) -> None:
    affine = np.array([[-2, 0.1, 0, 30], [0.1, 2.5, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])
    volume = rc.Volume(image()[0, 0].numpy(), affine, "mm")
    rc.write_volume(tmp_path / "scan.nii.gz", volume)
    found = explained(network(), rc.read_volume(tmp_path / "scan.nii.gz"))
    saved = nibabel.load(found.save(tmp_path / "map.nii.gz"))
    np.testing.assert_allclose(saved.affine, affine, atol=1e-5)
    assert saved.get_data_dtype() == np.float32
    np.testing.assert_allclose(saved.get_fdata().T, found.place()[0, 0].numpy(), rtol=1e-5)


def test_need_19_no_flip_no_rotation_no_shift() -> None:
    model = nn.Sequential(
        nn.Conv3d(1, 1, 3, stride=2, padding=1, bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(),
    )  # fmt: skip
    nn.init.zeros_(model[0].weight)
    with torch.no_grad():
        model[0].weight[0, 0, 1, 1, 1] = 1  # sees voxel 2 i, and nothing else
    x = torch.zeros(1, 1, 16, 12, 20)
    x[0, 0, 4, 6, 14] = 1
    placed = explained(model, x, "1", rc.targets.value()).place()[0, 0]
    at = np.unravel_index(int(placed.argmax()), placed.shape)
    assert tuple(map(int, at)) == (4, 6, 14)


def test_need_20_high_means_important() -> None:
    model, x = network(), image()
    found = explained(model, x, "4", target=1)
    A = model[:5](x).detach()
    strongest = np.unravel_index(int(found.maps[0, 0].argmax()), (3, 3, 3))
    weakest = np.unravel_index(int(found.maps[0, 0].argmin()), (3, 3, 3))
    scores = []
    for at in (strongest, weakest):  # taking the strongest away costs the score more
        without = A.clone()
        without[(0, slice(None), *at)] = 0
        scores.append(float(model[5:](without)[0, 1].detach()))
    assert scores[0] < scores[1]


def test_need_22_signed_maps() -> None:
    found = rc.GradCAM(network(), "4")(image(), target="all").maps
    assert float(found.min()) < 0 < float(found.max())
    against = rc.RespondCAM(network(), "4")(image(), target=rc.targets.contrast(0, 1)).maps
    other = rc.RespondCAM(network(), "4")(image(), target=rc.targets.contrast(1, 0)).maps
    torch.testing.assert_close(against, -other)


def test_need_23_raw_values_can_be_compared() -> None:
    model, x = network(), image()
    found = explained(model, x, target="all")
    sums = found.maps.flatten(2).sum(dim=2)
    torch.testing.assert_close(sums + model[7].bias.detach(), model(x).detach())  # score's units
    louder = copy.deepcopy(model)
    with torch.no_grad():
        louder[7].weight.mul_(3)
    torch.testing.assert_close(explained(louder, x, target="all").maps, 3 * found.maps)


def test_need_24_classes_in_one_call_are_different() -> None:
    found = explained(network(), image(), target="all")
    assert found.targets == ("class 0", "class 1", "class 2")
    for number in range(3):
        one = explained(network(), image(), target=number).maps[:, 0]
        torch.testing.assert_close(found.maps[:, number], one)
    assert not torch.allclose(found.maps[:, 0], found.maps[:, 1])


@pytest.mark.parametrize("shape", [lambda y: y, torch.squeeze, lambda y: y[:, 0]])
def test_need_25_single_logit(shape: Any) -> None:
    class Binary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return shape(self.net(x)[:, :1])

    for batch in (1, 2):
        yes, no = (explained(Binary(), image(batch=batch), "net.4", t) for t in (1, 0))
        torch.testing.assert_close(yes.maps, -no.maps)
        assert yes.maps.shape[:2] == (batch, 1)
        logits = network()(image(batch=batch))[:, 0].detach()
        torch.testing.assert_close(yes.scores[:, 0], logits)


def test_need_26_regression() -> None:
    found = explained(network(), image(), target="value")
    torch.testing.assert_close(found.maps, explained(network(), image(), target=0).maps)
    second = explained(network(), image(), target=rc.targets.value(2))
    assert second.targets == ("value 2",)
    embedding = torch.randn(3)
    near = explained(network(), image(), target=rc.targets.similarity(embedding))
    cosine = torch.cosine_similarity(network()(image()).detach(), embedding[None])
    torch.testing.assert_close(near.scores[:, 0], cosine)


def test_need_28_parallel_wrappers() -> None:
    x = image(batch=4)
    found = explained(nn.DataParallel(network()), x)
    torch.testing.assert_close(found.maps, explained(network(), x).maps)
    assert len(found.maps) == 4
    assert explained(nn.DataParallel(network()), x, "module.4").layer == "4"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: explained(network(), image(), "conv4"), ["no layer 'conv4'", "lists all"]),
        (lambda: explained(network(), image(), target=9), ["out of range", "0 to 2"]),
        (lambda: explained(network(), image(channels=2)), ["does not run", "channels"]),
        (lambda: explained(network(), np.zeros((4, 4, 4))), ["numpy array", "Volume(array)"]),
    ],
)
def test_need_29_errors_name_cause_and_fix(call: Any, words: list[str]) -> None:
    with pytest.raises(rc.InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_need_31_a_working_example() -> None:
    """The command that a new user types first."""
    code = (
        "import sys; sys.argv = ['respondcam', 'demo', '--help']; from respondcam.cli import main"
    )
    run = [sys.executable, "-c", f"{code}; main()"]
    told = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", check=False)
    assert told.returncode == 0, told.stderr
    found = rc.explain(network(), image())  # and the shortest call
    assert float(found.account.gap.abs()) < 1e-6


def test_need_32_model_untouched_and_deterministic() -> None:
    model, x = network().train(), image(batch=2)
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, second = explained(model, x), explained(model, x)
    assert torch.equal(first.maps, second.maps)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize("axes", ["clip", "series"])
def test_need_34_time(axes: str) -> None:
    if axes == "clip":  # (batch, channel, time, y, x)
        found = explained(network(channels=3), torch.randn(2, 3, 8, 24, 20))
        assert found.maps.shape[2:] == (2, 6, 5)
        return

    class Series(nn.Module):  # (batch, time, channel, z, y, x)
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.net(frame) for frame in x.unbind(dim=1)]).mean(dim=0)

    x = torch.randn(2, 3, 1, 12, 12, 12)
    found = rc.RespondCAM(Series(), "net.4#2")(x, target=1)
    alone = explained(network(), x[:, 2]).maps
    torch.testing.assert_close(found.maps.flatten(2), alone.flatten(2) / 3)


@pytest.mark.slow
@pytest.mark.usefixtures("plain_import")
def test_need_35_compiled_models() -> None:
    model = network()
    expected = explained(network(), image()).maps
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(image())  # compiled without gradients: hooks would be skipped
    torch.testing.assert_close(explained(compiled, image()).maps, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_need_36_half_precision(dtype: torch.dtype) -> None:
    expected = explained(network(), image()).maps
    found = explained(network().to(dtype), image().to(dtype)).maps
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02 * float(expected.max()))
    with torch.autocast("cpu", dtype):
        mixed = explained(network(), image()).maps
    torch.testing.assert_close(mixed, expected, rtol=0.1, atol=0.02 * float(expected.max()))


def test_need_38_repeated_modules_and_layers_that_return_tuples() -> None:
    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.block = nn.Conv3d(1, 2, 3), Pair()
            self.head = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            x, _ = self.block(self.stem(x))
            x, _ = self.block(x)
            return self.head(x.mean(dim=(2, 3, 4)))

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return self.conv(x).relu(), "kept"

    model = Repeated().eval()
    first, last = (explained(model, image(), f"block#{k}") for k in (0, 1))
    assert (first.maps.shape[2:], last.maps.shape[2:]) == ((8, 8, 8), (6, 6, 6))
    assert float(last.account.gap.abs()) < 1e-6  # a linear head


def test_need_39_torchscript_works_or_is_refused_in_words() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        frozen = torch.jit.freeze(torch.jit.trace(network(), image()))
    with pytest.raises(rc.InputError) as caught:
        explained(frozen, image())
    assert len(str(caught.value).split()) > 8


def test_need_42_padding_and_background_do_not_light_up() -> None:
    """An empty margin gets nothing, though zero padding makes its corners special."""
    model = network()
    for layer in (model[0], model[1], model[3]):
        nn.init.zeros_(layer.bias)  # so that emptiness is the same as nothing
    x = torch.zeros(1, 1, 32, 32, 32)
    x[..., 12:20, 12:20, 12:20] = image(size=8)
    placed = explained(model, x).place()[0, 0].abs()
    inner = placed[6:26, 6:26, 6:26]  # the object, and the reach of the layer's voxels
    assert float(inner.sum() / placed.sum()) > 0.99
    for corner in (placed[:4, :4, :4], placed[-4:, -4:, -4:]):
        assert float(corner.sum()) == 0


def test_need_43_headless_and_light(tmp_path: Path) -> None:
    code = (
        "import torch, respondcam as rc; from torch import nn;"
        "m = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 2));"
        "e = rc.explain(m, torch.rand(1, 1, 5, 5, 5)); e.plot().savefig('map.png')"
    )
    run = [sys.executable, "-c", code]
    told = subprocess.run(
        run, capture_output=True, text=True, encoding="utf-8", check=False, cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "DISPLAY"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_need_33_all_classes_cost_one_pass_forward() -> None:
    model, calls = network(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    explainer = rc.RespondCAM(model, "4")
    explainer(image(), target="all")  # traced once
    calls.clear()
    explainer(image(), target="all")
    assert len(calls) == 1


def test_need_32_threads_share_a_model() -> None:
    model = network()
    expected = [explained(model, image() * k).maps for k in range(1, 5)]
    wrong: list[int] = []

    def work(k: int) -> None:
        if not torch.equal(explained(model, image() * (k + 1)).maps, expected[k]):
            wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_need_29_a_model_that_can_never_work_is_refused_in_words() -> None:
    with torch.inference_mode():
        model = network()
    with pytest.raises(ModelError, match="built under"):
        explained(model, image())


def test_need_12_a_three_dimensional_map_is_seen_in_slices_and_in_a_montage() -> None:
    figure = explained(network(), rc.Volume(image()[0, 0].numpy(), unit="mm")).plot()
    assert len(figure.axes) >= 3  # three planes


def test_need_21_a_whole_volume_from_windows_with_their_sums(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    from respondcam.large import LargeSettings, explain_large

    voxels = np.random.default_rng(0).normal(size=(16, 20, 24)).astype(np.float32)
    rc.write_volume(tmp_path / "tomo.mrc", rc.Volume(voxels, unit="angstrom"))
    settings = LargeSettings(window=(12, 12, 12), overlap=0.5, stitch="sum", target=1, layer="4")
    outcome = explain_large(tmp_path / "tomo.mrc", tmp_path, network(), settings)
    whole = rc.read_volume(outcome.store)
    starts = [(z, y, x) for z in (0, 4) for y in (0, 6, 8) for x in (0, 6, 12)]
    sums = [
        float(explained(network(), torch.tensor(voxels)[None, None][(..., *cut)]).maps.sum())
        for cut in (tuple(slice(s, s + 12) for s in start) for start in starts)
    ]
    assert float(whole.voxels.sum()) == pytest.approx(sum(sums), rel=1e-4)


def test_need_27_a_deletion_curve_costs_one_inference_a_step() -> None:
    from respondcam.evidence import Changing, Scorer, deletion

    model, x = segmenter(), image()
    goal = rc.targets.box([2, 2, 2], [8, 8, 8], 2)
    found = rc.RespondCAM(model, "1")(x, target=goal)
    scorer = Scorer(model, x, target=goal, measure="score")
    curve = deletion(scorer, found.place(), Changing(fill="mean", steps=12))
    assert scorer.forwards == 13
    assert float(curve.scores[0, 0, 0]) == pytest.approx(float(found.scores), rel=1e-5)


def test_need_37_which_sequence_mattered() -> None:
    model, x = network(channels=3), image(channels=3)
    with torch.no_grad():
        model[0].weight[:, 1] = 0  # the network does not read the second
    found = rc.channel_contributions(
        rc.RespondCAM(model, "4"), x, target=1, names=["T1", "T2", "FLAIR"]
    )
    shares = found.shapley[0, 0]
    assert float(shares[1]) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        rise = float((model(x) - model(torch.zeros_like(x)))[0, 1])
    assert float(shares.sum()) == pytest.approx(rise, rel=1e-4)


def test_need_40_several_layers_in_one_finer_map_that_adds_up() -> None:
    several = rc.RespondCAM(network(), ["2", "4"])(image(), target=1)
    fused = rc.fuse(several)
    assert fused.maps.shape[2:] == (12, 12, 12)
    torch.testing.assert_close(
        fused.maps.sum(), torch.stack([one.maps.sum() for one in several]).mean()
    )


def test_need_41_a_map_enters_a_loss() -> None:
    model = network()
    rc.RespondCAM(model, "4")(image(), target=1, create_graph=True).maps.square().sum().backward()
    assert float(model[3].weight.grad.abs().sum()) > 0


def test_need_44_occlusion_without_grid_artefacts_by_default() -> None:
    pytest.importorskip("captum")
    model = nn.Sequential(nn.AvgPool3d(12), nn.Flatten(), nn.Linear(1, 2)).eval()
    found = rc.METHODS["occlusion"](model)(torch.ones(1, 1, 12, 12, 12), target=0).maps[0, 0]
    inner = found[4:8, 4:8, 4:8]  # every voxel counts the same, so the map must be flat
    assert float(inner.std()) < 1e-2 * float(inner.mean().abs())


def test_need_45_a_map_of_a_randomised_network_is_another() -> None:
    from respondcam.evidence import randomised

    check = randomised(
        network(), lambda net: rc.RespondCAM(net, layer="4"), image(size=24), target=1
    )
    assert len(check.layers) >= 3
    assert check.verdict


MEMORY = """
import sys
import torch
from torch import nn
import respondcam as rc

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(
    nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool3d(4), nn.Conv3d(16, 16, 3), nn.ReLU(),
    nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 3),
).eval()
image, small = torch.randn(1, 1, 88, 88, 88), torch.randn(1, 1, 16, 16, 16)
explainer = rc.RespondCAM(model, "4")
with torch.inference_mode():
    model(small)
explainer(small, target=1).account
def peak():  # not ru_maxrss, which a process inherits from the one that started it
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
before = peak()
if sys.argv[1] == "map":
    explanation = explainer(image, target=1)
    explanation.account, explanation.place()
else:
    with torch.inference_mode():
        model(image)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_need_30_a_map_of_a_big_volume_needs_little_more_than_inference() -> None:
    needed = [
        float(subprocess.run([sys.executable, "-c", MEMORY, what], capture_output=True, check=True,
                             text=True).stdout)
        for what in ("inference", "map")
    ]  # fmt: skip
    assert needed[0] > 60  # MiB: the first layer's output is seen at all
    assert needed[1] < 1.25 * needed[0]

"""Explanations as a user gets them: targets, inputs, outputs, accounts, places, files, warnings."""

import copy
import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution.explanation import grid_affine
from respondcam.errors import (
    EmptyMapWarning,
    InputError,
    LayerError,
    ModelError,
    RespondCAMWarning,
    TargetError,
)


def gap_network(rank: int = 3, classes: int = 4, channels: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1]
    return nn.Sequential(
        conv(channels, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        conv(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        pool(1),
        nn.Flatten(),
        nn.Linear(12, classes),
    )


def image(rank: int = 3, batch: int = 1, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(batch, channels, *[13] * rank, generator=generator)


# Sum to score -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_with_a_linear_head_the_score_is_the_bias_plus_the_sum(rank: int) -> None:
    model, x = gap_network(rank), image(rank, batch=3)
    explanation = rc.RespondCAM(model, layer="3")(x, target="all")
    scores = model.eval()(x).detach()
    total = model[6].bias.detach() + explanation.maps.flatten(2).sum(dim=2)
    torch.testing.assert_close(total, scores, rtol=1e-5, atol=1e-6)
    account = explanation.account
    torch.testing.assert_close(account.baseline, model[6].bias.detach().double().expand(3, 4))
    torch.testing.assert_close(account.score, scores.double())
    assert float(account.gap.abs().max()) < 1e-6


def test_the_account_of_a_nonlinear_head_names_the_gap() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(16, 1))
    squared = nn.Sequential(model[0], nn.Flatten(), model[2])
    torch.manual_seed(1)
    x = 9 * torch.rand(1, 1, 2, 2, 2)
    explanation = rc.RespondCAM(squared, layer="0")(x, target=lambda out: out[:, 0] ** 2)
    account = explanation.account
    z = float(squared(x)[0, 0].detach())
    bias = float(squared[2].bias.detach())
    # y = z^2 with z = b + w.A: sum A * dy/dA = 2 z (z - b)
    assert float(account.baseline) == pytest.approx(bias**2, rel=1e-5)
    assert float(account.mapped) == pytest.approx(2 * z * (z - bias), rel=1e-5)
    assert float(account.gap) == pytest.approx(
        z**2 - bias**2 - 2 * z * (z - bias), rel=1e-4, abs=1e-4
    )
    assert "gap" in account.line()


def test_the_account_keeps_the_class_that_was_predicted() -> None:
    model, x = gap_network(), image()
    explanation = rc.RespondCAM(model, layer="3")(x)
    number = int(explanation.classes[0, 0])
    assert float(explanation.account.baseline) == pytest.approx(model[6].bias[number].item())


def test_the_account_says_when_the_score_goes_around_the_layer() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = x + self.branch(x)
            return self.head(x.mean(dim=(2, 3, 4)))

    model = Residual()
    around = rc.RespondCAM(model, layer="branch")(image())
    through = rc.RespondCAM(model, layer="stem")(image())
    assert around.bypassed
    assert "around" in around.account.note
    assert not through.bypassed
    assert through.account.note == ""


def test_side_outputs_are_no_path_around_the_layer() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = gap_network()

        def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
            first = self.net[:2](x)
            return self.net[2:](first), [first, x * 2]

    model = Deep()
    explanation = rc.RespondCAM(model, layer="net.3", output=lambda out: out[0])(image())
    assert not explanation.bypassed


# Targets ----------------------------------------------------------------------------------------


def test_predicted_class_is_each_samples_own() -> None:
    model, x = gap_network(), torch.cat([image(), -3 * image(), 5 + image()])
    explanation = rc.RespondCAM(model, layer="3")(x)
    scores = model.eval()(x)
    assert explanation.classes[:, 0].tolist() == scores.argmax(dim=1).tolist()
    torch.testing.assert_close(explanation.scores[:, 0], scores.max(dim=1).values.detach())


def test_one_class_per_sample() -> None:
    model, x = gap_network(), torch.cat([image(), -image()])
    mixed = rc.RespondCAM(model, layer="3")(x, target=[2, 0])
    as_tensor = rc.RespondCAM(model, layer="3")(x, target=torch.tensor([2, 0]))
    alone = [rc.RespondCAM(model, layer="3")(x[i : i + 1], target=c) for i, c in ((0, 2), (1, 0))]
    torch.testing.assert_close(mixed.maps, torch.cat([e.maps for e in alone]))
    torch.testing.assert_close(mixed.maps, as_tensor.maps)


def test_a_class_may_be_a_tensor_without_axes() -> None:
    model, x = gap_network(), image()
    explainer = rc.RespondCAM(model, layer="3")
    found = explainer(x, target=torch.tensor(2))
    assert found.targets == ("class 2",)
    torch.testing.assert_close(found.maps, explainer(x, target=2).maps)


def test_single_logit_models_have_two_classes() -> None:
    model, x = gap_network(classes=1), image()
    explainer = rc.RespondCAM(model, layer="3")
    one, zero, value = (explainer(x, target=t) for t in (1, 0, "value"))
    torch.testing.assert_close(one.maps, -zero.maps)
    torch.testing.assert_close(one.maps, value.maps)
    assert explainer(x, target="all").scores.shape == (1, 2)
    logit = float(model.eval()(x).detach())
    predicted = explainer(x)
    assert int(predicted.classes) == int(logit > 0)
    assert float(predicted.scores) == pytest.approx(abs(logit))


def test_regression_without_a_class_axis() -> None:
    class Regressor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = gap_network(classes=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 0]

    explanation = rc.RespondCAM(Regressor(), layer="net.3")(image(batch=2), target="value")
    assert explanation.maps.shape[:2] == (2, 1)


def test_a_callable_may_contrast_two_classes() -> None:
    model, x = gap_network(), image()
    explainer = rc.RespondCAM(model, layer="1")

    def contrast(out: Tensor) -> Tensor:
        return out[:, 1] - out[:, 3]

    both = explainer(x, target=rc.targets.classes([1, 3])).maps
    found = explainer(x, target=contrast)
    assert found.targets == ("contrast",)
    # HiResCAM is linear in the gradient; Respond-CAM too, at a fixed activation.
    torch.testing.assert_close(found.maps[:, 0], both[:, 0] - both[:, 1], rtol=1e-4, atol=1e-6)


def test_a_dense_output_is_summed_over_the_predicted_region() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1))
    x = image()
    out = model(x).detach()
    region = out.argmax(dim=1)
    explanation = rc.RespondCAM(model, layer="1")(x, target=2)
    expected = out[:, 2][region == 2].sum()
    assert float(explanation.scores) == pytest.approx(float(expected), rel=1e-5)
    bias = model[2].bias[2].detach() * (region == 2).sum()
    total = explanation.maps.sum() + bias
    assert float(total) == pytest.approx(float(expected), rel=1e-4)
    # the region stays the predicted one when the account runs the head on nothing
    assert float(explanation.account.baseline) == pytest.approx(float(bias), rel=1e-4)


def test_the_predicted_class_is_marked_among_several_alone() -> None:
    model = nn.Sequential(nn.Conv1d(1, 3, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten()).double()
    images = torch.randn(4, 1, 9, dtype=torch.float64)
    found = rc.RespondCAM(model, "0")(images, target="all")
    best = model(images).argmax(dim=1)
    for sample in range(4):
        marked = [found.label(k, sample).endswith(" (predicted)") for k in range(3)]
        assert marked.index(True) == int(best[sample])
        assert sum(marked) == 1
    assert found.targets == ("class 0", "class 1", "class 2")
    assert rc.RespondCAM(model, "0")(images, target=1).label(0) == "class 1"
    named = found.named(["a", "b", "c"])
    assert named.label(int(best[2]), 2) == f"{'abc'[int(best[2])]} (predicted)"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (4, r"class 4 is out of range.*4 classes, 0 to 3"),
        (-1, "out of range"),
        ([0, 1, 2], "3 classes for a batch of 2"),
        ("dog", "none of 'predicted'"),
        (1.5, "is none of .* a class number"),
        (torch.rand(2, 1, 4), r"a tensor \(2, 1, 4\).* several inputs all go in as one: a tuple"),
        (True, "none of"),
        (lambda out: out.sum(), "must give one score per sample"),
        (lambda out: out[:1, 0], "must give one score per sample"),
        (lambda out: "score", "a str"),
        (lambda out: out[:, 0] * float("nan"), "NaN"),
    ],
)
def test_wrong_targets_are_worded(target: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        rc.RespondCAM(gap_network(), layer="3")(image(batch=2), target=target)


def test_a_score_that_does_not_depend_on_the_layer() -> None:
    model = gap_network()
    with pytest.raises(LayerError, match="does not depend on layer '3'"):
        rc.RespondCAM(model, layer="3")(image(), target=lambda out: out.detach()[:, 0])


# Outputs and inputs -----------------------------------------------------------------------------


@dataclasses.dataclass
class Result:
    logits: Tensor
    features: Tensor


class Wrapped(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.net, self.wrap = gap_network(), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.net(x))


@pytest.mark.parametrize(
    ("wrap", "pick"),
    [
        (lambda y: {"logits": y, "aux": y * 2}, None),
        (lambda y: Result(y, y * 2), None),
        (lambda y: (y, None), None),
        (lambda y: (y, y * 2), lambda out: out[0]),
        (lambda y: {"a": y * 2, "b": y}, lambda out: out["b"]),
    ],
)
def test_outputs_that_are_no_tensor(wrap: Any, pick: Any) -> None:
    expected = rc.RespondCAM(gap_network(), layer="3")(image(), target=1)
    found = rc.RespondCAM(Wrapped(wrap), layer="net.3", output=pick)(image(), target=1)
    torch.testing.assert_close(found.maps, expected.maps)
    assert float(found.account.gap.abs()) < 1e-6


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda y: (y, y * 2), r"tuple of 2.*out\[0\]"),
        (lambda y: {"a": y, "b": y}, r"keys 'a', 'b'.*out\['a'\]"),
        (lambda y: y.argmax(dim=1), "no gradient"),
        (lambda y: "text", r"is a str.*no tensor of scores"),
    ],
)
def test_outputs_that_are_not_clear(wrap: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        rc.RespondCAM(Wrapped(wrap), layer="net.3")(image())


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.age = gap_network(), nn.Linear(3, 4)

    def forward(self, scan: Tensor, facts: Tensor) -> Tensor:
        return self.net(scan) + self.age(facts)


@pytest.mark.parametrize("kind", ["tuple", "dict", "volume"])
def test_several_inputs(kind: str) -> None:
    model = TwoInputs()
    scan, facts = image(), torch.ones(1, 3)
    inputs: Any = (scan, facts)
    if kind == "dict":
        inputs = {"facts": facts, "scan": scan}
    if kind == "volume":
        inputs = (rc.Volume(scan[0, 0].numpy()), facts)
    explanation = rc.RespondCAM(model, layer="net.3")(inputs, target=2)
    expected = rc.RespondCAM(gap_network(), layer="3")(scan, target=2)
    torch.testing.assert_close(explanation.maps, expected.maps)
    assert explanation.bypassed  # the facts go around the layer
    assert float(explanation.account.gap.abs()) < 1e-5
    assert (explanation.source is not None) == (kind == "volume")


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (np.zeros((8, 8, 8)), InputError, "numpy array"),
        (torch.zeros(8, 8), InputError, "expected"),
        (torch.zeros(0, 1, 8, 8, 8), InputError, "no empty one"),
        ("brain.nii", InputError, "no tensor"),
        (torch.zeros(1, 2, 13, 13, 13), ModelError, "does not run on the input"),
        (torch.zeros(1, 1, 13, 13), InputError, "no batch axis"),
        (torch.zeros(1, 1, 13, 13, 13, dtype=torch.float64), ModelError, "float64"),
        (
            (torch.zeros(1, 1, 13, 13, 13),) * 2,
            ModelError,
            r"takes the inputs \(input\) and was given 2",
        ),
    ],
)
def test_wrong_inputs_are_worded(inputs: Any, error: type[Exception], message: str) -> None:
    for layer in ("3", None):
        with pytest.raises(error, match=message):
            rc.RespondCAM(gap_network(), layer=layer)(inputs)


# Layers -----------------------------------------------------------------------------------------


def test_layers_by_name_module_list_and_choice() -> None:
    model, x = gap_network(), image()
    by_name = rc.RespondCAM(model, layer="3")(x)
    by_module = rc.RespondCAM(model, layer=model[3])(x)
    chosen = rc.RespondCAM(model)(x)
    several = rc.RespondCAM(model, layer=["1", model[3], "input"])(x)
    torch.testing.assert_close(by_name.maps, by_module.maps)
    torch.testing.assert_close(by_name.maps, chosen.maps)
    assert (by_name.layer_reason, chosen.layer) == ("", "3")
    assert "last layer with a grid" in repr(chosen)
    assert [e.layer for e in several] == ["1", "3", "input"]
    torch.testing.assert_close(several[1].maps, by_name.maps)
    assert several[2].maps.shape[2:] == x.shape[2:]
    assert all(float(e.account.gap.abs()) < 0.2 for e in several)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("conv9", "no layer 'conv9'"),
        ("33", "Near names: 3"),
        ("", "no layer ''"),
        ("3#x", "number of a call"),
        ("3#1", "called 1 times"),
        (nn.ReLU(), "not part of the model"),
        ([], "empty list"),
    ],
)
def test_wrong_layers_are_worded(layer: Any, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        rc.RespondCAM(gap_network(), layer=layer)(image())


def test_a_layer_without_a_grid_is_worded() -> None:
    with pytest.raises(LayerError, match="no grid"):
        rc.RespondCAM(gap_network(), layer="5")(image())


def test_repeated_calls_are_chosen_by_number() -> None:
    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.block = nn.Conv3d(1, 3, 3), nn.Conv3d(3, 3, 3, stride=2)
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block(self.stem(x).relu()).relu()
            return self.head(self.block(x).relu().mean(dim=(2, 3, 4)))

    model, x = Repeated(), image()
    first = rc.RespondCAM(model, layer="block#0")(x, target=0)
    last = rc.RespondCAM(model, layer="block#1")(x, target=0)
    assert (first.grid.shape, last.grid.shape) == ((5, 5, 5), (2, 2, 2))
    assert (first.grid.stride, last.grid.stride) == ((2.0,) * 3, (4.0,) * 3)
    with pytest.warns(RespondCAMWarning, match="called 2 times"):
        unnamed = rc.RespondCAM(model, layer="block")(x, target=0)
    torch.testing.assert_close(unnamed.maps, last.maps)
    # The account zeroes just that call.
    with torch.no_grad():
        zeroed = model.head(model.block(torch.zeros(1, 3, 5, 5, 5)).relu().mean(dim=(2, 3, 4)))
    assert float(first.account.baseline) == pytest.approx(float(zeroed[0, 0]), rel=1e-5)


# Empty and vanishing maps -----------------------------------------------------------------------


def test_an_empty_map_says_why() -> None:
    model = gap_network()
    nn.init.constant_(model[2].bias, -1e3)  # the last ReLU is closed everywhere
    with pytest.warns(EmptyMapWarning, match="output of layer '3' is zero everywhere"):
        explanation = rc.RespondCAM(model, layer="3")(image(), target=0)
    assert "zero everywhere" in explanation.empty[0, 0]
    assert "zero everywhere" in repr(explanation)
    with pytest.warns(EmptyMapWarning, match="gradient of this score at layer '1' is zero"):
        rc.RespondCAM(model, layer="1")(image(), target=0)


def test_a_class_that_is_predicted_nowhere_says_so() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 3, 1))
    nn.init.constant_(model[1].bias, 0.0)
    with torch.no_grad():
        model[1].bias[1] = -1e4
    with pytest.warns(EmptyMapWarning, match="class 1 is predicted nowhere in sample 0"):
        explanation = rc.RespondCAM(model, layer="0")(image(), target="all")
    assert list(explanation.empty) == [(0, 1)]
    assert float(explanation.maps[0, 0].abs().max()) > 0


def test_probabilities_and_saturation_are_warned_of() -> None:
    soft = nn.Sequential(*gap_network(), nn.Softmax(dim=1))
    with pytest.warns(RespondCAMWarning, match="looks like probabilities"):
        rc.RespondCAM(soft, layer="3")(image())
    with torch.no_grad():
        soft[6].bias[2] = 60.0
    with (
        pytest.warns(RespondCAMWarning, match="all but vanished"),
        pytest.warns(RespondCAMWarning, match="probabilities"),
    ):
        rc.RespondCAM(soft, layer="3")(image())


# Untouched --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(rc.METHODS))
def test_the_model_and_the_input_are_untouched(name: str) -> None:
    model, x = gap_network().train(), image(batch=2)
    twin, before = copy.deepcopy(model), x.clone()
    state = torch.get_rng_state()
    inputs = ("integrated-gradients", "occlusion", "guided-backprop")
    layer = None if name in inputs else ["3"] if name == "tubes" else ["1", "3"]
    explainer = rc.METHODS[name](model, layer=layer)
    first, again = (
        found if isinstance(found, tuple) else (found,)
        for found in (explainer(x, target="all") for _ in range(2))
    )
    _ = first[0].account
    assert torch.equal(x, before)
    assert x.requires_grad is False
    assert torch.equal(torch.get_rng_state(), state)
    for (key, ours), theirs in zip(
        model.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), key
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.maps, two.maps)
        assert not one.maps.requires_grad


def test_relu_is_an_option_and_off_by_default() -> None:
    explainer = rc.GradCAM(gap_network(), layer="1")
    signed = explainer(image(), target=0).maps
    assert float(signed.min()) < 0
    cut = rc.GradCAM(gap_network(), layer="1", relu=True)(image(), target=0).maps
    torch.testing.assert_close(cut, signed.relu())


# Places and files -------------------------------------------------------------------------------


def test_maps_sit_in_the_sources_world(tmp_path: Path) -> None:
    angle = np.deg2rad(20)
    affine = np.array(
        [
            [2 * np.cos(angle), -3 * np.sin(angle), 0, 5],
            [2 * np.sin(angle), 3 * np.cos(angle), 0, -7],
            [0, 0, 4, 11],
            [0, 0, 0, 1.0],
        ]
    )
    volume = rc.Volume(image()[0, 0].numpy(), affine, "mm")
    explanation = rc.RespondCAM(gap_network(), layer="3")(volume, target=1)
    coarse = explanation.volume(resolution="layer")
    fine = explanation.volume()
    assert (coarse.shape, fine.shape) == ((4, 4, 4), (13, 13, 13))
    assert float(fine.voxels.sum()) == pytest.approx(float(coarse.voxels.sum()), rel=1e-5)
    np.testing.assert_allclose(fine.affine, affine)
    # conv k3 s2 p1 twice: voxel i of the grid is centred on input voxel 4 i
    for index in ((0, 0, 0), (1, 2, 3)):
        there = volume.world(tuple(4 * i for i in index))
        np.testing.assert_allclose(coarse.world(index), there, atol=1e-9)
    path = explanation.save(tmp_path / "map.nii.gz")
    again = nibabel.load(path)
    np.testing.assert_allclose(again.affine, affine, atol=1e-5)
    np.testing.assert_allclose(again.get_fdata().T, fine.voxels, rtol=1e-6)
    assert again.get_data_dtype() == np.float32


def test_placing_conserves_every_maps_sum() -> None:
    explanation = rc.RespondCAM(gap_network(), layer="1")(image(batch=2), target="all")
    placed = explanation.place()
    assert placed.shape == (2, 4, 13, 13, 13)
    scale = explanation.maps.abs().flatten(2).sum(dim=2)
    difference = placed.flatten(2).sum(dim=2) - explanation.maps.flatten(2).sum(dim=2)
    assert float((difference.abs() / scale).max()) < 1e-5


def test_npz_holds_everything_and_reads_back(tmp_path: Path) -> None:
    explanation = rc.RespondCAM(gap_network(), layer="3")(image(), target="all")
    path = explanation.save(tmp_path / "map.npz", target=2)
    with np.load(path) as held:
        np.testing.assert_array_equal(held["maps"], explanation.maps.numpy())
        assert held["targets"].tolist() == ["class 0", "class 1", "class 2", "class 3"]
        np.testing.assert_allclose(held["gap"], explanation.account.gap.numpy())
    volume = rc.read_volume(path)
    np.testing.assert_allclose(volume.voxels, explanation.volume(target=2).voxels)


@pytest.mark.parametrize("name", ["map.jpg", "no-folder/map.nii.gz", "map"])
def test_saving_where_it_cannot_be_leaves_nothing(tmp_path: Path, name: str) -> None:
    explanation = rc.RespondCAM(gap_network(), layer="3")(image())
    with pytest.raises(InputError):
        explanation.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_measured_grid_moves_the_map_and_keeps_its_sum() -> None:
    model, x = gap_network(), torch.cat([image(), image().flip(2)])
    layout = rc.RespondCAM(model, layer="3")(x, target=0)
    measured = rc.RespondCAM(model, layer="3", align="measured")(x, target=0)
    assert (layout.grid.origin, measured.grid.origin) == ("layout", "measured")
    assert measured.grid.stride == layout.grid.stride
    torch.testing.assert_close(measured.maps, layout.maps)
    torch.testing.assert_close(measured.place().sum(), layout.place().sum())
    moved = [abs(a - b) for a, b in zip(measured.grid.offset, layout.grid.offset, strict=True)]
    assert 0 < max(moved) < 4


def test_two_dimensional_explanations_have_no_volume() -> None:
    explanation = rc.RespondCAM(gap_network(2), layer="3")(image(2))
    assert explanation.place().shape == (1, 1, 13, 13)
    with pytest.raises(InputError, match="2-D"):
        explanation.volume()


@pytest.mark.parametrize("index", [{"sample": 1}, {"target": 5}, {"sample": -2}])
def test_asking_for_a_map_that_is_not_there(index: dict[str, Any]) -> None:
    explanation = rc.RespondCAM(gap_network(), layer="3")(image())
    with pytest.raises(InputError):
        explanation.volume(**index)


def test_the_grids_affine_is_stride_and_offset() -> None:
    grid = rc.LayerGrid(
        (4.0, 2.0, 1.0), (1.5, 0.5, 0.0), (2, 2, 2), (8, 4, 2), (0.0, 0.0, 0.0), "layout"
    )
    affine = grid_affine(grid)
    np.testing.assert_allclose(affine @ (1, 1, 1, 1), (1, 2.5, 5.5, 1))


def test_pictures_and_html() -> None:
    explanation = rc.RespondCAM(gap_network(), layer="3")(image())
    figure = explanation.plot()
    assert figure.axes
    html = explanation._repr_html_()
    assert "3" in html
    assert "<img" in html


# Choice of the layer ----------------------------------------------------------------------------


def test_the_layer_table() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.spare, self.aside = gap_network(), nn.ReLU(), nn.Conv3d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x)
            return self.net(x)

    model = Spare().train()
    table = rc.inspect(model, image(batch=2))
    rows = {row.name: row for row in table}
    assert table.chosen == "net.3"
    assert "spare" not in rows
    assert not rows["aside"].reached
    assert "no gradient" in rows["aside"].note
    assert rows["net.2"].shape == (12, 4, 4, 4)
    assert rows["net.2"].grid.stride == (4.0, 4.0, 4.0)
    assert rows["net.0"].head_bytes > rows["net.2"].head_bytes
    assert rows["net.4"].note == "a single voxel"
    assert rows["net.6"].note == "no voxels to map"
    titles, cells = table.cells()
    shown = {row[0]: dict(zip(titles, row, strict=True)) for row in cells}
    assert shown["net.6"]["stride"] == shown["net.6"]["offset"] == ""
    assert shown["net.2"]["stride"] == "4"
    assert "chosen" in str(table)
    assert "net.3" in table._repr_html_()
    assert model.training


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.LeakyReLU(0.1, inplace=True)])
def test_a_layer_whose_view_is_written_into_is_reached(activation: nn.Module) -> None:
    """An instance norm gives a view; what is written into it leads around its node."""
    torch.manual_seed(0)
    norm, head = nn.InstanceNorm3d(4, affine=True), nn.Linear(4, 2)
    pool = (nn.AdaptiveAvgPool3d(1), nn.Flatten())
    model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Sequential(norm), activation, *pool, head)
    rows = {row.name: row for row in rc.inspect(model, image())}
    assert [rows[name].reached for name in ("0", "1", "1.0", "2")] == [True] * 4
    assert rows["1.0"].note == "same output as 1"
    assert float(rc.RespondCAM(model, layer="1")(image(), target=0).maps.abs().max()) > 0


def test_no_layer_to_choose_is_worded() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(13**3, 2))
    assert rc.inspect(model, image()).chosen == ""
    with pytest.raises(LayerError, match="Name a layer yourself"):
        rc.RespondCAM(model)(image())


def test_explain_in_one_call() -> None:
    model, x = gap_network(), image()
    torch.testing.assert_close(
        rc.explain(model, x).maps, rc.RespondCAM(model, layer="3")(x, "predicted").maps
    )
    assert rc.explain(model, x, 1, method="grad", layer="1").method == "grad"
    with pytest.raises(InputError, match="Known: respond"):
        rc.explain(model, x, method="gradcam")


WITHOUT_TYPE_CHECKS = """
import torch
import respondcam as rc
model = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(54, 2))
x = torch.rand(1, 1, 5, 5, 5)
for attempt in (
    lambda: rc.RespondCAM(model, denominator="mine"),
    lambda: rc.GradCAM(model, align="even"),
    lambda: rc.GradCAM(model, precision="fp16"),
    lambda: rc.GradCAM("resnet.pt"),
    lambda: rc.GradCAM(model, layer=3),
    lambda: rc.GradCAM(model, layer="0")(x).volume(resolution="half"),
):
    try:
        attempt()
    except rc.InputError as error:
        print(error)
"""


def test_wrong_options_are_worded() -> None:
    """In a process of its own: the tests' type checks would step in before."""
    run = [sys.executable, "-c", WITHOUT_TYPE_CHECKS]
    out = subprocess.run(
        run, capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout.splitlines()
    for line, word in zip(
        out,
        (
            "'signed' nor 'paper'",
            "'layout' nor",
            "nor 'bf16'",
            "nn.Module",
            "not as 3",
            "'layer' nor",
        ),
        strict=True,
    ):
        assert word in line


def test_nothing_is_warned_of_where_nothing_is_wrong() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rc.RespondCAM(gap_network())(image(), target="all")

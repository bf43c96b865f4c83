"""The formulas, number by number: what `tests.mutants` changes must show here first."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from respondcam.attribution import placing
from respondcam.attribution.account import PrecisionError, ScoreAccount
from respondcam.attribution.grad import GradCAM, grad_cam
from respondcam.attribution.grad_plus_plus import GradCAMPlusPlus, grad_cam_plus_plus
from respondcam.attribution.hires import HiResCAM, hires_cam
from respondcam.attribution.layer import LayerCAM, layer_cam
from respondcam.attribution.placing import interpolate, place, placing_matrix
from respondcam.attribution.quadrature import node_weights, path_nodes, tilt
from respondcam.attribution.respond import RespondCAM, respond_cam
from respondcam.errors import InputError
from respondcam.network.grid import LayerGrid
from respondcam.volume.tents import tent_matrix

F64 = torch.float64


def pair(*grid: int, batch: int = 2, channels: int = 3):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, batch, channels, *grid, dtype=F64, generator=generator)


def slow(formula, activation, gradient):
    """The map from plain numbers: formula(A of a channel, G of a channel) -> its part, summed."""
    found = torch.zeros_like(activation[:, 0])
    for sample in range(len(activation)):
        for a, g in zip(activation[sample], gradient[sample], strict=True):
            part = formula(a.flatten().tolist(), g.flatten().tolist())
            found[sample] += torch.tensor(part, dtype=F64).reshape(a.shape)
    return found


def signed(a, g):
    share, total = sum(x * y for x, y in zip(a, g, strict=True)), sum(map(abs, a))
    return [share * abs(x) / total if total else 0.0 for x in a]


def paper(a, g):
    share = sum(x * y for x, y in zip(a, g, strict=True)) / sum(a)
    return [share * x for x in a]


def plus_plus(a, g):
    def alpha(y):
        below = 2 * y**2 + sum(a) * y**3
        return y**2 / below if below else 0.0

    weight = sum(alpha(y) * max(y, 0) for y in g)
    return [weight * x for x in a]


FORMULAS = {
    "respond": (respond_cam, signed, RespondCAM),
    "paper": (
        lambda a, g: respond_cam(a, g, denominator="paper"),
        paper,
        lambda model: RespondCAM(model, denominator="paper"),
    ),
    "grad": (grad_cam, lambda a, g: [x * sum(g) / len(g) for x in a], GradCAM),
    "grad++": (grad_cam_plus_plus, plus_plus, GradCAMPlusPlus),
    "hires": (hires_cam, lambda a, g: [x * y for x, y in zip(a, g, strict=True)], HiResCAM),
    "layer": (layer_cam, lambda a, g: [x * max(y, 0) for x, y in zip(a, g, strict=True)], LayerCAM),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("grid", [(4,), (3, 2), (2, 3, 2)])
def test_maps_are_their_formula(name, grid):
    function, formula, method = FORMULAS[name]
    activation, gradient = pair(*grid)
    expected = slow(formula, activation, gradient)
    torch.testing.assert_close(function(activation, gradient), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(method(nn.Identity()).map(activation, gradient), expected)


@pytest.mark.parametrize("denominator", ["signed", "paper"])
def test_channels_that_sum_to_nothing_give_nothing(denominator):
    silent = torch.zeros(1, 1, 3, dtype=F64)
    assert respond_cam(silent, torch.ones_like(silent), denominator=denominator).tolist() == [
        [0.0, 0.0, 0.0]
    ]
    cancelling = torch.tensor([[[1.0, -1.0]]], dtype=F64)
    found = respond_cam(cancelling, torch.tensor([[[2.0, 1.0]]], dtype=F64), denominator="paper")
    assert found.tolist() == [[0.0, 0.0]]


def test_channels_just_above_and_below_what_can_be_divided_by():
    bound = 2**20 * torch.finfo(F64).tiny
    for factor, heard in ((0.5, False), (1.0, False), (1.5, True)):
        faint = torch.full((1, 1, 1), factor * bound, dtype=F64)
        assert bool(respond_cam(faint, torch.ones_like(faint))[0, 0] > 0) is heard


def test_only_two_denominators():
    unchecked = inspect.unwrap(RespondCAM.__init__)  # the tests' types would refuse it first
    with pytest.raises(InputError, match="neither"):
        unchecked(RespondCAM.__new__(RespondCAM), nn.Identity(), denominator="other")
    assert RespondCAM(nn.Identity()).denominator == "signed"


def test_where_grad_plus_plus_would_divide_by_zero():
    activation = torch.tensor([[[1.0, 0.0]]], dtype=F64)
    found = grad_cam_plus_plus(activation, torch.tensor([[[-2.0, 1.0]]], dtype=F64))
    assert found.tolist() == [[pytest.approx(1 / 3), 0.0]]
    # 2 + sum A * G is 0 at the first voxel, which says nothing then, and -4 at the second
    activation = torch.tensor([[[-1.5, -0.5]]], dtype=F64, requires_grad=True)
    found = grad_cam_plus_plus(activation, torch.tensor([[[1.0, 3.0]]], dtype=F64))
    assert found.tolist() == [[1.5 * 0.75, 0.5 * 0.75]]
    found.sum().backward()  # no 0 * infinity on the way back
    assert activation.grad is not None
    assert activation.grad.isfinite().all()
    # and 1 at the first voxel here
    activation = torch.tensor([[[-0.75, -0.25]]], dtype=F64)
    found = grad_cam_plus_plus(activation, torch.tensor([[[1.0, -1.0]]], dtype=F64))
    assert found.tolist() == [[-0.75, -0.25]]


def test_a_silent_channel_has_a_derivative():
    silent = torch.zeros(1, 1, 3, dtype=F64, requires_grad=True)
    respond_cam(silent, torch.ones(1, 1, 3, dtype=F64)).sum().backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()


def account(score: float, baseline: float, mapped: float) -> ScoreAccount:
    return ScoreAccount(*(torch.tensor([[x]], dtype=F64) for x in (score, baseline, mapped)))


def test_the_account_by_hand():
    one = account(5.0, 1.0, 2.0)
    assert (one.gap.item(), one.relative_gap.item()) == (2.0, 0.5)
    assert account(1.0, 5.0, -2.0).relative_gap.item() == 0.5  # of amounts, not of signs
    assert account(1.0, 1.0, 0.0).relative_gap.item() == 0.0
    assert account(1.0, 1.0, 2.0).relative_gap.item() == math.inf
    assert one.line() == "score 5.000 = baseline 1.000 + mapped 2.000 + gap 2.000 (50.0 %)"
    assert account(1e4, 0.0, -12345.6).line().startswith("score 1e+04 = baseline 0.000 + mapped -1")


def test_rounding_is_no_gap_and_no_zero_has_a_minus():
    line = "score 2.000 = baseline 0.000 + mapped 2.000 + gap 0.000 (0.0 %)"
    assert account(2.0, -1e-9, 2.0 + 1e-6).line() == line
    assert account(2.0, 0.0, 2.0004).line().endswith("gap 0.000 (0.0 %)")
    assert account(2.0, 0.0, 2.002).line().endswith("gap -0.002 (0.1 %)")
    exact = account(2.0, 0.0, 2.0 - 1e-6)
    assert exact.gap.item() > 0  # only what is shown is rounded


def test_an_account_prints_its_lines_and_not_its_tensors():
    one = account(5.0, 1.0, 2.0)
    assert str(one) == one.line()
    assert repr(one) == f"ScoreAccount(samples=1, targets=1; the first: {one.line()})"
    values = torch.arange(30, dtype=F64).reshape(2, 15)
    many = ScoreAccount(values, torch.zeros_like(values), values)
    lines = str(many).splitlines()
    assert lines[16] == f"sample 1, target 1: {many.line(1, 1)}"
    assert lines[20:] == ["... and 10 more: line(sample, target)"]


def test_the_line_is_of_the_sample_and_target_asked_for():
    values = torch.arange(4, dtype=F64).reshape(2, 2)
    several = ScoreAccount(values, torch.zeros_like(values), values)
    said = [several.line(sample, target)[:11] for sample in range(2) for target in range(2)]
    assert said == [f"score {n}.000" for n in range(4)]
    assert several.line()[:11] == "score 0.000"


def test_what_a_lower_precision_moved_is_said_in_percent():
    said = PrecisionError(0.5, 0.25, 0.125).note
    assert said.endswith("moved the score by 0.5 (25 %) and the map by 12.5 %")
    other = PrecisionError(0.5, 0.25, 0.125, other_class=True).note
    assert other.endswith("; float32 predicts another class")


def test_nodes_by_hand():
    assert path_nodes(1).tolist() == [1.0]
    assert path_nodes(2).tolist() == [0.0, 1.0]
    assert path_nodes(5).tolist() == [0.0, 1 / 256, 1 / 16, 81 / 256, 1.0]


def columns(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)[:, None]


@pytest.mark.parametrize(
    ("points", "scores", "slopes", "expected"),
    [
        ((1.0,), (3.0,), (2.0,), (1.0,)),
        ((0.0, 1.0), (0.0, 1.5), (0.0, 2.0), (0.25, 0.75)),  # a ReLU that switches at 1/4
        ((0.0, 2.0), (0.0, 3.0), (0.0, 2.0), (0.5, 1.5)),
        ((0.0, 1.0), (0.0, 2.0), (2.0, 2.0), (0.5, 0.5)),  # any mixture is right
        ((0.0, 1.0), (0.0, 9.0), (0.0, 2.0), (0.0, 1.0)),  # none is: the nearer end
        ((0.0, 1.0), (0.0, -9.0), (0.0, 2.0), (1.0, 0.0)),
        ((0.0, 1.0), (0.0, 1.0), (math.inf, 1.0), (0.0, 1.0)),
        ((0.0, 1.0), (0.0, 1.0), (1.0, math.nan), (1.0, 0.0)),
        ((0.0, 1.0, 3.0), (0.0, 0.5, 6.5), (0.0, 2.0, 4.0), (0.75, 1.25, 1.0)),
    ],
)
def test_weights_of_nodes_by_hand(points, scores, slopes, expected):
    found = node_weights(torch.tensor(points, dtype=F64), columns(*scores), columns(*slopes))
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("weights", "slopes", "rise", "expected"),
    [
        ((0.5, 0.5), (0.0, 2.0), 1.2, (0.4, 0.6)),
        ((0.5, 0.5), (0.0, 2.0), 1.0, (0.5, 0.5)),
        ((0.5, 0.5), (0.0, 2.0), 0.8, (0.6, 0.4)),
        ((0.5, 0.5), (0.0, 2.0), 9.0, (0.0, 1.0)),  # no further than to no weight
        ((0.5, 0.5), (0.0, 2.0), -9.0, (1.0, 0.0)),
        ((0.25, 0.75), (0.0, 4.0), 3.3, (0.175, 0.825)),
        ((0.5, 0.5), (2.0, 2.0), 9.0, (0.5, 0.5)),  # nothing to lean on
        ((0.5, 0.5), (1.0, 1.0 + 1e-7), 9.0, (0.5, 0.5)),  # nor in what is rounding
        ((0.5, 0.5, 0.0), (0.0, 2.0, math.nan), 1.2, (0.4, 0.6, 0.0)),
        ((0.5, 0.5, 0.0), (0.0, 2.0, 99.0), 1.2, (0.4, 0.6, 0.0)),
        ((0.5, 0.5, 0.0), (0.0, 2.0, 99.0), 0.8, (0.6, 0.4, 0.0)),  # what has no weight bounds none
        ((0.5, 0.5, 0.0), (0.0, 2e-7, math.nan), 1.2e-7, (0.4, 0.6, 0.0)),  # nor does its slope
        ((1 - 1e-13, 1e-13), (0.0, -1.0), -1e-9, (1 - 1e-13, 1e-13)),  # too little weight to lean
        ((0.2, 0.3, 0.5), (1.0, 3.0, 2.0), 2.2, None),
    ],
)
def test_tilted_weights_by_hand(weights, slopes, rise, expected):
    w, s = columns(*weights), columns(*slopes)
    factor = tilt(w, s, torch.tensor([rise], dtype=F64))
    used = torch.where((w > 0) & s.isfinite(), s, 0.0)
    tilted = w * (1 + factor * torch.where(w > 0, used - (w * used).sum(), 0.0))
    assert tilted.sum().item() == pytest.approx(1.0)
    if expected is None:
        assert (tilted * used).sum().item() == pytest.approx(rise)
    else:
        assert tilted[:, 0].tolist() == pytest.approx(expected, abs=1e-12)


def test_only_slopes_that_differ_by_more_than_rounding_are_leant_on():
    w = columns(0.5, 0.5)
    for apart, leant in ((1e-6, False), (1.9e-6, False), (2.1e-6, True), (1e-3, True)):
        factor = tilt(w, columns(1.0, 1.0 + apart), torch.tensor([1.0 + apart], dtype=F64))
        assert bool(factor != 0) is leant, apart


def tent(stride: float, offset: float, count: int, size: int) -> list[list[float]]:
    """The module's text, voxel by voxel."""
    if count == 1 and stride >= size:
        return [[1 / size] * size]
    rows = []
    for i in range(count):
        centre = offset + stride * i
        row = [max(0.0, 1 - abs(j - centre) / max(stride, 1)) for j in range(size)]
        if not sum(row):
            row[min(range(size), key=lambda j, c=centre: abs(j - c))] = 1.0
        rows.append([x / sum(row) for x in row])
    return rows


@pytest.mark.parametrize(
    ("stride", "offset", "count", "size"),
    [
        (2.0, 0.0, 2, 4), (2.0, 0.5, 3, 7), (0.5, 0.25, 8, 4), (1.0, -3.0, 4, 6), (3.0, 4.0, 4, 6),
        (4.0, 1.5, 1, 4), (4.0, 1.5, 1, 5), (6.0, 0.0, 1, 5), (5.0, 0.0, 2, 5), (1.5, -9.0, 2, 3),
        (1.0, 0.0, 1, 1), (0.5, 0.0, 1, 1),
    ],
)  # fmt: skip
def test_shares_of_tents_by_hand(stride, offset, count, size):
    expected = np.array(tent(stride, offset, count, size))
    np.testing.assert_allclose(tent_matrix(stride, offset, count, size), expected, atol=1e-15)
    found = placing_matrix(stride, offset, count, size)
    assert found.dtype == F64
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-15)


@pytest.mark.parametrize(
    "given", [(0.0, 0.0, 2, 4), (-1.0, 0.0, 2, 4), (1.0, 0.0, 0, 4), (1.0, 0.0, 2, 0)]
)
def test_tents_that_cannot_be(given):
    with pytest.raises(InputError, match="Cannot place a grid"):
        tent_matrix(*given)


def grid_of(*axes: tuple[float, float, int, int]) -> LayerGrid:
    stride, offset, shape, size = zip(*axes, strict=True)
    return LayerGrid(stride, offset, shape, size, (0.0,) * len(axes), "layout")


AXES = ((2.0, 0.5, 3, 7), (1.0, 1.0, 4, 6), (3.0, -1.0, 2, 5))


def test_placing_by_hand():
    grid = grid_of(*AXES)
    maps = pair(3, 4, 2)[0][:, :2]
    expected = torch.zeros(2, 2, 7, 6, 5, dtype=F64)
    rows = [tent(*axis) for axis in AXES]
    for at in itertools.product(range(3), range(4), range(2)):
        for to in itertools.product(range(7), range(6), range(5)):
            share = math.prod(rows[axis][at[axis]][to[axis]] for axis in range(3))
            expected[(..., *to)] += share * maps[(..., *at)]
    found = place(maps, grid)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()
    assert place(maps.half(), grid).dtype == torch.float32
    assert place(maps, grid, (8, 6, 5)).shape == (2, 2, 8, 6, 5)


def test_the_axis_that_grows_least_is_placed_first(monkeypatch):
    grid = grid_of((5.0, 2.0, 2, 10), (2.0, 0.5, 10, 20), (1.0, 0.0, 3, 3))
    sizes = []

    def noting(*args, **options):
        sizes.append(args[3])
        return placing_matrix(*args, **options)

    monkeypatch.setattr(placing, "placing_matrix", noting)
    place(torch.zeros(1, 1, 2, 10, 3), grid)
    assert sizes == [3, 20, 10]  # so that what lies between is small


def test_a_grid_has_as_many_offsets_as_strides():
    odd = LayerGrid((2.0,), (0.0, 0.0), (3,), (8,), (0.0,), "layout")
    with pytest.raises(ValueError, match="zip"):
        interpolate(torch.zeros(1, 1, 3), odd)


@pytest.mark.parametrize("spatial", [(7, 6), (7, 6, 5, 4)])
def test_what_cannot_be_placed(spatial):
    with pytest.raises(InputError, match="cannot fill"):
        place(pair(3, 4, 2)[0], grid_of(*AXES), spatial)
    with pytest.raises(InputError, match="cannot fill"):
        place(pair(3, 4, 3)[0], grid_of(*AXES))


def test_interpolation_by_hand():
    values = torch.tensor([[[3.0, 1.0, 2.0]]], dtype=F64)
    found = interpolate(values, grid_of((2.0, 1.0, 3, 8)))
    assert found.flatten().tolist() == [3.0, 3.0, 2.0, 1.0, 1.5, 2.0, 2.0, 2.0]
    both = interpolate(pair(3, 4)[0], grid_of((2.0, 0.5, 3, 7), (1.0, 0.0, 4, 4)))
    assert both.shape == (2, 3, 7, 4)
    assert both.is_contiguous()
    torch.testing.assert_close(both[:, :, 1:3].sum(2) * 2, pair(3, 4)[0][:, :, :2].sum(2) * 2)


def test_centres_by_hand():
    assert grid_of(*AXES).centres(0) == [0.5, 2.5, 4.5]
    assert grid_of(*AXES).centres(2) == [-1.0, 2.0]

"""Operators that few networks use: where their voxels are, by hand, or why nobody knows."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respondcam.errors import LayerError, PlacementWarning
from respondcam.network.layout import LayerTrace, trace_layers


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def trace(function, *shape: int, channels: int = 1) -> LayerTrace:
    end = nn.Identity()
    whole = nn.Sequential(Apply(function), end)
    return trace_layers(whole, {"end": end}, torch.zeros(1, channels, *shape))["end"]


def tokens(x: Tensor) -> Tensor:
    """Two entries without a place before those of the image: (batch, 2 + n, channel)."""
    return torch.cat([torch.zeros(len(x), 2, x.shape[1]), x.transpose(1, 2)], 1)


EMBED = nn.Embedding(5, 4)
ONE = ((1.0,), (0.0,), (8,))
PLACED = {
    "pieces put together again": (lambda x: torch.cat([x[..., :3], x[..., 3:]], -1), (8,), 1, ONE),
    "as_strided of all of it": (lambda x: x.as_strided((1, 1, 2, 4), (8, 8, 4, 1)), (8,), 1, ONE),
    "a matrix turned": (
        lambda x: x[0, 0].t()[None, None], (4, 6), 1, ((1.0, 1.0), (0.0, 0.0), (4, 6)),
    ),
    "one token less": (lambda x: tokens(x)[:, 1:], (8,), 1, ONE),
    "the tokens alone look at everything": (
        lambda x: tokens(x)[:, :2], (8,), 1, ((8.0,), (3.5,), (1,)),
    ),
    "tokens and the first places": (lambda x: tokens(x)[:, :6], (8,), 1, ((1.0,), (0.0,), (4,))),
    "places from the middle": (lambda x: tokens(x)[:, 4:7], (8,), 1, ((1.0,), (2.0,), (3,))),
    "rows cut out of a flattened image": (
        lambda x: x.flatten(2)[..., 6:18].unflatten(2, (2, 6)), (4, 6), 1,
        ((1.0, 1.0), (1.0, 0.0), (2, 6)),
    ),
    "stacked on a constant": (
        lambda x: torch.stack([x[:, 0], torch.zeros(1, 8)], 1), (8,), 1, ONE,
    ),
    "slices stacked again": (
        lambda x: torch.stack([x[:, :, i] for i in range(4)], 2), (4, 6), 1,
        ((1.0, 1.0), (0.0, 0.0), (4, 6)),
    ),
    "tokens one by one": (
        lambda x: torch.stack([t * 2 for t in x.flatten(2).unbind(2)], 2), (4, 6), 1,
        ((1.0, 1.0), (0.0, 0.0), (4, 6)),
    ),
    "tokens one by one, the last axis first": (
        lambda x: torch.stack(list(x.transpose(2, 3).flatten(2).unbind(2)), 1)[:, :, 0], (4, 6), 1,
        ((1.0, 1.0), (0.0, 0.0), (4, 6)),
    ),
    "channels picked": (lambda x: x.index_select(1, torch.tensor([1, 0])), (8,), 3, ONE),
    "channels picked by an index": (lambda x: x[:, torch.tensor([1, 0])], (8,), 3, ONE),
    "embedding": (lambda x: EMBED((x[:, 0] > 0).long()).transpose(1, 2), (8,), 1, ONE),
    "the best channels": (lambda x: x.topk(2, dim=1)[0], (8,), 3, ONE),
    "the best voxels, wherever they are": (
        lambda x: x.topk(2, dim=2)[0], (8,), 1, ((8.0,), (3.5,), (1,)),
    ),
    "adaptive maximum": (
        lambda x: F.adaptive_max_pool2d(x, (4, 3)), (8, 6), 1, ((2.0, 2.0), (0.5, 0.5), (4, 3)),
    ),
    "scale factors": (
        lambda x: F.interpolate(x, scale_factor=(2.0, 2.0)), (4, 6), 1,
        ((0.5, 0.5), (-0.25, -0.25), (8, 12)),
    ),
    "rows times a matrix, added": (
        lambda x: torch.addmm(torch.zeros(4, 5), x[0, 0], torch.ones(6, 5))[None, None], (4, 6), 1,
        ((1.0, 6.0), (0.0, 2.5), (4, 1)),
    ),
    "added to a product without places": (
        lambda x: torch.baddbmm(x[:, 0], torch.ones(1, 4, 3), torch.ones(1, 3, 6))[None], (4, 6), 1,
        ((1.0, 1.0), (0.0, 0.0), (4, 6)),
    ),
    "rows times a vector": (
        lambda x: torch.mv(x[0, 0], torch.ones(6))[None, None], (4, 6), 1,
        ((1.0, 6.0), (0.0, 2.5), (4, 1)),
    ),
    "reversed": (lambda x: x.flip(2), (8,), 1, ONE),
    "pairs as complex numbers": (
        lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(1, 1, 4, 2))), (8,), 1,
        ((2.0,), (0.5,), (4,)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACED)
def test_where_the_voxels_are(name):
    function, shape, channels, expected = PLACED[name]
    grid = trace(function, *shape, channels=channels).grid
    assert grid is not None
    assert grid.origin == "layout"
    assert (grid.stride, grid.offset, grid.shape) == expected


def scanned(x: Tensor, step) -> Tensor:
    """A loop over the tokens of an image that carries a state along."""
    state, states = torch.zeros(1, 1), []
    for token in x.flatten(2).unbind(2):
        state = step(state, token)
        states.append(state)
    return torch.stack(states, 2)


WEIGHTS = torch.eye(1)


@pytest.mark.parametrize(
    "step",
    [
        lambda state, token: 0.5 * state + token,
        lambda state, token: torch.tanh(state @ WEIGHTS + token @ WEIGHTS),
        lambda state, token: torch.lerp(state, token, 0.5),
    ],
)
def test_a_state_that_a_loop_over_tokens_carries_along(step):
    """It is where its token is, and what came before lies in the uncertainty."""
    grid = trace(lambda x: scanned(x, step), 4, 6).grid
    assert grid is not None
    assert (grid.stride, grid.offset, grid.shape) == ((1.0, 1.0), (0.0, 0.0), (4, 6))
    assert grid.uncertainty[0] >= 1.0


def test_parts_of_several_places_in_one_voxel_are_uncertain():
    grid = trace(lambda x: (x[:, :, 0] + x[:, :, 5])[:, :, None], 8, 4).grid
    assert grid is not None
    assert (grid.shape, grid.uncertainty) == ((1, 4), (5.0, 0.0))


UNKNOWN = {
    "pieces exchanged": (lambda x: torch.cat([x[..., 4:], x[..., :4]], -1), (8,), "cat"),
    "twice the places": (lambda x: torch.cat([x, torch.zeros(1, 1, 2), x], -1), (8,), "cat"),
    "as_strided of a part": (lambda x: x.as_strided((1, 1, 4), (8, 8, 1), 2), (8,), "as_strided"),
    "tokens repeated": (lambda x: tokens(x).repeat(1, 2, 1), (8,), "repeat"),
    "places picked": (lambda x: x.index_select(2, torch.tensor([1, 0])), (8,), "index_select"),
    "a view across rows": (lambda x: x.reshape(1, 1, 3, 8), (4, 6), "view"),
    "both factors have places": (lambda x: F.bilinear(x, x, torch.ones(3, 6, 6)), (4, 6), ""),
    "frequencies": (lambda x: torch.fft.rfft(x).abs(), (8,), "fft"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_loses_the_places_is_named(name):
    function, shape, culprit = UNKNOWN[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlacementWarning)
        grid = trace(function, *shape).grid
    assert grid is not None
    assert grid.origin in ("even", "measured")
    assert "positions are lost at" in grid.note
    assert culprit in grid.note


MOVED = {
    "halves exchanged": lambda x: torch.cat([x[:, :, 12:], x[:, :, :12]], 2),
    "tiled and cut": lambda x: x.repeat(1, 1, 2, 1)[:, :, 12:36],
    "a third mirrored": lambda x: torch.cat([x.flip(2)[:, :, :8], x[:, :, 8:]], 2),
}


@pytest.mark.parametrize("name", MOVED)
def test_parts_that_changed_places_are_on_no_line(name):
    torch.manual_seed(0)
    first, end = nn.Conv2d(1, 4, 3, padding=1), nn.Identity()
    model = nn.Sequential(first, Apply(MOVED[name]), end)
    with pytest.warns(PlacementWarning, match=r"form no grid.*moves parts of the image"):
        grid = trace_layers(model, {"end": end}, torch.rand(1, 1, 24, 12))["end"].grid
    assert grid is not None
    assert grid.origin == "even"


NOWHERE = {
    "a slice through rows": (lambda x: x.flatten(2)[..., 5:18], "cuts through several axes"),
    "two indices": (lambda x: x[:, torch.tensor([0]), torch.tensor([1])], "by index tensors"),
    "a table": (lambda x: F.embedding(torch.tensor([[0, 1]]), x[0, 0]), "depends on the input"),
    "unknown": (lambda x: torch.addmv(torch.zeros(4), x[0, 0], torch.ones(6))[None, None], "addmv"),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_what_has_no_grid_at_all_says_why(name):
    function, words = NOWHERE[name]
    with pytest.raises(LayerError, match=words):
        _ = trace(function, 4, 6).grid

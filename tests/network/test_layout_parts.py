"""Parts of an image: picked, reduced, put side by side; against what voxels really see."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import respondcam as rc
from respondcam.network.grid import LayerGrid
from respondcam.network.layout import to_grid, trace_layers

DEPTH = 12


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def grid_of(function, *shape: int) -> LayerGrid:
    end = nn.Identity()
    model = nn.Sequential(Apply(function), end)
    return trace_layers(model, {"end": end}, torch.rand(1, 1, *shape))["end"].grid


def seen(function, voxel: int, *shape: int) -> list[int]:
    """Entries of the input's first axis that change a voxel of the result, by changing them."""
    end = nn.Identity()
    torch.manual_seed(0)
    x = torch.rand(1, 1, *shape)
    trace = trace_layers(nn.Sequential(Apply(function), end), {"end": end}, x)["end"]
    before = to_grid(function(x), trace.axes)[:, :, voxel]
    found = []
    for place in range(shape[0]):
        changed = x.clone()
        changed[:, :, place] += 1
        if not torch.equal(to_grid(function(changed), trace.axes)[:, :, voxel], before):
            found.append(place)
    return found


def conv(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(channels, 2, 3, padding=1)


FLAT = {channels: conv(channels) for channels in (1, 3, 4)}
PARTS = {
    "a slice": lambda x: x[:, :, 6],
    "a slice by a 2-D layer": lambda x: FLAT[1](x[:, :, 6]),
    "a slice from the end": lambda x: x.select(2, -1),
    "unbound": lambda x: x.unbind(2)[3],
    "split": lambda x: x.split(1, 2)[3].squeeze(2),
    "a crop's mean": lambda x: x[:, :, 4:8].mean(2),
    "a crop's maximum": lambda x: x[:, :, :4].amax(2),
    "a narrow part": lambda x: x.narrow(2, 2, 7).max(2)[0],
    "cut by padding": lambda x: F.pad(x, (0, 0, 0, 0, -4, -3)).mean(2),
    "a slab as channels": lambda x: FLAT[3](x[:, 0, 5:8]),
    "a slice of a slab": lambda x: x[:, :, 4:8][:, :, 1],
    "a slice of the image reversed": lambda x: x.flip(2)[:, :, 3],
    "a window of slices": lambda x: x.unflatten(2, (4, 3))[:, :, 1].mean(2),
    "slices stacked": lambda x: torch.stack([x[:, :, k] for k in range(2, 6)], 2).mean(2),
    "pieces joined": lambda x: torch.cat([x[:, :, 2:5], x[:, :, 5:9]], 2).mean(2),
    "a gate of the slice's own": lambda x: x[:, :, 6] * x[:, :, 6].mean((2, 3), keepdim=True),
    "a slab of means": lambda x: FLAT[3](F.avg_pool3d(x, (2, 1, 1))[:, 0, 1:4]),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_an_axis_is_where_it_was_cut(name):
    grid, slices = grid_of(PARTS[name], DEPTH, 8, 8), seen(PARTS[name], 0, DEPTH, 8, 8)
    assert (grid.origin, grid.shape[0], grid.uncertainty[0]) == ("layout", 1, 0)
    assert len(slices) < DEPTH
    assert grid.offset[0] == (slices[0] + slices[-1]) / 2
    assert grid.stride[0] == len(slices)


WHOLE = {
    "a mean": lambda x: x.mean(2),
    "a maximum projection": lambda x: x.max(2)[0],
    "behind a layer without padding": lambda x: F.avg_pool3d(x, 3, 1).mean(2),
    "slices stacked": lambda x: torch.stack(x.unbind(2), 2).mean(2),
    "pieces joined": lambda x: torch.cat([x[:, :, :3], x[:, :, 3:]], 2).mean(2),
    "the sum of all slices": lambda x: sum(x[:, :, k] for k in range(DEPTH)),
    "slices and a mean": lambda x: x[:, :, 6] + x.mean(2),
    "a loop that carries a state along": lambda x: states(x)[:, :, -1],
}


def states(x: Tensor) -> Tensor:
    state, every = torch.zeros(1), []
    for part in x.unbind(2):
        state = torch.tanh(state + part)
        every.append(state)
    return torch.stack(every, 2)


@pytest.mark.parametrize("name", WHOLE)
def test_what_sees_a_whole_axis_spans_it(name):
    assert seen(WHOLE[name], 0, DEPTH, 8, 8) == list(range(DEPTH))
    grid = grid_of(WHOLE[name], DEPTH, 8, 8)
    assert (grid.origin, grid.stride[0], grid.shape[0]) == ("layout", DEPTH, 1)


def test_a_voxel_of_a_strided_layer_spans_its_stride():
    torch.manual_seed(0)
    strided = nn.Conv3d(1, 2, 3, 2, 1)
    picked = grid_of(lambda x: strided(x)[:, :, 2], DEPTH, 8, 8)
    assert (picked.stride, picked.offset) == ((2, 2, 2), (4, 0, 0))
    assert picked == grid_of(lambda x: strided(x)[:, :, 2:3], DEPTH, 8, 8)


def test_parts_that_are_added_cover_what_they_span():
    grid = grid_of(lambda x: x[:, :, 2] + x[:, :, 3] + x[:, :, 6], DEPTH, 8, 8)
    assert grid.stride[0] == 5  # slices 2 to 6
    assert abs(grid.offset[0] - 4) <= grid.uncertainty[0]


@pytest.mark.parametrize(("picks", "stride", "offset"), [([0], 1, 0), ([5], 1, 5), ([11], 1, 11)])
def test_a_slice_picked_by_an_index_is_measured_there(picks, stride, offset):
    index = torch.tensor(picks)
    torch.manual_seed(0)
    grid = grid_of(lambda x: x.index_select(2, index), DEPTH, 8, 8)
    assert (grid.origin, grid.shape[0]) == ("measured", 1)
    assert (grid.stride[0], grid.offset[0], grid.uncertainty[0]) == (stride, offset, 0)


def test_slices_picked_by_an_index_as_channels_span_what_they_see():
    index = torch.tensor([4, 3, 2])
    torch.manual_seed(0)
    grid = grid_of(lambda x: FLAT[3](x.index_select(2, index)[:, 0])[:, :, None], DEPTH, 8, 8)
    assert (grid.origin, grid.stride[0]) == ("measured", 3)
    assert abs(grid.offset[0] - 3) < 1


class SliceBySlice(nn.Module):
    """A 2-D network that is called for one slice after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = [self.head(self.act(self.conv(s)).mean((2, 3))) for s in x.unbind(2)]
        return torch.stack(scores).mean(0)


def test_the_map_of_one_slice_is_in_that_slice():
    torch.manual_seed(0)
    explain = rc.RespondCAM(SliceBySlice().eval(), layer="act#3")
    found = explain(torch.rand(1, 1, DEPTH, 8, 8), target=1)
    along = found.place()[0, 0].sum((1, 2))
    assert float(along[3]) == pytest.approx(float(found.maps.sum()), rel=1e-5)
    assert not along[[k for k in range(DEPTH) if k != 3]].any()


NEIGHBOURS = {
    "added": lambda y: y[:, :, 1:] + y[:, :, :-1],
    "in the other order": lambda y: y[:, :, :-1] - y[:, :, 1:],
    "two apart": lambda y: y[:, :, 2:] * y[:, :, :-2],
    "three apart, as channels": lambda y: torch.cat([y[:, :, 3:], y[:, :, :-3]], 1),
    "three": lambda y: y[:, :, :-2] + y[:, :, 1:-1] * 2 + y[:, :, 2:],
    "three, as channels": lambda y: torch.cat([y[:, :, :-2], y[:, :, 1:-1], y[:, :, 2:]], 1),
    "halves as channels": lambda y: torch.cat(y.chunk(2, 2), 1),
}


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_lie_in_the_middle_of_what_they_see(name, stride):
    """However the image was subsampled, by slicing or by a layer of that stride."""
    layer = nn.Conv2d(1, 1, 1, (stride, 1))

    def meet(x):
        return NEIGHBOURS[name](x[:, :, ::stride])

    grid = grid_of(meet, 32, 8)
    behind = grid_of(lambda x: NEIGHBOURS[name](layer(x)), 32, 8)
    assert grid == behind
    assert "disagree" in grid.note
    voxel = grid.shape[0] // 2
    places = seen(meet, voxel, 32, 8)
    assert grid.centres(0)[voxel] == (places[0] + places[-1]) / 2
    assert grid.uncertainty[0] == (places[-1] - places[0]) / 2


def test_a_mean_of_neighbours_that_are_added_sees_one_more():
    grid = grid_of(lambda x: (x[:, :, 2:6] + x[:, :, 3:7]).mean(2), DEPTH, 8, 8)
    assert (grid.stride[0], grid.offset[0]) == (5, 4)


@pytest.mark.parametrize("start", [3, 4, 5])
def test_phases_that_lie_a_stride_apart_or_more_are_neighbours(start):
    def meet(x):
        return x[:, :, : 32 - start : 2] + x[:, :, start::2][:, :, : (33 - start) // 2]

    grid = grid_of(meet, 32, 8)
    places = seen(meet, 5, 32, 8)
    assert (grid.centres(0)[5], grid.uncertainty[0]) == (10 + start / 2, start / 2)
    assert places == [10, 10 + start]


def test_lifting_lies_at_the_odd_slice_between_its_neighbours():
    def lift(x):
        even, odd = x[:, :, ::2], x[:, :, 1::2]
        return odd[:, :, :-1] - (even[:, :, :-1] + even[:, :, 1:]) / 2

    grid = grid_of(lift, 24, 8)
    assert seen(lift, 5, 24, 8) == [10, 11, 12]
    assert (grid.centres(0)[5], grid.uncertainty[0]) == (11, 1)


@pytest.mark.parametrize("phases", [2, 3, 4])
def test_all_phases_of_an_image_are_sure_of_their_middle(phases):
    def meet(x):
        return torch.cat([x[:, :, k::phases] for k in range(phases)], 1)

    grid = grid_of(meet, 24, 8)
    places = seen(meet, 3, 24, 8)
    assert places == list(range(3 * phases, 4 * phases))
    assert grid.centres(0)[3] == (places[0] + places[-1]) / 2
    assert (grid.uncertainty, grid.note) == ((0, 0), "")
    # of a slice of the subsampled image too
    later = grid_of(lambda x: sum(x[:, :, k::phases][:, :, 2:] for k in range(phases)), 24, 8)
    assert later.offset[0] == grid.offset[0] + 2 * phases
    assert later.uncertainty == (0, 0)


TRIPLETS = {
    "stacked": lambda x: torch.stack([padded(x)[:, :-2], padded(x)[:, 1:-1], padded(x)[:, 2:]], 2),
    "rolled": lambda x: torch.stack([x[:, 0].roll(1, 1), x[:, 0], x[:, 0].roll(-1, 1)], 2),
    "by a loop": lambda x: torch.stack([padded(x)[:, k : k + 3] for k in range(DEPTH)], 1),
    "unfolded": lambda x: padded(x).unfold(1, 3, 1).permute(0, 1, 4, 2, 3),
}


def padded(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, 1, 1))[:, 0]


@pytest.mark.parametrize("name", TRIPLETS)
def test_slices_with_their_neighbours_as_channels_stay_where_they_are(name):
    def run(x):
        return FLAT[3](TRIPLETS[name](x).flatten(0, 1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = grid_of(run, DEPTH, 8, 8)
    assert (grid.stride, grid.offset, grid.shape[0]) == ((1, 1, 1), (0, 0, 0), DEPTH)
    assert grid.uncertainty[0] == (0 if name in ("unfolded", "by a loop") else 1)
    for voxel in range(1, DEPTH - 1):
        assert seen(run, voxel, DEPTH, 8, 8) == [voxel - 1, voxel, voxel + 1]


WINDOWS = {
    "stacked": lambda x: TRIPLETS["by a loop"](x),
    "in the batch": lambda x: TRIPLETS["by a loop"](x).flatten(0, 1),
    "unfolded": lambda x: TRIPLETS["unfolded"](x),
    "of two, with gaps": lambda x: torch.cat([x[:, :, k : k + 2] for k in range(0, DEPTH, 4)]),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_that_are_not_summed_yet_lie_at_their_middles(name):
    grid = grid_of(WINDOWS[name], DEPTH, 8, 8)
    assert "window" in grid.note
    for voxel in range(1, grid.shape[0] - 1):
        places = seen(WINDOWS[name], voxel, DEPTH, 8, 8)
        assert grid.centres(0)[voxel] == (places[0] + places[-1]) / 2
        assert grid.uncertainty[0] == (places[-1] - places[0]) / 2


def test_slabs_in_the_batch_are_the_whole_image():
    def slabs(x):
        return torch.cat([x[:, :, k : k + 2] for k in range(0, DEPTH, 2)])

    grid = grid_of(slabs, DEPTH, 8, 8)
    assert (grid.shape[0], grid.stride[0], grid.offset[0]) == (DEPTH, 1, 0)
    assert (grid.uncertainty[0], grid.note) == (0, "")
    for voxel in range(DEPTH):
        assert seen(slabs, voxel, DEPTH, 8, 8) == [voxel]


def test_a_tensor_that_is_written_is_where_most_of_it_comes_from():
    def shift(x):
        out = x.clone()
        out[:, :, 1:] = x[:, :, :-1]
        return out

    grid = grid_of(shift, DEPTH, 8)
    assert (grid.offset[0], grid.uncertainty[0]) == (-1, 1)
    assert seen(shift, 5, DEPTH, 8) == [4]

"""Placing keeps every map's sum and puts it where the layer's voxels are."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from respondcam.attribution import Explanation
from respondcam.attribution.placing import place, placing_matrix
from respondcam.errors import InputError
from respondcam.network.grid import LayerGrid
from respondcam.network.layout import trace_layers


def grid_of(stride, offset, shape, input_shape) -> LayerGrid:
    return LayerGrid(
        tuple(map(float, stride)), tuple(map(float, offset)), tuple(shape), tuple(input_shape),
        (0.0,) * len(shape), "layout",
    )  # fmt: skip


def test_four_voxels_by_hand():
    # centres 0, 2, 4, 6; shares 1/4, 1/2, 1/4 around each; the first has lost its left quarter
    # and gives 2/3, 1/3
    grid = grid_of([2], [0], [4], [8])
    placed = place(torch.tensor([[[3.0, 4.0, 8.0, 4.0]]]), grid)
    assert placed[0, 0].tolist() == pytest.approx([2, 2, 2, 3, 4, 3, 2, 1])


def test_four_voxels_between_input_voxels_by_hand():
    # a patch of two: centres 0.5 and 2.5; weights 3/4, 3/4, 1/4 of each tent are inside, of 7/4
    placed = place(torch.tensor([[[7.0, -7.0]]]), grid_of([2], [0.5], [2], [4]))
    assert placed[0, 0].tolist() == pytest.approx([3, 3 - 1, 1 - 3, -3])


def test_two_by_two_voxels_by_hand():
    # the product of [2/3, 1/3, 0] and [0, 1/3, 2/3] along both axes
    placed = place(
        torch.tensor([[[[9.0, 0.0], [0.0, 9.0]]]]), grid_of([2, 2], [0, 0], [2, 2], [3, 3])
    )
    expected = torch.tensor([[4.0, 2, 0], [2, 2, 2], [0, 2, 4]])
    torch.testing.assert_close(placed[0, 0], expected)


def slowly(map_, grid) -> torch.Tensor:
    """The definition, voxel by voxel."""
    result = torch.zeros(grid.input_shape, dtype=torch.float64)
    for index in itertools.product(*map(range, grid.shape)):
        rows = []
        for axis, i in enumerate(index):
            size, centre = grid.input_shape[axis], grid.offset[axis] + grid.stride[axis] * i
            if grid.shape[axis] == 1 and grid.stride[axis] >= size:
                row = [1.0] * size
            else:
                half = max(grid.stride[axis], 1.0)
                row = [max(0.0, 1 - abs(j - centre) / half) for j in range(size)]
            if sum(row) == 0:
                row = [float(j == (0 if centre < 0 else size - 1)) for j in range(size)]
            rows.append(torch.tensor(row, dtype=torch.float64) / math.fsum(row))
        value = map_[index].double()
        for axis, row in enumerate(rows):
            value = value[..., None] * row
            assert value.ndim == axis + 1
        result += value
    return result


@st.composite
def cases(draw):
    rank = draw(st.integers(1, 3))
    finite = st.floats(0.2, 20, allow_nan=False)
    stride = [draw(finite) for _ in range(rank)]
    offset = [draw(st.floats(-30, 30)) for _ in range(rank)]
    shape = [draw(st.integers(1, 5)) for _ in range(rank)]
    spatial = [draw(st.integers(1, 24)) for _ in range(rank)]
    return (stride, offset, shape, spatial), draw(st.integers(0, 10_000))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_against_the_definition_and_sums_are_kept(case):
    (stride, offset, shape, spatial), seed = case
    grid = grid_of(stride, offset, shape, spatial)
    maps = torch.randn(2, 2, *grid.shape, generator=torch.Generator().manual_seed(seed))
    placed = place(maps, grid)
    assert placed.shape == (2, 2, *grid.input_shape)
    assert placed.dtype == torch.float32
    for sample, target in itertools.product(range(2), range(2)):
        torch.testing.assert_close(
            placed[sample, target].double(),
            slowly(maps[sample, target], grid),
            rtol=1e-4,
            atol=1e-5,
        )
    total, before = placed.double().flatten(2).sum(2), maps.double().flatten(2).sum(2)
    assert bool(((total - before).abs() <= 1e-5 * maps.abs().flatten(2).sum(2)).all())


@pytest.mark.parametrize("seed", range(3))
def test_sums_are_kept_in_single_precision_at_full_size(seed):
    grid = grid_of([16] * 3, [0, 7.5, 15], [8] * 3, [128] * 3)
    chance = torch.Generator().manual_seed(seed)
    maps = torch.randn(1, 2, 8, 8, 8, generator=chance).abs()
    placed = place(maps, grid)
    before = maps.flatten(2).sum(2)
    torch.testing.assert_close(placed.flatten(2).sum(2), before, rtol=1e-5, atol=0)


def test_inside_it_is_linear_interpolation_divided_by_the_stride():
    grid = grid_of([4, 4], [1.5, 1.5], [6, 5], [24, 20])
    maps = torch.randn(1, 1, 6, 5, dtype=torch.float64)
    between = F.interpolate(maps, size=(24, 20), mode="bilinear", align_corners=False) / 16
    inside = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(place(maps, grid)[inside], between[inside])


def test_the_centroid_of_a_voxel_inside_is_its_centre():
    matrix = placing_matrix(8.0, 3.5, 12, 96)
    centroids = matrix @ torch.arange(96, dtype=torch.float64)
    torch.testing.assert_close(centroids[1:-1], 3.5 + 8 * torch.arange(1, 11, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(1), torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("stride", [0.25, 0.5, 1 / 3, 1.0])
def test_layers_finer_than_the_input_keep_sum_and_centroid(stride):
    count = int(20 / stride)
    offset = (stride - 1) / 2 + 1  # well inside
    matrix = placing_matrix(stride, offset, count - int(3 / stride), 20)
    centres = offset + stride * torch.arange(len(matrix), dtype=torch.float64)
    torch.testing.assert_close(matrix @ torch.arange(20, dtype=torch.float64), centres)
    assert int((matrix > 0).sum(1).max()) <= 2


def test_a_layer_at_full_size_is_left_as_it_is():
    maps = torch.randn(2, 3, 5, 6, 7)
    assert torch.equal(place(maps, grid_of([1] * 3, [0] * 3, [5, 6, 7], [5, 6, 7])), maps)


def test_voxels_outside_the_input_go_to_its_border():
    matrix = placing_matrix(2.0, -5.0, 3, 4)  # centres -5, -3, -1
    assert matrix.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert placing_matrix(2.0, 7.0, 1, 4).tolist() == [[0, 0, 0, 1]]
    # a tent of which some is inside keeps its shape there: 1 - 2/4, 1 - 3/4 of it
    assert placing_matrix(4.0, -2.0, 2, 5)[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])


def test_a_single_voxel_that_covers_everything_is_shared_out_evenly():
    found = trace_layers(model := nn.AdaptiveAvgPool3d(1), {"": model}, torch.zeros(1, 1, 4, 5, 6))
    placed = place(torch.full((1, 1, 1, 1, 1), 120.0), found[""].grid)
    assert torch.equal(placed, torch.ones(1, 1, 4, 5, 6))
    # a single voxel that does not cover everything stays where it is
    assert placing_matrix(2.0, 3.0, 1, 8)[0].argmax() == 3


def test_other_shapes_than_the_inputs():
    maps = torch.rand(1, 1, 4, generator=torch.Generator().manual_seed(0))
    grid = grid_of([2], [0.5], [4], [8])
    wide = place(maps, grid, (12,))
    torch.testing.assert_close(wide[..., :5], place(maps, grid)[..., :5])
    assert float(wide.sum()) == pytest.approx(float(maps.sum()), rel=1e-6)


def test_differentiable_and_in_half_precision():
    grid = grid_of([2, 3], [0.5, 1], [4, 3], [8, 9])
    maps = torch.rand(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: place(m, grid), maps)
    half = place(torch.rand(1, 2, 4, 3).half(), grid)
    assert half.dtype == torch.float32


def test_the_maps_are_not_written_to():
    maps = torch.rand(1, 1, 4)
    copy = maps.clone()
    place(maps, grid_of([1], [0], [4], [4])).add_(1)
    assert torch.equal(maps, copy)


@pytest.mark.parametrize(
    ("shape", "spatial"), [((1, 1, 5), None), ((1, 1, 4, 4), None), ((1, 1, 4), (8, 8))]
)
def test_maps_that_are_not_on_the_grid(shape, spatial):
    with pytest.raises(InputError, match="grid"):
        place(torch.zeros(shape), grid_of([2], [0], [4], [8]), spatial)


@pytest.mark.parametrize("options", [(0.0, 0.0, 4, 8), (-1.0, 0.0, 4, 8), (math.nan, 0.0, 4, 8)])
def test_impossible_grids(options):
    with pytest.raises(InputError, match="stride"):
        placing_matrix(*options)


class SamePadding(nn.Module):
    """Padding as in TensorFlow: more at the end than at the start."""

    def forward(self, x):
        sides = []
        for size in reversed(x.shape[2:]):
            total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
            sides += [total // 2, total - total // 2]
        return F.pad(x, sides)


def detector(kind: str) -> nn.Module:
    """Blur and halve four times: bright where the input is bright."""
    layers = []
    for _ in range(4):
        if kind == "mean pool":
            layers.append(nn.AvgPool3d(2))
            continue
        conv = nn.Conv3d(1, 1, 3, 2, 1 if kind == "padded" else 0, bias=False)
        line = torch.tensor([0.25, 0.5, 0.25])
        conv.weight.data = torch.einsum("i,j,k->ijk", line, line, line)[None, None]
        layers += [SamePadding(), conv] if kind == "same" else [conv]
    return nn.Sequential(*layers)


def centroid(volume: torch.Tensor) -> torch.Tensor:
    axes = [torch.arange(n, dtype=torch.float64) for n in volume.shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return (places * volume).flatten(1).sum(1) / volume.sum()


@pytest.mark.parametrize(
    ("kind", "resized", "placed"),
    [("padded", 13.0, 0.3), ("same", 13.0, 0.3), ("mean pool", 3.2, 3.4)],
)
def test_a_known_detector_is_where_its_object_is(kind, resized, placed):
    """Distances in voxels at stride 16; resizing is 7.5 voxels off along every axis.

    Cells that do not overlap (mean pooling) cannot tell where in them an object is.
    """
    model, chance = detector(kind), torch.Generator().manual_seed(1)
    errors = []
    for _ in range(4):
        x = torch.zeros(1, 1, 128, 128, 128)
        corner = torch.randint(36, 84, (3,), generator=chance).tolist()
        x[0, 0, *[slice(c, c + 8) for c in corner]] = 1
        true = torch.tensor(corner, dtype=torch.float64) + 3.5
        with torch.no_grad():
            activation = model(x)
        grid = trace_layers(model, {"": model}, x)[""].grid
        even = F.interpolate(activation, size=(128,) * 3, mode="trilinear", align_corners=False)
        errors.append(
            [
                float((centroid(v[0, 0].double()) - true).norm())
                for v in (even, place(activation, grid))
            ]
        )
    mean = torch.tensor(errors).mean(0).tolist()
    assert mean[1] < placed
    assert mean[0] == pytest.approx(resized, abs=0.4)


def test_values_stay_flat_where_shares_are_denser_at_the_border():
    """Stride 8 from voxel 0: the outermost voxel shares its value out to half of a tent."""
    grid = grid_of([8], [0], [4], [32])
    flat = Explanation(torch.ones(1, 1, 4), torch.ones(1, 1), ("a",), "conv", "respond", grid)
    shares, values = flat.place()[0, 0], flat.place("value")[0, 0]
    assert float(shares.sum()) == pytest.approx(4)
    assert float(shares[0] / shares[8]) == pytest.approx(8 / 4.5)  # 1.78 per axis, 5.6 in 3-D
    assert torch.equal(values, torch.ones(32))


def test_values_against_the_definition():
    """Between two centres the nearer one counts more; beyond the last its value goes on."""
    grid = grid_of([4, 2], [1, -0.5], [5, 7], [20, 14])
    maps = torch.randn(1, 1, 5, 7, dtype=torch.float64)
    one = Explanation(maps, torch.ones(1, 1), ("a",), "conv", "respond", grid)
    found = one.place("value")[0, 0]
    lines = [
        np.interp(np.arange(20), 1 + 4 * np.arange(5), column) for column in maps[0, 0].numpy().T
    ]
    expected = [np.interp(np.arange(14), -0.5 + 2 * np.arange(7), row) for row in np.array(lines).T]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert one.place("value").dtype == torch.float64

"""Strides and offsets of hand-made stacks, against values worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from respondcam.network.layout import LayerTrace, to_grid, trace_layers

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
UNCONV = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
RANKS = (1, 2, 3)


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def trace(model: nn.Module, *shape: int, channels: int = 1, batch: int = 1) -> LayerTrace:
    """Trace the output of a whole model, seen through an identity at its end."""
    end = nn.Identity()
    whole = nn.Sequential(model, end)
    return trace_layers(whole, {"end": end}, torch.zeros(batch, channels, *shape))["end"]


def is_at(found: LayerTrace, stride: float, offset: float, rank: int) -> None:
    assert found.grid.origin == "layout"
    assert found.grid.stride == pytest.approx((stride,) * rank)
    assert found.grid.offset == pytest.approx((offset,) * rank)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "offset"),
    [
        (3, 1, 1, 1, 0),
        (3, 1, 0, 1, 1),
        (3, 2, 1, 1, 0),
        (7, 2, 3, 1, 0),
        (2, 2, 0, 1, 0.5),
        (4, 4, 0, 1, 1.5),
        (3, 1, 2, 2, 0),
        (3, 2, 0, 2, 2),
        (5, 3, 1, 1, 1),
        (1, 2, 0, 1, 0),
    ],
)
def test_convolution(rank, kernel, stride, padding, dilation, offset):
    layer = CONV[rank](1, 2, kernel, stride=stride, padding=padding, dilation=dilation)
    is_at(trace(layer, *[17] * rank), stride, offset, rank)


@pytest.mark.parametrize("rank", RANKS)
def test_axes_are_independent(rank):
    kernel, stride, padding = (3, 2, 5)[:rank], (1, 2, 3)[:rank], (1, 0, 1)[:rank]
    found = trace(CONV[rank](1, 1, kernel, stride=stride, padding=padding), *[20] * rank)
    assert found.grid.stride == stride
    assert found.grid.offset == (0.0, 0.5, 1.0)[:rank]


@pytest.mark.parametrize("size", [96, 97, 100, 127])
def test_strided_stack_at_sizes_that_the_stride_does_not_divide(size):
    # offsets add up: 0, then 2 * (1/2 ) = 1, then 4 * 0 = 0
    stack = nn.Sequential(nn.Conv1d(1, 2, 7, 2, 3), nn.MaxPool1d(2), nn.Conv1d(2, 2, 3, 2, 1))
    found = trace(stack, size)
    is_at(found, 8, 1, 1)
    assert found.grid.input_shape == (size,)
    assert found.grid.shape == tuple(stack(torch.zeros(1, 1, size)).shape[2:])


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("pool", [MAX, MEAN])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil", "offset"),
    [(2, None, 0, False, 0.5), (3, 2, 1, False, 0), (3, 2, 0, True, 1), (2, 2, 1, True, -0.5)],
)
def test_pooling(rank, pool, kernel, stride, padding, ceil, offset):
    layer = pool[rank](kernel, stride, padding, ceil_mode=ceil)
    found = trace(layer, *[12] * rank)
    is_at(found, stride or kernel, offset, rank)
    assert found.grid.shape == tuple(layer(torch.zeros(1, 1, *[12] * rank)).shape[2:])


def test_ceil_mode_adds_a_voxel_and_keeps_the_place():
    assert trace(nn.MaxPool1d(3, 2, ceil_mode=False), 12).grid.shape == (5,)
    assert trace(nn.MaxPool1d(3, 2, ceil_mode=True), 12).grid.shape == (6,)


@pytest.mark.parametrize("rank", RANKS)
def test_same_padding_of_even_kernels_is_asymmetric(rank):
    # torch pads the odd one at the end: a kernel of 4 covers -1, 0, 1, 2
    is_at(trace(CONV[rank](1, 1, 4, padding="same"), *[9] * rank), 1, 0.5, rank)


@pytest.mark.parametrize(("size", "offset"), [(96, 0.5), (97, 0.0)])
def test_tensorflow_same_padding_depends_on_the_size(size, offset):
    def same(x):
        total = max((-(-x.shape[-1] // 2) - 1) * 2 + 3 - x.shape[-1], 0)
        return F.pad(x, (total // 2, total - total // 2))

    stack = nn.Sequential(Apply(same), nn.Conv1d(1, 1, 3, stride=2))
    # an even size is padded by one at the end only: the kernel covers 0, 1, 2
    is_at(trace(stack, size), 2, 1.0 if size % 2 == 0 else 0.0, 1)
    assert offset in (0.0, 0.5)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "more", "offset"),
    [
        (2, 2, 0, 0, -0.25),  # voxels 0 and 1 come from voxel 0: its centre is between them
        (3, 2, 1, 1, 0.0),
        (4, 2, 1, 0, -0.25),
        (3, 3, 0, 0, -1 / 3),
    ],
)
def test_transposed_convolution(rank, kernel, stride, padding, more, offset):
    layer = UNCONV[rank](1, 1, kernel, stride=stride, padding=padding, output_padding=more)
    is_at(trace(layer, *[8] * rank), 1 / stride, offset, rank)


@pytest.mark.parametrize("rank", RANKS)
def test_down_and_up_again_is_the_identity(rank):
    stack = nn.Sequential(CONV[rank](1, 1, 2, stride=2), UNCONV[rank](1, 1, 2, stride=2))
    is_at(trace(stack, *[8] * rank), 1, 0, rank)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize(
    ("options", "stride", "offset"),
    [
        ({"scale_factor": 2, "mode": "linear", "align_corners": False}, 0.5, -0.25),
        ({"size": 15, "mode": "linear", "align_corners": True}, 0.5, 0),
        ({"scale_factor": 2, "mode": "nearest"}, 0.5, -0.25),
        ({"scale_factor": 0.5, "mode": "nearest"}, 2, 0),
        ({"scale_factor": 0.5, "mode": "nearest-exact"}, 2, 1),
        ({"scale_factor": 2, "mode": "nearest-exact"}, 0.5, -0.25),
        ({"size": 4, "mode": "linear", "align_corners": False}, 2, 0.5),
    ],
)
def test_interpolation(rank, options, stride, offset):
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
    mode = linear if options["mode"] == "linear" else options["mode"]
    model = Apply(lambda x: F.interpolate(x, **{**options, "mode": mode}))
    is_at(trace(model, *[8] * rank), stride, offset, rank)


def test_a_scale_factor_that_does_not_divide_is_used_as_given():
    def keep(x):
        return F.interpolate(x, scale_factor=1.7, mode="linear", recompute_scale_factor=False)

    is_at(trace(Apply(keep), 10), 10 / 17, (10 / 17 - 1) / 2, 1)

    def recompute(x):
        return F.interpolate(x, scale_factor=1.75, mode="linear", recompute_scale_factor=True)

    is_at(trace(Apply(recompute), 10), 10 / 17, (10 / 17 - 1) / 2, 1)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize(("size", "pooled"), [(12, 4), (12, 1), (13, 4), (7, 5)])
def test_adaptive_pooling(rank, size, pooled):
    found = trace(ADAPTIVE[rank](pooled), *[size] * rank)
    stride = size / pooled
    is_at(found, stride, (stride - 1) / 2, rank)
    # torch pools voxels floor(i n / m) to ceil((i + 1) n / m) - 1
    windows = [(i * size // pooled, -(-(i + 1) * size // pooled)) for i in range(pooled)]
    true = [(start + stop - 1) / 2 for start, stop in windows]
    worst = max(abs(a - b) for a, b in zip(true, found.grid.centres(0), strict=True))
    assert found.grid.uncertainty == pytest.approx((worst,) * rank)
    assert (worst == 0) == (size % pooled == 0)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", RANKS)
def test_padding(rank, mode):
    found = trace(Apply(lambda x: F.pad(x, (2, 1) * rank, mode=mode)), *[8] * rank)
    is_at(found, 1, -2, rank)
    assert found.grid.shape == (11,) * rank


def test_negative_padding_crops():
    is_at(trace(Apply(lambda x: F.pad(x, (-3, -1))), 10), 1, 3, 1)


def test_slicing():
    is_at(trace(Apply(lambda x: x[..., 3:-1:2]), 12), 2, 3, 1)
    is_at(trace(Apply(lambda x: x.narrow(2, 4, 5)), 12), 1, 4, 1)
    is_at(trace(Apply(lambda x: x.split(4, dim=2)[2]), 12), 1, 8, 1)
    is_at(trace(Apply(lambda x: x.chunk(3, dim=2)[1]), 12), 1, 4, 1)


def test_a_selected_slice_is_a_single_voxel_there():
    found = trace(Apply(lambda x: x[:, :, 5]), 12, 8)
    assert found.grid.shape == (1, 8)
    assert found.grid.offset == (5.0, 0.0)
    assert to_grid(
        torch.zeros(3, 2, 8), trace(Apply(lambda x: x[:, :, 5]), 12, 8, channels=2).axes
    ).shape == (3, 2, 1, 8)


def test_a_roll_is_undone():
    model = Apply(lambda x: torch.roll(x, shifts=(-3, 2), dims=(2, 3)))
    found = trace(model, 8, 9)
    assert found.grid.offset == (0.0, 0.0)
    x = torch.rand(2, 1, 8, 9)
    assert torch.equal(to_grid(model(x), found.axes), x)


@pytest.mark.parametrize("shift", [-7, -4, -3, 2, 3, 5])
@pytest.mark.parametrize("way", ["plain", "flipped first", "flipped after"])
@pytest.mark.parametrize(("size", "step"), [(12, 1), (12, 2), (12, 3), (15, 3), (16, 2)])
def test_a_roll_by_parts_of_a_step_is_undone(size, step, shift, way):
    def rolled(x):
        x = x.flip(2) if way == "flipped first" else x
        x = torch.roll(x, shift, 2)
        return x.flip(2) if way == "flipped after" else x

    model = Apply(lambda x: rolled(x)[:, :, ::step])
    found = trace(model, size, 4)
    x = torch.arange(size, dtype=torch.float32).view(1, 1, size, 1).expand(1, 1, size, 4)
    places = to_grid(model(x), found.axes)[0, 0, :, 0]
    assert found.grid.centres(0) == pytest.approx(places.tolist())
    assert found.grid.uncertainty[0] == 0


@pytest.mark.parametrize("shift", [-3, 3])
def test_a_roll_that_no_step_fits_says_how_far_off_it_may_be(shift):
    model = Apply(lambda x: torch.roll(x, shift, 2)[:, :, ::2])
    found = trace(model, 15)
    x = torch.arange(15, dtype=torch.float32).view(1, 1, 15)
    places = to_grid(model(x), found.axes)[0, 0].tolist()
    pairs = zip(found.grid.centres(0), places, strict=True)
    assert max(abs(a - b) for a, b in pairs) <= found.grid.uncertainty[0] == 1


def test_a_flip_is_undone():
    model = nn.Sequential(Apply(lambda x: x.flip(2)), nn.AvgPool1d(2))
    found = trace(model, 8)
    is_at(found, 2, 0.5, 1)
    x = torch.rand(2, 1, 8)
    assert torch.equal(to_grid(model(x), found.axes), F.avg_pool1d(x.flip(2), 2).flip(2))


def test_transposed_axes_are_put_back_in_order():
    model = Apply(lambda x: x.permute(0, 4, 1, 3, 2))
    found = trace(nn.Sequential(nn.Conv3d(1, 2, 1, stride=(1, 2, 3)), model), 6, 8, 9)
    assert found.grid.stride == (1, 2, 3)
    x = torch.rand(1, 2, 6, 4, 3)
    assert torch.equal(to_grid(model(x), found.axes), x)


def test_pixel_shuffle_and_back():
    is_at(trace(nn.PixelShuffle(2), 8, 8, channels=4), 0.5, -0.25, 2)
    is_at(trace(nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.PixelShuffle(2)), 8, 8), 1, 0, 2)
    # after the folding of space into channels the sub-voxels are still told apart
    found = trace(nn.PixelUnshuffle(2), 8, 8, channels=3)
    is_at(found, 1, 0, 2)
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(to_grid(F.pixel_unshuffle(x, 2), found.axes), x)
    # and a convolution over them looks at their middle
    stack = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 2, 1))
    is_at(trace(stack, 8, 8), 2, 0.5, 2)


def test_pixel_shuffle_written_with_views_in_three_dimensions():
    def shuffle(x):
        b, c, d, h, w = x.shape
        x = x.view(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(b, c // 8, 2 * d, 2 * h, 2 * w)

    found = trace(nn.Sequential(nn.Conv3d(1, 8, 2, stride=2), Apply(shuffle)), 8, 8, 8)
    is_at(found, 1, 0, 3)
    stack = nn.Sequential(nn.Conv3d(1, 8, 2, stride=2), Apply(shuffle), nn.AvgPool3d(2))
    is_at(trace(stack, 8, 8, 8), 2, 0.5, 3)


def test_repeating_voxels_is_upsampling():
    is_at(trace(Apply(lambda x: x.repeat_interleave(2, dim=2)), 8), 0.5, -0.25, 1)


def test_unfold():
    # windows of 4 every 3, then a mean over the window
    is_at(trace(Apply(lambda x: x.unfold(2, 4, 3).mean(-1)), 16), 3, 1.5, 1)
    model = Apply(lambda x: F.unfold(x, 3, padding=1, stride=2))
    stack = nn.Sequential(model, Apply(lambda x: x.transpose(1, 2)), nn.Linear(9, 4))
    found = trace(stack, 8, 8)
    is_at(found, 2, 0, 2)
    assert to_grid(torch.zeros(5, 16, 4), found.axes).shape == (5, 4, 4, 4)


def test_unfold_and_fold():
    def overlap(x):
        return F.fold(F.unfold(x, 3, padding=1, stride=2), (8, 8), 3, padding=1, stride=2)

    is_at(trace(Apply(overlap), 8, 8), 1, 0, 2)


@pytest.mark.parametrize(
    "reduce", [lambda x: x.mean((2, 3)), lambda x: x.amax((2, 3), keepdim=True),
               lambda x: x.flatten(2).max(-1)[0], nn.AdaptiveMaxPool2d(1), nn.AvgPool2d((8, 10))]
)  # fmt: skip
def test_global_pooling_leaves_one_voxel_in_the_middle(reduce):
    model = reduce if isinstance(reduce, nn.Module) else Apply(reduce)
    found = trace(model, 8, 10, channels=3)
    assert found.grid.shape == (1, 1)
    assert found.grid.offset == (3.5, 4.5)
    assert found.grid.stride == (8, 10)
    assert to_grid(model(torch.zeros(2, 3, 8, 10)), found.axes).shape == (2, 3, 1, 1)


def test_a_fully_connected_head_has_one_voxel_in_the_middle():
    found = trace(nn.Sequential(nn.Conv1d(1, 4, 3, 2, 1), nn.Flatten(), nn.Linear(24, 5)), 12)
    # the centres are 0, 2, ..., 10
    assert found.grid.offset == (5.0,)
    assert found.grid.shape == (1,)


def test_a_flattened_layer_still_has_its_grid():
    stack = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.Flatten())
    found = trace(stack, 8, 10)
    is_at(found, 2, 0, 2)
    x = torch.rand(2, 1, 8, 10)
    assert torch.equal(to_grid(stack(x), found.axes), stack[0](x))


def test_norms_activations_and_dropout_change_nothing():
    stack = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4), nn.LocalResponseNorm(3), nn.PReLU(), nn.ELU(), nn.SiLU(), nn.Mish(),
        nn.Hardswish(), nn.LeakyReLU(inplace=True), nn.ReLU6(inplace=True), nn.Softplus(),
        nn.Hardtanh(), nn.Hardsigmoid(), nn.RReLU(), nn.CELU(), nn.SELU(), nn.Threshold(0.1, 20),
        nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.Softsign(), nn.LogSigmoid(),
        nn.Dropout2d(), nn.AlphaDropout(), nn.Softmax(1), nn.Softmax2d(), nn.GELU(), nn.Sigmoid(),
        nn.Tanh(), nn.GLU(1),
    )  # fmt: skip
    is_at(trace(stack, 9, 9, batch=2), 2, 0, 2)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups(groups):
    stack = nn.Sequential(nn.Conv1d(4, 8, 3, 2, 1, groups=groups), nn.Conv1d(8, 8, 2, groups=8))
    is_at(trace(stack, 16, channels=4), 2, 1, 1)


def test_parametrised_weights():
    plain = nn.Conv1d(1, 2, 3, 2, 1)
    is_at(trace(nn.utils.parametrizations.weight_norm(plain), 9), 2, 0, 1)
    plain = nn.Conv1d(1, 2, 3, 2, 1)
    is_at(trace(nn.utils.parametrizations.spectral_norm(plain), 9), 2, 0, 1)


def test_max_unpooling_restores_the_grid():
    class Net(nn.Module):
        def forward(self, x):
            pooled, where = F.max_pool2d(x, 2, return_indices=True)
            return F.max_unpool2d(pooled, where, 2)

    is_at(trace(Net(), 8, 8), 1, 0, 2)


def test_manual_shift_by_writing_into_a_slice():
    def shift(x):
        out = torch.zeros_like(x)
        out[:, :, 1:] = x[:, :, :-1]
        return out

    is_at(trace(Apply(shift), 8), 1, -1, 1)

    def on_the_side(x):
        out = torch.zeros(x.shape)
        out[:, :, 2:-1] = x[:, :, 2:-1]
        return out

    is_at(trace(Apply(on_the_side), 8), 1, 0, 1)


def test_slices_handled_one_by_one_and_stacked_again():
    flat = nn.Conv2d(1, 2, 3, 2, 1)

    def stacked(x):
        return torch.stack([flat(part) for part in x.unbind(2)], dim=2)

    found = trace(Apply(stacked), 6, 8, 8)
    assert found.grid.stride == (1, 2, 2)
    assert found.grid.offset == (0, 0, 0)

    def joined(x):
        return torch.cat([flat(x[:, :, k])[:, :, None] for k in range(1, 6, 2)], dim=2)

    found = trace(Apply(joined), 6, 8, 8)
    assert found.grid.stride == (2, 2, 2)
    assert found.grid.offset == (1, 0, 0)


def test_slices_in_the_batch():
    flat = nn.Conv2d(1, 2, 3, 2, 1)

    def per_slice(x):
        b, c, d, h, w = x.shape
        return flat(x.transpose(1, 2).reshape(b * d, c, h, w))

    found = trace(Apply(per_slice), 6, 8, 10, batch=2)
    assert found.grid.stride == (1, 2, 2)
    assert found.grid.shape == (6, 4, 5)
    x = torch.rand(2, 1, 6, 8, 10)
    expected = torch.stack([flat(x[:, :, k]) for k in range(6)], dim=2)
    torch.testing.assert_close(to_grid(per_slice(x), found.axes), expected)


def test_depth_as_channels():
    # a 2-D network on the slices of a volume as channels: one voxel, in the middle of the depth
    stack = nn.Sequential(Apply(lambda x: x[:, 0]), nn.Conv2d(6, 2, 3, 2, 1))
    found = trace(stack, 6, 8, 8)
    assert found.grid.offset == (2.5, 0, 0)
    assert found.grid.shape == (1, 4, 4)


def test_channels_last_networks():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, 2, 1)

        def forward(self, x):
            return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    end = nn.Identity()
    model = nn.Sequential(Last(), end)
    x = torch.rand(2, 8, 10, 3)
    found = trace_layers(model, {"end": end}, x, channel_dim=-1)["end"]
    is_at(found, 2, 0, 2)
    assert found.grid.input_shape == (8, 10)
    assert torch.equal(to_grid(model(x), found.axes), model(x).permute(0, 3, 1, 2))


def test_memory_format_and_half_precision():
    stack = nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.BatchNorm3d(4), nn.AvgPool3d(2)).bfloat16()
    end = nn.Identity()
    x = torch.zeros(1, 1, 16, 16, 16, dtype=torch.bfloat16).to(memory_format=torch.channels_last_3d)
    found = trace_layers(nn.Sequential(stack, end), {"end": end}, x)["end"]
    is_at(found, 4, 1, 3)

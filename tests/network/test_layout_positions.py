"""Positions against what networks do with numbers: an independent check of whole stacks.

Two references. A network of averages maps a ramp (every voxel's own coordinate) to the coordinates
that its voxels stand for. And the centroid of the gradient of a voxel of a linear network with
positive symmetric weights is the centre of its receptive field.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from respondcam.network.grid import LayerGrid
from respondcam.network.layout import LayerTrace, from_grid, to_grid, trace_layers

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MEAN = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def averaging(model: nn.Module) -> nn.Module:
    """Make every convolution and linear layer of a network the mean of what it sees."""
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            nn.init.zeros_(module.bias)
    return model


def ramps(*shape: int, channels: int = 1) -> Tensor:
    """One sample per axis, whose voxels hold their coordinate along that axis."""
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in shape], indexing="ij")
    return torch.stack(axes)[:, None].repeat(1, channels, *[1] * len(shape))


def trace_end(model: nn.Module, x: Tensor) -> LayerTrace:
    end = nn.Identity()
    return trace_layers(nn.Sequential(model, end), {"end": end}, x)["end"]


def is_where_the_ramps_say(
    model: nn.Module, *shape: int, least: int = 1, gain: float = 1
) -> LayerTrace:
    """Compare grid centres with the ramps' values, in voxels that no padding has touched.

    Those are the voxels in which an input of ones gives the network's whole `gain`.
    """
    model, x = averaging(model), ramps(*shape)
    found = trace_end(model, x)
    assert found.grid.origin == "layout", found
    with torch.no_grad():
        values = to_grid(model(x), found.axes).mean(dim=1)
        share = to_grid(model(torch.ones_like(x)), found.axes).mean(dim=1)
    assert tuple(values.shape[1:]) == found.grid.shape
    inside = (share - gain).abs() < 1e-9
    values = values / share
    assert int(inside.sum()) >= least
    for axis in range(len(shape)):
        centres = torch.tensor(found.grid.centres(axis), dtype=torch.float64)
        sizes = [-1 if a == axis else 1 for a in range(len(shape))]
        expected = centres.view(sizes).expand(found.grid.shape)
        torch.testing.assert_close(values[axis][inside[axis]], expected[inside[axis]])
    return found


@st.composite
def stacks(draw):
    """Random stacks of averaging layers and a size to run them at."""
    rank = draw(st.integers(1, 3))
    layers, channels = [], 1
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "conv", "pool", "depthwise", "up", "slice", "pad"]))
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        padding, dilation = draw(st.integers(0, kernel // 2)), draw(st.integers(1, 2))
        if kind == "conv":
            more = draw(st.integers(1, 3))
            layer = CONV[rank](channels, more, kernel, stride, padding, dilation)
            channels = more
        elif kind == "depthwise":
            layer = CONV[rank](channels, channels, kernel, stride, padding, groups=channels)
        elif kind == "pool":
            layer = MEAN[rank](kernel, stride, padding)
        elif kind == "up":
            mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
            layer = nn.Upsample(scale_factor=stride, mode=mode, align_corners=True)
        elif kind == "slice":
            window = (..., *[slice(kernel - 1, None, stride)] * rank)
            layer = Apply(lambda x, window=window: x[window])
        else:
            sides = (padding, kernel) * rank
            layer = Apply(lambda x, sides=sides: nn.functional.pad(x, sides))
        layers.append(layer)
    size = draw(st.sampled_from([40, 41, 45, 47] if rank < 3 else [20, 23]))
    return nn.Sequential(*layers), (size, size + 1, size + 3)[:rank]


@settings(max_examples=40, deadline=None)
@given(stacks())
def test_random_stacks(case):
    model, shape = case
    try:
        left = model.double()(ramps(*shape)).numel()
    except RuntimeError:
        left = 0
    if not left:
        return  # nothing is left of the input
    is_where_the_ramps_say(model, *shape, least=0)


@pytest.mark.parametrize("size", [97, 100, 127])
def test_a_residual_network_at_awkward_sizes(size):
    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.main = nn.Sequential(
                nn.Conv1d(channels, channels, 3, 2, 1), nn.Conv1d(channels, channels, 3, 1, 1)
            )
            self.short = nn.Conv1d(channels, channels, 1, 2)

        def forward(self, x):
            return self.main(x) + self.short(x)

    model = nn.Sequential(nn.Conv1d(1, 2, 7, 2, 3), Block(2), Block(2))
    found = is_where_the_ramps_say(model, size, least=2, gain=4)
    assert found.grid.uncertainty == (0.0,)


def split_windows(x: Tensor, size: int) -> Tensor:
    b, d, h, w, c = x.shape
    x = x.view(b, d // size, size, h // size, size, w // size, size, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, size**3, c)


def join_windows(x: Tensor, size: int, shape: tuple[int, ...]) -> Tensor:
    b, d, h, w = shape
    x = x.view(b, d // size, h // size, w // size, size, size, size, -1)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, d, h, w, -1)


class WindowNet(nn.Module):
    """Patch embedding, shifted windows, a layer on their tokens, and back."""

    def __init__(self, shift: int = 1):
        super().__init__()
        self.embed = nn.Conv3d(1, 4, 2, stride=2)
        self.token = nn.Linear(4, 4)
        self.shift = shift

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 4, 1)
        x = torch.roll(x, (-self.shift,) * 3, (1, 2, 3))
        shape = x.shape[:4]
        x = join_windows(self.token(split_windows(x, 2)), 2, shape)
        return torch.roll(x, (self.shift,) * 3, (1, 2, 3)).permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize("shift", [0, 1])
def test_tokens_of_shifted_windows_become_a_grid(shift):
    model, x = averaging(WindowNet(shift)), ramps(8, 12, 16)
    caught = []
    model.token.register_forward_hook(lambda module, args, out: caught.append(out))
    found = trace_layers(model, {"token": model.token}, x)["token"]
    caught.clear()
    model(x)
    assert found.grid.stride == (2, 2, 2)
    assert found.grid.offset == (0.5, 0.5, 0.5)
    assert found.grid.shape == (4, 6, 8)
    assert not found.axes.identity
    grid = to_grid(caught[0], found.axes)
    assert grid.shape == (3, 4, 4, 6, 8)
    torch.testing.assert_close(grid, model.embed(x))
    assert torch.equal(from_grid(grid, found.axes, caught[0]), caught[0])
    is_where_the_ramps_say(model, 8, 12, 16, least=400)


class Tokens(nn.Module):
    """A small vision transformer, with or without a class token."""

    def __init__(self, *, token: bool, last: bool = False):
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8)) if token else None
        self.last = last
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            token = self.token.expand(len(x), -1, -1)
            x = torch.cat([x, token] if self.last else [token, x], dim=1)
        x = self.encoder(x)
        return self.head(x[:, 0] if self.token is not None else x.mean(1))


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_transformers(token, last):
    model = Tokens(token=token, last=last).eval()
    layers = {"1": model.encoder.layers[1], "embed": model.embed, "head": model.head}
    x = torch.rand(2, 1, 16, 24)
    found = trace_layers(model, layers, x)
    grid, axes = found["1"].grid, found["1"].axes
    assert grid.stride == (4, 4)
    assert grid.offset == (1.5, 1.5)
    assert grid.shape == (4, 6)
    tokens = torch.rand(5, 24 + token, 8)
    kept = tokens[:, int(token and not last) :][:, :24]
    expected = kept.transpose(1, 2).reshape(5, 8, 4, 6)
    assert torch.equal(to_grid(tokens, axes), expected)
    assert torch.equal(from_grid(to_grid(tokens, axes), axes, tokens), tokens)
    assert found["embed"].grid == LayerGrid(
        (4.0, 4.0), (1.5, 1.5), (4, 6), (16, 24), (0.0, 0.0), "layout"
    )


@pytest.mark.parametrize("flavour", ["rows", "columns", "fused", "pooled keys", "cosine"])
def test_attention_keeps_the_place_of_the_queries(flavour):
    """Against the values: attention to itself alone must give every token its own place."""

    def attend(x):
        n = x.shape[2]
        q = k = x.transpose(1, 2)
        if flavour == "fused":
            out = nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], q[:, None])
            return out[:, 0].transpose(1, 2)
        if flavour == "columns":  # keys first, as in convolutional non-local blocks
            return x @ torch.softmax(k @ q.transpose(1, 2), dim=1)
        if flavour == "pooled keys":
            k = nn.functional.avg_pool1d(x, 4).transpose(1, 2)
            return (torch.softmax(q @ k.transpose(1, 2), -1) @ k).transpose(1, 2)
        if flavour == "cosine":  # no softmax at all
            return ((q @ k.transpose(1, 2) / n) @ q).transpose(1, 2)
        return (torch.softmax(q @ k.transpose(1, 2), -1) @ q).transpose(1, 2)

    model = nn.Sequential(nn.Conv1d(1, 4, 3, 2, 1), Apply(attend))
    found = trace_end(model, torch.rand(2, 1, 32))
    assert found.grid.origin == "layout"
    assert found.grid.stride == (2.0,)
    assert found.grid.offset == (0.0,)
    assert found.grid.shape == (16,)


def test_channel_attention_and_mixing_of_tokens():
    def channels(x):
        weights = torch.softmax(x @ x.transpose(1, 2), dim=-1)
        return weights @ x

    found = trace_end(
        nn.Sequential(nn.Conv1d(1, 4, 3, 2, 1), Apply(channels)), torch.rand(2, 1, 32)
    )
    assert found.grid.stride == (2.0,)
    assert found.grid.offset == (0.0,)

    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix = nn.Conv1d(1, 4, 4, 4), nn.Linear(8, 8)

        def forward(self, x):
            x = self.embed(x)
            return x + self.mix(x)

    found = trace_end(Mixer(), torch.rand(2, 1, 32))
    assert found.grid.stride == (4.0,)
    assert found.grid.offset == (1.5,)


def test_patch_merging_stands_for_the_middle_of_its_parts():
    def merge(x):
        x = x.permute(0, 2, 3, 1)
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return torch.cat(parts, dim=-1).permute(0, 3, 1, 2)

    model = nn.Sequential(nn.Conv2d(1, 3, 2, 2), Apply(merge), nn.Conv2d(12, 6, 1))
    found = is_where_the_ramps_say(model, 16, 24, least=24)
    assert found.grid.offset == (1.5, 1.5)
    assert found.grid.uncertainty == (0.0, 0.0)
    # also without the linear layer that follows it, where channels are still parts
    assert trace_end(model[:2], ramps(16, 24)).grid.offset == (1.5, 1.5)


def test_a_haar_transform_stands_for_the_middle_of_its_parts():
    def haar(x):
        a, b = x[:, :, 0::2] / 2, x[:, :, 1::2] / 2
        a, b, c, d = a[..., 0::2], b[..., 0::2], a[..., 1::2], b[..., 1::2]
        return torch.cat([a + b + c + d, (a + b) - (c + d), a - b + c - d], dim=1)[:, :1]

    found = is_where_the_ramps_say(Apply(haar), 16, 16, least=64, gain=2)
    assert found.grid.uncertainty == (0.0, 0.0)


def gradient_centroids(model: nn.Module, x: Tensor, grid: LayerGrid, voxel: tuple[int, ...]):
    """Centroid of |gradient| of one voxel, per axis."""
    x = x.clone().requires_grad_(True)
    model(x)[(0, 0, *voxel)].backward()
    weight = x.grad[0, 0].abs()
    found = []
    for axis, size in enumerate(grid.input_shape):
        places = torch.arange(size, dtype=x.dtype)
        others = [a for a in range(weight.ndim) if a != axis]
        profile = weight.sum(others) if others else weight
        found.append(float((profile * places).sum() / profile.sum()))
    return found


@settings(max_examples=25, deadline=None)
@given(
    rank=st.integers(1, 3),
    kernels=st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=3),
    strides=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_centroids_of_gradients_of_symmetric_positive_stacks(rank, kernels, strides, seed):
    chance = torch.Generator().manual_seed(seed)
    layers, channels = [], 1
    for kernel, stride in zip(kernels, strides, strict=False):
        layer = CONV[rank](channels, 2, kernel, stride, kernel // 2).double()
        weight = torch.rand(layer.weight.shape, generator=chance, dtype=torch.float64) + 0.1
        for axis in range(2, weight.ndim):
            weight = weight + weight.flip(axis)
        layer.weight.data = weight
        layers.append(layer)
        channels = 2
    model = nn.Sequential(*layers)
    size = 61 if rank < 3 else 31
    x = torch.zeros(1, 1, *[size] * rank, dtype=torch.float64)
    grid = trace_end(model, x).grid
    voxel = tuple(count // 2 for count in grid.shape)
    reach = sum((k // 2) * s for k, s in zip(kernels, [1, 3, 9], strict=False))
    for axis, centroid in enumerate(gradient_centroids(model, x, grid, voxel)):
        centre = grid.centres(axis)[voxel[axis]]
        if reach < centre < size - 1 - reach:
            assert centroid == pytest.approx(centre, abs=1e-9)

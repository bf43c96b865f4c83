"""Branches that meet, and paths around a layer."""

import pytest
import torch
from torch import nn

from respondcam.network.layout import trace_layers


class Graph(nn.Module):
    """A network written as a function of its modules and its inputs."""

    def __init__(self, run, **modules):
        super().__init__()
        self.run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs, **named):
        return self.run(self, *inputs, **named)


def conv(kernel: int, stride: int, padding: int, channels: int = 2, into: int = 1) -> nn.Conv1d:
    return nn.Conv1d(into, channels, kernel, stride, padding)


def end_of(run, x=None, **modules):
    model = Graph(lambda self, *a: self.end(run(self, *a)), end=nn.Identity(), **modules)
    x = torch.zeros(1, 1, 32) if x is None else x
    return trace_layers(model, {"end": model.end}, x)["end"]


@pytest.mark.parametrize("meet", [torch.add, lambda a, b: torch.cat([a, b], 1), torch.maximum])
@pytest.mark.parametrize("swap", [False, True])
def test_the_branch_with_the_smallest_radius_decides_and_the_rest_is_an_interval(meet, swap):
    # a pooled shortcut has its centres half a voxel to the right of a strided convolution
    def run(self, x):
        branches = [self.main(x), self.short(nn.functional.avg_pool1d(x, 2))]
        return meet(*reversed(branches)) if swap else meet(*branches)

    found = end_of(run, main=conv(3, 2, 1), short=conv(1, 1, 0))
    assert found.grid.stride == (2.0,)
    assert found.grid.offset == (0.5,)
    assert found.grid.uncertainty == (0.5,)
    assert "disagree" in found.grid.note


def test_intervals_add_up_along_a_network():
    class Block(nn.Module):
        def __init__(self, into):
            super().__init__()
            self.main, self.short = conv(3, 2, 1, 2, into), conv(1, 1, 0, 2, into)

        def forward(self, x):
            return self.main(x) + self.short(nn.functional.avg_pool1d(x, 2))

    model = nn.Sequential(Block(1), Block(2), Block(2), nn.Identity())
    found = trace_layers(model, {"end": model[3]}, torch.zeros(1, 1, 32))["end"]
    # all shortcuts: 0.5 + 1 + 2; all main paths: 0
    assert found.grid.stride == (8.0,)
    assert found.grid.offset == (3.5,)
    assert found.grid.uncertainty == (3.5,)


def test_branches_that_agree_leave_no_interval():
    found = end_of(lambda self, x: self.a(x) + self.b(x), a=conv(3, 2, 1), b=conv(1, 2, 0))
    assert found.grid.uncertainty == (0.0,)
    assert found.grid.note == ""


def test_decoders_that_are_out_of_step_with_their_skip_connection():
    # k3 s2 p1 has its centres at 0, 2, 4; a transposed k2 s2 brings them back to -0.5, 0.5, ...
    def run(self, x):
        return torch.cat([x, self.up(self.down(x))], 1)

    found = end_of(run, down=conv(3, 2, 1), up=nn.ConvTranspose1d(2, 2, 2, 2))
    assert found.grid.offset == (0.0,)
    assert found.grid.uncertainty == (0.5,)


def test_branches_of_different_strides():
    def run(self, x):
        return self.a(x)[..., :8] + self.b(x)[..., :8]

    found = end_of(run, a=conv(1, 2, 0), b=conv(1, 4, 0))
    assert "stride" in found.grid.note
    # the last of eight voxels is at 14 in one branch and at 28 in the other
    assert found.grid.uncertainty == (14.0,)


@pytest.mark.parametrize("kind", ["pooled", "unpooled", "sampled", "axes", "constant", "position"])
def test_gates_do_not_move_what_they_gate(kind):
    def run(self, x):
        x = self.main(x)
        if kind == "pooled":
            return x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        if kind == "unpooled":
            return torch.sigmoid(x.mean((2, 3), keepdim=True)) * x
        if kind == "sampled":
            return x * x.flatten(2).max(-1)[0][..., None, None].expand_as(x)
        if kind == "axes":  # coordinate attention: one gate per axis
            return x.mean(2, keepdim=True) * x.mean(3, keepdim=True)
        if kind == "constant":
            return x * torch.ones(2, 1, 1) + torch.zeros_like(x)
        return x + nn.functional.interpolate(torch.zeros(1, 2, 3, 3), x.shape[2:])

    main = nn.Conv2d(1, 2, (3, 2), 2, (1, 0))
    found = end_of(run, torch.zeros(2, 1, 16, 24), main=main, gate=nn.Linear(2, 2))
    assert found.grid.stride == (2.0, 2.0)
    assert found.grid.offset == (0.0, 0.5)
    assert found.grid.uncertainty == (0.0, 0.0)
    assert found.grid.shape == (8, 12)


def test_unknown_branches_are_left_out_and_named():
    def run(self, x):
        return x + torch.fft.irfft(torch.fft.rfft(x), n=x.shape[-1])

    found = end_of(run)
    assert found.grid.origin == "layout"
    assert "fft" in found.grid.note


def bypassed(run, *inputs, layer: str = "a", **modules) -> bool:
    model = Graph(run, **modules)
    given = inputs or (torch.zeros(1, 1, 16),)
    return trace_layers(model, {layer: model.get_submodule(layer)}, given)[layer].bypassed


def plain(into: int = 1) -> nn.Module:
    return conv(3, 1, 1, 1, into)


def test_nothing_passes_by_a_layer_of_a_plain_stack():
    assert not bypassed(lambda self, x: self.b(self.a(x)), a=plain(), b=plain())
    assert not bypassed(lambda self, x: self.a(self.b(x)), a=plain(), b=plain())
    # in place after the layer, and the layer in place itself
    assert not bypassed(lambda self, x: self.a(x).relu_().mul_(2), a=plain())
    assert not bypassed(lambda self, x: self.b(self.a(self.b(x))), a=nn.ReLU(True), b=plain())


def test_a_layer_that_hands_on_its_argument():
    # dropout in evaluation returns the very tensor that it was given
    assert not bypassed(lambda self, x: self.b(self.a(x)), a=nn.Dropout(), b=plain())
    assert not bypassed(lambda self, x: self.a(self.b(x)), a=nn.Identity(), b=plain())
    assert bypassed(lambda self, x: self.a(x) + x, a=nn.Identity())


def test_a_residual_connection_passes_by_its_branch_but_not_by_its_block():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain()

        def forward(self, x):
            return x + self.inner(x)

    def run(self, x):
        return self.b(self.a(x)).mean(2)

    assert not bypassed(run, a=Block(), b=plain())
    assert bypassed(run, layer="a.inner", a=Block(), b=plain())


def test_a_skip_connection_passes_by_the_bottleneck():
    def run(self, x):
        return torch.cat([x, self.up(self.a(nn.functional.max_pool1d(x, 2)))], 1)

    assert bypassed(run, a=plain(), up=nn.Upsample(scale_factor=2))


def test_a_second_stream_passes_by_the_first():
    two = (torch.zeros(1, 1, 16), torch.zeros(1, 1, 16))
    assert bypassed(lambda self, x, y: self.a(x) + self.b(y), *two, a=plain(), b=plain())
    assert not bypassed(lambda self, x, y: self.a(x + y), *two, a=plain())
    meta = (torch.zeros(1, 1, 16), torch.zeros(1, 3))
    assert bypassed(lambda self, x, m: self.a(x).mean((1, 2)) + m.sum(1), *meta, a=plain())
    unused = (torch.zeros(1, 1, 16), torch.zeros(1, 3))
    assert not bypassed(lambda self, x, m: self.a(x), *unused, a=plain())


@pytest.mark.parametrize("way", ["slice", "select", "view", "index", "out", "list"])
def test_paths_through_memory_that_is_written_piece_by_piece(way):
    def run(self, x):
        y = self.a(x)
        if way == "out":
            result = torch.empty_like(x)
            torch.add(x, y, out=result)
            return result
        if way == "list":
            return {"all": [y, (x,)]}
        both = torch.zeros(len(x), 2, x.shape[-1])
        if way == "slice":
            both[:, :1] = x
            both[:, 1:] = y
        elif way == "select":
            both[:, 0] = x[:, 0]
            both[:, 1] = y[:, 0]
        elif way == "view":
            both.view(-1, 2, 1, x.shape[-1])[:, 0].copy_(x)
            both[:, 1:].copy_(y)
        else:
            both[:, torch.tensor([1])] = y
            both[:, torch.tensor([0])] = x
        return both

    assert bypassed(run, a=plain())


def test_pieces_that_all_come_from_the_layer_pass_nothing_by():
    def run(self, x):
        y = self.a(x)
        both = torch.zeros(len(x), 2, x.shape[-1])
        both[:, :1] = y
        both[:, 1:] = y * 2
        return both + torch.zeros_like(x) + x.new_ones(1)

    assert not bypassed(run, a=plain())


def test_only_what_the_call_returns_counts():
    model = Graph(lambda self, x: (self.a(x), x), a=plain())
    x = torch.zeros(1, 1, 16)
    assert trace_layers(model, {"a": model.a}, x)["a"].bypassed
    found = trace_layers(model, {"a": model.a}, x, call=lambda m, x: m(x)[0])
    assert not found["a"].bypassed


def test_every_layer_has_its_own_flag():
    model = Graph(lambda self, x: self.c(self.a(x) + self.b(x)), a=plain(), b=plain(), c=plain())
    layers = {name: model.get_submodule(name) for name in "abc"}
    found = trace_layers(model, layers, torch.zeros(1, 1, 16))
    assert [found[name].bypassed for name in "abc"] == [True, True, False]


def test_a_layer_called_several_times():
    shared = nn.Conv1d(1, 1, 3, 2, 1)
    model = Graph(lambda self, x: self.a(self.a(x)), a=shared)
    found = trace_layers(model, {"a": shared, "alias": shared}, torch.zeros(1, 1, 16))
    for name in ("a", "alias"):
        assert [call.grid.stride for call in found[name].calls] == [(2.0,), (4.0,)]
        assert [call.shape for call in found[name].calls] == [(1, 1, 8), (1, 1, 4)]
        assert not found[name].bypassed


def test_inputs_of_different_sizes_have_grids_of_their_own():
    fine, coarse = conv(3, 2, 1), conv(3, 3, 0)

    def run(self, x, y):
        return self.fine(x).mean(2) + self.coarse(y).mean(2)

    model = Graph(run, fine=fine, coarse=coarse)
    layers = {"fine": fine, "coarse": coarse}
    x, y = torch.zeros(1, 1, 32), torch.zeros(1, 1, 9)
    found = trace_layers(model, layers, {"x": x, "y": y})
    assert found["fine"].grid.input_shape == (32,)
    assert found["coarse"].grid.input_shape == (9,)
    assert found["coarse"].grid.offset == (1.0,)
    assert [found[name].calls[0].input for name in layers] == [0, 1]


def test_metadata_before_the_image():
    main = conv(3, 2, 1)
    model = Graph(lambda self, m, x: self.main(x) * m[:, :, None], main=main)
    found = trace_layers(model, {"main": main}, (torch.zeros(1, 2), torch.zeros(1, 1, 32)))
    assert found["main"].grid.input_shape == (32,)
    assert found["main"].calls[0].input == 1

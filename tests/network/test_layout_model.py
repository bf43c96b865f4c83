"""Tracing leaves everything as it was, says what it fell back to, and remembers."""

import gc
import threading
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import respondcam as rc
from respondcam.errors import InputError, LayerError, ModelError, PlacementWarning
from respondcam.network.layout import forget, to_grid, trace_layers
from respondcam.network.layout import trace as module_under_test


class Writer(nn.Module):
    """A network that writes to itself whenever it runs."""

    def __init__(self, fail: str = ""):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3, 2, 1)
        self.norm = nn.BatchNorm1d(2)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("table", torch.zeros(4))
        self.fail, self.last, self.history, self.named = fail, None, [], {}

    def forward(self, x):
        self.calls.add_(1)
        self.calls += 1
        self.table[1:3] = 7
        self.last = x
        self.fresh = x * 2
        self.history.append(x)
        self.named["x"] = x
        y = self.drop(self.norm(self.conv(x)))
        y = y + torch.rand_like(y) * 0
        if self.fail == "python":
            raise RuntimeError("on purpose")
        if self.fail == "interrupt":
            raise KeyboardInterrupt
        if self.fail == "data":
            return y if float(y.sum()) > 1e9 else y * 2
        return y


def snapshot(model: nn.Module):
    state = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [(module.training, len(module._forward_hooks)) for module in model.modules()]
    grads = [(p.requires_grad, p.grad) for p in model.parameters()]
    extra = (list(model.history), dict(model.named), model.last, sorted(vars(model)))
    return state, flags, grads, extra, torch.get_rng_state(), torch.is_grad_enabled()


def is_unchanged(before, after) -> None:
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    assert before[1:4] == after[1:4]
    assert torch.equal(before[4], after[4])
    assert before[5] == after[5]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fail", ["", "data", "python", "interrupt"])
def test_the_model_is_untouched(fail, training):
    model = Writer(fail).train(training)
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    x = torch.rand(2, 1, 16)
    copy, before = x.clone(), snapshot(model)
    if fail == "python":
        with pytest.raises(ModelError, match="on purpose"):
            trace_layers(model, {"conv": model.conv}, x)
    elif fail == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            trace_layers(model, {"conv": model.conv}, x)
    else:
        assert trace_layers(model, {"conv": model.conv}, x)["conv"].grid.stride == (2.0,)
    is_unchanged(before, snapshot(model))
    assert torch.equal(x, copy)
    assert not x.requires_grad
    model.fail = ""
    model(x)  # and it still runs


def test_parameters_are_not_copied():
    """Twenty million weights and an input of 64 MB take up no memory, views of them apart."""
    model = nn.Sequential(nn.Linear(4096, 4096), nn.Linear(4096, 1024)).eval()
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out.is_meta:
                storage = out.untyped_storage()
                size = 0 if storage.data_ptr() in known else storage.nbytes()
                Largest.size = max(Largest.size, size)
            return out

    with Largest():
        trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 4096).expand(1, 4096, 4096))
    assert Largest.size < 100_000


def test_large_inputs_cost_nothing():
    model = nn.Sequential(nn.Conv3d(1, 64, 3, 2, 1), nn.Conv3d(64, 64, 3, 2, 1))
    x = torch.zeros(1).expand(1, 1, 2048, 2048, 2048)  # 32 GiB if it were real
    found = trace_layers(model, {"1": model[1]}, x)["1"]
    assert found.grid.stride == (4.0,) * 3
    assert found.grid.shape == (512,) * 3


def test_control_flow_that_needs_values_is_traced_with_values():
    model = Writer("data")
    found = trace_layers(model, {"conv": model.conv}, torch.rand(1, 1, 16))["conv"]
    assert found.grid.origin == "layout"
    assert found.grid.offset == (0.0,)
    assert "real forward pass" in found.grid.note


class Strange(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.fft.irfft(torch.fft.rfft(x), n=x.shape[-1])

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_a_lost_layout_is_estimated_from_gradients():
    torch.manual_seed(0)
    first = nn.Conv1d(1, 4, 5, stride=4, padding=0)
    model = nn.Sequential(first, Stranger(), nn.Identity())
    found = trace_layers(model, {"end": model[2]}, torch.rand(2, 1, 65))["end"]
    assert found.grid.origin == "measured"
    assert "fft" in found.grid.note
    assert found.grid.stride == pytest.approx((4.0,), abs=0.05)
    # even spacing would say 65 / 16 and 1.53
    assert found.grid.offset == pytest.approx((2.0,), abs=0.5)
    assert not found.bypassed


class Scanner(nn.Module):
    """An image from what a scanner measures of it: every voxel depends on all numbers."""

    def forward(self, x):
        return torch.fft.ifftn(x, dim=(2, 3, 4)).abs()


def test_gradients_all_over_the_input_are_no_grid():
    torch.manual_seed(25)  # whose centroids would lie on a line
    conv = nn.Conv3d(1, 4, 3, padding=1)
    model = nn.Sequential(Scanner(), conv, nn.ReLU())
    image = torch.rand(1, 1, 12, 12, 12)
    with pytest.warns(PlacementWarning, match="form no grid"):
        found = trace_layers(model, {"end": model[2]}, torch.fft.fftn(image, dim=(2, 3, 4)))["end"]
    assert found.grid.origin == "even"


class Stranger(nn.Module):
    def forward(self, x):
        return Strange.apply(x)


class Wall(nn.Module):
    """Nothing is known about what comes out, and no gradient passes."""

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(x.detach()), n=x.shape[-1])


def test_even_spacing_comes_with_a_warning_every_time():
    model = nn.Sequential(nn.Conv1d(1, 4, 3, 2, 1), Wall(), nn.Identity())
    for _ in range(2):  # also when the result is remembered
        with pytest.warns(PlacementWarning, match="fft"):
            found = trace_layers(model, {"end": model[2]}, torch.rand(2, 1, 17))["end"]
        assert found.grid.origin == "even"
        assert found.grid.stride == (17 / 9,)
        assert found.grid.uncertainty == (17 / 9,)
        assert "fft" in found.grid.note
        assert to_grid(torch.zeros(2, 4, 9), found.axes).shape == (2, 4, 9)


def test_no_estimate_where_none_is_wanted():
    model = nn.Sequential(nn.Conv1d(1, 4, 5, 4), Stranger(), nn.Identity())
    with pytest.warns(PlacementWarning):
        found = trace_layers(model, {"end": model[2]}, torch.rand(2, 1, 65), estimate=False)
    assert found["end"].grid.origin == "even"


def test_outputs_without_a_grid_say_why():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(4, 3, batch_first=True)

        def forward(self, x):
            return self.rnn(x.flatten(2).transpose(1, 2))[0]

    model = nn.Sequential(nn.Conv2d(1, 4, 2, 2), Recurrent())
    found = trace_layers(model, {"1": model[1]}, torch.rand(1, 1, 8, 8))["1"]
    assert found.calls[0].grid is None
    with pytest.raises(LayerError, match="has no grid"):
        _ = found.grid


def test_layers_that_are_not_called():
    model = nn.Sequential(nn.Conv1d(1, 1, 3))
    other = nn.Conv1d(1, 1, 3)
    found = trace_layers(model, {"other": other}, torch.zeros(1, 1, 9))["other"]
    assert found.calls == ()
    assert found.bypassed
    with pytest.raises(LayerError, match="not called"):
        _ = found.axes


def test_inputs_without_a_tensor():
    with pytest.raises(InputError, match="no tensor"):
        trace_layers(nn.Identity(), {}, ("image.mrc",))


def test_results_are_remembered_by_shape_and_forgotten_with_the_model(monkeypatch):
    runs = []
    honest = module_under_test._hollow_pass
    monkeypatch.setattr(module_under_test, "_hollow_pass", lambda *a: runs.append(1) or honest(*a))
    model = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1), nn.ReLU())
    layers = {"0": model[0]}
    first = trace_layers(model, layers, torch.zeros(1, 1, 9))
    model.train()
    model[0].weight.requires_grad_(False)
    assert trace_layers(model, layers, torch.rand(1, 1, 9)) == first
    assert len(runs) == 1
    trace_layers(model, layers, torch.zeros(1, 1, 10))
    trace_layers(model, {"1": model[1]}, torch.zeros(1, 1, 9))
    assert len(runs) == 3
    way = lambda m, x: m(x)  # noqa: E731
    trace_layers(model, layers, torch.zeros(1, 1, 9), call=way)
    trace_layers(model, layers, torch.zeros(1, 1, 9), call=way)
    assert len(runs) == 4
    forget(model)
    trace_layers(model, layers, torch.zeros(1, 1, 9))
    assert len(runs) == 5
    alive = weakref.ref(model)
    del model, layers
    gc.collect()
    assert alive() is None


def test_a_way_of_calling_that_refers_to_the_model_does_not_keep_it_alive():
    model = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1))
    trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 9), call=lambda m, x: model(x))
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_changed_results_do_not_reach_the_memory():
    model = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1))
    found = trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 9))
    found.clear()
    assert "0" in trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 9))


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_callers_in_any_grad_mode(outer):
    model = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1), nn.ReLU(inplace=True))
    failing = nn.Sequential(nn.ReLU(inplace=True), Writer("data"))
    layers = {"1": failing[1].conv}
    with outer():
        x = torch.zeros(1, 1, 9)
        assert trace_layers(model, {"1": model[1]}, x)["1"].grid.stride == (2.0,)
        assert trace_layers(failing, layers, x)["1"].grid.stride == (2.0,)


def test_grad_modes_checkpoints_and_autocast_inside_the_model():
    class Modes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 3, 2, 1)
            self.end = nn.Identity()

        def forward(self, x):
            with torch.enable_grad():
                x = checkpoint(self.conv, x, use_reentrant=False)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                return self.end(nn.functional.conv1d(x, torch.ones(1, 2, 2), stride=2))

    model = Modes()
    found = trace_layers(model, {"end": model.end}, torch.rand(1, 1, 17))["end"]
    assert found.grid.origin == "layout"
    assert found.grid.stride == (4.0,)
    assert found.grid.offset == (1.0,)
    assert not found.bypassed


@pytest.mark.usefixtures("plain_import")
def test_parallel_wrappers_and_compiled_models():
    model = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1))
    layers = {"0": model[0]}
    assert trace_layers(nn.DataParallel(model), layers, torch.zeros(1, 1, 9))["0"].calls
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(torch.zeros(1, 1, 9))
    forget(model)
    assert trace_layers(compiled, layers, torch.zeros(1, 1, 9))["0"].grid.stride == (2.0,)


def test_subclassed_inputs():
    class Tagged(torch.Tensor):
        pass

    model = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1))
    x = torch.zeros(1, 1, 9).as_subclass(Tagged)
    assert trace_layers(model, {"0": model[0]}, x)["0"].grid.stride == (2.0,)


def test_tuples_dictionaries_and_their_layers():
    class Two(nn.Module):
        def forward(self, x):
            return {"size": x.shape, "maps": (x.mean((1, 2)), x[..., ::2], x[..., ::4])}

    model = nn.Sequential(Two())
    found = trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 16))["0"]
    # the tensor that is explained is the first with a grid
    assert [call.shape for call in found.calls] == [(1, 1, 8)]
    assert found.grid.stride == (2.0,)
    assert found.bypassed  # the other outputs do not pass through it


def test_threads_trace_one_model_at_the_same_time():
    model = nn.Sequential(nn.Conv1d(1, 2, 3, 2, 1), nn.BatchNorm1d(2), nn.ReLU()).train()
    wrong = []

    def work(size):
        for _ in range(5):
            forget(model)
            found = trace_layers(model, {"2": model[2]}, torch.zeros(1, 1, size))["2"]
            if found.grid.input_shape != (size,) or found.grid.shape != ((size + 1) // 2,):
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(16 + k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_another_threads_forward_pass_is_left_alone():
    """Somebody else's call of the same layer while it is traced is neither recorded nor changed."""
    model = nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1))
    seen = []

    def call(model, x):
        other = threading.Thread(target=lambda: seen.append(model(torch.zeros(1, 1, 21))))
        other.start()
        other.join()
        return model(x)

    found = trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 9), call=call)["0"]
    assert len(found.calls) == 1
    assert seen[0].shape == (1, 1, 11)


def test_shapes_worked_out_here_are_those_of_torch():
    """Sizes, also of outputs that are left over when a stride does not divide."""
    for rank, size in ((1, 23), (2, 19), (3, 14)):
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        up = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
        layers = [
            conv(4, 6, 3, 2, 1, dilation=2, groups=2),
            conv(4, 8, (2, 3, 4)[:rank], (1, 2, 3)[:rank]),
            up(4, 6, 3, 3, 1, output_padding=1, groups=2, dilation=2),
            nn.GroupNorm(2, 4),
            nn.LayerNorm(size),
        ]
        x = torch.rand(2, 4, *[size] * rank)
        for layer in layers:
            found = trace_layers(layer, {"": layer}, x)[""]
            assert found.calls[0].shape == tuple(layer(x).shape)


def test_a_wrong_number_of_channels_is_the_models_error():
    model = nn.Sequential(nn.Conv1d(2, 1, 3))
    with pytest.raises(ModelError, match="does not run"):
        trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 9))


def test_lazy_modules_are_asked_to_be_run_first():
    model = nn.Sequential(nn.LazyConv1d(2, 3))
    with pytest.raises(ModelError, match="Run the model once"):
        trace_layers(model, {"0": model[0]}, torch.zeros(1, 1, 9))


def test_a_layer_on_an_input_without_axes_has_no_grid_and_is_listed() -> None:
    class Timed(nn.Module):
        """As in diffusion models: an image and a time, which has an embedding of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.image, self.time, self.end = (
                nn.Conv3d(1, 2, 3),
                nn.Linear(1, 2),
                nn.Conv3d(2, 1, 1),
            )

        def forward(self, image: Tensor, time: Tensor) -> Tensor:
            moved = self.time(time[:, None].float())
            return self.end(self.image(image) + moved[..., None, None, None]).flatten(1)

    model, given = Timed(), (torch.zeros(1, 1, 6, 6, 6), torch.tensor([3]))
    table = {row.name: row for row in rc.inspect(model, given)}
    assert table["image"].grid is not None
    assert table["time"].grid is None
    assert "no grid" in table["time"].note
    with pytest.raises(LayerError, match="no grid to map"):
        rc.RespondCAM(model, "time")(given, target=0)


def test_a_layer_called_on_an_image_and_on_a_time_is_explained_on_the_image() -> None:
    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.image, self.time = nn.ReLU(), nn.Conv3d(1, 2, 3), nn.Linear(1, 2)

        def forward(self, image: Tensor, time: Tensor) -> Tensor:
            moved = self.act(self.time(time[:, None].float()))
            return (self.act(self.image(image)) + moved[..., None, None, None]).mean((2, 3, 4))

    torch.manual_seed(0)
    model, given = Timed(), (torch.randn(1, 1, 6, 6, 6), torch.tensor([3]))
    with pytest.warns(UserWarning, match="called 2 times"):
        found = rc.HiResCAM(model, "act")(given, target=0)
    torch.testing.assert_close(found.maps[0, 0], model.image(given[0])[0, 0].relu().detach() / 64)
    with pytest.raises(LayerError, match="no grid to map"):
        rc.HiResCAM(model, "act#0")(given, target=0)

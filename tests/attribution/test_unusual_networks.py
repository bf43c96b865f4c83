"""Networks that do in their forward pass what few do, and that must be explained all the same."""

import functools
import random
import warnings
import weakref
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import respondcam as rc
from respondcam.errors import (
    InputError,
    LayerError,
    ModelError,
    PlacementWarning,
    RespondCAMWarning,
    TargetError,
)
from respondcam.network.state import undisturbed

WIDE = torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))


def pooled(features):
    return features.mean((2, 3, 4))


def conv(*channels, **options):
    return nn.Sequential(nn.Conv3d(*channels, 3, **options), nn.ReLU())


class Net(nn.Module):
    """A layer `l`, whatever `way` does with it, and a linear head."""

    def __init__(self, way, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.l, self.head = way, conv(1, 4, padding=1), nn.Linear(4, 3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.way(self, *inputs)


def plain_way(net, x):
    return net.head(pooled(net.l(x)))


# ------------------------------------------------------------------ names


def test_a_layer_named_input_is_that_layer_and_the_input_has_another_name() -> None:
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv3d(1, 4, 3, stride=2, padding=1)
            self.input, self.head = conv(4, 6, stride=2, padding=1), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(pooled(self.input(self.stem(x))))

    net = Named().eval()
    explanation = rc.explain(net, WIDE, target=1)
    assert explanation.layer == "input"
    assert explanation.maps.shape[2:] == explanation.grid.shape == (3, 3, 3)
    assert abs(float(explanation.account.relative_gap)) < 1e-5
    assert rc.explain(net, WIDE, layer=":input", target=1).maps.shape[2:] == (12, 12, 12)
    for method in ("occlusion", "integrated-gradients"):
        assert rc.explain(net, WIDE, target=1, method=method).layer == ":input"
    on_image = rc.METHODS["score"](net, "input", where="input")(WIDE, target=1)
    assert on_image.maps.shape[2:] == (3, 3, 3)


# ------------------------------------------------------------------ samples that change places

ORDERS = {
    "flipped": (lambda t: t.flip(0), lambda t: t.flip(0)),
    "rolled": (lambda t: t.roll(1, 0), lambda t: t.roll(-1, 0)),
    "picked": (lambda t: t[[1, 2, 0]], lambda t: t[[2, 0, 1]]),
}


@pytest.mark.parametrize("method", ["respond", "ablation", "integrated-respond"])
@pytest.mark.parametrize("name", ORDERS)
def test_a_batch_in_another_order_is_refused_and_its_samples_are_not(name, method) -> None:
    to, back = ORDERS[name]

    def way(net, x):
        whole = len(x) > 1
        scores = net.head(pooled(net.l(to(x) if whole else x)))
        return back(scores) if whole else scores

    net, batch = Net(way).eval(), torch.rand(3, 1, 8, 8, 8)
    for _ in range(2):
        with pytest.raises(LayerError, match="changes the order of its samples"):
            rc.explain(net, batch, layer="l", target=1, method=method)
    for sample in batch:
        alone = rc.explain(net, sample[None], layer="l", target=1, method=method)
        plain = rc.explain(Net(plain_way).eval(), sample[None], layer="l", target=1, method=method)
        torch.testing.assert_close(alone.maps, plain.maps)


@pytest.mark.parametrize("kind", ["same samples", "dropout", "one size", "one drawn anew"])
def test_a_batch_in_its_own_order_is_explained(kind) -> None:
    def way(net, x):
        assert kind != "one size" or len(x) == 3
        features = net.l(F.dropout(x) if kind in ("dropout", "one drawn anew") else x)
        return net.head(pooled(features))

    sample = torch.rand(1, 1, 8, 8, 8)
    equal = kind in ("same samples", "one drawn anew")
    batch = sample.repeat(3, 1, 1, 1, 1) if equal else torch.rand(3, 1, 8, 8, 8)
    assert rc.explain(Net(way).eval(), batch, layer="l", target=1).maps.shape[0] == 3


# ------------------------------------------------------------------ values that decide on the way


def crop(net, x):
    start = int(x.amax((0, 1, 2, 3)).argmax().clamp(0, 6))
    return net.head(pooled(net.l(x[..., start : start + 6])))


def flip(net, x):
    if x[..., 0].mean() < x[..., -1].mean():
        x = x.flip(-1)
    return plain_way(net, x)


def loop(net, x):
    features = net.l(x)
    for _ in range(1 if x.mean() > 0.5 else 3):
        features = net.more(features)
    return net.head(pooled(features))


def bright(place):
    image = WIDE.clone()
    image[..., place] = 5
    return image


@pytest.mark.parametrize("method", ["respond", "ablation"])
@pytest.mark.parametrize(
    ("way", "layer", "one", "two"),
    [
        (crop, "l", bright(0), bright(6)),
        (flip, "l", bright(0), bright(-1)),
        (loop, "more", WIDE * 0 + 0.9, WIDE * 0 + 0.1),
    ],
)
@pytest.mark.filterwarnings("ignore:Layer 'more' is called")
def test_an_explainer_follows_inputs_of_one_shape_that_take_different_ways(
    way, layer, one, two, method
) -> None:
    net = Net(way, more=conv(4, 4, padding=1))
    used, fresh = rc.METHODS[method](net, layer), rc.METHODS[method](net, layer)
    used(one, target=1)
    again, expected = used(two, target=1), fresh(two, target=1)
    assert again.grid == expected.grid
    torch.testing.assert_close(again.place(), expected.place())


def test_a_number_among_the_inputs_is_part_of_what_decides() -> None:
    net = Net(lambda net, x, start: net.head(pooled(net.l(x[..., start : start + 6]))))
    explainer = rc.RespondCAM(net, "l")
    offsets = [explainer((WIDE, start), target=1).grid.offset[2] for start in (0, 4)]
    assert offsets == [0.0, 4.0]


# ------------------------------------------------------------------ what goes in and comes out


def whole_numbers(net, x):
    return plain_way(net, x.float() / 255)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16])
@pytest.mark.parametrize("method", ["respond", "integrated-respond", "ablation"])
@pytest.mark.parametrize("layer", [None, "l"])
def test_an_image_of_whole_numbers(kind, method, layer) -> None:
    image = (WIDE * 255).to(kind)
    net, expected = Net(whole_numbers).eval(), Net(plain_way).eval()
    found = rc.explain(net, image, layer=layer, target=1, method=method)
    again = rc.explain(expected, image / 255, layer=layer, target=1, method=method)
    torch.testing.assert_close(found.maps, again.maps)
    assert found.grid == again.grid
    with pytest.raises(LayerError, match="whole numbers have no gradient"):
        rc.explain(net, image, layer="input", target=1)


ON_INPUT = ("integrated-gradients", "occlusion", "guided-backprop")


@pytest.mark.parametrize("method", ["respond", "ablation", *ON_INPUT])
@pytest.mark.parametrize(
    "shaped", [lambda out: out[..., None, None, None], lambda out: out.squeeze(0)]
)
def test_scores_of_the_whole_image_with_axes_too_many_or_too_few(method, shaped) -> None:
    net = Net(lambda net, x: shaped(plain_way(net, x))).eval()
    image = WIDE[..., :6, :6, :6]
    found, expected = (
        rc.explain(one, image, target="all", method=method) for one in (net, Net(plain_way).eval())
    )
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.maps, expected.maps)
    predicted = rc.explain(net, image, method=method)
    assert predicted.classes is not None
    assert int(predicted.classes) == int(plain_way(net, image).argmax())


# ------------------------------------------------------------------ batches


def test_a_head_whose_batch_norm_takes_its_statistics_from_the_batch() -> None:
    def way(net, x):
        return net.head(pooled(net.norm(net.l(x)).relu()))

    net = Net(way, norm=nn.BatchNorm3d(4, track_running_stats=False)).eval()
    with torch.no_grad():
        score, activation = net(WIDE)[0, 1], net.l(WIDE)
        silenced = []
        for channel in range(4):
            changed = activation.clone()
            changed[:, channel] = 0
            silenced.append(net.head(pooled(net.norm(changed).relu()))[0, 1])
    weights = (score - torch.stack(silenced)) / score
    for _ in range(2):  # what was learnt of the network is remembered
        found = rc.explain(net, WIDE, layer="l", target=1, method="integrated-respond")
        assert float(found.scores) == pytest.approx(float(score), abs=1e-6)
        assert abs(float(found.account.relative_gap)) < 1e-3
        found = rc.explain(
            net,
            WIDE,
            layer="l",
            target=1,
            method="ablation",
        )
        assert float(found.scores) == pytest.approx(float(score), abs=1e-6)
        expected = (weights.view(1, -1, 1, 1, 1) * activation).sum(dim=1)
        torch.testing.assert_close(found.maps[0], expected, rtol=1e-3, atol=1e-4)


def dropping(net, x):
    return net.head(pooled(F.dropout(net.l(x), 0.5, training=True)))


def noisy_features(net, x):
    features = net.l(x)
    return net.head(pooled(features + torch.rand_like(features) * np.random.rand()))  # noqa: NPY002


@pytest.mark.parametrize("way", [dropping, noisy_features])
def test_all_passes_of_a_network_that_draws_draw_the_same(way) -> None:
    net, images = Net(way).eval(), torch.cat([WIDE, WIDE.flip(2)])
    torch.manual_seed(3)
    plain = rc.explain(net, images, layer="l", target="all")
    for method in ("integrated-respond", "ablation"):
        found = rc.explain(net, images, layer="l", target="all", method=method)
        torch.testing.assert_close(found.scores, plain.scores)
        if method == "integrated-respond":  # the head is linear, whatever is drawn
            torch.testing.assert_close(found.maps, plain.maps)
    expected = plain.account.baseline
    torch.rand(7), np.random.rand(7)  # noqa: NPY002
    again = rc.explain(net, images, layer="l", target="all")
    assert not torch.equal(again.scores, plain.scores)
    torch.testing.assert_close(plain.account.mapped + expected, plain.account.score)
    torch.rand(7), np.random.rand(7)  # noqa: NPY002
    assert (again.account.relative_gap.abs() < 1e-3).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_slices_folded_into_the_batch_have_a_path_of_their_own(batch) -> None:
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.l = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU())
            self.middle, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            b, c, d, h, w = x.shape
            frames = self.l(x.transpose(1, 2).reshape(b * d, c, h, w))
            return self.head(self.middle(frames.mean((2, 3))).relu().view(b, d, -1).mean(1))

    net = Frames().eval()
    images = torch.cat([WIDE * n for n in range(1, batch + 1)])
    explanation = rc.explain(net, images, layer="l", target=1, method="integrated-respond")
    assert (explanation.account.relative_gap.abs() < 1e-4).all()
    alone = rc.explain(net, images[-1:], layer="l", target=1, method="integrated-respond")
    torch.testing.assert_close(explanation.maps[-1:], alone.maps, rtol=1e-4, atol=1e-6)


def test_slices_read_one_after_the_other_are_found_where_no_layer_is_named() -> None:
    """The steps of the LSTM look like tokens, and those of the pooling have one voxel each."""

    class Slices(nn.Module):
        def __init__(self):
            super().__init__()
            self.l, self.pool = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), nn.AvgPool2d(10)
            self.lstm, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            b, c, d, h, w = x.shape
            slices = self.pool(self.l(x.transpose(1, 2).reshape(b * d, c, h, w)))
            return self.head(self.lstm(slices.view(b, d, -1))[0][:, -1])

    found = rc.explain(Slices().eval(), WIDE.expand(2, 1, 12, 12, 12), target=1)
    assert (found.layer, found.grid.shape) == ("l", (12, 10, 10))


@pytest.mark.parametrize("layer", [None, "l", "input"])
@pytest.mark.parametrize("values", [False, True])
def test_an_image_without_a_batch_is_refused(layer, values) -> None:
    def way(net, x):
        x = x / x.max().item() if values else x  # which a pass without data cannot do
        return net.head(net.l(x).mean((1, 2, 3)))

    net = Net(way).eval()
    with pytest.raises(InputError, match=r"\(1, 12, 12, 12\) has no batch.*Conv3d.*unsqueeze"):
        rc.explain(net, WIDE[0], layer=layer, target=0)
    with pytest.raises(InputError, match="no batch"):
        rc.inspect(net, WIDE[0])


@pytest.mark.parametrize(
    "way",
    [
        lambda net, x: plain_way(net, x[:, None]),  # one channel, whose axis it makes itself
        lambda net, x: plain_way(net, x.transpose(0, 1)[None]),  # slices of one volume
        lambda net, x: net.head(net.l(x.transpose(0, 1)).mean((1, 2, 3)))[None],
    ],
)
def test_slices_that_a_network_puts_together_are_no_image_without_a_batch(way) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlacementWarning)
        rc.explain(Net(way).eval(), torch.rand(5, 1, 8, 8), layer="input", target=0)


# ------------------------------------------------------------------ gradients


def test_a_networks_own_enable_grad_around_the_layer() -> None:
    def way(net, x):
        with torch.enable_grad():
            features = net.l(x)
            one = net.one(pooled(features))
        other = net.other(pooled(features))  # off again, as it was before the block
        with torch.enable_grad():
            return net.head(one + other)

    net = Net(way, one=nn.Linear(4, 4), other=nn.Linear(4, 4)).eval()
    found = rc.explain(net, WIDE, layer="l", target=1)
    leaf = net.l(WIDE).detach().requires_grad_()
    score = net.head(net.one(pooled(leaf)) + net.other(pooled(leaf)))[0, 1]
    (gradient,) = torch.autograd.grad(score, leaf)
    expected = float((leaf * gradient).sum().detach())
    assert float(found.maps.sum()) == pytest.approx(expected, rel=1e-4)
    assert abs(float(found.account.relative_gap)) < 1e-4


class Kept(nn.Module):
    """Keeps the gradient of its features, as networks made for Grad-CAM do."""

    def __init__(self, how):
        super().__init__()
        self.how, self.gradient, self.l, self.head = how, None, conv(1, 4), nn.Linear(4, 3)
        if how == "module":
            self.l.register_full_backward_hook(lambda m, given, got: self.keep(got[0]))

    def keep(self, gradient):
        self.gradient = gradient

    def forward(self, x):
        features = self.l(x)
        if self.how == "tensor":
            features.register_hook(self.keep)
        elif self.how == "retained":
            features.retain_grad()
        return self.head(pooled(features))


@pytest.mark.parametrize("how", ["tensor", "module", "retained"])
@pytest.mark.parametrize("layer", [None, "l", "l.0"])
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_networks_that_keep_their_own_gradients(how, layer) -> None:
    net = Kept(how).eval()
    for method in ("respond", "integrated-respond", "ablation"):
        for _ in range(2):
            found = rc.explain(net, WIDE, layer=layer, target=1, method=method)
            assert net.gradient is None
    assert found.grid.offset == (1.0, 1.0, 1.0)
    plain = nn.Sequential(net.l, nn.AdaptiveAvgPool3d(1), nn.Flatten(), net.head)
    expected = rc.explain(plain, WIDE, layer=found.layer.replace("l", "0"), target=1)
    again = rc.explain(net, WIDE, layer=layer, target=1)
    torch.testing.assert_close(again.maps, expected.maps)
    rc.inspect(net, WIDE)


class Raises(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("no such thing")


def test_whatever_a_network_raises_is_said_in_words() -> None:
    backward = Net(lambda net, x: net.head(pooled(Raises.apply(net.l(x))))).eval()
    with pytest.raises(LayerError, match="no such thing"):
        rc.explain(backward, WIDE, layer="l", target="all")
    forward = Net(lambda net, batch: plain_way(net, batch["image"])).eval()
    with pytest.raises(ModelError, match="KeyError: 'image'"):
        rc.explain(forward, ({"scan": WIDE},), layer="l", target=1)
    asking = Net(lambda net, x: plain_way(net, torch.autograd.grad(net.l(x).sum(), x)[0])).eval()
    with pytest.raises(ModelError, match="enable_grad"):
        rc.explain(asking, WIDE.clone().requires_grad_(), layer="l", target=1)


def test_encoders_of_torch_with_masked_padding() -> None:
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.patch, self.head = nn.Conv3d(1, 8, 4, stride=4), nn.Linear(8, 3)
            self.encoder = nn.TransformerEncoder(block, 2)

        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            mask = torch.zeros(len(tokens), 27, dtype=torch.bool)
            mask[:, 20:] = True
            return self.head(self.encoder(tokens, src_key_padding_mask=mask)[:, :20].mean(1))

    net = Masked().eval()
    before = torch.backends.mha.get_fastpath_enabled()
    first = rc.explain(net, WIDE, layer="encoder.layers.0", target=1)
    last = rc.explain(net, WIDE, layer="encoder.layers.1", target=1)
    assert torch.backends.mha.get_fastpath_enabled() is before
    assert first.grid.shape == last.grid.shape == (3, 3, 3)
    assert abs(float(last.account.relative_gap)) < 1e-4


def test_with_a_class_token_the_last_layer_of_an_encoder_that_still_matters_is_chosen() -> None:
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.patch, self.head = nn.Conv3d(1, 8, 4, stride=4), nn.Linear(8, 3)
            self.token = nn.Parameter(torch.rand(1, 1, 8))
            self.encoder = nn.TransformerEncoder(block, 4)

        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            first = self.token.expand(len(x), -1, -1)
            return self.head(self.encoder(torch.cat([first, tokens], 1))[:, 0])

    assert rc.explain(Tokens().eval(), WIDE, target=1).layer == "encoder.layers.2"


def in_place(net, x):
    features = net.l(x)
    return net.head(pooled(net.more(features) + features.relu_()))


def checkpointed(net, x):
    again = torch.utils.checkpoint.checkpoint(net.more, net.l(x), use_reentrant=True)
    return net.head(pooled(again))


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def through(read):
    return lambda net, x: net.head(pooled(read(net.does(net.l(x)))))


@pytest.mark.parametrize(
    ("way", "function", "layer", "kind", "words"),
    [
        (in_place, None, "l", LayerError, "writes over numbers"),
        (checkpointed, None, "l", LayerError, "use_reentrant=False"),
        (through(torch.abs), torch.fft.fftn, "does", LayerError, "complex"),
        (lambda net, x: torch.complex(*[plain_way(net, x)] * 2), None, "l", TargetError, "complex"),
        (
            lambda net, x: net.head(pooled(net.l(x)) + 0 * net.does(net.l(x)).sum()),
            lambda x: x[:, :, :0],
            "does",
            LayerError,
            "is empty",
        ),
        (through(torch.Tensor.to_dense), torch.Tensor.to_sparse, "does", LayerError, "sparse"),
    ],
)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.filterwarnings("ignore:The place of layer 'does' is not known")
def test_what_cannot_be_explained_is_said_in_words(way, function, layer, kind, words) -> None:
    net = Net(way, more=conv(4, 4, padding=1), does=Does(function)).eval()
    with pytest.raises(kind, match=words):
        rc.explain(net, WIDE, layer=layer, target=1)


def test_a_network_on_the_meta_device_has_no_numbers() -> None:
    with pytest.raises(ModelError, match=r"without values.*device .meta."):
        rc.explain(Net(plain_way).eval().to("meta"), WIDE.to("meta"), layer="l", target=1)


def test_a_subclass_of_tensors_that_only_adds_facts_is_an_input() -> None:
    class Image(torch.Tensor):
        pass

    net = Net(plain_way).eval()
    expected = rc.explain(net, WIDE, layer="l", target=1)
    found = rc.explain(net, WIDE.as_subclass(Image), layer="l", target=1)
    torch.testing.assert_close(found.maps, expected.maps)
    assert type(found.maps) is torch.Tensor


def test_a_signal_with_as_many_samples_as_there_are_classes() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 10)
    ).eval()
    signal = torch.rand(2, 1, 10)
    with torch.no_grad():
        best, where = net(signal).max(dim=1)
    found = rc.explain(net, signal, layer="1")
    torch.testing.assert_close(found.scores[:, 0], best)
    assert found.classes is None or found.classes[:, 0].tolist() == where.tolist()


# ------------------------------------------------------------------ what stays as it was


def test_caches_and_counters_of_a_network_are_as_they_were() -> None:
    def way(net, x):
        net.calls += 1
        net.history.append(x)
        if net.cache is None:
            net.cache = net.scale * 2  # made once and used ever after, in training, too
        net.features = net.l(x)
        return net.head(pooled(net.features) * net.cache)

    net = Net(way, calls=0, history=[], cache=None, scale=nn.Parameter(torch.rand(4)))
    for layer in (None, "l"):  # chosen by a look at all layers, or named
        for _ in range(2):
            rc.explain(net, WIDE, layer=layer, target=1)
            assert (net.calls, net.history, net.cache) == (0, [], None)
            assert not hasattr(net, "features")
    net(WIDE).sum().backward()
    assert net.scale.grad is not None


@functools.cache
def behind_a_function(size, device):
    return torch.arange(size, device=device).float()


SEEN = {}


def in_the_module(x):
    return SEEN.setdefault(x.shape, torch.arange(x.shape[-1], device=x.device).float())


def of_one_shape(x):
    return SEEN.setdefault(x.shape, torch.linspace(0, 1, 12) + torch.zeros_like(x))


def of_one_kind(x):
    if x.shape not in SEEN:
        SEEN[x.shape] = x.new_ones(x.shape[-1])
        SEEN[x.shape][2:4] = 3
    return SEEN[x.shape]


@pytest.mark.parametrize(
    "table",
    [
        lambda x: behind_a_function(x.shape[-1], x.device),
        in_the_module,
        of_one_shape,
        of_one_kind,
    ],
)
@pytest.mark.parametrize("layer", [None, "l"])
def test_tables_that_are_kept_outside_of_a_network_have_numbers(table, layer) -> None:
    """As those of Video Swin's masks: made in the first pass, used in all that follow."""
    behind_a_function.cache_clear()
    SEEN.clear()
    net = Net(lambda net, x: net.head(pooled(net.l(x) * table(x)))).eval()
    found = rc.explain(net, WIDE, layer=layer, target=1)
    assert type(table(WIDE)) is torch.Tensor
    assert not table(WIDE).is_meta
    torch.testing.assert_close(found.scores[:, 0], net(WIDE)[:, 1])


class State:
    """What a network may keep beside its attributes."""

    def __init__(self):
        self.calls, self.last, self.table = 0, None, None


def test_what_lies_inside_of_attributes_is_as_it_was() -> None:
    def way(net, x):
        features = net.l(x)
        net.recent.append(features)
        net.stages["deep"][0].append(features)
        net.count += 1
        net.state.calls += 1
        net.state.last = features
        if net.state.table is None:
            net.state.table = torch.arange(12, device=x.device).float() * net.head.bias.mean()
        return net.head(pooled(features * net.state.table))

    net = Net(
        way, recent=deque(maxlen=2), stages={"deep": ([], 1)}, count=np.zeros(1), state=State()
    )
    for layer in (None, "l"):
        for method in ("respond", "integrated-respond", "ablation"):
            rc.explain(net, WIDE, layer=layer, target=1, method=method)
            assert (net.recent, net.stages, net.count) == (deque(), {"deep": ([], 1)}, 0)
            assert (net.state.calls, net.state.last, net.state.table) == (0, None, None)
    rc.inspect(net, WIDE)
    assert (net.recent.maxlen, net.state.calls, net.state.table) == (2, 0, None)


class Slots:
    """State without a dictionary, some of it made when it is needed."""

    __slots__ = ("__secret", "calls", "made", "mean")

    def __init__(self):
        self.calls, self.mean = 0, torch.zeros(4)

    def count(self, weight):
        self.calls += 1
        if not hasattr(self, "made"):
            self.made = self.__secret = 2 * weight
        return self.made


def test_state_that_lies_deep_is_as_it_was() -> None:
    def way(net, x):
        features = net.l(x)
        net.state.last.calls += 1
        net.state.last.table.add_(1)
        features = features + net.slots.count(net.head.weight).sum()
        net.slots.mean += features.mean((0, 2, 3, 4))
        return net.head(pooled(features + net.unregistered[0](features)))

    norm = nn.BatchNorm3d(4)  # in a list, where no network looks: it stays in training mode
    net = Net(way, state=State(), slots=Slots(), unregistered=[norm]).eval()
    net.state.last = State()
    net.state.last.table = torch.zeros(3)
    for method in ("respond", "ablation"):
        rc.explain(net, WIDE, layer="l", target=1, method=method)
        assert (net.state.last.calls, net.slots.calls) == (0, 0)
        assert not net.state.last.table.any()
        assert not net.slots.mean.any()
        assert not norm.running_mean.any()
        assert norm.num_batches_tracked == 0
        assert not any(hasattr(net.slots, name) for name in ("made", "_Slots__secret"))


def test_buffers_and_arrays_that_grow_have_their_size_again() -> None:
    def way(net, x):
        net.first.add_(1)
        net.grown.resize_(net.grown.numel() + 3).zero_()
        net.array.resize(net.array.size + 2, refcheck=False)
        net.last.add_(1)
        return plain_way(net, x)

    net = Net(way, array=np.ones(2)).train()
    for name, size in (("first", 1), ("grown", 2), ("last", 1)):
        net.register_buffer(name, torch.ones(size))
    for _ in range(2):
        rc.explain(net, WIDE, layer="l", target=1)
        assert [len(net.first), len(net.grown), len(net.last), len(net.array)] == [1, 2, 1, 2]
        assert all(bool((one == 1).all()) for one in (net.first, net.grown, net.last, net.array))
        assert net.training


def test_buffers_that_cannot_be_compared_are_left_alone() -> None:
    def way(net, x):
        net.base.add_(1)
        return net.head(torch.sparse.mm(net.adjacency, pooled(net.l(x)).T).T + net.spread.mean())

    net = Net(way, base=torch.zeros(1)).train()
    net.register_buffer("adjacency", torch.eye(4).to_sparse())
    net.register_buffer("spread", net.base.expand(5))
    explanation = rc.explain(net, WIDE, layer="l", target=1)
    assert abs(float(explanation.account.relative_gap)) < 1e-5
    assert (net.base.item(), net.spread.tolist(), net.training) == (0, [0] * 5, True)


def test_what_cannot_be_put_back_keeps_nothing_else_from_being_put_back() -> None:
    class Stubborn(np.ndarray):
        def __setitem__(self, key, value):
            raise ValueError("not mine")

    def way(net, x):
        net.stubborn.flat = 1
        net.calls += 1
        return plain_way(net, x)

    net = Net(way, stubborn=np.zeros(2).view(Stubborn), calls=0).train()
    with pytest.warns(RespondCAMWarning, match=r"'stubborn' of Net.*not mine.*stays"):
        rc.explain(net, WIDE, layer="l", target=1)
    assert (net.calls, net.training) == (0, True)
    assert all(parameter.requires_grad for parameter in net.parameters())


class Unlookable(list):
    """A list that nobody can walk through."""

    def __iter__(self):
        raise RuntimeError("not for you")


def test_attributes_that_cannot_be_looked_into_are_left_alone() -> None:
    owner = State()
    numbers = np.array([1.0, np.nan])
    numbers.flags.writeable = False
    objects = np.array([np.zeros(2), torch.zeros(3), None], dtype=object)
    net = Net(plain_way, chance=random.SystemRandom(), walk=Unlookable(), numbers=numbers)
    net.objects, net.owner = objects, weakref.proxy(owner)
    del owner  # such as a trainer that is gone
    net.eval()
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            explanation = rc.explain(net, WIDE, layer="l", target=1)
        assert abs(float(explanation.account.relative_gap)) < 1e-5


def test_a_buffer_with_places_that_hold_no_number_enters_a_loss() -> None:
    net = Net(lambda net, x: net.head(pooled(net.l(x)) * net.scale.nan_to_num(1.0))).eval()
    net.register_buffer("scale", torch.tensor([1.0, float("nan"), 2.0, 1.0]))
    maps = rc.RespondCAM(net, layer="l")(WIDE, target=1, create_graph=True).maps
    maps.square().sum().backward()
    assert net.head.weight.grad is not None


GENERATORS = {
    "torch": lambda: torch.Generator().manual_seed(3),
    "numpy": lambda: np.random.default_rng(3),
    "numpy, the old one": lambda: np.random.RandomState(3),
    "python": lambda: random.Random(3),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_of_the_network_s_own_draws_the_same_in_every_pass(kind) -> None:
    def drawn(chance):
        if isinstance(chance, torch.Generator):
            return float(torch.rand(1, generator=chance))
        return float(
            chance.rand() if isinstance(chance, np.random.RandomState) else chance.random()
        )

    net = Net(lambda net, x: net.head(pooled(net.l(x)) + 10 * drawn(net.chance))).eval()
    net.chance = GENERATORS[kind]()
    expected = [drawn(GENERATORS[kind]()) for _ in range(1)]
    explanation = rc.explain(net, WIDE, layer="l", target=1)
    assert abs(float(explanation.account.relative_gap)) < 1e-5  # the head is linear
    assert [drawn(net.chance)] == expected


@pytest.mark.parametrize("layer", [None, "l"])
@pytest.mark.parametrize("method", ["respond", "ablation", "eigen"])
def test_tensors_that_are_no_buffers_are_as_they_were(method, layer) -> None:
    def way(net, x):
        features = net.l(x)
        net.count.add_(1)
        net.means["l"].mul_(0.9).add_(0.1 * features.mean((0, 2, 3, 4)))
        return net.head(pooled(features))

    net = Net(way, count=torch.zeros(2), means={"l": torch.zeros(4)}).eval()
    count, mean = net.count, net.means["l"]
    for _ in range(2):
        rc.explain(net, WIDE, layer=layer, target=1, method=method)
        assert (net.count is count, net.means["l"] is mean) == (True, True)
        assert not count.any()
        assert not mean.any()
        assert not mean.requires_grad


def test_a_pass_without_a_trace_leaves_tensors_too() -> None:
    def way(net, x):
        net.count.add_(1)
        return plain_way(net, x)

    net = Net(way, count=torch.zeros(2)).eval()
    for _ in range(2):
        with undisturbed(net):
            net(WIDE)
        assert not net.count.any()


def test_weights_cached_by_a_parametrization_keep_their_graph() -> None:
    net = nn.Sequential(
        *conv(1, 4), parametrizations.weight_norm(nn.Conv3d(4, 2, 3)), nn.Flatten(2), Does(sums)
    )
    with parametrize.cached():
        rc.explain(net, WIDE, layer="1", target=1)
        net(WIDE).sum().backward()
    assert net[2].parametrizations.weight.original0.grad is not None


def sums(x):
    return x.sum(-1)


def functional(net, x):
    norm = net.norm
    features = F.batch_norm(net.l(x), norm.running_mean, norm.running_var, training=True)
    return net.head(pooled(features))


def adapting(net, x):
    net.norm.train()
    return net.head(pooled(net.norm(net.l(x))))


def drawing(net, x):
    return plain_way(net, x) * (1 + 0 * random.random() + 0 * np.random.rand())  # noqa: NPY002


@pytest.mark.parametrize("way", [functional, adapting, drawing])
@pytest.mark.parametrize("layer", [None, "l"])
def test_statistics_flags_and_random_states_are_as_they_were(way, layer) -> None:
    net = Net(way, norm=nn.BatchNorm3d(4)).eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    drawn = np.random.get_state()[1:3]  # noqa: NPY002
    for _ in range(2):
        rc.explain(net, WIDE, layer=layer, target=1)
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
        assert not any(module.training for module in net.modules())
        np.testing.assert_equal(np.random.get_state()[1:3], drawn)  # noqa: NPY002


def test_what_a_pass_draws_is_not_missed_afterwards() -> None:
    def state_after(draws):
        random.seed(1)
        with undisturbed(nn.Identity()):  # whose own checks of types draw as well
            for _ in range(draws):
                random.random()
        return random.getstate()

    assert state_after(0) == state_after(5)


# ------------------------------------------------------------------ writes in place


def shifted(x):
    y = x.clone()
    y[:, :, :-4] = x[:, :, 4:]
    return y


def into_zeros(x):
    y = x * 0
    y[:, :, :-4] = x[:, :, 4:]
    return y


def temporal(x):
    y = torch.cat([x] * 4, 1)
    out = torch.zeros_like(y)
    out[:, :1, :-2] = y[:, :1, 2:]
    out[:, 1:2, 2:] = y[:, 1:2, :-2]
    out[:, 2:] = y[:, 2:]
    return out


def halves(x):
    y = torch.empty_like(x)
    y[:, :, :6] = x[:, :, :6]
    y[:, :, 6:] = x[:, :, 6:]
    return y


@pytest.mark.parametrize(
    ("write", "place"), [(shifted, 4.0), (into_zeros, 4.0), (temporal, 0.0), (halves, 0.0)]
)
def test_writes_into_slices_move_what_they_write(write, place) -> None:
    """The larger part decides on the place; parts that disagree are the uncertainty."""
    net = nn.Sequential(Does(write), nn.Identity(), Does(lambda x: x.flatten(1).sum(1)[:, None]))
    found = rc.explain(net, WIDE, layer="1", target="value")
    assert found.grid.offset == (place, 0.0, 0.0)
    assert (found.grid.uncertainty[0] > 0) == (write is not halves)
    assert ("disagree" in found.grid.note) == (write is not halves)

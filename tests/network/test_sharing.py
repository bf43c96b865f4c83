"""Layers whose output goes by another name too, which the network writes to in place."""

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.errors import LayerError


class Views(nn.Module):
    """The first channels of what it is given: the same memory, another tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3]


class Writes(nn.Module):
    """Writes to its argument without a word about it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_(min=-0.1)


class Net(nn.Module):
    """A stem, something that reads its output under two names, and a linear end."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kind = kind
        self.stem = nn.Conv3d(1, 4, 3, stride=2, padding=1)
        self.conv = nn.Conv3d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.shared = {
            "skip": nn.Identity,
            "dropout": nn.Dropout,
            "relu": lambda: nn.ReLU(inplace=True),
            "own": Writes,
            "view": Views,
        }[kind]()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.stem(image))

    def head(self, x: Tensor) -> Tensor:
        if self.kind == "skip":  # pre-activation block: the skip is what ReLU wrote to
            skip = self.shared(x)
            y = self.conv(x.relu_()) + skip
        elif self.kind == "dropout":  # what came back is written to, what went in is read
            y = self.conv(self.shared(x).relu_()) + x
        elif self.kind == "view":
            part = self.shared(x)
            x.relu_()
            y = self.conv(x)
            y[:, :3] += part
        else:
            y = self.conv(self.shared(x)) + x
        return self.fc((y * y).mean((2, 3, 4)))


KINDS = ("skip", "dropout", "relu", "own", "view")


def plain_head(net: Net, a: Tensor, x: Tensor) -> Tensor:
    """The same without writes: `a` is the layer's output, `x` what is beside it (view alone)."""
    if net.kind == "view":
        whole = torch.cat([a, x[:, 3:]], 1).relu()
        y = net.conv(whole)
        y = torch.cat([y[:, :3] + a.relu(), y[:, 3:]], 1)
    else:
        a = a.relu() if net.kind in ("skip", "dropout") else a
        y = net.conv(a) + a
    return net.fc((y * y).mean((2, 3, 4)))


def output_of(net: Net, image: Tensor) -> tuple[Tensor, Tensor]:
    x = net.stem(image).detach()
    kept = {"relu": lambda: x.relu(), "own": lambda: x.clamp(min=-0.1), "view": lambda: x[:, :3]}
    return kept.get(net.kind, lambda: x)().clone(), x


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 9, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_computes_what_it_computes_without_a_hook(kind, image):
    net = Net(kind).eval()
    with torch.no_grad():
        expected = net(image)
    for layer in ("shared", "stem", ["shared", "stem"]):
        for method in (rc.RespondCAM, rc.GradCAM, rc.IntegratedRespondCAM, rc.AblationCAM):
            found = method(net, layer=layer)(image, target=1)
            for one in found if isinstance(layer, list) else [found]:
                torch.testing.assert_close(one.scores, expected[:, 1:2])


@pytest.mark.parametrize("kind", KINDS)
def test_map_and_baseline_count_every_name_of_the_output(kind, image):
    net = Net(kind).eval()
    activation, x = output_of(net, image)
    activation.requires_grad_(True)
    score = plain_head(net, activation, x)[:, 1]
    (gradient,) = torch.autograd.grad(score.sum(), activation)
    found = rc.HiResCAM(net, layer="shared")(image, target=1)
    torch.testing.assert_close(found.maps[:, 0], (activation * gradient).sum(1).detach())
    zero = plain_head(net, torch.zeros_like(activation), x)[:, 1:2].detach()
    torch.testing.assert_close(found.account.baseline.float(), zero)
    together = rc.HiResCAM(net, layer=["stem", "shared"])(image, target=1)
    torch.testing.assert_close(together[1].maps, found.maps)


@pytest.mark.parametrize("kind", KINDS)
def test_the_integrated_account_closes(kind, image):
    found = rc.IntegratedRespondCAM(Net(kind).eval(), layer="shared", nodes=64)(image, target=0)
    assert found.account.relative_gap.max() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_ablation_is_a_pass_for_each_channel(kind, image):
    net = Net(kind).eval()
    activation, x = output_of(net, image)
    own = plain_head(net, activation, x)[:, 0]
    expected = torch.zeros_like(activation[:, 0])
    for channel in range(activation.shape[1]):
        without = activation.clone()
        without[:, channel] = 0
        weight = (own - plain_head(net, without, x)[:, 0]) / own
        expected += weight.view(-1, 1, 1, 1) * activation[:, channel]
    found = rc.AblationCAM(net, layer="shared")(image, target=0)
    torch.testing.assert_close(found.maps[:, 0], expected.detach(), rtol=1e-4, atol=1e-5)


def test_first_and_later_maps_are_the_same_and_so_are_those_in_a_graph(image):
    net = Net("skip").eval()
    explain = rc.RespondCAM(net, layer="shared")
    first, again = explain(image, target=0), explain(image, target=0)
    assert torch.equal(first.maps, again.maps)
    graph = explain(image.clone().requires_grad_(True), target=0, create_graph=True)
    torch.testing.assert_close(graph.maps.detach(), first.maps)
    graph.maps.square().sum().backward()
    assert net.stem.weight.grad is not None


@pytest.mark.parametrize(
    ("view", "method"),
    [
        *[("slice", one) for one in (rc.RespondCAM, rc.AblationCAM, rc.IntegratedRespondCAM)],
        ("chunk", rc.RespondCAM),  # of which no network can be trained that is written so
    ],
)
def test_views_made_before_a_layer_writes_in_place_can_be_read(view, method, image):
    class Viewed(Net):
        def head(self, x):
            part = x[:, :2] if view == "slice" else x.chunk(2, 1)[0]
            y = self.conv(self.shared(x))
            return self.fc((y * y).mean((2, 3, 4)) + part.mean())

    net = Viewed("relu").eval()
    with torch.no_grad():
        expected = net(image)
    for _ in range(2):
        found = method(net, layer="shared")(image, target=0)
        torch.testing.assert_close(found.scores, expected[:, :1])


@pytest.mark.parametrize("norm", [nn.InstanceNorm3d, nn.BatchNorm3d, nn.Identity])
@pytest.mark.parametrize("used", [True, False])
def test_a_layer_writes_in_place_to_what_a_norm_gives(norm, used, image):
    class Block(Net):
        def __init__(self):
            super().__init__("relu")
            self.norm = norm(4)  # an instance norm gives a view

        def head(self, x):
            x = self.norm(x)
            y = self.shared(x)
            y = self.conv(y if used else x) + x
            return self.fc((y * y).mean((2, 3, 4)))

    net = Block().eval()
    activation = net.norm(net.stem(image)).relu().detach().requires_grad_(True)
    y = net.conv(activation) + activation
    score = net.fc((y * y).mean((2, 3, 4)))[:, 1]
    (gradient,) = torch.autograd.grad(score.sum(), activation)
    for _ in range(2):
        found = rc.HiResCAM(net, layer="shared")(image, target=1)
        torch.testing.assert_close(found.maps[:, 0], (activation * gradient).sum(1).detach())


@pytest.mark.parametrize("norm", [nn.InstanceNorm3d, nn.BatchNorm3d])
@pytest.mark.parametrize("view", [False, True])
def test_a_layer_that_writes_in_place_within_a_block_without_gradients(norm, view, image):
    class Frozen(Net):
        def __init__(self):
            super().__init__("relu")
            self.norm = norm(4)

        def forward(self, image):
            with torch.no_grad():  # a backbone that is not trained
                x = self.norm(self.stem(image))
                part = x[:, :2] if view else x
                x = self.shared(x)
            y = self.conv(x)
            return self.fc((y * y).mean((2, 3, 4)) + part.mean())

    net = Frozen().eval()
    expected = net(image).detach()[:, 1:2]
    for layer in ("shared", ["shared", "norm"]):
        for _ in range(2):
            found = rc.RespondCAM(net, layer=layer)(image, target=1)
            for one in found if isinstance(found, tuple) else [found]:
                torch.testing.assert_close(one.scores, expected)
                assert one.maps.any()


@pytest.mark.parametrize("create_graph", [False, True])
def test_one_dropout_at_several_places_of_a_network(create_graph, image):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv = nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3, padding=1)
            self.drop, self.fc = nn.Dropout(), nn.Linear(4, 3)

        def forward(self, x):
            skip = self.stem(x)
            x = self.drop(self.conv(skip))
            x += skip
            x = self.drop(torch.sigmoid(self.conv(x)))
            return self.fc(x.mean((2, 3, 4)))

    net = Shared().eval()
    for _ in range(2):
        for call in (0, 1):
            explain = rc.RespondCAM(net, layer=f"drop#{call}")
            found = explain(image, target=1, create_graph=create_graph)
            torch.testing.assert_close(found.scores[:, 0], net(image)[:, 1])


def test_memory_that_holds_a_voxel_several_times_is_refused_in_words(image):
    class Spread(nn.Module):
        def forward(self, x):
            return x.mean((2, 3, 4), keepdim=True).expand(-1, -1, 3, 3, 3)

    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.spread, self.fc = nn.Conv3d(1, 4, 3), Spread(), nn.Linear(4, 2)
            self.beside = nn.Identity()

        def forward(self, x):
            spread = self.spread(self.stem(x))
            beside = self.beside(spread)
            spread._base.mul_(2)
            return self.fc((beside + spread).mean((2, 3, 4)))

    with pytest.raises(LayerError, match="also uses elsewhere"):
        rc.RespondCAM(Writing().eval(), layer="beside")(image, target=0)


@pytest.mark.parametrize("method", [rc.AblationCAM, rc.ScoreCAM, rc.IntegratedRespondCAM])
def test_copies_behind_a_layer_in_place_run_in_the_head_alone(method, image):
    def counted(inplace: bool) -> tuple[list[list[int]], Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv3d(1, 8, 3), nn.ReLU(inplace), nn.Dropout(inplace=inplace)),
            *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)),
        ).eval()
        batches: list[int] = []
        net[0].register_forward_hook(
            lambda module, args, output: None if output.is_meta else batches.append(len(output))
        )
        found, passes = method(net, layer="1"), list[list[int]]()
        for _ in range(2):
            maps = found(image[:1], target=1).maps
            passes.append(list(batches))
            batches.clear()
        return passes, maps

    (passes, maps), (expected, plain) = counted(inplace=True), counted(inplace=False)
    assert passes == expected
    assert passes[1] == [1]
    torch.testing.assert_close(maps, plain)

"""Networks that write to their own buffers, in evaluation mode too, come back as they were."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.errors import RespondCAMWarning


class Writing(nn.Module):
    """Keeps a running mean and a counter, each written in another way."""

    def __init__(self, how: str, size: int = 4):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.first, self.last = nn.Conv3d(1, 4, 3, 2, 1), nn.Linear(4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        if self.how == "in place":
            self.mean[:4].mul_(0.9).add_(0.1)
        elif self.how == "from the features":
            self.mean[:4].add_(y.mean((0, 2, 3, 4)))
        elif self.how == "data":
            self.mean.data[:4] += 1
        else:
            self.mean = self.mean + 1
        return self.last((y - self.mean[None, :4, None, None, None]).relu().mean((2, 3, 4)))


METHODS = ["respond", "integrated-respond", "ablation", "grad", "score", "eigen"]


@pytest.mark.parametrize("how", ["in place", "from the features", "data", "replaced"])
@pytest.mark.parametrize("method", METHODS)
def test_buffers_are_what_they_were(how: str, method: str) -> None:
    model, x = Writing(how).eval(), torch.randn(1, 1, 8, 8, 8)
    buffer = model.mean
    explainer = rc.METHODS[method](model, "norm")
    found = [explainer(x, target=1) for _ in range(2)]
    assert model.mean is buffer
    assert not model.mean.any()
    assert not model.mean.requires_grad
    # and so the same input has the same map, however often it is explained
    torch.testing.assert_close(found[0].maps, found[1].maps, rtol=0, atol=0)
    with torch.no_grad():
        assert float(found[0].account.score) == float(model(x)[0, 1])


def test_a_network_in_training_mode_keeps_its_running_means() -> None:
    model, x = Writing("in place").train(), torch.randn(4, 1, 8, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rc.RespondCAM(model)(x, target="all")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_first_change_of_a_large_buffer_is_said_and_later_ones_are_undone() -> None:
    model, x = Writing("in place", size=2**19), torch.randn(1, 1, 8, 8, 8)
    explainer = rc.RespondCAM(model, "norm")
    with pytest.warns(RespondCAMWarning, match="buffer 'mean' of Writing"):
        explainer(x, target=1)
    after = model.mean.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer(x, target=1)
    assert torch.equal(model.mean, after)


def test_differentiable_maps_leave_buffers_too() -> None:
    model, x = Writing("in place"), torch.randn(1, 1, 8, 8, 8)
    rc.RespondCAM(model, "norm")(x, target=1, create_graph=True).maps.square().sum().backward()
    assert not model.mean.any()
    assert model.first.weight.grad is not None

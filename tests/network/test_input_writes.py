"""Whether a model writes to its input: told by the trace, and what the passes make of it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.errors import ModelError
from respondcam.network.layout import trace_layers
from respondcam.network.split import split_pass


def multiply(x: Tensor) -> Tensor:
    return x.mul_(2)


def clamp_a_view(x: Tensor) -> Tensor:
    x[:, :, 2:].clamp_(0)
    return x


def rectify(x: Tensor) -> Tensor:
    return torch.relu_(x)


def past_autograd(x: Tensor) -> Tensor:
    x.data.add_(1)
    return x


def into_one_place(x: Tensor) -> Tensor:
    x[0, 0, 0] = 0
    return x


def through_another_shape(x: Tensor) -> Tensor:
    x.view(-1).add_(1)
    return x


def as_result(x: Tensor) -> Tensor:
    torch.add(x, 1, out=x)
    return x


def into_a_copy(x: Tensor) -> Tensor:
    return x.clone().add_(1)


def nothing(x: Tensor) -> Tensor:
    return x.permute(0, 1, 4, 3, 2).contiguous() + 1


WRITING = [
    multiply,
    clamp_a_view,
    rectify,
    past_autograd,
    into_one_place,
    through_another_shape,
    as_result,
]


class First(nn.Module):
    """Does something to its input first."""

    def __init__(self, first: Any) -> None:
        super().__init__()
        self.first, self.conv, self.head = first, nn.Conv3d(1, 2, 3), nn.Linear(2, 3)
        # Open for every draw of the weights, so that no map is empty.
        nn.init.constant_(self.conv.bias, 8.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.first(x)).relu().mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("first", [*WRITING, into_a_copy, nothing])
def test_the_trace_tells(first: Any) -> None:
    model = First(first)
    trace = trace_layers(model, {"conv": model.conv}, torch.rand(1, 1, 6, 6, 6))["conv"]
    assert trace.writes_input == (first in WRITING)


@pytest.mark.parametrize("first", [*WRITING, into_a_copy, nothing])
@pytest.mark.parametrize("caller", ["plain", "inference"])
def test_the_callers_tensor_stays_and_the_map_is_right(first: Any, caller: str) -> None:
    model = First(first).eval()
    with torch.inference_mode(caller == "inference"):
        x = torch.randn(1, 1, 6, 6, 6)
        before = x.clone()
        explanation = rc.RespondCAM(model, layer="conv")(x, target=1)
    assert isinstance(explanation, rc.Explanation)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(explanation.scores, model(before.clone())[:, 1:2].detach())


def test_values_that_decide_are_not_relied_on() -> None:
    def sometimes(x: Tensor) -> Tensor:
        return x.mul_(2) if float(x.detach().mean()) > 100 else x

    model = First(sometimes)
    trace = trace_layers(model, {"conv": model.conv}, torch.rand(1, 1, 6, 6, 6))["conv"]
    assert trace.writes_input


def test_a_model_that_augments_in_training_only_is_left_out_of_training() -> None:
    class Augmenting(First):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.add_(1) if self.training else x)

    model, x = Augmenting(nothing).train(), torch.rand(1, 1, 6, 6, 6)
    before = x.clone()
    assert not trace_layers(model, {"conv": model.conv}, x)["conv"].writes_input
    rc.RespondCAM(model, layer="conv")(x, target=0)
    assert torch.equal(x, before)
    assert model.training


def test_a_write_that_was_not_announced_is_an_error() -> None:
    model, x = First(multiply), torch.rand(1, 1, 6, 6, 6)
    with pytest.raises(ModelError, match="wrote to its own input"):
        split_pass(
            model,
            {"conv": model.conv},
            x,
            lambda output: output,
            lambda name, call, a, g: a,
            writes_input=False,
        )


def test_a_second_run_starts_from_the_same_input() -> None:
    class Around(First):
        def forward(self, x: Tensor) -> Tensor:
            x = x.mul_(2)
            with torch.no_grad():  # so that a second run is needed
                return super().forward(x)

    model, x = Around(nothing).eval(), torch.rand(1, 1, 6, 6, 6)
    explanation = rc.RespondCAM(model, layer="conv")(x, target=0)
    assert isinstance(explanation, rc.Explanation)
    torch.testing.assert_close(explanation.scores, model(x.clone())[:, :1].detach())


def test_no_copy_is_made_where_none_is_needed() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        if not x.is_meta:
            seen.append(x.data_ptr())
        return x + 1

    x = torch.rand(1, 1, 6, 6, 6)
    rc.RespondCAM(First(look).eval(), layer="conv")(x, target=0)
    assert seen == [x.data_ptr()]

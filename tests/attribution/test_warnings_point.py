"""Warnings of an explanation point at the line that asked for it."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import respondcam as rc
from respondcam.errors import EmptyMapWarning, PlacementWarning, RespondCAMWarning


class Scrambled(nn.Module):
    """A layer whose place is lost, and scores that leave its map empty."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3, padding=1)
        self.fc = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.fc(torch.relu(self.conv(x)).mean(2) * 0), dim=1)


def here(call: Callable[[], Any], category: type[Warning]) -> None:
    """The warning is at the one line of `call`, which lies in this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    found = [one for one in caught if one.category is category]
    assert found
    line = inspect.getsourcelines(call)[1]
    for one in found:
        assert (one.filename, one.lineno) == (__file__, line), one


@pytest.mark.parametrize("category", [EmptyMapWarning, RespondCAMWarning])
def test_every_way_to_explain(category: type[Warning]) -> None:
    model, image = Scrambled(), torch.randn(1, 1, 8)
    explainer = rc.RespondCAM(model, "conv")
    here(lambda: rc.explain(model, image, layer="conv"), category)
    here(lambda: rc.RespondCAM(model, "conv")(image), category)
    here(lambda: explainer(image), category)
    here(lambda: rc.GradCAM(model, "conv")(image), category)


def test_a_layer_without_a_place() -> None:
    class Lost(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            turned = torch.fft.fft(x).real
            return torch.relu(self.conv(turned)).mean(2)

    model = Lost()
    here(lambda: rc.RespondCAM(model, "conv")(torch.randn(1, 1, 8)), PlacementWarning)


def test_names_that_do_not_fit() -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    found = rc.RespondCAM(model, "0")(torch.randn(1, 1, 8))
    here(lambda: found.named(["one", "two", "three"]), RespondCAMWarning)

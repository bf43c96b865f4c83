"""What tests of families of networks share: catalogue, one score of any output, and warnings."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
FAMILIES = importlib.import_module("families.catalogue").FAMILIES

# of other people's code, while it is imported or run
WARNINGS_OF_OTHERS = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.meshgrid.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:arch_code not provided:UserWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* is called .* times"),
]


def weighted(output: Tensor) -> Tensor:
    """One score per sample from any output: the second class (or channel), or the only one."""
    column = output[:, min(1, output.shape[1] - 1)]
    if column.ndim == 1:
        return column
    flat = column.flatten(1)  # weights that differ: after a norm the plain mean is a constant
    return (flat * torch.arange(flat.shape[1]).sin().to(flat)).mean(dim=1)

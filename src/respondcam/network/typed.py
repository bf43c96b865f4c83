"""What torch gives without a type, given one: each here and nowhere else."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# torch's own signatures, which these functions stand before, say nothing of types.

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def named_modules(model: nn.Module, *, every_name: bool = False) -> dict[str, nn.Module]:
    """Modules of a model by dotted name, the model itself by the empty one.

    A module in several places has the first name, or with `every_name` all of them.

    Examples
    --------
    >>> relu = nn.ReLU()
    >>> list(named_modules(nn.Sequential(relu, relu)))
    ['', '0']
    >>> list(named_modules(nn.Sequential(relu, relu), every_name=True))
    ['', '0', '1']
    """
    return dict(model.named_modules(remove_duplicate=not every_name))


def class_name(module: nn.Module) -> str:
    """What a module says it is.

    Examples
    --------
    >>> class_name(nn.ReLU())
    'ReLU'
    """
    return module._get_name()  # pyright: ignore[reportPrivateUsage]


def from_array(array: np.ndarray) -> Tensor:
    """A tensor on the memory of an array.

    Examples
    --------
    >>> from_array(np.zeros(2))
    tensor([0., 0.], dtype=torch.float64)
    """
    return torch.from_numpy(array)


def numbers(tensor: Tensor) -> Any:
    """Numbers of a tensor in lists that are nested as its axes are; a number, where it has none.

    Examples
    --------
    >>> numbers(torch.eye(2)), numbers(torch.tensor(3))
    ([[1.0, 0.0], [0.0, 1.0]], 3)
    """
    return tensor.tolist()


def norms(tensor: Tensor, dim: int) -> Tensor:
    """Euclidean lengths along a dimension.

    Examples
    --------
    >>> norms(torch.tensor([[3.0, 4.0]]), dim=1)
    tensor([5.])
    """
    return tensor.norm(dim=dim)


def symmetric_eigen(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of symmetric matrices, rising, and the eigenvectors as columns.

    Examples
    --------
    >>> symmetric_eigen(torch.diag(torch.tensor([2.0, 1.0])))[0]
    tensor([1., 2.])
    """
    values, vectors = torch.linalg.eigh(matrices)
    return values, vectors


def load_program(path: str | Path) -> torch.jit.ScriptModule:
    """Read a TorchScript program onto the CPU."""
    return torch.jit.load(path, map_location="cpu")

"""Baselines: the activation that a map's account, or a path, starts from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from respondcam.attribution.inputs import Inputs, as_tensors
from respondcam.errors import InputError, LayerError
from respondcam.network.layers import find_layer
from respondcam.network.split import run_head

Baseline = Callable[[Tensor], Tensor]
"""Activation -> the baseline activation A0 that the account compares with."""
BaselineSpec = Tensor | Baseline | float | int | str | None
"""What a user may give for one; see `as_baseline`."""


def as_baseline(baseline: BaselineSpec) -> Baseline:
    """Turn what a user gives into a function of the activation.

    Parameters
    ----------
    baseline
        None or ``"zero"``; ``"mean"``, each channel's own mean over the grid, sample by sample; a
        number; a tensor that broadcasts to the layer's output, such as `activation_of` gives; or a
        callable from the layer's output to a tensor of its shape.

    Raises
    ------
    InputError
        For anything else, and, once it is used, for a shape that does not fit.

    Examples
    --------
    >>> as_baseline("mean")(torch.tensor([[[1.0, 3.0]]]))
    tensor([[[2., 2.]]])
    """
    if baseline is None or (isinstance(baseline, str) and baseline == "zero"):
        return torch.zeros_like
    if isinstance(baseline, str) and baseline == "mean":
        return _mean
    if isinstance(baseline, (int, float)) and not isinstance(baseline, bool):
        return _fitted(lambda _: torch.tensor(float(baseline)))
    if isinstance(baseline, Tensor):
        fixed = baseline.detach()
        return _fitted(lambda _: fixed)
    if not callable(baseline):
        raise InputError(
            f"baseline={baseline!r} is none of 'zero', 'mean', a number, a tensor, or a callable "
            f"from the layer's output to a tensor of its shape."
        )
    return _fitted(baseline)


def activation_of(model: nn.Module, layer: str | nn.Module, inputs: Inputs) -> Tensor:
    """Output of a layer for some input, as a baseline for others: a blank image, a mean image.

    Parameters
    ----------
    model, layer, inputs
        As for every `Explainer`; one sample serves batches of any size.

    Raises
    ------
    LayerError
        If there is no such layer, or it is not called.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> activation_of(model, "1", torch.zeros(1, 1, 4, 4, 4)).shape
    torch.Size([1, 2, 2, 2, 2])
    """
    found = find_layer(model, layer)
    seen: list[Tensor] = []

    def keep(activation: Tensor) -> Tensor:
        seen.append(activation.detach().clone())
        return activation

    # `calls=1` shows every call of the layer
    run_head(model, (found.name, found.module), as_tensors(inputs, model), keep)
    if not seen or (found.call or 0) >= len(seen):
        raise LayerError(
            f"Layer {found.label!r} is called {len(seen)} times in the forward pass, so it has no "
            f"activation to take as a baseline."
        )
    return seen[-1 if found.call is None else found.call]


def check_nodes(nodes: Any) -> None:
    """Refuse a number of nodes that a user gave and that is none.

    Raises
    ------
    InputError
        If it is no whole number, or less than one.
    """
    if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
        raise InputError(f"nodes={nodes!r}: give a whole number of at least 1.")


def _mean(activation: Tensor) -> Tensor:
    grid = tuple(range(2, activation.ndim))
    return activation.mean(dim=grid, keepdim=True).expand_as(activation)


def _fitted(baseline: Callable[[Tensor], Any]) -> Baseline:
    def fitted(activation: Tensor) -> Tensor:
        given = baseline(activation)
        if not isinstance(given, Tensor):
            raise InputError(
                f"The baseline gave {type(given).__name__}. It must give a tensor that broadcasts "
                f"to the layer's output {tuple(activation.shape)}."
            )
        try:
            return given.to(activation).expand_as(activation)
        except RuntimeError:
            raise InputError(
                f"baseline has shape {tuple(given.shape)}, the layer's output "
                f"{tuple(activation.shape)}. Give a tensor that broadcasts to it."
            ) from None

    return fitted

"""A copy of a network whose weights are lost layer by layer, from the top."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from respondcam.errors import ModelError
from respondcam.network.calling import call_model, unwrap
from respondcam.network.hooks import hook_after
from respondcam.network.state import undisturbed
from respondcam.network.trees import map_tensors, private_copy


def randomised_from_the_top(
    model: nn.Module, inputs: Any, *, seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """Give the name of the layer that was randomised last, and the network, step after step.

    The network is one deep copy, in evaluation mode, that loses one more layer in each step; the
    model itself is not touched. Layers are all modules that hold parameters of their own, the one
    that runs last first. Modules that can draw their initial weights do; others get noise of the
    deviation that their weights have.

    Parameters
    ----------
    inputs
        Tensors as the model takes them, to find the order in which layers run.

    Raises
    ------
    ModelError
        If the network cannot be copied, or has no weights.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [name for name, _ in randomised_from_the_top(net, torch.ones(1, 4))]
    ['2', '0']
    """
    try:
        lost = copy.deepcopy(unwrap(model))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ModelError(
            f"The network cannot be copied ({error}), so its weights cannot be randomised."
        ) from error
    lost.eval()
    names = _running_order(lost, inputs)
    if not names:
        raise ModelError("The network has no weights, so there is nothing to randomise.")
    modules = dict(lost.named_modules())
    devices = {p.device for p in lost.parameters() if p.device.type == "cuda"}
    for step, name in enumerate(reversed(names)):
        with torch.random.fork_rng(devices=sorted(d.index or 0 for d in devices)), torch.no_grad():
            torch.manual_seed(seed + step)
            _randomise(modules[name])
        yield name, lost


def _running_order(model: nn.Module, inputs: Any) -> list[str]:
    """Modules with parameters of their own, by the time of their last call; uncalled ones last."""
    holders = {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }
    called: dict[str, None] = {}

    def note(name: str) -> Any:
        def hook(*_: Any) -> None:
            called.pop(name, None)
            called[name] = None

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in holders.items():
            hook_after(stack, module, note(name))
        with undisturbed(model):
            call_model(model, map_tensors(private_copy, inputs))
    return [name for name in holders if name not in called] + list(called)


def _randomise(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        _draw(parameter)


def _draw(parameter: Tensor) -> None:
    spread = parameter.std() if parameter.numel() > 1 else parameter.abs().mean()
    parameter.normal_().mul_(spread if bool(spread > 0) else 1.0)

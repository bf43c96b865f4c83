"""How a network is called: what a wrapper holds, with what inputs, and how a failure is worded."""

import contextlib
import weakref
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from respondcam._readers import is_typed
from respondcam.errors import InputError, ModelError, is_out_of_memory
from respondcam.network.failures import cannot_run
from respondcam.network.precision import cast_trunk
from respondcam.network.taps import HookShim
from respondcam.network.torchscript import in_python
from respondcam.network.trees import map_tensors, modules_of, weights
from respondcam.network.typed import named_modules

INPUT = "input"
"""Name of the pseudo-layer that stands for the network's own input; see `input_name`."""

_with_hooks: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()  # that ask a tensor for its gradient


def call_cast(model: nn.Module, inputs: Any) -> Any:
    """`call_model` with the trunk in the precision that is asked for."""
    with cast_trunk(inputs) as arguments:
        return call_model(model, arguments)


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call `model` with a tensor, a tuple (positional) or a dict (by keyword).

    Raises
    ------
    ModelError
        If the model does not run on these inputs; the original error is the cause.
    """
    try:
        with HookShim() if model in _with_hooks else contextlib.nullcontext():
            if isinstance(inputs, Mapping):
                return model(**inputs)
            if isinstance(inputs, (tuple, list)):
                return model(*inputs)
            return model(inputs)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a network may raise anything
        # in Python it is for the caller's program, whose own it may be, as behind a signal
        if is_out_of_memory(error) or (isinstance(error, SystemExit) and not is_typed()):
            raise
        if HookShim.is_wanted(error):
            _with_hooks.add(model)  # the pass that follows this one runs
        raise cannot_run(model, inputs, error) from error


def input_name(model: nn.Module) -> str:
    """How the network's own input is named: "input", unless a part of the network is named so.

    Examples
    --------
    >>> input_name(nn.Sequential())
    'input'
    >>> input_name(nn.ModuleDict({"input": nn.Conv3d(1, 2, 3)}))
    ':input'
    """
    named = any(name == INPUT for name, _ in model.named_children())
    return f":{INPUT}" if named else INPUT


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel and torch.compile's wrapper.

    A TorchScript program is given as the module that runs it layer by layer.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = cast("nn.Module", model.module)
        elif type(model).__name__ == "OptimizedModule" and hasattr(model, "_orig_mod"):
            # torch._dynamo takes seconds to import, so the wrapper is known by its name.
            model = cast("nn.Module", model._orig_mod)
        else:
            return in_python(model)


def scattered(model: nn.Module, inputs: Any) -> Any:
    """Inputs where a parallel wrapper with GPUs puts them: on the device of the network inside it.

    Any other model is given its inputs as they are.
    """
    wrapper = isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel))
    found = next(model.parameters(), None) if wrapper and model.device_ids else None
    if found is None:
        return inputs
    home = found.device
    return map_tensors(lambda tensor: tensor.to(home), inputs)


def is_transformed() -> bool:
    """Whether this runs inside of torch.vmap or one of torch.func's transforms.

    Examples
    --------
    >>> is_transformed(), bool(torch.vmap(lambda x: x * is_transformed())(torch.ones(1)))
    (False, True)
    """
    torch_c: Any = torch._C  # pyright: ignore[reportPrivateUsage]
    return torch_c._functorch.peek_interpreter_stack() is not None


def refuse_unhookable(model: nn.Module) -> None:
    """Raise a worded error for models in which no hook can work."""
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelError(f"The model must be a torch.nn.Module, not {type(model).__name__}.")
    if any(isinstance(module, torch.jit.ScriptModule) for module in modules_of(model)):
        found = named_modules(model).items()
        scripted = [name for name, m in found if isinstance(m, torch.jit.ScriptModule)]
        raise ModelError(
            f"The model's part {scripted[0]!r} is TorchScript, whose compiled code calls no hooks. "
            f"Put respondcam.network.torchscript.as_module(part) in its place."
        )
    if is_transformed():
        raise ModelError(
            "Maps cannot be made inside torch.vmap or torch.func transforms. Call the explainer "
            "outside of them, with a batch of inputs."
        )
    if any(t.is_inference() for t in weights(model, buffers=True)):
        raise ModelError(
            "The model was built under torch.inference_mode(), so autograd can never use its "
            "parameters. Build or load it outside, or pass copy.deepcopy(model) made outside."
        )

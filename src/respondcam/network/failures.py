"""What is said where a network does not run on an input, or has no gradient at a layer."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from respondcam._kinds import is_listed, is_mapping
from respondcam._readers import way
from respondcam.errors import LayerError, ModelError
from respondcam.network.misfits import remedy
from respondcam.network.trees import tensors, weights
from respondcam.network.typed import class_name


def lists() -> str:
    """What lists a network's layers, for messages."""
    return way(python="respondcam.inspect(model, example)", command_line="respondcam layers")


def no_gradient(name: str) -> LayerError:
    """A worded error for a layer that the score does not depend on."""
    return LayerError(
        f"The score does not depend on layer {name!r}: no gradient leads from the score to it. "
        f"Either this target does not use the layer, or the network cuts the gradient after it "
        f"(.detach(), .data, torch.inference_mode(), an operation without a gradient such as "
        f"argmax or a quantised layer, or reentrant activation checkpointing). Choose another "
        f"layer or target; {lists()} lists the layers that gradient reaches."
    )


def not_differentiable(model: nn.Module, error: Exception) -> LayerError:
    """A worded error for a backward pass that failed; inference alone may work in such a model."""
    said = str(error)
    if "use_reentrant" in said:
        fix = "Its activation checkpointing is reentrant: give it use_reentrant=False."
    elif "inplace operation" in said:
        fix = (
            "Behind the layer it writes over numbers that the gradient needs (an operation that "
            "ends in '_', or inplace=True): that does no harm in inference, but training would "
            "fail in the same way. Make the operation out of place, or choose a later layer."
        )
    else:
        fix = "Choose a later layer."
    return LayerError(
        f"The model {class_name(model)} has no gradient from the score to the layer. {fix} "
        f"PyTorch said: {_first_line(error)}."
    )


def refuse_without_values(model: nn.Module) -> None:
    """Raise ModelError if parameters or buffers of a network are still to be given values.

    Examples
    --------
    >>> refuse_without_values(nn.Conv3d(1, 2, 3))
    >>> refuse_without_values(nn.Conv3d(1, 2, 3, device="meta"))
    Traceback (most recent call last):
    respondcam.errors.ModelError: The model Conv3d has parameters without values...
    """
    for tensor in weights(model, buffers=True):
        if torch.nn.parameter.is_lazy(tensor):
            why = (
                "lazy layers take their sizes from the first image. Run the network once on an "
                "example of the right size under torch.no_grad() where it is built"
            )
        elif tensor.is_meta:
            why = (
                "they are on the device 'meta'. Build it on the processor, or give them room with "
                "model.to_empty(device='cpu'), and load its weights"
            )
        else:
            continue
        raise ModelError(f"The model {class_name(model)} has parameters without values: {why}.")


def no_tensor(output: Any) -> str:
    """What is wrong with an output in which there is no tensor; empty if there is one."""
    if next(tensors(output), None) is not None:
        return ""
    kind = type(output).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    what = "None" if output is None else f"{article} {kind}"
    return (
        f"The model's output is {what}, in which there is no tensor of scores. It must return "
        f"one, (batch, class), or a tuple or dict with one."
    )


def cannot_run(model: nn.Module, inputs: Any, error: BaseException) -> ModelError:
    """A worded error for a forward pass that failed."""
    if isinstance(error, SystemExit):
        return ModelError(
            f"The model {class_name(model)} ended the program (SystemExit: {error.code}) in place "
            f"of giving an output. Leave sys.exit() and exit() out of its code; what it raises in "
            f"their place is told here."
        )
    if isinstance(error, TypeError) and (taken := _other_inputs(model, inputs)):
        return ModelError(taken)
    shapes = ", ".join(f"{tuple(t.shape)} {t.dtype} on {t.device}" for t in tensors(inputs))
    parameter = next(model.parameters(), None)
    where = (
        ""
        if parameter is None
        else f" (its parameters are {parameter.dtype} on {parameter.device})"
    )
    if "DTensor" in str(error):
        fix = "Its parameters are sharded: gather them first, for FSDP2 with model.unshard()."
    else:
        fix = remedy(str(error), [t.shape for t in tensors(inputs)])
    return ModelError(
        f"The model {class_name(model)}{where} does not run on the input {shapes}. "
        f"It said: {type(error).__name__}: {_first_line(error)}. {fix}"
    )


def _other_inputs(model: nn.Module, inputs: Any) -> str:
    """What is wrong with the number or the names of the inputs; empty if they are right."""
    named: Mapping[str, Any] = inputs if is_mapping(inputs) else {}
    placed = () if named else inputs if is_listed(inputs) else (inputs,)
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*placed, **named)
    except TypeError as error:
        count = len(placed) or f"those named {', '.join(named)}"
        several = way(
            python="Give a tuple of tensors, or a mapping from names to tensors",
            command_line="Wrap the network in one that takes one input; in Python an explainer "
            "takes a tuple or a mapping of inputs",
        )
        return (
            f"The model {class_name(model)} takes the inputs ({', '.join(signature.parameters)}) "
            f"and was given {count}: {error}. {several}."
        )
    return ""


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else "no message").rstrip(".")

"""Find the layers that a user means."""

import difflib
from dataclasses import dataclass

from torch import nn

from respondcam.errors import LayerError
from respondcam.network.calling import input_name, unwrap
from respondcam.network.failures import lists
from respondcam.network.torchscript import frozen
from respondcam.network.typed import class_name, named_modules


@dataclass(frozen=True)
class Layer:
    """A layer of a model, and which of its calls is meant.

    Parameters
    ----------
    name
        Dotted name inside the unwrapped model.
    module
        The submodule; the model itself for its input.
    call
        Number of the call that is explained, counted from 0; None when the user named none.
    is_input
        Whether the network's own input is meant.
    """

    name: str
    module: nn.Module
    call: int | None = None
    is_input: bool = False

    @property
    def label(self) -> str:
        """The name as a user would write it."""
        return self.name if self.call is None else f"{self.name}#{self.call}"


def find_layer(model: nn.Module, layer: str | nn.Module) -> Layer:
    """Resolve a name or a module to a `Layer`.

    Parameters
    ----------
    model
        The network; parallel and compiled wrappers are looked through.
    layer
        Dotted name as in ``model.named_modules()``, ``"name#2"`` for the third call of a layer that
        is called several times, ``"input"`` for the input itself (``":input"`` where a layer has
        that name), or the module object.

    Raises
    ------
    LayerError
        If there is no such layer; names that come near are listed.

    Examples
    --------
    >>> find_layer(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), "1").module
    ReLU()
    """
    model = unwrap(model)
    names = named_modules(model, every_name=True)
    if isinstance(layer, nn.Module):
        return _by_module(model, names, layer)
    if not isinstance(layer, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise LayerError(f"A layer is given by name or as a module, not as {layer!r}.")
    name, _, call = layer.partition("#")
    for prefix in ("module.", "_orig_mod."):
        if name not in names:
            name = name.removeprefix(prefix)
    if name in names and name:
        return Layer(name, names[name], _call_number(layer, call))
    if name == input_name(model):
        return Layer(name, model, _call_number(layer, call), is_input=True)
    raise LayerError(
        f"The model {class_name(model)} has no layer {layer!r}. "
        f"{frozen(model) or _near(name, names)} "
        f"{lists()} lists all of them."
    )


def _by_module(model: nn.Module, names: dict[str, nn.Module], layer: nn.Module) -> Layer:
    wanted = unwrap(layer)
    if wanted is model:
        raise LayerError(
            "The layer is the model itself, whose output is the score. Give one of its submodules."
        )
    for name, module in names.items():
        if module is wanted and name:
            return Layer(name, module)
    raise LayerError(
        f"The module {class_name(layer)} given as a layer is not part of the model "
        f"{class_name(model)}. Take it from this very model object."
    )


def _call_number(layer: str, call: str) -> int | None:
    if not call and "#" not in layer:
        return None
    if call.isdecimal():
        return int(call)
    raise LayerError(
        f"In layer {layer!r}, '#' is followed by the number of a call, as in 'conv#0'."
    )


def _near(name: str, names: dict[str, nn.Module]) -> str:
    listed = [n for n in names if n]
    near = difflib.get_close_matches(name, listed, n=5, cutoff=0.5)
    near += [n for n in listed if name and name.lower() in n.lower() and n not in near]
    if near:
        return f"Near names: {', '.join(near[:8])}."
    top = [n for n in listed if "." not in n]
    return f"Its top-level layers: {', '.join(top[:24])}{', ...' if len(top) > 24 else ''}."

"""A TorchScript module as an ordinary one: the same layers, names, parameters and operators.

Compiled code calls no hooks, so its layers cannot be cut open. But a program carries its own
graphs, module by module, scripted and traced alike. `as_module` runs these graphs step by step from
Python, and every call of a submodule is a call of a `torch.nn.Module` again. All that explains a
Python network then explains a program: hooks, the layer's grid, the preflight table.

Parameters and buffers are the program's own tensors, not copies; the program is left alone.

Limits: a frozen program (``torch.jit.freeze``, ``optimize_for_inference``) has no submodules left;
forks, remote calls and classes of TorchScript's own are refused by name.
"""

import threading
import weakref
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from respondcam.errors import ModelError
from respondcam.network.torchscript.program import Program, arguments_of, compiled

_made: "weakref.WeakKeyDictionary[torch.jit.ScriptModule, ProgramModule]" = (
    weakref.WeakKeyDictionary()
)
_lock = threading.RLock()


class _Code:
    """The methods of one module, read when they are first called."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self._programs: dict[str, Program] = {}

    def method(self, name: str) -> Program:
        if name not in self._programs:
            self._programs[name] = compiled(self.source._get_method(name).graph)
        return self._programs[name]


class ProgramModule(nn.Module):
    """One module of a TorchScript program; made by `as_module`.

    Parameters
    ----------
    script
        The module of the program.
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.kind = str(getattr(script, "original_name", type(script).__name__))
        self._code = _Code(script._c)
        self._own: dict[str, Any] = {}  # attributes that are neither tensors of it nor modules
        self.training = getattr(script, "training", False)  # a frozen one has no such flag
        self._take(script)

    def _take(self, script: torch.jit.ScriptModule) -> None:
        """Take over what belongs to the program's module as it is now."""
        own = script.named_parameters(recurse=False, remove_duplicate=False)
        self._parameters.update(own)
        self._buffers.update(script.named_buffers(recurse=False, remove_duplicate=False))
        for name, child in script._modules.items():
            self._modules[name] = as_module(cast("torch.jit.ScriptModule", child))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's graph."""
        name = kwargs.pop(_METHOD, "forward")
        if not self._code.source._has_method(name):
            raise ModelError(f"The TorchScript module {self.kind} has no method {name!r}.")
        schema = self._code.source._get_method(name).schema
        return self._code.method(name).run(self, *arguments_of(schema, args, kwargs))

    def called(self, name: str, arguments: Sequence[Any]) -> Any:
        """Call one of its methods from another module's graph.

        Tracing writes a method of its own (forward1, forward2) for each call of a module.
        """
        if name == "forward":
            return self(*arguments)
        if name.removeprefix("forward").isdecimal():
            return self(*arguments, **{_METHOD: name})
        return self._code.method(name).run(self, *arguments)

    def value(self, name: str) -> Any:
        """One of its attributes, of whatever kind."""
        for store in (self._modules, self._parameters, self._buffers, self._own):
            if name in store:
                return store[name]
        if name == "training":
            return self.training
        value = self._code.source.getattr(name)
        if isinstance(value, (list, dict)):  # the program would change its own
            self._own[name] = value
        return cast("Any", value)

    def set_value(self, name: str, value: Any) -> None:
        """Set one of its attributes, for this module only."""
        if name == "training":
            self.training = bool(value)
            return
        stores: list[dict[str, Any]] = [self._modules, self._parameters, self._buffers]
        next((store for store in stores if name in store), self._own)[name] = value

    def _get_name(self) -> str:
        return self.kind


_METHOD = "__torchscript_method__"


def as_module(script: torch.jit.ScriptModule) -> ProgramModule:
    """The program as a module that takes hooks; the same one as long as the program lives.

    Parameters
    ----------
    script
        From ``torch.jit.script``, ``trace`` or ``load``. It shares its parameters and buffers with
        the result, and is not changed.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # torch's own, about TorchScript's age
    ...     script = torch.jit.trace(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.zeros(1, 2, 2))
    >>> module = as_module(script)
    >>> _ = module.get_submodule("0").register_forward_hook(lambda *_: print("ReLU"))
    >>> module(torch.tensor([[[-1.0, 2.0]]]))
    ReLU
    tensor([[0., 2.]])
    """
    with _lock:
        known = _made.get(script)
        if known is None:
            known = _made[script] = ProgramModule(script)
        else:
            known._take(script)  # pyright: ignore[reportPrivateUsage]
        return known


def frozen(model: nn.Module) -> str:
    """Why a program has no layers to explain; empty where it has some.

    Examples
    --------
    >>> frozen(nn.ReLU())
    ''
    """
    if not isinstance(model, ProgramModule) or any(True for _ in model.children()):
        return ""
    return (
        "This TorchScript program has no layers of its own: torch.jit.freeze and "
        "torch.jit.optimize_for_inference take them away. Give the program as it was before."
    )


def in_python(model: Any) -> Any:
    """The model itself, or its `as_module` if it is a TorchScript program."""
    return as_module(model) if isinstance(model, torch.jit.ScriptModule) else model

"""Checks shapes and types at every call of the package's functions, while the tests run.

Functions of modules and classes alone: those within functions are made anew at every call, and to
wrap one takes a millisecond. jaxtyping, which takes 11 microseconds for a call, watches the modules
that speak of shapes; beartype alone the others.
"""

import importlib.abc
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from types import FunctionType, ModuleType
from typing import Any

from beartype import beartype
from jaxtyping import jaxtyped

Wrap = Callable[[Any], Any]


class _Watching(importlib.abc.Loader):
    """Loads as another loader, then has the functions watched."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        watch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != self._package:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Watching(spec.loader)
        return spec


def watch_package(name: str) -> None:
    """Watch every module of a package that is imported from now on."""
    sys.meta_path.insert(0, _Finder(name))


def watch(module: ModuleType) -> None:
    """Have the functions of a module and the methods of its classes checked at every call."""
    shapes = any(getattr(value, "__module__", "") == "jaxtyping" for value in vars(module).values())
    wrap: Wrap = jaxtyped(typechecker=beartype) if shapes else beartype
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        for function in _functions(value):
            _leave_out_unknown(function)
        if _own(module.__name__, value):
            setattr(module, name, wrap(value))
        elif inspect.isclass(value) and wrap is beartype:
            beartype(value)
        elif inspect.isclass(value):
            _watch_methods(value, wrap)
            if is_dataclass(value):
                wrap(value)


def _functions(of: Any) -> list[FunctionType]:
    values = list(vars(of).values()) if inspect.isclass(of) else [of]
    values += [part for v in values if isinstance(v, property) for part in (v.fget, v.fset)]
    values = [getattr(value, "__func__", value) for value in values]
    return [value for value in values if isinstance(value, FunctionType)]


def _leave_out_unknown(function: FunctionType) -> None:
    """What is imported for type checkers alone, is not known while the tests run."""
    for name, hint in function.__annotations__.items():
        if isinstance(hint, str):
            try:
                eval(hint, function.__globals__)  # the package's own source
            except NameError:
                function.__annotations__[name] = Any


def _watch_methods(of: type, wrap: Wrap) -> None:
    """What jaxtyping does not do for classes."""
    for name, value in list(vars(of).items()):
        if _own(of.__module__, value):
            setattr(of, name, wrap(value))
        elif isinstance(value, classmethod | staticmethod) and _own(of.__module__, value.__func__):
            setattr(of, name, type(value)(wrap(value.__func__)))
        elif isinstance(value, property):
            parts = (value.fget, value.fset, value.fdel)
            setattr(of, name, property(*(part and wrap(part) for part in parts), value.__doc__))


def _own(module: str, value: Any) -> bool:
    """Whether it is a function as it was written there.

    Not one that dataclasses or protocols made, nor one that a decorator turned into something else:
    a context manager is annotated as the generator that it was.
    """
    return (
        isinstance(value, FunctionType)
        and value.__module__ == module
        and not hasattr(value, "__wrapped__")
    )

"""Checks shapes and types at every call of the package's functions, while the tests run.

Functions of modules and classes, and fields of dataclasses. Not functions within functions: they
are made anew at every call, and to wrap one takes a millisecond. jaxtyping, which takes 11
microseconds for a call, watches the modules that speak of shapes; beartype alone the others.
"""

import ast
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, ModuleType
from typing import Any

from beartype import beartype
from jaxtyping import jaxtyped

_MARKS = {True: "__shaped__", False: "__typed__"}
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module with its functions watched; nothing of it is kept on disk."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile(watched(self.get_data(path).decode()), path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != self._package:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def watch_package(name: str) -> None:
    """Watch every module of a package that is imported from now on."""
    sys.meta_path.insert(0, _Finder(name))


def watched(source: str) -> ast.Module:
    """A module's source, with a decorator on everything that is to be watched."""
    tree = ast.parse(source)
    shapes = "jaxtyping" in source
    unknown = set(_for_type_checkers_alone(tree))
    _watch(tree.body, _MARKS[shapes], unknown)
    names = [ast.alias("shaped" if shapes else "typed", _MARKS[shapes])]
    tree.body.insert(_after_the_head(tree), ast.ImportFrom("tests.watching", names, 0))
    return ast.fix_missing_locations(tree)


def shaped(watched: Any) -> Any:
    """For modules that speak of shapes."""
    return jaxtyped(typechecker=beartype)(watched)


def typed(watched: Any) -> Any:
    """For the others; of a dataclass, its fields as they are handed over."""
    if not isinstance(watched, type):
        return beartype(watched)
    made = watched.__dict__["__init__"]
    for name, hint in list(made.__annotations__.items()):
        if isinstance(hint, str):  # may be known to type checkers alone
            del made.__annotations__[name]
    setattr(watched, "__init__", beartype(made))  # noqa: B010  (no method of a type, to pyright)
    return watched


def _watch(body: Sequence[ast.stmt], mark: str, unknown: set[str]) -> None:
    for node in body:
        if isinstance(node, _FUNCTIONS):
            _forget(node, unknown)
            # the innermost: what others make of it, such as a context manager, has other types
            node.decorator_list.append(ast.Name(mark, ast.Load()))
        elif isinstance(node, ast.ClassDef):
            _watch(node.body, mark, unknown)
            if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
                node.decorator_list.insert(0, ast.Name(mark, ast.Load()))
        elif isinstance(node, ast.If | ast.Try):
            _watch(node.body, mark, unknown)
            _watch(node.orelse, mark, unknown)


def _for_type_checkers_alone(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for one in ast.walk(node):
                if isinstance(one, ast.Import | ast.ImportFrom):
                    yield from (name.asname or name.name for name in one.names)


def _forget(function: ast.FunctionDef | ast.AsyncFunctionDef, unknown: set[str]) -> None:
    """Drop hints that name what is imported for type checkers alone: nobody knows it at a call."""
    arguments = function.args
    for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if _names(one.annotation) & unknown:
            one.annotation = None
    if _names(function.returns) & unknown:
        function.returns = None


def _names(hint: ast.expr | None) -> set[str]:
    found: set[str] = set()
    for one in ast.walk(hint) if hint is not None else ():
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            try:
                found |= _names(ast.parse(one.value, mode="eval").body)
            except SyntaxError:  # the shape of an array
                continue
        elif isinstance(one, ast.Name):
            found.add(one.id)
    return found


def _after_the_head(tree: ast.Module) -> int:
    """Behind the docstring and what is imported from the future."""
    at = 1 if ast.get_docstring(tree) is not None else 0
    while at < len(tree.body):
        node = tree.body[at]
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        at += 1
    return at

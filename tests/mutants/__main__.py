"""Change the mathematics in every small way, and see that a test notices.

``python -m tests.mutants`` from the root of the repository; with names of modules, these alone.
A change is made in a child process, in the functions that are loaded already, and the tests of that
module run there. What no test notices is printed, unless `tests/mutants/equivalent.txt` says why it
is no fault.
"""

import argparse
import ast
import importlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
import torch
from tests.mutants.changes import Mutant, mutants

ROOT = Path(__file__).parents[2]
EXPLAINED = Path(__file__).parent / "equivalent.txt"
SECONDS = 120
# what is loaded already cannot be rewritten by pytest, and need not be
_OPTIONS = ("-x", "-q", "--assert=plain", "-p", "no:cacheprovider")
_OPTIONS += ("-W", "ignore::pytest.PytestAssertRewriteWarning")

_REFERENCE = "tests/attribution/test_methods_reference.py"
_PLACING = "tests/attribution/test_placing.py"
_INTEGRATED = "tests/attribution/test_integrated.py"
_QUICK = "tests/mutants/test_mathematics.py"
TESTED: dict[str, tuple[str, ...]] = {
    "attribution.respond": (_QUICK, _REFERENCE),
    "attribution.grad": (_QUICK, _REFERENCE),
    "attribution.grad_plus_plus": (_QUICK, _REFERENCE),
    "attribution.hires": (_QUICK, _REFERENCE),
    "attribution.layer": (_QUICK, _REFERENCE),
    "attribution.account": (_QUICK, _REFERENCE),
    "attribution.quadrature": (_QUICK, _INTEGRATED),
    "attribution.placing": (_QUICK, _PLACING),
    "volume.tents": (_QUICK, _PLACING),
    "network.grid": (_QUICK, _PLACING),
}
"""Module -> the tests that must notice, the fastest first."""


def survivors(name: str) -> Iterator[tuple[Mutant, str]]:
    """Every change of a module, and what became of it: "noticed", "unnoticed" or "explained"."""
    module = importlib.import_module(f"respondcam.{name}")
    explained = EXPLAINED.read_text("utf-8").splitlines() if EXPLAINED.exists() else []
    known = {line.split("  # ")[0].strip() for line in explained if not line.startswith("#")}
    source = Path(str(module.__file__)).read_text("utf-8")
    if _noticed(module, Mutant(0, "nothing", ast.parse(source)), TESTED[name]):
        raise RuntimeError(f"the tests of {name} fail on the code as it is")
    for mutant in mutants(source):
        line = source.splitlines()[mutant.line - 1].strip()
        if f"{name} | {line} | {mutant.what}" in known:
            yield mutant, "explained"
        else:
            yield mutant, "noticed" if _noticed(module, mutant, TESTED[name]) else "unnoticed"


def _noticed(module: ModuleType, mutant: Mutant, tests: tuple[str, ...]) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)  # a change can make a loop endless: that is noticed, too
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        code = 1
        try:
            change(module, mutant)
            code = next((c for one in tests if (c := int(pytest.main([*_OPTIONS, one])))), 0)
        finally:
            os._exit(min(code, 99))
    return os.waitpid(child, 0)[1] != 0


def change(module: ModuleType, mutant: Mutant) -> None:
    """Give the functions of a loaded module the code of the mutant."""
    codes = dict(_codes(compile(mutant.tree, str(module.__file__), "exec"), ""))
    for path, function in _functions(module):
        code = codes.get(path)
        if code is not None and code.co_freevars == function.__code__.co_freevars:
            function.__code__ = code


def _codes(code: CodeType, before: str) -> Iterator[tuple[str, CodeType]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield f"{before}{inner.co_name}", inner
            yield from _codes(inner, f"{before}{inner.co_name}.")


def _functions(owner: Any, before: str = "") -> Iterator[tuple[str, FunctionType]]:
    """The functions that are written in a module or class, without what wraps them."""
    for name, value in vars(owner).items():
        if inspect.isclass(value) and value.__module__ == getattr(owner, "__name__", ""):
            yield from _functions(value, f"{before}{name}.")
        inner = value
        if isinstance(inner, property):
            inner = inner.fget
        elif isinstance(inner, cached_property):
            inner = inner.func
        elif isinstance(inner, staticmethod | classmethod):
            inner = inner.__func__
        while hasattr(inner, "__wrapped__"):
            inner = inner.__wrapped__
        if isinstance(inner, FunctionType):
            yield f"{before}{name}", inner


def main() -> int:
    """Go through the modules and print what no test notices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTED))
    given = parser.parse_args()
    if unknown := set(given.modules) - set(TESTED):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)
    torch.set_num_threads(1)  # a fork has no threads
    failed = 0
    for name in given.modules or TESTED:
        started = time.perf_counter()
        counts = {"noticed": 0, "explained": 0, "unnoticed": 0}
        for mutant, what in survivors(name):
            counts[what] += 1
            if what == "unnoticed":
                sys.stdout.write(f"{name}:{mutant.line}: {mutant.what}\n")
                sys.stdout.flush()
        failed += counts["unnoticed"]
        told = ", ".join(f"{count} {what}" for what, count in counts.items())
        sys.stdout.write(f"{name}: {told}; {time.perf_counter() - started:.0f} s\n")
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

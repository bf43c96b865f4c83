"""Change the mathematics in every small way, and see that a test notices.

``python -m tests.mutants`` from the root of the repository; with names of modules, these alone.
The tests are collected once. A change is made in a child process, in the functions that are loaded
already, and the tests of that module run there: noticed is what makes a test fail, or takes far
more processor time than the code as it is. What no test notices is printed, unless
`tests/mutants/equivalent.txt` says why it is no fault.
"""

import argparse
import ast
import contextlib
import importlib
import inspect
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import hypothesis
import pytest
import torch
from tests.mutants.changes import Mutant, mutants

ROOT = Path(__file__).parents[2]
EXPLAINED = Path(__file__).parent / "equivalent.txt"
SECONDS = 30
"""Of processor time that a change may add to three times what the tests need without it."""
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
    if lost := written(source) - {path for path, _ in _functions(module)}:
        raise RuntimeError(f"functions of {name} that would not be changed: {sorted(lost)}")
    noticed, seconds = _noticed(module, Mutant(0, "nothing", ast.parse(source)), TESTED[name])
    if noticed:
        raise RuntimeError(f"the tests of {name} fail on the code as it is")
    limit = SECONDS + int(3 * seconds)
    used = set()
    for mutant in mutants(source):
        line = source.splitlines()[mutant.line - 1].strip()
        entry = f"{name} | {line} | {mutant.what}"
        if entry in known:
            used.add(entry)
            yield mutant, "explained"
        else:
            noticed, _ = _noticed(module, mutant, TESTED[name], limit)
            yield mutant, "noticed" if noticed else "unnoticed"
    if stale := {entry for entry in known if entry.startswith(f"{name} |")} - used:
        raise RuntimeError(f"{EXPLAINED.name} explains what is no change: {sorted(stale)}")


def collect(names: Iterable[str]) -> None:
    """Load the tests, and with them the library as the tests see it: with shapes checked."""
    # a failure is all that counts: the smallest example for it need not be found
    once = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("once", phases=once, database=None)
    hypothesis.settings.load_profile("once")
    tests = sorted({test for name in names for test in TESTED[name]})
    with _silence():
        code = pytest.main([*_OPTIONS, "--collect-only", *tests])
    if code:
        raise RuntimeError(f"the tests cannot be collected: exit code {int(code)}")


def _noticed(
    module: ModuleType, mutant: Mutant, tests: tuple[str, ...], seconds: int = 3600
) -> tuple[bool, float]:
    """Whether a test fails, and the processor time that the tests took."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            # a change can make a loop endless
            used = resource.getrusage(resource.RUSAGE_SELF)
            limit = int(used.ru_utime + used.ru_stime) + seconds
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            change(module, mutant)
            with _silence():
                code = next((c for one in tests if (c := int(pytest.main([*_OPTIONS, one])))), 0)
        finally:
            os._exit(min(code, 99))
    _, status, took = os.wait4(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return True, seconds
    code = os.waitstatus_to_exitcode(status)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"the tests did not run with {mutant.what!r}: exit code {code}")
    return code != pytest.ExitCode.OK, took.ru_utime + took.ru_stime


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what the block prints, its child processes too, nowhere."""
    sys.stdout.flush()
    kept = [os.dup(1), os.dup(2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        yield
    finally:
        for number, one in enumerate(kept, start=1):
            os.dup2(one, number)
        for one in (*kept, nothing):
            os.close(one)


def change(module: ModuleType, mutant: Mutant) -> None:
    """Give the functions of a loaded module the code of the mutant."""
    codes = dict(_codes(compile(mutant.tree, str(module.__file__), "exec"), ""))
    for path, function in _functions(module):
        if path in codes:
            function.__code__ = codes[path]


def written(source: str) -> set[str]:
    """Names of the functions of a module and of the methods of its classes."""
    body = ast.parse(source).body
    owners = [("", body)] + [(f"{n.name}.", n.body) for n in body if isinstance(n, ast.ClassDef)]
    return {
        f"{before}{node.name}"
        for before, nodes in owners
        for node in nodes
        if isinstance(node, ast.FunctionDef)
    }


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
    collect(given.modules or TESTED)
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

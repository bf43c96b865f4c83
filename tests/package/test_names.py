"""Every name that code uses exists.

Linters cannot tell here: axes in the annotations of jaxtyping look like names that nobody defined.
"""

import builtins
import dis
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import respondcam

NAMES = [
    one.name
    for one in pkgutil.walk_packages(respondcam.__path__, "respondcam.")
    if not one.name.endswith("__main__")
]


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def used(source: str) -> set[str]:
    """Names that functions look up outside themselves."""
    return {
        step.argval
        for code in codes(compile(source, "module", "exec", dont_inherit=True))
        for step in dis.get_instructions(code)
        if step.opname == "LOAD_GLOBAL"
    }


def test_a_name_that_is_missing_is_found() -> None:
    assert "missing" in used("def f():\n    return missing(1)\n")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    source = Path(str(module.__file__)).read_text("utf-8")
    known = set(vars(module)) | set(vars(builtins))
    assert used(source) <= known

"""Every class of errors and warnings has a page, and the page's examples really raise it."""

import ast
import functools
import importlib
import re
from pathlib import Path

from tests.docs.reading import DOCS, blocks

import respondcam

ERRORS = DOCS / "errors"


@functools.cache
def kinds() -> list[type]:
    """`InputError`, `RespondCAMWarning`, and what derives from them anywhere in the package."""
    bases, homes = {}, {}
    for path in Path(respondcam.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base).split(".")[-1] for base in node.bases}
                homes[node.name] = path.relative_to(Path(respondcam.__file__).parents[1])
    found = {"InputError", "RespondCAMWarning"}
    while more := {name for name in bases if bases[name] & found} - found:
        found |= more
    modules = {name: ".".join(homes[name].with_suffix("").parts) for name in found}
    return [getattr(importlib.import_module(modules[name]), name) for name in sorted(found)]


def page_of(kind: type) -> str:
    """``VolumeError`` -> ``volume-error.md``."""
    name = kind.__name__.replace("RespondCAM", "Respondcam")
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() + ".md"


def test_every_class_has_a_page_that_is_listed_and_no_page_is_left_over() -> None:
    expected = {page_of(kind) for kind in kinds()}
    assert {page.name for page in ERRORS.glob("*.md")} == expected | {"index.md"}
    index = (ERRORS / "index.md").read_text("utf-8")
    assert expected <= set(re.findall(r"\]\(([\w-]+\.md)\)", index))


def test_every_page_shows_its_class_being_raised() -> None:
    # the examples themselves run in test_pages
    for kind in kinds():
        shown = "".join(block.code for block in blocks(ERRORS / page_of(kind)))
        raised = rf"^{re.escape(kind.__module__)}\.{kind.__name__}: "
        warned = rf"category\.__name__\n'{kind.__name__}'"
        assert re.search(warned if issubclass(kind, Warning) else raised, shown, re.MULTILINE), kind


def test_every_page_says_what_to_do() -> None:
    for page in ERRORS.glob("*-error.md"):
        assert len(page.read_text("utf-8").split()) > 80, page

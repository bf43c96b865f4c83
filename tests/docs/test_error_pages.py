"""Every class of errors and warnings has a page, and the page's examples really raise it."""

import importlib
import pkgutil
import re

import pytest
from tests.docs.reading import DOCS, blocks

import respondcam
from respondcam.errors import InputError, RespondCAMWarning

ERRORS = DOCS / "errors"


def kinds() -> list[type]:
    """`InputError`, `RespondCAMWarning`, and what derives from them anywhere in the package."""
    for module in pkgutil.walk_packages(respondcam.__path__, "respondcam."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, todo = [], [InputError, RespondCAMWarning]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return [kind for kind in found if kind.__module__.startswith("respondcam.")]


def page_of(kind: type) -> str:
    """``VolumeError`` -> ``volume-error.md``."""
    name = kind.__name__.replace("RespondCAM", "Respondcam")
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() + ".md"


@pytest.mark.slow
def test_every_class_has_a_page_that_is_listed_and_no_page_is_left_over() -> None:
    expected = {page_of(kind) for kind in kinds()}
    assert {page.name for page in ERRORS.glob("*.md")} == expected | {"index.md"}
    index = (ERRORS / "index.md").read_text("utf-8")
    assert expected <= set(re.findall(r"\]\(([\w-]+\.md)\)", index))


@pytest.mark.slow
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

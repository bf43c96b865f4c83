"""Every snippet of every page runs, in the order in which a reader meets it."""

import math
import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from tests.docs.laboratory import furnish, furnish_bundles
from tests.docs.reading import DOCS, PYTHON, ROOT, SCRIPTS, SHELL, SHOWN, blocks, name_of, pages
from tests.docs.running import ELSEWHERE, reader_s_folder, run_page

from respondcam.cli import _batch

# These begin in an empty folder and make all that they need. The other pages find the folder that
# they speak of: a network, weights, scans.
FROM_NOTHING = ("start.md", "tutorials/", "howto/", "errors/")
SLOW = {
    "bundles.md",
    "errors/model-error.md",
    "evidence.md",
    "howto/figures.md",
    "howto/network.md",
    "howto/place.md",
    "howto/segmentation.md",
    "large-volumes.md",
    "report-and-figures.md",
    "start.md",
    "tutorials/comparing.md",
    "tutorials/loss.md",
    "tutorials/mri.md",
    "tutorials/nnunet.md",
    "tutorials/subtomogram.md",
    "tutorials/tomogram.md",
}
# README's run in a real shell, one process each, by tests/package/test_readme.py
PAGES = [page for page in pages() if page.parent != ROOT]


def marked(page: Path):
    name = name_of(page)
    return pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laboratory")
    furnish(folder)
    return folder


@pytest.mark.parametrize("page", [marked(page) for page in PAGES if blocks(page)])
def test_the_page_runs(page: Path, laboratory: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("RESPONDCAM_DEBUG", raising=False)
    # a slow machine says how far it is, which no page shows
    monkeypatch.setattr(_batch, "SECONDS_BETWEEN_LINES", math.inf)
    folder = tmp_path / "here"
    if name_of(page).startswith(FROM_NOTHING):
        folder.mkdir()
    else:
        shutil.copytree(laboratory, folder)
    if name_of(page) == "bundles.md":
        furnish_bundles(folder)
    with reader_s_folder(folder):
        run_page(page)
    plt.close("all")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_is_run_or_plainly_not_code(page: Path) -> None:
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line} is a block of {block.language!r}"
        assert block.language in PYTHON | SHELL | SCRIPTS | SHOWN, where


def test_what_is_not_run_is_little_and_has_a_reason() -> None:
    left_out = [
        f"{name_of(page)}:{block.line}" for page in pages() for block in blocks(page)
        if block.not_run
    ]  # fmt: skip
    assert len(left_out) <= 3, left_out
    commands = [
        command
        for page in pages()
        for block in blocks(page)
        if block.language in SHELL and not block.not_run
        for command, _ in block.commands
    ]
    skipped = [command for command in commands if command.split()[0] in ELSEWHERE]
    assert len(skipped) < 0.2 * len(commands), skipped


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_page_speaks_of_a_machine(page: Path) -> None:
    assert not re.search(r"/(work|home|root|tmp)/", page.read_text("utf-8"))


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    missing = [name_of(page) for page in PAGES if name_of(page) not in navigation]
    assert not missing, missing
    for name in re.findall(r"[\w/-]+\.md", navigation):
        assert (DOCS / name).exists(), name


@pytest.mark.parametrize("page", [*pages(), ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_links_lead_somewhere_in_a_checkout(page: Path) -> None:
    for target in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", without_code(page)):
        file, _, heading = target.partition("#")
        there = page.parent / file if file else page
        assert there.is_file(), f"{name_of(page)}: {target}"
        if heading:
            assert heading in anchors(there), f"{name_of(page)}: {target}"


def without_code(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a heading is linked by: its letters and digits in lower case, joined by hyphens."""
    found = re.findall(r"^#+ (.+)$", without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title.lower()).replace(" ", "-") for title in found}


def test_the_page_of_commands_names_them_all_and_the_site_has_their_help() -> None:
    import importlib.util

    import typer

    from respondcam.cli import app

    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    page = (DOCS / "commands.md").read_text("utf-8")
    named = re.findall(r"^\| `respondcam (\w+)`", page, flags=re.MULTILINE)
    assert sorted(named) == sorted(commands)
    for name in commands:
        assert f"## respondcam {name}\n" in hooks.commands_help()

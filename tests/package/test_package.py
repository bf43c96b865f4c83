"""The package as a whole: light to import, a small set of names, folders that import one way."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import respondcam as rc

SOURCE = Path(rc.__file__).parent
FLOW = ["volume", "network", "attribution", "evidence", "large", "show", "cryoet", "paper", "cli"]
EXPORTED = {
    "AblationCAM",
    "EigenCAM",
    "GuidedBackprop",
    "IntegratedGradients",
    "Occlusion",
    "RefineCAM",
    "SaliencyTubes",
    "ScoreCAM",
    "activation_of",
    "fuse",
    "METHODS",
    "ChannelContributions",
    "Explainer",
    "Explanation",
    "GradCAM",
    "GradCAMPlusPlus",
    "HiResCAM",
    "InputError",
    "IntegratedRespondCAM",
    "LayerCAM",
    "LayerGrid",
    "LayerTable",
    "RespondCAM",
    "ScoreAccount",
    "Volume",
    "__version__",
    "channel_contributions",
    "explain",
    "inspect",
    "read_volume",
    "targets",
    "write_volume",
}


HELP = """
import sys
from respondcam.cli import main
sys.argv = ['respondcam', '--help']
try: main()
except SystemExit: pass
"""


def loaded_by(code: str) -> set[str]:
    report = f"{code}\nimport sys; print(' '.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, encoding="utf-8", check=True
    )
    return set(run.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import respondcam",
        "import respondcam.volume",
        "from respondcam import Volume, read_volume",
        "import respondcam.show.napari",
        HELP,
    ],
)
def test_light_to_import(code: str) -> None:
    heavy = {"torch", "matplotlib", "SimpleITK", "dask", "monai", "scipy", "napari", "qtpy"}
    assert loaded_by(code) & heavy == set()


def test_exactly_these_names_are_exported() -> None:
    assert set(rc.__all__) == EXPORTED
    for name in rc.__all__:
        assert getattr(rc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rc.nothing  # noqa: B018


def test_the_names_of_the_methods_are_known_without_importing_them() -> None:
    from respondcam._methods import METHOD_SUMMARIES

    assert list(METHOD_SUMMARIES) == list(rc.METHODS)


def imports_of(path: Path) -> set[str]:
    """Top-level folders of the package that a module imports when it is imported itself."""
    found: set[str] = set()
    tree = ast.parse(path.read_text("utf-8"))
    late = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in late or node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("respondcam."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("respondcam.")}
    return found & set(FLOW)


@pytest.mark.parametrize("folder", FLOW)
def test_a_folder_imports_only_from_those_before_it(folder: str) -> None:
    allowed = set(FLOW[: FLOW.index(folder) + 1])
    for path in (SOURCE / folder).rglob("*.py"):
        assert imports_of(path) <= allowed, path


def test_nothing_imports_the_command_line() -> None:
    for path in SOURCE.rglob("*.py"):
        if "cli" not in path.relative_to(SOURCE).parts and path.name != "__main__.py":
            assert "respondcam.cli" not in path.read_text("utf-8"), path


def test_no_star_imports() -> None:
    for path in SOURCE.rglob("*.py"):
        assert "import *" not in path.read_text("utf-8"), path


def test_a_terminal_that_knows_only_ascii_gets_a_question_mark() -> None:
    code = "import respondcam.cli as c; c.app = lambda *_, **__: print('1 \\xb1 2'); c.main()"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "1 ? 2\n"), run.stderr


def test_version_changelog_and_citation_speak_of_the_same_release() -> None:
    released = re.search(r"^## \[(\d\S*)\] - (\S+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert released is not None
    version, date = released.groups()
    assert rc.__version__.partition(".dev")[0] == version
    assert {f"version: {version}", f"date-released: {date}"} <= set(
        read("CITATION.cff").split("\n")
    )


def read(name: str) -> str:
    return (SOURCE.parents[1] / name).read_text("utf-8")

"""The checks of a release find what they are for, and the page of licences names what is used."""

import importlib.util
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture
def script(monkeypatch):
    def load(name: str):
        monkeypatch.syspath_prepend(ROOT / "scripts")
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("environments", None)


def wheel(path: Path, *names: str, metadata: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
        archive.writestr("a-1.dist-info/METADATA", metadata)
    return path


def test_a_stray_and_a_missing_file_are_named(script, tmp_path):
    check = script("release_check")
    expected = check.expected_in_wheel(["src/respondcam/py.typed", "tests/test_a.py"])
    assert "respondcam/show/vendor/niivue.licenses.txt" in expected
    assert not any("test" in name for name in expected)
    found = check.names_in_wheel(wheel(tmp_path / "a.whl", "respondcam/py.typed", "secret.txt"))
    with pytest.raises(Exception, match=r"secret\.txt.*missing.*niivue"):
        check.same("wheel", found, expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Name: a\n", "metadata without Summary"),
        (
            """\
Summary: a
License-Expression: MIT
License-File: L
Requires-Python: >=3.11
Keywords: a
Classifier: Programming Language :: Python :: 3.12
""",
            "is none of",
        ),
    ],
)
def test_metadata_that_lacks_something_is_refused(script, tmp_path, text, words):
    with pytest.raises(Exception, match=words):
        script("release_check").check_metadata(wheel(tmp_path / "a.whl", metadata=text))


def test_every_extra_for_users_has_a_smoke_test(script):
    names = script("extras_check").extras()
    assert names[0] == "core"
    assert set(names) == {"core", *PROJECT["optional-dependencies"]} - {"all", "dev", "docs"}
    smoke = {path.stem for path in (ROOT / "scripts" / "smoke").glob("with_*.py")}
    assert smoke == {f"with_{name}" for name in names[1:]}


def test_what_would_let_the_checkout_be_found_is_not_passed_on(script):
    kept = script("environments").clean({"PYTHONPATH": "src", "VIRTUAL_ENV": "x", "HOME": "y"})
    assert kept == {"HOME": "y"}


def test_the_page_of_licences_names_every_package_that_is_asked_for():
    page = (ROOT / "docs" / "licences.md").read_text("utf-8").lower()
    lines = list(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    lines += [
        line for name in extras if name not in ("all", "dev", "docs") for line in extras[name]
    ]
    for line in lines:
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower()
        assert f"| {name} |" in page, name


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("GPL-3.0-or-later", "strong copyleft"),
        ("GNU General Public License v3 (GPLv3)", "strong copyleft"),
        ("AGPL-3.0", "strong copyleft"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "weak copyleft"),
        ("LGPL-3.0-or-later", "weak copyleft"),
        ("MPL-2.0 AND MIT", "weak copyleft"),
        ("BSD-3-Clause", "permissive"),
        ("NVIDIA Proprietary Software", "proprietary"),
        ("not stated", "to be looked at"),
    ],
)
def test_kinds_of_licences(script, text, kind):
    assert script("licences").kind(text) == kind

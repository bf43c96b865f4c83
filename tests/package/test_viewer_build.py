"""How the report's viewer comes into the package, and that its absence stops no build."""

import importlib.util
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build(monkeypatch):
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delenv("RESPONDCAM_VIEWER", raising=False)
    return module


def fake_npm(command, cwd, **_):
    """What ``npm ci`` leaves behind, without a network."""
    assert command[1] == "ci"
    assert "--ignore-scripts" in command
    package = Path(cwd, "node_modules", "@niivue", "niivue")
    (package / "dist").mkdir(parents=True)
    (package / "dist" / "niivue.umd.js").write_text("var niivue = {};")
    (package / "package.json").write_text('{"name": "@niivue/niivue", "version": "1"}')
    part = Path(cwd, "node_modules", "part")
    part.mkdir()
    (part / "package.json").write_text('{"name": "part", "version": "2", "license": "MIT"}')
    (part / "LICENSE").write_text("The licence of a part")
    return subprocess.CompletedProcess(command, 0)


def test_the_viewer_comes_with_the_licences_of_all_its_parts_and_once(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "find_npm", lambda: ["npm"])
    monkeypatch.setattr(build.subprocess, "run", fake_npm)
    vendor = tmp_path / "vendor"
    assert build.bring(vendor) == ""
    licenses = (vendor / "niivue.licenses.txt").read_text()
    assert "Copyright (c) 2021, Niivue" in licenses
    assert "The licence of a part" in licenses
    assert build.is_in_place(vendor)
    monkeypatch.setattr(build.subprocess, "run", None)  # not asked again
    assert build.bring(vendor) == ""
    (vendor / "niivue.js").write_text("changed")
    assert not build.is_in_place(vendor)


def test_without_npm_the_build_goes_on_and_says_so(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "find_npm", lambda: None)
    assert "neither npm nor" in build.bring(tmp_path / "vendor")
    assert not (tmp_path / "vendor").exists()


@pytest.mark.parametrize(
    "failure",
    [
        subprocess.CalledProcessError(1, "npm", stderr="npm error code ENOTFOUND\nmore"),
        subprocess.TimeoutExpired("npm", 300),
        OSError("no such program"),
    ],
)
def test_without_a_network_the_build_goes_on_and_says_so(build, tmp_path, monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(build, "find_npm", lambda: ["npm"])
    monkeypatch.setattr(build.subprocess, "run", fail)
    trouble = build.bring(tmp_path / "vendor")
    assert "static figures" in trouble
    assert "python hatch_build.py" in trouble
    assert not (tmp_path / "vendor").exists()


def test_it_can_be_left_out(build, tmp_path, monkeypatch):
    monkeypatch.setenv("RESPONDCAM_VIEWER", "off")
    assert "RESPONDCAM_VIEWER=off" in build.bring(tmp_path / "vendor")


@pytest.mark.parametrize("wanted", ["required", ""])
def test_a_package_without_it_is_refused_where_it_is_required(build, monkeypatch, wanted):
    warnings = []
    hook = build.CustomBuildHook()
    hook.app = SimpleNamespace(display_warning=warnings.append)
    monkeypatch.setattr(build, "bring", lambda _: "npm failed")
    monkeypatch.setenv("RESPONDCAM_VIEWER", wanted)
    if wanted:
        with pytest.raises(RuntimeError, match="required, but npm failed"):
            hook.initialize("1", {})
    else:
        hook.initialize("1", {})
        assert warnings == ["npm failed"]


def test_the_lock_pins_everything_and_names_no_registry():
    lock = json.loads((ROOT / "package-lock.json").read_text("utf-8"))
    wanted = json.loads((ROOT / "package.json").read_text("utf-8"))["dependencies"]
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages["node_modules/@niivue/niivue"]["version"] == wanted["@niivue/niivue"]
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    places = [one["resolved"] for one in packages.values() if "resolved" in one]
    assert all(place.startswith("https://registry.npmjs.org/") for place in places)


def test_the_viewer_is_not_committed_but_in_the_package():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "src/respondcam/show/vendor/" in (ROOT / ".gitignore").read_text("utf-8")
    assert project["tool"]["hatch"]["build"]["artifacts"] == ["src/respondcam/show/vendor/*"]

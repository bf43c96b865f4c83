"""What ``respondcam --version --json`` tells, and what it must not."""

import getpass
import json
import os
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import respondcam
from respondcam.cli import _about


class Distribution:
    """Stands in for what pip leaves behind."""

    def __init__(self, root: Path, **files: str):
        self.root, self.files = root, files

    def read_text(self, name: str) -> str | None:
        return self.files.get(name.removesuffix(".json"))

    def locate_file(self, path: str) -> Path:
        return self.root / path


SITE = Path(respondcam.__file__).parents[1]


def origin_of(monkeypatch, root=SITE, address=None):
    files = {"INSTALLER": "pip\n"} | ({"direct_url": json.dumps(address)} if address else {})
    monkeypatch.setattr(_about.metadata, "distribution", lambda _: Distribution(root, **files))
    return _about._origin()


def test_it_says_what_decides_on_the_numbers(cli):
    found = json.loads(cli("--version", "--json").out)
    assert found["respondcam"] == respondcam.__version__
    assert found["python"].endswith(sys.version.split()[0])
    assert found["torch"]["version"] == metadata.version("torch")
    assert found["torch"]["threads"] == torch.get_num_threads()
    assert len(found["torch"]["gpus"]) == torch.cuda.device_count()
    assert found["packages"]["numpy"] == metadata.version("numpy")
    assert found["machine"]["cores"] == os.cpu_count()


def test_every_required_package_and_every_extra_is_listed():
    import tomllib

    project = Path(__file__).parents[2] / "pyproject.toml"
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    packages, extras = _about._packages()
    assert len(packages) == len(table["dependencies"])
    users = set(table["optional-dependencies"]) - {"all", "dev", "docs"}
    assert set(extras) == users
    for name in users:
        assert len(extras[name]) == len(table["optional-dependencies"][name])


def test_no_path_no_user_and_no_host(cli, monkeypatch):
    monkeypatch.setenv("RESPONDCAM_DATA", "/secret/patients")
    text = cli("--version", "--json").out
    for private in (str(Path.home()), str(SITE), sys.prefix, "/secret", str(Path.cwd())):
        assert private not in text
    names = set(json.dumps(json.loads(text)).replace('"', " ").replace("/", " ").split())
    assert not {getpass.getuser(), socket.gethostname()} & names


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (None, "index"),
        ({"url": "file:///x/a.whl", "archive_info": {}}, "file"),
        ({"url": "file:///x", "dir_info": {}}, "folder"),
        ({"url": "file:///somewhere/else", "dir_info": {"editable": True}}, "source tree"),
        ({"url": SITE.as_uri(), "dir_info": {"editable": True}}, "editable"),
        ({"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "abc"}}, "repository"),
    ],
)
def test_how_it_was_installed(monkeypatch, address, kind):
    found = origin_of(monkeypatch, address=address)
    assert found["kind"] == kind
    assert found.get("commit") == ("abc" if kind == "repository" else None)
    assert "url" not in found


def test_sources_found_before_the_installed_package_are_told_apart(monkeypatch, tmp_path):
    assert origin_of(monkeypatch, root=tmp_path) == {"kind": "source tree"}


def git(folder, *arguments):
    identity = ("-c", "user.name=x", "-c", "user.email=x@y")
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path):
    assert _about._commit(tmp_path) == {}
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    found = _about._commit(tmp_path)
    assert len(found["commit"]) == 40
    assert found["changed"] is False
    (tmp_path / "a.py").write_text("2")
    assert _about._commit(tmp_path)["changed"] is True


def test_a_torch_that_cannot_be_loaded_is_reported_without_its_path(monkeypatch):
    def broken(*_):
        raise OSError("/home/ada/env/lib/libtorch.so: undefined symbol: cuGet")

    monkeypatch.setattr(_about, "_gpu_numbers", broken)
    found = _about._torch()
    assert found["version"] == metadata.version("torch")
    assert found["trouble"] == "OSError: libtorch.so: undefined symbol: cuGet"


def test_what_each_gpu_is():
    class Properties:
        name, total_memory, major, minor = "NVIDIA H100", 80 * 2**30, 9, 0

    assert _about._gpu(Properties()) == {
        "name": "NVIDIA H100",
        "memory_gib": 80.0,
        "capability": "9.0",
    }


def test_without_an_installation_the_sources_still_tell(monkeypatch):
    def absent(_):
        raise metadata.PackageNotFoundError

    torch_version = metadata.version("torch")
    monkeypatch.setattr(_about.metadata, "requires", absent)
    packages, extras = _about._packages()
    assert packages["torch"] == torch_version
    assert extras == {}
    monkeypatch.setattr(_about.metadata, "distribution", absent)
    assert _about._origin() == {"kind": "source tree"}

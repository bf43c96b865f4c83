"""HDF5 files that the library cannot be trusted with: refused before this process opens them."""

import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from respondcam.errors import ModelError
from respondcam.network import hdf5
from respondcam.network.hdf5 import check_hdf5

h5py = pytest.importorskip("h5py")


def good(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_group("conv").create_dataset("kernel", data=np.ones((3, 3, 3)))
    return path


def archive(path: Path, inner: Path) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.write(inner, "model.weights.h5")
        packed.writestr("config.json", "{}")
    return path


def endless(path: Path) -> Path:
    """The free space at the end of its heap has no length, so the library never gets beyond it."""
    data = bytearray(good(path).read_bytes())
    heap = data.index(b"GCOL")
    at = heap + 16
    while number := int.from_bytes(data[at : at + 2], "little"):
        assert number < 100
        at += 16 + (int.from_bytes(data[at + 8 : at + 16], "little") + 7) // 8 * 8
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(data)
    return path


def test_sound_files_pass(tmp_path: Path) -> None:
    check_hdf5(good(tmp_path / "a.h5"))
    check_hdf5(archive(tmp_path / "a.keras", tmp_path / "a.h5"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_without_end_is_refused_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    monkeypatch.setattr(hdf5, "_SECONDS", 1)
    path = endless(tmp_path / "a.h5")
    path = archive(tmp_path / "a.keras", path) if packed else path
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"needed more than 1 s .* was stopped"):
        check_hdf5(path)
    assert time.monotonic() - started < 30  # of which others may take most


def _soft(file: "h5py.File", other: Path) -> None:
    del other
    file["again"] = h5py.SoftLink("/conv/kernel")


def _external_link(file: "h5py.File", other: Path) -> None:
    file["other"] = h5py.ExternalLink(str(other), "/conv")


def _external_values(file: "h5py.File", other: Path) -> None:
    file.create_dataset("raw", (8,), "u1", external=[(str(other), 0, 8)])


def _virtual(file: "h5py.File", other: Path) -> None:
    layout = h5py.VirtualLayout((3, 3, 3), "f8")
    layout[...] = h5py.VirtualSource(str(other), "conv/kernel", (3, 3, 3))
    file.create_virtual_dataset("raw", layout)


def _bomb(file: "h5py.File", other: Path) -> None:
    del other
    file.create_dataset("raw", (1 << 30,), "u1", chunks=(1 << 20,), compression="gzip")


def _twice(file: "h5py.File", other: Path) -> None:
    del other
    file["conv/again"] = file["conv"]


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (_soft, "refers to another place"),
        (_external_link, "refers to another place or file"),
        (_external_values, "in another file"),
        (_virtual, "in another file"),
        (_bomb, "many times as many values"),
        (_twice, "several places"),
    ],
)
def test_what_keras_never_writes_is_not_opened(
    tmp_path: Path, add: Callable[..., None], words: str
) -> None:
    other, path = good(tmp_path / "other.h5"), good(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        add(file, other)
    for one in (path, archive(tmp_path / "a.keras", path)):
        with pytest.raises(ModelError, match=words):
            check_hdf5(one)


def test_what_ends_the_library_does_not_end_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = good(tmp_path / "a.h5")
    for ended, words in (((-11, ""), "ended the process"), ((1, "MemoryError"), "MemoryError")):
        monkeypatch.setattr(hdf5, "run_child", lambda *_, ended=ended: ended)
        with pytest.raises(ModelError, match=words):
            check_hdf5(path)


def test_no_archive_of_hdf5_needs_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("config.json", "{}")
    monkeypatch.setattr(hdf5, "run_child", None)
    check_hdf5(path)


def test_what_hangs_without_working_is_stopped_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_PATIENCE", -100.0)
    with pytest.raises(ModelError, match="was stopped"):
        check_hdf5(good(tmp_path / "a.h5"))

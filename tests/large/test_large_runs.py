"""Runs that are stopped, continued, changed, locked or damaged, at chosen moments."""

import json
import os
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests.series import write_series
from torch import nn

import respondcam as rc
from respondcam.errors import InputError, ModelError, VolumeError
from respondcam.large import LargeSettings, explain_large, local
from respondcam.large.lock import locked
from respondcam.large.store import Store
from respondcam.network.sources import LoadedModel
from respondcam.volume.ome_zarr import create_image


def stop_after(monkeypatch, name: str, count: int, error: BaseException) -> None:
    """Let the store's method raise behind so many calls."""
    whole, calls = getattr(Store, name), [0]

    def stopping(self, *arguments):
        calls[0] += 1
        if calls[0] > count:
            raise error
        return whole(self, *arguments)

    monkeypatch.setattr(Store, name, stopping)


@pytest.fixture
def straight(run, bytes_of):
    """The bytes of a run that nothing happened to."""
    return bytes_of(run("straight", stitch="sum", target="all").store)


@pytest.mark.parametrize("tiles", [0, 1, 2])
def test_a_stopped_run_is_continued_to_the_same_bytes(run, straight, bytes_of, monkeypatch, tiles):
    with monkeypatch.context() as patch:
        stop_after(patch, "write_tile", tiles, OSError(28, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            run(stitch="sum", target="all")
    outcome = run(stitch="sum", target="all")
    assert outcome.explained < outcome.windows if tiles else outcome.explained == outcome.windows
    assert bytes_of(outcome.store) == straight
    assert not (outcome.store.with_name("tomo.respond.second.all.run") / "tiles").exists()


@pytest.mark.parametrize("axes", ["zyx", "xyz"])
def test_a_network_whose_grid_moves_with_the_values_is_refused(run, axes):
    with pytest.raises(ModelError, match=r"another way for other values: layer 'net\.second'"):
        run(network="Cropping", layer="net.second", batch=1, axes=axes)


def test_a_run_stopped_between_chunks_is_continued(run, straight, bytes_of, monkeypatch):
    import respondcam.large.tasks as tasks

    whole, calls = tasks.do_chunk, [0]

    def stopping(store, chunk):
        calls[0] += 1
        if calls[0] == 4:
            raise RuntimeError("stopped")
        whole(store, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "do_chunk", stopping)
        with pytest.raises(RuntimeError, match="stopped"):
            run(stitch="sum", target="all")
    assert bytes_of(run(stitch="sum", target="all").store) == straight


def test_what_is_done_is_not_done_again(run):
    first = run()
    before = {p: p.stat().st_mtime_ns for p in first.store.rglob("*")}
    again = run()
    assert (first.explained, again.explained) == (again.windows, 0)
    assert before == {p: p.stat().st_mtime_ns for p in first.store.rglob("*")}


def test_other_settings_are_refused_and_shown(run, tomogram, bytes_of):
    first = run()
    before = bytes_of(first.store)
    with pytest.raises(InputError, match=r"stitch was \"mean\", is \"sum\""):
        run(stitch="sum")
    with pytest.raises(InputError, match=r"threads was 1, is 2"):
        run(threads=2)
    run(threads=None)  # those of the run that is continued
    rc.write_volume(tomogram, rc.Volume(np.zeros((10, 12, 46)), unit="angstrom"))
    with pytest.raises(InputError, match=r"input\.sha256 was"):
        run()
    assert bytes_of(first.store) == before
    anew = run(stitch="sum", options={"overwrite": True})
    assert anew.explained == anew.windows


def test_a_network_with_its_own_preprocessing_is_refused(tomogram, tmp_path):
    loaded = LoadedModel(nn.Conv3d(1, 2, 3), "nnunet:folder")
    object.__setattr__(loaded, "preparation", object())  # any one; none of it is run
    with pytest.raises(InputError, match=r"own preprocessing.*preprocess=False"):
        explain_large(tomogram, tmp_path / "maps", loaded, LargeSettings(window=(8, 8, 8)))
    assert not (tmp_path / "maps").exists()


def test_the_same_volume_under_another_time_is_the_same(run, tomogram):
    run()
    os.utime(tomogram, ns=(1, 1))
    assert run().explained == 0


def test_another_network_is_refused(run, nets):
    run()
    text = Path(nets).read_text("utf-8").replace("manual_seed(0)", "manual_seed(1)")
    Path(nets).write_text(text, "utf-8")
    with pytest.raises(
        InputError, match=r"model\.code_sha256 was .*model\.state_sha256 was"
    ) as told:
        run()
    assert not re.search("[0-9a-f]{20}", str(told.value))  # nobody compares whole digests by eye


def test_a_store_of_something_else_stays(run, tmp_path):
    store = tmp_path / "out/tomo.respond.second.1.ome.zarr"
    store.mkdir(parents=True)
    (store / "precious").write_text("x")
    with pytest.raises(InputError, match="no result of a run"):
        run()
    assert (store / "precious").read_text() == "x"


def test_damage_is_found_and_done_again(run, bytes_of):
    outcome = run(target="all")
    before = bytes_of(outcome.store)
    chunks = sorted(p for p in (outcome.store / "0/c").rglob("*") if p.is_file())
    for path, change in ((chunks[0], -1), (chunks[-1], len(chunks[-1].read_bytes()) // 2)):
        raw = bytearray(path.read_bytes())
        raw[change] ^= 255
        path.write_bytes(raw)
    chunks[3].write_bytes(chunks[3].read_bytes()[:10])
    score = next(p for p in (outcome.store / "windows/scores/0/c").rglob("*") if p.is_file())
    score.write_bytes(b"")
    assert run(target="all").explained == 0, "without --verify nothing is read back"
    mended = run(target="all", options={"verify": True})
    assert len(mended.repaired) == 4
    assert bytes_of(outcome.store) == before


def test_a_volume_truncated_during_the_run(run, tomogram, monkeypatch, straight, bytes_of):
    whole = tomogram.read_bytes()

    def cut(job, volume, tile):
        region = reading(job, volume, tile)
        tomogram.write_bytes(whole[:20000])  # behind the first one
        return region

    reading = local.read_region
    with monkeypatch.context() as patch:
        patch.setattr(local, "read_region", cut)
        with pytest.raises(VolumeError, match="changed during the run"):
            run(stitch="sum", target="all")
    with pytest.raises(VolumeError, match="truncated"):
        run(stitch="sum", target="all")
    tomogram.write_bytes(whole)
    assert bytes_of(run(stitch="sum", target="all").store) == straight


def test_a_folder_of_dicom_files(run, tmp_path, monkeypatch, bytes_of):
    voxels = np.random.default_rng(0).integers(0, 50, (10, 9, 46))
    folder = write_series(tmp_path / "series", voxels)
    rc.write_volume(tmp_path / "same.nii.gz", rc.read_volume(folder))
    plain = rc.read_volume(run(source=tmp_path / "same.nii.gz").store)
    inside = run(source=folder, out="series/maps").store  # where maps may lie too
    np.testing.assert_array_equal(rc.read_volume(inside).voxels, plain.voxels)
    assert run(source=folder, out="series/maps").explained == 0

    def changed(job, opened, tile):
        region = reading(job, opened, tile)
        (folder / "im603").write_bytes((folder / "im603").read_bytes())
        return region

    reading = local.read_region
    with monkeypatch.context() as patch:
        patch.setattr(local, "read_region", changed)
        with pytest.raises(VolumeError, match="changed during the run"):
            run(source=folder)
    whole = bytes_of(run(source=folder).store)
    write_series(folder, voxels[::-1])
    with pytest.raises(InputError, match="another run"):
        run(source=folder)
    assert bytes_of(run(source=folder, options={"overwrite": True}).store) != whole


@pytest.mark.parametrize("change", ["written anew", "truncated", "deleted", "turned up"])
@pytest.mark.parametrize("chunk", [8, 64], ids=["chunks", "one chunk"])
def test_an_image_changed_during_the_run(run, tomogram, monkeypatch, tmp_path, change, chunk):
    store, aside = tmp_path / "changing.ome.zarr", tmp_path / "aside"
    volume = rc.read_volume(tomogram)
    create_image(store, volume, chunk=chunk)[0][...] = volume.voxels
    last = sorted(file for file in (store / "0" / "c").rglob("*") if file.is_file())[-1]
    if change == "turned up":
        last.replace(aside)  # chunks of background may be missing
        volume = rc.read_volume(store)
    shutil.copytree(store, tmp_path / "whole")

    def changed(job, opened, tile):
        region = reading(job, opened, tile)
        if change == "written anew":
            last.write_bytes(last.read_bytes())
        elif change == "truncated":
            last.write_bytes(b"")
        elif change == "deleted":
            last.unlink(missing_ok=True)
        elif not last.exists():
            shutil.copy(aside, last)
        return region

    def explained():
        return run(source=store, stitch="sum", target="all")

    reading = local.read_region
    with monkeypatch.context() as patch:
        patch.setattr(local, "read_region", changed)
        with pytest.raises(VolumeError, match="changed during the run"):
            explained()
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "whole", store)
    found = rc.read_volume(explained().store)
    rc.write_volume(tmp_path / "same.mrc", volume)
    plain = rc.read_volume(run(source=tmp_path / "same.mrc", stitch="sum", target="all").store)
    np.testing.assert_array_equal(found.voxels, plain.voxels)


def test_two_runs_on_one_output(run, tmp_path):
    folder = tmp_path / "out/tomo.respond.second.1.run"
    folder.mkdir(parents=True)
    with locked(folder), pytest.raises(InputError, match=f"process {os.getpid()} on"):
        run()
    assert not (tmp_path / "out/tomo.respond.second.1.ome.zarr").exists()
    assert not (folder / "lock").exists()


@pytest.mark.parametrize("pid", [2**22 + 1, os.getpid()], ids=["gone", "reused"])
def test_the_lock_of_a_process_that_is_gone_is_taken_over(run, tmp_path, pid):
    folder = tmp_path / "out/tomo.respond.second.1.run"
    folder.mkdir(parents=True)
    # the number of a process is used again: when it started tells them apart
    holder = {"pid": pid, "host": socket.gethostname(), "started": "1"}
    (folder / "lock").write_text(json.dumps(holder))
    assert run().explained
    (folder / "lock").write_text(json.dumps({**holder, "host": "elsewhere"}))
    with pytest.raises(InputError, match="on elsewhere"):
        run()


def test_a_stale_lock_with_bytes_that_are_no_text(tmp_path):
    holder = {"pid": 2**22 + 1, "host": socket.gethostname(), "started": "1", "note": "X"}
    (tmp_path / "lock").write_bytes(json.dumps(holder).encode().replace(b"X", b"\xff\xfe"))
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_stopped_while_the_tiles_are_deleted(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("respondcam.large.store.shutil.rmtree", lambda *_, **__: None)
        outcome = run()
    folder = outcome.store.with_name("tomo.respond.second.1.run")
    assert not (folder / "tiles").exists()
    assert run(options={"verify": True}).explained == 0
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_halves_of_files_left_by_a_killed_process_go(run):
    outcome = run()
    half = outcome.store / "0/c/0/0/0/0.0123.partial"
    half.write_bytes(b"x")
    run()
    assert not half.exists()


def test_a_window_that_the_network_rejects(run):
    with pytest.raises(InputError, match="does not run on the input"):
        run(network="fixed", layer="conv", window=(8, 8, 10))
    assert run(network="fixed", layer="conv").explained


def test_voxels_that_are_no_numbers(run, tmp_path):
    voxels = np.random.default_rng(0).normal(size=(10, 12, 46)).astype(np.float32)
    voxels[0, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", voxels)
    with pytest.raises(VolumeError, match="nonfinite='zero'"):
        run(source=tmp_path / "nan.npy")
    outcome = run(source=tmp_path / "nan.npy", nonfinite="zero")
    assert np.isfinite(zarr.open_array(str(outcome.store / "0"))[...]).all()


def test_a_network_in_memory_works_without_an_address(run, straight, bytes_of, tmp_path, tomogram):
    model = run.model()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    settings = run.settings(stitch="sum", target="all")
    outcome = explain_large(tomogram, tmp_path / "memory", model, settings)
    written, expected = bytes_of(outcome.store), dict(straight)
    assert {k: v for k, v in written.items() if "/c/" in k} == {
        k: v for k, v in expected.items() if "/c/" in k
    }
    assert all((model.state_dict()[key] == value).all() for key, value in state.items())
    with pytest.raises(InputError, match="ModelAddress"):
        explain_large(tomogram, tmp_path / "c", model, settings, client=object())


def test_progress_reads_well_in_a_log(run):
    lines: list[str] = []
    run(options={"say": lines.append})
    assert "windows/s" not in lines[-1]  # the outcome has it
    assert "gap" in lines[-1]
    assert lines[-1].startswith("tomo.mrc: 44 of 44 windows")
    run(options={"say": lines.append})
    assert lines[-1] == "tomo.mrc: everything is there already"


@pytest.mark.parametrize("file", ["zarr.json", "0/zarr.json", "windows/scores/0/zarr.json"])
@pytest.mark.parametrize("spoil", [lambda path: path.write_text(""), os.mkfifo])
@pytest.mark.parametrize("verify", [False, True])
def test_a_store_with_damaged_metadata_is_refused(run, file, spoil, verify):
    done = run()
    (done.store / file).unlink()
    spoil(done.store / file)
    with pytest.raises(InputError, match="damaged, so the run cannot be continued"):
        run(options={"verify": verify})
    run(options={"overwrite": True})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text('{"settings": 5}'), "its 'settings' is no JSON object"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    ],
)
def test_a_manifest_that_is_none_is_refused_and_can_be_overwritten(run, make, words):
    manifest = run().store.with_suffix("").with_suffix(".run") / "manifest.json"
    manifest.unlink()
    make(manifest)
    with pytest.raises(InputError, match=f"cannot be read.*{words}.*--overwrite"):
        run()
    run(options={"overwrite": True})
    assert json.loads(manifest.read_text())["settings"]["batch"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_lock_that_is_no_file_counts_as_one(run, make):
    lock = run().store.with_suffix("").with_suffix(".run") / "lock"
    make(lock)
    with pytest.raises(InputError, match=r"Another run \(unknown\)"):
        run()


@pytest.mark.parametrize("suffix", [".run", ".ome.zarr"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_through_links(run, tmp_path, suffix, overwrite):
    path = run().store.with_suffix("").with_suffix("")
    path = path.with_name(path.name + suffix)
    path.replace(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.glob("elsewhere/**/*"))
    with pytest.raises(InputError, match="is a link, and results are not written through links"):
        run(options={"overwrite": overwrite})
    assert sorted(tmp_path.glob("elsewhere/**/*")) == before

"""Real faults: killed processes and workers, a lost scheduler, a full disk, CTRL-C."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = "from respondcam.cli import main; main()"
STORE = "tomo.respond.net.second.1.ome.zarr"


@pytest.fixture
def command(stage: Path) -> Callable[..., list[str]]:
    """The command line that explains the tomogram into a folder."""

    def build(out: Path, *more: str) -> list[str]:
        base = [sys.executable, "-c", PROGRAM, "explain", str(stage / "tomo.mrc")]
        base += ["--model", f"{stage}/nets.py:Slow"]
        base += ["--layer", "net.second", "--window", "8", "--overlap", "0.75", "--target", "1"]
        return [*base, "--batch", "4", "--threads", "1", "--out", str(out), *more]

    return build


@pytest.fixture
def started(tmp_path: Path):
    """Start processes that end with the test."""
    processes: list[subprocess.Popen] = []

    def start(arguments: list[str], log: str = "log", alone: bool = False) -> subprocess.Popen:
        with (tmp_path / f"{log}.txt").open("ab") as file:
            process = subprocess.Popen(
                arguments,
                stdout=file,
                stderr=file,
                cwd=tmp_path,
                # a shell's background jobs ignore CTRL-C, and so does what they start
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
                start_new_session=alone,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def finish(arguments: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments, capture_output=True, encoding="utf-8", timeout=240, check=False
    )


def wait_for(what: Callable[[], object], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def tiles_done(out: Path) -> int:
    return sum(p.is_file() for p in (out / STORE / "windows/class/0/c").rglob("*"))


@pytest.fixture
def straight(command, stage, bytes_of):
    """The bytes of a run that nothing happened to."""
    if not (stage / "straight" / STORE).exists():
        done = finish(command(stage / "straight"))
        assert done.returncode == 0, done.stderr
    return bytes_of(stage / "straight" / STORE)


def test_killed_at_any_moment_and_continued(command, started, tmp_path, bytes_of, straight):
    out = tmp_path / "killed"
    began = time.monotonic()
    for tiles in (0, 1, 3):
        process = started(command(out))
        wait_for(lambda: tiles_done(out) >= tiles or process.poll() is not None)  # noqa: B023
        time.sleep((time.monotonic() - began) % 0.3)  # no two kills at the same place
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = finish(command(out, "--verify"))
    assert done.returncode == 0, done.stderr
    assert bytes_of(out / STORE) == straight


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_continued(command, started, tmp_path, bytes_of, straight, sent, code):
    """By CTRL-C, or by a batch queue, whose next job may run on another machine."""
    out = tmp_path / "interrupted"
    process = started(command(out), "interrupted")
    wait_for(lambda: tiles_done(out) >= 2)
    process.send_signal(sent)
    assert process.wait(timeout=120) == code
    said = (tmp_path / "interrupted.txt").read_text("utf-8")
    assert "The same command goes on from there" in said
    assert said.count("Interrupted. ") == 1
    assert "interrupted: " not in said
    assert "Traceback" not in said
    run = out / STORE.replace(".ome.zarr", ".run")
    assert not (run / "lock").exists()
    assert not list(out.rglob("*.partial"))
    done = finish(command(out))
    assert done.returncode == 0, done.stderr
    assert "continued" in done.stderr
    assert bytes_of(out / STORE) == straight


def test_a_terminals_interrupt_goes_to_workers_too_and_ends_in_one_line(command, started, tmp_path):
    out = tmp_path / "interrupted"
    process = started(command(out, "--workers", "2"), "interrupted", alone=True)
    wait_for(lambda: tiles_done(out) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) == 130
    said = (tmp_path / "interrupted.txt").read_text("utf-8")
    told = [line for line in said.splitlines() if not re.match(r"\d\d:\d\d:\d\d tomo", line)]
    (line,) = told
    assert line.startswith("respondcam: Interrupted. ")
    assert "The same command goes on from there" in line


def test_two_at_once(command, started, tmp_path):
    out = tmp_path / "two"
    first = started(command(out))
    wait_for((out / STORE).exists)
    first.send_signal(signal.SIGSTOP)  # at work for as long as the other one needs
    second = finish(command(out))
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert f"process {first.pid} on" in second.stderr
    assert first.wait(timeout=180) == 0


def test_a_disk_that_is_full(command, tmp_path, bytes_of, straight):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        full = finish(command(disk / "out"))
        assert full.returncode == 2, full.stderr
        assert "No space left on device" in full.stderr
        assert "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        done = finish(command(disk / "out"))
        assert done.returncode == 0, done.stderr
        assert bytes_of(disk / "out" / STORE) == straight
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def dask(started, tmp_path):
    """Start a scheduler, and workers by number, as a cluster's administrator would."""

    def scheduler(log: str = "scheduler", port: str = "0") -> tuple[str, subprocess.Popen]:
        program = "from distributed.cli.dask_scheduler import main; main()"
        arguments = [sys.executable, "-c", program, "--port", port, "--no-dashboard"]
        process = started([*arguments, "--host", "127.0.0.1"], log)
        path = tmp_path / f"{log}.txt"
        wait_for(lambda: re.search(r"Scheduler at: +tcp://", path.read_text("utf-8")))
        found = re.findall(r"Scheduler at: +(tcp://\S+)", path.read_text("utf-8"))
        return found[-1], process

    def worker(address: str) -> subprocess.Popen:
        program = "from distributed.cli.dask_worker import main; main()"
        arguments = [sys.executable, "-c", program, address, "--no-nanny", "--no-dashboard"]
        return started([*arguments, "--nthreads", "1"], "worker")

    return scheduler, worker


def test_workers_and_a_scheduler_that_die(command, started, dask, tmp_path, bytes_of, straight):
    start_scheduler, start_worker = dask
    out = tmp_path / "cluster"
    address, scheduler = start_scheduler()
    first = start_worker(address)
    process = started(command(out, "--scheduler", address), "cluster")
    wait_for(lambda: tiles_done(out) >= 1)
    start_worker(address)
    first.send_signal(signal.SIGKILL)  # its task goes to the other one
    first.wait()
    before = tiles_done(out)
    wait_for(lambda: tiles_done(out) > before or process.poll() is not None)
    if process.poll() is None:
        scheduler.send_signal(signal.SIGKILL)
        scheduler.wait()
        assert process.wait(timeout=180) == 2
        said = (tmp_path / "cluster.txt").read_text("utf-8")
        assert "What is done is kept" in said
        assert said.count("respondcam:") == 1
    address, _ = start_scheduler("again")
    start_worker(address)
    done = finish(command(out, "--scheduler", address))
    assert done.returncode == 0, done.stderr
    assert bytes_of(out / STORE) == straight


def test_two_workers_write_the_same_bytes(command, tmp_path, bytes_of, straight):
    done = finish(command(tmp_path / "workers", "--workers", "2"))
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "workers" / STORE) == straight


def test_no_scheduler_at_the_address(command, tmp_path):
    done = finish(command(tmp_path / "none", "--scheduler", "tcp://127.0.0.1:9"))
    assert done.returncode == 2
    assert "There is no Dask scheduler at 'tcp://127.0.0.1:9'" in done.stderr
    assert not os.path.exists(tmp_path / "none" / STORE)  # noqa: PTH110

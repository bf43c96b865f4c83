"""Hostile files end in a worded error or are read; `tests.fuzz.hunt` does the same at length."""

import ast
import itertools
import random
import subprocess
import sys

import pytest
from tests.fuzz.hunt import hunt
from tests.fuzz.mutate import mutated
from tests.fuzz.readers import READERS, Reader

from respondcam.errors import InputError

# they build a network for each file
COSTLY = ("export", "nnunet", "metadata", "keras", "bundle", "torchscript", "untrusted")
CHOSEN = [pytest.param(n, marks=pytest.mark.slow) if n in COSTLY else n for n in READERS]


@pytest.mark.parametrize("name", CHOSEN)
def test_no_hostile_file_gets_past_the_reader(name, tmp_path):
    inputs = 30 if name in COSTLY else 150
    outcomes, findings = hunt(name, inputs, seed=1, folder=tmp_path)
    assert not findings, [finding.what for finding in findings]
    if name == "bundle":  # refused whatever it holds, which its reader takes for granted
        assert outcomes["read"] == inputs
        return
    assert outcomes["worded"] > inputs / 10  # the files are hostile ...
    if READERS[name].opens:
        assert outcomes["read"] > 0  # ... and not beyond recognition


def test_changes_are_the_same_for_the_same_seed_and_leave_the_good_file_alone():
    good = bytes(range(256)) * 4
    one, other = (mutated(good, random.Random(5)) for _ in range(2))
    assert one == other != good
    assert good == bytes(range(256)) * 4


def wordless(path):
    raise InputError("")


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (lambda path: 1 / 0, "crash: ZeroDivisionError"),
        (lambda path: bytearray(2**31), "crash: MemoryError"),
        (wordless, "wordless"),
    ],
)
def test_a_fault_of_a_reader_is_found(monkeypatch, tmp_path, fault, what):
    calls = itertools.count()

    def read(path):
        return fault(path) if next(calls) else None  # the first file is good

    monkeypatch.setitem(READERS, "broken", Reader(read, lambda folder: {".x": b"good"}))
    _, findings = hunt("broken", 1, folder=tmp_path)
    assert len(findings) == 1
    assert findings[0].what.startswith(what)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="atheris is built for Linux alone")
def test_the_guided_hunt_feeds_a_reader_and_says_how_the_files_ended(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz.guided", "mrc", "--inputs", "300"]
    run = subprocess.run(
        [*command, "--keep", tmp_path], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    counts = ast.literal_eval(run.stdout.strip().partition(": ")[2])
    assert counts["read"] + counts["worded"] == 300
    assert min(counts.values()) > 10
    assert not list(tmp_path.iterdir())

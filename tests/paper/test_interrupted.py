"""A reproduction that is interrupted or killed: one message, no process left, continued later."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [
    *[str(Path(sys.executable).parent / "respondcam"), "reproduce", "table1", "--data", "groel"],
    *["--data", "p97", "--size", "16", "--voxel-size", "20", "--per-class", "1"],
    *["--device", "cpu", "--out"],
]


def members(group: int) -> list[int]:
    """Processes of a group that are not over."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text("utf-8")
        except OSError:
            continue  # it has just ended
        state, _, number = text.rpartition(")")[2].split()[:3]
        if int(number) == group and state != "Z":
            found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_and_the_folder_is_continued(ending: int, tmp_path: Path) -> None:
    run = subprocess.Popen(
        [*COMMAND, str(tmp_path)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert run.stderr is not None
    for line in run.stderr:
        if "epoch 2/" in line:
            break
    if ending == signal.SIGINT:  # as a terminal sends it: to all
        os.killpg(run.pid, ending)
    else:
        run.kill()
    rest = run.stderr.read()
    if ending == signal.SIGINT:
        assert run.wait(60) == 130
        assert "Interrupted." in rest
        assert "Traceback" not in rest
    deadline = time.monotonic() + 60
    while members(run.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    run.wait(60)
    run.stderr.close()
    assert members(run.pid) == []
    again = subprocess.run(
        [*COMMAND, str(tmp_path)], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert again.returncode == 0, again.stderr
    assert "epoch 10/10" in again.stderr
    if "epoch 1/10" in again.stderr:  # at most one of the two had to begin anew
        assert again.stderr.count("epoch 1/10") == 1
    assert (tmp_path / "table1.md").is_file()

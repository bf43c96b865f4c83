"""The script for batch queues, run as a queue would, up to what the command makes of it."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import typer.main

from respondcam.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "large-volumes.md"


def test_each_job_explains_its_own_volume_with_options_that_exist(tmp_path: Path) -> None:
    (script,) = re.findall(r"```slurm\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "tomograms").mkdir()
    for name in "abc":
        (tmp_path / "tomograms" / f"{name}.mrc").touch()
    stub = tmp_path / "bin" / "respondcam"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stub.chmod(0o755)
    given = {"PATH": f"{stub.parent}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        cwd=tmp_path,
        env=os.environ | given,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    command, *words = done.stdout.split()
    assert command == "explain"
    group: Any = typer.main.get_command(app)
    context = group.commands[command].make_context("explain", words)
    assert context.params["files"] == ["tomograms/b.mrc"]
    assert (context.params["window"], context.params["device"]) == ("40", "cuda")

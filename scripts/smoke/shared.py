"""What the smoke tests share: the installed command, and the test suite's makers of folders."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

RESPONDCAM = Path(sys.executable).with_name("respondcam")


def attempt(line: str) -> subprocess.CompletedProcess[str]:
    """Run ``respondcam`` with the words of a line."""
    return subprocess.run(
        [RESPONDCAM, *line.split()], capture_output=True, text=True, encoding="utf-8", check=False
    )


def command(line: str) -> None:
    """Run ``respondcam``, which must succeed."""
    done = attempt(line)
    assert done.returncode == 0, f"respondcam {line}\n{done.stderr}"


def part_of_tests(path: str) -> ModuleType:
    """Load a file of the tests by its path below ``tests``."""
    file = Path(__file__).resolve().parents[2] / "tests" / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

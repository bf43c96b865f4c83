"""Runs a page from top to bottom, as a reader would, in one folder and one Python session."""

import contextlib
import doctest
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.docs.reading import PYTHON, SHELL, Block, blocks, name_of
from typer.testing import CliRunner

from respondcam.cli import app

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

# What a page may tell a reader to type that no test runs here: it changes the machine, or needs
# another one.
ELSEWHERE = {
    **dict.fromkeys(
        ("pip", "uv", "conda", "apt-get"), "installs into the environment of the tests"
    ),
    **dict.fromkeys(("docker", "podman", "apptainer"), "runs another machine's programs"),
    "git": "fetches from elsewhere",
    "make": "sets up an environment; what its targets run is tested by itself",
    "napari": "opens a window and waits",
}


class SnippetError(AssertionError):
    """A snippet that does not do what its page says."""


def run_page(page: Path) -> int:
    """Run every block of a page in the current folder; say how many there were."""
    names: dict[str, Any] = {"__name__": "__main__"}
    ran = 0
    for block in blocks(page):
        if block.not_run or block.language not in PYTHON | SHELL:
            continue
        where = f"{name_of(page)}:{block.line}"
        if block.language in SHELL:
            for command, shown in block.commands:
                run_command(command, shown, where)
        elif block.title:
            Path(block.title).write_text(block.code, "utf-8")
        else:
            run_python(block, names, where)
        ran += 1
    return ran


def run_python(block: Block, names: dict[str, Any], where: str) -> None:
    """Run Python in the page's session; prompts (``>>>``) are compared with what is shown."""
    if ">>>" not in block.code:
        exec(compile(block.code, where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(block.code, names, where, where, block.line)
    test.globs = names  # the parser takes a copy
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.write, clear_globs=False)
    if said.getvalue():
        raise SnippetError(said.getvalue())


def run_command(command: str, shown: str, where: str) -> None:
    """Run a command; compare what it prints where the page shows it, and its exit code."""
    program, *arguments = shlex.split(command, comments=True)
    if program in ELSEWHERE:
        return
    if program == "export":
        os.environ.update(argument.split("=", 1) for argument in arguments)
        return
    if program == "respondcam":
        code, said = in_process(arguments)
    elif program == "python" or program.startswith("nnUNetv2_"):
        code, said = in_a_shell(command)
    else:
        raise SnippetError(f"{where}: is {program!r} to be run? See tests/docs/running.py")
    expected = 2 if shown.startswith("respondcam: ") else 0
    if code != expected:
        raise SnippetError(f"{where}: {command}\nexit code {code}, not {expected}\n{said}")
    if shown and not doctest.OutputChecker().check_output(shown, said, FLAGS):
        raise SnippetError(f"{where}: {command}\nthe page shows\n{shown}\nthis was printed\n{said}")


def in_process(arguments: list[str]) -> tuple[int, str]:
    """Call the command line in this process: importing PyTorch anew each time takes seconds."""
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def in_a_shell(command: str) -> tuple[int, str]:
    """Run a command as the reader's shell would."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        command, shell=True, env={**os.environ, "PATH": path}, text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return run.returncode, run.stdout


@contextlib.contextmanager
def reader_s_folder(folder: Path):
    """Work in a folder, with its modules importable, and forget them afterwards."""
    before, known, environment = Path.cwd(), set(sys.modules), dict(os.environ)
    os.chdir(folder)
    sys.path.insert(0, "")
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove("")
        os.environ.clear()
        os.environ.update(environment)
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).parents:
                del sys.modules[name]

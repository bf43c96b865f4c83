"""What is printed: on a terminal of 80 columns, without colour, quietly; and pages of evidence."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

pty = pytest.importorskip("pty", reason="needs a terminal, which this system has none of")

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|9[0-7]|38|48)(?:;\d+)*m")
FILES = ("subtomogram_000.mrc", "subtomogram_001.mrc")
WHOLE = {
    "explain": (*FILES, "[red]ribosome", "20S proteasome", "layer: second"),
    "audit": (*FILES, "ferritin", "tau", "respond"),
    "compare": ("deletion -", "channel-sum", "to first"),
    "layers": ("second.1", "AdaptiveAvgPool3d", "same output as second", "chosen"),
}


@pytest.fixture
def volumes(tmp_path, make) -> Path:
    folder = tmp_path / "volumes"
    folder.mkdir()
    for seed in range(2):
        make.mrc(folder / f"subtomogram_{seed:03}.mrc", make.blob((8, 8, 8), seed=seed))
    return folder


def on_a_terminal(folder: Path, *arguments: object, **variables: str) -> str:
    """Everything that a command writes to a terminal of 80 columns."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    unset = ("NO_COLOR", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "PYTEST_CURRENT_TEST")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    code = "from respondcam.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={**environment, "TERM": "xterm-256color", **variables},
    )
    os.close(theirs)
    chunks = []
    with contextlib.suppress(OSError):  # how the end of a terminal shows
        while chunk := os.read(ours, 65536):
            chunks.append(chunk)
    os.close(ours)
    assert process.wait(60) == 0, b"".join(chunks).decode()
    return b"".join(chunks).decode()


def lines_of(text: str) -> list[str]:
    """The lines that stay on the screen, without what draws them."""
    return [ESCAPE.sub("", line).split("\r")[-1] for line in text.replace("\r\n", "\n").split("\n")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("explain", "--layer", "second", "--target", "all"),
        ("audit", "--method", "respond", "--method", "grad"),
        ("compare", "--steps", 3, "--method", "respond", "--method", "grad"),
        ("layers", "--shape", "1,8,8,8"),
    ],
    ids=lambda command: command[0],
)
def test_everything_fits_into_80_columns_without_colour(tmp_path, volumes, nets, command) -> None:
    name, *options = command
    files = [] if name == "layers" else [volumes]
    given = (name, *files, "--model", f"{nets}:named", *options)
    text = on_a_terminal(tmp_path, *given, NO_COLOR="1")
    lines = lines_of(text)
    # sentences go on in the next line of the screen; tables must not
    tables = [line for line in lines if "   " in line.strip() or "──" in line]
    assert tables
    assert max(map(len, tables)) <= 80, max(tables, key=len)
    assert COLOUR.search(text) is None
    whole = " ".join(lines)
    for name in WHOLE[command[0]]:
        assert name in whole  # no name is folded


@pytest.mark.slow
def test_a_dumb_terminal_gets_plain_text(tmp_path, volumes, nets) -> None:
    text = on_a_terminal(tmp_path, "audit", volumes, "--model", f"{nets}:named", TERM="dumb")
    assert "\x1b" not in text
    assert "2 of 2 volumes audited." in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("explain", "VOLUMES", "--model", "NETS:net"),
        ("explain", "VOLUMES", "--model", "NETS:net", "--window", 8),
        ("audit", "VOLUMES", "--model", "NETS:net"),
        ("compare", "VOLUMES", "--model", "NETS:net", "--metric", "account"),
        ("demo",),
    ],
)
def test_quiet_prints_nothing_and_json_all_the_same(cli, volumes, nets, command) -> None:
    given = [str(part).replace("VOLUMES", str(volumes)).replace("NETS", nets) for part in command]
    result = cli(*given, "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert cli(*given, "--quiet", "--json").out.startswith("{")


def test_every_long_command_can_be_quiet_and_speak_json() -> None:
    import typer

    from respondcam.cli import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        options = {option for one in command.params for option in one.opts}
        assert "--json" in options, name
        if name != "layers":  # which takes a moment, and only lists
            assert "--quiet" in options, name


# --- streams that are closed --------------------------------------------------------------------

_FIRST_LINE = """
import os, sys
theirs, ours = os.pipe()
os.dup2(ours, 1)
os.close(theirs)  # whoever read has gone
from respondcam.cli import main
main()
"""
_CLOSED = """
import os, sys
from pathlib import Path
os.close(1)
sys.stdout = None  # as Python starts then
from respondcam.cli import main
main()
"""


@pytest.mark.parametrize("command", ["explain", "layers", "audit"])
@pytest.mark.parametrize(("code", "exit_code"), [(_FIRST_LINE, 1), (_CLOSED, 0)])
def test_nobody_reads_what_is_printed(tmp_path, mrc, nets, command, code, exit_code) -> None:
    """`| head -1` ends as other programs do, without a word; with `>&-` the work is done."""
    given = ("--shape", "1,8,10,12") if command == "layers" else (str(mrc),)
    done = subprocess.run(
        [sys.executable, "-c", code, command, *given, "--model", f"{nets}:named"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (exit_code, "")
    assert (tmp_path / "respondcam-maps").exists() == (command == "explain")


# --- pages of evidence ------------------------------------------------------------------------


def test_a_comparison_has_a_page_with_its_figure_and_tables(cli, volumes, nets, tmp_path) -> None:
    given = ("compare", volumes, "--model", f"{nets}:named", "--metric", "account")
    result = cli(*given, "--report", "--json")
    assert result.code == 0, result.err
    page = (tmp_path / "respondcam-compare" / "compare.html").read_text("utf-8")
    assert "respondcam-compare/compare.html" in result.out
    assert page.count('src="data:image/png;base64,') == 1
    assert "<h2" in page
    for words in ("All figures", "Volume by volume", "subtomogram_000", "channel-sum"):
        assert words in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_an_audit_has_a_page_with_names_as_they_are(cli, volumes, nets, tmp_path) -> None:
    (volumes / "broken.mrc").write_bytes(b"\0" * 2000)
    result = cli("audit", volumes, "--model", f"{nets}:named", "--report", "accounts.html")
    assert result.code == 2
    assert "Open in a browser: accounts.html" in result.out
    page = (tmp_path / "accounts.html").read_text("utf-8")
    for words in ("[red]ribosome", "Class by class", "subtomogram_001.mrc", "Not audited"):
        assert words in page
    for words in (">L1, from<", ">relative gap, to<", ">tau over volumes<", ">–</td>"):
        assert words in page
    for raw in ("l1_low", "relative_gap", "tau_over_images", "nan"):
        assert raw not in page.split("<main>")[1]
    assert cli("audit", volumes, "--model", f"{nets}:net", "--report", "no/a.html").code == 2


def test_a_reproduction_has_a_page_with_its_tables_and_figures(tmp_path) -> None:
    from respondcam.cli._reproducing import Made, write_page
    from respondcam.show import save_figure, slice_montage
    from respondcam.volume import Volume

    figure = slice_montage(Volume(np.ones((4, 4, 4))))
    picture = save_figure(figure, tmp_path / "figure3.png")
    (tmp_path / "table1.csv").write_text("network,L1\nCNN-2,<0.5>\n", "utf-8")
    made = [
        Made("figure3", (picture,)),
        Made("table1", (tmp_path / "table1.csv", tmp_path / "table1.md"), ("CNN-2: L1 0.5",)),
    ]
    page = write_page(made, tmp_path)
    text = page.files[0].read_text("utf-8")
    assert "table1: CNN-2: L1 0.5" in text
    assert "&lt;0.5&gt;" in text
    assert text.count("data:image/png;base64,") == 1


def test_a_name_does_not_command_the_terminal(cli, nets, tmp_path, make) -> None:
    """A file name may hold escape sequences and line feeds; they are shown, not obeyed."""
    name = "a\nb\x1b[31m\u202ered.mrc"
    make.mrc(tmp_path / "plain.mrc", make.blob((8, 8, 8)))
    (tmp_path / "plain.mrc").rename(tmp_path / name)
    for words in (("--report",), ("--layer", "none of them"), ("--json",)):
        result = cli("explain", name, "--model", f"{nets}:net", "--out", "out", *words)
        assert result.code == (2 if "--layer" in words else 0), result.err
        for text in (result.out, result.err):
            assert not set("\x1b\u202e") & set(text)
    result = cli("report", "out")
    assert result.code == 0, result.err
    assert "\x1b" not in result.out
    assert "Warning" not in result.err


def test_what_a_report_notes_is_said_once(cli, nets, tmp_path) -> None:
    voxels = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    mrcfile.new(tmp_path / "a.mrc", voxels).close()  # without the size of a voxel
    result = cli("explain", "a.mrc", "--model", f"{nets}:net", "--out", "out", "--report")
    assert (result.out + result.err).count("has no voxel size") == 1, result.out + result.err
    again = cli("report", "out")
    assert (again.out + again.err).count("has no voxel size") == 1, again.out + again.err

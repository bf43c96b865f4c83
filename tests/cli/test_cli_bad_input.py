"""Every kind of bad input: exit code 2, one clear message, nothing left behind."""

import errno
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# name of the file, what makes it from a good MRC file's content, what the message must hold
FILES = {
    "missing": ("none.mrc", None, "none.mrc"),
    "empty": ("bad.mrc", lambda good: b"", "empty"),
    "cut in the header": ("bad.mrc", lambda good: good[:500], "bad.mrc"),
    "cut in the data": ("bad.mrc", lambda good: good[:2000], "bad.mrc"),
    "lying about its size": (
        "bad.mrc",
        lambda good: np.array([10**4] * 3, "<i4").tobytes() + good[12:],
        "bad.mrc",
    ),
    "a text": ("bad.mrc", lambda good: b"I am no volume. " * 200, "bad.mrc"),
    "a text called NIfTI": ("bad.nii", lambda good: b"I am no volume. " * 200, "bad.nii"),
    "not gzipped": ("bad.nii.gz", lambda good: b"I am no volume. " * 200, "bad.nii.gz"),
    "gzip cut short": ("bad.mrc.gz", lambda good: gzip.compress(good)[:900], "bad.mrc.gz"),
    "of no known kind": ("bad.docx", lambda good: good, ".mrc"),
}


ODD = """
import sys
import torch
from torch import nn


def net():
    return nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    )


class Ends(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.net, self.end = net(), end

    def forward(self, x):
        return self.end(self.net(x))


def leaves(): sys.exit(3)
def leaving(): return Ends(lambda scores: sys.exit(0))
def lazy(): return nn.Sequential(nn.LazyConv3d(4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
def meta(): return net().to("meta")
def text(): return Ends(lambda scores: "cat")
def none(): return Ends(lambda scores: None)


def talking():
    print("built")
    return Ends(lambda scores: print("run") or scores)
"""


def assert_refused(result, *words: str) -> str:
    assert result.code == 2, (result.out, result.err)
    assert "Traceback" not in result.err
    assert "Something went wrong" not in result.err
    assert result.err.count("respondcam:") == 1, result.err
    for word in words:
        assert re.search(word, result.err), result.err
    return result.err


def assert_nothing_left(folder: Path) -> None:
    assert not (folder / "respondcam-maps").exists()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", ["explain", "audit"])
def test_files_that_are_no_volumes(cli, nets, mrc, tmp_path, kind, command):
    name, spoil, words = FILES[kind]
    if spoil:
        (tmp_path / name).write_bytes(spoil(mrc.read_bytes()))
    result = cli(command, tmp_path / name, "--model", f"{nets}:net")
    assert_refused(result, re.escape(words))
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers(cli, nets, tmp_path, make, value):
    voxels = make.blob((8, 8, 8))
    voxels[1, 2, 3] = value
    path = make.mrc(tmp_path / "nan.mrc", voxels)
    result = cli("explain", path, "--model", f"{nets}:net")
    assert_refused(result, "NaN or infinite", "nonfinite|--nonfinite")
    assert_nothing_left(tmp_path)
    mended = cli("explain", path, "--model", f"{nets}:net", "--nonfinite", "zero")
    assert mended.code == 0, mended.err


def test_wrong_channels_for_the_model(cli, nets, mrc, tmp_path):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--model-arg", "channels=2")
    assert_refused(result, r"channel|shape", r"\(1, 1, 8, 10, 12\)|1, 8, 10, 12")
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("layer", [(), ("--layer", "conv")])
def test_wrong_spatial_shape_for_the_model(cli, nets, mrc, tmp_path, layer):
    result = cli("explain", mrc, "--model", f"{nets}:Dense", *layer)
    assert_refused(result, "1, 1, 8, 10, 12")
    assert_nothing_left(tmp_path)


def test_wrong_shape_for_the_publication_s_network(cli, mrc, tmp_path):
    result = cli("explain", mrc, "--model", "paper:cnn-2")
    assert_refused(result, "CNN-2", "40")
    assert_nothing_left(tmp_path)


@pytest.fixture
def cube(tmp_path, make) -> Path:
    """A volume that the dense network takes."""
    return make.mrc(tmp_path / "cube.mrc", make.blob((8, 8, 8)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layer", "convv"), ["no layer 'convv'", "conv"]),
        (("--layer", "never"), ["never", "call"]),
        (("--layer", "aside"), ["aside", "not depend|no gradient|does not reach"]),
        (("--target", "2"), ["out of range", "0 to 1"]),
        (("--target", "0,7"), ["7", "out of range"]),
        (("--target", "ribosome"), ["--target is 'ribosome'", "predicted, all"]),
        (("--target", "-1"), ["--target is '-1'"]),
        (("--method", "gradcam"), ["'gradcam'. Did you mean grad\\? Accepted: respond"]),
        (("--method", "Grad-CAM++"), [r"Did you mean grad\+\+\?"]),
        (("--method", "hires_cam"), [r"Did you mean hires\?"]),
        (("--normalize", "max"), ["--normalize is 'max'", "zscore"]),
        (("--axes", "yxz"), ["--axes is 'yxz'", "zyx, xyz"]),
        (("--align", "even"), ["--align is 'even'", "measured"]),
        (("--nonfinite", "keep"), ["--nonfinite is 'keep'"]),
        (("--device", "tpu"), ["--device is 'tpu'", "cpu"]),
        (("--device", "cuda:99"), ["cuda:99", "--device cpu"]),
        (("--model-arg", "classes"), ["NAME=VALUE"]),
        (("--model-arg", "classes=3"), ["takes no argument 'classes'"]),
    ],
)
def test_options_that_cannot_be_met(cli, nets, cube, tmp_path, options, words):
    result = cli("explain", cube, "--model", f"{nets}:Dense", *options)
    assert_refused(result, *words)
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{nets}:nett", ["no 'nett'", "net"]),
        ("nowhere.py:net", ["'nowhere.py' does not exist"]),
        ("no_such_module:net", ["cannot be imported", "No module named"]),
        ("monai:bundle", ["MONAI bundle 'bundle' does not exist"]),
        ("resnet", ["no address of a model"]),
    ],
)
def test_models_that_are_not_there(cli, nets, cube, tmp_path, spec, words):
    result = cli("explain", cube, "--model", spec.format(nets=nets))
    assert_refused(result, *words)
    assert_nothing_left(tmp_path)


def test_weights_that_do_not_fit(cli, nets, cube, tmp_path):
    torch.save({"scores.weight": torch.ones(5, 6), "other": torch.ones(1)}, tmp_path / "w.pt")
    result = cli("explain", cube, "--model", f"{nets}:net", "--weights", tmp_path / "w.pt")
    assert_refused(result, "do not fit", "missing in the file", "not in the model", r"\(5, 6\)")
    assert_nothing_left(tmp_path)


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("it-ran"),)


def test_a_pickle_needs_trust(cli, nets, cube, tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Bomb()))
    result = cli("explain", cube, "--model", f"{nets}:net", "--weights", tmp_path / "w.pkl")
    assert_refused(result, "could run any code", "--trust")
    assert not (tmp_path / "it-ran").exists()
    assert_nothing_left(tmp_path)


def test_an_output_folder_that_cannot_be_written(cli, nets, cube, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        result = cli("explain", cube, "--model", f"{nets}:net", "--out", out)
        assert_refused(result, "--out", "cannot be written to")
    assert (tmp_path / "file").read_text("utf-8") == "in the way"


def test_the_output_folder_is_tried_before_any_work(cli, cube, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = cli("explain", cube, "--model", "nowhere.py:net", "--out", tmp_path / "file")
    assert_refused(result, "--out")


def test_a_file_in_the_way_of_a_result(cli, nets, cube, tmp_path):
    arguments = ("explain", cube, "--model", f"{nets}:net", "--layer", "second", "--target", "0")
    (tmp_path / "respondcam-maps" / "cube.respond.second.class-0.png").mkdir(parents=True)
    assert_refused(cli(*arguments, "--overwrite"), "is a folder")
    assert len(list((tmp_path / "respondcam-maps").iterdir())) == 1


def test_a_failure_while_writing_leaves_nothing(cli, nets, cube, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("respondcam.cli._writing.save_figure", full)
    result = cli("explain", cube, "--model", f"{nets}:net")
    assert_refused(result, "the results", "respondcam-maps", "No space left on device", "Make room")
    assert_nothing_left(tmp_path)


def test_a_file_that_the_system_finds_too_large_is_named_as_the_user_does(
    cli, nets, cube, tmp_path, monkeypatch
):
    def large(*arguments, **options):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr("respondcam.volume.mrc.write", large)
    result = cli("explain", cube, "--model", f"{nets}:net", "--layer", "second", "--target", "0")
    assert_refused(result, "respondcam-maps/cube.respond.second.class-0", "too large", "ulimit -f")
    assert ".respondcam-" not in result.err
    assert_nothing_left(tmp_path)


def test_what_a_network_raises_of_its_own_ends_the_command_in_words(cli, nets, cube, tmp_path):
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "class Own(BaseException): pass\n"
        "class Net(torch.nn.Conv3d):\n"
        "    def forward(self, x): raise Own('said')\n"
        "def net(): return Net(1, 2, 3)\n"
        "def own(): raise Own('said')\n"
    )
    result = cli("explain", cube, "--model", "own.py:net")
    assert (result.code, result.err) == (
        1, "respondcam: The code of the network ended the program (Own: said).\n",
    )  # fmt: skip
    assert_refused(cli("explain", cube, "--model", "own.py:own"), "failed: Own: said")


def test_a_message_of_any_length_is_cut(cli, nets, cube, tmp_path):
    (tmp_path / "long.py").write_text("class Long: pass\ndef net(): raise KeyError('k' * 10**6)\n")
    assert len(cli("explain", cube, "--model", "long.py:net").err) < 1000
    names = "', '".join(f"n{number}" for number in range(10_000))
    given = ("explain", cube, "--model", f"{nets}:net", "--layer", names)
    result = cli(*given)
    assert_refused(result, "no layer")
    assert len(result.err) < 5000


def test_a_name_that_is_too_long_is_found_before_the_work(cli, nets, make, tmp_path, monkeypatch):
    long = make.mrc(tmp_path / f"{'long' * 60}.mrc", make.blob((8, 8, 8)))
    monkeypatch.setattr("respondcam.cli._explaining.explain_source", None)
    result = cli("explain", long, "--model", f"{nets}:net")
    assert_refused(result, "longlong", "into 'respondcam-maps'", "too long", "shorter names")
    assert_nothing_left(tmp_path)


def test_a_name_that_is_too_long(cli, nets, make, tmp_path):
    long = make.mrc(tmp_path / f"{'long' * 60}.mrc", make.blob((8, 8, 8)))
    result = cli("explain", long, "--model", f"{nets}:net")
    assert_refused(result, "longlong", "into 'respondcam-maps'", "too long", "shorter names")
    assert_nothing_left(tmp_path)
    result = cli("explain", long, "--model", f"{nets}:net", "--out", "long" * 70)
    assert_refused(result, "--out", "too long")


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "cube.mrc", "--model", "demo"),
        ("compare", "cube.mrc", "--model", "demo"),
        ("average", "particles.star", "--model", "demo"),
        ("report", "respondcam-maps"),
        ("reproduce", "table1"),
        ("simulate",),
        ("train",),
        ("demo",),
    ],
)
def test_an_output_folder_of_an_empty_name(cli, tmp_path, command):
    before = sorted(tmp_path.iterdir())
    result = cli(*command, "--out", "")
    assert result.code == 2, result.err
    assert "--out" in result.err
    assert "is empty" in result.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_fault_of_the_network_s_own_code(cli, nets, cube, tmp_path):
    result = cli("explain", cube, "--model", f"{nets}:broken")
    assert result.code in (1, 2)
    assert "inside the network" in result.err
    assert "Traceback" not in result.err
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("leaves", ["failed", "SystemExit: 3"]),
        ("leaving", ["ended the program", "SystemExit: 0"]),
        ("lazy", ["parameters without values", "Run the network once"]),
        ("meta", ["parameters without values", "to_empty"]),
        ("text", ["output is a str"]),
        ("none", ["output is None"]),
    ],
)
@pytest.mark.parametrize("command", ["explain", "audit", "layers"])
def test_networks_that_give_nothing(cli, cube, tmp_path, factory, words, command):
    (tmp_path / "odd.py").write_text(ODD)
    file = ("--input", cube) if command == "layers" else (cube,)
    result = cli(command, *file, "--model", f"{tmp_path}/odd.py:{factory}")
    if command == "layers" and factory in ("text", "none"):  # whose layers are there all the same
        return
    assert result.code == 2, result.err
    for word in words:
        assert word in result.err
    assert_nothing_left(tmp_path)


def test_what_a_network_prints_stays_out_of_the_document(cli, cube, tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    base = ("explain", cube, "--model", f"{tmp_path}/odd.py:talking")
    for more in ((), ("--window", "6", "--target", "0")):
        result = cli(*base, "--json", "--overwrite", *more)
        assert result.code == 0, result.err
        assert json.loads(result.out)["notes"]
        assert "built" in result.err
        assert "run" in result.err
    assert "built" in cli(*base, "--overwrite").out


def test_an_interruption_leaves_nothing(cli, nets, cube, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("respondcam.cli._writing.save_figure", interrupted)
    result = cli("explain", cube, "--model", f"{nets}:net")
    assert result.code == 130
    assert "Interrupted" in result.err
    assert_nothing_left(tmp_path)


def test_an_interruption_within_generated_code(tmp_path):
    """As that of dataclasses, while libraries are imported."""
    (tmp_path / "nets.py").write_text("def net():\n    exec('raise KeyboardInterrupt')\n")
    command = [sys.executable, "-m", "respondcam", "layers", "--model", "nets.py:net"]
    command += ["--shape", "1,8,8,8"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 130
    assert run.stderr == "respondcam: Interrupted. Nothing was written.\n"


@pytest.mark.parametrize("command", ["explain", "audit"])
def test_a_list_of_particles_is_sent_to_its_images(cli, nets, tmp_path, command):
    (tmp_path / "particles.star").write_text("data_particles")
    result = cli(command, "particles.star", "--model", f"{nets}:net")
    assert_refused(result, "list of particles.*folder of the images.*respondcam average")


def test_a_pattern_without_files(cli, nets, tmp_path):
    assert_refused(cli("explain", "nothing-*.mrc", "--model", f"{nets}:net"), "No file matches")
    assert_nothing_left(tmp_path)


def test_a_mistake_that_holds_for_all_files_is_said_once(cli, nets, tmp_path, make):
    for number in range(5):
        make.mrc(tmp_path / f"{number}.mrc", make.blob((8, 8, 8), seed=number))
    result = cli("explain", "*.mrc", "--model", f"{nets}:net", "--target", "9")
    assert_refused(result, r"0\.mrc, 1\.mrc, 2\.mrc and 2 more: .*out of range")
    assert_nothing_left(tmp_path)


def test_a_volume_that_does_not_fit_into_memory(nets, tmp_path, make) -> None:
    """PyTorch reports it as it reports a wrong shape; the user reads what it was."""
    make.mrc(tmp_path / "small.mrc", make.blob((8, 8, 8)))
    make.mrc(tmp_path / "big.mrc", make.blob((192, 192, 192)))
    script = (
        "import contextlib, resource, sys, torch\n"
        "from respondcam.cli import main\n"
        "torch.set_num_threads(1)\n"
        "options, sys.argv = sys.argv[1:], [sys.argv[0], 'explain', 'small.mrc', *sys.argv[1:]]\n"
        "with contextlib.suppress(SystemExit): main()\n"  # all is imported then
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 150 * 2**20, -1))\n"
        "sys.argv[1:] = ['explain', 'big.mrc', *options]\n"
        "main()\n"
    )
    words = ("--model", f"{nets}:net", "--layer", "second", "--device", "cpu", "--target", "0")
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "big.mrc: There is not enough memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_messages_name_the_options_of_the_command_line(cli, nets, mrc, tmp_path):
    said = assert_refused(
        cli("explain", mrc, "--model", f"{nets}:Several"), r"--output first", "'first', 'second'"
    )
    assert "output=" not in said
    said = assert_refused(
        cli("explain", mrc, "--model", f"{nets}:net", "--layer", "secnod"), "respondcam layers"
    )
    assert "respondcam.inspect" not in said


def test_colours_behind_the_voxels(cli, nets, tmp_path):
    path = tmp_path / "colours.npy"
    np.save(path, np.random.default_rng(0).random((8, 8, 8, 3), np.float32))
    result = cli("explain", path, "--model", f"{nets}:net")
    assert_refused(result, "last axis has 3 entries", "moveaxis")


def test_windows_that_are_too_small(cli, tmp_path, mrc):
    (tmp_path / "deep.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.MaxPool3d(4), nn.Conv3d(2, 2, 1),\n"
        "                         nn.AdaptiveAvgPool3d(1), nn.Flatten())\n"
    )
    result = cli("explain", mrc, "--model", "deep.py:net", "--window", "4")
    assert_refused(result, "or the window, is too small", "Give a larger one, or pad")


@pytest.mark.parametrize(
    ("command", "place", "words"),
    [
        (("explain", "--target", "0"), "_writing.save_figure", "Nothing was written"),
        (
            ("explain", "--window", "8", "--target", "0"),
            "_large.explain_large",
            "windows that were",
        ),
        (("audit", "--csv", "a.csv"), "_auditing.explain_source", "Nothing was written"),
        (("compare",), "_comparing._results", "volumes that were measured are kept in 'out'.*same"),
    ],
)
def test_an_interruption_says_what_was_kept(
    cli, nets, cube, tmp_path, monkeypatch, command, place, words
):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"respondcam.cli.{place}", interrupted)
    name, *options = command
    if name == "explain" and "--window" in options:
        (tmp_path / "out").mkdir()
    out = [] if name == "audit" else ["--out", "out"]
    result = cli(name, cube, "--model", f"{nets}:net", *options, *out)
    assert result.code == 130
    assert re.search(f"respondcam: Interrupted. .*{words}", result.err), result.err
    assert result.err.count("nterrupted") == 1


def test_an_interrupted_simulation_says_that_its_list_is_missing(cli, tmp_path, monkeypatch):
    pytest.importorskip("starfile")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("respondcam.cryoet.simulation._made", interrupted)
    given = ("simulate", "--data", "groel", "--per-class", "2", "--size", "24", "--out", "sim")
    result = cli(*given)
    assert result.code == 130
    assert "kept in 'sim'; the list of their particles comes when all are there" in result.err
    assert not (tmp_path / "sim" / "particles.star").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert cli(*given).code == 0
    assert (tmp_path / "sim" / "particles.star").exists()


def test_a_name_that_is_no_text(cli, nets, mrc, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff\xfe.mrc")
    odd.write_bytes(mrc.read_bytes())
    for given in (odd, "*.mrc"):
        result = cli("explain", given, "--model", f"{nets}:net")
        assert_refused(result, r"udcff.*no UTF-8 text")
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method-arg", "nodes=" + "[" * 5000), "--method-arg nodes cannot be read as JSON"),
        (("--model-arg", "classes=" + "9" * 5000), "an integer of 5000 digits"),
        (("--model-arg", "classes=0"), r"output \(1, 0\) has no classes"),
        (("--output", "9" * 5000), "is no part of the network's output"),
        (("--weights", "~no-such-user/w.pt"), "does not exist"),
    ],
)
def test_arguments_that_nobody_means(cli, nets, mrc, tmp_path, options, words):
    result = cli("explain", mrc, "--model", f"{nets}:net", *options)
    assert_refused(result, words)
    assert_nothing_left(tmp_path)


def test_home_folders_of_nobody(cli, nets, mrc, tmp_path):
    assert_refused(cli("explain", "~no-such-user/a.mrc", "--model", f"{nets}:net"), "no file")
    mrc.rename(tmp_path / "~no-such-user.mrc")  # the file's own name
    assert cli("explain", "~no-such-user.mrc", "--model", f"{nets}:net").code == 0


def test_weights_that_are_a_pipe(cli, nets, mrc, tmp_path):
    os.mkfifo(tmp_path / "w.pt")
    result = cli("explain", mrc, "--model", f"{nets}:net", "--weights", tmp_path / "w.pt")
    assert_refused(result, "no regular file")

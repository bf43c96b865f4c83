"""Errors as one message, devices, arguments and numbers."""

import json
import math

import pytest
import torch
import typer

from respondcam._extras import require
from respondcam.cli._failures import exit_code, guarded, in_words
from respondcam.cli._options import parse_arguments, pick_device
from respondcam.cli._printing import for_csv, number, percent, to_json
from respondcam.errors import InputError, MissingExtraError


def test_a_missing_package_gives_the_command_that_installs_it():
    with pytest.raises(MissingExtraError, match=r"pip install 'respondcam\[large\]'") as caught:
        require("no_such_package", extra="large", purpose="stitch")
    assert caught.value.name == "no_such_package"
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    "line",
    ["raise RuntimeError('operator torchvision::nms does not exist')", "from math import nothing"],
)
def test_a_package_that_cannot_be_imported_is_told_from_one_that_is_missing(
    tmp_path, monkeypatch, line
):
    (tmp_path / "mixed_up.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="installed, but cannot be imported") as caught:
        require("mixed_up", extra="onnx", purpose="turn ONNX into PyTorch")
    assert str(caught.value.__cause__)[:20] in str(caught.value)
    assert "pip install --upgrade 'respondcam[onnx]'" in str(caught.value)


def outcome(error: BaseException, capsys) -> tuple[int, str]:
    @guarded
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        command()
    return caught.value.exit_code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("The file is empty."), 2, "respondcam: The file is empty.\n"),
        (MissingExtraError("Install it with: pip"), 2, "respondcam: Install it with: pip\n"),
        (PermissionError(13, "Permission denied", "a.mrc"), 2, "'a.mrc': Permission denied."),
        (KeyboardInterrupt(), 130, "respondcam: Interrupted."),
        (RuntimeError("boom [bold]"), 1, "(RuntimeError: boom [bold])"),
        (RuntimeError("many\nlines\n" * 99), 1, "(RuntimeError: many lines many"),
        (MemoryError(), 1, "not enough memory"),
        (torch.OutOfMemoryError("CUDA"), 1, "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't"), 1, "not enough memory"),
    ],
)
def test_every_error_becomes_one_message_and_a_code(error, code, words, capsys, monkeypatch):
    monkeypatch.delenv("RESPONDCAM_DEBUG", raising=False)
    found, message = outcome(error, capsys)
    assert found == code
    assert words in message
    assert "Traceback" not in message
    assert message.count("\n") == 1


def test_the_traceback_is_there_when_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("RESPONDCAM_DEBUG", "1")
    assert "Traceback" in outcome(RuntimeError("boom"), capsys)[1]


def test_an_internal_fault_says_how_to_get_the_traceback():
    assert "RESPONDCAM_DEBUG=1" in in_words(KeyError("x"))
    assert exit_code(KeyError("x")) == 1


def test_leaving_on_purpose_is_no_error(capsys):
    @guarded
    def command() -> None:
        raise typer.Exit(3)

    with pytest.raises(typer.Exit) as caught:
        command()
    assert caught.value.exit_code == 3
    assert capsys.readouterr().err == ""


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="there are 2: cuda:0 to cuda:1"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match=r"there is none.*--device cpu"):
        pick_device("cuda")
    for wrong in ("gpu", "cuda:x", "", "cuda:", "cuda:-1"):
        with pytest.raises(InputError, match="Accepted: auto, cpu, cuda"):
            pick_device(wrong)


def test_arguments_are_json_or_text():
    assert parse_arguments(None) == {}
    assert parse_arguments(["a=1", 'b="x"', "c=x=y", "d=null", "e="]) == {
        "a": 1,
        "b": "x",
        "c": "x=y",
        "d": None,
        "e": "",
    }
    for wrong in ("classes", "=3", "a b=3"):
        with pytest.raises(InputError, match="NAME=VALUE"):
            parse_arguments([wrong])


def test_json_is_strict():
    text = to_json({"a": math.nan, "b": (1, math.inf), "c": torch.float32, "d": None, "e": True})
    assert json.loads(text) == {
        "a": None,
        "b": [1, None],
        "c": "torch.float32",
        "d": None,
        "e": True,
    }


def test_numbers_for_tables():
    assert [number(v) for v in (0.0, -1234567.0, 0.00012)] == ["0", "-1.235e+06", "0.00012"]
    assert [percent(v) for v in (0.5, 1e-9, math.inf)] == ["50 %", "0 %", "-"]


def test_cells_of_csv_files():
    formulas = ["=1", "+1+1", "-a", "@a", "\tx", "\rx", " =1", "-1\n"]
    assert all(for_csv({"a": text})["a"] == f"'{text}" for text in formulas)
    plain = {"a": "class 1", "b": -1.0, "c": None, "d": 3, "e": "", "f": "-", "g": "-1.5"}
    assert for_csv(plain) == plain

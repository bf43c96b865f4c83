"""``respondcam train``, from the command to a network that explains."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from respondcam.cli import app

QUICK = ["--data", "groel", "--data", "p97", "--size", "16", "--voxel-size", "25"]
QUICK += ["--resolution", "none", "--max-shift", "0.5", "--epochs", "2", "--batch", "4"]
QUICK += ["--held-out", "2", "--per-class", "4", "--precision", "fp32", "--device", "cpu"]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_train_then_explain(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, text, _ = run("train", *QUICK, "--out", str(out), "--json")
    assert code == 0
    told = json.loads(text)
    assert told["classes"] == ["groel", "p97"]
    assert len(told["history"]) == 2
    _, text, _ = run("train", *QUICK, "--out", str(out))  # done: only says it again
    weights = f"--weights {out / 'model.safetensors'}"
    assert f"--model paper:cnn-2 --model-arg size=16 {weights} --normalize zscore\n" in text
    if "hardly better than guessing" in text:
        assert "Train on more images (--per-class) or" in text
    card = (out / "card.md").read_text("utf-8")
    assert "groel, p97" in card
    assert '"snr": "0.1"' in card
    assert "mean 0 and standard deviation 1 (--normalize zscore)" in card

    simulated = tmp_path / "simulated"
    more = [*QUICK[:10], "--max-shift", "0.5", "--per-class", "2", "--device", "cpu"]
    assert run("simulate", *more, "--out", str(simulated))[0] == 0
    box = next((simulated / "subtomograms").rglob("*.mrc"))
    weights = ["--weights", str(out / "model.safetensors"), "--model-arg", "size=16"]
    code, text, errors = run(
        "explain", str(box), "--model", "paper:cnn-2", *weights, "--out", str(tmp_path / "maps")
    )
    assert code == 0, errors
    assert "groel" in text or "p97" in text

    code, text, _ = run(
        *["train", "--folder", str(simulated), "--model-arg", "size=16", "--epochs", "1"],
        *["--batch", "2", "--precision", "fp32", "--out", str(tmp_path / "second")],
    )
    assert code == 0
    assert "held-out images right, 2 classes, 1 epoch of " in text
    assert "hardly better than guessing" in text
    assert "--per-class" not in text

    code, _, errors = run("train", "--data", str(simulated), "--out", str(tmp_path / "third"))
    assert code == 2
    assert f"takes them with --folder {simulated}" in errors


def test_the_same_command_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    assert run("train", *QUICK, "--out", str(tmp_path))[0] == 0
    assert run("train", *QUICK, "--out", str(tmp_path), "--json")[0] == 0
    code, _, errors = run("train", *QUICK, "--snr", "1", "--out", str(tmp_path))
    assert code == 2
    assert "another training: facts" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "groel"], "a classifier needs two"),
        (["--data", "nowhere"], "is no file or folder"),
        (["--folder", "nowhere"], "does not exist"),
        (["--folder", ".", "--data", "groel"], "Give one of them"),
        (["--epochs", "0"], "epochs=0"),
        (["--learning-rate", "-1"], "must be positive"),
        (["--patience", "0"], "at least one epoch"),
        (["--precision", "fp8"], "--precision is 'fp8'. Accepted: auto, fp32, bf16"),
        (["--tilt-range", "-100,60"], "between -90 and 90"),
        (["--model", "torch.nn:Identity"], "no parameters to train"),
        (["--model", "paper:cnn-2", "--model-arg", "classes=3"], r"must give (1, 2)"),
    ],
)
def test_bad_input_is_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    given = QUICK if not any(word in ("--data", "--folder") for word in arguments) else QUICK[4:]
    out = tmp_path / "out"
    code, _, errors = run("train", *given, *arguments, "--out", str(out))
    assert code == 2, errors
    assert message in " ".join(errors.split())
    assert "Traceback" not in errors
    assert not (out / "model.safetensors").exists()

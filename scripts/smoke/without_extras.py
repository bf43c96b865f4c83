"""Without extras: the main job is done, and what needs an extra says in one line which."""

from pathlib import Path

import numpy as np
from shared import attempt, command

import respondcam as rc
from respondcam.cryoet import demo_network
from respondcam.show.isosurface import surface_figure


def refused(line: str, extra: str) -> None:
    done = attempt(line)
    words = done.stderr.strip()
    assert done.returncode == 2, f"{line}: {done.returncode} {words}"
    assert f"pip install 'respondcam[{extra}]'" in words, f"{line}: {words}"
    assert len(words) < 300, words


command("demo")
ball = rc.Volume(np.random.default_rng(0).random((16, 16, 16)), unit="mm")
for name in ("a.nii.gz", "a.mrc", "a.npz"):
    rc.write_volume(name, ball)
    assert rc.read_volume(name).shape == (16, 16, 16)
for name in ("net.onnx", "net.keras", "scan.tif"):
    Path(name).write_bytes(b"content that is not reached")
Path("bundle/configs").mkdir(parents=True)
Path("bundle/configs/metadata.json").write_text("{}")
Path("bundle/configs/inference.json").write_text("{}")
Path("model/fold_0").mkdir(parents=True)
for name in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
    Path("model", name).write_text("{}")
refused("explain scan.tif --model demo", "imaging")
refused("explain a.mrc --model onnx:net.onnx", "onnx")
refused("explain a.mrc --model keras:net.keras", "keras")
refused("explain a.nii.gz --model monai:bundle --trust", "monai")
refused("explain a.nii.gz --model nnunet:model --trust", "nnunet")
refused("explain a.mrc --model demo --method occlusion", "captum")
refused("explain a.mrc --model demo --window 12", "large")
refused("simulate --data groel --per-class 1 --out particles", "cryoet")
refused("train --data groel --data p97 --per-class 2 --epochs 1 --out training", "cryoet")
model, _ = demo_network()
explanation = rc.RespondCAM(model)(ball)
for extra, drawn in {"notebook": explanation.view, "report": lambda: surface_figure(ball)}.items():
    words = ""
    try:
        drawn()
    except rc.InputError as error:
        words = str(error)
    assert f"pip install 'respondcam[{extra}]'" in words, words

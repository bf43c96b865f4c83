"""Boxes of detectors as targets, in torchvision's and MONAI's form."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import respondcam as rc
from respondcam.attribution.targets.words import parse_target
from respondcam.cli import app
from respondcam.errors import TargetError

DETECTOR = '''
import torch
from torch import nn

class Detector(nn.Module):
    """One anchor for every voxel of the layer; boxes above 0.3 come back, best first."""

    def __init__(self, keys=("boxes", "scores", "labels")):
        super().__init__()
        torch.manual_seed(0)
        self.keys = keys
        self.trunk = nn.Sequential(nn.Conv3d(1, 4, 3, stride=4, padding=1), nn.ReLU())
        self.head = nn.Conv3d(4, 2, 1)

    def forward(self, x):
        found = []
        for logits in self.head(self.trunk(x)):
            scores = logits.flatten(1).sigmoid()
            best, labels = scores.max(dim=0)
            low = 4.0 * torch.cartesian_prod(*[torch.arange(n) for n in logits.shape[1:]])
            keep = (best > 0.3).nonzero()[:, 0]
            keep = keep[best[keep].argsort(descending=True)]
            boxes = torch.cat([low, low + 6], dim=1)[keep]
            found.append(dict(zip(self.keys, (boxes, best[keep], labels[keep]))))
        return found
'''
scope: dict[str, Any] = {}
exec(DETECTOR, scope)  # the very text that the command line reads from a file
Detector = scope["Detector"]


def image(batch: int = 1) -> Tensor:
    return torch.randn(batch, 1, 12, 12, 12, generator=torch.Generator().manual_seed(3))


def best_by_hand(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Activation and gradient of the highest score of each image, from a whole graph."""
    seen: list[Tensor] = []
    handle = model.trunk.register_forward_hook(lambda m, a, out: seen.append(out))
    total = torch.stack([one["scores"].max() for one in model(x)]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(total, seen[0])
    return seen[0].detach(), gradient


@pytest.mark.parametrize("keys", [("boxes", "scores", "labels"), ("box", "label_scores", "label")])
def test_the_best_box_of_every_image(keys: tuple[str, ...]) -> None:
    model, x = Detector(keys), image(2)
    explanation = rc.RespondCAM(model, "trunk")(x, target=rc.targets.detection())
    A, G = best_by_hand(Detector(), x)
    share = (A * G).sum(dim=(2, 3, 4), keepdim=True) / A.sum(dim=(2, 3, 4), keepdim=True)
    torch.testing.assert_close(explanation.maps[:, 0], (share.nan_to_num() * A).sum(dim=1))
    scores = [float(one["scores"][0].detach()) for one in Detector()(x)]
    torch.testing.assert_close(explanation.scores[:, 0], torch.tensor(scores))
    assert explanation.targets == ("best of the boxes",)
    assert torch.isfinite(explanation.account.gap).all()


def test_a_layer_is_chosen_for_a_detector() -> None:
    found = rc.RespondCAM(Detector())(image(), target=rc.targets.detection())
    assert found.layer in ("trunk", "head")


def test_boxes_near_a_given_one_are_added_up() -> None:
    model, x = Detector(), image()
    (found,) = model(x)
    label = int(found["labels"][0])
    near = found["boxes"][0].tolist()
    at = rc.targets.detection(label, near=near, overlap=0.15)
    lows = found["boxes"][:, :3]
    apart = (lows - lows[0]).abs().sum(dim=1)  # neighbours overlap by 72 of 360
    meant = (found["labels"] == label) & (apart <= 4)
    assert int(meant.sum()) > 1
    explanation = rc.RespondCAM(model, "trunk")(x, target=at)
    expected = float(found["scores"][meant].sum().detach())
    assert float(explanation.scores) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (rc.targets.detection(7), "No box is detected with label 7"),
        (rc.targets.detection(threshold=0.999), "score of at least 0.999"),
        (rc.targets.detection(near=[0, 0, 4, 4]), "near has 4 numbers, but the boxes have 6"),
        (rc.targets.detection(near=[90, 90, 90, 99, 99, 99]), "nearest overlaps it by 0.00"),
    ],
)
def test_boxes_that_are_not_there(target: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        rc.RespondCAM(Detector(), "trunk")(image(), target=target)


def test_other_outputs_and_methods_are_worded() -> None:
    dense = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU())
    with pytest.raises(TargetError, match=r"list with a dict of boxes.*a tensor"):
        rc.RespondCAM(dense, "0")(image(), target=rc.targets.detection())
    with pytest.raises(TargetError, match="none of 'scores'"):
        rc.RespondCAM(Detector(("boxes", "s", "labels")), "trunk")(
            image(), target=rc.targets.detection()
        )
    with pytest.raises(TargetError, match="come and go"):
        rc.IntegratedRespondCAM(Detector(), "trunk")(image(), target=rc.targets.detection())
    with pytest.raises(TargetError, match="overlap=0"):
        rc.targets.detection(overlap=0)


def test_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(DETECTOR, encoding="utf-8")
    rc.write_volume(tmp_path / "scan.mrc", rc.Volume(image()[0, 0].numpy(), np.eye(4), "angstrom"))
    run = ["explain", str(tmp_path / "scan.mrc"), "--model", f"{tmp_path / 'net.py'}:Detector"]
    run += ["--layer", "trunk", "--target", "detection:best", "--device", "cpu", "--json"]
    run += ["--normalize", "none", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, run)
    assert result.exit_code == 0, result.stderr
    (told,) = json.loads(result.stdout)["maps"]
    (found,) = Detector()(image())
    assert told["account"]["score"] == pytest.approx(float(found["scores"][0].detach()), rel=1e-4)


def test_the_text_of_a_target() -> None:
    assert parse_target("detection:best@2") == rc.targets.detection(2)
    assert parse_target("detection:0,1,2-8,9,10.5") == rc.targets.detection(
        near=[0, 1, 2, 8, 9, 10.5]
    )
    with pytest.raises(rc.InputError, match="Accepted"):
        parse_target("detection:worst")

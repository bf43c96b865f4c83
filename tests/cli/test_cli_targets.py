"""``--target``: every kind from the command line, and masks that do not belong to the image."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from respondcam import Volume, write_volume
from respondcam.attribution.targets.words import parse_target
from respondcam.cli import app
from respondcam.errors import InputError

NETWORK = """
import torch
from torch import nn

def segmenter():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1, bias=False)
    )
"""
AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    voxels = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    write_volume(tmp_path / "scan.nii.gz", Volume(voxels, AFFINE, "mm"))
    return tmp_path


def explain(folder: Path, target: str, *more: str) -> tuple[int, str, str]:
    model = ["--model", f"{folder / 'net.py'}:segmenter", "--layer", "1", "--device", "cpu"]
    result = CliRunner().invoke(
        app,
        [
            *["explain", str(folder / "scan.nii.gz"), *model, "--target", target, *more],
            *["--method", "hires", "--out", str(folder / "out"), "--json"],
        ],
    )
    return result.exit_code, result.stdout, result.stderr


def mask(folder: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    write_volume(folder / "mask.nii.gz", Volume(values.astype(np.float32), affine, "mm"))
    return f"mask:{folder / 'mask.nii.gz'}"


def score(told: str) -> float:
    (one,) = json.loads(told)["maps"]
    assert abs(one["account"]["gap"]) < 1e-3
    return one["account"]["score"]


def test_one_number_is_said_to_be_read_as_yes_or_no(folder: Path) -> None:
    with (folder / "net.py").open("a") as file:
        file.write(
            "def regression():\n"
            "    net = nn.Sequential(*segmenter()[:2], nn.AdaptiveAvgPool3d(1), nn.Flatten(),\n"
            "        nn.Linear(4, 1), nn.Flatten(0))\n"
            "    return net\n"
            "def mask():\n"
            "    return nn.Sequential(*segmenter()[:2], nn.Conv3d(4, 1, 1))\n"
        )

    def call(command: str, factory: str, *more: str) -> str:
        given = [command, str(folder / "scan.nii.gz"), "--model", f"{folder / 'net.py'}:{factory}"]
        out = [] if command == "audit" else ["--out", str(folder / "out"), "--overwrite"]
        result = CliRunner().invoke(app, [*given, *more, *out])
        assert result.exit_code == 0, result.stderr
        return " ".join(result.stdout.split())

    words = "one number, which is read as yes (class 1) or no (class 0"
    assert call("explain", "regression").count(words) == 1
    (record,) = (folder / "out").glob("*.json")
    assert words in record.read_text("utf-8")
    assert call("audit", "regression").count(words) == 1
    assert call("explain", "regression", "--window", "4").count(words) == 1
    for factory, *more in (
        ("regression", "--target", "value"),
        ("regression", "--target", "1"),
        ("regression", "--classes", "no,yes"),
        ("mask",),
        ("segmenter",),
    ):
        assert words not in call("explain", factory, *more)


def test_a_mask_a_box_and_voxels_agree(folder: Path) -> None:
    inside = np.zeros((6, 7, 8))
    inside[1:3, 2, 4] = 1
    code, told, errors = explain(folder, mask(folder, inside) + "@2")
    assert code == 0, errors
    code, box, errors = explain(folder, "box:1,2,4-3,3,5@2")
    assert code == 0, errors
    assert score(box) == pytest.approx(score(told), rel=1e-5)
    voxels = [explain(folder, f"voxel:{z},2,4@2")[1] for z in (1, 2)]
    assert sum(map(score, voxels)) == pytest.approx(score(told), rel=1e-4)


@pytest.mark.parametrize("axes", ["zyx", "xyz"])
def test_the_figure_is_given_the_box_that_was_asked_for(folder: Path, monkeypatch, axes) -> None:
    from respondcam.cli import _writing

    boxes, draw = [], _writing.explanation_figure
    monkeypatch.setattr(
        _writing,
        "explanation_figure",
        lambda *given, **options: (boxes.append(options["box"]), draw(*given, **options))[1],
    )
    for target in ("box:1,2,4-3,3,5@2", "voxel:1,2,4@2"):
        code, _, errors = explain(folder, target, "--axes", axes)
        assert code == 0, errors
    assert boxes == [((1, 2, 4), (3, 3, 5)), None]  # in the image's order, whatever the network's


def test_the_same_voxel_for_a_network_that_sees_x_first(folder: Path) -> None:
    inside = np.zeros((6, 7, 8))
    inside[5, 1, 3] = 1
    code, by_mask, errors = explain(folder, mask(folder, inside), "--axes", "xyz")
    assert code == 0, errors
    code, by_place, errors = explain(folder, "voxel:5,1,3", "--axes", "xyz")
    assert code == 0, errors
    assert score(by_place) == pytest.approx(score(by_mask), rel=1e-5)


def test_labels_of_a_map_are_classes(folder: Path) -> None:
    labels = np.zeros((6, 7, 8))
    labels[0, 0, 0], labels[1, 1, 1] = 1, 2
    code, told, errors = explain(folder, mask(folder, labels) + "@2")
    assert code == 0, errors
    assert score(told) == pytest.approx(score(explain(folder, "voxel:1,1,1@2")[1]), rel=1e-5)


@pytest.mark.parametrize("target", ["component:largest@1", "component@2", "contrast:1,2"])
def test_other_kinds(folder: Path, target: str) -> None:
    code, told, errors = explain(folder, target.replace("component@", "component:largest@"))
    assert code == 0, errors
    assert np.isfinite(score(told))


@pytest.mark.parametrize(
    ("values", "affine", "message"),
    [
        (np.ones((6, 7, 9)), AFFINE, "has (6, 7, 9) voxels (z, y, x), the image (6, 7, 8)"),
        (np.ones((6, 7, 8)), AFFINE + 10 * np.eye(4, k=3), "lies elsewhere in the world"),
        (np.zeros((6, 7, 8)), AFFINE, "is empty"),
        (np.arange(336.0).reshape(6, 7, 8) + 5, AFFINE, "no voxel has the label 1"),
        (None, AFFINE, "absent.nii"),
    ],
)
def test_masks_that_do_not_belong_to_the_image(
    folder: Path, values: np.ndarray | None, affine: np.ndarray, message: str
) -> None:
    target = "mask:absent.nii" if values is None else mask(folder, values, affine)
    code, _, errors = explain(folder, target)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "text",
    ["contrast:1,2,3", "contrast:", "box:1,2,3@1", "box:1,2-3@x", "voxel:a,b@1", "nonsense:3", ""],
)
def test_nonsense_lists_what_is_accepted(text: str) -> None:
    with pytest.raises(InputError, match="Accepted: predicted, all"):
        parse_target(text)


def test_names_of_classes_count_everywhere() -> None:
    names = ["liver", "lesion: small", "spleen"]
    assert parse_target("lesion: small", names) == 1
    assert parse_target("class:2", names) == 2
    assert parse_target("contrast:spleen,liver", names) is not None
    with pytest.raises(InputError, match="the name of a class \\(liver"):
        parse_target("kidney", names)


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("1", "liver"),
        ("lesion", "lesion"),
        ("contrast:liver,lesion", "liver, not lesion"),
        ("voxel:1,2,3@lesion", "lesion at 1, 2, 3"),
    ],
)
def test_typed_names_of_classes_are_used_everywhere(folder: Path, target: str, label: str) -> None:
    names = ("--classes", "background, liver,lesion")
    code, told, errors = explain(folder, target, *names)
    assert code == 0, errors
    (one,) = json.loads(told)["maps"]
    assert one["target"]["name"] == label
    assert label.replace(", ", "-").replace(" ", "-").split("-")[0] in one["files"]["record"]
    assert one["model"]["class_names"] == ["background", "liver", "lesion"]
    assert explain(folder, target, *names)[0] == 0  # the same again


@pytest.mark.parametrize("names", ["a,b", "a,b,c,d"])
@pytest.mark.parametrize("command", ["explain", "audit", "compare"])
def test_a_wrong_number_of_typed_names_is_refused(folder: Path, names: str, command: str) -> None:
    model = ["--model", f"{folder / 'net.py'}:segmenter", "--layer", "1", "--device", "cpu"]
    out = [] if command == "audit" else ["--out", str(folder / "out")]
    given = [command, str(folder / "scan.nii.gz"), *model, "--classes", names, *out]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2, result.stdout
    assert "gives 3 scores. Give one name for each score" in result.stderr


@pytest.mark.parametrize("names", ["", "a,,b", "a,b,a"])
def test_typed_names_that_are_none(folder: Path, names: str) -> None:
    code, _, errors = explain(folder, "1", "--classes", names)
    assert code == 2
    assert "--classes is" in errors


def test_names_of_the_network_s_own_that_do_not_fit_are_noted(folder: Path) -> None:
    with (folder / "net.py").open("a", encoding="utf-8") as file:
        file.write("\ndef named():\n    return segmenter(), ['liver', 'lesion']\n")
    given = ["explain", str(folder / "scan.nii.gz"), "--model", f"{folder / 'net.py'}:named"]
    result = CliRunner().invoke(app, [*given, "--layer", "1", "--out", str(folder / "named")])
    assert result.exit_code == 0, result.stderr
    assert "Note: there are 2 names of classes (liver, lesion), but" in result.stdout


CLASHING = """
from nets import net


def signs():
    return net(), ["<5 mm", ">5 mm", "none"]


def cuts():
    return net(), ["a b", "A-b", "a/b"]


def same():
    return net(), ["x", "x", ""]
"""


@pytest.mark.parametrize("names", ["signs", "cuts", "same"])
def test_classes_whose_names_files_cannot_tell_apart(cli, nets, mrc, tmp_path, names):
    (tmp_path / "clashing.py").write_text(CLASHING)
    base = ("explain", mrc, "--model", f"{tmp_path}/clashing.py:{names}", "-q")
    assert cli(*base, "--target", "all", "--out", "maps").code == 0
    found = {path: json.loads(path.read_text()) for path in (tmp_path / "maps").glob("*.json")}
    assert sorted(record["target"]["class"] for record in found.values()) == [0, 1, 2]
    for record in found.values():
        assert all((tmp_path / "maps" / file).is_file() for file in record["files"].values())
    # alone, each class has the file that it has among all
    for number in range(3):
        assert cli(*base, "--target", str(number), "--out", f"alone-{number}").code == 0
        (alone,) = (tmp_path / f"alone-{number}").glob("*.json")
        assert found[tmp_path / "maps" / alone.name]["target"]["class"] == number


@pytest.mark.parametrize(
    ("options", "count"),
    [(("--target", "0,1,2,0"), 3), (("--target", "1", "--layer", "first", "--layer", "first"), 1)],
)
def test_what_is_asked_for_twice_is_written_once(cli, nets, mrc, tmp_path, options, count):
    base = ("explain", mrc, "--model", f"{nets}:net", "--out", "maps", "-q")
    assert cli(*base, *options).code == 0
    assert len(list((tmp_path / "maps").glob("*.json"))) == count
    assert len(list((tmp_path / "maps").iterdir())) == 4 * count


def test_a_number_that_is_too_long(cli, nets, mrc):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--target", "9" * 5000)
    assert result.code == 2
    assert "Accepted: " in result.err


def test_among_several_classes_the_predicted_one_is_marked_everywhere(cli, nets, mrc, tmp_path):
    done = cli("explain", mrc, "--model", f"{nets}:net", "--target", "predicted", "--json")
    (predicted,) = json.loads(done.out)["maps"]
    number = predicted["target"]["class"]
    for target in ("all", f"{number},{(number + 1) % 3}"):
        out = ("--out", target.replace(",", "-"))
        call = ("explain", mrc, "--model", f"{nets}:net", "--target", target, "--report", *out)
        done = cli(*call)
        assert done.code == 0, done.err
        lines = [line for line in done.out.splitlines() if "(predicted)" in line]
        assert len(lines) == 1
        assert f"class {number} (predicted)" in lines[0]
        assert cli(*call, "--resume").code == 0
        folder = tmp_path / out[1]
        record = json.loads((folder / f"ribo.respond.second.class-{number}.json").read_text())
        assert record["target"] == {"name": f"class {number} (predicted)", "class": number}
        page = (folder / "ribo.mrc.report.html").read_text("utf-8")
        assert f"class {number} (predicted)" in page
        assert f"class {(number + 1) % 3} (predicted)" not in page


def test_the_score_of_a_dense_output_is_explained(folder: Path) -> None:
    def notes(target: str) -> list[str]:
        return json.loads(explain(folder, target)[1])["maps"][0]["notes"]

    (told,) = [one for one in notes("predicted") if "score of a class is the sum" in one]
    assert told.startswith("the network scores every voxel")
    assert told not in notes("voxel:1,2,3@1")

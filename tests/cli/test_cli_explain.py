"""``respondcam explain`` from files to files, checked with the field's own readers."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import mrcfile
import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from safetensors.torch import save_file

from respondcam.cli._several import notes_of
from respondcam.show.report import rendering
from respondcam.show.report.viewer import Viewer


def network(nets: str, name: str = "net") -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location("nets_of_the_test", nets)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)().eval()


def scores_of(nets: str, voxels: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return network(nets)(torch.from_numpy(voxels.copy())[None, None])[0]


def one_record(folder: Path) -> dict:
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text("utf-8"))


def test_one_file_with_all_defaults(cli, nets, mrc, tmp_path, make):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--device", "cpu")
    assert result.code == 0, result.err
    out = tmp_path / "respondcam-maps"
    expected = scores_of(nets, make.blob((8, 10, 12)))
    best = int(expected.argmax())
    record = one_record(out)
    stem = f"ribo.respond.{record['layer']}.class-{best}"
    names = {f"{stem}.{end}" for end in ("input.mrc", "layer.mrc", "png", "json")}
    assert {path.name for path in out.iterdir()} == names
    assert record["account"]["score"] == pytest.approx(float(expected[best]), rel=1e-5)
    assert record["target"]["class"] == best
    for name in names:
        assert name in result.out
    assert "was chosen" in result.out
    Image.open(out / f"{stem}.png").verify()


def test_formats_that_cannot_hold_a_place_get_one_that_can(cli, nets, tmp_path, make):
    np.save(tmp_path / "a.npy", make.blob((8, 8, 8)))
    series = tmp_path / "series"
    series.mkdir()
    image = SimpleITK.GetImageFromArray((100 * make.blob((6, 8, 10))).astype(np.int16))
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(6):
        piece = image[:, :, k]
        tags = {"0020|000e": "1.2.3", "0020|0032": f"0\\0\\{2 * k}", "0008|0018": f"1.2.3.{k}"}
        for tag, value in {"0008|0060": "CT", "0020|0037": "1\\0\\0\\0\\1\\0", **tags}.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(series / f"{k}.dcm"))
        writer.Execute(piece)
    result = cli("explain", "a.npy", series, "--model", f"{nets}:net", "--target", "0")
    assert result.code == 0, result.err
    assert "written to .npz" in result.out
    assert "written as NIfTI" in result.out
    suffixes = {p.name.split(".input")[1] for p in (tmp_path / "respondcam-maps").glob("*.input*")}
    assert suffixes == {".npz", ".nii.gz"}


def test_the_account_closes_and_the_maps_hold_it(cli, nets, mrc, tmp_path):
    common = ("explain", mrc, "--model", f"{nets}:net", "--layer", "second", "--target", "1")
    cli(*common, "--keep", "sum")
    out = tmp_path / "respondcam-maps"
    account = one_record(out)["account"]
    assert account["score"] == pytest.approx(
        account["baseline"] + account["mapped"] + account["gap"], rel=1e-9
    )
    # pooling and a linear layer follow: the map explains everything
    assert account["relative_gap"] < 1e-5
    for resolution in ("input", "layer"):
        with mrcfile.open(out / f"ribo.respond.second.class-1.{resolution}.mrc") as file:
            assert file.data.sum(dtype=float) == pytest.approx(account["mapped"], rel=1e-4)


def test_the_map_that_is_looked_at_has_the_values_of_the_figure(cli, tmp_path, mrc):
    """And no denser border, although padding lets the layer's voxels stand there."""
    flat = tmp_path / "flat.py"
    flat.write_text(
        "import torch\n"
        "from torch import nn\n\n"
        "def net():\n"
        "    one = nn.Conv3d(1, 1, 7, stride=4, padding=3)\n"
        "    nn.init.zeros_(one.weight)\n"
        "    nn.init.constant_(one.bias, 3.0)\n"
        "    return nn.Sequential(one, nn.AdaptiveAvgPool3d(1), nn.Flatten())\n"
    )
    common = ("explain", mrc, "--model", f"{flat}:net", "--layer", "0", "--target", "value")
    assert cli(*common).code == 0
    out = tmp_path / "respondcam-maps"
    (layer,) = out.glob("*.layer.mrc")
    (whole,) = out.glob("*.input.mrc")
    assert one_record(out)["settings"]["keep"] == "value"
    value = mrcfile.read(layer).flat[0]
    np.testing.assert_allclose(mrcfile.read(whole), value, rtol=1e-5)
    assert cli(*common, "--keep", "sum").code == 2  # another run's files
    assert cli(*common, "--keep", "sum", "--overwrite").code == 0
    shares = mrcfile.read(whole)
    assert shares.sum() == pytest.approx(mrcfile.read(layer).sum(), rel=1e-4)
    assert shares.max() > 2 * shares.min()
    wrong = cli(*common, "--keep", "sums")
    assert wrong.code == 2
    assert "--keep is 'sums'" in wrong.err
    windows = cli(*common, "--keep", "sum", "--window", "8")
    assert windows.code == 2
    assert "--stitch" in windows.err


def test_the_map_lies_over_its_mrc_source(cli, nets, mrc, tmp_path):
    cli("explain", mrc, "--model", f"{nets}:net", "--layer", "second", "--target", "0")
    (path,) = (tmp_path / "respondcam-maps").glob("*.input.mrc")
    with mrcfile.open(mrc) as source, mrcfile.open(path) as written:
        assert written.data.shape == source.data.shape
        for field in ("origin", "cella", "nxstart", "nystart", "nzstart", "mapc", "mapr", "maps"):
            assert written.header[field] == source.header[field]
        assert bytes(written.header.label[0]).endswith(b": respond, layer second, class 0")


def test_the_map_lies_over_its_nifti_source(cli, nets, nifti, tmp_path):
    cli("explain", nifti, "--model", f"{nets}:net", "--layer", "second", "--target", "0")
    out = tmp_path / "respondcam-maps"
    source = nibabel.load(nifti)
    whole = nibabel.load(out / "brain.respond.second.class-0.input.nii.gz")
    coarse = nibabel.load(out / "brain.respond.second.class-0.layer.nii.gz")
    np.testing.assert_allclose(whole.affine, source.affine, atol=1e-4)
    for map in (whole, coarse):
        said = map.header["descrip"].tobytes().rstrip(b"\0")
        assert said.endswith(b": respond, layer second, class 0")
    assert whole.shape == source.shape
    assert coarse.shape == (6, 5, 4)
    # pooling by two: the first cell's centre lies between the first two voxels
    centre = source.affine @ [0.5, 0.5, 0.5, 1]
    np.testing.assert_allclose(coarse.affine[:, 3], centre, atol=1e-4)


def test_normalisation_is_what_the_network_sees(cli, nets, mrc, tmp_path, make):
    cli("explain", mrc, "--model", f"{nets}:net", "--normalize", "zscore", "--target", "2")
    voxels = make.blob((8, 10, 12)).astype(float)
    expected = scores_of(nets, ((voxels - voxels.mean()) / voxels.std()).astype(np.float32))
    record = one_record(tmp_path / "respondcam-maps")
    assert record["account"]["score"] == pytest.approx(float(expected[2]), rel=1e-4)
    assert record["settings"]["normalize"] == "zscore"


def test_axes_xyz_gives_the_network_nibabel_s_array(cli, nets, nifti, tmp_path):
    cli(
        "explain",
        nifti,
        "--model",
        f"{nets}:net",
        "--axes",
        "xyz",
        "--layer",
        "second",
        "--target",
        "0",
    )
    array = np.asarray(nibabel.load(nifti).dataobj, dtype=np.float32)
    record = one_record(tmp_path / "respondcam-maps")
    assert record["account"]["score"] == pytest.approx(float(scores_of(nets, array)[0]), rel=1e-5)
    model = network(nets)
    kept = {}
    model.second.register_forward_hook(lambda m, i, o: kept.update(a=o))
    model(torch.from_numpy(array)[None, None])
    # global average pooling: the map is the activation weighted by the class's weights
    cells = kept["a"].shape[2:].numel()
    expected = torch.einsum("c,czyx->zyx", model.scores.weight[0], kept["a"][0]) / cells
    coarse = nibabel.load(tmp_path / "respondcam-maps/brain.respond.second.class-0.layer.nii.gz")
    np.testing.assert_allclose(coarse.get_fdata(), expected.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(("axes", "order"), [("zyx", "(z, y, x)"), ("xyz", "(x, y, z)")])
def test_how_far_a_measured_map_was_moved_is_said_along_named_axes(cli, nets, nifti, axes, order):
    given = ("--layer", "second", "--target", "0", "--align", "measured", "--axes", axes)
    result = cli("explain", nifti, "--model", f"{nets}:net", *given)
    assert result.code == 0, result.err
    assert f" voxels {order} against the layout, measured on" in " ".join(result.out.split())


def test_layers_targets_and_methods(cli, nets, mrc, tmp_path):
    result = cli(
        "explain",
        mrc,
        "--model",
        f"{nets}:net",
        "--layer",
        "first",
        "--layer",
        "second",
        "--target",
        "0,2",
        "--method",
        "grad",
        "--out",
        "maps",
    )
    assert result.code == 0, result.err
    names = {path.name for path in (tmp_path / "maps").glob("*.json")}
    assert names == {
        f"ribo.grad.{layer}.class-{n}.json" for layer in ("first", "second") for n in (0, 2)
    }
    every = cli("explain", mrc, "--model", f"{nets}:net", "--target", "all", "--out", "all")
    assert every.code == 0, every.err
    assert len(list((tmp_path / "all").glob("*.json"))) == 3


def test_class_names_and_brackets_are_printed_as_they_are(cli, nets, tmp_path, make):
    path = make.mrc(tmp_path / "tomo[bold]1.mrc", make.blob((8, 8, 8)))
    result = cli("explain", path, "--model", f"{nets}:named", "--target", "[red]ribosome")
    assert result.code == 0, result.err
    assert "tomo[bold]1.mrc" in result.out
    assert "[red]ribosome" in result.out
    assert one_record(tmp_path / "respondcam-maps")["target"]["name"] == "[red]ribosome"
    by_number = cli("explain", path, "--model", f"{nets}:named", "--target", "class:1")
    assert "20S proteasome" in by_number.out
    unknown = cli("explain", path, "--model", f"{nets}:named", "--target", "actin")
    assert unknown.code == 2
    assert "20S proteasome" in unknown.err


def test_the_part_of_the_output_that_holds_the_scores(cli, nets, mrc, tmp_path, make):
    model = ("--model", f"{nets}:Several", "--layer", "net.second", "--target", "1")
    unclear = cli("explain", mrc, *model)
    assert unclear.code == 2
    assert "keys 'first', 'second'" in unclear.err
    wrong = cli("explain", mrc, *model, "--output", "third")
    assert wrong.code == 2
    assert "--output 'third' is no part" in wrong.err
    result = cli("explain", mrc, *model, "--output", "first")
    assert result.code == 0, result.err
    record = one_record(tmp_path / "respondcam-maps")
    expected = -scores_of(nets, make.blob((8, 10, 12)))
    assert record["account"]["score"] == pytest.approx(float(expected[1]), rel=1e-5)


def test_json_for_machines(cli, nets, mrc, tmp_path):
    result = cli("explain", mrc, tmp_path / "none.mrc", "--model", f"{nets}:net", "--json")
    assert result.code == 2
    document = json.loads(result.out)
    (one,) = document["maps"]
    assert all(Path(path).is_file() for path in one["files"].values())
    assert set(one["account"]) >= {"score", "baseline", "mapped", "gap", "relative_gap"}
    assert len(one["input"]["sha256"]) == len(one["model"]["state_sha256"]) == 64
    (failed,) = document["failed"]
    assert failed["path"].endswith("none.mrc")


def test_a_result_of_another_run_stays_unless_told(cli, nets, mrc, tmp_path):
    base = ("explain", mrc, "--model", f"{nets}:net", "--layer", "second", "--target", "0")
    assert cli(*base).code == 0
    assert cli(*base).code == 0, "the very same run is written again"
    before = {path: path.read_bytes() for path in (tmp_path / "respondcam-maps").iterdir()}
    other = cli(*base, "--normalize", "zscore")
    assert other.code == 2
    assert "--overwrite" in other.err
    assert before == {p: p.read_bytes() for p in (tmp_path / "respondcam-maps").iterdir()}
    assert cli(*base, "--normalize", "zscore", "--overwrite").code == 0
    assert one_record(tmp_path / "respondcam-maps")["settings"]["normalize"] == "zscore"


def test_the_same_stem_in_two_folders_and_formats_gives_separate_results(cli, nets, tmp_path, make):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        make.mrc(tmp_path / folder / "x.mrc", make.blob((8, 8, 8), seed=ord(folder)))
    make.nifti(tmp_path / "a" / "x.nii.gz", make.blob((8, 8, 8)))
    result = cli("explain", "*/x.*", "--model", f"{nets}:net", "--layer", "second", "--target", "0")
    assert result.code == 0, result.err
    records = [
        json.loads(p.read_text("utf-8")) for p in (tmp_path / "respondcam-maps").glob("*.json")
    ]
    assert len(records) == 3
    assert len({record["input"]["sha256"] for record in records}) == 3


def test_one_bad_file_does_not_stop_the_others(cli, nets, tmp_path, make):
    for name in ("a", "c"):
        make.mrc(tmp_path / f"{name}.mrc", make.blob((8, 8, 8), seed=ord(name)))
    content = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "b.mrc").write_bytes(content[:1500])
    result = cli("explain", "*.mrc", "--model", f"{nets}:net", "--target", "0")
    assert result.code == 2
    assert "2 of 3 volumes explained" in result.out
    assert any("b.mrc" in line and "failed" in line for line in result.out.splitlines())
    assert result.err.count("respondcam:") == 1
    assert "b.mrc" in result.err
    names = [path.name for path in (tmp_path / "respondcam-maps").iterdir()]
    assert len(names) == 8
    assert not [name for name in names if name.startswith(("b", "."))]


def test_weights_and_the_factory_s_arguments(cli, nets, mrc, tmp_path):
    model = network(nets)
    with torch.no_grad():
        model.scores.bias += 10
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, "w.ckpt")
    result = cli("explain", mrc, "--model", f"{nets}:net", "--weights", "w.ckpt", "--target", "0")
    assert result.code == 0, result.err
    assert "prefix 'module.' removed" in result.out
    record = one_record(tmp_path / "respondcam-maps")
    assert record["account"]["baseline"] > 5
    more = cli(
        "explain",
        mrc,
        "--model",
        f"{nets}:net",
        "--model-arg",
        "classes=9",
        "--target",
        "8",
        "--out",
        "nine",
    )
    assert more.code == 0, more.err


@pytest.mark.slow
def test_the_installed_command_from_another_folder(nets, mrc, tmp_path):
    script = Path(sys.executable).with_name("respondcam")
    done = subprocess.run(
        [script, "explain", mrc, "--model", f"{nets}:net", "--out", tmp_path / "deep" / "er"],
        capture_output=True,
        encoding="utf-8",
        cwd="/",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(list((tmp_path / "deep" / "er").iterdir())) == 4


def test_what_a_user_should_doubt_is_said(cli, nets, mrc, tmp_path, make):
    """Weights that nobody gave, intensities as they are, an account that stays open."""
    result = cli("explain", mrc, "--model", f"{nets}:net", "--target", "0")
    assert result.out.count("no --weights were given") == 1
    (record,) = Path("respondcam-maps").glob("*.json")  # a page made of it says so, too
    assert "no --weights were given" in json.loads(record.read_text("utf-8"))["notes"][0]
    assert "went in as they are" not in result.out
    make.mrc(tmp_path / "loud.mrc", 1000 * make.blob((8, 10, 12)))
    loud = cli("explain", "loud.mrc", "--model", f"{nets}:net", "--target", "0", "--out", "loud")
    assert "intensities from" in loud.out
    assert "--normalize" in loud.out
    calm = ("--normalize", "zscore", "--out", "calm")
    assert "intensities" not in cli("explain", "loud.mrc", "--model", f"{nets}:net", *calm).out
    weights = tmp_path / "w.safetensors"
    save_file(network(nets).state_dict(), weights)
    given = cli("explain", mrc, "--model", f"{nets}:net", "--weights", weights, "--out", "given")
    assert "no --weights" not in given.out


def test_a_map_that_leaves_much_open_says_what_closes_it(cli, tmp_path, make):
    nets = tmp_path / "far.py"
    nets.write_text(
        "import torch\nfrom torch import nn\n"
        "class Far(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n"
        "        self.conv = nn.Conv3d(1, 3, 3)\n"
        "    def forward(self, x):\n"
        "        return self.conv(x).relu().mean((2, 3, 4)) ** 3\n"
    )
    make.mrc(tmp_path / "a.mrc", make.blob((8, 8, 8)))
    words = (
        "explain",
        "a.mrc",
        "--model",
        f"{nets}:Far",
        "--layer",
        "conv",
        "--target",
        "predicted",
    )
    plain = cli(*words)
    assert "of what the image adds to the score open" in plain.out
    assert "--method integrated-respond closes it" in plain.out
    closed = cli(*words, "--method", "integrated-respond", "--out", "closed")
    assert closed.code == 0, closed.err
    assert "open, since" not in closed.out


def test_a_note_names_the_maps_that_it_is_about():
    def record(layer, target, *notes, method="respond"):
        return {
            "settings": {"method": method},
            "layer": layer,
            "target": {"name": target},
            "notes": list(notes),
        }

    every = "of all"
    records = [
        record("a", "cat (predicted)", every, "of a", "follows layer a closely"),
        record("a", "dog", every, "of a", "of dogs", "follows layer a closely", "of one"),
        record("b", "cat (predicted)", every),
        record("b", "dog", every, "of dogs"),
    ]
    assert notes_of(records) == [
        "of all",
        "layer a: of a",
        "follows layer a closely",
        "dog: of dogs",
        "dog (layer a): of one",
    ]
    many = [record("a", f"class {n}", *["odd"] * (n % 2)) for n in range(12)]
    assert notes_of(many) == ["6 of 12 maps: odd"]
    both = [record("a", "cat", "x"), record("a", "cat", method="grad")]
    assert notes_of(both) == ["respond: x"]


def test_what_holds_for_one_class_is_not_said_of_the_others(cli, tmp_path, make):
    (tmp_path / "bent.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Bent(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv3d(1, 2, 3, padding=1)\n"
        "    def forward(self, x):\n"
        "        mean = self.conv(x).abs().mean((2, 3, 4))\n"
        "        return torch.stack([mean.sum(1), mean.sum(1).exp()], 1)\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return Bent()\n"
    )
    scan = make.mrc(tmp_path / "scan.mrc", 3 * make.blob((8, 8, 8)))
    done = cli("explain", scan, "--model", "bent.py:build", "--target", "all")
    assert done.code == 0, done.err
    assert "Note: class 1: the map leaves more than a tenth" in done.out
    told = {
        number: "".join(json.loads(path.read_text())["notes"])
        for number in (0, 1)
        for path in (tmp_path / "respondcam-maps").glob(f"*class-{number}.json")
    }
    assert ["leaves more than a tenth" in told[number] for number in (0, 1)] == [False, True]


def test_a_layer_of_a_single_voxel_tells_no_place(cli, nets, mrc):
    done = cli("explain", mrc, "--model", f"{nets}:net", "--layer", "gap")
    assert done.code == 0, done.err
    assert "Note: layer gap has a single voxel: its map tells no place at all" in done.out


def test_names_that_come_near_are_given(cli, nets, mrc, tmp_path):
    missing = cli("explain", "rbio.mrc", "--model", f"{nets}:net")
    assert "there is 'ribo.mrc'" in missing.err
    target = cli("explain", mrc, "--model", f"{nets}:named", "--target", "feritin")
    assert "Did you mean ferritin? Accepted: the name of a class" in target.err
    report = cli("explain", mrc, "--model", f"{nets}:net", "--window", "6", "--report")
    assert report.code == 2
    assert "--report does not go with --window" in report.err


def test_two_of_one_name_are_told_apart_and_one_that_fails_stays_in_its_place(
    cli, nets, make, tmp_path
) -> None:
    for name in ("s1/a.mrc", "s3/a.mrc"):
        (tmp_path / name).parent.mkdir()
        make.mrc(tmp_path / name, make.blob((8, 8, 8)))
    (tmp_path / "s2").mkdir()
    (tmp_path / "s2" / "a.mrc").write_bytes(b"nothing")
    result = cli("explain", "s1/a.mrc", "s2/a.mrc", "s3/a.mrc", "--model", f"{nets}:net")
    assert result.code == 2
    rows = [line for line in result.out.splitlines() if line.startswith("s")]
    assert [row.split()[0] for row in rows] == ["s1/a.mrc", "s2/a.mrc", "s3/a.mrc"]
    assert "failed" in rows[1]


def test_a_constant_volume_and_folders_left_out_are_noted(cli, nets, tmp_path, make):
    (tmp_path / "data" / "more").mkdir(parents=True)
    make.mrc(tmp_path / "data" / "zero.mrc", np.zeros((8, 8, 8), np.float32))
    make.mrc(tmp_path / "data" / "more" / "x.mrc", make.blob((8, 8, 8)))
    common = ("--model", f"{nets}:net", "--layer", "second")
    for command in (("explain", "--target", "0"), ("audit",), ("compare", "--no-controls")):
        result = cli(command[0], "data", *common, *command[1:])
        assert result.code == 0, result.err
        assert "the volume is constant: every voxel is 0" in result.out, command
        assert "1 sub-folder of 'data' with volumes was not looked into" in result.out, command


def test_logits_among_several_outputs_are_taken_with_a_note(cli, nets, mrc):
    with Path(nets).open("a", encoding="utf-8") as file:
        file.write(
            "\n\nclass Logits(Several):\n"
            "    def forward(self, x):\n"
            "        scores = self.net(x)\n"
            "        return {'logits': scores, 'feat': 2 * scores}\n"
        )
    common = ("explain", mrc, "--model", f"{nets}:Logits", "--target", "0")
    result = cli(*common)
    assert result.code == 0, result.err
    assert "with keys 'logits', 'feat', of which 'logits' is explained; --output" in result.out
    named = cli(*common, "--output", "logits")
    assert named.code == 0, named.err  # the same again
    assert "of which" not in named.out
    other = cli(*common, "--output", "feat")
    assert other.code == 2
    assert "comes from another run" in other.err


def test_figures_of_classes_have_one_scale_where_it_is_asked_for(cli, nets, mrc, monkeypatch):
    from respondcam.cli import _writing

    drawn = []
    figure = _writing.explanation_figure
    monkeypatch.setattr(
        _writing,
        "explanation_figure",
        lambda one, **options: drawn.append((one, options["limit"])) or figure(one, **options),
    )
    words = ("explain", mrc, "--model", f"{nets}:net", "--layer", "second", "--target", "all")
    for limit in ((), ("--limit", "shared"), ("--limit", "0.25")):
        assert cli(*words, *limit, "--overwrite").code == 0
    strongest = float(drawn[0][0].maps.abs().max())
    given = [None, strongest, 0.25]
    assert [limit for _, limit in drawn] == [limit for limit in given for _ in range(3)]
    monkeypatch.setattr(rendering, "find_viewer", lambda: Viewer("'use strict';", "", "0.0", ""))
    for kind, value in (("shared", strongest), ("0.25", 0.25)):  # pages as figures
        again = cli(*words, "--limit", kind, "--overwrite", "--report", "--json")
        (page,) = json.loads(again.out)["pages"]
        data = re.search(r'id="data">(.*?)</script>', Path(page).read_text("utf-8"), re.S)
        assert data is not None
        assert [one["limit"] for one in json.loads(data[1])["maps"]] == pytest.approx([value] * 3)
    for wrong in ("all", "-1", "nan", "0"):
        result = cli(*words, "--limit", wrong)
        assert result.code == 2
        assert "Accepted: shared, or the value of the strongest colours" in result.err
    assert "explained whole" in cli(*words[:-2], "--window", "6", "--limit", "shared").err

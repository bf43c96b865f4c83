"""``respondcam average``: from simulated particles to maps in the particle's frame."""

import json
import re
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from respondcam.cli import app
from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.simulation import Simulation, write_simulation
from respondcam.cryoet.templates import load_templates
from respondcam.network.paper import cnn_2


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("particles")
    templates = load_templates(["groel", "p97"], size=16, voxel_size_angstrom=20.0)
    imaging = Imaging(voxel_size_angstrom=20.0, resolution_angstrom=None)
    write_simulation(Simulation(imaging, size=16, per_class=3), templates, folder)
    torch.manual_seed(0)  # whatever ran before: a fixture of the module comes before any seed
    save_file(
        cnn_2(2, 16).state_dict(),
        folder / "model.safetensors",
        metadata={"classes": json.dumps(["groel", "p97"])},
    )
    return folder


def common(folder: Path) -> list[object]:
    model = ["--model", "paper:cnn-2", "--weights", folder / "model.safetensors"]
    return [folder / "particles.star", *model, "--model-arg", "size=16", "--device", "cpu"]


def test_average_writes_maps_beside_the_density(particles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, errors = run(
        "average", *common(particles), "--class", "p97", "--target", "1", "--out", out
    )
    assert code == 0, errors
    assert re.search(r"3 particles of class p97: score .* = baseline .* \+ mapped .* \+ gap", text)
    volumes = {}
    for what in ("density", "map", "spread"):
        with mrcfile.open(out / f"p97.{what}.mrc") as file:
            volumes[what] = np.array(file.data)
            assert float(file.voxel_size.x) == pytest.approx(20.0)
    assert volumes["density"][6:10, 6:10, 6:10].mean() > volumes["density"].mean() + 0.5
    assert (volumes["spread"] >= 0).all()
    assert (out / "p97.png").read_bytes()[:4] == b"\x89PNG"
    record = json.loads((out / "p97.json").read_text("utf-8"))
    assert record["particles"] == 3
    assert record["settings"]["layers"] == ["maxpool2"]
    parts = [record[name]["mean"] for name in ("baseline", "map_sum", "gap")]
    assert sum(parts) == pytest.approx(record["score"]["mean"], abs=1e-6)
    # nothing is lost by turning but what leaves the box
    assert record["averaged_map_sum"] == pytest.approx(record["map_sum"]["mean"], rel=0.2)


def test_average_for_machines(particles: Path, tmp_path: Path) -> None:
    code, text, errors = run(
        *["average", *common(particles), "--class", "groel", "--target", "predicted"],
        *["--limit", "1", "--method", "grad", "--out", tmp_path, "--json"],
    )
    assert code == 0, errors
    told = json.loads(text)
    assert told["particles"] == 1
    assert Path(told["files"]["map"]).is_file()
    assert told["settings"]["method"] == "grad"


def test_the_same_average_is_made_again_and_another_is_kept(
    particles: Path, tmp_path: Path
) -> None:
    command = ["average", *common(particles), "--class", "p97", "--target", "1", "--out", tmp_path]
    assert run(*command)[0] == run(*command)[0] == 0
    before = (tmp_path / "p97.map.mrc").read_bytes()
    code, _, errors = run(*command, "--method", "grad")
    assert code == 2
    assert 'comes from another run (settings.method was "respond", is "grad"). Give' in errors
    assert "--overwrite" in errors
    assert (tmp_path / "p97.map.mrc").read_bytes() == before
    assert run(*command, "--method", "grad", "--overwrite")[0] == 0
    assert (tmp_path / "p97.map.mrc").read_bytes() != before


def test_a_folder_in_the_place_of_its_list(particles: Path, tmp_path: Path) -> None:
    arguments = ["average", particles, *common(particles)[1:], "--class", "p97", "--target", "1"]
    code, _, errors = run(*arguments, "--out", tmp_path / "out")
    assert code == 2
    assert "is a folder. Give the STAR file in it, such as" in errors
    assert str(particles / "particles.star") in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give one with --class. The list has: groel, p97"),
        (["--class", "ribosome"], "There is no class 'ribosome'"),
        (["--class", "p97", "--target", "all"], "give one class"),
        (["--class", "p97", "--target", "9"], "9"),
        (["--class", "p97", "--target", "0", "--limit", "0"], "--limit is 0"),
        (["--class", "p97", "--target", "0", "--layer", "conv9"], "conv9"),
        (["--class", "p97", "--target", "0", "--box", "12"], "12"),
    ],
)
def test_mistakes_leave_nothing(
    particles: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    out = tmp_path / "out"
    code, _, errors = run("average", *common(particles), *options, "--out", out)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not out.exists()


def test_a_class_that_the_network_does_not_know_needs_a_target(
    particles: Path, tmp_path: Path
) -> None:
    code, _, errors = run(
        *["average", particles / "particles.star", "--model", "paper:cnn-2", "--class", "p97"],
        *["--model-arg", "size=16", "--model-arg", "classes=2", "--out", tmp_path / "out"],
    )
    assert code == 2
    assert "Say which of its scores" in errors


def test_a_list_without_files_is_refused(particles: Path, tmp_path: Path) -> None:
    text = (particles / "particles.star").read_text("utf-8")
    (tmp_path / "lost.star").write_text(text, encoding="utf-8")
    options = common(particles)
    options[0] = tmp_path / "lost.star"
    code, _, errors = run("average", *options, "--class", "p97", "--target", "1")
    assert code == 2
    assert "lists files that are not there" in errors

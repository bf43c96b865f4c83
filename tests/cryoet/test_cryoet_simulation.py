"""Folders of simulated data: truth and images agree, runs are continued, other runs refused."""

import json

import mrcfile
import numpy as np
import pytest
import torch

from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.particles_star import read_particles
from respondcam.cryoet.poses import Poses, place_densities
from respondcam.cryoet.simulation import Simulation, write_simulation
from respondcam.cryoet.templates import load_templates
from respondcam.errors import InputError
from respondcam.volume import read_volume

pytest.importorskip("starfile")

PLAIN = Imaging(tilt_degrees=(-90.0, 90.0), resolution_angstrom=None, ctf=None)


@pytest.fixture(scope="module")
def templates():
    return load_templates(["groel", "p97"], size=24)


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_boxes_are_what_the_list_says(tmp_path, templates):
    simulation = Simulation(imaging=PLAIN, size=24, per_class=2, masks=True)
    done = write_simulation(simulation, templates, tmp_path / "out")
    assert (done.images, done.particles, done.made) == (4, 4, 4)
    listed = read_particles(done.truth)
    assert listed.classes == ("groel", "groel", "p97", "p97")
    assert listed.box_size == 24
    for file, name, position, rotation in zip(
        listed.files, listed.classes, listed.positions, listed.rotations, strict=True
    ):
        volume = read_volume(done.folder / file)
        assert volume.voxel_size == (10.0, 10.0, 10.0)
        assert volume.unit == "angstrom"
        np.testing.assert_array_equal(volume.affine[:3, 3], 0)
        pose = Poses(
            torch.tensor(rotation).float()[None], torch.tensor(position - 11.5).float()[None]
        )
        expected = place_densities(torch.tensor(templates[name].voxels)[None], pose, size=24)[0]
        assert np.corrcoef(volume.voxels.ravel(), expected.ravel())[0, 1] > 0.99
        mask = read_volume(done.folder / "masks" / file.split("/")[1]).voxels
        assert set(np.unique(mask)) == {0, 1}
        assert expected.numpy()[mask == 1].min() > expected.numpy()[mask == 0].max() - 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"per_class": 5, "imaging": Imaging(snr=0.1)},
        {"per_class": 1, "particles": 2, "size": 48, "masks": True},
        {"tomogram": (24, 64, 64), "particles": 4, "tomograms": 2},
        {"route": "projection", "per_class": 1, "tilt_step_degrees": 20.0, "size": 24},
    ],
    ids=["boxes", "crowded", "tomograms", "projection"],
)
def test_same_seed_same_bytes(tmp_path, templates, options):
    if options.get("route"):
        pytest.importorskip("torch_fourier_slice")
        pytest.importorskip("torch_ctf")
    simulation = Simulation(**{"size": 24, **options})
    for name in ("a", "b"):
        write_simulation(simulation, templates, tmp_path / name)
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first == second
    other = Simulation(**{"size": 24, **options, "seed": 1})
    write_simulation(other, templates, tmp_path / "c")
    third = contents(tmp_path / "c")
    images = [name for name in first if name.startswith(("subtomograms", "tomograms"))]
    assert images
    assert all(first[name] != third[name] for name in images if name in third)


def test_tomograms_list_coordinates(tmp_path, templates):
    simulation = Simulation(imaging=PLAIN, tomogram=(24, 60, 64), particles=3, tomograms=2)
    done = write_simulation(simulation, templates, tmp_path)
    assert (done.images, done.particles) == (2, 6)
    listed = read_particles(done.truth)
    assert listed.box_size is None
    assert (
        listed.files == ("tomograms/tomogram-0000.mrc",) * 3 + ("tomograms/tomogram-0001.mrc",) * 3
    )
    volume = read_volume(tmp_path / listed.files[0])
    assert volume.shape == (24, 60, 64)
    x, y, z = listed.positions[0].round().astype(int)
    near = volume.voxels[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4]
    assert near.mean() > volume.voxels.mean() + volume.voxels.std()


def test_an_interrupted_run_is_continued(tmp_path, templates):
    simulation = Simulation(imaging=Imaging(snr=0.1), size=24, per_class=6)
    write_simulation(simulation, templates, tmp_path / "whole")

    class PowerFailureError(Exception):
        pass

    def interrupt(done, total):
        if done >= 8:
            raise PowerFailureError

    with pytest.raises(PowerFailureError):
        write_simulation(simulation, templates, tmp_path / "cut", on_progress=interrupt)
    assert not (tmp_path / "cut" / "particles.star").exists()
    assert len(list((tmp_path / "cut" / "subtomograms").iterdir())) == 8
    done = write_simulation(simulation, templates, tmp_path / "cut")
    assert (done.images, done.made) == (12, 4)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_another_run_is_refused(tmp_path, templates):
    write_simulation(Simulation(size=24, per_class=1), templates, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"simulation.seed is 0 there and 3 now"):
        write_simulation(Simulation(size=24, per_class=1, seed=3), templates, tmp_path)
    turned = dict(reversed(templates.items()))
    with pytest.raises(InputError, match="classes is"):
        write_simulation(Simulation(size=24, per_class=1), turned, tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_of_something_else_is_refused(tmp_path, templates):
    (tmp_path / "particles.star").write_text("mine")
    with pytest.raises(InputError, match=r"'particles\.star' already"):
        write_simulation(Simulation(size=24, per_class=1), templates, tmp_path)
    assert contents(tmp_path) == {"particles.star": b"mine"}


def test_files_are_valid_mrc(tmp_path, templates):
    done = write_simulation(Simulation(size=24, per_class=1), templates, tmp_path)
    for path in (tmp_path / "subtomograms").iterdir():
        assert mrcfile.validate(path)
    assert json.loads((tmp_path / "simulation.json").read_text("utf-8"))["classes"] == [
        "groel",
        "p97",
    ]
    assert done.made == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 0}, "per_class=0"),
        ({"size": 4}, "size=4"),
        ({"max_shift_voxels": 30.0}, "max_shift_voxels"),
        ({"tomogram": (4, 40, 40)}, "8 or more"),
        ({"tomogram": (24, 40, 40), "route": "projection"}, "fourier route"),
        ({"route": "projection", "tilt_step_degrees": 7.0}, "does not divide"),
    ],
)
def test_wrong_settings_are_errors(options, message):
    with pytest.raises(InputError, match=message):
        Simulation(**options)


def test_densities_of_another_voxel_size_are_refused(tmp_path, templates):
    imaging = Imaging(voxel_size_angstrom=5.0)
    with pytest.raises(InputError, match="has voxels of 10 Å"):
        write_simulation(Simulation(imaging=imaging, size=24), templates, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_particles_that_do_not_fit_leave_no_folder_behind(tmp_path, templates):
    with pytest.raises(InputError, match="larger than the box"):
        write_simulation(Simulation(size=12, per_class=1), templates, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"per_class": 5}, {"tomogram": (32, 48, 48), "particles": 2}])
def test_one_dataset_holds_what_the_files_hold(tmp_path, templates, options):
    zarr = pytest.importorskip("zarr")
    simulation = Simulation(imaging=Imaging(snr=0.5), size=24, masks=True, **options)
    files = write_simulation(simulation, templates, tmp_path / "files")
    done = write_simulation(simulation, templates, tmp_path / "one", format="zarr")
    assert done.truth.name == "simulation.zarr"
    assert (done.images, done.particles, done.made) == (files.images, files.particles, done.images)
    group = zarr.open_group(str(done.truth), mode="r")
    assert group.attrs["classes"] == ["groel", "p97"]
    assert group.attrs["voxel_size_angstrom"] == 10.0
    assert group["images"].metadata.dimension_names == ("image", "z", "y", "x")
    listed = read_particles(files.truth)
    names = list(dict.fromkeys(listed.files))
    for number, name in enumerate(names):
        np.testing.assert_array_equal(
            group["images"][number], read_volume(files.folder / name).voxels
        )
        mask = read_volume(files.folder / "masks" / name.split("/")[1]).voxels
        np.testing.assert_array_equal(group["masks"][number], mask)
    classes = [group.attrs["classes"][n] for n in group["labels"][:].ravel()]
    assert tuple(classes) == listed.classes
    np.testing.assert_allclose(group["positions"][:].reshape(-1, 3), listed.positions, atol=1e-4)
    np.testing.assert_allclose(group["rotations"][:].reshape(-1, 3, 3), listed.rotations, atol=1e-4)
    np.testing.assert_array_equal(group["densities"][1], templates["p97"].voxels)


def test_an_interrupted_dataset_is_continued(tmp_path, templates):
    zarr = pytest.importorskip("zarr")
    simulation = Simulation(imaging=Imaging(snr=0.5), size=24, per_class=10)
    whole = write_simulation(simulation, templates, tmp_path / "whole", format="zarr")

    def stop(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_simulation(simulation, templates, tmp_path / "cut", format="zarr", on_progress=stop)
    rest = write_simulation(simulation, templates, tmp_path / "cut", format="zarr")
    assert (rest.images, rest.made) == (20, 12)
    one, other = (zarr.open_group(str(run.truth), mode="r") for run in (whole, rest))
    np.testing.assert_array_equal(one["images"][:], other["images"][:])
    with pytest.raises(InputError, match="format is 'zarr' there and 'mrc' now"):
        write_simulation(simulation, templates, tmp_path / "cut")

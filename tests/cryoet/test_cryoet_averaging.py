"""Averages in the particle's frame, against poses that are known exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from respondcam.cryoet.averaging import FrameMean, cut_particles, turned_back
from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.particles_star import ParticleList, particle_files, read_particles
from respondcam.cryoet.phantoms import phantom
from respondcam.cryoet.poses import Poses, place_densities, uniform_rotations
from respondcam.cryoet.simulation import Simulation, write_simulation
from respondcam.cryoet.templates import load_templates
from respondcam.errors import InputError, RespondCAMWarning
from respondcam.volume import Volume, write_volume


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    pair = torch.stack([one.flatten().double(), other.flatten().double()])
    return torch.corrcoef(pair)[0, 1].item()


def test_turning_back_undoes_every_pose() -> None:
    density = torch.tensor(phantom("p97", size=24).voxels)
    rotations = uniform_rotations(6, generator=torch.Generator().manual_seed(1))
    shifts = 3 * torch.rand(6, 3) - 1.5
    boxes = place_densities(density.expand(6, -1, -1, -1), Poses(rotations, shifts), size=24)
    for box, rotation, shift in zip(boxes, rotations, shifts, strict=True):
        upright = turned_back(box, rotation.double().numpy(), shift.double().numpy())
        assert correlation(upright, density) > 0.985  # interpolated twice
        # the other way round is another thing
        wrong = turned_back(box, rotation.T.double().numpy(), shift.double().numpy())
        assert correlation(wrong, density) < 0.95


def test_mean_and_spread_are_numpys() -> None:
    volumes = torch.randn(7, 4, 4, 4) + 100
    mean = FrameMean()
    for volume in volumes:
        mean.add(volume, np.eye(3), np.zeros(3))
    assert mean.count == 7
    np.testing.assert_allclose(mean.mean, volumes.double().numpy().mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(mean.spread, volumes.double().numpy().std(axis=0), atol=1e-4)


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    templates = load_templates(["groel", "ribosome-70s"], size=36)
    imaging = Imaging(tilt_degrees=(-90.0, 90.0), resolution_angstrom=None, ctf=None)
    write_simulation(Simulation(imaging, size=36, per_class=8, seed=3), templates, tmp_path)
    return tmp_path


def test_the_average_of_a_simulation_is_its_density(simulated: Path) -> None:
    particles = read_particles(simulated / "particles.star")
    files = particle_files(particles, simulated / "particles.star")
    mean = FrameMean()
    for one in cut_particles(particles, files, only="ribosome-70s"):
        mean.add(torch.tensor(one.box.voxels), one.rotation, one.shift)
    assert mean.count == 8
    expected = torch.tensor(load_templates(["ribosome-70s"], size=36)["ribosome-70s"].voxels)
    assert correlation(mean.mean, expected) > 0.98
    inside = expected > 0.5
    # the boxes agree with each other up to interpolation
    assert mean.spread[inside].mean() < 0.15 * mean.mean[inside].mean()


def test_particles_are_cut_out_of_tomograms(tmp_path: Path) -> None:
    voxels = np.zeros((20, 30, 40), np.float32)
    voxels[10, 12, 25] = 1
    write_volume(tmp_path / "t.mrc", Volume(voxels, np.diag([10.0, 10, 10, 1]), "angstrom"))
    position = np.array([[25.0, 12.0, 10.0], [25.4, 11.6, 10.0]])
    both = ParticleList(
        ("t.mrc", "t.mrc"), ("a", "a"), position, np.stack([np.eye(3)] * 2), 10.0, None
    )
    files = (tmp_path / "t.mrc",) * 2
    first, second = cut_particles(both, files, box=9)
    assert first.box.voxels.shape == (9, 9, 9)
    assert first.box.voxels[4, 4, 4] == 1
    np.testing.assert_allclose(first.shift, 0)
    np.testing.assert_allclose(second.shift, [0.4, -0.4, 0])
    even = next(cut_particles(both, files, box=8))
    turned = turned_back(torch.tensor(even.box.voxels), even.rotation, even.shift)
    middle = turned[3:5, 3:5, 3:5]
    assert middle.sum() == pytest.approx(1.0, abs=1e-5)  # half a voxel away from each of the eight
    doubled = next(cut_particles(both, files, box=9, prepare=lambda voxels: 2 * voxels))
    assert doubled.box.voxels.max() == 2


def test_particles_at_the_border_are_left_out_and_said(tmp_path: Path) -> None:
    volume = Volume(np.ones((20, 30, 40), np.float32), np.diag([10.0, 10, 10, 1]), "angstrom")
    write_volume(tmp_path / "t.mrc", volume)
    positions = np.array([[25.0, 12.0, 5.0], [20.0, 15.0, 10.0], [38.0, 15.0, 10.0]])
    listed = ParticleList(
        ("t.mrc",) * 3, ("a",) * 3, positions, np.stack([np.eye(3)] * 3), 10.0, None
    )
    with pytest.warns(RespondCAMWarning, match="2 of 3 particles were left out"):
        (kept,) = cut_particles(listed, (tmp_path / "t.mrc",) * 3, box=13)
    np.testing.assert_allclose(kept.shift, 0)


@pytest.mark.parametrize("far", [1e300, -1e5, np.inf, np.nan, 15.6, -0.6])
@pytest.mark.parametrize("box", [None, 5])
def test_particles_with_centres_outside_their_files_are_left_out_and_said(
    tmp_path: Path, far: float, box: int | None
) -> None:
    volume = Volume(np.ones((16, 16, 16), np.float32), np.diag([10.0, 10, 10, 1]), "angstrom")
    write_volume(tmp_path / "p.mrc", volume)
    positions = np.array([[8.0, 8, 8], [8, far, 8]])
    two = ParticleList(("p.mrc",) * 2, ("a",) * 2, positions, np.stack([np.eye(3)] * 2), 10.0, 16)
    files = (tmp_path / "p.mrc",) * 2
    with pytest.warns(RespondCAMWarning, match=r"1 of 2 particles .* centres lie outside .*p\.mrc"):
        (kept,) = cut_particles(two, files, box=box)
    np.testing.assert_allclose(kept.box.voxels, 1)
    both = replace(two, positions=positions[[1, 1]])
    with pytest.raises(InputError, match=r"2 of 2 particles were left out: .* Accepted: coordinat"):
        list(cut_particles(both, files, box=box))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"only": "b", "box": 9}, "No particle is of class 'b'. There are: a"),
        ({}, {}, "say how large the boxes"),
        ({}, {"box": 19}, "1 of 1 particles were left out: .* reach over the border"),
        ({"voxel_size_angstrom": 5.0}, {"box": 9}, "voxels of 10 Å, and the list .* says 5 Å"),
        ({"box_size": 20}, {}, "is no cube"),
    ],
)
def test_what_cannot_be_cut_is_named(
    tmp_path: Path, change: dict[str, object], options: dict[str, object], message: str
) -> None:
    volume = Volume(np.zeros((20, 30, 40), np.float32), np.diag([10.0, 10, 10, 1]), "angstrom")
    write_volume(tmp_path / "t.mrc", volume)
    facts = {
        "files": ("t.mrc",),
        "classes": ("a",),
        "positions": np.array([[25.0, 12.0, 5.0]]),
        "rotations": np.eye(3)[None],
        "voxel_size_angstrom": 10.0,
        "box_size": None,
        **change,
    }
    particles = ParticleList(**facts)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=message):
        list(cut_particles(particles, (tmp_path / "t.mrc",), **options))  # pyright: ignore[reportArgumentType]

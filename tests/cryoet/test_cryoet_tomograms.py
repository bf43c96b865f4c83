"""Crowded tomograms: nothing touches, and each particle is found back by its listed pose."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.particles_star import ParticleList, read_particles, write_particles
from respondcam.cryoet.phantoms import phantom
from respondcam.cryoet.poses import Poses, place_densities
from respondcam.cryoet.subtomograms import density_radius
from respondcam.cryoet.tomograms import crowd, simulate_tomogram
from respondcam.errors import InputError

SHAPE = (30, 64, 72)
PLAIN = Imaging(tilt_degrees=(-90.0, 90.0), resolution_angstrom=None, ctf=None)
NAMES = ("groel", "apoferritin", "rubisco", "p97")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def densities():
    return torch.stack([torch.tensor(phantom(name, size=24).voxels) for name in NAMES])


@pytest.fixture(scope="module")
def tomogram(densities):
    radii = torch.tensor([density_radius(density) for density in densities])
    labels, poses = crowd(radii, 10, shape=SHAPE, generator=seeded())
    return simulate_tomogram(densities, labels, poses, PLAIN, shape=SHAPE, generator=seeded())


def cut_out(volume, position_xyz, rotation, size):
    """Slowly, by scipy: the box around a position, turned back into the particle's own frame."""
    turn = rotation[::-1, ::-1]  # acts on z, y, x
    middle = np.full(3, (size - 1) / 2)
    offset = np.asarray(position_xyz)[::-1] - turn @ middle
    return affine_transform(volume, turn, offset, output_shape=(size,) * 3, order=3)


def test_listed_poses_give_the_templates_back(tmp_path, densities, tomogram):
    listed = ParticleList(
        files=("tomogram.mrc",) * 10,
        classes=tuple(NAMES[label] for label in tomogram.labels.tolist()),
        positions=tomogram.positions.double().numpy(),
        rotations=tomogram.poses.rotations.double().numpy(),
        voxel_size_angstrom=10.0,
    )
    write_particles(tmp_path / "particles.star", listed)
    back = read_particles(tmp_path / "particles.star")
    volume = tomogram.volume.numpy()
    for position, rotation, name in zip(back.positions, back.rotations, back.classes, strict=True):
        template = densities[NAMES.index(name)].numpy()
        found = cut_out(volume, position, rotation, 24)
        near = template > 0.02  # neighbours may reach into the corners of the box
        assert np.corrcoef(found[near], template[near])[0, 1] > 0.95
        turned = cut_out(volume, position, rotation.T, 24)
        if name == "rubisco":
            continue
        assert (
            np.corrcoef(found[near], template[near])[0, 1]
            > np.corrcoef(turned[near], template[near])[0, 1]
        )


def test_it_is_the_sum_of_its_particles(densities):
    """In a cube each particle can be placed by itself in the whole of it."""
    size = 40
    poses = Poses(torch.eye(3).repeat(2, 1, 1), torch.tensor([[-8.3, 5.2, 0.4], [9.1, -7.0, 2.6]]))
    labels = torch.tensor([0, 3])
    made = simulate_tomogram(
        densities, labels, poses, PLAIN, shape=(size,) * 3, generator=seeded()
    ).volume
    expected = place_densities(densities[labels], poses, size=size).sum(dim=0)
    expected = (expected - expected.mean()) / expected.std(correction=0)
    # the filter leaves out the Nyquist planes of even boxes
    assert np.corrcoef(made.flatten(), expected.flatten())[0, 1] > 0.995


def test_nothing_touches_and_all_is_inside(densities, tomogram):
    radii = torch.tensor([density_radius(density) for density in densities])[tomogram.labels]
    places = tomogram.poses.shifts
    distances = torch.cdist(places, places) + torch.eye(10) * 1e3
    assert bool((distances >= radii[:, None] + radii).all())
    edges = torch.tensor(SHAPE[::-1]) / 2
    assert bool((places.abs() + radii[:, None] <= edges + 1e-4).all())
    assert tomogram.particles.unique().tolist() == list(range(11))


def test_owners_lie_around_the_listed_positions(tomogram):
    for index, position in enumerate(tomogram.positions):
        own = (tomogram.particles == index + 1).nonzero().double().mean(dim=0)
        np.testing.assert_allclose(own.flip(0), position, atol=1.0)


def test_kinds_are_drawn_evenly_and_seeded():
    radii = torch.tensor([2.0, 3.0])
    labels, poses = crowd(radii, 100, shape=(60, 120, 120), generator=seeded())
    again, same = crowd(radii, 100, shape=(60, 120, 120), generator=seeded())
    assert torch.equal(labels, again)
    assert torch.equal(poses.shifts, same.shifts)
    assert 35 < int(labels.sum()) < 65


def test_a_particle_over_the_border_is_cut(densities):
    poses = Poses(torch.eye(3)[None], torch.tensor([[19.0, 0.0, 0.0]]))
    made = simulate_tomogram(
        densities, torch.tensor([0]), poses, PLAIN, shape=(40, 40, 40), generator=seeded()
    )
    assert made.particles[:, :, -1].any()
    assert not made.particles[:, :, 0].any()


def test_wrong_requests_are_errors(densities):
    radii = torch.tensor([5.0])
    with pytest.raises(InputError, match="too thin"):
        crowd(radii, 3, shape=(8, 40, 40), generator=seeded())
    with pytest.raises(InputError, match=r"only \d+ of 50 particles find a place"):
        crowd(radii, 50, shape=(12, 30, 30), generator=seeded())
    with pytest.raises(InputError, match="one particle or more"):
        crowd(radii, 0, shape=SHAPE, generator=seeded())
    poses = Poses(torch.eye(3)[None], torch.zeros(1, 3))
    with pytest.raises(InputError, match="do not all name"):
        simulate_tomogram(
            densities, torch.tensor([9]), poses, PLAIN, shape=SHAPE, generator=seeded()
        )
    with pytest.raises(InputError, match="do not match"):
        simulate_tomogram(
            densities, torch.tensor([0, 1]), poses, PLAIN, shape=SHAPE, generator=seeded()
        )

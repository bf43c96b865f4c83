"""Rotations are uniform, and densities land where their poses say."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from respondcam.cryoet.crowding import crowded_boxes
from respondcam.cryoet.phantoms import phantom
from respondcam.cryoet.poses import Poses, place_densities, random_poses, uniform_rotations
from respondcam.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_density(size=24):
    """Three blobs without any symmetry."""
    z, y, x = np.indices((size,) * 3) - (size - 1) / 2
    blobs = [(2, -1, 3, 2.0), (-4, 2, 0, 2.5), (1, 4, -3, 1.8)]
    parts = [
        np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * s * s)) for a, b, c, s in blobs
    ]
    return torch.tensor(sum(parts), dtype=torch.float64)


def test_rotations_are_rotations():
    rotations = uniform_rotations(500, generator=seeded()).double()
    np.testing.assert_allclose(rotations @ rotations.mT, torch.eye(3).expand(500, 3, 3), atol=1e-6)
    np.testing.assert_allclose(torch.linalg.det(rotations), 1, atol=1e-6)


def test_rotations_are_uniform():
    rotations = uniform_rotations(4000, generator=seeded()).double().numpy()
    # the image of any fixed vector is uniform on the sphere: its coordinates are uniform
    for column in range(3):
        for row in range(3):
            p = stats.kstest(rotations[:, row, column], "uniform", (-1, 2)).pvalue
            assert p > 1e-4, (row, column)
    # and the angle of rotation has the density (1 - cos a) / pi
    angles = Rotation.from_matrix(rotations).magnitude()
    assert stats.kstest(angles, lambda a: (a - np.sin(a)) / np.pi).pvalue > 1e-4


def test_placing_equals_scipys_affine_transform():
    density = smooth_density()
    rotation = Rotation.from_euler("zyx", [30, -50, 75], degrees=True).as_matrix()
    shift = np.array([2.0, -3.0, 1.5])
    poses = Poses(torch.tensor(rotation)[None], torch.tensor(shift)[None])
    ours = place_densities(density[None], poses, size=28)[0]
    # scipy asks for the input's place (z, y, x) of each output voxel
    inverse = rotation.T[::-1, ::-1]
    offset = 11.5 - inverse @ (13.5 + shift[::-1])
    theirs = ndimage.affine_transform(
        density.numpy(), inverse, offset, (28,) * 3, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    # interpolation hides no mistake of the reference's own convention: blobs go where R p + s is
    for blob, sigma in [((2, -1, 3), 2.0), ((-4, 2, 0), 2.5), ((1, 4, -3), 1.8)]:
        x, y, z = np.round(rotation @ blob + shift + 13.5).astype(int)
        assert ours[z, y, x] > 0.7, (blob, sigma)


def test_a_finer_density_lands_in_the_same_place():
    poses = random_poses(1, max_shift_voxels=3.0, generator=seeded(3))
    kind = {"name": "proteasome-20s", "resolution_angstrom": 30.0}
    coarse = torch.tensor(phantom(**kind, size=30, voxel_size_angstrom=10.0).voxels)
    fine = torch.tensor(phantom(**kind, size=75, voxel_size_angstrom=4.0).voxels)
    from_coarse = place_densities(coarse[None], poses, size=32)[0]
    from_fine = place_densities(fine[None], poses, size=32, density_voxels_per_voxel=2.5)[0]
    assert torch.corrcoef(torch.stack([from_coarse.flatten(), from_fine.flatten()]))[0, 1] > 0.99
    assert (from_coarse - from_fine).abs().max() < 0.2


def test_boxes_need_not_be_cubes_and_the_density_is_not_written_to():
    density = torch.rand(1, 9, 11, 14, generator=seeded())
    before = density.clone()
    still = Poses(torch.eye(3)[None], torch.zeros(1, 3))
    placed = place_densities(density, still, size=14)
    assert placed.sum() == pytest.approx(density.sum().item(), rel=0.02)
    centre = [
        (placed[0] * i).sum() / placed.sum() - 6.5
        for i in torch.meshgrid(*[torch.arange(14.0)] * 3, indexing="ij")
    ]
    expected = [
        (density[0] * i).sum() / density.sum()
        for i in torch.meshgrid(
            *[torch.arange(n) - (n - 1) / 2 for n in (9, 11, 14)], indexing="ij"
        )
    ]
    np.testing.assert_allclose(centre, expected, atol=0.05)
    assert torch.equal(density, before)


def test_random_poses_are_seeded_and_within_their_bounds():
    poses = random_poses(200, 3, max_shift_voxels=2.5, generator=seeded(1))
    again = random_poses(200, 3, max_shift_voxels=2.5, generator=seeded(1))
    other = random_poses(200, 3, max_shift_voxels=2.5, generator=seeded(2))
    assert poses.rotations.shape == (200, 3, 3, 3)
    assert torch.equal(poses.rotations, again.rotations)
    assert torch.equal(poses.shifts, again.shifts)
    assert not torch.equal(poses.shifts, other.shifts)
    assert 2.4 < poses.shifts.abs().max() <= 2.5
    assert poses.shifts.mean().abs() < 0.15
    with pytest.raises(InputError, match="max_shift_voxels"):
        random_poses(1, max_shift_voxels=-1.0, generator=seeded())


def test_crowded_particles_stay_inside_and_apart():
    radii = torch.tensor([3.0, 5.0, 8.0])
    labels, poses = crowded_boxes(radii, 100, 3, size=32, generator=seeded())
    assert labels.shape == (100, 3)
    assert set(labels.unique().tolist()) == {0, 1, 2}
    radius = radii[labels]
    assert (poses.shifts.abs().amax(dim=2) + radius <= 16 + 1e-5).all()
    distances = torch.cdist(poses.shifts, poses.shifts)
    apart = distances - radius[:, :, None] - radius[:, None]
    apart.diagonal(dim1=1, dim2=2).fill_(math.inf)
    assert apart.min() > -1e-5
    again, _ = crowded_boxes(radii, 100, 3, size=32, generator=seeded())
    assert torch.equal(labels, again)


def test_crowds_that_find_no_place_are_an_error():
    with pytest.raises(InputError, match="find no place in a box of 16 voxels"):
        crowded_boxes(torch.tensor([7.0]), 1, 3, size=16, generator=seeded())
    with pytest.raises(InputError, match="larger box"):
        crowded_boxes(torch.tensor([9.0]), 1, 1, size=16, generator=seeded())

"""Phantoms have the symmetry and the size that they state, measured on their voxels."""

import numpy as np
import pytest
from scipy import ndimage

from respondcam.cryoet.phantoms import PHANTOMS, phantom
from respondcam.cryoet.symmetry import rotation_matrix, symmetry_generators
from respondcam.errors import InputError


def turned(voxels, rotation):
    """Rotate a (z, y, x) array about its centre by a matrix in x, y, z order."""
    zyx = rotation[::-1, ::-1]
    middle = (np.array(voxels.shape) - 1) / 2
    return ndimage.affine_transform(voxels, zyx.T, middle - zyx.T @ middle, order=3)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("name", PHANTOMS)
def test_voxels_have_the_stated_symmetry(name):
    size = int(300 / 5)
    voxels = phantom(name, size=size, voxel_size_angstrom=5.0, resolution_angstrom=20.0).voxels
    for generator in symmetry_generators(PHANTOMS[name].symmetry):
        assert correlation(voxels, turned(voxels, generator)) > 0.99
    # and the measurement could have failed
    skew = rotation_matrix((1, 2, 3), 47.0)
    assert correlation(voxels, turned(voxels, skew)) < 0.97


@pytest.mark.parametrize("name", PHANTOMS)
def test_extents_are_the_published_ones(name):
    voxel = 4.0
    voxels = phantom(name, size=75, voxel_size_angstrom=voxel, resolution_angstrom=10.0).voxels
    z, y, x = (np.argwhere(voxels > 0.5) - 37).T * voxel
    assert np.ptp(z) + voxel == pytest.approx(PHANTOMS[name].height_angstrom, rel=0.06, abs=4)
    width = 2 * np.hypot(x, y).max() + voxel
    assert width == pytest.approx(PHANTOMS[name].width_angstrom, rel=0.06, abs=4)


@pytest.mark.parametrize(
    ("name", "radius_angstrom"),
    [("groel", 20), ("proteasome-20s", 20), ("apoferritin", 33), ("encapsulin", 85)],
)
def test_hollow_ones_are_hollow(name, radius_angstrom):
    voxels = phantom(name, size=65, voxel_size_angstrom=4.0, resolution_angstrom=10.0).voxels
    z, y, x = (np.indices(voxels.shape) - 32) * 4.0
    inside = x**2 + y**2 + z**2 < radius_angstrom**2
    assert voxels[inside].max() < 0.1
    assert voxels.max() > 0.8


@pytest.mark.parametrize("name", PHANTOMS)
def test_density_is_centred_even_and_the_same_every_time(name):
    volume = phantom(name, size=40)
    voxels = volume.voxels.astype(np.float64)
    centre = [(voxels * index).sum() / voxels.sum() for index in np.indices(voxels.shape)]
    np.testing.assert_allclose(centre, 19.5, atol=0.02)
    assert np.median(voxels[voxels > 0.5]) == pytest.approx(0.85, abs=0.25)
    np.testing.assert_array_equal(voxels, phantom(name, size=40).voxels)
    assert volume.unit == "angstrom"
    assert volume.voxel_size == (10, 10, 10)


def test_mass_does_not_depend_on_the_voxel_size():
    masses = [
        phantom("groel", size=s, voxel_size_angstrom=v).voxels.sum(dtype=np.float64) * v**3
        for s, v in [(40, 10.0), (80, 5.0), (57, 7.0)]
    ]
    np.testing.assert_allclose(masses, masses[0], rtol=1e-3)


def test_phantoms_differ():
    shapes = [phantom(name, size=40).voxels for name in PHANTOMS]
    likeness = np.corrcoef([shape.ravel() for shape in shapes])
    assert (likeness - np.eye(len(shapes))).max() < 0.9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "groell"}, "groel"),
        ({"name": "groel", "size": 14}, "15 voxels"),
        ({"name": "groel", "voxel_size_angstrom": 0.0}, "voxel_size_angstrom"),
        ({"name": "groel", "resolution_angstrom": -1.0}, "resolution_angstrom"),
    ],
)
def test_what_cannot_be_rendered_is_an_error_with_the_remedy(arguments, says):
    with pytest.raises(InputError, match=says):
        phantom(**arguments)

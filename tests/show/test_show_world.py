"""Turning volumes upright and sampling maps, against nibabel and SciPy."""

import itertools

import nibabel
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from respondcam.errors import VolumeError
from respondcam.show.scene import cut, make_scene
from respondcam.show.world import upright
from respondcam.volume import Volume
from respondcam.volume.sampling import sample

CODES = [
    "".join(pair)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for pair in itertools.product(*axes)
]


def affine_of(codes: str, size=(2.0, 3.0, 4.0)) -> np.ndarray:
    """Build the affine of a grid whose x, y, z axes point this way."""
    turn = nibabel.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(turn):
        affine[int(world), axis] = sign * size[axis]
    affine[:3, 3] = (5, -7, 11)
    assert "".join(nibabel.aff2axcodes(affine)) == codes
    return affine


@pytest.mark.parametrize("codes", CODES)
def test_every_orientation_is_turned_to_ras_as_nibabel_does(codes):
    voxels = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    affine = affine_of(codes)
    turned = upright(Volume(voxels, affine, "mm"))
    reference = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels.T, affine))
    np.testing.assert_array_equal(turned.volume.voxels, np.asarray(reference.dataobj).T)
    np.testing.assert_allclose(turned.volume.affine, reference.affine)


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PSL", "IRP"])
def test_stored_indices_survive_the_turn(codes):
    shape = (4, 5, 6)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    turned = upright(Volume(numbers, affine_of(codes), "mm"))
    for index in [(0, 0, 0), (3, 1, 5), (2, 4, 0)]:
        here = turned.index_of_stored(index)
        assert turned.volume.voxels[here] == numbers[index]
        assert turned.stored_index(here) == index


def test_turning_does_not_copy_the_voxels():
    volume = Volume(np.zeros((4, 5, 6)), affine_of("LAS"), "mm")
    assert np.shares_memory(upright(volume).volume.voxels, volume.voxels)


def test_tilt_is_the_largest_angle_to_the_world():
    angle = np.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert upright(Volume(np.zeros((2, 2, 2)), affine)).tilt_degrees == pytest.approx(20)


def test_sampling_agrees_with_scipy():
    rng = np.random.default_rng(1)
    voxels = rng.normal(size=(5, 1, 7))
    points = rng.uniform(-2.5, 9.0, size=(400, 3))
    points[:5] = [[0, 0, 0], [4, 0, 6], [-1, 0, 0], [-0.5, 0.5, 3], [1e9, 0, 0]]
    expected = map_coordinates(voxels, points.T, order=1, mode="grid-constant", cval=0.0)
    np.testing.assert_allclose(sample(voxels, points), expected, atol=1e-12)


def test_map_on_its_own_oblique_grid_lands_where_the_world_says():
    rng = np.random.default_rng(2)
    angle = np.radians(25)
    turn = np.eye(4)
    turn[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    volume = Volume(rng.normal(size=(8, 9, 10)), turn @ affine_of("LPS", (1, 1, 1)), "mm")
    map_affine = volume.affine @ np.diag([2.0, 3.0, 4.0, 1.0])
    map_affine[:3, 3] += 0.3
    signed = Volume(rng.normal(size=(3, 4, 5)), map_affine, "mm")
    scene = make_scene(volume, signed)
    plane = cut(scene, 1, 3)
    assert plane.signed is not None
    rows, columns = plane.grey.shape
    fine = plane.signed.shape[0] // rows
    at_centres = plane.signed[fine // 2 :: fine, fine // 2 :: fine]
    for row, column in itertools.product(range(rows), range(columns)):
        world = scene.grey.volume.world((row, 3, column))
        point = signed.index(world)[:, None]
        expected = map_coordinates(signed.voxels, point, order=1, mode="grid-constant")
        assert at_centres[row, column] == pytest.approx(expected[0], abs=1e-5)


def test_a_channel_that_does_not_exist_is_refused():
    with pytest.raises(VolumeError, match=r"channel=2.*2 channel\(s\).*0 to 1"):
        upright(Volume(np.zeros((2, 3, 3, 3))), channel=2)


def test_voxels_that_are_not_finite_are_counted():
    voxels = np.zeros((3, 3, 3))
    voxels[0, 0, :2] = np.nan, np.inf
    with pytest.raises(VolumeError, match="2 voxels that are NaN or infinite"):
        upright(Volume(voxels))

"""Maps between grids: the sum stays, and so does the place."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from respondcam.errors import VolumeError
from respondcam.volume import Volume
from respondcam.volume.regrid import carry_mask, put_back, regrid

SIZES = st.integers(1, 9)
SPACINGS = st.floats(0.4, 3.0)


def affine_of(turn: np.ndarray, spacing, origin) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = turn * np.asarray(spacing)
    out[:3, 3] = origin
    return out


@st.composite
def turns(draw) -> np.ndarray:
    """Turned by right angles and flipped, or by any angle."""
    if draw(st.booleans()):
        order = draw(st.permutations(range(3)))
        signs = [draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)]
        return np.eye(3)[:, order] * signs
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    return Rotation.from_euler("zyx", angles, degrees=True).as_matrix()


@st.composite
def grids(draw) -> tuple[tuple[int, int, int], np.ndarray]:
    shape = (draw(SIZES), draw(SIZES), draw(SIZES))
    spacing = [draw(SPACINGS) for _ in range(3)]
    origin = [draw(st.floats(-5, 5)) for _ in range(3)]
    return shape, affine_of(draw(turns()), spacing, origin)


def centroid(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = np.indices(voxels.shape).reshape(3, -1)[::-1]
    return (affine[:3, :3] @ (index * voxels.ravel()).sum(1)) / voxels.sum() + affine[:3, 3]


@settings(max_examples=60, deadline=None)
@given(one=grids(), other=grids(), seed=st.integers(0, 99))
def test_the_sum_stays_whatever_the_grids(one, other, seed):
    values = np.random.default_rng(seed).standard_normal(one[0]).astype(np.float32)
    placed = regrid(values, one[1], *other)
    assert placed.shape == other[0]
    size = np.abs(values).sum()
    assert abs(placed.sum() - values.sum(dtype=np.float64)) <= 1e-5 * size
    assert np.abs(placed).sum() <= size * (1 + 1e-5)


@settings(max_examples=40, deadline=None)
@given(
    turn=turns(), other=turns(), spacing=SPACINGS, finer=st.floats(0.5, 2), seed=st.integers(0, 99)
)
def test_the_centroid_stays_where_the_border_cuts_nothing(turn, other, spacing, finer, seed):
    rng = np.random.default_rng(seed)
    values = np.zeros((5, 6, 7))
    values[1:-1, 1:-1, 1:-1] = rng.random((3, 4, 5))
    own = affine_of(turn, (spacing, 1.3 * spacing, 0.8), rng.normal(size=3))
    middle = own @ (3, 2.5, 2, 1)
    onto = affine_of(other, (finer, 1.0, 0.7 * finer), (0, 0, 0))
    shape = tuple(int(2 * 12 * spacing / s) + 16 for s in (0.7 * finer, 1.0, finer))
    onto[:3, 3] = middle[:3] - onto[:3, :3] @ (np.array(shape[::-1]) // 2)
    placed = regrid(values, own, shape, onto)
    assert np.allclose(centroid(placed, onto), centroid(values, own), atol=0.06 * max(1, spacing))


def test_the_same_grid_gives_the_same_map():
    values = np.random.default_rng(0).standard_normal((3, 4, 5))
    oblique = affine_of(
        Rotation.from_euler("z", 20, degrees=True).as_matrix(), (1, 2, 3), (4, 5, 6)
    )
    assert np.allclose(regrid(values, oblique, (3, 4, 5), oblique), values, atol=1e-12)


def test_flips_and_transposed_axes_are_exact():
    values = np.random.default_rng(0).standard_normal((3, 4, 5))
    own = affine_of(np.eye(3), (1, 2, 3), (7, 8, 9))
    turned = np.flip(values.transpose(1, 2, 0), 2)  # axes y, x, -z
    # in x, y, z order the columns of the new axes are -z, x, y
    onto = np.eye(4)
    onto[:3, 0], onto[:3, 1], onto[:3, 2] = -own[:3, 2], own[:3, 0], own[:3, 1]
    onto[:3, 3] = own[:3, 3] + own[:3, 2] * (values.shape[0] - 1)
    assert np.allclose(regrid(values, own, turned.shape, onto), turned, atol=1e-12)


def test_finer_voxels_are_interpolated_linearly():
    values = np.zeros((1, 1, 9))
    values[..., 3:6] = 1.0
    finer = affine_of(np.eye(3), (0.25, 1, 1), (-0.375, 0, 0))
    placed = regrid(values, np.eye(4), (1, 1, 36), finer)[0, 0]
    at = -0.375 + 0.25 * np.arange(36)
    assert np.allclose(placed, np.interp(at, np.arange(9), values[0, 0]) / 4, atol=1e-12)


def test_oblique_grids_agree_with_an_image_resampled_by_simpleitk():
    """A smooth density: there, a map is an image times the ratio of the voxels' volumes."""
    z, y, x = np.indices((20, 20, 20)) - 9.5
    values = np.exp(-(z**2 + 2 * y**2 + x * y + x**2) / 40)
    turn = Rotation.from_euler("zyx", (25, -15, 40), degrees=True).as_matrix()
    onto = affine_of(turn, (1.4, 0.9, 1.1), (0, 0, 0))
    shape = (22, 26, 17)
    onto[:3, 3] = 9.5 - onto[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    reference = SimpleITK.GetImageFromArray(np.zeros(shape))
    reference.SetSpacing(np.linalg.norm(onto[:3, :3], axis=0).tolist())
    reference.SetDirection(turn.ravel().tolist())
    reference.SetOrigin(onto[:3, 3].tolist())
    image = SimpleITK.Resample(SimpleITK.GetImageFromArray(values), reference)
    expected = SimpleITK.GetArrayFromImage(image) * (1.4 * 0.9 * 1.1)
    placed = regrid(values, np.eye(4), shape, onto)
    inside = expected > 0.05 * expected.max()
    assert np.abs(placed - expected)[inside].max() < 0.08 * expected.max()
    assert np.corrcoef(placed[inside], expected[inside])[0, 1] > 0.998


def test_what_lies_outside_goes_to_the_border():
    values = np.array([[[5.0, 1.0, 2.0]]])
    crop = affine_of(np.eye(3), (1, 1, 1), (1, 0, 0))
    assert regrid(values, np.eye(4), (1, 1, 1), crop).item() == pytest.approx(8)


def test_a_map_is_put_back_with_its_volumes_geometry():
    original = Volume(np.zeros((2, 4, 4, 4)), np.diag([1.0, 1, 1, 1]), "mm", header={"a": 1})
    placed = put_back(Volume(np.ones((1, 2, 2, 2)), np.diag([2.0, 2, 2, 1]), "mm"), original)
    assert (placed.voxels.shape, placed.unit, placed.header) == ((4, 4, 4), "mm", {"a": 1})
    assert placed.voxels.sum() == pytest.approx(8)
    with pytest.raises(VolumeError, match="one channel, received 2"):
        put_back(original, original)


@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 0), (25, -15, 40)])
def test_values_are_put_back_as_simpleitk_resamples_them(angles):
    values = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    turn = Rotation.from_euler("zyx", angles, degrees=True).as_matrix().round(12)
    own = affine_of(np.eye(3), (2.0, 1.5, 3.0), (5, -4, 1))
    onto = affine_of(turn, (0.7, 1.1, 0.9), (9, 2, 6))
    original = Volume(np.zeros((9, 10, 11)), onto, "mm")
    found = put_back(Volume(values, own, "mm"), original, keep="value").voxels
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((2.0, 1.5, 3.0))
    image.SetOrigin((5, -4, 1))
    reference = SimpleITK.GetImageFromArray(np.zeros(original.shape, np.float32))
    reference.SetSpacing((0.7, 1.1, 0.9))
    reference.SetDirection(turn.ravel().tolist())
    reference.SetOrigin((9, 2, 6))
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(image, reference, SimpleITK.Transform(), SimpleITK.sitkLinear, np.nan)
    )
    xyz = np.indices(original.shape).reshape(3, -1)[::-1]
    index = np.linalg.solve(own, onto @ np.vstack([xyz, np.ones(xyz.shape[1])]))[:3]
    last = np.array(values.shape[::-1])[:, None] - 1
    inside = ((index >= 0) & (index <= last)).all(axis=0)  # between the outermost centres
    assert inside.sum() > 100
    assert np.abs(found - expected).ravel()[inside].max() < 1e-4
    outside = ((index < -1) | (index > last + 1)).any(axis=0)
    assert np.abs(found.ravel()[outside]).max(initial=0) == 0


def test_a_mask_is_carried_over_by_the_nearest_voxels():
    mask = np.zeros((4, 4, 4), bool)
    mask[1:3, 2:, :] = True
    of = Volume(np.zeros((4, 4, 4)), np.diag([2.0, 2, 2, 1]))
    finer = affine_of(np.eye(3), (1, 1, 1), (-0.5, -0.5, -0.5))
    carried = carry_mask(mask, of, Volume(np.zeros((8, 8, 8)), finer))
    assert (carried == mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)).all()
    outside = Volume(np.zeros((2, 2, 2)), affine_of(np.eye(3), (1, 1, 1), (90, 0, 0)))
    assert not carry_mask(mask, of, outside).any()


def test_a_mask_of_one_voxel_is_never_lost():
    of = Volume(np.zeros((9, 9, 9)))
    coarse = Volume(np.zeros((3, 3, 3)), affine_of(np.eye(3), (3, 3, 3), (1, 1, 1)))
    for at in np.ndindex(9, 9, 9):
        mask = np.zeros((9, 9, 9), bool)
        mask[at] = True
        (found,) = np.argwhere(carry_mask(mask, of, coarse))
        assert found.tolist() == [i // 3 for i in at]

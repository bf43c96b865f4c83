"""Volume itself: what it checks, that nothing changes it, and where its voxels are."""

import copy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from respondcam.errors import VolumeError
from respondcam.volume import NORMALIZATIONS, Volume
from respondcam.volume.geometry import as_affine, disagreement, to_axis_order

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([1.0, 2.0, 3.0]), [-20.0, 7.0, 11.0]
)


def voxels(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 2, 3, 4, 5), (0, 4, 5), (0, 3, 4, 5)])
def test_shapes_that_are_no_volume_are_refused_by_name(shape):
    with pytest.raises(VolumeError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        Volume(np.zeros(shape))


@pytest.mark.parametrize("dtype", [complex, "U3", object, "M8[s]"])
def test_voxels_that_are_no_real_numbers_are_refused(dtype):
    with pytest.raises(VolumeError, match="real numbers"):
        Volume(np.zeros((2, 2, 2), dtype=dtype))


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "f2", ">f4", "f8", "?"])
def test_real_numbers_of_any_type_become_float32(dtype):
    volume = Volume(np.ones((2, 3, 4), dtype))
    assert volume.voxels.dtype == np.float32
    assert volume.voxels.dtype.isnative
    assert volume.voxels.sum() == 24


def test_numbers_beyond_float32_are_an_error_not_infinity():
    array = np.zeros((2, 2, 2))
    array[0, 0, 0] = 1e300
    with pytest.raises(VolumeError, match="1 voxels are too large"):
        Volume(array)
    array[0, 0, 0] = np.inf  # was infinite before: nothing is lost
    assert np.isinf(Volume(array).voxels[0, 0, 0])


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.full((4, 4), "x"), "4x4 matrix of numbers, received .*'x'"),
        (np.eye(3), r"shape \(4, 4\)"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "invertible"),
        (np.array([[1, 2, 3, 0], [2, 4, 6, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "invertible"),
        (np.diag([1.0, 1.0, np.nan, 1.0]), "finite"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row|row 0, 0, 0, 1"),
    ],
)
def test_affines_that_place_nothing_are_refused(affine, words):
    with pytest.raises(VolumeError, match=words):
        Volume(np.zeros((2, 2, 2)), affine)


def test_tiny_and_huge_voxels_are_not_taken_for_singular():
    for size in (1e-9, 1e9):
        assert Volume(np.zeros((2, 2, 2)), np.diag([size, size, size, 1.0])).voxel_size[0] == size


def test_an_unknown_unit_is_refused():
    volume = Volume(np.zeros((2, 2, 2)))
    object.__setattr__(volume, "unit", "parsec")  # the type checker stops it before, in tests
    with pytest.raises(VolumeError, match="'angstrom', 'mm', 'voxel', received 'parsec'"):
        volume.__post_init__()


def test_nobody_can_change_a_volume_from_outside():
    array, affine, header = voxels(2, 3, 4), np.eye(4), {"a": 1}
    volume = Volume(array, affine, header=header)
    before = volume.voxels.copy()
    array[:] = 7
    affine[:] = 7
    header["a"] = 2
    np.testing.assert_array_equal(volume.voxels, before)
    np.testing.assert_array_equal(volume.affine, np.eye(4))
    assert volume.header == {"a": 1}
    for mine in (volume.voxels, volume.affine):
        with pytest.raises(ValueError, match="read-only"):
            mine[:] = 0
    with pytest.raises(AttributeError):
        volume.unit = "mm"  # type: ignore[misc]


def test_a_read_only_view_of_a_writable_array_is_copied():
    array = voxels(2, 3, 4)
    view = array[:]
    view.setflags(write=False)
    volume = Volume(view)
    array[:] = 7
    assert not (volume.voxels == 7).any()


def test_an_array_that_nobody_can_write_to_is_not_copied():
    array = voxels(2, 3, 4)
    array.setflags(write=False)
    assert np.shares_memory(Volume(array).voxels, array)
    assert np.shares_memory(Volume(array).transposed().voxels, array)


def test_the_callers_array_is_left_as_it_was():
    array = voxels(2, 3, 4)
    before = copy.deepcopy(array)
    volume = Volume(array)
    volume.tensor("zscore")[:] = 9
    volume.with_voxels(array)
    np.testing.assert_array_equal(array, before)
    assert array.flags.writeable


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_world_is_nibabels_affine_and_index_its_inverse(seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4)) + 3 * np.eye(3, 4)
    volume = Volume(np.zeros((3, 4, 5)), affine)
    index_zyx = rng.uniform(-5, 5, (2, 7, 3))
    world = volume.world(index_zyx)
    np.testing.assert_allclose(world, nib.affines.apply_affine(affine, index_zyx[..., ::-1]))
    np.testing.assert_allclose(volume.index(world), index_zyx, atol=1e-9)


def test_voxel_size_is_that_of_nibabel_also_for_oblique_grids():
    assert Volume(voxels(2, 3, 4), OBLIQUE).voxel_size == pytest.approx((3, 2, 1))
    np.testing.assert_allclose(
        Volume(voxels(2, 3, 4), OBLIQUE).voxel_size[::-1], nib.affines.voxel_sizes(OBLIQUE)
    )


def test_orientation_is_nibabels_and_only_for_patients():
    left = np.diag([-2.0, 2.0, 2.0, 1.0])
    assert Volume(voxels(2, 3, 4), left, "mm").orientation == "LAS"
    assert Volume(voxels(2, 3, 4), left, "angstrom").orientation is None


def test_transposed_is_nibabels_order_in_the_same_place():
    volume = Volume(voxels(2, 3, 4, 5), OBLIQUE, "mm")
    turned = volume.transposed()
    assert turned.shape == (5, 4, 3)
    assert turned.voxels[1, 4, 3, 2] == volume.voxels[1, 2, 3, 4]
    np.testing.assert_allclose(turned.world((4, 3, 2)), volume.world((2, 3, 4)))
    np.testing.assert_array_equal(turned.transposed().affine, volume.affine)


def test_other_voxels_keep_the_world_and_need_an_affine_if_their_grid_differs():
    volume = Volume(voxels(2, 3, 4), OBLIQUE, "mm", header={"format": "x"})
    other = volume.with_voxels(voxels(5, 2, 3, 4))
    assert (other.channels, other.unit, other.header) == (5, "mm", {"format": "x"})
    with pytest.raises(VolumeError, match=r"\(2, 3, 5\).*\(2, 3, 4\)"):
        volume.with_voxels(voxels(2, 3, 5))
    assert volume.with_voxels(voxels(1, 1, 1), np.eye(4)).voxel_size == (1, 1, 1)


def test_tensor_has_batch_and_channel_and_is_a_copy():
    volume = Volume(voxels(2, 3, 4))
    tensor = volume.tensor()
    assert tensor.shape == (1, 1, 2, 3, 4)
    assert tensor.dtype == torch.float32
    tensor.zero_()
    assert volume.voxels.any()
    assert Volume(voxels(2, 3, 4, 5)).tensor("minmax").shape == (1, 2, 3, 4, 5)
    assert volume.transposed().tensor().is_contiguous()


def test_an_unknown_normalization_is_refused_by_name():
    with pytest.raises(VolumeError, match=r"'zscore'.*'softmax'"):
        Volume(voxels(2, 2, 2)).tensor("softmax")


def test_repr_says_what_it_is():
    volume = Volume(voxels(2, 3, 4, 5), OBLIQUE, "mm", Path("scans/brain.nii.gz"))
    assert repr(volume) == (
        "Volume(2 channels; z, y, x = 3, 4, 5; voxel 3 x 2 x 1 mm; RAS; from brain.nii.gz)"
    )


# ------------------------------------------------------------------ normalisation


def slow_normalization(name, channel):
    """One channel in float64, written the long way."""
    values = sorted(float(value) for value in channel.ravel())
    count = len(values)
    mean = sum(values) / count

    def percentile(percent):
        position = percent / 100 * (count - 1)
        low = int(position)
        high = min(low + 1, count - 1)
        return values[low] + (position - low) * (values[high] - values[low])

    def one(value):
        if name == "zscore":
            return (value - mean) / (sum((v - mean) ** 2 for v in values) / count) ** 0.5
        if name == "minmax":
            return (value - values[0]) / (values[-1] - values[0])
        low, high = percentile(1), percentile(99)
        return (min(max(value, low), high) - low) / (high - low)

    return np.array([one(float(value)) for value in channel.ravel()]).reshape(channel.shape)


@pytest.mark.parametrize("name", ["zscore", "minmax", "percentile"])
def test_normalizations_are_those_of_the_slow_reference_channel_by_channel(name):
    array = voxels(2, 3, 4, 5) * np.array([3.0, 1000.0])[:, None, None, None] + 50
    array = array.astype(np.float32)
    expected = np.stack([slow_normalization(name, channel) for channel in array])
    np.testing.assert_allclose(NORMALIZATIONS[name](array), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["zscore", "minmax", "percentile"])
@pytest.mark.parametrize("value", [0.0, 1e-30, -7.1, 3e38])
def test_a_constant_channel_becomes_zeros_and_the_other_is_normalized(name, value):
    array = np.stack([np.full((2, 3, 4), value, np.float32), voxels(2, 3, 4)])
    out = NORMALIZATIONS[name](array)
    assert (out[0] == 0).all()
    assert np.ptp(out[1]) > 0.9
    assert out.dtype == np.float32


def test_the_whole_range_of_float32_is_scaled_without_overflow():
    array = np.array([-3e38, 0, 3e38], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(NORMALIZATIONS["minmax"](array).ravel(), [0, 0.5, 1])
    np.testing.assert_allclose(NORMALIZATIONS["zscore"](array).ravel(), [-(1.5**0.5), 0, 1.5**0.5])


def test_none_copies():
    array = voxels(1, 2, 3, 4)
    out = NORMALIZATIONS["none"](array)
    np.testing.assert_array_equal(out, array)
    assert not np.shares_memory(out, array)


# ------------------------------------------------------------------ geometry


@settings(deadline=None, max_examples=48)
@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
def test_axis_order_keeps_every_voxel_in_its_place(order, signs):
    affine = np.eye(4)
    affine[:3, :3] = (np.diag(signs) * [1.0, 2.0, 3.0])[:, list(order)]
    affine[:3, 3] = (5, -6, 7)
    volume = Volume(voxels(2, 3, 4), affine)
    turned = to_axis_order(volume.voxels, affine)
    assert turned is not None
    array, diagonal = turned
    assert (np.diag(diagonal) > 0).all()
    assert np.count_nonzero(diagonal[:3, :3]) == 3
    other = Volume(array, diagonal)
    for index in np.ndindex(volume.shape):
        there = tuple(np.round(other.index(volume.world(index))).astype(int))
        np.testing.assert_allclose(other.world(there), volume.world(index))
        assert other.voxels[there] == volume.voxels[index]


def test_axis_order_of_an_oblique_grid_does_not_exist():
    assert to_axis_order(voxels(2, 3, 4), OBLIQUE) is None


def test_disagreement_is_the_largest_shift_of_a_corner_in_voxels():
    shifted = OBLIQUE.copy()
    shifted[:3, 3] += OBLIQUE[:3, 1] * 0.25
    assert disagreement(OBLIQUE, shifted, (3, 4, 5)) == pytest.approx(0.25)


def test_an_affine_is_copied():
    matrix = np.eye(4)
    assert not np.shares_memory(as_affine(matrix), matrix)

"""Point groups, checked by what a group is and by known axes."""

import numpy as np
import pytest

from respondcam.cryoet.symmetry import rotation_matrix, symmetry_generators, symmetry_rotations
from respondcam.errors import InputError

ORDERS = {"C1": 1, "C2": 2, "C7": 7, "D2": 4, "D3": 6, "D7": 14, "O": 24, "I": 60}


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_group_has_its_order_is_closed_and_is_made_of_rotations(name, order):
    group = symmetry_rotations(name)
    assert len(group) == order
    np.testing.assert_allclose(group[0], np.eye(3))
    np.testing.assert_allclose(
        group @ group.transpose(0, 2, 1), np.broadcast_to(np.eye(3), group.shape), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(group), 1)
    products = (group[:, None] @ group).reshape(-1, 1, 9)
    nearest = np.abs(products - group.reshape(1, -1, 9)).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-9


def test_axes_are_where_the_conventions_put_them():
    seven = symmetry_rotations("D7")
    assert any(np.allclose(g, rotation_matrix((0, 0, 1), 360 / 7)) for g in seven)
    assert any(np.allclose(g, np.diag([1, -1, -1])) for g in seven)
    for axis in np.eye(3):
        assert any(
            np.allclose(g, rotation_matrix(tuple(axis), 90.0)) for g in symmetry_rotations("O")
        )
        assert any(
            np.allclose(g, rotation_matrix(tuple(axis), 180.0)) for g in symmetry_rotations("I")
        )
    # a five-fold axis of I lies in the plane x = 0
    assert any(
        np.isclose(np.trace(g), 1 + 2 * np.cos(2 * np.pi / 5))
        and np.allclose(g[0] @ [0, 1, (1 + 5**0.5) / 2], 0)
        for g in symmetry_rotations("I")
    )


def test_rotation_is_right_handed_and_agrees_with_scipy():
    from scipy.spatial.transform import Rotation

    axis, degrees = np.array([1.0, -2.0, 0.5]), 37.0
    expected = Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    np.testing.assert_allclose(rotation_matrix(tuple(axis), degrees), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["", "C0", "E3", "d7", "D-1", "T"])
def test_an_unknown_group_is_an_error_that_names_it(name):
    with pytest.raises(InputError, match="known are"):
        symmetry_generators(name)

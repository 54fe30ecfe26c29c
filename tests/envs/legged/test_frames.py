"""Rotations against SciPy's and MuJoCo's."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cadenza.envs.legged.frames import into_heading, multiply, rotate, rotate_back, yaw

RANDOM = np.random.default_rng(0)
QUATERNIONS = RANDOM.standard_normal((50, 4))
QUATERNIONS /= np.linalg.norm(QUATERNIONS, axis=1, keepdims=True)
VECTORS = RANDOM.standard_normal((50, 3))
SCIPY = Rotation.from_quat(np.roll(QUATERNIONS, -1, axis=1))


def test_rotate_and_back() -> None:
    np.testing.assert_allclose(rotate(QUATERNIONS, VECTORS), SCIPY.apply(VECTORS), atol=1e-12)
    np.testing.assert_allclose(rotate_back(QUATERNIONS, VECTORS), SCIPY.inv().apply(VECTORS), atol=1e-12)
    down = np.array([0.0, 0.0, -1.0])
    np.testing.assert_allclose(rotate_back(QUATERNIONS, down), SCIPY.inv().apply(down), atol=1e-12)


def test_one_row_gives_the_bits_of_many() -> None:
    many = rotate_back(QUATERNIONS, VECTORS)
    for index in range(50):
        row = slice(index, index + 1)
        assert rotate_back(QUATERNIONS[row], VECTORS[row]).tobytes() == many[row].tobytes()


def test_multiply() -> None:
    for first, second in zip(QUATERNIONS, QUATERNIONS[::-1], strict=True):
        expected = np.empty(4)
        mujoco.mju_mulQuat(expected, first, second)
        np.testing.assert_allclose(multiply(first, second), expected, atol=1e-15)
    both = SCIPY * SCIPY[::-1]
    turned = multiply(QUATERNIONS, QUATERNIONS[::-1])
    np.testing.assert_allclose(rotate(turned, VECTORS), both.apply(VECTORS), atol=1e-12)


def test_yaw_is_the_heading_of_the_x_axis() -> None:
    forward = SCIPY.apply([1.0, 0.0, 0.0])
    np.testing.assert_allclose(yaw(QUATERNIONS), np.arctan2(forward[:, 1], forward[:, 0]), atol=1e-9)


@pytest.mark.parametrize(("angle", "expected"), [(0.0, [1, 2, 3]), (np.pi / 2, [2, -1, 3]), (np.pi, [-1, -2, 3])])
def test_into_heading(angle: float, expected: list[float]) -> None:
    found = into_heading(np.array([angle]), np.array([[1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(found, [expected], atol=1e-12)

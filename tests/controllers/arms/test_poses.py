"""Rotations by hand: quaternions of both signs, half turns, no turn, and one pose or many."""

from __future__ import annotations

import numpy as np
import pytest

from cadenza.controllers.poses import (
    checked,
    multiply,
    pose_difference,
    rotated,
    rotation_difference,
    shortened,
    unit_quaternion,
)

ONE = np.array([1.0, 0.0, 0.0, 0.0])
QUARTER_Z = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])


def random_quaternions(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, 4))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_quarter_turn_about_z() -> None:
    np.testing.assert_allclose(rotation_difference(QUARTER_Z, ONE), (0, 0, np.pi / 2), atol=1e-15)
    np.testing.assert_allclose(rotation_difference(ONE, QUARTER_Z), (0, 0, -np.pi / 2), atol=1e-15)
    np.testing.assert_allclose(rotated(ONE, np.array([0, 0, np.pi / 2])), QUARTER_Z, atol=1e-15)
    # About the world's axes: a turn about x after one about z.
    turned = rotated(QUARTER_Z, np.array([np.pi / 2, 0, 0]))
    np.testing.assert_allclose(turned, (0.5, 0.5, -0.5, 0.5), atol=1e-15)


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_the_sign_of_a_quaternion_means_nothing(signs: tuple[int, int]) -> None:
    target, current = random_quaternions(20, 1), random_quaternions(20, 2)
    plain = rotation_difference(target, current)
    np.testing.assert_allclose(rotation_difference(signs[0] * target, signs[1] * current), plain, atol=1e-12)
    assert (np.linalg.norm(plain, axis=1) <= np.pi + 1e-12).all()


def test_the_way_there_is_the_short_one() -> None:
    """350 degrees one way are 10 the other."""
    angle = np.radians(350.0)
    target = np.array([np.cos(angle / 2), np.sin(angle / 2), 0, 0])
    np.testing.assert_allclose(rotation_difference(target, ONE), (-np.radians(10.0), 0, 0), atol=1e-12)


def test_going_there_arrives() -> None:
    target, current = random_quaternions(50, 3), random_quaternions(50, 4)
    reached = rotated(current, rotation_difference(target, current))
    np.testing.assert_allclose(np.abs((reached * target).sum(axis=1)), 1.0, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-300, 1e-13, 1e-9, 1e-4])
def test_tiny_turns_are_exact(angle: float) -> None:
    turned = rotated(QUARTER_Z, np.array([0.0, angle, 0.0]))
    assert np.linalg.norm(turned) == pytest.approx(1.0, abs=1e-15)
    np.testing.assert_allclose(rotation_difference(turned, QUARTER_Z), (0, angle, 0), atol=3e-16)


def test_half_a_turn_is_finite_and_half_a_turn() -> None:
    assert np.linalg.norm(rotation_difference(np.array([0.0, 0, 1, 0]), ONE)) == pytest.approx(np.pi)


def test_differences_have_translation_first() -> None:
    found = pose_difference((np.array([1.0, 2, 3]), QUARTER_Z), (np.array([0.5, 2, 4]), ONE))
    np.testing.assert_allclose(found, (0.5, 0, -1, 0, 0, np.pi / 2), atol=1e-15)


def test_one_pose_or_many_give_the_same_bits() -> None:
    target, current = random_quaternions(33, 5), random_quaternions(33, 6)
    step = np.random.default_rng(7).normal(size=(33, 3))
    many = rotation_difference(target, current), rotated(current, step), multiply(target, current), shortened(step, 0.7)
    for row in range(33):
        t, c, s = target[row], current[row], step[row]
        one = rotation_difference(t, c), rotated(c, s), multiply(t, c), shortened(s, 0.7)
        for single, stack in zip(one, many, strict=True):
            np.testing.assert_array_equal(single, stack[row])


def test_shortened_keeps_direction() -> None:
    np.testing.assert_allclose(
        shortened(np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), 1.0), [(0.6, 0.8), (0.3, 0.4), (0, 0)]
    )


def test_what_is_no_pose_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the position has shape \(2,\); its last axes must be \(3,\)"):
        checked("the position", [0.0, 1.0], 3)
    with pytest.raises(ValueError, match="not finite"):
        checked("the position", [0.0, np.nan, 0.0], 3)
    with pytest.raises(ValueError, match="not a unit quaternion"):
        unit_quaternion("q", [0.0, 0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="not a unit quaternion"):
        unit_quaternion("q", [2.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(unit_quaternion("q", [1.01, 0, 0, 0]), ONE)

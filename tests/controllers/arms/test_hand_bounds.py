"""The box and the turn that a hand's target stays in."""

from __future__ import annotations

import numpy as np
import pytest

from cadenza.controllers.hand_bounds import HandBounds
from cadenza.controllers.poses import length, rotated, rotation_difference

DOWN = np.array([0.0, 1.0, 0.0, 0.0])
BOUNDS = HandBounds(np.array([0.2, -0.3, 0.0]), np.array([0.8, 0.3, 0.4]), DOWN, 0.8)


def test_what_is_inside_stays_as_it_is() -> None:
    position, quaternion = np.array([[0.5, 0.1, 0.2]]), rotated(DOWN[None], np.array([[0.3, 0.4, -0.5]]))
    place, turn, free = BOUNDS.within(position, quaternion)
    np.testing.assert_array_equal(place, position)
    np.testing.assert_allclose(turn, quaternion, atol=1e-12)
    np.testing.assert_array_equal(free, np.ones((1, 6)))


def test_what_is_outside_comes_to_the_nearest_inside_and_stops_there() -> None:
    position, quaternion = np.array([[0.9, 0.1, -0.2]]), rotated(DOWN[None], np.array([[0.0, 2.0, 0.0]]))
    place, turn, free = BOUNDS.within(position, quaternion)
    np.testing.assert_array_equal(place, [[0.8, 0.1, 0.0]])
    np.testing.assert_allclose(rotation_difference(turn, DOWN[None]), [[0.0, 0.8, 0.0]], atol=1e-12)
    np.testing.assert_array_equal(free, [[0, 1, 0, 0, 0, 0]])


def test_each_of_many_hands_by_itself_and_with_the_same_bits() -> None:
    random = np.random.default_rng(0)
    position = random.uniform(-1, 1, (64, 3))
    quaternion = rotated(np.tile(DOWN, (64, 1)), random.normal(0, 1.5, (64, 3)))
    place, turn, _ = BOUNDS.within(position, quaternion)
    assert (length(rotation_difference(turn, np.tile(DOWN, (64, 1)))) <= 0.8 + 1e-9).all()
    for index in range(64):
        one = BOUNDS.within(position[index : index + 1], quaternion[index : index + 1])
        np.testing.assert_array_equal(one[0][0], place[index])
        np.testing.assert_array_equal(one[1][0], turn[index])


@pytest.mark.parametrize(("low", "high", "turn"), [((0, 0, 0), (1, 0, 1), 0.5), ((0, 0, 0), (1, 1, 1), 0.0)])
def test_bounds_with_nothing_inside_are_refused(low: tuple[int, ...], high: tuple[int, ...], turn: float) -> None:
    with pytest.raises(ValueError, match="low < high and a positive turn"):
        HandBounds(np.array(low), np.array(high), DOWN, turn)

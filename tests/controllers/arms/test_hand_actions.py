"""Actions of a policy against the specification: 4 cm and 0.2 rad at 20 Hz."""

from __future__ import annotations

import numpy as np
import pytest

from cadenza.controllers.hand_actions import HandDelta
from cadenza.controllers.poses import rotation_difference

HAND = (np.array([0.5, 0.0, 0.3]), np.array([0.0, 1.0, 0.0, 0.0]))


def test_full_actions_are_4_cm_and_a_fifth_of_a_radian() -> None:
    np.testing.assert_allclose(HandDelta().delta([1, -1, 0.5, 1, -1, 0, 1]), (0.04, -0.04, 0.02, 0.2, -0.2, 0))
    np.testing.assert_allclose(HandDelta().twist([1, 0, 0, 0, 0, 1, 0]), (0.8, 0, 0, 0, 0, 4.0))
    np.testing.assert_allclose(HandDelta().delta([9, 0, 0, 0, 0, -9, 0]), (0.04, 0, 0, 0, 0, -0.2))


def test_a_target_adds_up_and_nothing_moves_it_by_itself() -> None:
    action = HandDelta()
    target = action.moved(HAND, HAND, [1, 0, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(target[0], (0.54, 0, 0.3))
    np.testing.assert_allclose(rotation_difference(target[1], HAND[1]), (0, 0, 0.2), atol=1e-12)
    again = action.moved(target, target, np.zeros(7))
    np.testing.assert_allclose(again[0], target[0], atol=1e-15)
    np.testing.assert_allclose(again[1], target[1], atol=1e-15)


def test_the_leash_holds_a_target_that_the_hand_does_not_follow() -> None:
    action, target = HandDelta(), HAND
    for _ in range(20):
        target = action.moved(target, HAND, [1, 1, 0, 1, 0, 0, 0])
    assert np.linalg.norm(target[0] - HAND[0]) == pytest.approx(0.08)
    assert np.linalg.norm(rotation_difference(target[1], HAND[1])) == pytest.approx(0.4)


def test_many_hands_give_the_same_bits_as_one() -> None:
    generator = np.random.default_rng(0)
    actions = generator.uniform(-1.5, 1.5, (16, 7))
    positions, turns = generator.normal(size=(16, 3)), generator.normal(size=(16, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    hands = positions + generator.normal(size=(16, 3)) * 0.05, np.roll(turns, 1, axis=0)
    many = HandDelta().moved((positions, turns), hands, actions)
    for row in range(16):
        one = HandDelta().moved((positions[row], turns[row]), (hands[0][row], hands[1][row]), actions[row])
        np.testing.assert_array_equal(one[0], many[0][row])
        np.testing.assert_array_equal(one[1], many[1][row])


def test_bad_actions_and_scales_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the action has shape \(6,\)"):
        HandDelta().delta(np.zeros(6))
    with pytest.raises(ValueError, match="not finite"):
        HandDelta().delta([np.inf, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="rate_hz must be a positive number, got 0"):
        HandDelta(rate_hz=0)

"""The formulas of what a policy is told, with numbers worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cadenza.envs.legged.observations import actor_terms, command_term
from cadenza.robots import observing


def measured(**given: Any) -> Any:
    zeros = {
        "joint_angle": np.zeros((2, 3)),
        "joint_velocity": np.zeros((2, 3)),
        "gyro": np.zeros((2, 3)),
        "gravity": np.tile([0.0, 0.0, -1.0], (2, 1)),
        "command": np.zeros((2, 3)),
        "action": np.zeros((2, 3)),
        "phase": np.zeros(2),
        "home": np.array([0.5, 0.0, -0.5]),
    }
    return SimpleNamespace(**{**zeros, **given})


def test_joint_positions_are_about_home() -> None:
    s = measured(joint_angle=np.array([[0.5, 0.1, -0.5], [1.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(observing.joint_position(s), [[0.0, 0.1, 0.0], [0.5, 0.0, 0.5]])


def test_the_clock_is_cosine_and_sine() -> None:
    found = observing.clock(measured(phase=np.array([0.25, 0.5])))
    np.testing.assert_allclose(found, [[0.0, 1.0], [-1.0, 0.0]], atol=1e-15)


def test_the_phase_waits_where_nothing_is_commanded() -> None:
    commands = np.array([[0.2, 0.0, 0.0], [0.0005, 0.0, -0.001]])
    moving = observing.moves(commands)
    np.testing.assert_array_equal(moving, [1.0, 0.0])
    phase = observing.advanced_phase(np.array([0.9, 0.9]), moving, 0.12, 0.6)
    np.testing.assert_allclose(phase, [0.1, 0.9])


def test_every_term_has_its_size() -> None:
    s = measured()
    for name, term in observing.TERMS.items():
        assert term.read(s).shape == (2, term.entries(3)), name


@pytest.mark.parametrize("clock", [True, False])
def test_the_tasks_read_these_very_functions(clock: bool) -> None:
    for term in actor_terms(3, command_term(0.2), clock=clock):
        known = observing.TERMS[term.name]
        assert (known.read, known.source, known.entries(3)) == (term.read, term.source, term.size)


def test_a_command_is_over_the_easy_speed() -> None:
    np.testing.assert_allclose(command_term(0.2).gains, [5.0, 5.0, 1.0])
    assert math.isclose(command_term(0.5).gains[0], 2.0)

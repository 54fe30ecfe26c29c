"""The observation terms that the tasks share; what a robot can measure is computed in cadenza.robots.observing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cadenza.envs.legged.terms import ObservationTerm
from cadenza.robots import observing

if TYPE_CHECKING:
    from cadenza.robots.description import LeggedRobot


def command_term(speed_m_s: float) -> ObservationTerm:
    """Velocities over the robot's easy speed, yaw rate over 1 rad/s."""
    factors = observing.command_factors(speed_m_s)
    return _measured("command", 3, meaning="forward, left, turn: over the easy speed, 1 rad/s", factors=factors)


def actor_terms(joints: int, *commands: ObservationTerm, clock: bool) -> tuple[ObservationTerm, ...]:
    """What a robot with encoders and an IMU knows; noise after MuJoCo Playground's G1 joystick task."""
    terms = [
        _measured("gyro", joints, 0.2, "rad/s", "angular velocity in the IMU's axes"),
        _measured("gravity", joints, 0.05, "", "direction of gravity there"),
        *commands,
        _measured("joint_position", joints, 0.03, "rad", "angle minus home"),
        _measured("joint_velocity", joints, 0.5, "rad/s"),
        _measured("last_action", joints),
    ]
    if clock:
        terms.append(_measured("clock", joints, meaning="cosine and sine of the gait's phase"))
    return tuple(terms)


def _measured(
    name: str, joints: int, noise: float = 0.0, unit: str = "", meaning: str = "", factors: tuple[float, ...] = ()
) -> ObservationTerm:
    """A term of :data:`cadenza.robots.observing.TERMS`."""
    term = observing.TERMS[name]
    size = term.entries(joints)
    return ObservationTerm(name, size, term.source, term.read, term.scale, noise, unit, meaning, factors)


def privileged_terms(robot: LeggedRobot) -> Sequence[ObservationTerm]:
    """What only the simulation knows."""
    top, speed_m_s = robot.clearance_m, robot.speed_m_s
    return (
        ObservationTerm(
            "base_velocity", 3, "privileged", lambda s: s.base_velocity, 1.0 / speed_m_s, 0.0, "m/s",
            "in the heading frame",
        ),
        ObservationTerm(
            "base_height", 1, "privileged", lambda s: (s.height / s.home_height - 1.0)[:, None], 10.0, 0.0, "",
            "over home height, minus 1",
        ),
        ObservationTerm(
            "feet", 4, "privileged", lambda s: np.concatenate([s.foot_contact, s.foot_height / top], axis=1),
            meaning="contact, height over the swing's top",
        ),
        ObservationTerm("friction", 1, "privileged", lambda s: s.friction, meaning="of the ground"),
        ObservationTerm("push_soon", 1, "privileged", lambda s: s.push_soon, meaning="1 just before a push"),
    )  # fmt: skip

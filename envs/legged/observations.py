"""The observation terms that the tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cadenza.envs.legged.terms import ObservationTerm

if TYPE_CHECKING:
    from cadenza.envs.legged.signals import Signals
    from cadenza.robots.description import LeggedRobot


def command_term(speed_m_s: float) -> ObservationTerm:
    """Velocities over the robot's easy speed, yaw rate over 1 rad/s."""
    over = np.array([1.0 / speed_m_s, 1.0 / speed_m_s, 1.0])
    return ObservationTerm(
        "command", 3, "command", lambda s: s.command * over, meaning="forward, left, turn: over the easy speed, 1 rad/s"
    )


def actor_terms(joints: int, *commands: ObservationTerm, clock: bool) -> tuple[ObservationTerm, ...]:
    """What a robot with encoders and an IMU knows; noise after MuJoCo Playground's G1 joystick task."""
    terms = [
        ObservationTerm("gyro", 3, "imu", lambda s: s.gyro, 0.25, 0.2, "rad/s", "angular velocity in the IMU's axes"),
        ObservationTerm("gravity", 3, "imu", lambda s: s.gravity, 1.0, 0.05, "", "direction of gravity there"),
        *commands,
        ObservationTerm(
            "joint_position", joints, "encoder", lambda s: s.joint_angle - s.home, 1.0, 0.03, "rad", "angle minus home"
        ),
        ObservationTerm("joint_velocity", joints, "encoder", lambda s: s.joint_velocity, 0.05, 0.5, "rad/s"),
        ObservationTerm("last_action", joints, "memory", lambda s: s.action),
    ]
    if clock:
        terms.append(ObservationTerm("clock", 2, "memory", _clock, meaning="cosine and sine of the gait's phase"))
    return tuple(terms)


def _clock(s: Signals) -> np.ndarray:
    angle = 2.0 * np.pi * s.phase
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


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

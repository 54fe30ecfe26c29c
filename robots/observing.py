"""What a policy is told of a legged robot, computed from what that robot can measure: the formulas, each once.

A task in simulation (:mod:`cadenza.envs.legged.observations`) and the program that runs a policy on motors
(:mod:`cadenza.controllers.policy_runner`) both read these, so that neither can drift from the other. Nothing here knows
of a simulation: a quantity that no sensor gives has no place in this file.

All arrays have shape (n, ...): n robots at once, joints in table order. Pure numpy, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MeasuredSource = Literal["encoder", "imu", "command", "memory"]
"""Who knows a quantity on the robot: its joint encoders, its inertial unit, whoever commands it, or the policy's own
program (last action, phase of the gait)."""
STANDS_STILL = 1e-3
"""A command whose entries are all at most this is none: the gait's clock stands."""


class Measured(Protocol):
    """Quantities that a term may read."""

    @property
    def joint_angle(self) -> Array:
        """Encoders, rad, (n, joints)."""

    @property
    def joint_velocity(self) -> Array:
        """rad/s, (n, joints)."""

    @property
    def gyro(self) -> Array:
        """Angular velocity in the IMU's axes, rad/s, (n, 3)."""

    @property
    def gravity(self) -> Array:
        """Direction of gravity there; (0, 0, -1) upright, (n, 3)."""

    @property
    def command(self) -> Array:
        """Forward and left velocity, m/s, and yaw rate, rad/s, (n, 3)."""

    @property
    def action(self) -> Array:
        """The action just carried out, in [-1, 1], (n, joints)."""

    @property
    def phase(self) -> Array:
        """Of the gait, in [0, 1), (n,)."""

    @property
    def home(self) -> Array:
        """Joint angles of the home pose, rad, (joints,)."""


def gyro(s: Measured) -> Array:
    """Angular velocity in the IMU's axes, rad/s, (n, 3)."""
    return s.gyro


def gravity(s: Measured) -> Array:
    """Direction of gravity in the IMU's axes, (n, 3)."""
    return s.gravity


def command(s: Measured) -> Array:
    """What the robot is told to do, m/s and rad/s, (n, 3)."""
    return s.command


def joint_position(s: Measured) -> Array:
    """Joint angles minus those of the home pose, rad, (n, joints)."""
    return s.joint_angle - s.home


def joint_velocity(s: Measured) -> Array:
    """rad/s, (n, joints)."""
    return s.joint_velocity


def last_action(s: Measured) -> Array:
    """The action just carried out, (n, joints)."""
    return s.action


def clock(s: Measured) -> Array:
    """Cosine and sine of the gait's phase, (n, 2)."""
    angle = 2.0 * np.pi * s.phase
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@dataclass(frozen=True)
class MeasuredTerm:
    """A quantity that a policy on a robot can be told."""

    source: MeasuredSource
    read: Callable[[Measured], Array]
    """In SI units, shape (n, size)."""
    size: int | None
    """None: one entry a joint."""
    scale: float = 1.0
    """What it is multiplied by, for every policy of ours; a command is also taken over the robot's easy speed."""

    def entries(self, joints: int) -> int:
        """How many numbers it has on a robot of so many joints."""
        return joints if self.size is None else self.size


TERMS: Mapping[str, MeasuredTerm] = {
    "gyro": MeasuredTerm("imu", gyro, 3, 0.25),
    "gravity": MeasuredTerm("imu", gravity, 3),
    "command": MeasuredTerm("command", command, 3),
    "joint_position": MeasuredTerm("encoder", joint_position, None),
    "joint_velocity": MeasuredTerm("encoder", joint_velocity, None, 0.05),
    "last_action": MeasuredTerm("memory", last_action, None),
    "clock": MeasuredTerm("memory", clock, 2),
}
"""By the names that observation terms of tasks have. What a task calls by another name cannot be deployed."""


def command_factors(speed_m_s: float) -> tuple[float, float, float]:
    """Of the entries of a command: velocities are over the robot's easy speed, the yaw rate over 1 rad/s."""
    return (1.0 / speed_m_s, 1.0 / speed_m_s, 1.0)


def moves(commands: Array) -> Array:
    """1 where a command (n, 3) asks for motion, else 0, (n,)."""
    return (np.abs(commands).max(axis=1) > STANDS_STILL).astype(np.float64)


def advanced_phase(phase: Array, moving: Array, dt_s: float, period_s: float) -> Array:
    """The gait's phase (n,) a control step later; it waits where ``moving`` (n,) is 0."""
    return np.where(moving > 0, (phase + dt_s / period_s) % 1.0, phase)

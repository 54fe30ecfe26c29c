"""Velocity profiles of emulated DYNAMIXELs: the way from where a servo stands to its goal.

Source: ROBOTIS e-manual, "What is the Profile", "Profile Velocity(112)", "Profile Acceleration(108)", "Moving Status".
Without profile velocity the goal is a step; with profile velocity alone the path has constant speed (rectangular);
with both it is a trapezoid, or a triangle where it is too short to reach the speed. In time-based mode the registers
are the time of the whole path and of its acceleration, ms.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.emulators.dynamixel_table import ACCELERATION_UNIT, COUNTS, VELOCITY_UNIT

Array = NDArray[np.float64]

_TICKS_PER_UNIT = VELOCITY_UNIT * COUNTS / (2 * math.pi)
"""ticks/s of one velocity unit."""
_TICKS_PER_ACCELERATION = ACCELERATION_UNIT * COUNTS / (2 * math.pi)
_IN_POSITION = 20
"""Ticks from the goal that count as there; not in the manual."""
_FOLLOWING = 200
"""Ticks from the path that count as not following; not in the manual."""


class Profiles:
    """Paths of n servos, in ticks.

    Args:
        n: how many.
    """

    def __init__(self, n: int):
        self.position = np.zeros(n)
        """Position Trajectory(140)."""
        self.velocity = np.zeros(n)
        """ticks/s."""
        self.acceleration_units = np.zeros(n)
        self.goal = np.zeros(n)
        self._speed = np.full(n, np.inf)
        self._acceleration = np.full(n, np.inf)
        self._velocity_command = np.zeros(n)
        self.active = False
        """Whether any servo has a profile; where not, the goal is the path."""

    @property
    def velocity_units(self) -> Array:
        """Velocity Trajectory(136)."""
        return self.velocity / _TICKS_PER_UNIT

    def start_at(self, i: int, ticks: float) -> None:
        """The path begins, and for the present ends, here."""
        self.position[i] = self.goal[i] = ticks
        self.velocity[i] = self._velocity_command[i] = 0.0

    def limit(self, i: int, velocity: int, acceleration: int, by_time: bool) -> None:
        """Registers of one servo; times are turned into a speed when a goal comes."""
        if not by_time:
            self._speed[i] = velocity * _TICKS_PER_UNIT if velocity else math.inf
            self._acceleration[i] = acceleration * _TICKS_PER_ACCELERATION if acceleration else math.inf
        elif not velocity:
            self._speed[i] = self._acceleration[i] = math.inf
        self.active = bool(np.isfinite(self._speed).any() or np.isfinite(self._acceleration).any())

    def aim(self, i: int, ticks: float, velocity: int, acceleration: int, *, by_time: bool) -> None:
        """A new goal for one servo."""
        self.goal[i] = ticks
        if by_time and velocity:
            whole, ramp = velocity / 1000, min(acceleration, velocity / 2) / 1000
            way = abs(ticks - self.position[i])
            self._speed[i] = way / max(whole - ramp, 1e-3)
            self._acceleration[i] = self._speed[i] / ramp if ramp else math.inf
            self.active = True
        if not math.isfinite(self._speed[i]):
            # Without Profile Velocity the acceleration is not used either: a step.
            self.position[i], self.velocity[i] = ticks, 0.0

    def advance(self, dt_s: float) -> Array:
        """Positions on all paths one step on, (n,)."""
        left = self.goal - self.position
        finite = np.isfinite(self._speed)
        speed = np.where(finite, self._speed, 0.0)
        ramped = np.isfinite(self._acceleration)
        rate = np.where(ramped, self._acceleration, 0.0)
        # The speed from which a constant deceleration still stops at the goal, less half a step of it.
        braking = np.sqrt(np.maximum(2 * rate * np.abs(left) + (rate * dt_s / 2) ** 2, 0.0)) - rate * dt_s / 2
        most = np.where(ramped, np.minimum(speed, braking), speed)
        wanted = np.sign(left) * most
        change = np.where(ramped, np.clip(wanted - self.velocity, -rate * dt_s, rate * dt_s), wanted - self.velocity)
        before = self.velocity
        self.velocity = self.velocity + change
        step = self.velocity * dt_s
        there = (np.abs(left) <= np.maximum(np.abs(step), 1e-3)) & (np.sign(left) * step >= 0)
        self.position = np.where(~finite | there, self.goal, self.position + step)
        self.velocity = np.where(~finite | there, 0.0, self.velocity)
        self.acceleration_units = (self.velocity - before) / dt_s / _TICKS_PER_ACCELERATION
        return self.position

    def ramp(self, goal_units: Array, dt_s: float) -> Array:
        """Velocity mode: commanded speed that follows its goal at the profile's acceleration, in units."""
        most = np.where(np.isfinite(self._acceleration), self._acceleration / _TICKS_PER_UNIT * dt_s, np.inf)
        self._velocity_command = self._velocity_command + np.clip(goal_units - self._velocity_command, -most, most)
        return self._velocity_command

    def status(self, present: Array, torque: NDArray[np.bool_]) -> list[int]:
        """Moving Status(123) of each."""
        if not self.active:
            self.position = self.goal.copy()
        ongoing = torque & (self.position != self.goal)
        arrived = np.abs(present - self.goal) <= _IN_POSITION
        astray = torque & (np.abs(present - self.position) > _FOLLOWING)
        kind = np.where(np.isfinite(self._speed), np.where(np.isfinite(self._acceleration), 0x30, 0x10), 0)
        bits = arrived * 1 + ongoing * 2 + astray * 8 + kind
        return [int(value) for value in bits]

"""Joint control: a reference that moves no faster than the joints may, and the law that follows it.

- :meth:`JointPD.torques` for joints that take torques: inertia times (w^2 (q* - q) + 2 w (dq* - dq)), and the weight.
  The table's kp and kd are not for this: a drive closes that loop itself, thousands of times a second; computed once a
  physics step, 200 N m s/rad on a wrist of 0.1 kg m^2 would be unstable. Weighted with the inertia every joint has the
  same natural frequency w and is critically damped.
- :meth:`JointPD.targets` for position actuators, which know only kp (u - q) - kd dq. The angle
  ``u = q* + (kd dq* + weight) / kp`` makes them obey kp (q* - q) + kd (dq* - dq) + weight; held for a period, it leads
  by :func:`lead_time` instead of kd / kp. Without it a Panda with the Menagerie's gains would trail a moving target by
  0.1 s, and an SO-101 would hang 3 degrees low.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cadenza.controllers.poses import Array, apply, checked, finite
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import joint_limits, torque_limits, velocity_limits

SPEED_SHARE = 0.7
"""Share of the speed limits that references use. A stiff drive whose torque is clipped pushes with all of it for a
whole physics step: at 4 ms joints of a Panda ran up to 1.6 times as fast as their reference, at 1 ms no faster."""


def lead_time(arm: ArmRobot, rate_hz: float) -> Array:
    """How far ahead of a moving reference a position actuator's target must be, s, (n,).

    A stiff drive obeys kd dq = kp (u - q). With u held for a period T it is at the reference at the end of each period
    if u leads it by T / (exp(T kp / kd) - 1), which tends to kd / kp for fast control.
    """
    lag_s = np.array([row.kd / row.kp for row in arm.arm_joints])
    return 1.0 / rate_hz / np.expm1(1.0 / rate_hz / lag_s)


def drive_reach(arm: ArmRobot, rate_hz: float, speed_share: float) -> Array:
    """How far from a joint a position actuator's target may be, rad, (n,), so that it runs within its speed limit.

    A drive with gains kp and kd runs at (u - q) kp / kd; a servo that is quicker than that covers u - q in a period.
    """
    lag_s = np.array([row.kd / row.kp for row in arm.arm_joints])
    return speed_share * velocity_limits(arm) * np.maximum(lag_s, 1.0 / rate_hz)


class JointPD:
    """Joint-space PD control of the n joints that move an arm's hand.

    Args:
        arm: gives gains and limits.
        rate_hz: at which :meth:`advance` is called.
        speed_share: share of the speed limits that the reference uses.
        acceleration_rad_s2: of the reference: drives of limited torque cannot follow a jump in speed.
        frequency_rad_s: of :meth:`torques`, w.

    Raises:
        ValueError: a rate, share, acceleration or frequency that cannot be.
    """

    def __init__(
        self,
        arm: ArmRobot,
        rate_hz: float,
        *,
        speed_share: float = SPEED_SHARE,
        acceleration_rad_s2: float = 8.0,
        frequency_rad_s: float = 20.0,
    ) -> None:
        rates = rate_hz, acceleration_rad_s2, frequency_rad_s
        if not all(0 < one < np.inf for one in rates) or not 0 < speed_share <= 1:
            raise ValueError(
                "rate_hz, acceleration_rad_s2 and frequency_rad_s must be positive and speed_share in (0, 1]; "
                f"got {rate_hz}, {acceleration_rad_s2}, {frequency_rad_s} and {speed_share}."
            )
        self.size = len(arm.arm_joints)
        self.kp = np.array([row.kp for row in arm.arm_joints])
        self.acceleration = acceleration_rad_s2
        self.frequency = frequency_rad_s
        self.limits = joint_limits(arm)
        self.torque_limits = torque_limits(arm)
        self.speed = speed_share * velocity_limits(arm)
        self.period_s = 1.0 / rate_hz
        self.lead_s = lead_time(arm, rate_hz)
        self._reach = drive_reach(arm, rate_hz, speed_share)
        self._reference: Array | None = None
        self._velocity: Array | None = None

    def reset(self, angles: ArrayLike) -> None:
        """Start from these joint angles, rad, (..., n), at rest."""
        self._reference = np.clip(checked("angles", angles, self.size), *self.limits)
        self._velocity = np.zeros_like(self._reference)

    def advance(self, goal: ArrayLike) -> tuple[Array, Array]:
        """Move the reference one period towards ``goal`` (rad, (..., n)), within the limits of angle and speed.

        Returns:
            The reference, rad, and the velocity with which it got there, rad/s, both (..., n).

        Raises:
            ValueError: another size, a number that is not finite, or no :meth:`reset` before.
        """
        if self._reference is None or self._velocity is None:
            raise ValueError("JointPD.reset(angles) comes before the first advance().")
        goal = np.clip(checked("the goal", goal, self.size), *self.limits)
        away = goal - self._reference
        change = self.acceleration * self.period_s
        # Fast enough to arrive, slow enough to stop there: v T / 2 + v^2 / (2 a) is the way to a stop.
        stop = np.sqrt(0.25 * change * change + 2.0 * self.acceleration * np.abs(away)) - 0.5 * change
        wanted = np.sign(away) * np.minimum(np.minimum(stop, np.abs(away) / self.period_s), self.speed)
        velocity = np.clip(wanted, self._velocity - change, self._velocity + change)
        # A limit of the joint counts more than a smooth stop.
        moved = np.clip(self._reference + velocity * self.period_s, *self.limits)
        self._velocity = (moved - self._reference) / self.period_s
        self._reference = moved
        return self._reference, self._velocity

    def torques(
        self,
        reference: ArrayLike,
        velocity: ArrayLike,
        angles: ArrayLike,
        velocities: ArrayLike,
        inertia: ArrayLike,
        weight: ArrayLike = 0.0,
    ) -> Array:
        """N m, (..., n), within the torque limits.

        Args:
            reference: target angles, rad, (..., n).
            velocity: target velocities, rad/s.
            angles: measured, rad.
            velocities: measured, rad/s.
            inertia: of the arm, kg m^2, (..., n, n).
            weight: torque that carries the arm, ``qfrc_bias``, N m; 0 where the maker's controller adds it.
        """
        error = checked("the reference", reference, self.size) - checked("angles", angles, self.size)
        rate = checked("the velocity", velocity, self.size) - checked("velocities", velocities, self.size)
        wanted = self.frequency**2 * error + 2.0 * self.frequency * rate
        torque = apply(checked("the inertia", inertia, self.size, self.size), wanted)
        return np.clip(torque + finite("the weight", weight), -self.torque_limits, self.torque_limits)

    def targets(
        self,
        reference: ArrayLike,
        velocity: ArrayLike = 0.0,
        weight: ArrayLike = 0.0,
        angles: ArrayLike | None = None,
    ) -> Array:
        """``ctrl`` of position actuators, rad, (..., n), within the joint limits.

        Args:
            reference: target angles, rad.
            velocity: target velocities, rad/s.
            weight: torque that carries the arm, N m, where no maker's controller adds it.
            angles: measured, rad: no joint that lags behind is told to catch up faster than its speed limit.
        """
        target = checked("the reference", reference, self.size) + self.lead_s * finite("the velocity", velocity)
        if angles is not None:
            measured = checked("angles", angles, self.size)
            target = np.clip(target, measured - self._reach, measured + self._reach)
        return np.clip(target + finite("the weight", weight) / self.kp, *self.limits)

"""What a task sees of the simulation after a control step: one attribute a quantity, all of shape (n, ...)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(eq=False)
class Signals:
    """Quantities of n robots. "Measured" ones carry what the robot's sensors do to them; all others are the truth.

    Joints are in table order, feet left then right. *Heading frame*: x forward, y left, z up, turned with the base's
    yaw.
    """

    # Measured
    joint_angle: Array
    """Encoders, rad, (n, joints)."""
    joint_velocity: Array
    """rad/s, (n, joints)."""
    gyro: Array
    """Angular velocity in the IMU's axes, rad/s, (n, 3)."""
    gravity: Array
    """Direction of gravity in the IMU's axes; (0, 0, -1) upright, (n, 3)."""

    # Told or remembered
    command: Array
    """Forward and left velocity in the heading frame, m/s, and yaw rate, rad/s, (n, 3)."""
    action: Array
    """The action just carried out, (n, joints)."""
    last_action: Array
    """The one before."""
    action_before_last: Array
    phase: Array
    """Of the gait, in [0, 1), (n,)."""

    # The truth
    angle: Array
    """Joint angles, rad, (n, joints)."""
    velocity: Array
    """rad/s, (n, joints)."""
    home: Array
    """Joint angles of the home pose, rad, (joints,)."""
    torque: Array
    """At the joints, N m, (n, joints)."""
    torque_limit: Array
    """N m, (joints,)."""
    limits: Array
    """Of the joint angles, rad, (joints, 2)."""
    up: Array
    """Cosine of the base's tilt: 1 upright, 0 lying, (n,)."""
    tilt_gravity: Array
    """Direction of gravity in the base's axes, (n, 3)."""
    height: Array
    """Of the base over the ground below it, m, (n,)."""
    home_height: float
    """Of the base in the home pose, m."""
    base_velocity: Array
    """In the heading frame, m/s, (n, 3)."""
    base_rotation: Array
    """Angular velocity in the base's axes, rad/s, (n, 3)."""
    feet_ahead: Array
    """Middle of the two soles, seen from the base, in the heading frame: forward and left, m, (n, 2)."""
    home_feet_ahead: Array
    """The same in the home pose, (2,)."""
    foot_height: Array
    """Of the soles over the ground, m, (n, 2)."""
    foot_velocity: Array
    """Of the soles in the world, m/s, (n, 2, 3)."""
    foot_contact: Array
    """1 where a foot touches, (n, 2)."""
    foot_force: Array
    """Normal force under each foot, N, (n, 2)."""
    weight_n: float
    """Of the robot."""
    friction: Array
    """Sliding friction under the soles, (n, 1)."""
    push_soon: Array
    """1 in the half second before a push, (n, 1)."""
    moves: Array
    """1 where the command is not (nearly) zero, (n,)."""

    @property
    def count(self) -> int:
        return len(self.phase)

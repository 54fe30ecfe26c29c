"""Everything that observations, rewards and terminations are computed from, of n copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Signals:
    """Arrays of shape (n, ...); lengths in m, angles in rad, along the world's axes."""

    joint_angle: Array
    """(n, joints), without the gripper's."""
    joint_velocity: Array
    gripper: Array
    """(n, g): values of the fingers' joints."""
    object_position: Array
    object_quaternion: Array
    object_twist: Array
    """(n, 6): linear velocity of the centre, then angular."""
    hand_position: Array
    """Of the tool centre point."""
    hand_quaternion: Array
    hand_twist: Array
    finger_position: Array
    """(n, 2, 3): left, right."""
    goal: Array
    """(n, 3); zeros without one."""
    touches: NDArray[np.bool_]
    """(n, 2): whether left and right finger touch the object."""
    contact_force: Array
    """(n,): the most that table and arm, and the arm's own parts, pressed on each other within the control step, N."""
    speed_share: Array
    """(n,): the highest speed of any joint within the control step over its limit."""
    action: Array
    last_action: Array

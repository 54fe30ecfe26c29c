"""The gripper as a switch: a policy's number opens or closes it, its target moves at the speed of the real one."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from cadenza.controllers.poses import Array
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import ArmIndex


class GripperControl:
    """Turns commands into targets of the gripper's actuator, for one arm or many.

    A command above ``threshold`` closes, one below minus ``threshold`` opens, and one between keeps what was last
    asked for: with a threshold above 0 a policy that hovers about 0 does not make the fingers chatter.

    Args:
        arm: gives the fingers' range and speed.
        rate_hz: at which :meth:`advance` is called.
        threshold: at least 0.

    Raises:
        ValueError: a rate or a threshold that cannot be.
    """

    def __init__(self, arm: ArmRobot, rate_hz: float, *, threshold: float = 0.0) -> None:
        if not rate_hz > 0 or not 0 <= threshold < 1:
            raise ValueError(f"rate_hz must be positive and threshold in [0, 1); got {rate_hz} and {threshold}.")
        self.gripper = arm.gripper
        self.threshold = threshold
        self._step = arm.gripper.speed / rate_hz
        self._goal: Array | None = None
        self._target: Array | None = None

    def reset(self, value: ArrayLike) -> None:
        """Start with the fingers' joints at ``value`` (m or rad, any shape), which is also what is asked for."""
        low, high = sorted((self.gripper.closed, self.gripper.open))
        start = np.asarray(value, dtype=np.float64)
        if not np.isfinite(start).all():
            raise ValueError(f"The gripper's value is not finite: {start}.")
        self._goal = self._target = np.clip(start, low, high)

    def advance(self, command: ArrayLike) -> Array:
        """Target of the gripper's actuator a period later, m or rad, in the shape of ``command``.

        Raises:
            ValueError: a command that is not finite, or no :meth:`reset` before.
        """
        if self._goal is None or self._target is None:
            raise ValueError("GripperControl.reset(value) comes before the first advance().")
        asked = np.asarray(command, dtype=np.float64)
        if not np.isfinite(asked).all():
            raise ValueError(f"The gripper's command is not finite: {asked}.")
        ends = np.where(asked > 0, self.gripper.closed, self.gripper.open)
        self._goal = np.where(np.abs(asked) > self.threshold, ends, self._goal)
        self._target = self._target + np.clip(self._goal - self._target, -self._step, self._step)
        return self._target


def finger_width(data: mujoco.MjData, index: ArmIndex) -> float:
    """Distance between the faces of the fingers, m, as the model stands."""
    left, right = data.site_xpos[index.fingers]
    return float(np.linalg.norm(left - right))

"""What an action means to the hand: a velocity and a turn about the vertical, and the fingers open or closed.

The hand always points straight down. Its yaw is 0 when the fingers close along the world's x, so that a cable along +y
lies between them; a hand that holds a cable has the cable's yaw.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadenza.controllers.gripper import GripperControl
from cadenza.controllers.hand_ik import HandToJoints
from cadenza.controllers.poses import checked
from cadenza.envs.cable.episodes import CONTROL_HZ
from cadenza.envs.cable.model import FINGER_TIP_M
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import ArmIndex, home_angles, tcp_jacobian, tcp_pose

Array = NDArray[np.float64]

CONTROL_DT_S = 1.0 / CONTROL_HZ
SPEED_M_S = 0.2
"""Of an action of 1 along an axis."""
TURN_RAD_S = 1.5
LEASH_M = 0.03
"""The target stays so near to the hand: an arm that is held back does not jump when it comes free."""
LEASH_RAD = 0.3
LOWEST_M = FINGER_TIP_M + 0.001
"""Of the TCP: the fingertips stay 1 mm over the table."""
WORKSPACE_LOW_M = (0.30, -0.32, LOWEST_M)
WORKSPACE_HIGH_M = (0.70, 0.38, 0.25)
MOST_YAW_RAD = 1.4
OPEN_M = 0.022
"""A finger's way from the middle when open: 44 mm between the pads pass beside a neighbouring clip; the hand could
open to 80 mm."""
ACTIONS = ("vx", "vy", "vz", "yaw_rate", "gripper")


def yaw_of(rotation: Array) -> float:
    """Yaw of a hand whose TCP has this rotation matrix (3, 3)."""
    return math.atan2(rotation[1, 0], rotation[0, 0]) - math.pi / 2


def quaternion_at(yaw: float) -> Array:
    """wxyz of the TCP of a hand that points down at this yaw."""
    half = (yaw + math.pi / 2) / 2
    return np.array((0.0, math.cos(half), math.sin(half), 0.0))


def wrapped(angle: float) -> float:
    """The angle within -pi and pi."""
    return math.remainder(angle, 2 * math.pi)


class HandControl:
    """From actions to ``ctrl``, once a control step.

    Args:
        arm: its table gives gains and limits.
        index: where it stands in the model.
    """

    def __init__(self, arm: ArmRobot, index: ArmIndex) -> None:
        self.index = index
        self._start = home_angles(arm)
        self._start[6] -= math.pi / 2  # the fingers close along x instead of y
        self._joints = HandToJoints(arm, CONTROL_HZ)
        self._joints.home = self._start
        narrow = dataclasses.replace(arm, gripper=dataclasses.replace(arm.gripper, open=OPEN_M))
        self._fingers = GripperControl(narrow, CONTROL_HZ)
        self.position = np.zeros(3)
        """Of the target, m."""
        self.yaw = 0.0
        self.closing = False

    def place(self, model: mujoco.MjModel, data: mujoco.MjData, position: ArrayLike, yaw: float) -> None:
        """Put the arm there at once, at rest, fingers open."""
        index = self.index
        data.qpos[index.qpos] = self._start
        goal = np.asarray(position, dtype=np.float64), quaternion_at(yaw)
        for _ in range(40):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            hand = tcp_pose(data, index)
            angles = self._joints.targets(tcp_jacobian(model, data, index), goal, hand, data.qpos[index.qpos])
            data.qpos[index.qpos] = angles
        data.ctrl[index.actuator] = data.qpos[index.qpos]
        data.qpos[index.gripper_qpos] = data.ctrl[index.gripper_actuator] = OPEN_M
        self._fingers.reset(OPEN_M)
        self.position, self.yaw, self.closing = goal[0].copy(), yaw, False

    def apply(self, model: mujoco.MjModel, data: mujoco.MjData, action: ArrayLike) -> None:
        """Write ``ctrl`` for an action in [-1, 1]^5; what lies outside is clipped.

        Raises:
            ValueError: another size, or a number that is not finite.
        """
        index = self.index
        numbers = np.clip(checked("the action", action, len(ACTIONS)), -1.0, 1.0)
        hand = tcp_pose(data, index)
        yaw = yaw_of(data.site_xmat[index.tcp].reshape(3, 3))
        before = self.position, self.yaw
        asked = self.position + numbers[:3] * SPEED_M_S * CONTROL_DT_S
        away = asked - hand[0]
        asked = hand[0] + away * min(1.0, LEASH_M / max(float(np.linalg.norm(away)), 1e-12))
        self.position = np.clip(asked, WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        turned = self.yaw + numbers[3] * TURN_RAD_S * CONTROL_DT_S
        turned = yaw + min(max(wrapped(turned - yaw), -LEASH_RAD), LEASH_RAD)
        self.yaw = min(max(wrapped(turned), -MOST_YAW_RAD), MOST_YAW_RAD)
        twist = np.zeros(6)
        twist[:3] = (self.position - before[0]) / CONTROL_DT_S
        twist[5] = (self.yaw - before[1]) / CONTROL_DT_S
        data.ctrl[index.actuator] = self._joints.targets(
            tcp_jacobian(model, data, index),
            (self.position, quaternion_at(self.yaw)),
            hand,
            data.qpos[index.qpos],
            twist,
        )
        self.closing = bool(numbers[4] > 0.0)
        data.ctrl[index.gripper_actuator] = float(self._fingers.advance(1.0 if self.closing else -1.0))

    def get_state(self) -> dict[str, Any]:
        """Plain values; what is not in ``mjData``."""
        return {"position": self.position.copy(), "yaw": self.yaw, "closing": self.closing}

    def set_state(self, state: dict[str, Any], data: mujoco.MjData) -> None:
        """Go on from a saved state, with ``data`` restored before."""
        self.position, self.yaw = np.array(state["position"]), float(state["yaw"])
        self.closing = bool(state["closing"])
        self._fingers.reset(data.ctrl[self.index.gripper_actuator])

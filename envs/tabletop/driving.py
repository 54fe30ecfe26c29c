"""From an action to ``ctrl``: three ways, for any number of copies at once.

All take actions in [-1, 1] and keep what they remember in :attr:`Driver.memory`, arrays (n, ...) by name, so that a
state can be saved. The last entry of an action is the gripper's: above 0 closes, below 0 opens, 0 leaves it as it is.
"""

from __future__ import annotations

from typing import Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.gripper import GripperControl
from cadenza.controllers.hand_actions import HandDelta
from cadenza.controllers.hand_bounds import HandBounds
from cadenza.controllers.hand_ik import HandToJoints
from cadenza.controllers.joint_pd import SPEED_SHARE, JointPD
from cadenza.controllers.operational_space import OperationalSpace
from cadenza.controllers.poses import apply, multiply
from cadenza.envs.tabletop.physics import Physics
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import ArmIndex, arm_index, hinge_jacobian, home_angles, joint_limits, velocity_limits

Array = NDArray[np.float64]
Ids = NDArray[np.intp]


class Hand:
    """Kinematics of the hands of all copies, read from the physics."""

    def __init__(self, physics: Physics, index: ArmIndex):
        self.physics, self.index = physics, index
        self._axes, self._anchors = physics.read("xaxis"), physics.read("xanchor")
        self._sites, self._turns = physics.read("site_xpos"), physics.read("xquat")
        self._body = int(physics.model.site_bodyid[index.tcp])
        self._in_body = physics.model.site_quat[index.tcp].copy()

    def pose(self) -> tuple[Array, Array]:
        """Position (n, 3), m, and quaternion wxyz (n, 4)."""
        turn = self._turns[:, self._body]
        return self._sites[:, self.index.tcp].copy(), multiply(turn, np.broadcast_to(self._in_body, turn.shape))

    def fingers(self) -> Array:
        """(n, 2, 3), m."""
        return self._sites[:, self.index.fingers]

    def jacobian(self) -> Array:
        """(n, 6, joints)."""
        joint = self.index.joint
        return hinge_jacobian(self._axes[:, joint], self._anchors[:, joint], self._sites[:, self.index.tcp])

    def twist(self) -> Array:
        """(n, 6), m/s and rad/s."""
        return apply(self.jacobian(), self.physics.qvel[:, self.index.dof])


class _Fingers(GripperControl):
    """A gripper's control whose copies begin at different times."""

    def __init__(self, arm: ArmRobot, rate_hz: float, n: int):
        super().__init__(arm, rate_hz)
        self.reset(np.full(n, arm.gripper.open))
        assert self._goal is not None
        self.goal, self.target = self._goal.copy(), self._goal.copy()

    def move(self, command: Array) -> Array:
        """Targets of the actuators a period later, (n,)."""
        self._goal, self._target = self.goal, self.target
        self.target[:] = self.advance(command)
        assert self._goal is not None
        self.goal[:] = self._goal
        return self.target


class Driver(Protocol):
    """What turns actions into ``ctrl``."""

    size: int
    """Of an action."""
    memory: dict[str, Array]

    def begin(self, ids: Ids) -> None:
        """Start from where the arms of these copies are; they stand in their first state, derived."""

    def command(self, action: Array) -> None:
        """At the start of a control step; actions are finite, in [-1, 1], (n, size)."""

    def before_physics(self) -> None:
        """Before every physics step."""


class _Base:
    def __init__(self, arm: ArmRobot, physics: Physics, hand: Hand, rate_hz: float):
        self.arm, self.physics, self.hand, self.index = arm, physics, hand, hand.index
        self.fingers = _Fingers(arm, rate_hz, physics.n)
        self.memory: dict[str, Array] = {"fingers_goal": self.fingers.goal, "fingers_target": self.fingers.target}
        self._bias = physics.read("qfrc_bias")

    def begin(self, ids: Ids) -> None:
        start = self.physics.qpos[ids, self.index.gripper_qpos[0]]
        self.fingers.goal[ids] = self.fingers.target[ids] = start
        self.physics.ctrl[ids, self.index.gripper_actuator] = start

    def before_physics(self) -> None:
        """Nothing to do."""

    def _grip(self, command: Array) -> None:
        self.physics.ctrl[:, self.index.gripper_actuator] = self.fingers.move(command)

    def _angles(self) -> Array:
        """Of all arms; one whose numbers are no longer finite counts as at home, until somebody ends its episode."""
        angles = self.physics.qpos[:, self.index.qpos]
        return np.where(np.isfinite(angles).all(axis=1, keepdims=True), angles, home_angles(self.arm))

    def _weight(self) -> Array | float:
        """What carries the arms, N m, where their own controllers do not."""
        return 0.0 if self.arm.compensates_gravity else self._bias[:, self.index.dof]


class _HandBase(_Base):
    def __init__(self, arm: ArmRobot, physics: Physics, hand: Hand, rate_hz: float, bounds: HandBounds | None):
        super().__init__(arm, physics, hand, rate_hz)
        self.actions, self.bounds = HandDelta(rate_hz=rate_hz), bounds
        self.size = self.actions.size
        self.position, self.quaternion = np.zeros((physics.n, 3)), np.tile((1.0, 0.0, 0.0, 0.0), (physics.n, 1))
        self.twist = np.zeros((physics.n, 6))
        """With which the targets move, m/s and rad/s."""
        self.memory |= {"target_position": self.position, "target_quaternion": self.quaternion}

    def begin(self, ids: Ids) -> None:
        super().begin(ids)
        position, quaternion = self.hand.pose()
        self.position[ids], self.quaternion[ids] = position[ids], quaternion[ids]

    def _move(self, action: Array) -> tuple[Array, Array]:
        """Move the targets; where the hands are."""
        here = self.hand.pose()
        if len(self.arm.arm_joints) < 6:
            # It cannot keep every rotation; one that it gave up to move on would hold it back from then on.
            self.quaternion[:] = here[1]
        position, quaternion = self.actions.moved((self.position, self.quaternion), here, action)
        self.twist = self.actions.twist(action)
        if self.bounds is not None:
            position, quaternion, free = self.bounds.within(position, quaternion)
            self.twist *= free
        self.position[:], self.quaternion[:] = position, quaternion
        self._grip(action[:, -1])
        return here


class HandByJoints(_HandBase):
    """Targets of the hand's pose through inverse kinematics to position actuators, once a control step."""

    def __init__(self, arm: ArmRobot, physics: Physics, hand: Hand, rate_hz: float, bounds: HandBounds | None = None):
        super().__init__(arm, physics, hand, rate_hz, bounds)
        self.joints = HandToJoints(arm, rate_hz)

    def begin(self, ids: Ids) -> None:
        super().begin(ids)
        self.physics.ctrl[np.ix_(ids, self.index.actuator)] = self.physics.qpos[np.ix_(ids, self.index.qpos)]

    def command(self, action: Array) -> None:
        here = self._move(action)
        self.physics.ctrl[:, self.index.actuator] = self.joints.targets(
            self.hand.jacobian(), (self.position, self.quaternion), here, self._angles(), self.twist,
            self._weight(),
        )  # fmt: skip


class HandByTorques(_HandBase):
    """The same targets through operational-space control to torques, every physics step and copy by copy."""

    def __init__(self, arm: ArmRobot, physics: Physics, hand: Hand, rate_hz: float, bounds: HandBounds | None = None):
        super().__init__(arm, physics, hand, rate_hz, bounds)
        self.control = OperationalSpace(arm, physics.model)

    def command(self, action: Array) -> None:
        self._move(action)

    def before_physics(self) -> None:
        for index in range(self.physics.n):
            data = self.physics.data(index)
            if np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all():
                self.physics.ctrl[index, self.index.actuator] = self.control.torques(
                    data, self.position[index], self.quaternion[index], self.twist[index]
                )


class Joints(_Base):
    """Targets of the joints move by up to what their speed limits allow, and stay near the joints."""

    def __init__(self, arm: ArmRobot, physics: Physics, hand: Hand, rate_hz: float):
        super().__init__(arm, physics, hand, rate_hz)
        self.size = len(arm.arm_joints) + 1
        self.joints = JointPD(arm, rate_hz)
        self.rate_hz = rate_hz
        self._step = SPEED_SHARE * velocity_limits(arm) / rate_hz
        self._limits = joint_limits(arm)
        self.reference = np.zeros((physics.n, self.size - 1))
        self.memory["reference"] = self.reference

    def begin(self, ids: Ids) -> None:
        super().begin(ids)
        angles = self.physics.qpos[np.ix_(ids, self.index.qpos)]
        self.reference[ids] = angles
        self.physics.ctrl[np.ix_(ids, self.index.actuator)] = angles

    def command(self, action: Array) -> None:
        angles, step = self._angles(), self._step * action[:, :-1]
        # An arm that is held back is not torn away later.
        near = np.clip(self.reference + step, angles - 2.0 * self._step, angles + 2.0 * self._step)
        self.reference[:] = np.clip(near, *self._limits)
        self.physics.ctrl[:, self.index.actuator] = self.joints.targets(
            self.reference, step * self.rate_hz, self._weight(), angles
        )
        self._grip(action[:, -1])


def make_driver(
    arm: ArmRobot,
    physics: Physics,
    hand: Hand,
    *,
    actions: str,
    control: str,
    rate_hz: float,
    bounds: HandBounds | None = None,
) -> Driver:
    """The driver that a configuration asks for; ``bounds`` are of the hand's target, joints have their own."""
    if actions == "joints":
        return Joints(arm, physics, hand, rate_hz)
    kind = HandByTorques if control == "osc" else HandByJoints
    return kind(arm, physics, hand, rate_hz, bounds)


def hand_of(physics: Physics, arm: ArmRobot) -> Hand:
    """The hands of all copies of a model."""
    return Hand(physics, arm_index(physics.model, arm))


def hand_at(model: mujoco.MjModel, index: ArmIndex, qpos: Array) -> tuple[Array, Array]:
    """The hand's position (3,), m, and quaternion wxyz (4,) with the arm at ``qpos``."""
    data, turn = mujoco.MjData(model), np.zeros(4)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mju_mat2Quat(turn, data.site_xmat[index.tcp])
    return data.site_xpos[index.tcp].copy(), turn


def put_home(model: mujoco.MjModel, arm: ArmRobot, index: ArmIndex, fingers: float | None) -> Array:
    """``qpos`` with the arm in its home pose and its fingers open, or at the value given."""
    from cadenza.robots.arm_pose import put_at_home

    data = mujoco.MjData(model)
    put_at_home(model, data, arm, index)
    if fingers is not None:
        data.qpos[index.gripper_qpos] = fingers
    return data.qpos.copy()

"""Where an arm's joints stand in a compiled model, its home pose, and the kinematics that controllers read from it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.robots.arm_building import GRIPPER, TCP
from cadenza.robots.arm_description import ArmRobot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ArmIndex:
    """Addresses in a compiled model of the n joints that move the hand, in table order, and of the hand."""

    joint: NDArray[np.intp]
    """Shape (n,): ids of the joints, e.g. into ``xaxis`` and ``xanchor``."""
    qpos: NDArray[np.intp]
    """Shape (n,)."""
    dof: NDArray[np.intp]
    """Shape (n,): in ``qvel``."""
    actuator: NDArray[np.intp]
    """Shape (n,): in ``ctrl``."""
    gripper_qpos: NDArray[np.intp]
    """Shape (g,): of the fingers' coupled joints; empty with a rigid hand."""
    gripper_dof: NDArray[np.intp]
    """Shape (g,)."""
    gripper_actuator: int
    """In ``ctrl``; -1 with a rigid hand."""
    tcp: int
    """Id of the site of the tool centre point."""
    fingers: NDArray[np.intp]
    """Shape (2,): ids of the sites on the left and the right finger."""


def arm_index(model: mujoco.MjModel, arm: ArmRobot) -> ArmIndex:
    """Look the arm up in a compiled model, once.

    Raises:
        ValueError: the model lacks one of the table's joints, its actuators or the TCP.
    """
    joints = {model.joint(number).name: number for number in range(model.njnt)}
    actuators = {model.actuator(number).name: number for number in range(model.nu)}
    sites = {model.site(number).name: number for number in range(model.nsite)}
    names = [row.name for row in arm.arm_joints]
    missing = [name for name in names if name not in joints or name not in actuators]
    missing += [name for name in (TCP, "left_finger", "right_finger") if name not in sites]
    if missing:
        raise ValueError(f"The model lacks {', '.join(missing)} of {arm.title}; was it made by build_spec?")
    ours = _indices([joints[name] for name in names])
    fingers = _indices([joints[name] for name in arm.gripper.joints if name in joints])
    drive = GRIPPER if arm.gripper.drive is not None else arm.gripper.joints[0]
    return ArmIndex(
        joint=ours,
        qpos=_indices(model.jnt_qposadr[ours]),
        dof=_indices(model.jnt_dofadr[ours]),
        actuator=_indices([actuators[name] for name in names]),
        gripper_qpos=_indices(model.jnt_qposadr[fingers]),
        gripper_dof=_indices(model.jnt_dofadr[fingers]),
        gripper_actuator=actuators.get(drive, -1),
        tcp=sites[TCP],
        fingers=_indices([sites["left_finger"], sites["right_finger"]]),
    )


def home_angles(arm: ArmRobot) -> Array:
    """The home pose of the joints that move the hand, rad, shape (n,)."""
    return np.array([row.home_rad for row in arm.arm_joints])


def joint_limits(arm: ArmRobot) -> Array:
    """Lower and upper limits of those joints, rad, shape (2, n)."""
    return np.array([row.limits_rad for row in arm.arm_joints]).T


def velocity_limits(arm: ArmRobot) -> Array:
    """Their speed limits, rad/s, shape (n,)."""
    return np.array([row.velocity_rad_s for row in arm.arm_joints])


def torque_limits(arm: ArmRobot) -> Array:
    """Their torque limits, N m, shape (n,)."""
    return np.array([row.torque_nm for row in arm.arm_joints])


def put_at_home(model: mujoco.MjModel, data: mujoco.MjData, arm: ArmRobot, index: ArmIndex | None = None) -> None:
    """Set joints, open fingers, rest and the ``ctrl`` that holds it with position actuators; other bodies stay.

    A linkage behind the fingers' joints (2F-85) is consistent at its zero, which is its open pose.
    """
    index = index or arm_index(model, arm)
    data.qpos[index.qpos] = home_angles(arm)
    data.qvel[index.dof] = 0.0
    data.ctrl[index.actuator] = home_angles(arm)
    if index.gripper_actuator >= 0:
        data.qpos[index.gripper_qpos] = data.ctrl[index.gripper_actuator] = arm.gripper.open
        data.qvel[index.gripper_dof] = 0.0
    mujoco.mj_forward(model, data)


def tcp_pose(data: mujoco.MjData, index: ArmIndex) -> tuple[Array, Array]:
    """Position (3,) in m and quaternion wxyz (4,) of the tool centre point in the world."""
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, data.site_xmat[index.tcp])
    return data.site_xpos[index.tcp].copy(), quaternion


def tcp_jacobian(model: mujoco.MjModel, data: mujoco.MjData, index: ArmIndex) -> Array:
    """Shape (6, n): linear velocity of the TCP, then angular, both along the world's axes, per joint velocity."""
    full = np.empty((6, model.nv))
    mujoco.mj_jacSite(model, data, full[:3], full[3:], index.tcp)
    return full[:, index.dof]


def hinge_jacobian(axes: Array, anchors: Array, point: Array) -> Array:
    """The same from the axes of a chain of hinges, for any number of copies at once.

    Args:
        axes: ``xaxis`` of the joints, shape (..., n, 3).
        anchors: ``xanchor`` of the joints, m, shape (..., n, 3).
        point: ``site_xpos`` of the TCP, m, shape (..., 3).

    Returns:
        Shape (..., 6, n).
    """
    arm = point[..., None, :] - anchors
    # Written out: numpy's cross takes ten times as long on small arrays.
    linear = np.stack(
        (
            axes[..., 1] * arm[..., 2] - axes[..., 2] * arm[..., 1],
            axes[..., 2] * arm[..., 0] - axes[..., 0] * arm[..., 2],
            axes[..., 0] * arm[..., 1] - axes[..., 1] * arm[..., 0],
        ),
        axis=-2,
    )
    return np.concatenate((linear, np.swapaxes(axes, -1, -2)), axis=-2)


def _indices(values: object) -> NDArray[np.intp]:
    return np.asarray(values, dtype=np.intp)

"""Where a robot's joints stand in ``qpos`` and ``qvel``, and the home pose on the ground z = 0."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.robots.building import BACKLASH_SUFFIX
from cadenza.robots.description import LeggedRobot


@dataclass(frozen=True)
class JointIndex:
    """Addresses of the table's n joints in a compiled model, in table order."""

    qpos: NDArray[np.intp]
    """Shape (n,): of the motor's side of each joint."""
    dof: NDArray[np.intp]
    """Shape (n,): the same in ``qvel``."""
    actuator: NDArray[np.intp]
    """Shape (n,): in ``ctrl``."""
    backlash_qpos: NDArray[np.intp]
    """Shape (b,): of the joints of free play, in table order; empty without backlash."""
    backlash_dof: NDArray[np.intp]
    """Shape (b,): the same in ``qvel``."""
    backlash_row: NDArray[np.intp]
    """Shape (b,): row of the table to which each belongs."""
    base_qpos: int
    """First of the 7 positions of the base (x, y, z, quaternion wxyz)."""
    base_dof: int
    """First of its 6 velocities."""

    def angles(self, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the encoders on the output shafts show, rad: motor side plus free play. (..., nq) -> (..., n)."""
        found = qpos[..., self.qpos]
        if len(self.backlash_row):
            found[..., self.backlash_row] += qpos[..., self.backlash_qpos]
        return found

    def velocities(self, qvel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their rates, rad/s. (..., nv) -> (..., n)."""
        found = qvel[..., self.dof]
        if len(self.backlash_row):
            found[..., self.backlash_row] += qvel[..., self.backlash_dof]
        return found


def joint_addresses(model: mujoco.MjModel, robot: LeggedRobot) -> JointIndex:
    """Look the table's joints up in a compiled model, once.

    Raises:
        ValueError: the model lacks one of them, or its base has no free joint.
    """
    names = {model.joint(index).name: index for index in range(model.njnt)}
    missing = [name for name in robot.joint_names if name not in names]
    if missing:
        raise ValueError(f"The model has no joint {', '.join(missing)} of {robot.title}'s table.")
    base = model.body(robot.base)
    base_joint = int(base.jntadr[0])
    if base_joint < 0 or model.jnt_type[base_joint] != mujoco.mjtJoint.mjJNT_FREE:
        raise ValueError(f"The body {robot.base} of {robot.title} has no free joint.")
    ours = [names[name] for name in robot.joint_names]
    plays = [(row, names.get(name + BACKLASH_SUFFIX)) for row, name in enumerate(robot.joint_names)]
    rows = [row for row, index in plays if index is not None]
    play = [index for _, index in plays if index is not None]
    return JointIndex(
        qpos=_indices(model.jnt_qposadr[ours]),
        dof=_indices(model.jnt_dofadr[ours]),
        actuator=_indices([model.actuator(name).id for name in robot.joint_names]),
        backlash_qpos=_indices(model.jnt_qposadr[play]),
        backlash_dof=_indices(model.jnt_dofadr[play]),
        backlash_row=_indices(rows),
        base_qpos=int(model.jnt_qposadr[base_joint]),
        base_dof=int(model.jnt_dofadr[base_joint]),
    )


def home_angles(robot: LeggedRobot) -> NDArray[np.float64]:
    """The home pose in table order, rad, shape (n,): also the ``ctrl`` that holds it."""
    return np.array([joint.home_rad for joint in robot.joints])


def home_qpos(robot: LeggedRobot, model: mujoco.MjModel) -> NDArray[np.float64]:
    """``qpos`` of the home pose, upright at x = y = 0, the lower sole on z = 0. Shape (nq,).

    Bodies that are not the robot's keep their ``qpos0``.
    """
    index = joint_addresses(model, robot)
    data = mujoco.MjData(model)
    data.qpos[index.qpos] = home_angles(robot)
    data.qpos[index.base_qpos : index.base_qpos + 7] = (0, 0, 0, 1, 0, 0, 0)
    mujoco.mj_kinematics(model, data)
    data.qpos[index.base_qpos + 2] = -min(data.site(f"{foot.name}_sole").xpos[2] for foot in robot.feet)
    return data.qpos.copy()


def _indices(values: object) -> NDArray[np.intp]:
    return np.asarray(values, dtype=np.intp)

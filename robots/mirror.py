"""Left and right: which joint is whose mirror image, found in the model's geometry rather than written down."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.pose import joint_addresses

_NEAR_M = 5e-3
_PARALLEL = 0.98
_MIDDLE_M = 0.01


@dataclass(frozen=True, eq=False)
class JointMirror:
    """``mirrored = sign * values[..., index]`` for angles, rates and torques in table order, shapes (n,)."""

    index: NDArray[np.intp]
    sign: NDArray[np.float64]

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (..., n) of the robot as a mirror would show it."""
        return self.sign * values[..., self.index]


def joint_mirror(robot: LeggedRobot, model: mujoco.MjModel) -> JointMirror:
    """The mirror image of every joint of a robot that stands upright, at angles 0.

    The plane y = 0 of the base turns an anchor (x, y, z) into (x, -y, z) and, as a rotation is an axial vector, an axis
    (x, y, z) into (-x, y, -z). A joint's image is the one whose anchor and axis lie there.

    Raises:
        ValueError: some joint has no image: the robot is not symmetric.
    """
    at = joint_addresses(model, robot)
    data = mujoco.MjData(model)
    data.qpos[at.base_qpos + 3] = 1.0
    data.qpos[at.qpos] = 0.0
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    joints = [model.joint(name).id for name in robot.joint_names]
    anchors, axes = data.xanchor[joints] - data.body(robot.base).xpos, data.xaxis[joints]
    hangs = data.subtree_com[model.jnt_bodyid[joints], 1] - data.body(robot.base).xpos[1]
    index, sign = np.zeros(len(joints), dtype=np.intp), np.zeros(len(joints))
    for row, (anchor, axis) in enumerate(zip(anchors, axes, strict=True)):
        image = axis * (-1, 1, -1)
        away = anchors - anchor * (1, -1, 1)
        along = axes @ image
        # A rotation is the same wherever on its axis the anchor lies (a servo beside a neck): what counts is the
        # distance of the axes. Left and right pitch joints share one, so the nearest anchor decides among those.
        aside = np.linalg.norm(away - np.outer(away @ image, image), axis=1)
        fits = (np.abs(along) > _PARALLEL) & (aside < _NEAR_M)
        fits[row] &= abs(hangs[row]) < _MIDDLE_M  # only what sits in the middle is its own image
        found = int(np.argmin(np.where(fits, np.linalg.norm(away, axis=1), np.inf)))
        if not fits[found]:
            raise ValueError(f"{robot.title} is not symmetric: nothing mirrors {robot.joint_names[row]}.")
        index[row], sign[row] = found, np.sign(along[found])
    if (index[index] != np.arange(len(joints))).any():
        raise ValueError(f"{robot.title} is not symmetric: left and right joints do not pair up.")
    return JointMirror(index, sign)

"""Gymnasium's humanoid in a mirror: left and right exchanged, forward stays forward.

Its observation speaks of the world, not of the heading: the mirror is the plane y = 0. Lengths and forces (vectors)
turn their y, rotations and torques (axial vectors) their x and z, products of inertia change sign with each y in them.
The model itself is a little lopsided (:mod:`cadenza.robots.gym_humanoid`), so the image is true to about a percent.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.mirror import Mirror

_VECTOR, _AXIAL = (1, -1, 1), (-1, 1, -1)
_QUATERNION = (1, -1, 1, -1)
_INERTIA = (1, 1, 1, -1, 1, -1, 1, -1, 1, 1)
"""MuJoCo's ``cinert``: moments xx, yy, zz, products xy, xz, yz, mass times offset xyz, mass."""
_SPATIAL = (*_AXIAL, *_VECTOR)
"""MuJoCo's spatial vectors: rotation before translation."""

_Part = tuple[NDArray[np.intp], NDArray[np.float64]]


def humanoid_mirror(model: mujoco.MjModel, world: bool) -> Mirror:
    """The mirror of the humanoid's observation and action.

    Args:
        model: Gymnasium's humanoid; its joints and bodies pair up by the names ``left_...`` and ``right_...``.
        world: the observation holds the world body and the free joint, which are always 0 (Humanoid-v4).
    """
    hinges = [index for index in range(model.njnt) if model.jnt_type[index] == mujoco.mjtJoint.mjJNT_HINGE]
    names = [model.joint(index).name for index in hinges]
    pairs = [names.index(_other_side(name)) for name in names]
    axes = _axes_at_zero(model)[hinges]
    signs = [np.sign(axes[pair] @ (axes[row] * _AXIAL)) for row, pair in enumerate(pairs)]

    bodies = [model.body(index).name for index in range(0 if world else 1, model.nbody)]
    twins = [bodies.index(_other_side(name)) for name in bodies]
    joints = (np.array(pairs, dtype=np.intp), np.array(signs, dtype=np.float64))
    free = _blocks([0], (*_VECTOR, *_AXIAL))
    parts = [
        _blocks([0], (1,)),  # height of the torso
        _blocks([0], _QUATERNION),
        joints,
        free,
        joints,
        _blocks(twins, _INERTIA),
        _blocks(twins, _SPATIAL),
        *([free] if world else []),
        joints,
        _blocks(twins, _SPATIAL),
    ]
    starts = np.cumsum([0, *(len(index) for index, _ in parts[:-1])])
    motors = [model.actuator(index).name for index in range(model.nu)]
    # A motor is called like its joint and turns it the same way.
    by_joint = [names.index(name) for name in motors]
    action = np.array([motors.index(names[pairs[row]]) for row in by_joint], dtype=np.intp)
    return Mirror(
        np.concatenate([start + index for start, (index, _) in zip(starts, parts, strict=True)]),
        np.concatenate([sign for _, sign in parts]),
        action,
        joints[1][by_joint],
    )


def _other_side(name: str) -> str:
    for ours, other in (("left", "right"), ("right", "left")):
        if name.startswith(ours):
            return other + name.removeprefix(ours)
    return name


def _blocks(order: list[int], signs: tuple[int, ...]) -> _Part:
    """Blocks of ``len(signs)`` entries, taken in this order."""
    size = len(signs)
    index = np.concatenate([size * block + np.arange(size) for block in order]).astype(np.intp)
    return index, np.tile(np.array(signs, dtype=np.float64), len(order))


def _axes_at_zero(model: mujoco.MjModel) -> NDArray[np.float64]:
    """Axes of all joints in the world with every angle 0, shape (njnt, 3)."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return data.xaxis.copy()

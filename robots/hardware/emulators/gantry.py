"""A gantry for an emulated robot: it hangs by its trunk while motors are without power, and is put down on request."""

from __future__ import annotations

import mujoco
import numpy as np

from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant

_LIFT_M = 0.05
_LOWER_M_S = 0.05


def free_base(plant: Plant) -> tuple[int, int] | None:
    """Where a free base begins in ``qpos`` (position, quaternion) and in ``qvel``; None where there is none."""
    free = np.flatnonzero(plant.model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    if not len(free):
        return None
    return int(plant.model.jnt_qposadr[free[0]]), int(plant.model.jnt_dofadr[free[0]])


class Gantry:
    """Holds the base where it was, a little higher; legs hang free.

    Args:
        plant: a whole robot that is free to fall.
    """

    def __init__(self, plant: Plant):
        joints = free_base(plant)
        if joints is None:
            raise HardwareError("There is no free base to hold.", "Leave --held away: nothing here can fall over.")
        self._plant, (self._qpos, self._qvel) = plant, joints
        self._pose = plant.data.qpos[self._qpos : self._qpos + 7].copy()
        self._lift_m = _LIFT_M
        self._lowering = False
        self.holds = True
        self.hold(0.0)

    def release(self) -> None:
        """Lower it, then let go."""
        self._lowering = True

    def hold(self, dt_s: float) -> None:
        """After each physics step."""
        if not self.holds:
            return
        if self._lowering:
            self._lift_m -= _LOWER_M_S * dt_s
            if self._lift_m <= 0:
                self.holds = False
                return
        data = self._plant.data
        data.qpos[self._qpos : self._qpos + 7] = self._pose
        data.qpos[self._qpos + 2] += self._lift_m
        data.qvel[self._qvel : self._qvel + 6] = 0.0

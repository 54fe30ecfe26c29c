"""What of a row of a joint table is more than its motor, or the model, allows; shared by the checks of all robots."""

from __future__ import annotations

import math

import mujoco
import numpy as np

from cadenza.robots.description import Joint
from cadenza.robots.motors import MOTORS


def joint_excess(joint: Joint, model: mujoco.MjModel) -> list[str]:
    """A sentence for each of torque, speed and range that exceeds the motor's, or the model's where it has a limit.

    Args:
        joint: row of the table.
        model: of the robot as it comes, with a joint of that name.
    """
    wrong = []
    motor, at = MOTORS[joint.motor], model.joint(joint.name).id
    if joint.torque_nm > motor.peak_torque_nm + 1e-9:
        wrong.append(f"{joint.name}: {joint.torque_nm} N m is more than {motor.name} has.")
    if joint.velocity_rad_s > motor.no_load_speed_rad_s + 1e-9:
        wrong.append(f"{joint.name}: {joint.velocity_rad_s} rad/s is faster than {motor.name} runs.")
    low, high = model.jnt_range[at]
    if model.jnt_limited[at] and not (low - 1e-3 <= joint.limits_rad[0] and joint.limits_rad[1] <= high + 1e-3):
        wrong.append(f"{joint.name}: {joint.limits_rad} rad exceeds the model's ({low:.4f}, {high:.4f}).")
    drives = (model.actuator_trnid[:, 0] == at) & (model.actuator_forcelimited > 0)
    bounds = [model.jnt_actfrcrange[at]] if model.jnt_actfrclimited[at] else []
    most = min((float(np.abs(b).min()) for b in [*bounds, *model.actuator_forcerange[drives]]), default=math.inf)
    if joint.torque_nm > most + 1e-9:
        wrong.append(f"{joint.name}: {joint.torque_nm} N m exceeds the model's {most:g}.")
    return wrong

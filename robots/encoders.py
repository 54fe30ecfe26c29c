"""What encoders make of a joint's angle and speed: steps."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.motors import MOTORS


def angle_steps(robot: LeggedRobot) -> NDArray[np.float64]:
    """Resolution of each joint's encoder in table order, rad, shape (n,); 0 where the maker names none."""
    counts = [MOTORS[joint.motor].encoder_counts for joint in robot.joints]
    return np.array([2 * math.pi / count if count else 0.0 for count in counts])


def velocity_steps(robot: LeggedRobot) -> NDArray[np.float64]:
    """Resolution of the speed each joint's motor reports, rad/s, shape (n,); 0 where not known."""
    return np.array([MOTORS[joint.motor].velocity_step_rad_s for joint in robot.joints])


def quantise(values: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at the nearest whole step; a step of 0 leaves its column as it is. Shapes (..., n) and (n,)."""
    coarse = steps > 0
    divisor = np.where(coarse, steps, 1.0)
    return np.where(coarse, np.round(values / divisor) * divisor, values)

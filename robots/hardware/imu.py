"""What reads an inertial unit: one method, so that a sub-controller on a bus and a simulation look alike."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.types import ImuState

Array = NDArray[np.float64]


class ImuReader(Protocol):
    """An inertial unit. It may share a port with motors; then it is made with their bus and read after them."""

    def configure(self) -> None:
        """Switch on what it needs, e.g. the motors' supply, after the bus was connected.

        Raises:
            HardwareError: it does not answer.
        """

    def read(self) -> ImuState:
        """The newest sample. Where none comes, the last one, older. Raises nothing for a lost packet.

        Raises:
            HardwareError: the port itself is gone.
        """

    def close(self) -> None:
        """May be called twice, never raises."""


def upright_in_imu(robot: LeggedRobot) -> Array:
    """Direction of gravity in the unit's own axes while the trunk is upright, (3,)."""
    w, x, y, z = robot.imu.quaternion
    # Third row of the rotation matrix from the unit's axes to the body's, negated: R^T (0, 0, -1).
    down = -np.array([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z])
    return down / np.linalg.norm(down)

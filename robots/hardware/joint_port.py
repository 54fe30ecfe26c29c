"""All joints of a robot as one thing that is read and written in SI units: real buses, or a simulation.

Only :class:`cadenza.robots.hardware.robot.RobotHardware` holds one, and only its safety supervisor writes to it.
"""

from __future__ import annotations

from typing import Protocol

from cadenza.robots.hardware.clock import Clock
from cadenza.robots.hardware.types import Capabilities, Identity, JointCommand, Mode, RobotState, Sent


class JointPort(Protocol):
    """Joints in the robot's table order; angles as in the model, before any limit."""

    joint_names: tuple[str, ...]
    capabilities: Capabilities
    """What all of its motors can do."""
    clock: Clock

    def connect(self) -> list[Identity]:
        """Identify every motor and compare with the calibration; changes nothing on them.

        Raises:
            HardwareError: see :meth:`MotorBus.connect`.
            RefusedError: the calibration is another unit's.
        """

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        """See :meth:`MotorBus.configure`."""

    def prove_watchdog(self) -> None:
        """See :meth:`MotorBus.prove_watchdog`."""

    def activate(self) -> None:
        """See :meth:`MotorBus.activate`."""

    def deactivate(self) -> None:
        """See :meth:`MotorBus.deactivate`."""

    def read(self) -> RobotState:
        """Joints (n,) and inertial unit."""

    def write(self, command: JointCommand) -> Sent:
        """Send a command, (n,); see :meth:`MotorBus.write`."""

    def clear_faults(self) -> None:
        """On an operator's order."""

    def close(self) -> None:
        """See :meth:`MotorBus.close`."""

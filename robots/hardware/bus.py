"""The one interface of all motor buses. A conformance suite in tests/robots/hardware runs on each of them.

A bus speaks a maker's protocol through a transport, for the motors of some joints of one robot. It converts ticks to
rad at the *motor's* output shaft, 0 rad at its centre position; signs, zeros and gear ratios of joints are the joint
map's business, limits are the safety supervisor's. Nothing is retried without bound, no error becomes a number, and
connecting changes nothing: not torque, not mode, not a single register.

Lifecycle: made -> ``connect`` (ping, identify, read; torque untouched) -> ``configure`` (modes, limits, watchdog set
and read back; needs torque off) -> ``prove_watchdog`` -> ``activate`` (torque on, at the measured position) ->
``write`` / ``read`` -> ``deactivate`` (torque off) -> ``close``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cadenza.robots.hardware.types import Capabilities, Identity, JointCommand, JointState, Mode, Sent


@dataclass(frozen=True)
class MotorSettings:
    """How one motor is to be configured; SI units at its own shaft."""

    name: str
    """Of the joint that it moves, for messages."""
    bus_id: int
    motor: str
    """A key of :data:`cadenza.robots.motors.MOTORS`."""
    torque_limit_nm: float
    velocity_limit_rad_s: float
    position_limits_rad: tuple[float, float]
    """About the motor's centre position."""
    kp: float
    """N m/rad; a position servo turns it into its P gain."""
    kd: float
    """N m s/rad; 0 where the motor has no such setting."""


@dataclass
class BusCounters:
    """How a bus has fared since it was made; nothing is ever reset."""

    reads: int = 0
    writes: int = 0
    timeouts: int = 0
    corrupt: int = 0
    retries: int = 0


class MotorBus(Protocol):
    """Motors on one wire, in the order of ``settings``; all arrays of commands and states have that order."""

    settings: Sequence[MotorSettings]
    capabilities: Capabilities
    counters: BusCounters

    def connect(self) -> list[Identity]:
        """Open the transport and identify every motor; changes nothing on them.

        Raises:
            HardwareError: the port is not there, or motors are missing, doubled or of another model; it names them.
        """

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        """Set mode, limits, gains and device watchdog, and read each back. Registers that live in EEPROM are written
        only where they differ.

        Raises:
            HardwareError: torque is on, or a value did not stick.
        """

    def prove_watchdog(self) -> None:
        """Prove that the device watchdog trips: fall silent, with no motion commanded, see it trip, then clear that one
        trip and leave it armed. Buses without a device watchdog do nothing.

        Raises:
            HardwareError: it did not trip.
        """

    def activate(self) -> None:
        """Torque on, with the measured position as goal; nothing moves.

        Raises:
            HardwareError: a motor reports a fault or did not switch on; all are switched off again.
        """

    def deactivate(self) -> None:
        """Torque off everywhere; tries every motor even if some do not answer.

        Raises:
            HardwareError: after all were tried, those that did not confirm.
        """

    def read(self) -> JointState:
        """The newest state of all motors, (n,). One that does not answer keeps its last sample, which ages; its fault
        gets ``SILENT`` or ``CORRUPT``. Raises nothing for a lost packet.

        Raises:
            HardwareError: the port itself is gone.
        """

    def write(self, command: JointCommand) -> Sent:
        """Send a command, (n,), one frame a motor or one sync write for all; what was really sent comes back.

        Raises:
            HardwareError: not active, a mode the bus does not have, or a value that is not finite (nothing has been
                sent then); or the port itself is gone.
        """

    def ping(self, bus_id: int) -> Identity | None:
        """Who answers at an address; None where nobody does."""

    def scan(self, ids: Sequence[int]) -> list[Identity]:
        """All that answer among these addresses."""

    def read_register(self, bus_id: int, name: str) -> float:
        """A register by its name in the maker's table, in the maker's units."""

    def write_register(self, bus_id: int, name: str, value: float) -> None:
        """The inverse.

        Raises:
            HardwareError: the motor refused it, e.g. an EEPROM register with torque on; or it did not stick.
        """

    def reboot(self, bus_id: int) -> None:
        """Restart a motor; its torque is off afterwards. What cannot be restarted raises HardwareError."""

    def clear_fault(self, bus_id: int) -> None:
        """Acknowledge a latched fault or a tripped watchdog; on an operator's order only, never by the bus itself."""

    def close(self) -> None:
        """Torque off if this object switched it on, and close the transport; may be called twice, never raises."""

"""What travels between a controller and motors. SI units at the joint side, joints in the robot's table order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Mode(Enum):
    """How motors take a command."""

    OFF = "off"
    """Torque off: the shaft is free."""
    POSITION = "position"
    """They hold q with their own gains; dq and tau are ignored where a motor cannot use them."""
    IMPEDANCE = "impedance"
    """torque = kp (q - q_now) + kd (dq - dq_now) + tau, computed in the motor."""
    DAMP = "damp"
    """No stiffness, only damping."""
    HOLD = "hold"
    """Stay at the measured position."""


class Fault(IntFlag):
    """Why a motor reports that something is wrong; several may hold at once."""

    NONE = 0
    VOLTAGE = 1
    OVERHEATED = 2
    ENCODER = 4
    ELECTRICAL = 8
    OVERLOAD = 16
    OVERCURRENT = 32
    COMMUNICATION_LOST = 64
    """The motor's own watchdog tripped."""
    SILENT = 128
    """It does not answer."""
    CORRUPT = 256
    """It answers, but not what the protocol allows."""
    OTHER = 512


@dataclass(eq=False)
class JointCommand:
    """The tuple of a torque-controlled drive, for n joints; shapes (n,). Position servos honour q alone."""

    q: Array
    """Position, rad."""
    dq: Array
    """Velocity, rad/s."""
    tau: Array
    """Torque added, N m."""
    kp: Array
    """N m/rad."""
    kd: Array
    """N m s/rad."""
    mode: Mode = Mode.POSITION

    @classmethod
    def hold(cls, q: Array, kp: Array | float = 0.0, kd: Array | float = 0.0) -> Self:
        """Stay at ``q`` (n,)."""
        zero = np.zeros_like(q)
        return cls(np.array(q, dtype=np.float64), zero.copy(), zero.copy(), zero + kp, zero + kd)

    def finite(self) -> bool:
        """Whether every number is."""
        return all(bool(np.isfinite(value).all()) for value in (self.q, self.dq, self.tau, self.kp, self.kd))


@dataclass(eq=False)
class JointState:
    """What n motors last said; shapes (n,). NaN where a motor does not report a quantity, never a stale 0."""

    q: Array
    """Position, rad."""
    dq: Array
    """Velocity, rad/s."""
    tau: Array
    """Torque, or what its current amounts to, N m."""
    temperature: Array
    """degC."""
    voltage: Array
    """Supply, V."""
    fault: NDArray[np.int64]
    """Bits of :class:`Fault`."""
    age: Array
    """Time since each sample was taken, s; infinite before the first."""

    @classmethod
    def unknown(cls, n: int) -> Self:
        """Nothing has been heard yet."""
        q, dq, tau, temperature, voltage = (np.full(n, np.nan) for _ in range(5))
        return cls(q, dq, tau, temperature, voltage, np.zeros(n, dtype=np.int64), np.full(n, np.inf))


@dataclass(eq=False)
class ImuState:
    """What an inertial unit last said, in its own axes."""

    gyro: Array
    """Angular velocity, rad/s, (3,)."""
    gravity: Array
    """Direction of gravity, unit length, (3,); (0, 0, -1) upright. NaN before the first sample."""
    age: float
    """s; infinite before the first sample."""

    @classmethod
    def unknown(cls) -> Self:
        """Nothing has been heard yet."""
        return cls(np.full(3, np.nan), np.full(3, np.nan), float("inf"))


@dataclass(eq=False)
class RobotState:
    """A whole robot at one reading."""

    joints: JointState
    imu: ImuState | None
    at_s: float
    """When it was read, on the robot's clock."""


@dataclass(eq=False)
class Sent:
    """What really went out, in the resolution of the wire, back in SI units."""

    command: JointCommand
    """NaN in fields that these motors do not take."""
    at_s: float
    """On the robot's clock."""
    delivered: bool = True
    """False where the port failed and nothing went out."""


@dataclass(frozen=True)
class Identity:
    """What a motor says about itself."""

    bus_id: int
    model: str
    """A key of :data:`cadenza.robots.motors.MOTORS` where it is known there, else the maker's number."""
    firmware: str = ""
    serial: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a kind of bus can do."""

    modes: frozenset[Mode]
    device_watchdog: bool
    """Its motors stop by themselves when the host falls silent."""
    watchdog_step_s: float = 0.0
    """Resolution of that watchdog's time."""
    reports: frozenset[str] = field(default_factory=frozenset)
    """Which of q, dq, tau, temperature, voltage its motors report."""

"""The OP3's OpenCR board as an inertial unit: a sub-controller on the servos' bus.

It answers at ID 200 like a servo (model 0x7400). One read of registers 32 to 49 gives angular velocity, specific force
and roll, pitch and yaw. Sources: ROBOTIS-GIT/ROBOTIS-OP3, ``open_cr_module`` (2000/32800 deg/s and 2/32768 g a count);
ROBOTIS-GIT/OpenCR, firmware of the OP3 (``dxl_hw_op3``: roll, pitch and yaw are written in 0.1 deg, truncated).

Gravity comes from the board's own roll and pitch: its firmware fuses gyro and accelerometer at a rate that no bus
reaches, and has the user's calibration of level. That its angles are those of z-y-x Euler angles of the board's axes
is assumed; no source states it. On a real robot, tilt it by hand and look at ``cadenza motors monitor`` first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cadenza.robots.hardware.clock import Clock, RealClock
from cadenza.robots.hardware.dynamixel.port import Answer, DynamixelPort
from cadenza.robots.hardware.dynamixel.table import OPENCR
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.types import Array, ImuState

OPENCR_ID = 200
RAD_S_PER_COUNT = math.radians(2000 / 32800)
G_PER_COUNT = 2 / 32768
RAD_PER_COUNT = math.radians(0.1)
_START, _SIZE = 32, 18
_LEAST_S = 0.001
"""In less time than this it is not asked."""
AS_BOARD = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""The robot's inertial unit is the board itself: so the emulator has it."""
HALF_TURNED = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
"""ROBOTIS's own software for the OP3 turns the signs of x and y round: the board sits turned by half a turn about z."""


def gravity_of(roll_rad: float, pitch_rad: float) -> Array:
    """Direction of gravity in axes that were turned by z-y-x Euler angles, (3,); yaw does not matter."""
    return np.array(
        [
            math.sin(pitch_rad),
            -math.sin(roll_rad) * math.cos(pitch_rad),
            -math.cos(roll_rad) * math.cos(pitch_rad),
        ]
    )


class OpenCr:
    """Reads the inertial unit, and switches the servos' supply on when asked to.

    Args:
        port: shared with the servos' bus (:attr:`DynamixelBus.port`).
        clock: on which samples age.
        axes: rotation from the board's axes to those of the robot's inertial unit, rows of (3, 3); by default as
            ROBOTIS's software has it, :data:`HALF_TURNED`.
        bus_id: its address.
        power: switch the servos' supply on in :meth:`configure`. Servos come up with torque off: nothing moves.
    """

    def __init__(
        self,
        port: DynamixelPort,
        clock: Clock | None = None,
        *,
        axes: Sequence[Sequence[float]] = HALF_TURNED,
        bus_id: int = OPENCR_ID,
        power: bool = False,
    ):
        self.port, self.bus_id, self.power = port, bus_id, power
        self.clock: Clock = clock or RealClock()
        self._turn = np.array(axes, dtype=np.float64)
        if self._turn.shape != (3, 3) or not np.allclose(self._turn @ self._turn.T, np.eye(3), atol=1e-6):
            raise ValueError(f"axes is no rotation: {axes!r}")
        self._last = ImuState.unknown()
        self._taken_s = -math.inf

    def connect(self) -> None:
        """See who answers; changes nothing.

        Raises:
            HardwareError: nobody, or something else than an OpenCR.
        """
        self.port.open()
        answer = self.port.ping(self.bus_id)
        if not answer.good or answer.data is None:
            raise HardwareError(
                f"No OpenCR at id {self.bus_id}: it {answer.why()}.", "Is the robot switched on, and the speed right?"
            )
        number = int.from_bytes(answer.data[:2], "little")
        if number != OPENCR.number:
            raise HardwareError(f"At id {self.bus_id} there is a device of model {number}, not an OpenCR.")

    def configure(self) -> None:
        """Check that it is there and, where this was asked for, switch the servos' supply on.

        Raises:
            HardwareError: it does not answer or the supply did not come on.
        """
        self.connect()
        if self.power and not self.powered():
            self.switch_power(True)

    def powered(self) -> bool:
        """Whether the servos have their supply.

        Raises:
            HardwareError: it does not answer.
        """
        item = OPENCR.register("dynamixel_power")
        for _ in range(3):
            answer = self.port.read(self.bus_id, item.address, item.size)
            if answer.good and answer.data is not None:
                return bool(item.decode(answer.data))
        raise HardwareError(f"The OpenCR at id {self.bus_id} {answer.why()}.")

    def switch_power(self, on: bool) -> None:
        """Give the servos their supply, or take it away: they fall limp then, and forget what is not in EEPROM.

        Raises:
            HardwareError: it did not switch.
        """
        item = OPENCR.register("dynamixel_power")
        for _ in range(3):
            answer = self.port.write(self.bus_id, item.address, item.encode(int(on)))
            if self.powered() == on:
                break
        else:
            raise HardwareError(f"The OpenCR did not switch the servos' supply: it {answer.why()}.")
        self.clock.sleep_until(self.clock.now() + 0.5)  # servos start up

    def read(self) -> ImuState:
        """The newest sample, in the axes of the robot's inertial unit; where none came, the last one, older.

        Raises:
            HardwareError: the port itself is gone.
        """
        asked_s = self.clock.now()
        late = self.port.serial.left_s() < _LEAST_S  # others took the tick's time
        answer = Answer(None) if late else self.port.read(self.bus_id, _START, _SIZE)
        if answer.good and answer.data is not None:
            counts = np.frombuffer(answer.data, dtype="<i2").astype(np.float64)
            gravity = gravity_of(float(counts[6]) * RAD_PER_COUNT, float(counts[7]) * RAD_PER_COUNT)
            self._last = ImuState(self._turn @ counts[:3] * RAD_S_PER_COUNT, self._turn @ gravity, 0.0)
            self._taken_s = asked_s
        return ImuState(self._last.gyro.copy(), self._last.gravity.copy(), self.clock.now() - self._taken_s)

    def specific_force(self) -> Array | None:
        """What the accelerometer feels, in g and the axes of the robot's inertial unit, (3,); None where it is silent.

        (0, 0, 1) upright and at rest: to see whether the axes are right.
        """
        answer = self.port.read(self.bus_id, _START, _SIZE)
        if not answer.good or answer.data is None:
            return None
        counts = np.frombuffer(answer.data, dtype="<i2").astype(np.float64)
        return np.asarray(self._turn @ counts[3:6] * G_PER_COUNT)

    def close(self) -> None:
        """The port is the bus's to close; the servos' supply stays as it is."""

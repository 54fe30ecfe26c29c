"""The sub-controller of a ROBOTIS OP3 on the servos' wire: their power switch, buttons, and the inertial unit.

Source: its firmware (ROBOTIS-GIT/OpenCR, ``libraries/OP3/examples/opencr_op3``: table, attributes, defaults, baud
codes; roll, pitch and yaw in 0.1 deg) and the reader of ROBOTIS's robot (ROBOTIS-OP3, ``open_cr_module``: gyro raw
* 2000/32800 deg/s, accelerometer raw * 2/32768 g, buttons mode, start, user). Axes are those of the robot's ``imu``;
ROBOTIS's reader turns the signs of x and y round, so the board seems to sit turned by half a turn, which is not
verified: it belongs in the robot's :class:`cadenza.robots.description.Imu`. As on the real board, Fast Sync Read,
Reboot and Factory Reset are unknown, and a write to a register that is read only is ignored, not refused.
"""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np

from cadenza.robots.hardware.emulators.dynamixel_packet import Failure
from cadenza.robots.hardware.emulators.dynamixel_table import BAUD
from cadenza.robots.hardware.emulators.gantry import free_base
from cadenza.robots.hardware.emulators.servo import ServoBank
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError

BUS_ID = 200
MODEL = 0x7400
_FIRMWARE = 2
_SIZE = 51
_WRITABLE = frozenset((3, 4, 5, 16, *range(18, 30), 50))
_EEPROM_END = 24
_GYRO_PER_RAD_S = math.degrees(1.0) * 32_800 / 2_000
_ACC_PER_G = 32_768 / 2
_GRAVITY = 9.81


class OpenCR:
    """The board, as a device of a :class:`DynamixelBus` and as firmware of a world.

    Args:
        world: with a plant that has an inertial unit.
        bank: the servos whose supply it switches; off until register 24 is 1.
        baud: code of its baud rate.
    """

    knows_fast = False
    secondary_id = 255

    def __init__(self, world: World, bank: ServoBank, baud: int = 4):
        self.world, self._bank = world, bank
        self._bytes = bytearray(_SIZE)
        self._bytes[0:6] = MODEL.to_bytes(2, "little") + bytes([_FIRMWARE, BUS_ID, baud, 0])
        self._bytes[16] = 2
        self.buttons = 0
        """Bits: 0 mode, 1 start, 2 user, 3 the one that takes the servos' power off."""
        self._fresh = -1
        self._base = free_base(world.plant)
        self._switch()

    # ------------------------------------------------------------------ the device

    @property
    def bus_id(self) -> int:
        return self._bytes[3]

    @property
    def baud(self) -> int:
        return BAUD.get(self._bytes[4], 1_000_000)

    @property
    def delay_s(self) -> float:
        return self._bytes[5] * 2e-6

    @property
    def answers(self) -> int:
        return self._bytes[16]

    @property
    def identity(self) -> bytes:
        return bytes(self._bytes[0:3])

    def awake(self) -> bool:
        return not self.world.faults.unplugged(self.bus_id, self.world.now_s)

    def alert(self) -> bool:
        return False

    def hear(self) -> None:
        pass

    def read(self, address: int, count: int) -> tuple[Failure, bytes]:
        if count == 0 or address + count > _SIZE:
            return Failure.LENGTH, b""
        self._measure()
        return Failure.NONE, bytes(self._bytes[address : address + count])

    def write(self, address: int, data: bytes) -> Failure:
        if address + len(data) > _SIZE:
            return Failure.LENGTH
        for i, value in enumerate(data):
            if address + i in _WRITABLE:
                self._bytes[address + i] = value
        self._switch()
        return Failure.NONE

    def register(self, address: int, data: bytes) -> Failure:
        return Failure.INSTRUCTION

    def action(self) -> Failure:
        return Failure.INSTRUCTION

    def clear(self, parameters: bytes) -> Failure:
        return Failure.INSTRUCTION

    def factory_reset(self, option: int) -> Failure:
        return Failure.INSTRUCTION

    def reboot(self) -> Failure:
        return Failure.INSTRUCTION

    def locked_for_secondary(self, address: int, count: int) -> bool:
        return True

    # ------------------------------------------------------------------ what it measures

    def _switch(self) -> None:
        self._bank.switched_on[:] = self._bytes[24] == 1
        if self._bytes[24] != 1:
            self._bank.cut[:] = True

    def _measure(self) -> None:
        if self._fresh == self.world.steps:
            return
        self._fresh = self.world.steps
        plant = self.world.plant
        gyro, gravity = plant.imu()
        raw_gyro = np.clip(np.round(gyro * _GYRO_PER_RAD_S), -32_768, 32_767)
        raw_acc = np.clip(np.round(self._acceleration_g(gravity) * _ACC_PER_G), -32_768, 32_767)
        roll = math.atan2(-gravity[1], -gravity[2])
        pitch = math.atan2(gravity[0], math.hypot(gravity[1], gravity[2]))
        angles = [math.degrees(a) * 10 for a in (roll, pitch, self._yaw())]
        values = [*raw_gyro.astype(int), *raw_acc.astype(int), *(int(a) for a in angles)]  # the firmware truncates
        for i, value in enumerate(values):
            self._bytes[32 + 2 * i : 34 + 2 * i] = (int(value) & 0xFFFF).to_bytes(2, "little")
        self._bytes[30] = self.buttons
        self._bytes[31] = int(min(max(round(float(self._bank.set_supply_v[0]) * 10), 0), 255))

    def _acceleration_g(self, gravity: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Specific force in the unit's axes; the base's acceleration is that of the last step, taken at its origin."""
        if self._base is None:
            return -gravity
        plant = self.world.plant
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, plant.data.qpos[self._base[0] + 3 : self._base[0] + 7])
        local = np.zeros(9)
        mujoco.mju_quat2Mat(local, plant.model.site_quat[plant.model.site("imu").id])
        in_base = rotation.reshape(3, 3).T @ plant.data.qacc[self._base[1] : self._base[1] + 3]
        moving = self.world.gantry is None or not self.world.gantry.holds
        return -gravity + (local.reshape(3, 3).T @ in_base / _GRAVITY if moving else 0.0)

    def _yaw(self) -> float:
        if self._base is None:
            return 0.0
        w, x, y, z = self.world.plant.data.qpos[self._base[0] + 3 : self._base[0] + 7]
        return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))

    # ------------------------------------------------------------------ firmware of the world

    def tick(self, now_s: float, dt_s: float) -> None:
        """Button 3 takes power off, as on the board."""
        if self.buttons & 8 and self._bytes[24]:
            self._bytes[24] = 0
            self._switch()

    def motors(self) -> list[dict[str, Any]]:
        """It has none."""
        return []

    def set_motor(self, bus_id: int, name: str, value: float) -> bool:
        """Buttons, as ``buttons`` of the board's id."""
        if bus_id != self.bus_id:
            return False
        if name != "buttons":
            raise HardwareError(f"The board has no {name!r} to set.", "There is: buttons.")
        self.buttons = int(value) & 0xF
        return True

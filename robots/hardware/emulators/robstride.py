"""``cadenza emulate robstride``: RobStride drives or CyberGears on a CAN bus, private frames, a codec of their own.

After the CyberGear's manual, section 4 (translation belovictor/cybergear-docs), and RobStride's program. Assumed, not
found written: a drive whose timeout (0x7028 or 0x200C, the same cell here) has run out goes to reset mode without a
fault bit and may be enabled again at once; a parameter that it does not have is answered with 1 in bits 16 to 23; it
answers commands in reset mode too. Only run_mode 0 moves the shaft.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.emulators.can_drives import (
    TICK_S,
    MitDrives,
    attach,
    build_world,
    from_code,
    given_ranges,
    to_code,
)
from cadenza.robots.hardware.emulators.can_wire import Datagram
from cadenza.robots.hardware.emulators.faults import Heard
from cadenza.robots.hardware.emulators.launch import Order
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.motors import MOTORS

USUAL_MOTOR = "RS-02"
RESET, RUN = 0, 2
LOW_SUPPLY, OVER_CURRENT, HOT, ENCODER, STALL = 1, 2, 4, 8, 16
"""Bits 16 to 20 of a feedback's id."""

_RANGES = {"RS-02": (44.0, 17.0, 500.0, 5.0), "CyberGear": (30.0, 12.0, 500.0, 5.0)}
"""Speed, torque, kp, kd: RobStride's sample program; the CyberGear's manual."""
_HOT_C = 80.0  # CyberGear manual, section 4.1.10
_RUN_MODE, _TORQUE, _POSITION, _VELOCITY, _SUPPLY = 0x7005, 0x700B, 0x7019, 0x701B, 0x701C
_TIMEOUTS = (0x7028, 0x200C)
_BYTES, _WORDS, _LONGS = (_RUN_MODE,), (0x701D,), _TIMEOUTS
_SETTABLE = (0x7005, 0x7006, 0x700A, 0x700B, 0x7010, 0x7011, 0x7014, 0x7016, 0x7017, 0x7018, 0x701E, 0x701F, 0x7020,
             *_TIMEOUTS)  # fmt: skip


class RobStrideDrives(MitDrives):
    """All RobStride drives of a world.

    Args:
        world: with the plant.
        rows: which of the plant's motors; None: all.
        ranges: p, v, t, kp, kd of all; None: by model.
    """

    def __init__(self, world: World, rows: Sequence[int] | None = None, ranges: Sequence[float] | None = None):
        super().__init__(world, rows)
        n = self.bank.n
        self.faults = np.zeros(n, dtype=np.int64)
        self.hosts: dict[int, int] = {}
        """Drive -> the host that it heard last: a command does not say where it is from."""
        self.ranges: list[tuple[float, float, float, float, float]] = []
        self.parameters: list[dict[int, float]] = []
        for row in self.bank.joints:
            motor = MOTORS[row.motor]
            v, t, kp, kd = _RANGES.get(row.motor, (1.5 * motor.no_load_speed_rad_s, motor.peak_torque_nm, 500.0, 5.0))
            p = 4 * math.pi
            if ranges is not None:
                p, v, t, kp, kd = ranges
            self.ranges.append((p, v, t, kp, kd))
            self.parameters.append(self._delivered(t, v))

    @staticmethod
    def _delivered(torque_nm: float, speed: float) -> dict[int, float]:
        return {
            0x7005: 0, 0x7006: 0.0, 0x700A: 0.0, 0x700B: torque_nm, 0x7010: 0.125, 0x7011: 0.0158, 0x7014: 0.1,
            0x7016: 0.0, 0x7017: speed, 0x7018: 23.0, 0x701A: 0.0, 0x701D: 0, 0x701E: 30.0, 0x701F: 1.0, 0x7020: 0.002,
            0x7028: 0,
        }  # fmt: skip

    # ------------------------------------------------------------------ what a drive does by itself

    def timeout_s(self) -> NDArray[np.float64]:
        return np.array([table[0x7028] for table in self.parameters]) * TICK_S

    def trip(self, index: int) -> None:
        """Reset mode is all there is to see."""

    def protect(self) -> None:
        bank = self.bank
        for index in range(bank.n):
            found = self._wrong(index)
            if self.on[index] and found:
                self.faults[index] |= found
                self.switch_off(index)

    def _wrong(self, index: int) -> int:
        bank, found = self.bank, 0
        if bank.supply_v[index] < self.stack_v[index][0]:
            found |= LOW_SUPPLY
        if bank.temperature_c[index] >= _HOT_C:
            found |= HOT
        if bank.overloaded[index]:
            found |= STALL if self.bank.joints[index].motor != "CyberGear" else OVER_CURRENT
        return found

    def restart(self, index: int) -> None:
        _, v, t, _, _ = self.ranges[index]
        self.parameters[index] = self._delivered(t, v)
        self.faults[index] = 0
        self.zero_rad[index] = 0.0  # a zero that was set is lost with the power
        self.switch_off(index)

    def more(self, index: int) -> dict[str, Any]:
        return {
            "mode": RUN if self.on[index] else RESET,
            "fault_bits": int(self.faults[index]),
            "registers": {f"{number:#06x}": float(value) for number, value in self.parameters[index].items()},
        }

    def tick(self, now_s: float, dt_s: float) -> None:
        super().tick(now_s, dt_s)
        limit = np.minimum(self.bank.stall_nm, [table[_TORQUE] for table in self.parameters])
        self.world.plant.limit_nm[self.bank.rows] = limit

    # ------------------------------------------------------------------ frames

    def answer(self, frame: Datagram, heard: Heard) -> list[tuple[Datagram, int]]:
        if not frame.extended:
            return []
        kind, middle, number = frame.id >> 24, frame.id >> 8 & 0xFFFF, frame.id & 0xFF
        index = self.index_of(number)
        if index is None or not heard.reaches(number):
            return []
        self.heard_s[index] = self.world.now_s
        host = middle & 0xFF
        if kind == 1:
            if self.on[index] and self.parameters[index][_RUN_MODE] == 0 and len(frame.data) == 8:
                self.goal[:, index] = self._unpack(index, middle, frame.data)
            host = self.hosts.get(index, 0)
        else:
            self.hosts[index] = host
        if kind == 0:
            return [(Datagram(number << 8 | 0xFE, self._unique(index), True), number)]
        if kind == 17:
            return [(self._parameter(index, host, frame.data), number)]
        if kind == 7:
            self.bank.bus_ids[index] = middle >> 8
            return [(Datagram(middle >> 8 << 8 | 0xFE, self._unique(index), True), middle >> 8)]
        if kind == 3 and not self.faults[index]:
            self.switch_on(index)
        elif kind == 4:
            self.switch_off(index)
            if frame.data[:1] == b"\1":
                self.bank.overload_s[index] = 0.0
                self.faults[index] = self._wrong(index)
        elif kind == 6 and frame.data[:1] == b"\1" and not self.on[index]:
            self.zero_rad[index] = self.bank.measured_rad()[index]
        elif kind == 18:
            self._set(index, frame.data)
        elif kind not in (1, 3, 6):
            return []
        return [(self._feedback(index, host), number)]

    def _unpack(self, index: int, torque: int, data: bytes) -> tuple[float, float, float, float, float]:
        p, v, t, kp, kd = self.ranges[index]
        codes = struct.unpack(">HHHH", data)
        return (
            from_code(codes[0], -p, p, 16),
            from_code(codes[1], -v, v, 16),
            from_code(codes[2], 0.0, kp, 16),
            from_code(codes[3], 0.0, kd, 16),
            from_code(torque, -t, t, 16),
        )

    def _feedback(self, index: int, host: int) -> Datagram:
        bank, (p, v, t, _, _) = self.bank, self.ranges[index]
        torque = float(bank.torque_nm[index]) if self.on[index] else 0.0
        status = (RUN if self.on[index] else RESET) << 22 | int(self.faults[index]) << 16
        data = struct.pack(
            ">HHHh", to_code(self.angle(index), -p, p, 16), to_code(float(bank.measured_rad_s()[index]), -v, v, 16),
            to_code(torque, -t, t, 16), round(float(bank.temperature_c[index]) * 10),
        )  # fmt: skip
        return Datagram(2 << 24 | status | bank.bus_ids[index] << 8 | host, data, True)

    def _unique(self, index: int) -> bytes:
        return b"CADZ" + (1000 + index).to_bytes(4, "big")

    # ------------------------------------------------------------------ parameters

    def _parameter(self, index: int, host: int, data: bytes) -> Datagram:
        number = int.from_bytes(data[:2], "little")
        cell = _TIMEOUTS[0] if number in _TIMEOUTS else number
        live = {
            _POSITION: self.angle(index),
            _VELOCITY: float(self.bank.measured_rad_s()[index]),
            _SUPPLY: float(self.bank.supply_v[index]),
        }
        value = live.get(cell, self.parameters[index].get(cell))
        status = 1 if value is None else 0
        kept = bytes(4) if value is None else self._bytes(number, value)
        return Datagram(
            17 << 24 | status << 16 | self.bank.bus_ids[index] << 8 | host, data[:2] + bytes(2) + kept, True
        )

    @staticmethod
    def _bytes(number: int, value: float) -> bytes:
        if number in _BYTES:
            return struct.pack("<B3x", int(value))
        if number in _WORDS:
            return struct.pack("<h2x", int(value))
        if number in _LONGS:
            return struct.pack("<I", int(value))
        return struct.pack("<f", value)

    def _set(self, index: int, data: bytes) -> None:
        number = int.from_bytes(data[:2], "little")
        if number not in _SETTABLE or len(data) != 8:
            return
        if number in _BYTES:
            value = float(data[4])
            if value > 3 or self.on[index]:  # "the control mode cannot be switched while the joint is running"
                return
        elif number in _LONGS:
            value = float(int.from_bytes(data[4:], "little"))
            number = _TIMEOUTS[0]
        else:
            value = float(struct.unpack("<f", data[4:])[0])
        highest = {_TORQUE: self.ranges[index][2]}.get(number, math.inf)
        if math.isfinite(value) and 0.0 <= value <= highest:
            self.parameters[index][number] = value


def build(order: Order) -> World:
    """The world that is ordered. ``order.more`` may hold ``ranges``: p, v, t, kp, kd of all drives.

    Raises:
        HardwareError: ids that do not exist, or something unknown in ``more``.
    """
    ranges = given_ranges(order, 5)
    world = build_world(order, USUAL_MOTOR)
    ids = [row.bus_id for row in world.plant.joints]
    if max(ids) > 127 or min(ids) < 1:
        raise HardwareError(f"RobStride drives have ids from 1 to 127, not {max(ids)}.", "--ids 1 2 3")
    drives = RobStrideDrives(world, ranges=ranges)
    return attach(world, drives, order)

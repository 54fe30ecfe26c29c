"""``cadenza emulate damiao``: Damiao drives on a CAN bus, with a codec of their own; see launch.py.

Frames as in the manual of the DM-J4310-2EC and in the documentation of damiao-motor (communication-protocol): a command
has the drive's ESC_ID, its answer the drive's MST_ID; registers go over 0x7FF. One answer to each frame, none unasked
(OpenArm, "Damiao motor CAN communication"). Assumed, not found written: a tripped watchdog leaves torque off, state D;
clearing (FB) leads to state 0; FC is refused in a fault; what is written lasts until a restart unless stored (AA); the
winding's limit OT_Value is also the bridge's. Only MIT mode (CTRL_MODE 1) moves the shaft.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.can_motors import GEAR_RATIOS
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

USUAL_MOTOR = "DM4310"
OFF, ON, OVER_VOLTAGE, UNDER_VOLTAGE, HOT_BRIDGE, HOT_WINDING, LOST, OVERLOADED = 0, 1, 8, 9, 0xB, 0xC, 0xD, 0xE
"""States."""

_RANGES = {"DM4310": (12.5, 30.0, 10.0), "DM4340": (12.5, 8.0, 28.0)}
"""PMAX, VMAX, TMAX as delivered: Seeed Studio's table of the 43 series."""
_WHOLE_NUMBERS = (7, 8, 9, 10, 13, 14, 15, 16, 35, 36)
_READ_ONLY = (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 36, 60, 61, 62, 80, 81)
_FIRMWARE = 5015
_ORDERS = {0xFC: "enable", 0xFD: "disable", 0xFE: "zero", 0xFB: "clear"}


class DamiaoDrives(MitDrives):
    """All Damiao drives of a world.

    Args:
        world: with the plant.
        rows: which of the plant's motors; None: all.
        ranges: PMAX, VMAX, TMAX of all; None: as delivered.
    """

    def __init__(self, world: World, rows: Sequence[int] | None = None, ranges: Sequence[float] | None = None):
        super().__init__(world, rows)
        self.state = np.zeros(self.bank.n, dtype=np.int64)
        self.stored: list[dict[int, float]] = []
        for index, row in enumerate(self.bank.joints):
            motor = MOTORS[row.motor]
            p, v, t = ranges or _RANGES.get(row.motor, (12.5, 1.5 * motor.no_load_speed_rad_s, motor.peak_torque_nm))
            low, high = motor.voltage_range_v
            ratio = GEAR_RATIOS.get(row.motor, 1.0)
            self.stored.append({
                0: low, 1: 0.0, 2: 100.0, 3: 0.9, 4: 10.0, 5: -10.0, 6: motor.no_load_speed_rad_s,
                7: row.bus_id + 0x10, 8: row.bus_id, 9: 0, 10: 1, 11: 1e-4, 12: row.armature / ratio**2, 13: 1,
                14: _FIRMWARE, 15: 4310_000 + index, 16: 14, 17: 0.85, 18: 3.45e-4, 19: 4.5e-3, 20: ratio, 21: p, 22: v,
                23: t, 24: 1000.0, 25: 3.7e-4, 26: 0.002, 27: 50.0, 28: 0.0, 29: high, 30: 1.0, 31: 4.0, 32: 200.0,
                33: 1000.0, 34: 100.0, 35: 4, 36: 1, 50: 0.0, 51: 0.0, 52: 0.0, 53: 0.0, 54: 0.0, 55: 1.0, 56: 0.0,
                59: 10.26, 63: 0.0, 64: 0.0, 65: 0.0,
            })  # fmt: skip
        self.registers = [dict(table) for table in self.stored]

    # ------------------------------------------------------------------ what a drive does by itself

    def timeout_s(self) -> NDArray[np.float64]:
        return np.array([table[9] for table in self.registers]) * TICK_S

    def trip(self, index: int) -> None:
        self.state[index] = LOST

    def protect(self) -> None:
        bank = self.bank
        for index in np.flatnonzero(self.on):
            table = self.registers[index]
            found = OFF
            if bank.supply_v[index] > table[29]:
                found = OVER_VOLTAGE
            elif bank.supply_v[index] < table[0]:
                found = UNDER_VOLTAGE
            elif bank.temperature_c[index] >= table[2]:
                found = HOT_WINDING
            elif bank.overloaded[index]:
                found = OVERLOADED
            if found:
                self.switch_off(int(index))
                self.state[index] = found

    def restart(self, index: int) -> None:
        self.registers[index] = dict(self.stored[index])
        self.switch_off(index)
        self.state[index] = OFF
        self.bank.bus_ids[index] = int(self.registers[index][8])

    def more(self, index: int) -> dict[str, Any]:
        return {
            "state": int(self.state[index]),
            "registers": {str(number): float(value) for number, value in self.registers[index].items()},
        }

    # ------------------------------------------------------------------ frames

    def answer(self, frame: Datagram, heard: Heard) -> list[tuple[Datagram, int]]:
        if frame.extended or len(frame.data) != 8:
            return []
        if frame.id == 0x7FF:
            number = frame.data[0] | frame.data[1] << 8
            index = self.index_of(number)
            if index is None or not heard.reaches(number):
                return []
            self.heard_s[index] = self.world.now_s
            return [(reply, number) for reply in self._register(index, frame.data)]
        index = self.index_of(frame.id)
        if index is None or not heard.reaches(frame.id):
            return []  # modes 2 to 4 listen at 0x100, 0x200 and 0x300 above the id; a drive in MIT mode does not
        self.heard_s[index] = self.world.now_s
        if frame.data[:7] == b"\xff" * 7 and frame.data[7] in _ORDERS:
            getattr(self, f"_{_ORDERS[frame.data[7]]}")(index)
        elif self.state[index] == ON and self.registers[index][10] == 1:
            self.goal[:, index] = self._unpack(index, frame.data)
        return [(self._feedback(index), frame.id)]

    def _unpack(self, index: int, data: bytes) -> tuple[float, float, float, float, float]:
        word = int.from_bytes(data, "big")  # 16 bits of p, then 12 each of v, kp, kd, t
        p, v, t = (self.registers[index][number] for number in (21, 22, 23))
        return (
            from_code(word >> 48, -p, p, 16),
            from_code(word >> 36 & 0xFFF, -v, v, 12),
            from_code(word >> 24 & 0xFFF, 0.0, 500.0, 12),
            from_code(word >> 12 & 0xFFF, 0.0, 5.0, 12),
            from_code(word & 0xFFF, -t, t, 12),
        )

    def _feedback(self, index: int) -> Datagram:
        table, bank = self.registers[index], self.bank
        torque = float(bank.torque_nm[index]) if self.on[index] else 0.0
        word = (int(self.state[index]) << 4 | int(table[8]) & 0xF) << 40
        word |= to_code(self.angle(index), -table[21], table[21], 16) << 24
        word |= to_code(float(bank.measured_rad_s()[index]), -table[22], table[22], 12) << 12
        word |= to_code(torque, -table[23], table[23], 12)
        heat = max(0, min(255, round(float(bank.temperature_c[index]))))
        return Datagram(int(table[7]), word.to_bytes(6, "big") + bytes((heat, heat)))

    def _enable(self, index: int) -> None:
        if self.state[index] == OFF:
            self.state[index] = ON
            self.switch_on(index)

    def _disable(self, index: int) -> None:
        self.switch_off(index)
        if self.state[index] == ON:
            self.state[index] = OFF

    def _zero(self, index: int) -> None:
        if self.state[index] == OFF:
            self.zero_rad[index] = self.bank.measured_rad()[index]

    def _clear(self, index: int) -> None:
        if self.state[index] not in (OFF, ON):
            self.state[index] = OFF
            self.bank.overload_s[index] = 0.0
            self._still_wrong(index)

    def _still_wrong(self, index: int) -> None:
        """A cause that has not gone puts the drive back into its fault at once."""
        table, bank = self.registers[index], self.bank
        if bank.temperature_c[index] >= table[2]:
            self.state[index] = HOT_WINDING
        elif not table[0] <= bank.supply_v[index] <= table[29]:
            self.state[index] = UNDER_VOLTAGE if bank.supply_v[index] < table[0] else OVER_VOLTAGE

    # ------------------------------------------------------------------ registers

    def _register(self, index: int, data: bytes) -> list[Datagram]:
        table = self.registers[index]
        master, what, number = int(table[7]), data[2], data[3]
        if what == 0xCC:
            return [self._feedback(index)]
        if what == 0xAA:
            if self.state[index] != ON:
                self.stored[index] = dict(table)
            return [Datagram(master, data[:2] + bytes((0xAA, 1)) + bytes(4))]
        live = self._live(index)
        if what not in (0x33, 0x55) or (number not in table and number not in live):
            return []
        if what == 0x55 and number not in _READ_ONLY and number in table:
            value = self._number(number, data[4:])
            if self._allowed(index, number, value):
                table[number] = value
                if number == 8:
                    self.bank.bus_ids[index] = int(value)
        now = live.get(number, table.get(number, 0.0))
        kept = struct.pack("<I", int(now)) if number in _WHOLE_NUMBERS else struct.pack("<f", now)
        return [Datagram(master, data[:4] + kept)]

    def _live(self, index: int) -> dict[int, float]:
        bank = self.bank
        heat, angle = float(bank.temperature_c[index]), self.angle(index)
        return {60: float(bank.supply_v[index]), 61: heat, 62: heat, 80: angle, 81: angle}

    @staticmethod
    def _number(number: int, data: bytes) -> float:
        return float(struct.unpack("<I" if number in _WHOLE_NUMBERS else "<f", data)[0])

    def _allowed(self, index: int, number: int, value: float) -> bool:
        if not np.isfinite(value) or (self.state[index] == ON and number in (7, 8, 10, 21, 22, 23, 35)):
            return False
        bounds = {7: (0, 0x7FF), 8: (0, 0x7FF), 10: (1, 4), 21: (1e-6, np.inf), 22: (1e-6, np.inf), 23: (1e-6, np.inf),
                  35: (0, 9)}  # fmt: skip
        low, high = bounds.get(number, (-np.inf, np.inf))
        return bool(low <= value <= high)


def build(order: Order) -> World:
    """The world that is ordered. ``order.more`` may hold ``ranges``: PMAX, VMAX and TMAX of all drives.

    Raises:
        HardwareError: ids that alias, or something unknown in ``more``.
    """
    ranges = given_ranges(order, 3)
    world = build_world(order, USUAL_MOTOR)
    ids = [row.bus_id for row in world.plant.joints]
    if max(ids) > 15 or min(ids) < 1:
        raise HardwareError(
            f"Damiao drives on one bus have ids from 1 to 15, not {max(ids)}: their feedback has four bits for it.",
            "Emulate a bench (--ids 1 2 3) or one joint (--joint).",
        )
    drives = DamiaoDrives(world, ranges=ranges)
    return attach(world, drives, order)

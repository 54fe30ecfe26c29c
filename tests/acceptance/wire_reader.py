"""Reads what went over an emulated wire, without a line of the drivers' or the emulators' codecs.

Written from the makers' manuals a third time, so that a mistake which driver and emulator share would show here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.limits import JointLimits

TICK_RAD = 2 * math.pi / 4096
TORQUE_ENABLE, BUS_WATCHDOG, GOAL_POSITION = 64, 98, 116
_WRITE, _REG_WRITE, _REBOOT, _SYNC_WRITE, _BULK_WRITE = 0x03, 0x04, 0x08, 0x83, 0x93


def crc16(data: bytes) -> int:
    """ROBOTIS e-manual, "CRC calculation": polynomial x^16 + x^15 + x^2 + 1, bit by bit."""
    value = 0
    for byte in data:
        for bit in range(7, -1, -1):
            top = value >> 15 ^ byte >> bit & 1
            value = value << 1 & 0xFFFF
            if top:
                value ^= 0x8005
    return value


def packet(bus_id: int, instruction: int, parameters: bytes = b"") -> bytes:
    """A packet of protocol 2.0, stuffed, with its checksum."""
    body = bytearray()
    for byte in (instruction, *parameters):
        body.append(byte)
        if body[-3:] == b"\xff\xff\xfd":
            body.append(0xFD)
    whole = b"\xff\xff\xfd\x00" + bytes([bus_id]) + (len(body) + 2).to_bytes(2, "little") + bytes(body)
    return whole + crc16(whole).to_bytes(2, "little")


def packets(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Id, instruction and parameters of each whole packet whose checksum is right; the rest is passed over."""
    at = stream.find(b"\xff\xff\xfd\x00")
    while at >= 0 and len(stream) - at >= 10:
        end = at + 7 + int.from_bytes(stream[at + 5 : at + 7], "little")
        whole = stream[at:end]
        good = 10 <= len(whole) == end - at and crc16(whole[:-2]) == int.from_bytes(whole[-2:], "little")
        if good:
            body = whole[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            yield whole[4], body[0], body[1:]
        at = stream.find(b"\xff\xff\xfd\x00", end if good else at + 4)


@dataclass(frozen=True)
class Written:
    """A register, or several that follow each other, that the host wrote to one motor."""

    at_s: float
    """Emulated time."""
    bus_id: int
    address: int
    data: bytes

    def value(self, address: int, size: int) -> int | None:
        """Signed content of one register, where this write covers it."""
        start = address - self.address
        if start < 0 or start + size > len(self.data):
            return None
        return int.from_bytes(self.data[start : start + size], "little", signed=True)


def written(entries: Iterable[dict[str, Any]]) -> list[Written]:
    """All register writes in an emulator's log (``EmulatorControl.log``), a reboot as torque off."""
    found: list[Written] = []
    for entry in entries:
        if entry["way"] != "in":
            continue
        at_s = entry["at_s"]
        for bus_id, do, data in packets(entry["data"]):
            if do in (_WRITE, _REG_WRITE):
                found.append(Written(at_s, bus_id, int.from_bytes(data[:2], "little"), data[2:]))
            elif do == _REBOOT:
                found.append(Written(at_s, bus_id, TORQUE_ENABLE, b"\0"))
            elif do == _SYNC_WRITE:
                address, size = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
                found += [
                    Written(at_s, data[at], address, data[at + 1 : at + 1 + size])
                    for at in range(4, len(data), size + 1)
                ]
            elif do == _BULK_WRITE:
                at = 0
                while at < len(data):
                    size = int.from_bytes(data[at + 3 : at + 5], "little")
                    address = int.from_bytes(data[at + 1 : at + 3], "little")
                    found.append(Written(at_s, data[at], address, data[at + 5 : at + 5 + size]))
                    at += 5 + size
    return found


def of_register(writes: Sequence[Written], address: int, size: int) -> list[tuple[float, int, int]]:
    """(emulated time, bus id, value) of every write to one register."""
    found = []
    for write in writes:
        value = write.value(address, size)
        if value is not None:
            found.append((write.at_s, write.bus_id, value))
    return found


@dataclass
class Traffic:
    """What a log of a DYNAMIXEL bus was found to hold."""

    goals: int = 0
    """With torque on."""
    largest_step_ticks: int = 0
    switched_on: int = 0


def check_goals(entries: Iterable[dict[str, Any]], robot: LeggedRobot, period_s: float = 0.02) -> Traffic:
    """Assert that no goal on the wire was beyond a joint's limits, nor farther from the one before than slew allows.

    With torque off a goal may be put anywhere inside the limits; the first one under torque is counted from it. A step
    may be longer by one encoder count, which is what rounding two targets does.
    """
    rows = {row.bus_id: row for row in robot.joints}
    limits = JointLimits.for_robot(robot)
    most = {
        row.bus_id: math.floor(float(slew) * period_s / TICK_RAD) + 1
        for row, slew in zip(robot.joints, limits.slew_rad_s, strict=True)
    }
    traffic = Traffic()
    last: dict[int, int] = {}
    on: set[int] = set()
    for write in written(entries):
        torque = write.value(TORQUE_ENABLE, 1)
        if torque is not None and write.bus_id in rows:
            traffic.switched_on += torque == 1 and write.bus_id not in on
            (on.add if torque else on.discard)(write.bus_id)
        goal = write.value(GOAL_POSITION, 4)
        if goal is None:
            continue
        row = rows[write.bus_id]
        low, high = (2048 + (angle - row.zero_rad) * row.sign / TICK_RAD for angle in row.limits_rad)
        low, high = min(low, high), max(low, high)
        assert math.ceil(low) <= goal <= math.floor(high), f"{row.name}: goal {goal} of {low:.1f} to {high:.1f}"
        if write.bus_id in on:
            step = abs(goal - last[write.bus_id])
            assert step <= most[write.bus_id], f"{row.name}: a step of {step} at {write.at_s:.3f} s"
            traffic.largest_step_ticks = max(traffic.largest_step_ticks, step)
            traffic.goals += 1
        last[write.bus_id] = goal
    return traffic


def damiao_commands(entries: Iterable[dict[str, Any]], ids: Sequence[int]) -> list[tuple[float, int, list[int]]]:
    """(emulated time, motor, codes p v kp kd t) of every MIT command in a log of a CAN bus; enables and the like apart.

    The log has the identifier in four bytes before the data. Layout: DM-J4310-2EC manual, MIT mode.
    """
    found = []
    for entry in entries:
        number, data = int.from_bytes(entry["data"][:4], "big"), entry["data"][4:]
        if entry["way"] == "in" and number in ids and len(data) == 8 and data[:7] != b"\xff" * 7:
            word = int.from_bytes(data, "big")
            widths = (16, 12, 12, 12, 12)
            starts = np.cumsum((0, *widths))[:-1]
            codes = [word >> (64 - int(s) - w) & (1 << w) - 1 for s, w in zip(starts, widths, strict=True)]
            found.append((entry["at_s"], number, codes))
    return found

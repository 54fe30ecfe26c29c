"""The registers of one emulated DYNAMIXEL: bytes, what may be written when, and indirect addresses."""

from __future__ import annotations

from functools import cache

from cadenza.robots.hardware.emulators.dynamixel_packet import Failure
from cadenza.robots.hardware.emulators.dynamixel_table import EEPROM_END, Model, Register, model_named


class Layout:
    """Where a model's registers lie.

    Args:
        model: whose table.
    """

    def __init__(self, model: Model):
        rows = list(model.registers)
        for addresses, data, count in model.indirect:
            last = max(first + blocks for _, first, blocks in model.indirect) - 1
            for i in range(count):
                rows.append(
                    Register(f"indirect_address_{addresses + 2 * i}", addresses + 2 * i, 2, True, data + i, 64, last)
                )
                rows.append(Register(f"indirect_data_{data + i}", data + i, 1, True, 0, 0, 255))
        self.size = max(row.address + row.size for row in rows)
        self.rows = {row.name: row for row in rows}
        self.starts = {row.address: row for row in rows}
        self.defined = bytearray(self.size)
        for row in rows:
            self.defined[row.address : row.address + row.size] = b"\1" * row.size
        self.pointers = {data + i: addresses + 2 * i for addresses, data, count in model.indirect for i in range(count)}
        """Address of indirect data -> of the register that says where it really lies."""


@cache
def layout(name: str) -> Layout:
    """That of a model by name."""
    return Layout(model_named(name))


class Memory:
    """Registers of one servo.

    Args:
        model: whose table; all registers start as delivered.
    """

    def __init__(self, model: Model):
        self.model = model
        self._layout = layout(model.name)
        self.bytes = bytearray(self._layout.size)
        for row in self._layout.rows.values():
            self.set(row.name, row.initial)
        self.set("model_number", model.number)
        self.set("firmware_version", model.firmware)

    def has(self, name: str) -> bool:
        """Whether the model has such a register."""
        return name in self._layout.rows

    def get(self, name: str) -> int:
        """A register's value."""
        row = self._layout.rows[name]
        return int.from_bytes(self.bytes[row.address : row.address + row.size], "little", signed=row.signed)

    def set(self, name: str, value: int) -> None:
        """Put a value there without any check; it wraps to the register's size."""
        row = self._layout.rows[name]
        wrapped = int(value) & ((1 << 8 * row.size) - 1)
        self.bytes[row.address : row.address + row.size] = wrapped.to_bytes(row.size, "little")

    def initial(self, name: str) -> int:
        """As delivered."""
        return self._layout.rows[name].initial

    def restart(self) -> None:
        """RAM as after power-on; EEPROM stays."""
        for row in self._layout.rows.values():
            if not row.eeprom:
                self.set(row.name, row.initial)

    def reset(self, keep: tuple[str, ...]) -> None:
        """EEPROM and RAM as delivered, but for registers to ``keep``."""
        kept = {name: self.get(name) for name in keep}
        for row in self._layout.rows.values():
            if row.writable:
                self.set(row.name, row.initial)
        for name, value in kept.items():
            self.set(name, value)

    # ------------------------------------------------------------------ as the wire sees them

    def read(self, address: int, count: int) -> tuple[Failure, bytes]:
        """Bytes from an address on, through indirect addresses; gaps between registers read as 0."""
        plan = self._layout
        if count == 0 or address + count > plan.size or not any(plan.defined[address : address + count]):
            return Failure.ACCESS, b""
        if not any(address < data + blocks and data < address + count for _, data, blocks in self.model.indirect):
            return Failure.NONE, bytes(self.bytes[address : address + count])
        return Failure.NONE, bytes(self.bytes[self._real(address + i)] for i in range(count))

    def plan_write(self, address: int, data: bytes, torque: bool) -> tuple[Failure, list[tuple[Register, int]]]:
        """What a write would change, nothing of which is done if a part of it is refused.

        Args:
            address: of the first byte; indirect data stand for what they point to.
            data: bytes.
            torque: whether torque is on, which locks EEPROM.
        """
        plan = self._layout
        if not data or address + len(data) > plan.size:
            return Failure.ACCESS, []
        where = [self._real(address + i) for i in range(len(data))]
        found: list[tuple[Register, int]] = []
        i = 0
        while i < len(where):
            row = plan.starts.get(where[i])
            if row is None:
                return (Failure.LENGTH if plan.defined[where[i]] else Failure.ACCESS), []
            if where[i : i + row.size] != list(range(row.address, row.address + row.size)):
                return Failure.LENGTH, []
            value = int.from_bytes(data[i : i + row.size], "little", signed=row.signed)
            if not row.writable or (row.eeprom and torque):
                return Failure.ACCESS, []
            if not row.low <= value <= row.high:
                return Failure.RANGE, []
            found.append((row, value))
            i += row.size
        return Failure.NONE, found

    def touches_eeprom(self, address: int, count: int) -> bool:
        """Whether any of these bytes is kept without power."""
        return any(self._real(address + i) < EEPROM_END for i in range(min(count, self._layout.size - address)))

    def _real(self, address: int) -> int:
        pointer = self._layout.pointers.get(address)
        if pointer is None:
            return address
        target = int.from_bytes(self.bytes[pointer : pointer + 2], "little")
        # One that points at indirect data is followed once, so that none can chase its own tail.
        return target if target < self._layout.size else address

"""Memory of an emulated STS3215: which bytes there are, what they hold from the factory, what they take.

Made from the copies of Feetech's memory table at wiki.aifitlab.com and wiki.juxitech.com; shares nothing with the
driver's table, so that a mistake in one shows against the other. Where they are silent, these are assumptions: a byte
that cannot be written is left as it is and a value out of range is not taken, both without an error; a write to EEPROM
with the lock closed counts until power-off (Feetech's protocol, section 4.3, says so of the id); the lock is closed
after power-on.
"""

from __future__ import annotations

from dataclasses import dataclass

SIZE = 128
EEPROM_END = 40
"""First address of RAM."""

BAUD = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
"""Code in byte 6 -> bit/s, by Feetech's table (others read codes 5 to 7 differently)."""


@dataclass(frozen=True)
class Cell:
    """One value in memory, low byte first."""

    address: int
    size: int
    factory: int
    """As stored, sign bit included."""
    top: int | None = None
    """Greatest magnitude it takes; None: read only."""
    sign: int | None = None
    """Bit of the sign."""
    bottom: int = 0
    """Least magnitude."""

    @property
    def end(self) -> int:
        """Address behind it."""
        return self.address + self.size

    def takes(self, raw: int) -> bool:
        """Whether that may be stored."""
        if self.top is None:
            return False
        magnitude = raw if self.sign is None else raw & ~(1 << self.sign)
        return self.bottom <= magnitude <= self.top


CELLS: dict[str, Cell] = {
    "FIRMWARE_MAIN": Cell(0, 1, 3),
    "FIRMWARE_SUB": Cell(1, 1, 10),
    "SERVO_MAIN": Cell(3, 1, 9),
    "SERVO_SUB": Cell(4, 1, 3),
    "ID": Cell(5, 1, 1, 253),
    "BAUD": Cell(6, 1, 0, 7),
    "DELAY": Cell(7, 1, 0, 254),
    "RESPONSE": Cell(8, 1, 1, 1),
    "ANGLE_MIN": Cell(9, 2, 0, 4094),
    "ANGLE_MAX": Cell(11, 2, 4095, 4095),
    "TEMPERATURE_MAX": Cell(13, 1, 70, 100),
    "VOLTAGE_MAX": Cell(14, 1, 80, 254),
    "VOLTAGE_MIN": Cell(15, 1, 40, 254),
    "TORQUE_MAX": Cell(16, 2, 1000, 1000),
    "PHASE": Cell(18, 1, 12, 254),
    "UNLOAD": Cell(19, 1, 44, 254),
    "LED": Cell(20, 1, 47, 254),
    "P": Cell(21, 1, 32, 254),
    "D": Cell(22, 1, 32, 254),
    "I": Cell(23, 1, 0, 254),
    "START_FORCE": Cell(24, 2, 16, 1000),
    "DEAD_CW": Cell(26, 1, 1, 32),
    "DEAD_CCW": Cell(27, 1, 1, 32),
    "CURRENT_MAX": Cell(28, 2, 500, 511),
    "RESOLUTION": Cell(30, 1, 1, 100, bottom=1),
    "OFFSET": Cell(31, 2, 0, 2047, sign=11),
    "MODE": Cell(33, 1, 0, 3),
    "PROTECT_TORQUE": Cell(34, 1, 20, 254),
    "PROTECT_TIME": Cell(35, 1, 200, 254),
    "OVERLOAD_TORQUE": Cell(36, 1, 80, 254),
    "SPEED_P": Cell(37, 1, 10, 254),
    "OVERCURRENT_TIME": Cell(38, 1, 200, 254),
    "SPEED_I": Cell(39, 1, 10, 254),
    "TORQUE": Cell(40, 1, 0, 128),
    "ACCELERATION": Cell(41, 1, 0, 254),
    "GOAL": Cell(42, 2, 0, 32766, sign=15),
    "TIME": Cell(44, 2, 0, 0xFFFF),
    "SPEED": Cell(46, 2, 0, 32766, sign=15),
    "TORQUE_LIMIT": Cell(48, 2, 1000, 1000),
    "LOCK": Cell(55, 1, 1, 1),
    "NOW_POSITION": Cell(56, 2, 0, sign=15),
    "NOW_SPEED": Cell(58, 2, 0, sign=15),
    "NOW_LOAD": Cell(60, 2, 0, sign=10),
    "NOW_VOLTAGE": Cell(62, 1, 0),
    "NOW_TEMPERATURE": Cell(63, 1, 0),
    "PENDING": Cell(64, 1, 0),
    "STATUS": Cell(65, 1, 0),
    "MOVING": Cell(66, 1, 0),
    "NOW_CURRENT": Cell(69, 2, 0, sign=15),
}


class Memory:
    """Of one servo: what counts now, and what of it survives power-off."""

    def __init__(self) -> None:
        self.now = bytearray(SIZE)
        for cell in CELLS.values():
            self.now[cell.address : cell.end] = cell.factory.to_bytes(cell.size, "little")
        self.kept = bytearray(self.now[:EEPROM_END])

    def get(self, name: str) -> int:
        """A value with its sign."""
        cell = CELLS[name]
        raw = int.from_bytes(self.now[cell.address : cell.end], "little")
        if cell.sign is None:
            return raw
        magnitude = raw & ((1 << cell.sign) - 1)
        return -magnitude if raw & 1 << cell.sign else magnitude

    def put(self, name: str, value: int, *, keep: bool = False) -> None:
        """Store without asking whether it may be written; a magnitude too great for its bits is cut to the greatest."""
        cell = CELLS[name]
        bits = 8 * cell.size if cell.sign is None else cell.sign
        raw = min(abs(value), (1 << bits) - 1)
        if value < 0 and cell.sign is not None:
            raw |= 1 << cell.sign
        data = raw.to_bytes(cell.size, "little")
        self.now[cell.address : cell.end] = data
        if keep and cell.end <= EEPROM_END:
            self.kept[cell.address : cell.end] = data

    def read(self, address: int, size: int) -> bytes:
        """Bytes; 0 beyond the end."""
        return bytes(self.now[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> list[str]:
        """What the bus may write; names of the values that were taken."""
        unlocked = self.now[CELLS["LOCK"].address] == 0
        taken = []
        for name, cell in CELLS.items():
            low, high = max(cell.address, address), min(cell.end, address + len(data))
            if low >= high:
                continue
            old = bytes(self.now[cell.address : cell.end])
            new = bytearray(old)
            new[low - cell.address : high - cell.address] = data[low - address : high - address]
            if not cell.takes(int.from_bytes(new, "little")):
                continue
            self.now[cell.address : cell.end] = new
            if unlocked and cell.end <= EEPROM_END:
                self.kept[cell.address : cell.end] = new
            taken.append(name)
        return taken

    def restart(self) -> None:
        """Power off and on."""
        self.now[:EEPROM_END] = self.kept
        for cell in CELLS.values():
            if cell.address >= EEPROM_END:
                self.now[cell.address : cell.end] = cell.factory.to_bytes(cell.size, "little")
        self.put("TORQUE_LIMIT", self.get("TORQUE_MAX"))

    def recover(self) -> None:
        """Factory values of all EEPROM but the id."""
        number, model = self.get("ID"), self.read(3, 2)
        for cell in CELLS.values():
            if cell.end <= EEPROM_END:
                self.now[cell.address : cell.end] = cell.factory.to_bytes(cell.size, "little")
        self.now[3:5] = model
        self.put("ID", number)
        self.kept = bytearray(self.now[:EEPROM_END])

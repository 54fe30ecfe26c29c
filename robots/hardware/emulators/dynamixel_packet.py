"""DYNAMIXEL protocol 2.0 as a device speaks it: checksum, byte stuffing, packets. Shares nothing with any driver.

Source: ROBOTIS e-manual, "Protocol 2.0" and "CRC calculation". A packet is ``FF FF FD 00 | id | length(2) |
instruction | parameters | crc(2)``, length counting everything behind itself, all numbers little endian. Inside
instruction and parameters every ``FF FF FD`` is sent as ``FF FF FD FD``; length and CRC are of the stuffed bytes. Only
the replies to Fast Sync Read and Fast Bulk Read are not stuffed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
MOST_BYTES = 2048
"""A longer packet is nonsense; its header is skipped. Assumed: the e-manual names no receive buffer."""
_POLYNOMIAL = 0x8005


class Instruction(IntEnum):
    """What a packet asks for."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    FACTORY_RESET = 0x06
    REBOOT = 0x08
    CLEAR = 0x10
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    BULK_READ = 0x92
    BULK_WRITE = 0x93
    FAST_BULK_READ = 0x9A


class Failure(IntEnum):
    """Low seven bits of a status packet's error byte."""

    NONE = 0
    RESULT = 1
    INSTRUCTION = 2
    CRC = 3
    RANGE = 4
    LENGTH = 5
    LIMIT = 6
    ACCESS = 7


ALERT = 0x80
"""Set in the error byte while the hardware error register is not 0."""


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ _POLYNOMIAL if value & 0x8000 else value << 1) & 0xFFFF
        entries.append(value)
    return tuple(entries)


_TABLE = _table()


def crc16(data: bytes, start: int = 0) -> int:
    """CRC-16 with polynomial 0x8005, not reflected; ``start`` is the value so far."""
    value = start
    for byte in data:
        value = (value << 8 & 0xFF00) ^ _TABLE[value >> 8 ^ byte]
    return value


def stuff(data: bytes) -> bytes:
    """Instruction and parameters as they are sent."""
    return data.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuff(data: bytes) -> bytes:
    """The inverse."""
    return data.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


@dataclass(frozen=True)
class Packet:
    """A packet whose checksum was right."""

    bus_id: int
    instruction: int
    parameters: bytes


def build(bus_id: int, instruction: int, parameters: bytes = b"") -> bytes:
    """A packet with its checksum, stuffed."""
    body = stuff(bytes([instruction]) + parameters)
    head = HEADER + bytes([bus_id]) + (len(body) + 2).to_bytes(2, "little") + body
    return head + crc16(head).to_bytes(2, "little")


def status(bus_id: int, error: int, parameters: bytes = b"") -> bytes:
    """A status packet."""
    return build(bus_id, Instruction.STATUS, bytes([error]) + parameters)


def fast_status(parts: list[tuple[int, int, bytes]], lengths: list[int]) -> bytes:
    """The one packet that several devices send together, each with a checksum over all bytes so far; not stuffed.

    Args:
        parts: (id, error, data) of the devices that send, in order; fewer than asked where one kept silent, after which
            nobody goes on.
        lengths: of the data that were asked of each device, from which the packet's length follows.
    """
    length = 1 + sum(count + 4 for count in lengths)
    sent = HEADER + bytes([BROADCAST]) + length.to_bytes(2, "little") + bytes([Instruction.STATUS])
    value = crc16(sent)
    for bus_id, error, data in parts:
        part = bytes([error, bus_id]) + data
        value = crc16(part, value)
        tail = value.to_bytes(2, "little")
        value = crc16(tail, value)
        sent += part + tail
    return sent


def cut(waiting: bytearray) -> bytes | None:
    """Take the next whole packet off the front, its checksum right or wrong; None where more bytes are needed.

    What stands before a header is thrown away. A packet with a wrong checksum that holds another header was cut short
    or lied about its length: it is given up from that header on.
    """
    while True:
        start = waiting.find(HEADER)
        if start < 0:
            del waiting[: max(len(waiting) - len(HEADER) + 1, 0)]
            return None
        del waiting[:start]
        if len(waiting) < 7:
            return None
        length = int.from_bytes(waiting[5:7], "little")
        if length < 3 or length > MOST_BYTES or waiting[4] in (0xFD, 0xFF):
            del waiting[: len(HEADER)]
            continue
        if len(waiting) < 7 + length:
            return None
        packet = bytes(waiting[: 7 + length])
        inner = packet.find(HEADER, len(HEADER))
        if inner > 0 and not intact(packet):
            del waiting[:inner]
            continue
        del waiting[: 7 + length]
        return packet


def intact(packet: bytes) -> bool:
    """Whether its checksum is right."""
    return crc16(packet[:-2]) == int.from_bytes(packet[-2:], "little")


def parse(packet: bytes) -> Packet | None:
    """A whole packet, as :func:`cut` returns it; None where its checksum is wrong."""
    if len(packet) < 10 or not intact(packet):
        return None
    body = unstuff(packet[7:-2])
    return Packet(packet[4], body[0], body[1:])

"""Packets of Feetech's SCS/STS protocol as a servo sees them: bytes in, instructions out, and the status packets back.

``FF FF | ID | LEN | INST or ERR | parameters | CHK``, LEN = parameters + 2, CHK = complement of the sum of all bytes
from ID on, 8 bit (Feetech, "SCS communication protocol", sections 2 and 3, in the copy of wiki.juxitech.com). FF FF has
no escape inside a packet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BROADCAST = 0xFE

PING, READ, WRITE, REG_WRITE, ACTION = 0x01, 0x02, 0x03, 0x04, 0x05
RECOVER, RESTART, RESET, CALIBRATE = 0x06, 0x08, 0x0A, 0x0B
SYNC_READ, SYNC_WRITE = 0x82, 0x83

_HEADER = b"\xff\xff"


@dataclass(frozen=True)
class Instruction:
    """One instruction packet with a right checksum."""

    bus_id: int
    code: int
    parameters: bytes = b""


def checksum(body: Iterable[int]) -> int:
    """Of the bytes from ID to the last parameter."""
    return ~sum(body) & 0xFF


def packet(bus_id: int, code: int, parameters: bytes = b"") -> bytes:
    """A whole packet; ``code`` is an instruction, or the error byte of a status."""
    body = bytes((bus_id, len(parameters) + 2, code)) + parameters
    return _HEADER + body + bytes((checksum(body),))


def cut(waiting: bytearray) -> bytes | None:
    """Take the next packet with a right checksum off the front, and what is none before it; None: bytes are missing.

    After a wrong checksum the search goes on behind the header, so a lie about the length costs what it covers at most
    until the true packets behind it are complete.
    """
    while True:
        start = waiting.find(_HEADER)
        if start < 0:
            del waiting[: len(waiting) - (1 if waiting.endswith(b"\xff") else 0)]
            return None
        del waiting[:start]
        while len(waiting) >= 3 and waiting[2] == 0xFF:  # an ID is never 255: the header starts one byte later
            del waiting[0]
        if len(waiting) < 4:
            return None
        size = waiting[3] + 4
        if size < 6:
            del waiting[:2]
            continue
        if len(waiting) < size:
            return None
        if checksum(waiting[2 : size - 1]) != waiting[size - 1]:
            del waiting[:2]
            continue
        whole = bytes(waiting[:size])
        del waiting[:size]
        return whole


def parse(whole: bytes) -> Instruction | None:
    """An instruction, of a packet as :func:`cut` gives it; None where it was damaged since."""
    if len(whole) < 6 or whole[:2] != _HEADER or whole[3] + 4 != len(whole) or checksum(whole[2:-1]) != whole[-1]:
        return None
    return Instruction(whole[2], whole[4], whole[5:-1])

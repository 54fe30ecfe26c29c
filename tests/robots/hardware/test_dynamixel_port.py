"""Packets through the vendor's SDK without a wire: what no motor should send, and what may be made of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cadenza.robots.hardware.dynamixel.port import DynamixelPort
from cadenza.robots.hardware.transports.serial import SerialPort


def crc(data: bytes) -> int:
    """CRC-16, polynomial 0x8005, start 0 (ROBOTIS e-manual), bit by bit."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005) & 0xFFFF if value & 0x8000 else value << 1
    return value


def status(bus_id: int, data: bytes, error: int = 0) -> bytes:
    body = bytes([0xFF, 0xFF, 0xFD, 0, bus_id]) + (len(data) + 4).to_bytes(2, "little") + bytes([0x55, error]) + data
    return body + crc(body).to_bytes(2, "little")


def fast(blocks: list[tuple[int, bytes]], error: int = 0) -> bytes:
    size = len(blocks[0][1])
    body = bytes([0xFF, 0xFF, 0xFD, 0, 0xFE]) + (1 + len(blocks) * (size + 4)).to_bytes(2, "little") + b"\x55"
    for bus_id, data in blocks:
        body += bytes([error, bus_id]) + data
        body += crc(body).to_bytes(2, "little")
    return body


class Scripted(SerialPort):
    """A port that hears what it is given; time is up when that is at its end."""

    def __init__(self, heard: bytes) -> None:
        super().__init__("nowhere", margin_s=0.0)
        self.heard, self.sent, self.is_open = bytearray(heard), bytearray(), True

    def clearPort(self) -> None:
        pass

    def settle(self, quiet_s: float = 0.0, at_most_s: float = 0.0) -> int:
        return 0

    def readPort(self, length: int) -> bytes:
        data = bytes(self.heard[: max(length, 0)])
        del self.heard[: len(data)]
        return data

    def writePort(self, packet: Any) -> int:
        self.sent += bytes(packet)
        return len(packet)

    def isPacketTimeout(self) -> bool:
        return not self.heard


def port(heard: bytes) -> DynamixelPort:
    made = DynamixelPort(Scripted(heard))
    from dynamixel_sdk import Protocol2PacketHandler

    made._handler = Protocol2PacketHandler()
    return made


def test_the_checksum_of_the_manual() -> None:
    """ROBOTIS e-manual, protocol 2: ping of id 1 ends with 19 4E."""
    assert crc(bytes.fromhex("fffffd0001030001")) == 0x4E19


def test_answers_are_told_apart() -> None:
    heard = status(1, b"abcd") + status(2, b"efgh", 0x80) + status(3, b"", 0x07)
    found = port(heard).sync_read([1, 2, 3], 132, 4)
    assert (found[1].data, found[1].alert) == (b"abcd", False)
    assert (found[2].data, found[2].alert) == (b"efgh", True)
    assert not found[3].good
    assert "denies access" in found[3].why()


def test_one_garbled_answer_costs_one_sample() -> None:
    bad = bytearray(status(2, b"efgh"))
    bad[10] ^= 4
    made = port(status(1, b"abcd") + bytes(bad) + status(3, b"ijkl"))
    found = made.sync_read([1, 2, 3], 132, 4)
    assert [found[n].data for n in (1, 2, 3)] == [b"abcd", None, b"ijkl"]
    assert found[2].corrupt
    assert made.counters.corrupt == 1


def test_a_silent_one_is_not_garbled() -> None:
    found = port(status(1, b"abcd") + status(3, b"ijkl")).sync_read([1, 2, 3], 132, 4)
    assert [found[n].data for n in (1, 2, 3)] == [b"abcd", None, b"ijkl"]
    assert not found[2].corrupt


def test_an_answer_of_the_wrong_length_is_no_answer() -> None:
    assert port(status(1, b"abc")).read(1, 132, 4).data is None
    assert port(status(1, b"abcd")).read(1, 132, 4).data == b"abcd"


def test_somebody_elses_answer_is_not_taken() -> None:
    assert port(status(9, b"abcd")).read(1, 132, 4).data is None
    found = port(status(9, b"abcd") + status(1, b"efgh")).sync_read([1], 132, 4)
    assert found[1].data == b"efgh"


def test_fast_answers() -> None:
    found = port(fast([(1, b"abcd"), (2, b"efgh")], 0x80)).sync_read([1, 2], 132, 4, fast=True)
    assert [(found[n].data, found[n].alert) for n in (1, 2)] == [(b"abcd", True), (b"efgh", True)]
    swapped = port(fast([(2, b"abcd"), (1, b"efgh")])).sync_read([1, 2], 132, 4, fast=True)
    assert [swapped[n].data for n in (1, 2)] == [None, None]


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.binary(max_size=60), st.data())
def test_noise_is_never_a_number(noise: bytes, data: st.DataObject) -> None:
    """Random bytes, or true packets cut, joined and with bits flipped: nothing is raised, and no data is taken that
    does not stand, whole and with its checksum, in what was heard."""
    true = [status(n, data.draw(st.binary(min_size=4, max_size=4))) for n in (1, 2, 3)]
    parts = data.draw(st.lists(st.sampled_from([noise, *true, b"\xff\xff\xfd\x00"]), max_size=6))
    heard = bytearray(b"".join(parts))
    for place in data.draw(st.lists(st.integers(0, max(8 * len(heard) - 1, 0)), max_size=2)):
        if heard:
            heard[place // 8] ^= 1 << place % 8
    whole = bytes(heard)
    for is_fast in (False, True):
        for number, answer in port(whole).sync_read([1, 2, 3], 132, 4, fast=is_fast).items():
            if answer.data is not None and not answer.refused:
                packets = [status(number, answer.data, error) for error in (0, 0x80)]
                assert is_fast or any(packet in whole for packet in packets) or b"\xff\xff\xfd\xfd" in whole
    port(whole).ping(1)
    port(whole).broadcast_ping(3)
    port(whole).write(2, 64, b"\0")

"""The bytes of DYNAMIXEL protocol 2.0, against the worked examples of ROBOTIS's e-manual and against noise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadenza.robots.hardware.emulators import dynamixel_packet as wire
from cadenza.robots.hardware.emulators.dynamixel_packet import Instruction

# ROBOTIS e-manual, "Protocol 2.0": the example of each instruction, as sent by the host.
REQUESTS = {
    "ping": (1, Instruction.PING, b"", "FFFFFD00010300 01 194E"),
    "broadcast ping": (254, Instruction.PING, b"", "FFFFFD00FE0300 01 3142"),
    "read": (1, Instruction.READ, bytes.fromhex("84000400"), "FFFFFD00010700 02 84000400 1D15"),
    "write": (1, Instruction.WRITE, bytes.fromhex("740000020000"), "FFFFFD00010900 03 740000020000 CA89"),
    "reg write": (1, Instruction.REG_WRITE, bytes.fromhex("6800C8000000"), "FFFFFD00010900 04 6800C8000000 AE8E"),
    "action": (1, Instruction.ACTION, b"", "FFFFFD00010300 05 02CE"),
    "factory reset": (1, Instruction.FACTORY_RESET, b"\x01", "FFFFFD00010400 06 01 A1E6"),
    "reboot": (1, Instruction.REBOOT, b"", "FFFFFD00010300 08 2F4E"),
    "clear": (1, Instruction.CLEAR, bytes.fromhex("0144584C22"), "FFFFFD00010800 10 0144584C22 B1DC"),
    "sync read": (254, Instruction.SYNC_READ, bytes.fromhex("840004000102"), "FFFFFD00FE0900 82 840004000102 CEFA"),
    "sync write": (
        254, Instruction.SYNC_WRITE, bytes.fromhex("74000400 0196000000 02AA000000"),
        "FFFFFD00FE1100 83 74000400 0196000000 02AA000000 8287",
    ),
    "bulk read": (
        254, Instruction.BULK_READ, bytes.fromhex("0190000200 0292000100"),
        "FFFFFD00FE0D00 92 0190000200 0292000100 1A05",
    ),
    "bulk write": (
        254, Instruction.BULK_WRITE, bytes.fromhex("0120000200A000 021F00010050"),
        "FFFFFD00FE1000 93 0120000200A000 021F00010050 B768",
    ),
    "fast sync read": (
        254, Instruction.FAST_SYNC_READ, bytes.fromhex("84000400 030704"), "FFFFFD00FE0A00 8A 84000400 030704 20F2",
    ),
}  # fmt: skip
STATUS = {
    "ping 1": (1, 0, "060426", "FFFFFD00010700 55 00 060426 655D"),
    "ping 2": (2, 0, "060426", "FFFFFD00020700 55 00 060426 6F6D"),
    "read": (1, 0, "A6000000", "FFFFFD00010800 55 00 A6000000 8CC0"),
    "read 2": (2, 0, "1F080000", "FFFFFD00020800 55 00 1F080000 BABE"),
    "written": (1, 0, "", "FFFFFD00010400 55 00 A10C"),
    "voltage": (1, 0, "7700", "FFFFFD00010600 55 00 7700 C369"),
    "temperature": (2, 0, "24", "FFFFFD00020500 55 00 24 8BA9"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_of_the_manual_byte_for_byte(name: str) -> None:
    bus_id, instruction, parameters, sent = REQUESTS[name]
    packet = wire.build(bus_id, instruction, parameters)
    assert packet.hex() == bytes.fromhex(sent).hex()
    assert wire.parse(packet) == wire.Packet(bus_id, instruction, parameters)


@pytest.mark.parametrize("name", STATUS)
def test_status_packets_of_the_manual_byte_for_byte(name: str) -> None:
    bus_id, error, data, sent = STATUS[name]
    assert wire.status(bus_id, error, bytes.fromhex(data)).hex() == bytes.fromhex(sent).hex()


def test_the_manuals_fast_sync_read_of_three_xc330() -> None:
    parts = [(3, 0, bytes.fromhex("A6000000")), (7, 0, bytes.fromhex("1F080000")), (4, 0, bytes.fromhex("FF030000"))]
    expected = "FFFFFD00FE1900 55 0003A60000008408 00071F08000016CA 0004FF030000D19E"
    assert wire.fast_status(parts, [4, 4, 4]).hex() == bytes.fromhex(expected).hex()


def test_the_manuals_fast_bulk_read_of_three_xc330() -> None:
    parts = [(3, 0, bytes.fromhex("A6000000")), (7, 0, bytes.fromhex("A501")), (4, 0, b"\x1f")]
    expected = "FFFFFD00FE1400 55 0003A600000067A4 0007A5012474 00041FD9C1"
    assert wire.fast_status(parts, [4, 2, 1]).hex() == bytes.fromhex(expected).hex()


def test_fast_replies_are_not_stuffed() -> None:
    packet = wire.fast_status([(1, 0, b"\xff\xff\xfd\x01")], [4])
    assert b"\xff\xff\xfd\x01" in packet
    assert len(packet) == 7 + 1 + 4 + 4


def test_stuffing_by_hand() -> None:
    packet = wire.build(1, Instruction.WRITE, b"\x74\x00\xff\xff\xfd\x00")
    assert packet[7:-2] == b"\x03\x74\x00\xff\xff\xfd\xfd\x00"
    assert int.from_bytes(packet[5:7], "little") == 8 + 2  # counted after stuffing


PAYLOADS = st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0x55, 0x7F]), max_size=60).map(bytes) | st.binary(max_size=60)


@given(st.integers(0, 252), st.integers(1, 0x20), PAYLOADS)
@settings(max_examples=300, deadline=None)
def test_any_packet_comes_back(bus_id: int, instruction: int, parameters: bytes) -> None:
    packet = wire.build(bus_id, instruction, parameters)
    waiting = bytearray(packet)
    assert wire.cut(waiting) == packet
    assert not waiting
    assert wire.parse(packet) == wire.Packet(bus_id, instruction, parameters)
    assert wire.HEADER not in packet[4:], "no header can stand inside a packet"


@given(PAYLOADS, st.data())
@settings(max_examples=200, deadline=None)
def test_any_one_turned_bit_is_noticed(parameters: bytes, data: st.DataObject) -> None:
    packet = bytearray(wire.build(7, Instruction.WRITE, parameters))
    bit = data.draw(st.integers(8 * 7, 8 * len(packet) - 1))
    packet[bit // 8] ^= 1 << bit % 8
    assert wire.parse(bytes(packet)) is None


@given(st.binary(max_size=40).filter(lambda noise: b"\xff" not in noise), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_packets_are_found_between_noise(noise: bytes, count: int) -> None:
    packet = wire.build(3, Instruction.PING)
    waiting = bytearray(noise.join([b"", *[packet] * count, b""]))
    assert [wire.cut(waiting) for _ in range(count)] == [packet] * count
    assert wire.cut(waiting) is None
    assert len(waiting) < len(wire.HEADER)


def test_a_packet_that_lies_about_its_length_costs_only_itself() -> None:
    liar = bytearray(wire.build(1, Instruction.PING))
    liar[5] = 40
    good = wire.build(2, Instruction.PING)
    waiting = bytearray(liar + good * 5)
    assert wire.cut(waiting) == good


@pytest.mark.parametrize("length", [0, 2, wire.MOST_BYTES + 1, 0xFFFF])
def test_a_length_that_cannot_be_is_skipped_at_once(length: int) -> None:
    liar = wire.HEADER + b"\x01" + length.to_bytes(2, "little") + b"\x01\x00\x00"
    good = wire.build(2, Instruction.PING)
    assert wire.cut(bytearray(liar + good)) == good


def test_half_a_packet_waits_for_the_rest() -> None:
    packet = wire.build(1, Instruction.PING)
    waiting = bytearray(packet[:6])
    assert wire.cut(waiting) is None
    waiting += packet[6:]
    assert wire.cut(waiting) == packet

"""Promise 1: every byte is as the makers' manuals have it, and noise never becomes a number.

Three codecs meet here: the driver's (the vendor's SDK behind our port), the emulator's, and that of ``wire_reader``.
"""

from __future__ import annotations

import math
import os
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator

import pytest
from emulated_dynamixels import Bench
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_dynamixel_port import Scripted
from test_emulated_dynamixel_packet import REQUESTS, STATUS
from wire_reader import crc16, packet, packets

from cadenza.robots.hardware.canbus.damiao import encode_command as damiao_command
from cadenza.robots.hardware.canbus.ranges import Codes, RangeSet, candidate
from cadenza.robots.hardware.canbus.robstride import encode_command as cybergear_command
from cadenza.robots.hardware.dynamixel.port import DynamixelPort, packet_handler
from cadenza.robots.hardware.emulators import damiao, dynamixel_packet, robstride
from cadenza.robots.hardware.emulators.can_wire import Datagram
from cadenza.robots.hardware.emulators.faults import Heard
from cadenza.robots.hardware.emulators.launch import Order, Spawned, spawn

HEARD = Heard(b"", frozenset())
AWKWARD = st.lists(
    st.sampled_from([b"\xff", b"\xfd", b"\xff\xff\xfd", b"\xff\xff\xfd\x00", b"\xff\xff\xfd\xfd", b"\0", b"a"]),
    max_size=14,
).map(b"".join)  # fmt: skip
"""Payloads that look like headers, or like stuffing."""
PAYLOAD = AWKWARD | st.binary(max_size=60)
FUZZ = settings(max_examples=300, deadline=None, database=None, derandomize=True)
LONG_FUZZ = settings(FUZZ, max_examples=5_000)
# ROBOTIS e-manual, Protocol 2.0, "Fast Sync Read" and "Fast Bulk Read": status of three XC330.
FAST_IDS = (3, 7, 4)


def heard_by_the_driver(heard: bytes) -> DynamixelPort:
    """A driver's port that hears these bytes."""
    made = DynamixelPort(Scripted(heard))
    made._handler = packet_handler()
    return made


def manual(name: str) -> tuple[int, bytes, bytes]:
    """Id, parameters and the whole packet of an example."""
    bus_id, _, parameters, sent = REQUESTS[name]
    return bus_id, parameters, bytes.fromhex(sent)


# ---------------------------------------------------------------------- DYNAMIXEL: the manual's examples


@pytest.mark.parametrize("name", [*REQUESTS, *STATUS])
def test_the_examples_of_the_manual_are_those_of_three_codecs(name: str) -> None:
    if name in REQUESTS:
        bus_id, parameters, sent = manual(name)
        do = int(REQUESTS[name][1])
        assert dynamixel_packet.build(bus_id, do, parameters) == sent
    else:
        bus_id, error, data, text = STATUS[name]
        do, parameters, sent = 0x55, bytes([error]) + bytes.fromhex(data), bytes.fromhex(text)
        assert dynamixel_packet.status(bus_id, error, bytes.fromhex(data)) == sent
    assert packet(bus_id, do, parameters) == sent
    assert list(packets(sent)) == [(bus_id, do, parameters)]
    assert crc16(sent[:-2]) == int.from_bytes(sent[-2:], "little")


def _sends(name: str) -> Callable[[DynamixelPort], object]:
    goals = {1: (150).to_bytes(4, "little"), 2: (170).to_bytes(4, "little")}
    return {
        "ping": lambda port: port.ping(1),
        "read": lambda port: port.read(1, 132, 4),
        "write": lambda port: port.write(1, 116, (512).to_bytes(4, "little")),
        "reboot": lambda port: port.reboot(1),
        "sync read": lambda port: port.sync_read([1, 2], 132, 4),
        "sync write": lambda port: port.sync_write(116, goals),
        "fast sync read": lambda port: port.sync_read(FAST_IDS, 132, 4, fast=True),
        "broadcast ping": lambda port: port.broadcast_ping(1),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["ping", "read", "write", "reboot", "sync read", "sync write", "fast sync read", "broadcast ping"],
)
def test_the_driver_sends_the_examples_of_the_manual(name: str) -> None:
    made = heard_by_the_driver(b"")
    _sends(name)(made)
    wire = made.serial
    assert isinstance(wire, Scripted)
    assert bytes(wire.sent).hex() == manual(name)[2].hex()


def test_the_driver_reads_the_answers_of_the_manual() -> None:
    answers = {name: bytes.fromhex(text) for name, (*_, text) in STATUS.items()}
    ping = heard_by_the_driver(answers["ping 1"]).ping(1)
    assert ping.data == bytes.fromhex("060426")  # model 1030, firmware 38
    assert heard_by_the_driver(answers["read"]).read(1, 132, 4).data == (166).to_bytes(4, "little")
    both = heard_by_the_driver(answers["read"] + answers["read 2"]).sync_read([1, 2], 132, 4)
    assert [int.from_bytes(both[n].data or b"", "little") for n in (1, 2)] == [166, 2079]
    assert heard_by_the_driver(answers["written"]).write(1, 116, b"\0\2\0\0").good


@given(blocks=st.lists(st.binary(min_size=4, max_size=4) | st.just(b"\xff\xff\xfd\x00"), min_size=3, max_size=3))
@settings(FUZZ)
def test_a_fast_answer_of_three_is_read_by_the_driver(blocks: list[bytes]) -> None:
    """One packet, each device's checksum over all bytes before it, never stuffed: whatever the registers hold."""
    sent = dynamixel_packet.fast_status([(n, 0, b) for n, b in zip(FAST_IDS, blocks, strict=True)], [4, 4, 4])
    by_hand = b"\xff\xff\xfd\x00\xfe" + (1 + 3 * 8).to_bytes(2, "little") + b"\x55"
    for number, data in zip(FAST_IDS, blocks, strict=True):
        by_hand += bytes([0, number]) + data
        by_hand += crc16(by_hand).to_bytes(2, "little")
    assert sent == by_hand
    found = heard_by_the_driver(sent).sync_read(FAST_IDS, 132, 4, fast=True)
    for number, data in zip(FAST_IDS, blocks, strict=True):
        # The SDK unstuffs what must not be unstuffed; such an answer is refused, not misread.
        assert found[number].data in (data, None)
        if b"\xff\xff\xfd" not in sent[4:]:
            assert found[number].data == data


# ---------------------------------------------------------------------- DYNAMIXEL: fuzz


def round_trip(bus_id: int, address: int, payload: bytes) -> None:
    """A write by the driver is read by the emulator's codec and by ours, and the answer with it by the driver."""
    made = heard_by_the_driver(packet(bus_id, 0x55, b"\0"))
    assert made.write(bus_id, address, payload).good
    wire = made.serial
    assert isinstance(wire, Scripted)
    sent = bytes(wire.sent)
    wanted = address.to_bytes(2, "little") + payload
    assert sent == packet(bus_id, 0x03, wanted) == dynamixel_packet.build(bus_id, 0x03, wanted)
    waiting = bytearray(sent)
    whole = dynamixel_packet.cut(waiting)
    assert whole is not None
    assert not waiting
    assert dynamixel_packet.parse(whole) == dynamixel_packet.Packet(bus_id, 3, wanted)
    answer = dynamixel_packet.status(bus_id, 0, payload)
    assert answer == packet(bus_id, 0x55, b"\0" + payload)
    if payload:
        assert heard_by_the_driver(answer).read(bus_id, address, len(payload)).data == payload


IDS, ADDRESSES = st.integers(0, 252), st.integers(0, 700)


@given(IDS, ADDRESSES, PAYLOAD)
@example(1, 116, b"\xff\xff\xfd")
@example(1, 116, b"\xff\xff\xfd\xfd\xff\xff\xfd")
@example(1, 116, b"\xff\xff\xfd\xff\xfd\xfd")
@example(1, 0x00FF, b"\xff\xfd\x00")
@settings(FUZZ)
def test_any_payload_survives_from_driver_to_emulator_and_back(bus_id: int, address: int, payload: bytes) -> None:
    round_trip(bus_id, address, payload)


@pytest.mark.slow
@given(IDS, ADDRESSES, PAYLOAD)
@settings(LONG_FUZZ)
def test_any_payload_survives_long(bus_id: int, address: int, payload: bytes) -> None:
    round_trip(bus_id, address, payload)


@given(noise=PAYLOAD, data=st.binary(min_size=4, max_size=4), lie=st.integers(0, 65535), at=st.integers(0, 14))
@settings(FUZZ)
def test_a_garbled_answer_is_the_truth_or_a_fault(noise: bytes, data: bytes, lie: int, at: int) -> None:
    true = packet(1, 0x55, b"\0" + data)
    liar = bytearray(true)
    liar[5:7] = lie.to_bytes(2, "little")
    flipped = bytearray(true)
    flipped[at % len(flipped)] ^= 1 << at % 8
    for heard in (noise + true, bytes(liar), bytes(liar) + true, bytes(flipped), true[:at], bytes(flipped) + true):
        assert heard_by_the_driver(heard).read(1, 132, 4).data in (data, None)
    assert heard_by_the_driver(true).read(1, 132, 4).data == data


@given(noise=PAYLOAD, lie=st.integers(0, 65535))
@settings(FUZZ)
def test_the_emulator_finds_a_packet_behind_noise(noise: bytes, lie: int) -> None:
    """A true ping after noise and after a packet with a false length is found once the lie has run out."""
    ping, liar = packet(1, 0x01), bytearray(packet(1, 0x02, b"\x84\0\4\0"))
    liar[5:7] = lie.to_bytes(2, "little")
    waiting = bytearray(noise + bytes(liar)) + ping * (dynamixel_packet.MOST_BYTES // len(ping) + 40)
    found = 0
    while (whole := dynamixel_packet.cut(waiting)) is not None:
        read = dynamixel_packet.parse(whole)
        found += read == dynamixel_packet.Packet(1, 1, b"")
        assert read is None or whole == packet(read.bus_id, read.instruction, read.parameters)
    assert found >= 1


# ---------------------------------------------------------------------- DYNAMIXEL: over a terminal, in two processes


@pytest.fixture(scope="module")
def servos() -> Iterator[Spawned]:
    with spawn(Order("dynamixel", ids=(1, 2), lockstep=True)) as emulator:
        yield emulator


def exchange(path: str, data: bytes, answer_bytes: int) -> bytes:
    """Raw bytes to a serial port and what comes back, without any library."""
    file = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        tty.setraw(file)
        attributes = termios.tcgetattr(file)
        attributes[4] = attributes[5] = termios.B1000000
        termios.tcsetattr(file, termios.TCSANOW, attributes)
        os.write(file, data)
        got, until = b"", time.monotonic() + 20
        while len(got) < answer_bytes and time.monotonic() < until:
            if select.select([file], [], [], 0.05)[0]:
                got += os.read(file, 4096)
        return got
    finally:
        os.close(file)


@pytest.mark.parametrize(
    "before",
    [
        b"", b"\xff" * 40, b"\xff\xff\xfd\x00\x01", bytes(range(256)), b"\xff\xff\xfd\x00\x01\xff\xff\x02",
        b"\xff\xff\xfd",
    ],
    ids=["clean", "all ones", "half a header", "every byte", "a length of 65535", "a header's beginning"],
)  # fmt: skip
def test_an_emulator_at_a_terminal_hears_the_manuals_ping_behind_noise(servos: Spawned, before: bytes) -> None:
    """An XM430-W350 is model 1020 = 03FC; its firmware here is 48 = 30."""
    answer = packet(1, 0x55, bytes.fromhex("00FC0330"))
    ping = manual("ping")[2]
    for _ in range(10):  # half a packet is forgotten only after a while in silence
        got = exchange(servos.port, before + ping, len(answer))
        if got:
            break
        servos.control.ask("advance", by_s=0.1)
        before = b""
    assert got == answer


# ---------------------------------------------------------------------- CAN


FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=64)
CYBERGEAR = Codes.of(candidate("CyberGear", "manual"), 16, 16)


@pytest.fixture(scope="module")
def cybergear() -> Iterator[robstride.RobStrideDrives]:
    world = robstride.build(Order("robstride", motor="CyberGear", ids=(127,), lockstep=True, interface="virtual",
                                  channel="byte-exact-cybergear"))  # fmt: skip
    (drives,) = (one for one in world._firmware if isinstance(one, robstride.RobStrideDrives))
    yield drives
    world.stop()


@pytest.fixture(scope="module")
def dm4310() -> Iterator[damiao.DamiaoDrives]:
    world = damiao.build(Order("damiao", motor="DM4310", ids=(1,), lockstep=True, interface="virtual",
                               channel="byte-exact-damiao"))  # fmt: skip
    (drives,) = (one for one in world._firmware if isinstance(one, damiao.DamiaoDrives))
    yield drives
    world.stop()


def test_cybergear_frames_worked_out_by_hand(cybergear: robstride.RobStrideDrives) -> None:
    """Manual, communication type 1: 29 bits of type, torque, motor; position, velocity, kp, kd as 16 bits, big endian.

    p 0 rad: 0.5 * 65535 = 32767 = 7FFF; v 1 rad/s: 31/60 -> 8443; kp 50/500 -> 1999; kd 1/5 -> 3333; t 2 Nm: 14/24 ->
    38228 = 9554; motor 127 = 7F.
    """
    frame = cybergear_command(CYBERGEAR, 127, 0, 1, 50, 1, 2)
    assert (frame.id, frame.data.hex(), frame.extended) == (0x0195547F, "7fff844319993333", True)
    enable = Datagram(0x0300FD7F, bytes(8), extended=True)
    ((reply, _),) = cybergear.answer(enable, HEARD)
    # Type 2, motor 127 in bits 8-15, mode 2 (run) in bits 22-23, host FD.
    assert reply.id == 0x02 << 24 | 2 << 22 | 127 << 8 | 0xFD
    assert reply.data[:2].hex() in ("7fff", "8000")
    ((reply, _),) = cybergear.answer(Datagram(0x0400FD7F, bytes(8), extended=True), HEARD)
    assert reply.id >> 22 & 3 == 0, "stopped"


@given(q=FLOAT, dq=FLOAT, kp=FLOAT, kd=FLOAT, tau=FLOAT)
@settings(FUZZ, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cybergear_commands_mean_the_same_at_both_ends(
    cybergear: robstride.RobStrideDrives, q: float, dq: float, kp: float, kd: float, tau: float
) -> None:
    frame = cybergear_command(CYBERGEAR, 127, q, dq, kp, kd, tau)
    heard = cybergear._unpack(0, frame.id >> 8 & 0xFFFF, frame.data)
    ends = ((-4 * math.pi, 4 * math.pi), (-30, 30), (0, 500), (0, 5), (-12, 12))
    for theirs, ours, (low, high) in zip(heard, (q, dq, kp, kd, tau), ends, strict=True):
        step = (high - low) / 65535
        assert min(max(ours, low), high) - 1.001 * step <= theirs <= min(max(ours, low), high) + 1e-3 * step


@given(q=FLOAT, dq=FLOAT, kp=FLOAT, kd=FLOAT, tau=FLOAT)
@settings(FUZZ)
def test_mit_packets_are_those_of_damiao_motor_and_are_heard_so(
    dm4310: damiao.DamiaoDrives, q: float, dq: float, kp: float, kd: float, tau: float
) -> None:
    theirs = pytest.importorskip("damiao_motor").DaMiaoMotor(1, 0x11, None, motor_type="4310")
    sent = damiao_command(Codes.of(RangeSet(12.5, 30, 10, 500, 5, "manual"), 16, 12), q, dq, kp, kd, tau)
    assert sent == theirs.encode_cmd_msg(q, dq, tau, kp, kd)
    heard = dm4310._unpack(0, sent)
    ends = ((-12.5, 12.5, 65535), (-30, 30, 4095), (0, 500, 4095), (0, 5, 4095), (-10, 10, 4095))
    for value, ours, (low, high, codes) in zip(heard, (q, dq, kp, kd, tau), ends, strict=True):
        step = (high - low) / codes
        assert min(max(ours, low), high) - 1.001 * step <= value <= min(max(ours, low), high) + 1e-3 * step


def test_an_answer_of_the_emulated_drive_is_read_alike_by_damiao_motor(dm4310: damiao.DamiaoDrives) -> None:
    theirs = pytest.importorskip("damiao_motor").DaMiaoMotor(1, 0x11, None, motor_type="4310")
    ((reply, _),) = dm4310.answer(Datagram(1, b"\xff" * 7 + b"\xfc"), HEARD)
    state = theirs.decode_sensor_feedback(reply.data)
    assert state["status"] == "ENABLED"
    assert state["pos"] == pytest.approx(0.0, abs=25 / 65535)
    assert (state["vel"], state["torq"]) == pytest.approx((0.0, 0.0), abs=0.02)
    dm4310.answer(Datagram(1, b"\xff" * 7 + b"\xfd"), HEARD)


def test_registers_answer_the_manuals_bytes() -> None:
    """The manual's own read and write examples, answered by an emulated servo: 132 holds 2048 at 0 rad."""
    bench = Bench()
    try:
        (reply,) = [reply.data for reply, _ in bench.bus.hear(manual("read")[2], bench.baud)]
        assert reply == packet(1, 0x55, b"\0" + (2048).to_bytes(4, "little"))
        (reply,) = [reply.data for reply, _ in bench.bus.hear(manual("write")[2], bench.baud)]
        assert reply.hex() == bytes.fromhex(STATUS["written"][3]).hex()
        assert bench.get("goal_position") == 512
    finally:
        bench.close()

"""Emulated RobStride drives and CyberGears: frames by hand, the watchdog, faults, wrong ranges."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from can_rig import CanRig, emulated, settings
from conformance import command, follow, ready

from cadenza.robots.hardware.canbus.bus import CanBus
from cadenza.robots.hardware.canbus.ranges import RangeSet, candidate
from cadenza.robots.hardware.canbus.robstride import RobStrideCodec
from cadenza.robots.hardware.emulators.can_wire import Datagram
from cadenza.robots.hardware.emulators.faults import Heard
from cadenza.robots.hardware.emulators.launch import Order, Spawned
from cadenza.robots.hardware.emulators.robstride import RobStrideDrives, build
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.types import Fault, Mode

pytest.importorskip("can")
pytest.importorskip("msgpack")

HEARD = Heard(b"", frozenset())
RS02 = candidate("RS-02", "robstride-sdk")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Spawned]:
    with emulated("robstride", "RS-02") as started:
        yield started


@pytest.fixture
def rig(emulator: Spawned) -> Iterator[CanRig]:
    made = CanRig(emulator, "RS-02", RobStrideCodec({"RS-02": RS02}))
    yield made
    made.bus.close()


@pytest.fixture
def cybergear() -> Iterator[tuple[World, RobStrideDrives]]:
    """One CyberGear with id 127 in this process."""
    world = build(Order("robstride", motor="CyberGear", ids=(127,), interface="virtual", channel="gear", lockstep=True))
    yield world, world.wires[0].devices  # type: ignore[attr-defined]
    world.stop()


# ---------------------------------------------------------------------- frame by frame


def ask(drives: RobStrideDrives, number: int, data: str = "0000000000000000") -> Datagram:
    ((reply, sender),) = drives.answer(Datagram(number, bytes.fromhex(data), extended=True), HEARD)
    assert sender == 127
    assert reply.extended
    return reply


def test_frames_worked_out_from_the_manual(cybergear: tuple[World, RobStrideDrives]) -> None:
    world, drives = cybergear
    drives.turn(0, 2.0)
    # Type 0: the drive's id in bits 8 to 15, FE as target, 64 bits of identity.
    assert ask(drives, 0x0000FD7F).id == 0x00007FFE
    # Type 17, mechPos: index little endian, 2.0 as a float at byte 4.
    reply = ask(drives, 0x1100FD7F, "1970000000000000")
    assert (reply.id, reply.data.hex()) == (0x11007FFD, "1970000000000040")
    # A parameter that it does not have: 1 in bits 16 to 23.
    assert ask(drives, 0x1100FD7F, "9970000000000000").id == 0x11017FFD
    # Type 3 enables; the reply is feedback in mode 2 (bits 22 and 23), without a fault.
    reply = ask(drives, 0x0300FD7F)
    assert reply.id == 0x02807FFD
    assert reply.data[:2].hex() == f"{math.floor((2 + 4 * math.pi) / (8 * math.pi) * 65535):04x}"
    # Room temperature, 25.0 degC, in tenths.
    assert int.from_bytes(reply.data[6:], "big") == 250
    # Type 1: 9554 is 2 N m, 8443 nearly 1 rad/s, kp 50, kd 1 (see the codec's test).
    ask(drives, 0x0195547F, "7fff844319993333")
    assert drives.goal[:, 0] == pytest.approx([0, 1, 50, 1, 2], abs=0.01)
    # Type 4 stops; mode 0.
    assert ask(drives, 0x0400FD7F).id == 0x02007FFD
    # Type 6 makes the present position 0.
    assert ask(drives, 0x0600FD7F, "0100000000000000").data[:2].hex() in ("7fff", "8000")
    world.advance(0.01)


def test_parameters_refuse_what_a_drive_refuses(cybergear: tuple[World, RobStrideDrives]) -> None:
    _, drives = cybergear

    def value(index: int) -> float:
        return float(
            struct.unpack("<f", ask(drives, 0x1100FD7F, index.to_bytes(2, "little").hex() + "00" * 6).data[4:])[0]
        )

    assert value(0x700B) == 12.0
    ask(drives, 0x1200FD7F, "0b70000000004041")  # 12.0: allowed
    ask(drives, 0x1200FD7F, "0b70000000005041")  # 13.0: more than it has
    assert value(0x700B) == 12.0
    ask(drives, 0x1200FD7F, "0b7000000000c07f")  # NaN
    assert value(0x700B) == 12.0
    ask(drives, 0x1200FD7F, "197000000000803f")  # mechPos is read-only
    assert value(0x7019) == 0.0
    ask(drives, 0x0300FD7F)
    ask(drives, 0x1200FD7F, "0570000002000000")  # "the control mode cannot be switched while the joint is running"
    assert drives.parameters[0][0x7005] == 0


def test_both_places_of_the_timeout_are_one(cybergear: tuple[World, RobStrideDrives]) -> None:
    _, drives = cybergear
    ask(drives, 0x1200FD7F, "28700000204e0000")  # 20,000 = 1 s
    assert drives.timeout_s() == pytest.approx([1.0])
    assert ask(drives, 0x1100FD7F, "0c20000000000000").data[4:].hex() == "204e0000"


def test_a_moved_id_answers_at_the_new_one(cybergear: tuple[World, RobStrideDrives]) -> None:
    _, drives = cybergear
    ((reply, sender),) = drives.answer(Datagram(0x0709FD7F, b"\1" + bytes(7), extended=True), HEARD)
    assert (reply.id, sender) == (0x000009FE, 9)
    assert drives.answer(Datagram(0x0000FD7F, bytes(8), extended=True), HEARD) == []


# ---------------------------------------------------------------------- connecting


def test_connect_asks_and_changes_nothing(rig: CanRig) -> None:
    rig.bus.connect()
    kinds = {frame.id >> 24 for frame in rig.frames.frames("sent")}
    assert kinds == {0, 17}
    rig.bus.read()
    assert {frame.id >> 24 for frame in rig.frames.frames("sent")} == {0, 17}
    state = rig.bus.read()
    assert state.voltage == pytest.approx(48.0)


def test_ranges_of_another_drive_are_found_out_before_torque(emulator: Spawned) -> None:
    wide = RangeSet(112.5, 33, 20, 500, 5, "lerobot's, for a drive that has 4 pi")
    rig = CanRig(emulator, "RS-02", RobStrideCodec({"RS-02": wide}))
    rig.turn(0, 0.4)
    rig.bus.connect()
    with pytest.raises(RefusedError, match=r"joint_1.*not this drive's"):
        rig.bus.configure(Mode.IMPEDANCE, 0.2)
    assert not any(rig.powered())
    with pytest.raises(HardwareError):
        rig.bus.activate()
    rig.bus.close()
    weak = RangeSet(4 * math.pi, 30, 12, 500, 5, "a CyberGear's")
    rig = CanRig(emulator, "RS-02", RobStrideCodec({"RS-02": weak}))
    with pytest.raises(RefusedError, match="limit_torque"):
        rig.bus.connect()
    rig.bus.close()


def test_configure_sets_limit_mode_and_watchdog_and_reads_them_back(rig: CanRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.IMPEDANCE, 0.25)
    for number in rig.ids:
        assert rig.bus.read_register(number, "canTimeout") == 5000
        assert rig.bus.read_register(number, "limit_torque") == 6.0
        assert rig.bus.read_register(number, "run_mode") == 0


def test_torque_of_another_program_is_refused_and_not_disturbed(rig: CanRig) -> None:
    other = CanBus(
        rig.emulator.port, settings("RS-02", rig.ids), RobStrideCodec({"RS-02": RS02}, host_id=0xFA), margin_s=0.2
    )
    ready(rig)
    other.connect()
    with pytest.raises(HardwareError, match="has torque on"):
        other.configure(Mode.IMPEDANCE, 0.1)
    assert all(rig.powered())
    assert rig.bus.read_register(1, "canTimeout") == 4000
    other.close()
    assert all(rig.powered())


# ---------------------------------------------------------------------- the watchdog


def test_a_silent_host_loses_its_motors_and_gets_them_back_by_an_order_alone(rig: CanRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.IMPEDANCE, 0.1)
    rig.bus.activate()
    rig.advance(0.098)
    assert all(rig.powered())
    rig.advance(0.004)
    assert not any(rig.powered())
    assert np.all(rig.bus.read().fault == Fault.COMMUNICATION_LOST)
    seen = len(rig.frames.frames("sent"))
    follow(rig, 0.5, 0.2)
    assert not any(rig.powered())
    assert {frame.id >> 24 for frame in rig.frames.frames("sent")[seen:]} == {4}, "a tripped motor got a command"
    with pytest.raises(HardwareError, match="not cleared"):
        rig.bus.activate()
    for number in rig.ids:
        rig.bus.clear_fault(number)
    assert not any(rig.powered())
    rig.bus.activate()
    follow(rig, 0.3, 0.6)
    np.testing.assert_allclose(rig.shafts(), 0.3, atol=0.03)


# ---------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "fields", "raised"),
    [
        ("over_heat", {"amount": 120.0}, Fault.OVERHEATED),
        ("brown_out", {"amount": 5.0}, Fault.VOLTAGE),
        ("overload", {}, Fault.OVERLOAD),
    ],
)
def test_a_drive_in_fault_is_off_until_the_cause_is_gone_and_it_is_cleared(
    rig: CanRig, fault: str, fields: dict[str, float], raised: Fault
) -> None:
    ready(rig)
    rig.emulator.control.fault(fault, devices=[2], **fields)
    rig.advance(0.02)
    assert [int(one) for one in rig.bus.read().fault] == [0, int(raised), 0]
    assert rig.powered() == [True, False, True]
    if raised is not Fault.OVERLOAD:  # without torque nothing is overloaded
        with pytest.raises(HardwareError, match=raised.name or ""):
            rig.bus.clear_fault(2)
    rig.heal()
    rig.emulator.control.set(2, temperature_c=30.0, supply_v=48.0)
    rig.advance(0.02)
    assert rig.bus.read().fault[1] == raised, "a fault that clears itself"
    rig.bus.clear_fault(2)
    rig.bus.activate()
    assert rig.powered() == [True, True, True]


def test_the_torque_limit_in_the_drive_holds(rig: CanRig) -> None:
    ready(rig)
    asked = command(rig, 2.5)
    asked.mode, asked.kp = Mode.IMPEDANCE, np.full(3, 400.0)  # 1000 N m asked for
    rig.bus.write(asked)
    rig.advance(0.003)
    torques = [abs(motor["torque_nm"]) for motor in rig._motors()]
    assert max(torques) == pytest.approx(6.0)


def test_limits_hold_on_the_wire(rig: CanRig) -> None:
    ready(rig)
    rng = np.random.default_rng(4)
    for _ in range(50):
        asked = command(rig, rng.normal(0, 50, 3))
        asked.mode, asked.dq, asked.tau = Mode.IMPEDANCE, rng.normal(0, 50, 3), rng.normal(0, 50, 3)
        rig.bus.write(asked)
        rig.advance(0.002)
    commands = [frame for frame in rig.frames.frames("sent") if frame.id >> 24 == 1]
    assert len(commands) >= 150
    for frame in commands:
        p, v, _, _ = struct.unpack(">4H", frame.data)
        assert abs(p / 65535 * 8 * math.pi - 4 * math.pi) <= 2.5
        assert abs(v / 65535 * 88 - 44) <= 15
        assert abs((frame.id >> 8 & 0xFFFF) / 65535 * 34 - 17) <= 6


def test_what_cannot_be_emulated_is_refused() -> None:
    with pytest.raises(HardwareError, match="1 to 127"):
        build(Order("robstride", ids=(128,), interface="virtual", channel="ids"))
    with pytest.raises(HardwareError, match="are no ranges"):
        build(Order("robstride", interface="virtual", channel="ids", more={"ranges": [1, 2, 3]}))
    with pytest.raises(HardwareError, match="no motor named"):
        build(Order("robstride", motor="RS-77", interface="virtual", channel="ids"))
    with pytest.raises(HardwareError, match="no kind of CAN channel"):
        build(Order("robstride", interface="carrier-pigeon"))

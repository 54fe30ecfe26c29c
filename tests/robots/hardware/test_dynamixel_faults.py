"""What the DYNAMIXEL driver makes of faults on the wire and in servos; the servos are emulated in another process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from bench import DynamixelRig, SharedEmulator
from conformance import command, ready

from cadenza.robots.hardware.dynamixel.bus import DynamixelBus
from cadenza.robots.hardware.dynamixel.port import Answer
from cadenza.robots.hardware.dynamixel.settings import DynamixelOptions
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports.serial import ByteLog, SerialPort
from cadenza.robots.hardware.types import Fault, Mode

TICK = 2 * np.pi / 4096
QUICK = DynamixelOptions(broadcast_up_to=3)


@pytest.fixture(scope="module")
def emulator() -> Iterator[SharedEmulator]:
    made = SharedEmulator()
    yield made
    made.stop()


@pytest.fixture
def rig(emulator: SharedEmulator) -> Iterator[DynamixelRig]:
    made = emulator.rig()
    yield made
    emulator.give_back(made)


def test_the_alert_bit_does_not_hide_the_register_that_explains_it(rig: DynamixelRig) -> None:
    ready(rig)
    rig.bus.read()
    rig.control.set(2, temperature_c=95.0)
    rig.advance(0.02)
    seen = 0
    for _ in range(3):
        state = rig.bus.read()
        seen |= int(state.fault[1])
        rig.advance(0.02)
    assert seen & Fault.OVERHEATED
    assert state.age[1] < 0.05, "a sample with an alert is a sample"
    assert rig.powered() == [True, False, True], "the servo has switched itself off"
    rig.control.set(2, temperature_c=30.0)
    rig.bus.deactivate()
    with pytest.raises(HardwareError, match="overheated"):
        rig.bus.activate()
    rig.bus.clear_fault(2)
    rig.bus.configure(Mode.POSITION, 0.2)
    rig.bus.activate()


def test_lost_packets_cost_no_sample_twice_running(rig: DynamixelRig) -> None:
    """5 % of all packets are dropped: one retry, and what is missing then is older, not invented."""
    rig.turn(0, 0.3)
    ready(rig)
    target = command(rig, rig.shafts())
    rig.control.fault("drop", share=0.05)
    rig.bus.port.serial.margin_s = 0.05
    oldest = 0.0
    for _ in range(40):
        state = rig.bus.read()
        oldest = max(oldest, float(state.age.max()))
        np.testing.assert_allclose(state.q, [0.3, 0.0, 0.0], atol=3 * TICK)
        rig.bus.write(target)
        rig.advance(0.02)
    assert rig.bus.counters.timeouts > 0
    assert rig.bus.counters.retries <= 40
    assert oldest <= 0.08 + 1e-6


def test_where_there_is_no_time_left_nobody_is_asked_again(rig: DynamixelRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tick allows for reading is gone after the first request: its silence is coasted over, not asked after."""
    ready(rig)
    rig.bus.read()
    rig.bus.port.serial.margin_s = 0.05
    rig.control.fault("drop", share=1.0)
    rig.advance(0.001)
    before = rig.bus.counters.retries
    rig.bus.read()
    assert rig.bus.counters.retries == before + 1, "where nothing is in a hurry, it is"
    log = ByteLog()
    rig.bus.port.serial.taps.append(log)
    with rig.bus.port.serial.within(0.02):
        monkeypatch.setattr(rig.bus.port.serial, "left_s", lambda: 0.0004)
        state = rig.bus.read()
        rig.bus.housekeep()
    assert rig.bus.counters.retries == before + 1
    assert len([chunk for chunk in log.chunks if chunk.direction == "sent"]) == 1
    assert (state.fault & Fault.SILENT).all()


def test_temperatures_are_asked_for_after_the_goals_where_somebody_keeps_house(rig: DynamixelRig) -> None:
    """Either way every motor's have been asked within ten ticks, and never twice in one tick."""
    ready(rig)
    for keeps_house in (True, False):
        rig.bus.read()
        for number, degrees in enumerate((40.0, 45.0, 50.0), start=1):
            rig.control.set(number, temperature_c=degrees + 5 * keeps_house)
        seen = np.zeros((12, 3))
        for tick in range(12):
            seen[tick] = rig.bus.read().temperature
            rig.bus.write(command(rig, 0.0))
            if keeps_house:
                log = ByteLog()
                rig.bus.port.serial.taps.append(log)
                rig.bus.housekeep()
                rig.bus.port.serial.taps.remove(log)
                assert len([chunk for chunk in log.chunks if chunk.direction == "sent"]) <= 1
            rig.advance(0.02)
        np.testing.assert_allclose(seen[-1], np.array([40.0, 45.0, 50.0]) + 5 * keeps_house, atol=1.0)


def test_flipped_bits_are_caught_by_the_checksum(rig: DynamixelRig) -> None:
    ready(rig)
    rig.control.fault("corrupt", share=0.3, way="reply")
    rig.bus.port.serial.margin_s = 0.05
    for _ in range(25):
        state = rig.bus.read()
        np.testing.assert_allclose(state.q, 0.0, atol=2 * TICK)
        rig.advance(0.02)
        rig.bus.write(command(rig, 0.0))
    assert rig.bus.counters.corrupt > 0


def test_a_motor_that_stays_mute_does_not_spoil_the_others(rig: DynamixelRig) -> None:
    ready(rig)
    rig.fault("mute", 1)
    rig.bus.port.serial.margin_s = 0.05
    for _ in range(8):
        rig.bus.read()
        rig.bus.write(command(rig, 0.0))
        rig.advance(0.02)
    before = rig.bus.counters.timeouts
    for _ in range(4):
        state = rig.bus.read()
        assert state.fault.tolist() == [0, int(Fault.SILENT), 0]
        rig.advance(0.02)
    assert rig.bus.counters.timeouts - before <= 1, "it is asked alone, now and then"
    rig.heal()
    for _ in range(6):
        state = rig.bus.read()
    assert state.fault.tolist() == [0, 0, 0]


def test_a_restart_in_mid_run_is_seen(rig: DynamixelRig) -> None:
    ready(rig)
    rig.control.fault("reboot", devices=[3])
    seen = 0
    for _ in range(30):
        seen |= int(rig.bus.read().fault[2])
        rig.bus.write(command(rig, 0.0))
        rig.advance(0.02)
    assert seen & Fault.SILENT
    assert seen & Fault.OTHER, "its settings are gone, torque is off"
    assert rig.powered() == [True, True, False]


def test_two_motors_with_one_id_are_named(rig: DynamixelRig) -> None:
    rig.control.fault("id_clash", devices=[2])
    with pytest.raises(HardwareError, match=r"joint_b \(id 2\) answers garbled or twice"):
        rig.bus.connect()


def test_a_wrong_speed_is_what_the_message_suspects(rig: DynamixelRig) -> None:
    wrong = DynamixelBus(rig.bus.settings, SerialPort(rig.emulator.port, 57600, margin_s=0.02), rig.clock, QUICK)
    with pytest.raises(HardwareError) as caught:
        wrong.connect()
    assert "57600" in caught.value.advice
    assert "scan" in caught.value.advice
    wrong.close()


def test_another_model_is_refused(rig: DynamixelRig) -> None:
    rows = [replace(row, motor="STS3215-12V") if row.bus_id == 3 else row for row in rig.bus.settings]
    wrong = DynamixelBus(rows, rig.bus.port.serial, rig.clock, QUICK)
    with pytest.raises(HardwareError, match=r"joint_c \(id 3\) is a XM430-W350, not a STS3215-12V"):
        wrong.connect()


def test_no_command_puts_a_goal_beyond_the_limits_on_the_wire(rig: DynamixelRig) -> None:
    """200 commands from the far side of sense; what counts is what the port sent, not what the driver says."""
    draw = np.random.default_rng(5)
    ready(rig)
    heard = ByteLog(most=None)
    rig.bus.port.serial.taps.append(heard)
    refused = 0
    for _ in range(200):
        asked = command(rig, draw.normal(size=3) * 10.0 ** draw.integers(-2, 12))
        asked.kp *= draw.normal() * 10.0 ** draw.integers(-2, 6)
        if draw.random() < 0.2:
            asked.q[draw.integers(3)] = draw.choice([np.nan, np.inf, -np.inf])
        try:
            rig.bus.write(asked)
        except HardwareError:
            refused += 1
    goals, gains = [], []
    for chunk in heard.chunks:
        packet = chunk.data
        assert packet[7] == 0x83, "nothing but sync writes"
        address, size = int.from_bytes(packet[8:10], "little"), int.from_bytes(packet[10:12], "little")
        values = [
            int.from_bytes(packet[at + 1 : at + 1 + size], "little", signed=True)
            for at in range(12, len(packet) - 2, 1 + size)
        ]
        (goals if address == 116 else gains).extend(values)
        assert address in (84, 116)
    assert len(goals) == 3 * (200 - refused)
    assert 2048 - 1303 <= min(goals) <= max(goals) <= 2048 + 1303
    assert 0 <= min(gains) <= max(gains) <= 16383


def test_servos_that_know_no_fast_reading_are_read_one_by_one(rig: DynamixelRig) -> None:
    """Three fast reads without an answer, each made good within its own read, then none for fifty."""
    rig.turn(2, 0.4)
    rig.bus.connect()
    plain, asked = rig.bus.port.sync_read, []

    def deaf_to_fast(ids: list[int], address: int, size: int, *, fast: bool = False) -> dict[int, Answer]:
        if address != 126 and address != 124:
            return plain(ids, address, size)
        asked.append(fast)
        return dict.fromkeys(ids, Answer(None)) if fast else plain(ids, address, size)

    rig.bus.port.sync_read = deaf_to_fast  # type: ignore[method-assign, assignment]
    for _ in range(50):
        state = rig.bus.read()
        assert state.fault.tolist() == [0, 0, 0]
        assert state.q[2] == pytest.approx(0.4, abs=TICK)
        assert state.age.max() == 0.0
    assert asked == [True, False] * 3 + [False] * 47


def test_a_bad_moment_of_the_whole_bus_leaves_nobody_out(rig: DynamixelRig) -> None:
    """Two of three motors silent is no fault of theirs: all are asked again in the very next read."""
    ready(rig)
    for index in (1, 2):
        rig.fault("mute", index)
    rig.bus.port.serial.margin_s = 0.05
    for _ in range(6):
        state = rig.bus.read()
    assert state.fault.tolist() == [0, int(Fault.SILENT), int(Fault.SILENT)]
    rig.heal()
    assert rig.bus.read().fault.tolist() == [0, 0, 0]

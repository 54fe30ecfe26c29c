"""Emulated Damiao drives: an independent client, physics behind the wire, and what a silent host leads to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from can_rig import IDS, CanRig, emulated, free_channel, settings
from conformance import command, follow, ready

from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.canbus.opening import can_bus
from cadenza.robots.hardware.emulators.can_drives import bench_row
from cadenza.robots.hardware.emulators.can_wire import Datagram, SlcanChannel
from cadenza.robots.hardware.emulators.damiao import build
from cadenza.robots.hardware.emulators.launch import Order, Spawned, spawn
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant
from cadenza.robots.hardware.transports.canport import Frame
from cadenza.robots.hardware.types import Fault, JointCommand, Mode

pytest.importorskip("can")
pytest.importorskip("msgpack")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Spawned]:
    with emulated("damiao", "DM4310") as started:
        yield started


@pytest.fixture
def rig(emulator: Spawned) -> Iterator[CanRig]:
    made = CanRig(emulator, "DM4310", DamiaoCodec())
    yield made
    made.bus.close()


# ---------------------------------------------------------------------- an independent client

CLIENT = """
import json, sys, time
from damiao_motor import DaMiaoController

bus = DaMiaoController(channel=sys.argv[1], bustype="slcan")
motor = bus.add_motor(1, 0x11, "4310")
said = {name: motor.get_register(number, timeout=5.0) for name, number in
        (("id", 8), ("master", 7), ("pmax", 21), ("vmax", 22), ("tmax", 23), ("gear", 20), ("mode", 10))}
motor.set_can_timeout(2000)
motor.request_motor_feedback()
time.sleep(0.2)
said["before"] = motor.get_states()
motor.ensure_control_mode("MIT")
motor.enable()
time.sleep(0.1)
until = time.monotonic() + 1.5
while time.monotonic() < until:
    motor.send_cmd_mit(target_position=0.7, stiffness=20.0, damping=1.0)
    time.sleep(0.01)
said["moved"] = motor.get_states()
motor.disable()
time.sleep(0.2)
said["after"] = motor.get_states()
said["timeout"] = motor.get_register(9, timeout=5.0)
bus.shutdown()
print(json.dumps(said))
"""


def test_damiao_motor_reads_enables_and_moves_it_from_another_process() -> None:
    pytest.importorskip("damiao_motor")
    with spawn(Order("damiao", motor="DM4310", ids=(1, 2), interface="slcan")) as drives:
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, drives.port], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.strip().splitlines()[-1])
        assert (said["id"], said["master"], said["gear"], said["mode"]) == (1, 0x11, 10.0, 1)
        assert (said["pmax"], said["vmax"], said["tmax"]) == (12.5, 30.0, 10.0)
        assert said["timeout"] == 40_000  # 2 s in units of 50 us
        assert said["before"]["status"] == "DISABLED"
        assert said["before"]["pos"] == pytest.approx(0.0, abs=0.001)
        assert said["moved"]["status"] == "ENABLED"
        assert said["moved"]["pos"] == pytest.approx(0.7, abs=0.01)
        assert said["after"]["status"] == "DISABLED"
        state = drives.control.state()
        assert state["motors"][0]["angle_rad"] == pytest.approx(0.7, abs=0.02)
        assert state["motors"][1]["angle_rad"] == 0.0


# ---------------------------------------------------------------------- physics behind the wire


def test_a_step_behind_the_wire_is_the_same_step_in_mujoco(rig: CanRig) -> None:
    ready(rig)
    rig.bus._reuse_s = 0.0
    kp, kd, goal, tau = 30.0, 0.6, 0.8, 0.4
    plant = Plant.of_bench([bench_row("DM4310", number) for number in IDS])
    plant.powered[:] = True
    asked = JointCommand(
        np.full(3, goal), np.full(3, 0.5), np.full(3, tau), np.full(3, kp), np.full(3, kd), Mode.IMPEDANCE
    )
    errors = []
    for _ in range(100):
        sent = rig.bus.write(asked).command
        plant.goal[:], plant.goal_velocity[:], plant.tau[:] = sent.q, sent.dq, sent.tau
        plant.kp[:], plant.kd[:] = sent.kp, sent.kd
        rig.advance(0.005)
        plant.advance(plant.time + 0.005)
        state = rig.bus.read()
        errors.append([np.abs(state.q - plant.q).max(), np.abs(state.dq - plant.dq).max()])
    assert np.max(np.array(errors)[:, 0]) < 2 * 25 / 65535
    assert np.max(np.array(errors)[:, 1]) < 2 * 60 / 4095
    assert np.all(np.abs(plant.q) > 0.5)


def test_modes(rig: CanRig) -> None:
    for index in range(3):
        rig.turn(index, 0.5)
    ready(rig)
    for mode in (Mode.HOLD, Mode.DAMP):
        asked = command(rig, -1.0)
        asked.mode = mode
        for _ in range(10):
            sent = rig.bus.write(asked).command
            rig.advance(0.02)
        np.testing.assert_allclose(rig.shafts(), 0.5, atol=0.01)
        assert np.all(sent.kp == 0) == (mode is Mode.DAMP)
        np.testing.assert_allclose(sent.kd, 1.0, atol=0.01)
    goals = [motor["goal"] for motor in rig._motors()]
    assert all(goal[2] == 0.0 and goal[3] == pytest.approx(1.0, abs=0.01) for goal in goals)
    asked.mode = Mode.OFF
    rig.bus.write(asked)
    assert not any(rig.powered())
    with pytest.raises(HardwareError, match="not active"):
        rig.bus.write(command(rig, 0.0))


def test_limits_hold_on_the_wire(rig: CanRig) -> None:
    ready(rig)
    rng = np.random.default_rng(3)
    for _ in range(50):
        asked = JointCommand(*(rng.normal(0, 50, (5, 3))), mode=Mode.IMPEDANCE)
        rig.bus.write(asked)
        rig.advance(0.002)
    commands = [frame for frame in rig.frames.frames("sent") if frame.id in IDS and frame.data[:7] != b"\xff" * 7]
    assert len(commands) >= 150
    for frame in commands:
        word = int.from_bytes(frame.data, "big")
        assert abs((word >> 48) / 65535 * 25 - 12.5) <= 2.5
        assert abs((word >> 36 & 0xFFF) / 4095 * 60 - 30) <= 15
        assert abs((word & 0xFFF) / 4095 * 20 - 10) <= 6


def test_a_reply_serves_the_next_read_and_no_other(rig: CanRig) -> None:
    ready(rig)
    sent = rig.frames.frames
    rig.bus.write(command(rig, 0.1))
    rig.advance(0.005)
    count = len(sent("sent"))
    state = rig.bus.read()
    assert len(sent("sent")) == count
    np.testing.assert_allclose(state.age, 0.005)
    rig.bus.read()
    assert len(sent("sent")) == count + 3
    rig.bus.write(command(rig, 0.1))
    rig.advance(0.02)  # at 50 Hz a reply is too old
    state = rig.bus.read()
    assert len(sent("sent")) == count + 9
    np.testing.assert_allclose(state.age, 0.0, atol=1e-9)


# ---------------------------------------------------------------------- connecting


def test_connect_enables_nothing_and_sends_register_reads_alone(rig: CanRig) -> None:
    rig.bus.connect()
    sent = rig.frames.frames("sent")
    assert sent
    assert all(frame.id == 0x7FF and frame.data[2] == 0x33 for frame in sent)


def test_ranges_of_the_drives_count_not_of_a_table() -> None:
    with emulated("damiao", "DM4310", more={"ranges": [3.2, 12.0, 7.0]}) as drives:
        rig = CanRig(drives, "DM4310", DamiaoCodec())
        rig.turn(0, 1.0)
        rig.bus.connect()
        assert rig.bus.codec.ranges(1).p_rad == pytest.approx(3.2)
        assert rig.bus.read().q[0] == pytest.approx(1.0, abs=6.4 / 65535)
        rig.bus.close()


def test_torque_of_another_program_is_refused(rig: CanRig) -> None:
    rig.bus.connect()
    rig.bus.port.send(Frame(2, bytes([0xFF] * 7 + [0xFC])))
    rig.advance(0.01)
    with pytest.raises(HardwareError, match="joint_2 has torque on"):
        rig.bus.configure(Mode.IMPEDANCE, 0.1)
    rig.bus.port.send(Frame(2, bytes([0xFF] * 7 + [0xFD])))


def test_a_pose_outside_the_limits_is_not_switched_on(rig: CanRig) -> None:
    rig.turn(1, 2.7)
    rig.bus.connect()
    rig.bus.configure(Mode.IMPEDANCE, 0.2)
    with pytest.raises(HardwareError, match="outside its limits"):
        rig.bus.activate()
    assert not any(rig.powered())


@pytest.mark.parametrize("watchdog_s", [0.0, -1.0, float("nan"), float("inf"), 1e-6, 60.0])
def test_there_is_no_running_without_a_watchdog(rig: CanRig, watchdog_s: float) -> None:
    rig.bus.connect()
    with pytest.raises(HardwareError, match="watchdog"):
        rig.bus.configure(Mode.IMPEDANCE, watchdog_s)
    rig.bus.configure(Mode.IMPEDANCE, 0.1)
    assert rig.bus.read_register(1, "TIMEOUT") == 2000
    assert rig.bus.read_register(1, "CTRL_MODE") == 1


# ---------------------------------------------------------------------- the watchdog


def test_state_d_comes_within_the_timeout_and_stays_until_cleared(rig: CanRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.IMPEDANCE, 0.1)
    rig.bus.activate()
    rig.advance(0.098)
    assert all(rig.powered())
    rig.advance(0.004)
    assert not any(rig.powered())
    assert [motor["state"] for motor in rig._motors()] == [0xD] * 3
    # Neither commands nor a new enable bring it back; this is written past the bus, which refuses to.
    for frame in (Frame(1, bytes([0xFF] * 7 + [0xFC])), Frame(1, bytes.fromhex("ffff7ff3333337ff"))):
        rig.bus.port.send(frame)
        rig.advance(0.01)
    assert rig._motors()[0]["state"] == 0xD
    seen = len(rig.frames.frames("sent"))
    assert np.all(rig.bus.read().fault & Fault.COMMUNICATION_LOST)
    sent = rig.bus.write(command(rig, 0.5))
    assert np.isnan(sent.command.q).all()
    assert all(frame.id == 0x7FF for frame in rig.frames.frames("sent")[seen:]), "a tripped motor got a command"
    for number in IDS:
        rig.bus.clear_fault(number)
    assert not any(rig.powered())
    rig.bus.activate()
    follow(rig, 0.3, 0.6)
    np.testing.assert_allclose(rig.shafts(), 0.3, atol=0.02)


def test_a_watchdog_that_does_not_trip_is_found_out(rig: CanRig) -> None:
    rig.bus.connect()
    rig.bus.configure(Mode.IMPEDANCE, 0.1)
    asleep = rig.clock.followers.pop()  # time passes for the host alone: nothing can trip
    with pytest.raises(HardwareError, match="did not trip"):
        rig.bus.prove_watchdog()
    rig.clock.followers.append(asleep)
    assert not any(rig.powered())


HOST = """
import sys, time
import numpy as np
from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.opening import can_bus
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.types import JointCommand, Mode
from cadenza.robots.hardware import can_motors

rows = [MotorSettings(f"joint_{n}", n, "DM4310", 6.0, 15.0, (-2.5, 2.5), 20.0, 1.0) for n in (1, 2)]
bus = can_bus("damiao", sys.argv[1], rows, margin_s=0.5)
bus.connect()
bus.configure(Mode.POSITION, float(sys.argv[2]))
bus.activate()
print("active", flush=True)
tick = 0
while True:
    bus.read()
    bus.write(JointCommand.hold(np.full(2, 0.4 * np.sin(tick / 20))))
    tick += 1
    if tick == 20:
        print("moving", flush=True)
    time.sleep(0.02)
"""


@pytest.mark.parametrize("stroke", [signal.SIGSTOP, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_host_that_is_stopped_or_killed_loses_its_motors(stroke: signal.Signals) -> None:
    with spawn(Order("damiao", motor="DM4310", ids=(1, 2), channel=free_channel())) as drives:
        host = subprocess.Popen(
            [sys.executable, "-c", HOST, drives.port, "2.0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert host.stdout is not None
            assert host.stdout.readline() == "active\n", host.stderr and host.stderr.read()
            assert host.stdout.readline() == "moving\n"
            assert all(motor["torque_enabled"] for motor in drives.control.state()["motors"])
            os.kill(host.pid, stroke)
            began = drives.control.state()["time_s"]
            while any(motor["torque_enabled"] for motor in drives.control.state()["motors"]):
                time.sleep(0.05)
                assert drives.control.state()["time_s"] < began + 20, "the watchdog did not trip"
            took = drives.control.state()["time_s"] - began
            assert took < 20
            assert [motor["state"] for motor in drives.control.state()["motors"]] == [0xD, 0xD]
            if stroke is signal.SIGSTOP:
                os.kill(host.pid, signal.SIGCONT)  # it goes on writing, and must not get its motors back
                at = [motor["angle_rad"] for motor in drives.control.state()["motors"]]
                time.sleep(0.5)
                after = drives.control.state()["motors"]
                assert not any(motor["torque_enabled"] for motor in after)
                np.testing.assert_allclose([motor["angle_rad"] for motor in after], at, atol=0.05)
        finally:
            host.kill()
            host.communicate()


# ---------------------------------------------------------------------- the emulator alone


def test_a_frame_takes_its_time() -> None:
    # 47 + 64 bits and 24 stuffed ones; 67 + 64 and 29: 135 and 160 us at 1 Mbit/s, as in hal.md.
    assert Datagram(1, bytes(8)).time_s(1_000_000) == pytest.approx(135e-6)
    assert Datagram(1, bytes(8), extended=True).time_s(1_000_000) == pytest.approx(160e-6)
    assert Datagram(1, b"").time_s(500_000) == pytest.approx((47 + 8) * 2e-6)


def test_ids_that_alias_are_not_emulated() -> None:
    with pytest.raises(HardwareError, match="four bits"):
        build(Order("damiao", ids=(1, 17), interface="virtual", channel="alias"))
    with pytest.raises(HardwareError, match="ranges"):
        build(Order("damiao", interface="virtual", channel="alias", more={"ranges": "12,x"}))
    with pytest.raises(HardwareError, match="colour"):
        build(Order("damiao", interface="virtual", channel="alias", more={"colour": "red"}))


def test_a_bus_of_one_process() -> None:
    world = build(Order("damiao", ids=(1, 2), interface="virtual", channel="inside", lockstep=True))
    world.start()
    bus = can_bus("damiao", "virtual:inside", settings("DM4310", (1, 2)), margin_s=1.0)
    try:
        assert [one.bus_id for one in bus.connect()] == [1, 2]
        np.testing.assert_allclose(bus.read().q, 0.0, atol=0.001)
    finally:
        bus.close()
        world.stop()


def test_the_bus_over_slcan_until_its_adapter_is_pulled() -> None:
    with spawn(Order("damiao", motor="DM4310", ids=(1, 2), interface="slcan")) as drives:
        bus = can_bus("damiao", drives.port, settings("DM4310", (1, 2)), margin_s=0.5)
        bus.connect()
        bus.configure(Mode.POSITION, 2.0)
        bus.activate()
        for _ in range(5):
            sent = bus.write(JointCommand.hold(np.full(2, 0.1)))
            np.testing.assert_allclose(sent.command.q, 0.1, atol=25 / 65535)
        assert np.all(bus.read().fault == 0)
        drives.control.fault("unplug")
        time.sleep(0.2)
        with pytest.raises(HardwareError, match="carries nothing any more"):
            bus.write(JointCommand.hold(np.full(2, 0.2)))
        bus.close()


def test_a_scan_names_likely_models(rig: CanRig) -> None:
    scanner = can_bus("damiao", rig.emulator.port, margin_s=0.1)
    assert [(one.bus_id, one.model, one.firmware) for one in scanner.scan([1, 3, 5])] == [
        (1, "DM4310", "5015"), (5, "DM4310", "5015"),
    ]  # fmt: skip
    scanner.close()


def test_slcan_line_by_line() -> None:
    channel = SlcanChannel()
    host = os.open(channel.address, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(host, b"C\rS8\rO\rt0018FFFFFFFFFFFFFFFC\rT0195547F27FFF\rtXYZ\rt7FF")
        assert channel.take() == [
            Datagram(1, bytes([0xFF] * 7 + [0xFC])), Datagram(0x0195547F, b"\x7f\xff", extended=True),
        ]  # fmt: skip
        os.write(host, b"0\r")
        assert channel.take() == [Datagram(0x7FF, b"")]
        channel.give(Datagram(0x11, b"\x01\xab"))
        channel.give(Datagram(0x02847FFD, b"\x01", extended=True))
        wanted, said = b"\r\r\r\a" + b"t011201AB\r" + b"T02847FFD101\r", b""
        while len(said) < len(wanted):  # a terminal hands out what was written piece by piece
            said += os.read(host, 100)
        assert said == wanted
    finally:
        os.close(host)
        channel.close()


def test_registers_refuse_what_a_drive_refuses(rig: CanRig) -> None:
    rig.bus.connect()
    for name, value in (("CTRL_MODE", 9), ("PMAX", 0.0), ("MST_ID", 0x900)):
        with pytest.raises(HardwareError, match="did not take"):
            rig.bus.write_register(1, name, value)
    assert rig.bus.read_register(1, "VBus") == 24.0
    assert rig.bus.read_register(1, "xout") == pytest.approx(0.0, abs=1e-6)

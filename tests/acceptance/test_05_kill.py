"""Promise 5: whatever happens to the host or to the cable, motors stop by their own watchdog, and nothing jumps.

Emulators run in lockstep, so "within the watchdog" is a statement about emulated time, whatever this machine does. A
DYNAMIXEL whose watchdog trips stops where it is, refuses goals and keeps its torque (ROBOTIS e-manual, Bus Watchdog);
a Damiao drive lets go.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from bench import start
from can_rig import CanRig, emulated
from wire_reader import (
    BUS_WATCHDOG,
    GOAL_POSITION,
    TICK_RAD,
    TORQUE_ENABLE,
    check_goals,
    damiao_commands,
    of_register,
    written,
)
from wired import HOME, PERIOD_S, ROBOT, WATCHDOG_S, WiredOp3, command

from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.emulators.launch import Order, Spawned
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.types import JointCommand, Mode

PHYSICS_S = 0.004
SLEW_STEP = JointLimits.for_robot(ROBOT).slew_rad_s * PERIOD_S
NO_LOAD_STEP = 46 * 2 * np.pi / 60 * PERIOD_S
"""How far an XM430 turns in a tick without any load."""

# A host that does not know that it slept: its clock moves by ticks, not by the emulator's time.
HOST = """
import sys
sys.path[:0] = sys.argv[3:]
import numpy as np
from wired import HOME, PERIOD_S, ROBOT, VirtualClock, command, wired_port
from cadenza.robots.hardware.emulators.control import EmulatorControl
from cadenza.robots.hardware.robot import RobotHardware

control = EmulatorControl(sys.argv[2])
clock = VirtualClock()
clock.followers.append(lambda when: control.ask("advance", by_s=max(when - clock.now(), 0.0)))
port = wired_port(sys.argv[1], clock, margin_s=0.3)
hardware = RobotHardware(port, ROBOT, homing_s=0.3)
with hardware:
    hardware.connect()
    hardware.configure(prove_watchdog=False)
    print("configured", flush=True)
    hardware.start_up()
    print("started", flush=True)
    while not hardware.homed:
        hardware.read(); hardware.step(); clock.sleep_until(clock.now() + PERIOD_S)
    for _ in range(20):
        hardware.read(); hardware.step(); clock.sleep_until(clock.now() + PERIOD_S)
    hardware.release()
    for tick in range(1_000_000):
        hardware.read()
        hardware.step(command(HOME + 0.3 * np.sin(tick / 10)))
        clock.sleep_until(clock.now() + PERIOD_S)
        if tick == 40:
            print("moving", flush=True)
        if not hardware.powered:
            print("stopped: " + hardware.reason, flush=True)
            break
"""


class Host:
    """That program in a process of its own."""

    def __init__(self, robot: WiredOp3):
        folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "robots" / "hardware")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST, robot.emulator.port, str(robot.control.path), *folders],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def until(self, word: str) -> None:
        for line in self.out:
            if line.startswith(word):
                return
        raise AssertionError(self.process.communicate()[1])

    def end(self) -> str:
        """Everything that it still says, errors too."""
        said, wrong = self.process.communicate(timeout=120)
        return said + wrong

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def spoiled(op3: WiredOp3) -> WiredOp3:
    """An emulator that another process drives; not to be reused."""
    op3.spoiled = True
    return op3


def watch(robot: WiredOp3, seconds: float) -> np.ndarray:  # type: ignore[type-arg]
    """Shafts every tick while nobody sends anything, (ticks + 1, joints)."""
    seen = [robot.angles()]
    for _ in range(round(seconds / PERIOD_S)):
        robot.control.ask("advance", by_s=PERIOD_S)
        seen.append(robot.angles())
    return np.array(seen)


def assert_stopped_by_the_watchdog(robot: WiredOp3) -> None:
    """Time passes in silence: every watchdog trips within its time, no joint jumps, and then nothing moves."""
    heard_s = max(entry["at_s"] for entry in robot.log() if entry["way"] == "in")
    robot.control.ask("advance", by_s=0.0)
    left_s = heard_s + WATCHDOG_S - robot.control.state()["time_s"]
    path = watch(robot, PERIOD_S * int(max(left_s, 0.0) / PERIOD_S))
    assert not any(robot.tripped()) or left_s < PERIOD_S
    # Two physics steps more than the watchdog's time.
    robot.control.ask(
        "advance", until_s=max(heard_s + WATCHDOG_S + 2 * PHYSICS_S + 1e-6, robot.control.state()["time_s"])
    )
    assert all(robot.tripped()), "within the watchdog's time of the last byte"
    after = watch(robot, 1.0)
    steps = np.abs(np.diff(np.vstack([path, after]), axis=0))
    assert (steps <= np.maximum(SLEW_STEP, NO_LOAD_STEP) + 2 * TICK_RAD).all()
    assert steps[-10:].max() < 2e-4, "it rests"
    # Where the watchdog caught it: not farther than it runs on, and not at some other place.
    assert np.abs(after[-1] - path[-1]).max() < 0.15


# ---------------------------------------------------------------------- the host


@pytest.mark.parametrize("stroke", [signal.SIGKILL, signal.SIGSTOP])
def test_a_host_that_dies_or_sleeps_loses_its_motors(spoiled: WiredOp3, stroke: signal.Signals) -> None:
    host = Host(spoiled)
    try:
        host.until("moving")
        os.kill(host.process.pid, stroke)
        if stroke == signal.SIGKILL:
            host.process.wait(timeout=60)
        else:
            _wait_until_stopped(host.process.pid)
        assert_stopped_by_the_watchdog(spoiled)
        assert check_goals(spoiled.log(), ROBOT).goals > 500
        rests_at, mark = spoiled.angles(), spoiled.mark()
        if stroke == signal.SIGSTOP:
            os.kill(host.process.pid, signal.SIGCONT)
            said = host.end()  # it goes on as if nothing had been
            assert "stopped: " in said
            assert "communication lost" in said
            cleared = of_register(written(spoiled.control.log(mark)), BUS_WATCHDOG, 1)
            assert cleared == [], "nobody clears a watchdog but an operator"
        else:
            second = Host(spoiled)
            try:
                said = second.end()
            finally:
                second.kill()
            assert "started" not in said
            assert "watchdog" in said, said
            asked = written(spoiled.control.log(mark))
            assert of_register(asked, GOAL_POSITION, 4) == []
            assert [one for one in of_register(asked, TORQUE_ENABLE, 1) if one[2]] == []
            # The program's end takes torque off, as every end of it does; hung up, limbs may swing then.
            if all(spoiled.torque()):
                np.testing.assert_allclose(spoiled.angles(), rests_at, atol=0.01)
        assert not [one for one in of_register(written(spoiled.control.log(mark)), TORQUE_ENABLE, 1) if one[2]]
    finally:
        host.kill()


def _wait_until_stopped(pid: int) -> None:
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.3)  # what it had sent is read by then


def test_after_a_trip_an_operators_order_and_nothing_else_brings_motion_back(op3: WiredOp3) -> None:
    hardware = op3.go()
    op3.advance(0.5)
    assert all(op3.tripped())
    op3.until_off(command(HOME + 0.3))
    assert hardware.lifecycle == Lifecycle.FAULT
    assert "communication lost" in hardware.reason
    with pytest.raises(HardwareError):
        hardware.start_up()
    hardware.reset()
    assert hardware.lifecycle == Lifecycle.INACTIVE
    with pytest.raises(HardwareError, match=r"communication lost|tripped"):
        hardware.start_up()
    assert all(op3.tripped())
    assert not any(op3.torque())
    hardware.estop(0, "an operator takes a look")
    mark = op3.mark()
    hardware.reset(clear_faults=True)
    assert not any(op3.tripped())
    assert not any(op3.torque()), "clearing switches nothing on"
    assert of_register(written(op3.control.log(mark)), GOAL_POSITION, 4) == []
    op3.run(5)
    op3.go()
    assert check_goals(op3.log(), ROBOT).goals > 0


# ---------------------------------------------------------------------- the cable


def test_an_adapter_that_is_pulled(op3: WiredOp3) -> None:
    hardware = op3.go()
    for k in range(30):
        op3.tick(command(HOME + 0.3 * np.sin(k / 10)))
    op3.unplug()
    with pytest.raises(HardwareError, match="gone"):
        op3.tick(command(HOME))
    assert hardware.lifecycle == Lifecycle.FAULT
    assert not hardware.powered
    assert "torque may still be on" in hardware.reason, "it says what it does not know"
    assert_stopped_by_the_watchdog(op3)
    with pytest.raises(HardwareError):
        hardware.reset()


def test_one_motor_that_does_not_answer_stops_the_robot(op3: WiredOp3) -> None:
    """Three ticks on its last sample, then a controlled stop; the mute one hears that its torque is to go off."""
    hardware = op3.go()
    for k in range(20):
        op3.tick(command(HOME + 0.3 * np.sin(k / 10)))
    op3.impatient()
    op3.fault("mute", "r_knee")
    ticks = 0
    while hardware.lifecycle == Lifecycle.ACTIVE:
        op3.tick(command(HOME + 0.3 * np.sin((20 + ticks) / 10)))
        ticks += 1
        assert ticks < 10
    assert ticks == 4
    assert hardware.reason.startswith("no usable feedback from r_knee")
    before = op3.angles()
    for _ in range(200):
        if not hardware.powered:
            break
        op3.tick(None)
        now = op3.angles()
        assert (np.abs(now - before) <= SLEW_STEP + 2 * TICK_RAD).all()
        before = now
    assert hardware.lifecycle == Lifecycle.FAULT
    assert op3.torque() == [False] * 20
    check_goals(op3.log(), ROBOT)


@pytest.mark.parametrize(
    ("fault", "fields", "ticks"),
    [
        ("drop", {"share": 0.05}, 150),
        ("corrupt", {"share": 0.05}, 150),
        pytest.param("drop", {"share": 0.05}, 1_500, marks=pytest.mark.slow),
        pytest.param("corrupt", {"share": 0.2, "amount": 3.0}, 500, marks=pytest.mark.slow),
        pytest.param("delay", {"share": 0.1, "amount": 0.03}, 500, marks=pytest.mark.slow),
        pytest.param("duplicate", {"share": 0.3}, 500, marks=pytest.mark.slow),
    ],
)
def test_a_bad_cable_makes_nothing_jump(op3: WiredOp3, fault: str, fields: dict[str, float], ticks: int) -> None:
    """It goes on, or it stops; in neither case does a joint jump or a goal leave its limits."""
    hardware = op3.go()
    op3.impatient(0.03)
    op3.fault(fault, **fields)
    before, largest, missed = op3.angles(), np.zeros(20), 0
    for k in range(ticks):
        if not hardware.powered:
            break
        op3.tick(command(HOME + 0.3 * np.sin(k / 10)))
        missed += int(hardware.supervisor.monitor.missed.any())
        now = op3.angles()
        largest, before = np.maximum(largest, np.abs(now - before)), now
    assert (largest <= np.maximum(SLEW_STEP, NO_LOAD_STEP) + 2 * TICK_RAD).all()
    assert largest.max() > 0.01, "it moved"
    counters = op3.bus.counters
    assert fault == "duplicate" or counters.timeouts + counters.corrupt > 0, "the fault was there"
    if not hardware.powered:
        assert hardware.reason
        assert not any(op3.torque())
    traffic = check_goals(op3.log(), ROBOT)
    assert traffic.goals > 100


# ---------------------------------------------------------------------- CAN


@pytest.fixture(scope="module")
def drives() -> Iterator[Spawned]:
    pytest.importorskip("can")
    pytest.importorskip("msgpack")
    with emulated("damiao", "DM4310") as started:
        yield started


def test_can_drives_let_go_when_the_bus_is_off_or_silent(drives: Spawned) -> None:
    rig = CanRig(drives, "DM4310", DamiaoCodec())
    since = len(drives.control.log())
    try:
        rig.bus.connect()
        rig.bus.configure(Mode.IMPEDANCE, WATCHDOG_S)
        rig.bus.activate()
        one = np.ones(3)
        for k in range(40):
            rig.bus.read()
            rig.bus.write(JointCommand(one * 0.3 * np.sin(k / 10), 0 * one, 0 * one, one * 20, one, Mode.IMPEDANCE))
            rig.advance(PERIOD_S)
        assert all(rig.powered())
        rig.fault("unplug")  # the host is told that its bus is off

        def go_on() -> None:
            for _ in range(20):
                rig.bus.read()
                rig.bus.write(JointCommand(one * 2.0, 0 * one, 0 * one, one * 20, one, Mode.IMPEDANCE))
                rig.advance(0.005)

        with pytest.raises(HardwareError):
            go_on()
        before = rig.shafts()
        rig.advance(WATCHDOG_S + 0.002)
        assert rig.powered() == [False] * 3
        assert [motor["state"] for motor in drives.control.state()["motors"]] == [0xD] * 3
        rig.heal()
        rig.advance(1.0)
        assert rig.powered() == [False] * 3, "a cable that is back moves nothing"
        np.testing.assert_allclose(rig.shafts(), before, atol=0.5)  # free shafts run out on their friction
        codes = damiao_commands(drives.control.log()[since:], rig.ids)
        low, high = (int((12.5 + end) / 25 * 65535) for end in (-2.5, 2.5))
        assert len(codes) >= 120
        assert all(low <= p <= high + 1 for _, _, (p, *_) in codes)
    finally:
        rig.bus.close()


def test_a_robot_whose_host_never_came_has_no_torque(op3_is_here: None) -> None:
    emulator = start(Order("dynamixel", robot="op3", hung_up=True, lockstep=True))
    try:
        emulator.control.ask("advance", by_s=2.0)
        assert not any(motor["torque_enabled"] for motor in emulator.control.state()["motors"])
    finally:
        emulator.stop()

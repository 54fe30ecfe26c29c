"""Promise 7: the motors' own watchdog is proven before the first torque, latches, and an operator alone clears it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
from can_rig import CanRig, emulated
from wire_reader import BUS_WATCHDOG, GOAL_POSITION, TORQUE_ENABLE, check_goals, of_register, written
from wired import HOME, PERIOD_S, ROBOT, WATCHDOG_S, WiredOp3, command

from cadenza.robots.hardware.canbus.damiao import DamiaoCodec
from cadenza.robots.hardware.emulators.launch import Spawned
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.types import JointCommand, Mode

COUNTS = round(WATCHDOG_S / 0.02)
LOST = 0xD


# ---------------------------------------------------------------------- DYNAMIXEL, a whole robot


def test_every_start_proves_that_each_watchdog_trips_and_moves_nothing(op3: WiredOp3) -> None:
    op3.set_up()
    op3.hardware.close()
    op3.advance(4.0)  # limbs come to rest
    op3.since, before = op3.mark(), op3.angles()
    op3.set_up(prove=True)
    writes = written(op3.log())
    asked = of_register(writes, BUS_WATCHDOG, 1)
    for row in ROBOT.joints:
        mine = [value for _, number, value in asked if number == row.bus_id]
        # Armed at 200 ms, tripped in silence, that one trip cleared, armed again.
        assert mine[-2:] == [0, COUNTS], row.name
        assert COUNTS in mine[:-2]
    on = [at_s for at_s, _, value in of_register(writes, TORQUE_ENABLE, 1) if value == 1]
    cleared_s = min(at_s for at_s, _, value in asked if value == 0 and at_s > max(on))
    assert cleared_s - max(on) >= WATCHDOG_S, "in between nobody spoke"
    heard = [entry["at_s"] for entry in op3.log() if entry["way"] == "in"]
    assert not [at_s for at_s in heard if max(on) < at_s < max(on) + WATCHDOG_S]
    assert not any(op3.torque())
    assert not any(op3.tripped())
    np.testing.assert_allclose(op3.angles(), before, atol=0.02)  # limp under torque with a gain of 0
    goals = of_register(writes, GOAL_POSITION, 4)
    assert len(goals) == len(ROBOT.joints), "the measured pose, and nothing else"
    assert op3.bus.read_register(1, "bus_watchdog") == COUNTS, "read back"


def test_a_watchdog_that_somebody_keeps_alive_refuses_the_robot(op3: WiredOp3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any packet on the bus feeds it: another program that asks now and then is enough to make it worthless."""
    sleep = op3.clock.sleep_until

    def with_company(when: float) -> None:
        while op3.clock.now() < when - 1e-9:
            sleep(min(op3.clock.now() + 0.1, when))
            op3.bus.port.ping(7)

    monkeypatch.setattr(op3.clock, "sleep_until", with_company)
    with pytest.raises(HardwareError, match="watchdog did not trip") as caught:
        op3.set_up(prove=True)
    assert "r_hip_yaw" in str(caught.value)
    assert "Do not use this robot" in caught.value.advice
    assert not any(op3.torque())
    assert op3.hardware.lifecycle == Lifecycle.UNCONFIGURED


def test_a_tripped_watchdog_latches_refuses_goals_and_is_never_cleared_by_the_driver(op3: WiredOp3) -> None:
    hardware = op3.go()
    for k in range(20):
        op3.tick(command(HOME + 0.2 * np.sin(k / 10)))
    op3.advance(WATCHDOG_S + 0.03)
    assert all(op3.tripped())
    assert all(op3.torque())
    mark = op3.mark()
    for refused in (2100, 2048, 2000):  # by the device: goal registers are read-only now
        with pytest.raises(HardwareError, match="range"):
            op3.bus.write_register(20, "goal_position", refused)
    assert op3.bus.read_register(20, "bus_watchdog") == -1
    op3.until_off(command(HOME + 0.5))
    assert hardware.lifecycle == Lifecycle.FAULT
    assert "communication lost" in hardware.reason
    for _ in range(50):  # it goes on reading; nothing is forgotten and nothing forgiven
        hardware.read()
        op3.advance(PERIOD_S)
    hardware.reset()  # the operator's reset of our state is not the order to clear the motors
    for again in (hardware.start_up, op3.bus.activate, lambda: op3.bus.configure(Mode.POSITION, WATCHDOG_S)):
        with pytest.raises(HardwareError):
            again()
    assert all(op3.tripped())
    assert of_register(written(op3.control.log(mark)), BUS_WATCHDOG, 1) == []
    assert [one for one in of_register(written(op3.control.log(mark)), TORQUE_ENABLE, 1) if one[2]] == []
    hardware.estop(0, "an operator takes a look")
    hardware.reset(clear_faults=True)
    cleared = of_register(written(op3.control.log(mark)), BUS_WATCHDOG, 1)
    assert {value for _, _, value in cleared} == {0}
    assert {number for _, number, _ in cleared} == {row.bus_id for row in ROBOT.joints}
    assert not any(op3.tripped())
    op3.run(3)
    mark = op3.mark()
    op3.go()
    assert check_goals(op3.control.log(mark), ROBOT).goals > 0


def test_the_watchdog_of_a_running_robot_does_not_trip(op3: WiredOp3) -> None:
    op3.go()
    for k in range(100):
        op3.tick(command(HOME + 0.2 * np.sin(k / 10)))
    assert not any(op3.tripped())
    assert all(op3.torque())


# ---------------------------------------------------------------------- Damiao


@pytest.fixture(scope="module")
def drives() -> Iterator[Spawned]:
    pytest.importorskip("can")
    pytest.importorskip("msgpack")
    with emulated("damiao", "DM4310") as started:
        yield started


def test_damiao_drives_stay_in_state_d_until_an_explicit_clear(drives: Spawned) -> None:
    rig = CanRig(drives, "DM4310", DamiaoCodec())
    one = np.ones(3)
    asked = JointCommand(0.3 * one, 0 * one, 0 * one, 20 * one, one, Mode.IMPEDANCE)

    def states() -> list[int]:
        return [motor["state"] for motor in drives.control.state()["motors"]]

    try:
        rig.bus.connect()
        rig.bus.configure(Mode.IMPEDANCE, WATCHDOG_S)
        assert rig.bus.read_register(1, "TIMEOUT") == 4000  # 200 ms in units of 50 us, read back
        rig.bus.prove_watchdog()
        assert states() == [0, 0, 0], "that one trip is cleared, and torque is off"
        rig.bus.activate()
        for _ in range(10):
            rig.bus.read()
            rig.bus.write(asked)
            rig.advance(PERIOD_S)
        rig.advance(WATCHDOG_S + 0.01)
        assert states() == [LOST] * 3
        at = rig.shafts()
        for _ in range(30):
            rig.bus.read()
            with contextlib.suppress(HardwareError):
                rig.bus.write(asked)
            rig.advance(PERIOD_S)
        assert states() == [LOST] * 3, "commands do not wake it"
        assert rig.powered() == [False] * 3
        with pytest.raises(HardwareError):
            rig.bus.activate()
        assert states() == [LOST] * 3, "nor does switching on"
        np.testing.assert_allclose(rig.shafts(), at, atol=0.1)
        for number in rig.ids:
            rig.bus.clear_fault(number)
        assert states() == [0, 0, 0]
        assert rig.powered() == [False] * 3, "clearing moves nothing"
        rig.bus.activate()
        assert rig.powered() == [True] * 3
    finally:
        rig.bus.close()

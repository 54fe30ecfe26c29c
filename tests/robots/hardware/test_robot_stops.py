"""How a robot stops: categories, emergency stops, ports that fail, and every way out of a block."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from recorded_robot import G1, OP3, active, at, configured, homed, tick
from recording_port import DRIVE, RecordingPort

from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.estop import EStop
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.safety import Limit
from cadenza.robots.hardware.stopping import POLICIES, StopCategory, stop_policy, switch_off
from cadenza.robots.hardware.types import Fault, Mode

# ---------------------------------------------------------------------- stops


def test_a_stop_of_category_0_takes_the_power_away_at_once() -> None:
    hardware, port = active()
    hardware.stop(0)
    assert not port.powered
    assert hardware.lifecycle == Lifecycle.INACTIVE
    assert hardware.step(at(hardware)) is None


def test_a_stop_of_category_1_brings_joints_to_rest_before_the_power_goes() -> None:
    hardware, port = active()
    port.follow = False
    port.dq[0] = 2.0
    hardware.read()
    hardware.stop(1, "enough")
    count = len(port.written)
    for k in range(100):
        tick(hardware, port, at(hardware, 0.2))
        if k == 20:
            assert port.powered, "a joint still moves"
            port.dq[0] = 0.05
        if not hardware.powered:
            break
    stop = np.array([command.q[0] for command in port.written[count:]]) - hardware.home[0]
    assert stop[-1] == pytest.approx(0.5 * 2.0 * 0.1, abs=0.03)  # 2 rad/s to rest in 0.1 s
    assert (np.diff(stop) >= 0).all()
    assert k == 20 + 3  # three readings at rest
    assert hardware.lifecycle == Lifecycle.INACTIVE
    assert hardware.reason == "enough"


def test_a_stop_of_category_1_ends_even_if_a_joint_never_rests() -> None:
    hardware, port = active()
    port.dq[0] = 2.0
    port.follow = False
    hardware.stop(1)
    start = hardware.clock.now()
    while hardware.powered:
        tick(hardware, port)
    assert hardware.clock.now() - start == pytest.approx(POLICIES["biped"].settle_timeout_s, abs=0.05)


def test_a_stop_of_category_2_holds_with_power_until_an_operator_goes_on() -> None:
    hardware, port = active()
    hardware.stop(2)
    for _ in range(300):
        tick(hardware, port, at(hardware, 0.2))
    assert port.powered
    assert hardware.holding
    np.testing.assert_allclose(port.written[-1].q, hardware.home)
    hardware.release()
    tick(hardware, port, at(hardware, 0.2))
    np.testing.assert_allclose(port.written[-1].q, hardware.home + 0.2)
    hardware.stop(2)
    hardware.stop(1)
    while hardware.powered:
        tick(hardware, port)
    assert hardware.lifecycle == Lifecycle.INACTIVE


def test_an_arm_holds_first_and_then_lets_go() -> None:
    hardware, port = active(policy=POLICIES["arm"])
    start = hardware.clock.now()
    while hardware.powered:
        tick(hardware, port)
        if hardware.clock.now() - start == pytest.approx(4.0, abs=0.01):
            assert hardware.holding
    assert hardware.clock.now() - start == pytest.approx(0.24 + 5.0 + 0.16, abs=0.1)
    assert hardware.lifecycle == Lifecycle.FAULT


def test_drives_damp_in_a_controlled_stop_where_the_policy_says_so() -> None:
    port = RecordingPort(G1, DRIVE)
    hardware = RobotHardware(port, G1, policy=replace(stop_policy(G1), damp=True), homing_s=0.1)
    hardware.connect()
    hardware.configure()
    hardware.start_up()
    for _ in range(3):
        tick(hardware, port)
    hardware.stop(1)
    tick(hardware, port)
    sent = port.written[-1]
    assert sent.mode == Mode.DAMP
    assert (sent.kp == 0).all()
    np.testing.assert_allclose(sent.kd, [row.kd for row in G1.joints])


def test_servos_cannot_damp_and_hold_instead() -> None:
    hardware, port = active(policy=replace(stop_policy(OP3), damp=True))
    hardware.stop(1)
    tick(hardware, port)
    assert port.written[-1].mode == Mode.POSITION


def test_an_unknown_category_is_refused_and_a_stop_without_power_does_nothing() -> None:
    hardware, _ = configured()
    with pytest.raises(RefusedError, match="no stop category 3"):
        hardware.stop(3)
    hardware.stop(0)
    assert hardware.lifecycle == Lifecycle.INACTIVE


def test_lost_commands_let_a_biped_stand_then_stop_by_category_1() -> None:
    hardware, port = active()
    start = hardware.clock.now()
    tick(hardware, port, at(hardware, 0.1))
    while hardware.powered:
        tick(hardware, port)
        np.testing.assert_allclose(port.written[-1].q, hardware.home + 0.1)
    assert hardware.lifecycle == Lifecycle.FAULT
    assert "no command" in hardware.reason
    assert 0.5 < hardware.clock.now() - start < 1.0


def test_an_orderly_end_lets_commands_through_then_goes_home_and_rests() -> None:
    hardware, port = active()
    policy, start = hardware.policy, hardware.clock.now()
    away = at(hardware, 0.2)
    for _ in range(20):
        tick(hardware, port, away)
    hardware.end("enough")
    assert (hardware.lifecycle, hardware.ending) == (Lifecycle.ACTIVE, True)
    start, ending = hardware.clock.now(), 0
    while hardware.lifecycle == Lifecycle.ACTIVE:
        applied = tick(hardware, port, away)
        ending += 1
    assert ending == pytest.approx(policy.stand_s / 0.02, abs=1)
    assert not hardware.ending
    goals = []
    while hardware.powered:
        applied = tick(hardware, port, away)
        if applied is not None:
            goals.append(applied.applied.q.copy())
            assert (applied.limited_by & int(Limit.RAMP)).all()
    assert hardware.clock.now() - start >= policy.stand_s + policy.ramp_s + policy.home_s + policy.rest_s - 0.02
    steps = np.diff(goals, axis=0)
    np.testing.assert_allclose(goals[-1], hardware.home, atol=1e-9)
    assert (steps <= 1e-9).all(), "straight home"
    assert np.abs(steps).max() <= 1.5 * 0.2 / policy.home_s * 0.02 + 1e-6, "at most 3/2 of the mean speed"
    assert (hardware.lifecycle, hardware.reason, hardware.causes) == (Lifecycle.INACTIVE, "enough", ["enough"])


def test_an_end_without_a_policy_at_work_is_a_stop_of_category_1() -> None:
    hardware, port = homed()
    hardware.end("enough")
    assert hardware.lifecycle == Lifecycle.STOPPING
    start = hardware.clock.now()
    while hardware.powered:
        tick(hardware, port)
    assert hardware.clock.now() - start < hardware.policy.settle_timeout_s + 0.1
    assert hardware.lifecycle == Lifecycle.INACTIVE


def test_a_robot_that_is_held_at_the_end_still_obeys_every_stop() -> None:
    for stop, state in (
        (lambda h: h.let_go(), Lifecycle.INACTIVE),
        (lambda h: h.estop(1, "the red one"), Lifecycle.ESTOPPED),
        (lambda h: h.estop(0, "the red one"), Lifecycle.ESTOPPED),
    ):
        hardware, port = active()
        hardware.hold_at_end = True
        hardware.end("enough", stand_s=0.0)
        for _ in range(300):
            tick(hardware, port)
        assert hardware.rests
        assert hardware.powered
        stop(hardware)
        for _ in range(100):
            if not hardware.powered:
                break
            tick(hardware, port)
        assert hardware.lifecycle == state
        assert hardware.causes[0] == "enough"


def test_heat_while_it_is_held_takes_the_power_away() -> None:
    hardware, port = active()
    hardware.hold_at_end = True
    hardware.end("enough", stand_s=0.0)
    for _ in range(300):
        tick(hardware, port)
    assert hardware.rests
    port.temperature[:] = 76.0
    for _ in range(100):
        if not hardware.powered:
            break
        tick(hardware, port)
    assert hardware.lifecycle == Lifecycle.FAULT
    assert "too hot" in hardware.reason


def test_a_fall_switches_off() -> None:
    hardware, port = active()
    port.gravity = np.array([0.0, 1.0, 0.0])
    start = hardware.clock.now()
    while hardware.powered:
        tick(hardware, port, at(hardware))
    assert hardware.clock.now() - start <= 0.2 + 1e-6
    assert "falls" in hardware.reason
    assert hardware.lifecycle == Lifecycle.FAULT


def test_a_fall_in_the_middle_of_a_controlled_stop_switches_off_at_once() -> None:
    hardware, port = active(policy=replace(stop_policy(OP3), settle_timeout_s=10.0))
    port.dq[0] = 1.0
    hardware.stop(1, "first")
    port.gravity = np.array([0.0, 1.0, 0.0])
    while hardware.powered:
        tick(hardware, port)
    assert "falls" in hardware.reason
    assert hardware.lifecycle == Lifecycle.FAULT, "the stronger latch"


def test_an_operator_s_stop_does_not_unlatch_the_fault_that_stopped_before() -> None:
    hardware, port = active()
    port.fault[2] = int(Fault.OVERLOAD)
    tick(hardware, port, at(hardware))
    assert hardware.lifecycle == Lifecycle.STOPPING
    hardware.stop(0, "impatient")
    assert hardware.lifecycle == Lifecycle.FAULT
    assert not port.powered


# ---------------------------------------------------------------------- emergency stop


@pytest.mark.parametrize("category", [0, 1])
def test_an_emergency_stop_pre_empts_within_the_tick_and_latches(category: int) -> None:
    estop = EStop()
    hardware, port = active(estop=estop)
    hardware.read()
    estop.trip(category, "the red key")
    hardware.step(at(hardware, 0.2))
    assert not any((command.q == hardware.home + 0.2).all() for command in port.written), "not one more command"
    assert hardware.lifecycle == (Lifecycle.ESTOPPED if category == 0 else Lifecycle.STOPPING)
    for _ in range(100):
        tick(hardware, port, at(hardware, 0.2))
    assert hardware.lifecycle == Lifecycle.ESTOPPED
    assert not port.powered
    assert hardware.reason == "the red key"
    for act in (hardware.start_up, hardware.release):
        with pytest.raises(RefusedError):
            act()
    calls = len(port.written)
    hardware.reset()
    assert hardware.lifecycle == Lifecycle.INACTIVE
    for _ in range(10):
        tick(hardware, port, at(hardware))
    assert len(port.written) == calls, "reset alone moves nothing"
    assert not port.powered
    hardware.start_up()


def test_a_second_emergency_stop_does_not_wait_for_rest() -> None:
    hardware, port = active()
    port.dq[:] = 1.0
    hardware.estop(1)
    tick(hardware, port)
    assert port.powered
    hardware.emergency_stop.trip(0, "again")
    hardware.read()
    assert not port.powered
    assert hardware.lifecycle == Lifecycle.ESTOPPED


def test_an_emergency_stop_of_category_2_is_refused() -> None:
    hardware, port = active()
    with pytest.raises(RefusedError, match="category 0 or 1, not 2"):
        hardware.estop(2)
    assert port.powered


def test_an_emergency_stop_latches_without_power_too() -> None:
    hardware, _ = configured()
    hardware.estop()
    assert hardware.lifecycle == Lifecycle.ESTOPPED
    with pytest.raises(RefusedError):
        hardware.start_up()


def test_faults_of_motors_are_cleared_on_order_only() -> None:
    hardware, port = active()
    port.fault[3] = int(Fault.COMMUNICATION_LOST)
    while hardware.powered:
        tick(hardware, port, at(hardware))
    assert hardware.lifecycle == Lifecycle.FAULT
    hardware.reset()
    assert "clear_faults" not in port.calls
    with pytest.raises(RefusedError, match="communication lost"):
        hardware.start_up()
    hardware.estop()
    hardware.reset(clear_faults=True)
    hardware.start_up()


# ---------------------------------------------------------------------- when the port fails, and ways out


@pytest.mark.parametrize("where", ["read", "write"])
def test_a_port_that_is_gone_ends_in_fault_with_torque_off_tried(where: str) -> None:
    hardware, port = active()
    port.fails[where] = "unplugged."
    with pytest.raises(HardwareError, match="unplugged"):
        tick(hardware, port, at(hardware))
    assert hardware.lifecycle == Lifecycle.FAULT
    assert port.calls[-1] == "deactivate"
    assert "unplugged" in hardware.reason


def test_torque_that_cannot_be_switched_off_is_told_loudly(caplog: pytest.LogCaptureFixture) -> None:
    hardware, port = active()
    port.fails["deactivate"] = "r_knee does not answer."
    hardware.stop(0)
    assert port.calls[-3:] == ["deactivate"] * 3
    assert hardware.lifecycle == Lifecycle.FAULT
    assert "torque may still be on: r_knee" in hardware.reason
    assert "Cut their supply" in caplog.text
    with pytest.raises(HardwareError):
        hardware.reset()
    assert hardware.lifecycle == Lifecycle.FAULT
    port.fails.clear()
    hardware.reset()
    assert hardware.lifecycle == Lifecycle.INACTIVE
    assert switch_off(port) == ""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("state", ["homing", "active", "stopping"])
def test_whatever_leaves_the_block_torque_is_off(state: str, error: type[BaseException]) -> None:
    hardware, port = (homed if state == "homing" else active)()
    if state == "stopping":
        hardware.stop(2)
    with pytest.raises(error), hardware:
        raise error
    assert not port.powered
    assert port.calls[-1] == "close"
    assert hardware.lifecycle == Lifecycle.UNCONFIGURED
    hardware.close()


def test_ctrl_c_while_closing_still_switches_off(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware, port = active()

    def interrupt(category: int, reason: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hardware, "stop_and_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        hardware.close()
    assert not port.powered
    assert port.calls[-1] == "close"


def test_a_port_that_fails_while_closing_is_closed_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    hardware, port = active()
    port.fails |= {"read": "gone.", "write": "gone.", "deactivate": "gone."}
    with caplog.at_level(logging.ERROR):
        hardware.close()
    assert port.calls[-1] == "close"
    assert "gone" in caplog.text


def test_the_emergency_stop_stays_latched_over_closing_and_connecting() -> None:
    hardware, _ = active()
    hardware.estop()
    hardware.close()
    hardware.connect()
    hardware.read()
    assert hardware.lifecycle == Lifecycle.ESTOPPED
    hardware.reset()
    assert hardware.lifecycle == Lifecycle.UNCONFIGURED


def test_motors_without_a_watchdog_make_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    port = RecordingPort(OP3)
    port.capabilities = replace(port.capabilities, device_watchdog=False)
    hardware = RobotHardware(port, OP3)
    hardware.connect()
    hardware.configure()
    assert "nothing stops them if this process dies" in caplog.text


def test_categories_and_limits_are_as_documented() -> None:
    assert [int(one) for one in StopCategory] == [0, 1, 2]
    hardware, _ = configured()
    assert hardware.limits.safe
    assert isinstance(hardware.limits, JointLimits)
    assert POLICIES["biped"].coast_ticks == 3
    assert POLICIES["biped"].fall == StopCategory.POWER_OFF

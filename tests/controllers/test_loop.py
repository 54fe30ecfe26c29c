"""The control loop on a virtual clock: deadlines, stops, gates, and what it does when something fails."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cadenza.controllers import realtime as realtime_module
from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.loop import SETTLE_S, ControlLoop
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.realtime import realtime
from cadenza.robots import load_humanoid
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.sim import sim_hardware
from cadenza.robots.hardware.stopping import stop_policy

ROBOT = load_humanoid("op3")
HOMING_S = 0.3


@pytest.fixture
def runner(small_bundle: Any) -> PolicyRunner:
    return PolicyRunner(PolicyBundle.load(small_bundle("stand")))


@pytest.fixture
def make(op3_is_here: None) -> Callable[..., RobotHardware]:
    """Simulated hardware of an OP3 whose base is fixed in the air, connected and configured."""

    def made(**settings: Any) -> RobotHardware:
        hardware = sim_hardware(ROBOT, hung_up=True, homing_s=HOMING_S, **settings)
        hardware.connect()
        hardware.configure()
        return hardware

    return made


class Ticks:
    """Times and states of ticks, and something to do at one of them."""

    def __init__(self, hardware: RobotHardware, at: int = -1, do: Callable[[], None] = lambda: None):
        self.hardware, self.at, self.do = hardware, at, do
        self.times: list[float] = []
        self.states: list[str] = []
        self.active = 0

    def __call__(self, state: Any, applied: Any) -> None:
        self.times.append(state.at_s)
        self.states.append(self.hardware.lifecycle.value)
        self.active += self.states[-1] == "active"
        if self.active == self.at:
            self.at = -1
            self.do()


def test_a_run_from_start_to_torque_off(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    ticks = Ticks(hardware)
    report = ControlLoop(hardware, runner, at_tick=ticks).run(1.0)
    assert (report.lifecycle, report.reason, report.error) == ("inactive", "the time is over", "")
    assert (report.active_ticks, report.missed_ticks, report.interrupted) == (50, 0, False)
    np.testing.assert_allclose(np.diff(ticks.times), 0.02, atol=1e-9)
    order = [state for state, before in zip(ticks.states, ["", *ticks.states], strict=False) if state != before]
    assert order == ["homing", "active", "stopping", "inactive"]
    waited = ticks.times[ticks.states.index("active")] - ticks.times[0]
    assert waited >= HOMING_S + SETTLE_S - 1e-9
    assert not hardware.powered


def test_commands_are_the_policys(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    seen: list[tuple[Any, Any]] = []
    loop = ControlLoop(hardware, runner, at_tick=lambda state, applied: seen.append((runner.action.copy(), applied)))
    loop.run(0.5)
    asked = [(action, applied) for action, applied in seen if applied is not None and applied.requested is not None]
    driven = [(a, b) for a, b in asked if a.any()]
    assert len(driven) >= 25
    home, scale = runner.home, runner.facts.action_scale_rad
    for action, applied in driven[:25]:
        np.testing.assert_allclose(applied.requested.q, home + scale * action, atol=1e-12)


def test_a_stall_skips_ticks_and_never_bursts(make: Any, runner: PolicyRunner) -> None:
    hardware = make(policy=replace(stop_policy(ROBOT), watchdog_s=1.0))
    clock = hardware.clock

    def stall() -> None:
        clock.sleep_until(clock.now() + 0.3)

    ticks = Ticks(hardware, 10, stall)
    report = ControlLoop(hardware, runner, at_tick=ticks).run(1.0)
    gaps = np.diff(ticks.times)
    # It stalls at t = 0 of a period of 0.02: deadlines 0.02 to 0.28 are skipped, 0.30 is met.
    assert report.missed_ticks == 14
    assert gaps.max() == pytest.approx(0.3)
    assert np.sort(gaps)[:-1].max() == pytest.approx(0.02)
    assert gaps.min() == pytest.approx(0.02), "no burst to catch up"
    phases = np.array(ticks.times) / 0.02
    np.testing.assert_allclose(phases, np.round(phases), atol=1e-6, err_msg="the deadlines stay where they were")
    assert report.active_ticks == 50 - 14, "a second is a second"
    assert report.lifecycle == "inactive"


def test_a_tick_that_is_a_little_late_is_run(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    clock = hardware.clock
    ticks = Ticks(hardware, 10, lambda: clock.sleep_until(clock.now() + 0.024))  # 4 ms of 20 late: below a quarter
    report = ControlLoop(hardware, runner, at_tick=ticks).run(0.5)
    assert report.missed_ticks == 0
    gaps = np.diff(ticks.times)
    assert (gaps.max(), gaps.min()) == (pytest.approx(0.024), pytest.approx(0.016))
    assert report.active_ticks == 25


def test_the_motors_own_watchdog_outlives_a_stall(make: Any, runner: PolicyRunner) -> None:
    hardware = make()  # its watchdog: 0.2 s
    clock = hardware.clock
    ticks = Ticks(hardware, 10, lambda: clock.sleep_until(clock.now() + 0.3))
    report = ControlLoop(hardware, runner, at_tick=ticks).run(1.0)
    assert report.lifecycle == "fault"
    assert "communication_lost" in report.reason.replace(" ", "_")


def test_missed_ticks_reach_the_runners_clock(make: Any, small_bundle: Any) -> None:
    hardware = make(policy=replace(stop_policy(ROBOT), watchdog_s=1.0, command_deadline_s=1.0))
    clock = hardware.clock
    walk = PolicyRunner(PolicyBundle.load(small_bundle("walk")))
    phases: list[float] = []

    def tick(state: Any, applied: Any) -> None:
        if hardware.lifecycle.value == "active" and walk.action.any():
            phases.append(walk.phase)
            if len(phases) == 3:
                clock.sleep_until(clock.now() + 0.1)

    ControlLoop(hardware, walk, command=np.array([0.1, 0.0, 0.0]), at_tick=tick).run(0.4)
    steps = np.diff(phases[:5]) % 1.0 / (0.02 / 0.6)
    np.testing.assert_allclose(steps, [1, 1, 5, 1], atol=1e-6)


@pytest.mark.parametrize(("times", "states"), [(1, ["stopping", "estopped"]), (2, ["estopped"])])
def test_ctrl_c_once_stops_under_control_twice_at_once(
    make: Any, runner: PolicyRunner, times: int, states: list[str]
) -> None:
    hardware = make()

    def press() -> None:
        for count in range(times):
            hardware.emergency_stop.trip(1 if count == 0 else 0, "Ctrl-C" if count == 0 else "Ctrl-C, again")

    ticks = Ticks(hardware, 10, press)
    report = ControlLoop(hardware, runner, at_tick=ticks).run(None)
    after = ticks.states[ticks.states.index("active") + 10 :]
    assert list(dict.fromkeys(after)) == states
    assert (report.lifecycle, report.interrupted) == ("estopped", True)
    assert not hardware.powered


def test_a_stop_from_another_thread_takes_effect_in_the_next_tick(make: Any, runner: PolicyRunner) -> None:
    hardware = make()

    def trip() -> None:
        thread = threading.Thread(target=lambda: hardware.emergency_stop.trip(0, "a byte on the stop socket"))
        thread.start()
        thread.join()

    ticks = Ticks(hardware, 10, trip)
    report = ControlLoop(hardware, runner, at_tick=ticks).run(None)
    assert ticks.states.count("active") == 10
    assert (report.lifecycle, report.reason) == ("estopped", "a byte on the stop socket")
    assert not report.interrupted


def test_nothing_is_released_before_the_operators_word(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    asked: list[float] = []

    def word() -> bool:
        asked.append(hardware.clock.now())
        return len(asked) > 40

    ticks = Ticks(hardware)
    loop = ControlLoop(hardware, runner, confirmed=word, at_tick=ticks)
    report = loop.run(0.2)
    assert report.active_ticks == 10
    assert ticks.states.index("active") > 40 + (HOMING_S + SETTLE_S) / 0.02 - 3
    assert "at home: waiting for the operator's word" in [text for _, _, text in loop.events]


def test_it_is_put_down_once_and_given_time(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    down: list[float] = []

    def put_down() -> float:
        down.append(hardware.clock.now())
        return 0.7

    ticks = Ticks(hardware)
    ControlLoop(hardware, runner, at_home=put_down, at_tick=ticks).run(0.1)
    assert len(down) == 1
    assert ticks.times[ticks.states.index("active")] >= down[0] + 0.7 + SETTLE_S - 1e-6


def test_two_lost_readings_are_coasted_over(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    faults = hardware._port.faults
    actions: list[np.ndarray] = []
    count = 0

    def tick(state: Any, applied: Any) -> None:
        nonlocal count
        count += hardware.lifecycle.value == "active"
        faults.nan = {"r_knee"} if count in (10, 11) else set()
        if hardware.lifecycle.value == "active":
            actions.append(runner.action.copy())

    report = ControlLoop(hardware, runner, at_tick=tick).run(0.5)
    assert (report.lifecycle, report.active_ticks) == ("inactive", 25)
    assert np.isfinite(actions).all()
    assert runner.finite


def test_a_joint_that_stays_silent_stops_the_robot(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    ticks = Ticks(hardware, 5, lambda: hardware._port.faults.mute.add("r_knee"))
    report = ControlLoop(hardware, runner, at_tick=ticks).run(2.0)
    assert report.lifecycle == "fault"
    assert "r_knee" in report.reason


def test_a_port_that_is_gone_ends_the_run_with_its_words(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    ticks = Ticks(hardware, 5, lambda: setattr(hardware._port.faults, "unplugged", True))
    report = ControlLoop(hardware, runner, at_tick=ticks).run(2.0)
    assert report.lifecycle == "fault"
    assert "unplugged" in report.error


def test_observations_like_nothing_in_training_stop_the_robot(make: Any, small_bundle: Any) -> None:
    bundle = PolicyBundle.load(small_bundle("stand"))
    facts = bundle.manifest.deployment
    assert facts is not None
    low, high = list(facts.bounds.low), list(facts.bounds.high)
    low[2], high[2] = 5.0, 6.0  # of gyro[2], which is 0 in the air
    bounds = replace(facts.bounds, low=tuple(low), high=tuple(high))
    bundle.manifest = replace(bundle.manifest, deployment=replace(facts, bounds=bounds).sealed())
    loop = ControlLoop(make(), PolicyRunner(bundle))
    report = loop.run(5.0)
    assert report.active_ticks == 24, "half a second of them, counting the one that stops"
    assert "gyro[2] = 0, in training 5 to 6" in report.reason
    assert [text for _, level, text in loop.events if level == "warning" and "unlike training" in text]


def test_a_refused_start_switches_nothing_on(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    hardware._port.faults.mute.add("r_knee")
    with pytest.raises(RefusedError, match="r_knee"):
        ControlLoop(hardware, runner).run(1.0)
    assert not hardware.powered


def test_the_loops_thread_touches_no_file_and_prints_nothing(
    make: Any, runner: PolicyRunner, capfd: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    from cadenza.controllers.telemetry import Telemetry

    me, touched, watching = threading.get_ident(), [], False

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("open", "os.remove", "socket.connect") and threading.get_ident() == me:
            touched.append((event, arguments))

    sys.addaudithook(audit)  # stays for ever, asleep
    hardware = make()
    log = Telemetry(tmp_path / "a.mcap", ROBOT.joint_names, 0.02, {}, clock=hardware.clock.now)
    watching = True
    try:
        ControlLoop(hardware, runner, telemetry=log).run(0.5)
    finally:
        watching = False
        log.close()
    assert touched == []
    assert capfd.readouterr().out == ""


def test_health_tells_what_an_operator_wants_to_know(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    loop = ControlLoop(hardware, runner)
    loop.run(0.5)
    health = loop.health()
    assert (health.state, health.missed_ticks, health.waiting) == ("inactive", 0, False)
    assert health.rate_hz == pytest.approx(50.0)
    assert health.period_ms == pytest.approx((20.0, 20.0, 20.0))
    assert health.temperature.shape == (20,)


def test_realtime_is_undone_and_tells_what_was_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(realtime_module, "_lock_memory", lambda warnings: warnings.append("memory") is not None)
    before = sys.getswitchinterval()
    with realtime() as warnings:
        assert not gc.isenabled()
        assert sys.getswitchinterval() < before
    assert gc.isenabled()
    assert sys.getswitchinterval() == before
    assert gc.get_freeze_count() == 0
    assert [text for text in warnings if "SCHED_FIFO is not permitted" in text]
    assert "memory" in warnings

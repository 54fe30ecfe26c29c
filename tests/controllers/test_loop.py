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


def walking(make: Any, small_bundle: Any, **settings: Any) -> tuple[RobotHardware, PolicyRunner]:
    return make(**settings), PolicyRunner(PolicyBundle.load(small_bundle("walk")))


def test_a_run_ends_at_home_after_the_policy_was_told_to_stand(make: Any, small_bundle: Any) -> None:
    hardware, walk = walking(make, small_bundle)
    policy, rows = hardware.policy, []

    def note(state: Any, applied: Any) -> None:
        asked = loop._asked.copy() if hardware.lifecycle.value == "active" else None
        rows.append((hardware.lifecycle.value, asked, state.joints.q.copy(), hardware.ending))

    loop = ControlLoop(hardware, walk, command=np.array([0.1, 0.0, 0.0]), at_tick=note)
    report = loop.run(0.4)
    assert (report.lifecycle, report.reason, report.then) == ("inactive", "the time is over", ())
    assert report.active_ticks == 20
    ending = [asked for state, asked, _, ends in rows if ends]
    assert len(ending) == round(policy.stand_s / 0.02)
    assert not np.any(ending), "told to stand still"
    stopping = [q for state, _, q, _ in rows if state == "stopping"]
    assert len(stopping) >= (policy.ramp_s + policy.home_s + policy.rest_s) / 0.02 - 1
    np.testing.assert_allclose(stopping[-1], walk.home, atol=0.1)
    assert not hardware.powered


def test_an_orderly_end_gives_way_to_every_other_stop(make: Any, small_bundle: Any) -> None:
    for trip, state in (
        (lambda h: h.emergency_stop.trip(1, "the red one"), "estopped"),
        (lambda h: h._port.faults.mute.add("r_knee"), "fault"),
        (lambda h: h.emergency_stop.trip(0, "the red one"), "estopped"),
    ):
        for after in (5, 110):  # while it comes to a stand, and on the way home
            hardware, walk = walking(make, small_bundle)
            count = 0

            def tick(state: Any, applied: Any, hardware: Any = hardware, after: int = after, trip: Any = trip) -> None:
                nonlocal count
                count += hardware.ending or hardware.lifecycle.value == "stopping"
                if count == after:
                    trip(hardware)

            report = ControlLoop(hardware, walk, command=np.array([0.1, 0.0, 0.0]), at_tick=tick).run(0.2)
            assert report.lifecycle == state
            assert report.reason == "the time is over"
            assert len(report.then) == 1
            assert not hardware.powered
            # Stopped where it is, not led home first: 5 or 110 ticks, four that are coasted, and 1 s at most.
            assert count <= after + 4 + 55


@pytest.mark.parametrize("name", ["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_a_run_in_good_order(make: Any, small_bundle: Any, name: str) -> None:
    hardware, walk = walking(make, small_bundle)
    ended: list[bool] = []
    ticks = Ticks(hardware, 10, lambda: ended.append(loop.end(name)))
    loop = ControlLoop(hardware, walk, command=np.array([0.1, 0.0, 0.0]), at_tick=ticks)
    assert not loop.end(name), "nothing drives yet"
    report = loop.run(None)
    assert ended == [True]
    assert (report.lifecycle, report.reason, report.interrupted) == ("inactive", name, True)
    assert report.active_ticks == 10


def test_it_holds_at_home_until_it_is_let_go(make: Any, runner: PolicyRunner) -> None:
    hardware = make()
    asked: list[bool] = []

    def word() -> bool:
        asked.append(loop.health().resting)
        return len(asked) > 60

    loop = ControlLoop(hardware, runner, let_go=word)
    report = loop.run(0.2)
    assert asked == [True] * 61
    assert (report.lifecycle, report.reason) == ("inactive", "the time is over")
    assert not hardware.powered
    with pytest.raises(RefusedError, match="does not rest"):
        hardware.let_go()


def test_a_warm_motor_makes_the_policy_stand_until_it_has_cooled(make: Any, small_bundle: Any) -> None:
    hardware, walk = walking(make, small_bundle)
    row, temperature, asked = ROBOT.joint_names.index("l_knee"), [25.0], []
    read = hardware._port.read

    def warmed() -> Any:
        state = read()
        state.joints.temperature[row] = temperature[0]
        return state

    hardware._port.read = warmed

    def tick(state: Any, applied: Any) -> None:
        if hardware.lifecycle.value == "active":
            asked.append(bool(loop._asked.any()))
            temperature[0] = {10: 61.0, 20: 58.0, 30: 56.0}.get(len(asked), temperature[0])

    loop = ControlLoop(hardware, walk, command=np.array([0.1, 0.0, 0.0]), at_tick=tick)
    report = loop.run(0.8)
    assert report.lifecycle == "inactive"
    # Warm from 60 on, and until it is 3 K colder than that.
    assert asked[2:10] == [True] * 8
    assert asked[11:30] == [False] * 19
    assert asked[31:39] == [True] * 8
    told = [text for _, level, text in loop.events if level == "warning" and "policy" in text]
    assert told == ["l_knee warm: up to 61 degC; the policy is told to stand", "motors have cooled; the policy goes on"]


def test_heat_ends_a_run_in_good_order_and_the_first_cause_is_kept(make: Any, small_bundle: Any) -> None:
    hardware, walk = walking(make, small_bundle)
    row, read, since = ROBOT.joint_names.index("l_knee"), hardware._port.read, []

    def hot() -> Any:
        state = read()
        if len(since) > 5:
            state.joints.temperature[row] = 76.0
        if len(since) > 40:  # and while it still comes to a stand, it falls
            assert state.imu is not None
            state.imu.gravity[:] = (0.0, 1.0, 0.0)
        return state

    hardware._port.read = hot

    def tick(state: Any, applied: Any) -> None:
        if hardware.lifecycle.value == "active":
            since.append(bool(loop._asked.any()))

    loop = ControlLoop(hardware, walk, command=np.array([0.1, 0.0, 0.0]), at_tick=tick)
    report = loop.run(5.0)
    assert report.lifecycle == "fault"
    assert report.reason.startswith("l_knee too hot: up to 76 degC")
    assert len(report.then) == 1
    assert report.then[0].startswith("the robot falls")
    assert report.fell
    assert not any(since[10:])


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

"""Promise 11: period, age and bus time of every tick are in the log and shown; a stall skips ticks, never bursts.

In lockstep emulated time is exact, so what is asserted here is that everything is counted; how long a tick takes on
this machine is a matter for `cadenza bench deploy`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wire_reader import check_goals
from wired import PERIOD_S, ROBOT, WATCHDOG_S, WiredOp3

from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.log_summary import read_log
from cadenza.controllers.loop import ControlLoop
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.telemetry import TIMINGS
from cadenza.robots.hardware.stopping import stop_policy
from cadenza.scripts.main import run


@pytest.mark.parametrize("seconds", [5, pytest.param(600, marks=pytest.mark.slow)])
def test_every_tick_of_a_long_run_is_in_the_log_and_shown(
    small_bundle: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: int
) -> None:
    """20 joints at 50 Hz, on the wire."""
    pytest.importorskip("dynamixel_sdk")
    log, figures, said = tmp_path / "run.mcap", tmp_path / "run.json", tmp_path / "summary.json"
    command = ["deploy", str(small_bundle("stand")), "--bus", "emulated", "--lockstep", "--hung-up", "--yes"]
    assert run([*command, "--seconds", str(seconds), "--log", str(log), "--json", str(figures)]) == 0
    shown = capsys.readouterr().out
    report = json.loads(figures.read_text())
    assert (report["active_ticks"], report["missed_ticks"]) == (50 * seconds, 0)
    for words in ("period, ms", "bus, ms", "begun late, ms", "p99", f"{50 * seconds} ticks driven", "0 missed"):
        assert words in shown
    found = read_log(log)
    assert found.complete
    driven = np.array([state == "active" for state in found.state])
    assert abs(int(driven.sum()) - 50 * seconds) <= 1
    assert set(TIMINGS) <= set(found.loop)
    np.testing.assert_allclose(np.diff(found.time_s), PERIOD_S, atol=2e-6)
    np.testing.assert_allclose(found.loop["period_ms"][1:], 20.0, atol=1e-3)
    for name in ("read_ms", "write_ms", "policy_ms"):
        values = found.loop[name][driven]
        values = values[np.isfinite(values)]
        assert len(values) >= 50 * seconds - 1
        assert (values > 0).all(), "measured, not left at 0"
    ages = found.joints["age"][driven]
    assert np.isfinite(ages).all()
    assert ages.max() <= 3 * PERIOD_S
    assert run(["log", "summary", str(log), "--json", str(said)]) == 0
    summary = " ".join(capsys.readouterr().out.split())
    for words in ("period", "p50", "p99"):
        assert words in summary
    assert json.loads(said.read_text())


class Stall:
    """Lets time pass within one tick of the policy, and keeps the start of every tick."""

    def __init__(self, robot: WiredOp3, at: int, seconds: float):
        self.robot, self.at, self.seconds = robot, at, seconds
        self.times: list[float] = []
        self.driven = 0

    def __call__(self, state: Any, applied: Any) -> None:
        self.times.append(state.at_s)
        self.driven += self.robot.hardware.lifecycle.value == "active"
        if self.driven == self.at:
            self.at = -1
            self.robot.advance(self.seconds)


def test_a_stall_of_300_ms_skips_ticks_and_never_bursts(op3: WiredOp3, small_bundle: Callable[[str], Path]) -> None:
    """On the wire, with a device watchdog that allows it. The stall begins at the start of a tick: deadlines 0.02 to
    0.28 s later are gone, the one at 0.30 s is met."""
    op3.set_up(policy=replace(stop_policy(ROBOT), watchdog_s=1.0))
    stall = Stall(op3, 20, 0.3)
    runner = PolicyRunner(PolicyBundle.load(small_bundle("stand")))
    report = ControlLoop(op3.hardware, runner, at_tick=stall).run(2.0)
    assert (report.lifecycle, report.reason, report.missed_ticks) == ("inactive", "the time is over", 14)
    gaps = np.diff(stall.times)
    assert gaps.max() == pytest.approx(0.3)
    assert np.sort(gaps)[-2] == pytest.approx(PERIOD_S)
    assert gaps.min() == pytest.approx(PERIOD_S), "nothing is made up for in a burst"
    phase = np.array(stall.times) / PERIOD_S
    assert np.abs(phase - np.round(phase)).max() < 1e-6 or np.ptp(phase % 1.0) < 1e-6, "the deadlines stay"
    assert report.active_ticks + report.missed_ticks == pytest.approx(100, abs=1)
    assert check_goals(op3.log(), ROBOT).goals > 0


def test_a_stall_longer_than_the_motors_watchdog_ends_the_run(
    op3: WiredOp3, small_bundle: Callable[[str], Path]
) -> None:
    """300 ms against 200 ms: the motors have stopped by themselves, and the loop does not take them back."""
    op3.set_up()
    assert WATCHDOG_S < 0.3
    stall = Stall(op3, 20, 0.3)
    runner = PolicyRunner(PolicyBundle.load(small_bundle("stand")))
    report = ControlLoop(op3.hardware, runner, at_tick=stall).run(3.0)
    assert report.lifecycle == "fault"
    assert "communication lost" in report.reason
    assert report.missed_ticks == 14
    assert report.active_ticks < 100
    assert not any(op3.torque())
    assert all(op3.tripped())
    assert not math.isnan(report.timings_ms["period_ms"][2])

"""The control loop: read, ask the policy, write, sleep to the next deadline; from start-up to torque off.

Deadlines are absolute. A tick that begins late by less than a quarter of a period is run; deadlines that have passed by
more are skipped and counted, never made up for in a burst. In the loop's thread nothing is printed, written to a disk
or waited for but the bus: telemetry goes through a ring, and a display reads :meth:`ControlLoop.health`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.log_summary import percentiles
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.realtime import realtime
from cadenza.controllers.telemetry import TIMINGS, Telemetry
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.safety import Applied, Limit
from cadenza.robots.hardware.types import RobotState

Array = NDArray[np.float64]
LATE_SHARE = 0.25
"""Of a period, by which a tick may begin late and still be run."""
STRANGE_S = 0.5
"""How long observations may look like nothing in training before the robot is stopped."""
SETTLE_S = 1.0
"""How long a robot rests in its home pose, on its own feet, before the policy may take over."""
START_TRIES = 5
_KEPT_TICKS = 65_536
_READ, _POLICY, _WRITE, _SLEEP, _LATE, _PERIOD = range(len(TIMINGS))
_RAMP = int(Limit.RAMP)
_SIGNALS = ("Ctrl-C", "SIG")
"""How the reasons of :class:`cadenza.robots.hardware.estop.SignalStop` begin."""


@dataclass(frozen=True)
class Health:
    """A loop as seen from outside, while it runs."""

    state: str
    seconds: float
    """Of the policy's driving."""
    ticks: int
    missed_ticks: int
    dropped: int
    """Ticks that telemetry had no room for."""
    rate_hz: float
    """Over the last seconds."""
    period_ms: tuple[float, float, float]
    """p50, p99 and largest, over the last seconds, as all of these."""
    bus_ms: tuple[float, float, float]
    """Reading, limits and writing."""
    policy_ms: tuple[float, float, float]
    temperature: Array
    """degC, (n,); NaN where not known."""
    limited: tuple[str, ...]
    """Joints that limits held back in the last tick."""
    waiting: bool
    """For the operator's word."""
    resting: bool
    """At the end, for the word that takes the power away."""
    last_event: str


@dataclass(frozen=True)
class LoopReport:
    """What became of a run."""

    lifecycle: str
    """State that it ended in."""
    reason: str
    """Why it stopped: the first cause."""
    then: tuple[str, ...]
    """What came after that, e.g. a fall."""
    ticks: int
    active_ticks: int
    missed_ticks: int
    timings_ms: Mapping[str, tuple[float, float, float]]
    """p50, p99, largest of each section of the ticks in which the policy drove."""
    limited_ticks: Mapping[str, int]
    """How many ticks each limit held a joint back, by limit."""
    odd_ticks: int
    """Observations that looked unlike training."""
    fell: bool
    """A fall was the cause, or came after it."""
    interrupted: bool
    error: str
    """Of the port, if it failed; empty otherwise."""


def next_deadline(deadline: float, period_s: float, now: float) -> tuple[float, int]:
    """The next deadline that can still be kept, and how many were skipped for it.

    Args:
        deadline: of the tick that is over, on the loop's clock.
        period_s: between deadlines.
        now: when it was over.
    """
    deadline += period_s
    behind = now - deadline - LATE_SHARE * period_s
    skipped = max(0, math.ceil(behind / period_s)) if behind > 0 else 0
    return deadline + skipped * period_s, skipped


class ControlLoop:
    """Drives a robot with a policy.

    Args:
        hardware: connected and configured, torque off.
        runner: its policy.
        period_s: None takes the policy's.
        telemetry: where every tick goes.
        confirmed: polled while the robot waits at home; the policy takes over once it says True.
        at_home: called once, when the way home is done; a gantry lets the robot down, for example. It returns how long
            that takes, s.
        command: forward and left velocity, m/s, and yaw rate, rad/s, (3,).
        punctual: use real-time scheduling where it is permitted; for a real clock.
        at_tick: called at the end of each tick, for tests and films; it must be quick.
        let_go: polled while the robot rests in its home pose at the end of a run; its torque goes off once this says
            True. None: it does not wait.
    """

    def __init__(
        self,
        hardware: RobotHardware,
        runner: PolicyRunner,
        *,
        period_s: float | None = None,
        telemetry: Telemetry | None = None,
        confirmed: Callable[[], bool] = lambda: True,
        at_home: Callable[[], float] = lambda: 0.0,
        command: Array | None = None,
        punctual: bool = False,
        at_tick: Callable[[RobotState, Applied | None], None] | None = None,
        let_go: Callable[[], bool] | None = None,
    ):
        self.hardware, self.runner, self.telemetry = hardware, runner, telemetry
        self.clock = hardware.clock
        self.period_s = runner.period_s if period_s is None else period_s
        self.command = np.zeros(3) if command is None else np.array(command, dtype=np.float64)
        """What the policy is asked for; another thread may put another array here."""
        self.events: deque[tuple[float, str, str]] = deque(maxlen=1_000)
        """Time, level and text, for the log and whoever displays it."""
        self.ticks = self.active_ticks = self.missed_ticks = 0
        self._confirmed, self._at_home, self._punctual, self._at_tick = confirmed, at_home, punctual, at_tick
        self._let_go = let_go
        hardware.hold_at_end = let_go is not None
        self._takes_command = any(term.name == "command" for term in runner.facts.terms)
        self._still = np.zeros(3)
        self._still.flags.writeable = False
        self._asked = self.command
        self._end_by = ""
        self._told_warm = False
        self._timings = np.full((_KEPT_TICKS, len(TIMINGS)), np.nan)
        self._drove = np.zeros(_KEPT_TICKS, dtype=bool)
        self._now = np.zeros(len(TIMINGS))
        self._limited = np.zeros(64, dtype=np.int64)
        self._flags = np.zeros(len(hardware.joint_names), dtype=np.int64)
        self._bits = 1 << np.arange(24)
        self._settled_at = math.nan
        self._active_since = math.nan
        self._skipped = 0
        self._odd_noted = False
        self._temperature = np.full(len(hardware.joint_names), np.nan)
        self._aside = np.full(_KEPT_TICKS, np.nan)
        self._waiting = self._begun = False

    # ------------------------------------------------------------------ from outside

    def health(self, window: int = 250) -> Health:
        """How it fares now; may be called from another thread."""
        rows = self._last_rows(window)
        period = self._timings[rows, _PERIOD]
        p50, _, _ = periods = percentiles(period)
        known = period[np.isfinite(period)]
        flags = self._flags & ~_RAMP
        names = np.array(self.hardware.joint_names)[flags != 0]
        return Health(
            state=self.hardware.lifecycle.value,
            seconds=self.active_ticks * self.period_s,
            ticks=self.ticks,
            missed_ticks=self.missed_ticks,
            dropped=self.telemetry.dropped if self.telemetry is not None else 0,
            rate_hz=1e3 / float(known.mean()) if known.size and p50 > 0 else math.nan,
            period_ms=periods,
            bus_ms=percentiles(self._timings[rows, _READ] + self._timings[rows, _WRITE]),
            policy_ms=percentiles(self._timings[rows, _POLICY]),
            temperature=self._temperature.copy(),
            limited=tuple(names.tolist()),
            waiting=self._waiting,
            resting=self.hardware.rests,
            last_event=self.events[-1][2] if self.events else "",
        )

    def bus_ms(self) -> tuple[float, float, float]:
        """p50, p99 and largest of reading, limits and writing together, of the ticks in which the policy drove."""
        rows = self._driven_rows()
        return percentiles(self._timings[rows, _READ] + self._timings[rows, _WRITE])

    def aside_ms(self) -> tuple[float, float, float]:
        """p50, p99 and largest of the questions that follow a write (temperatures, supply, watchdogs), likewise."""
        return percentiles(self._aside[self._driven_rows()])

    def end(self, reason: str) -> bool:
        """Ask for an orderly end, from any thread or a signal handler; see :meth:`RobotHardware.end`.

        Returns:
            Whether the policy drives. Otherwise nothing happens, and a stop must be taken in another way.
        """
        if self.hardware.lifecycle != Lifecycle.ACTIVE:
            return False
        self._end_by = reason
        return True

    # ------------------------------------------------------------------ the loop

    def run(self, seconds: float | None = None) -> LoopReport:
        """Start up, go home, wait for the operator's word, let the policy drive, come to a stand, go home, torque off.

        Args:
            seconds: of the policy's driving, then an orderly end; None goes on until it is stopped.

        Raises:
            RefusedError: start-up was refused; nothing was switched on.
            HardwareError: a motor did not switch on.
        """
        error = ""
        punctual: contextlib.AbstractContextManager[list[str]]
        punctual = realtime() if self._punctual else contextlib.nullcontext([])
        with punctual as warnings:
            for warning in warnings:
                self._note("warning", warning)
            self._start()
            try:
                self._run(math.inf if seconds is None else seconds)
            except HardwareError as problem:  # the port is gone; the hardware is in FAULT
                error = str(problem)
                self._note("error", error)
            self._take_events()
        return self._report(error)

    def _start(self) -> None:
        """A packet that got lost just now is no reason not to start."""
        for left in reversed(range(START_TRIES)):
            try:
                self.hardware.start_up()
                return
            except RefusedError:
                if self.hardware.supervisor.monitor.fresh() or not left:
                    raise
            self.clock.sleep_until(self.clock.now() + self.period_s)

    def _run(self, seconds: float) -> None:
        hardware, clock = self.hardware, self.clock
        deadline = clock.now()
        began_before = math.nan
        timings = self._now
        while hardware.powered:
            woken = time.perf_counter()
            began = clock.now()
            timings[_LATE] = 1e3 * (began - deadline)
            timings[_PERIOD] = 1e3 * (began - began_before)
            began_before = began
            state = hardware.read()
            read = time.perf_counter()
            was = hardware.lifecycle
            command = None
            if was == Lifecycle.ACTIVE:
                command = self._ask(state, seconds)
            thought = time.perf_counter()
            drove = command is not None and hardware.lifecycle == Lifecycle.ACTIVE and not hardware.ending
            applied = hardware.step(command, clock.now() - state.at_s)
            written = time.perf_counter()
            timings[_READ], timings[_POLICY] = 1e3 * (read - woken), 1e3 * (thought - read)
            timings[_WRITE] = 1e3 * (written - thought)
            if not drove:
                timings[_POLICY] = math.nan
            if hardware.powered:
                hardware.housekeep()
            self._aside[self.ticks % _KEPT_TICKS] = 1e3 * (time.perf_counter() - written)
            self._record(state, applied, was, drove)
            if self._at_tick is not None:
                self._at_tick(state, applied)
            if hardware.lifecycle == Lifecycle.HOMING and hardware.homed:
                self._wait_at_home()
            elif hardware.rests:
                self._wait_to_let_go()
            deadline = self._next(deadline)
            slept = time.perf_counter()
            clock.sleep_until(deadline)
            timings[_SLEEP] = 1e3 * (time.perf_counter() - slept)

    def _next(self, deadline: float) -> float:
        deadline, self._skipped = next_deadline(deadline, self.period_s, self.clock.now())
        self.missed_ticks += self._skipped
        return deadline

    def _ask(self, state: RobotState, seconds: float) -> Any:
        """The policy's command, or a stop where it has driven long enough or sees what it never saw."""
        hardware, runner = self.hardware, self.runner
        # To half a period: a sum of periods is not exactly their number.
        over = self.clock.now() - self._active_since >= seconds - 0.5 * self.period_s
        if (self._end_by or over) and not hardware.ending:
            # A policy that takes no command, or was told to stand, stands already.
            moves = self._takes_command and bool(self._asked.any())
            hardware.end(self._end_by or "the time is over", stand_s=None if moves else 0.0)
            if not hardware.ending:
                return None
        monitor = hardware.supervisor.monitor
        if monitor.missed.any():  # coast on the last sample that could be used
            state = replace(state, joints=replace(state.joints, q=monitor.q.copy(), dq=monitor.dq.copy()))
        self._choose_command(monitor.warm)
        command = runner.step(state, self._asked, 1 + self._skipped if self._begun else 1)
        self._begun = True
        command.mode = hardware.mode
        watch = runner.watch
        if watch.odd_ticks and not self._odd_noted:
            self._odd_noted = True
            self._note("warning", f"the observation is unlike training: {watch.describe(runner.sample)}")
        if watch.strange_in_a_row * self.period_s >= STRANGE_S:
            hardware.stop(1, f"the observation is nothing like training: {watch.describe(runner.sample)}")
        return command

    def _choose_command(self, warm: bool) -> None:
        """What the policy is asked for; nothing but to stand where the run ends or a motor is warm."""
        stand = warm or self.hardware.ending
        self._asked = self._still if stand else self.command
        if warm != self._told_warm:
            self._told_warm = warm
            if self._takes_command:
                told = "; the policy is told to stand" if warm else "motors have cooled; the policy goes on"
                self._note("warning", "; ".join(self.hardware.supervisor.monitor.warnings) + told if warm else told)

    def _wait_to_let_go(self) -> None:
        """It stands at home at the end of a run: ask for the word that takes its power away."""
        if self._let_go is not None and self._let_go():
            self.hardware.let_go()

    def _wait_at_home(self) -> None:
        """At home: put the robot down, let it rest, then ask for the operator's word."""
        now = self.clock.now()
        if math.isnan(self._settled_at):
            self._settled_at = now + self._at_home() + SETTLE_S
            return
        if now < self._settled_at:
            return
        if not self._waiting:
            self._note("info", "at home: waiting for the operator's word")
        self._waiting = True
        if self._confirmed():
            self._waiting = False
            self.hardware.release()
            self.runner.reset()
            self._begun = False
            # The first tick of the policy is the next one.
            self._active_since = now + self.period_s

    # ------------------------------------------------------------------ records

    def _record(self, state: RobotState, applied: Applied | None, was: Lifecycle, drove: bool) -> None:
        row = self.ticks % _KEPT_TICKS
        self._timings[row] = self._now
        self._drove[row] = drove
        self._temperature[:] = state.joints.temperature
        if applied is not None:
            self._flags[:] = applied.limited_by
            if drove and self._flags.any():
                self._limited[: len(self._bits)] += ((self._flags[:, None] & self._bits) != 0).any(axis=0)
        if self.telemetry is not None:
            tick = self.telemetry.ring.free()
            if tick is not None:
                runner = self.runner
                tick.fill(
                    self.ticks, state.at_s, was.value, state, applied, runner.action, self._asked, runner.phase,
                    runner.watch.worst if drove else 0.0, self._now, self._skipped,
                )  # fmt: skip
                self.telemetry.ring.put()
        self.ticks += 1
        self.active_ticks += drove
        self._take_events()

    def _take_events(self) -> None:
        events = self.hardware.events
        while events:
            at_s, text = events.popleft()
            level = "warning" if text.startswith(("stop", "ending", "torque", "left", "start-up")) else "info"
            self._note(level, text, at_s)
        notes = self.runner.notes
        while notes:
            self._note("info", notes.popleft())

    def _note(self, level: str, text: str, at_s: float | None = None) -> None:
        self.events.append((self.clock.now() if at_s is None else at_s, level, text))
        if self.telemetry is not None:
            self.telemetry.event(level, text)

    def _last_rows(self, window: int) -> NDArray[np.int64]:
        count = min(window, self.ticks, _KEPT_TICKS)
        return np.arange(self.ticks - count, self.ticks) % _KEPT_TICKS

    def _driven_rows(self) -> NDArray[np.int64]:
        rows = self._last_rows(_KEPT_TICKS)
        return rows[self._drove[rows]]

    def _report(self, error: str) -> LoopReport:
        hardware, rows = self.hardware, self._driven_rows()
        limited = {
            limit.name.lower(): int(self._limited[int(limit).bit_length() - 1])
            for limit in Limit
            if limit and limit.name and self._limited[int(limit).bit_length() - 1]
        }
        causes = hardware.causes or [hardware.reason]
        stop = hardware.emergency_stop
        return LoopReport(
            lifecycle=hardware.lifecycle.value,
            reason=causes[0],
            then=tuple(causes[1:]),
            ticks=self.ticks,
            active_ticks=self.active_ticks,
            missed_ticks=self.missed_ticks,
            timings_ms={name: percentiles(self._timings[rows, column]) for column, name in enumerate(TIMINGS)},
            limited_ticks=limited,
            odd_ticks=self.runner.watch.odd_ticks,
            fell=any("fall" in cause or "fell" in cause for cause in causes),
            interrupted=self._end_by.startswith(_SIGNALS) or (stop.tripped and stop.reason.startswith(_SIGNALS)),
            error=error,
        )

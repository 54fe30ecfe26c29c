"""A robot's hardware as one thing with a life: connect, configure, go home, be released, obey, stop, close.

::

    with RobotHardware(port, robot) as hardware:
        hardware.connect()                # changes nothing on the motors
        hardware.configure()              # modes, limits and watchdog, read back; the watchdog's trip is proven
        hardware.start_up()               # checks, then torque on at the measured pose
        each tick:
            reading = hardware.read()
            applied = hardware.step(command)     # homing, command, stop: whatever the state asks for
        once hardware.homed and an operator says so:
            hardware.release()            # from now on commands are let through
        in the end:
            hardware.end()                # a moment for the policy to come to a stand, home, rest, torque off

The caller drives it tick by tick, on the port's clock. ``read`` and ``step`` take the stops that feedback, commands and
the emergency stop ask for. Whatever happens, torque is off once the ``with`` block is left; the motors' own watchdogs
are the second line, because nothing of this runs after SIGKILL.
"""

from __future__ import annotations

import atexit
import logging
import math
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.estop import EStop
from cadenza.robots.hardware.joint_port import JointPort
from cadenza.robots.hardware.lifecycle import Lifecycle, check_transition
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.safety import Applied
from cadenza.robots.hardware.startup import HomeMotion, not_home, require_start
from cadenza.robots.hardware.stoppable import Stoppable
from cadenza.robots.hardware.stopping import (
    StopCategory,
    StopPolicy,
    emergency,
    stop_policy,
)
from cadenza.robots.hardware.types import Identity, JointCommand, Mode, RobotState

Array = NDArray[np.float64]

log = logging.getLogger(__name__)


class RobotHardware(Stoppable):
    """Motors, limits and lifecycle of one robot.

    Args:
        port: its joints; nobody else may write to it.
        robot: its joint table.
        limits: None takes the joint table's, :meth:`JointLimits.for_robot`.
        policy: what it does when something is wrong; None takes :func:`stop_policy`.
        period_s: of control.
        homing_s: time of the way home at start-up.
        home: pose of start-up, rad, (n,); None takes the joint table's.
        estop: read in each tick; None makes one that only :meth:`estop` trips.
    """

    def __init__(
        self,
        port: JointPort,
        robot: LeggedRobot,
        limits: JointLimits | None = None,
        policy: StopPolicy | None = None,
        *,
        period_s: float = 0.02,
        homing_s: float = 2.5,
        home: Array | None = None,
        estop: EStop | None = None,
    ):
        if port.joint_names != robot.joint_names:
            raise RefusedError(
                f"The port's joints are not those of {robot.title}'s table, in its order: {', '.join(port.joint_names)}"
            )
        if not (math.isfinite(period_s) and period_s > 0 and math.isfinite(homing_s) and homing_s > 0):
            raise RefusedError(f"A control period of {period_s:g} s and a homing time of {homing_s:g} s make no sense.")
        limits = JointLimits.for_robot(robot) if limits is None else limits
        policy = stop_policy(robot) if policy is None else policy
        home = np.array([row.home_rad for row in robot.joints]) if home is None else np.array(home, dtype=float)
        wrong = limits.outside(home)
        if wrong:
            raise RefusedError(f"The home pose lies outside the limits: {'; '.join(wrong)}.")
        super().__init__(robot, port, limits, policy, home, EStop() if estop is None else estop, period_s)
        self.homing_s = homing_s
        self.reading: RobotState | None = None
        """The last one."""
        self._connected = self._configured = False
        self._homing: HomeMotion | None = None
        self._homed = False

    # ------------------------------------------------------------------ what it is

    @property
    def homed(self) -> bool:
        """The way home is done; :meth:`release` lets commands through."""
        return self._state == Lifecycle.HOMING and self._homed

    @property
    def joint_names(self) -> tuple[str, ...]:
        """In table order."""
        return self.robot.joint_names

    # ------------------------------------------------------------------ set-up

    def connect(self) -> list[Identity]:
        """Identify every motor; changes nothing on them.

        Raises:
            HardwareError: see :meth:`JointPort.connect`.
            RefusedError: connected already, or the calibration is another unit's.
        """
        if self._connected:
            raise RefusedError("The robot is connected already.", "Close it first.")
        found = self._port.connect()
        self._connected = True
        self._note(f"connected: {len(found)} motors")
        return found

    def configure(self, mode: Mode | None = None, *, prove_watchdog: bool = True) -> None:
        """Set modes, limits, gains and watchdog, with torque off, and prove that the watchdog trips.

        Args:
            mode: POSITION or IMPEDANCE; None takes IMPEDANCE where the motors have it.
            prove_watchdog: leave it away only where it was proven just before.

        Raises:
            RefusedError: not connected, configured already, or a mode that the motors do not have.
            HardwareError: a value did not stick, or the watchdog did not trip.
        """
        self._need_connection()
        self._need(Lifecycle.UNCONFIGURED)
        modes = self._port.capabilities.modes
        if mode is None:
            mode = Mode.IMPEDANCE if Mode.IMPEDANCE in modes else Mode.POSITION
        if mode not in modes or mode not in (Mode.POSITION, Mode.IMPEDANCE):
            names = ", ".join(sorted(one.value for one in modes))
            raise RefusedError(f"The motors cannot run in mode {mode.value}; they have: {names}.")
        self._port.configure(mode, self.policy.watchdog_s)
        if prove_watchdog:
            self._port.prove_watchdog()
        if not self._port.capabilities.device_watchdog:
            log.warning("The motors of %s have no watchdog: nothing stops them if this process dies.", self.robot.title)
        self.mode, self._configured = mode, True
        self._become(Lifecycle.INACTIVE)

    def start_up(self) -> None:
        """Check everything, then torque on at the measured pose; :meth:`home_step` then leads home.

        Raises:
            RefusedError: an emergency stop is latched or a dead-man switch is missing; a joint is unknown, beyond its
                limits, faulty or hot; or the trunk leans too far. Nothing was switched on.
            HardwareError: a motor did not switch on; all are off.
        """
        check_transition(self._state, Lifecycle.HOMING)
        self._poll_estop()
        self.emergency_stop.require_clear()
        reading = self.read()
        try:
            require_start(self.robot.title, self.limits, self.supervisor.monitor, reading)
        except RefusedError as error:
            self._note(f"start-up refused: {error}")
            raise
        q = self.supervisor.monitor.q.copy()
        self.supervisor.anchor(q, self.mode)
        self.causes.clear()
        self._become(Lifecycle.HOMING)  # first, so that every way out from here switches off
        atexit.register(self._at_exit)
        try:
            self._port.activate()
        except HardwareError as error:
            self._fail(f"torque could not be switched on: {error}")
            raise
        except BaseException:
            self._power_off(Lifecycle.INACTIVE, "interrupted while torque was switched on")
            raise
        kp, kd = self.supervisor.table_gains
        self._homed = False
        self._homing = HomeMotion(q, self.home, kp, kd, self.mode, since_s=self.clock.now(), duration_s=self.homing_s)

    def release(self) -> None:
        """Let commands through; an operator's act, never the program's own.

        Raises:
            RefusedError: not at home, feedback missing, an emergency stop latched, or a dead-man switch missing.
        """
        if self._state == Lifecycle.STOPPING and not self.holding:
            raise RefusedError("The robot is stopping.", "Start it again after the stop.")
        check_transition(self._state, Lifecycle.ACTIVE)
        self._poll_estop()
        self.emergency_stop.require_clear()
        if self._state == Lifecycle.HOMING:
            if not self._homed:
                raise RefusedError("The robot is still on its way home.", "Wait until it rests there.")
            away = not_home(self.joint_names, self.supervisor.monitor.q, self.home)
            if away:
                raise RefusedError(f"These joints did not get home: {', '.join(away)}.", "See what blocks them.")
        if not self.supervisor.monitor.fresh():
            raise RefusedError("The last reading lacks joints.", "Read again.")
        self._stop, self._rests = None, False
        self.supervisor.expect_commands(self.clock.now())
        self._become(Lifecycle.ACTIVE)

    # ------------------------------------------------------------------ ticks

    def read(self) -> RobotState:
        """Read all sensors, once a tick and before :meth:`step`; takes the stops that they ask for.

        Raises:
            RefusedError: not connected.
            HardwareError: the port is gone; if torque was on, the robot is in FAULT.
        """
        self._need_connection()
        try:
            self.reading = self._port.read()
        except HardwareError as error:
            self._fail(f"the port failed: {error}")
            raise
        self.supervisor.observe(self.reading, powered=self.powered)
        self._poll_estop()
        self._take_demand()
        if self.ending and self.clock.now() >= self._ends_s:
            self._begin_stop(StopCategory.CONTROLLED, self.reason, self._after, orderly=True)
        return self.reading

    def housekeep(self) -> None:
        """What a tick may do once its goals are on their way: ask for temperatures, supply and watchdogs.

        Raises:
            HardwareError: the port is gone; if torque was on, the robot is in FAULT.
        """
        housekeep = getattr(self._port, "housekeep", None)
        if housekeep is None:
            return
        try:
            housekeep()
        except HardwareError as error:
            self._fail(f"the port failed: {error}")
            raise

    def step(self, command: JointCommand | None = None, age_s: float = 0.0) -> Applied | None:
        """One tick of whatever the state asks for; a command counts in ACTIVE alone. None where torque is off.

        Args:
            command: of the policy, (n,); None where it has none.
            age_s: since the policy gave it.

        Raises:
            HardwareError: the port is gone; the robot is in FAULT.
        """
        self._poll_estop()
        if self._state == Lifecycle.HOMING:
            return self.home_step()
        if self._state == Lifecycle.ACTIVE:
            return self.command(command, age_s)
        if self._state == Lifecycle.STOPPING:
            return self.stop_step()
        return None

    def home_step(self) -> Applied:
        """One tick of the way home, gains rising from 0, or of the rest there. Raises as :meth:`command`, in HOMING."""
        self._need(Lifecycle.HOMING)
        assert self._homing is not None
        now = self.clock.now()
        applied = self._send(self._homing.command(now), ramp=True)
        self._homed = self._homing.arrived(now, self.supervisor.target, self.limits)
        return applied

    def command(self, command: JointCommand | None, age_s: float = 0.0) -> Applied:
        """Send what limits leave of a command. None, or one older than the deadline, holds the last target.

        Raises:
            RefusedError: not ACTIVE.
            HardwareError: the port is gone.
        """
        self._poll_estop()
        self._need(Lifecycle.ACTIVE)
        return self._send(command, age_s=age_s)

    def stop_step(self) -> Applied | None:
        """One tick of a controlled stop; None in the one that switches torque off. Raises as :meth:`command`."""
        self._need(Lifecycle.STOPPING)
        motion, now = self._stop, self.clock.now()
        assert motion is not None
        monitor = self.supervisor.monitor
        if motion.finished(np.where(monitor.missed == 0, monitor.dq, np.nan), now):
            if not (motion.orderly and self.hold_at_end):
                self._power_off(self._after, self.reason)
                return None
            if not self._rests:
                self._note("at home, held with power until somebody says so")
            self._rests = True
        if self.holding and now - motion.started_s >= self.policy.hold_then_s:
            self._begin_stop(StopCategory.CONTROLLED, f"held for {self.policy.hold_then_s:g} s", self._after)
            motion = self._stop
            assert motion is not None
        return self._send(motion.command(now), ramp=True)

    # ------------------------------------------------------------------ stops

    def stop(self, category: int, reason: str = "an operator's stop") -> None:
        """Stop by a category of :class:`StopCategory`; nothing happens where torque is off.

        Raises:
            RefusedError: no such category.
        """
        if category not in (0, 1, 2):
            raise RefusedError(f"There is no stop category {category}; there are 0, 1 and 2.")
        if self.powered:
            self._take_stop(StopCategory(category), reason, Lifecycle.INACTIVE)

    def end(self, reason: str = "an operator's end", *, stand_s: float | None = None) -> None:
        """End in good order: a robot that drives stays ACTIVE for ``stand_s``, in which its policy should be told to
        stand still; then a stop of category 1 leads to the home pose, rests there, and takes the power away. Any other
        stop comes before it. Where the robot does not drive, it is a stop of category 1.

        Args:
            reason: for the operator.
            stand_s: None takes the policy's; 0 for a robot that stands already.
        """
        if self._state == Lifecycle.ACTIVE:
            self._begin_end(reason, Lifecycle.INACTIVE, stand_s)
        else:
            self.stop(1, reason)

    def let_go(self) -> None:
        """Take away the power that :attr:`hold_at_end` keeps, in the next tick; an operator's act.

        Raises:
            RefusedError: nothing is held so.
        """
        if not self.rests:
            raise RefusedError("The robot does not rest at the end of a run.", self.reason)
        self.hold_at_end = False

    def estop(self, category: int = 0, reason: str = "emergency stop") -> None:
        """Emergency stop by software: overrides everything, latches, ends in ESTOPPED. Category 0 or 1.

        Raises:
            RefusedError: category 2.
        """
        self.emergency_stop.trip(emergency(category), reason)
        self._poll_estop()

    def reset(self, *, clear_faults: bool = False) -> None:
        """Leave ESTOPPED or FAULT, by an operator's order: to INACTIVE, torque off. Nothing moves.

        Args:
            clear_faults: also acknowledge the motors' latched faults and tripped watchdogs.

        Raises:
            RefusedError: neither of the two states, or a source of the emergency stop is still on.
            HardwareError: a motor does not confirm that its torque is off; the state stays.
        """
        if self._state not in (Lifecycle.ESTOPPED, Lifecycle.FAULT):
            raise RefusedError(f"The robot is {self._state.value}; there is nothing to reset.")
        if self._connected and self._configured:
            self._port.deactivate()
            if clear_faults:
                self._port.clear_faults()
        self.emergency_stop.reset()
        self._after, self.reason = Lifecycle.INACTIVE, ""
        self._become(Lifecycle.INACTIVE if self._configured else Lifecycle.UNCONFIGURED)

    def stop_and_wait(self, category: int = 1, reason: str = "shutting down") -> None:
        """Stop and tick until torque is off, on the robot's clock. Category 2 counts as 1.

        Raises:
            HardwareError: the port is gone; the robot is in FAULT.
        """
        self.stop(min(category, 1), reason)
        until = self.clock.now() + self.policy.ramp_s + self.policy.settle_timeout_s + 10 * self.period_s
        while self.powered and self.clock.now() < until:
            self.clock.sleep_until(self.clock.now() + self.period_s)
            self.read()
            self.step()
        if self.powered:
            self.stop(0, reason)

    def close(self) -> None:
        """Controlled stop if torque is on, torque off, port closed; may be called twice, raises nothing but Ctrl-C."""
        try:
            if self.powered:
                self.stop_and_wait(1, "closed while torque was on")
        except HardwareError as error:
            log.error("While closing: %s", error)
        finally:
            if self.powered:
                self._power_off(Lifecycle.INACTIVE, "closed")
            self._port.close()
            atexit.unregister(self._at_exit)
            self._connected = self._configured = False
            self._state = Lifecycle.UNCONFIGURED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.powered:
            self._note(f"left by {type(error).__name__}: {error}")
        self.close()

    # ------------------------------------------------------------------ inside

    def _send(self, command: JointCommand | None, *, age_s: float = 0.0, ramp: bool = False) -> Applied:
        try:
            applied = self.supervisor.send(command, age_s=age_s, ramp=ramp)
        except HardwareError as error:
            self._fail(f"the port failed: {error}")
            raise
        self._take_demand()
        return applied

    def _need_connection(self) -> None:
        if not self._connected:
            raise RefusedError("The robot is not connected.", "Call connect first.")

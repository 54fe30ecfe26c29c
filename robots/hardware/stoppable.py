"""What stops a robot, whatever asked for it: feedback, commands, the emergency stop, an operator, the end of a run."""

from __future__ import annotations

import logging
import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.clock import Clock
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.estop import EStop
from cadenza.robots.hardware.joint_port import JointPort
from cadenza.robots.hardware.lifecycle import POWERED, Lifecycle, check_transition
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.safety import SafetySupervisor
from cadenza.robots.hardware.stopping import StopCategory, StopMotion, StopPolicy, strength, switch_off
from cadenza.robots.hardware.types import Mode

Array = NDArray[np.float64]

log = logging.getLogger(__name__)


class Stoppable:
    """The state of a robot, and every way from it to a stop. :class:`RobotHardware` adds the ways there.

    Args:
        robot: its joint table.
        port: its joints; nobody else may write to it.
        limits, policy: of the joints; what it does when something is wrong.
        home: pose of an orderly end, rad, (n,).
        emergency_stop: read in each tick.
        period_s: of control.
    """

    def __init__(
        self,
        robot: LeggedRobot,
        port: JointPort,
        limits: JointLimits,
        policy: StopPolicy,
        home: Array,
        emergency_stop: EStop,
        period_s: float,
    ):
        self.robot, self.limits, self.policy, self.home, self.period_s = robot, limits, policy, home, period_s
        self.emergency_stop = emergency_stop
        self.supervisor = SafetySupervisor(port, robot, limits, policy, period_s)
        self.mode = Mode.POSITION
        self.reason = ""
        """Why it stopped last."""
        self.causes: list[str] = []
        """Why it stopped, all reasons since it was started, the first one first."""
        self.hold_at_end = False
        """An orderly end holds the home pose with power until somebody lets go."""
        self.events: deque[tuple[float, str]] = deque(maxlen=1000)
        """Time and text of every change of state, stop and refusal, the newest last."""
        self._port = port
        self._state = Lifecycle.UNCONFIGURED
        self._stop: StopMotion | None = None
        self._after = Lifecycle.INACTIVE
        self._ends_s = math.nan
        self._rests = False

    @property
    def lifecycle(self) -> Lifecycle:
        """State it is in."""
        return self._state

    @property
    def powered(self) -> bool:
        """Torque is on, as far as we know."""
        return self._state in POWERED

    @property
    def holding(self) -> bool:
        """A stop of category 2 holds it with power."""
        return self._stop is not None and self._stop.category == StopCategory.HOLD

    @property
    def ending(self) -> bool:
        """An orderly end has begun and commands still count: those that bring the robot to a stand are wanted."""
        return self._state == Lifecycle.ACTIVE and not math.isnan(self._ends_s)

    @property
    def rests(self) -> bool:
        """An orderly end is done but for the power, which :attr:`hold_at_end` keeps until :meth:`let_go`."""
        return self._state == Lifecycle.STOPPING and self._rests

    @property
    def clock(self) -> Clock:
        """The port's."""
        return self._port.clock

    def _take_demand(self) -> None:
        demand = self.supervisor.take_demand()
        if demand is None or not self.powered:
            return
        orderly = demand.patient and self._stop is not None and self._stop.orderly and not self._rests
        if demand.patient and self._state == Lifecycle.ACTIVE and demand.category == StopCategory.CONTROLLED:
            self._begin_end(demand.reason, Lifecycle.FAULT, None)
        elif orderly:
            self._add_cause(demand.reason)
            self._after = self._worse(Lifecycle.FAULT)
        else:
            self._take_stop(demand.category, demand.reason, Lifecycle.FAULT)

    def _poll_estop(self) -> None:
        stop = self.emergency_stop
        if stop.tripped and self._state != Lifecycle.ESTOPPED:
            category = StopCategory(stop.category)
            if self.powered:
                self._take_stop(category, stop.reason, Lifecycle.ESTOPPED)
            else:
                self.reason = stop.reason
                self._become(Lifecycle.ESTOPPED)

    def _take_stop(self, category: StopCategory, reason: str, after: Lifecycle) -> None:
        after = self._worse(after)
        if category == StopCategory.POWER_OFF:
            self._power_off(after, reason)
        elif self._stop is None or strength(category) < self._stop.strength:
            self._begin_stop(category, reason, after)
        else:
            self._after = after  # stopping already, no less strongly

    def _begin_end(self, reason: str, after: Lifecycle, stand_s: float | None) -> None:
        stand_s = self.policy.stand_s if stand_s is None else stand_s
        if self.ending:  # it waits no longer for a second reason
            self._after = after if self._after == Lifecycle.INACTIVE else self._after
            self._add_cause(reason)
            return
        self._after, self.reason = after, reason
        self._add_cause(reason)
        if stand_s <= 0:
            self._begin_stop(StopCategory.CONTROLLED, reason, after, orderly=True)
            return
        self._ends_s = self.clock.now() + stand_s
        self._note(f"ending: {stand_s:g} s to come to a stand, then stop category 1: {reason}")

    def _add_cause(self, reason: str) -> None:
        if reason not in self.causes:
            self.causes.append(reason)

    def _worse(self, after: Lifecycle) -> Lifecycle:
        """A stop under way keeps where it leads to, unless the new one latches more firmly."""
        order = (Lifecycle.INACTIVE, Lifecycle.FAULT, Lifecycle.ESTOPPED)
        if self._state != Lifecycle.STOPPING and not self.ending:
            return after
        return max(after, self._after, key=order.index)

    def _begin_stop(self, category: StopCategory, reason: str, after: Lifecycle, *, orderly: bool = False) -> None:
        monitor = self.supervisor.monitor
        kp, kd = self.supervisor.gains
        motion = StopMotion(
            self.policy,
            self.limits,
            self._port.capabilities,
            self.supervisor.target,
            np.where(monitor.missed == 0, monitor.dq, 0.0),
            kp,
            kd,
            self.supervisor.table_gains[1],
            self.clock.now(),
            category,
            self.mode,
            self.home if orderly else None,
        )
        if self._state != Lifecycle.STOPPING:
            self._become(Lifecycle.STOPPING)
        self._stop, self._after, self.reason = motion, after, reason
        self._ends_s, self._rests = math.nan, False
        self._add_cause(reason)
        self._note(f"stop category {int(category)}: {reason}")

    def _power_off(self, after: Lifecycle, reason: str) -> None:
        self.reason = reason
        self._note(f"torque off: {reason}")
        problem = switch_off(self._port)
        self._stop = None
        self._after = Lifecycle.INACTIVE
        self._ends_s, self._rests = math.nan, False
        self._add_cause(reason)
        if problem:
            self.reason = f"{reason}; torque may still be on: {problem}"
            self._add_cause(f"torque may still be on: {problem}")
            after = after if after == Lifecycle.ESTOPPED else Lifecycle.FAULT
        self._become(after)

    def _fail(self, reason: str) -> None:
        if self.powered:
            self._power_off(self._worse(Lifecycle.FAULT), reason)
        else:
            self._note(reason)

    def _need(self, state: Lifecycle) -> None:
        if self._state != state:
            raise RefusedError(f"The robot is {self._state.value}, not {state.value}.", self.reason)

    def _become(self, state: Lifecycle) -> None:
        check_transition(self._state, state)
        self._note(f"{self._state.value} -> {state.value}")
        self._state = state

    def _note(self, text: str) -> None:
        self.events.append((self.clock.now(), text))
        log.info("%s: %s", self.robot.name, text)

    def _at_exit(self) -> None:
        if self.powered:
            self._power_off(Lifecycle.INACTIVE, "the program ends")

"""Switching on: what must be right before torque, and the way home afterwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.monitors import FeedbackMonitor, fault_words
from cadenza.robots.hardware.types import Fault, JointCommand, Mode, RobotState

Array = NDArray[np.float64]

_GAINS_SHARE = 0.4
_ARRIVED_RAD = 1e-3
_HOME_TOLERANCE_RAD = 0.35


def start_problems(limits: JointLimits, monitor: FeedbackMonitor, reading: RobotState) -> list[str]:
    """Why a robot must not be switched on now, one text each; empty where nothing speaks against it.

    Args:
        limits: of its joints.
        monitor: which has taken the reading in.
        reading: the newest.
    """
    joints, names = reading.joints, limits.names
    wrong = []
    if not monitor.fresh():
        lost = (monitor.missed > 0) | ~np.isfinite(monitor.q)
        found = ", ".join(np.array(names)[lost])
        wrong.append(f"no usable feedback from {found or 'the inertial unit'}")
    else:
        wrong += [f"{what}, beyond its limits" for what in limits.outside(monitor.q)]
    for row in np.flatnonzero(joints.fault & ~int(Fault.SILENT | Fault.CORRUPT)).tolist():
        wrong.append(f"the motor of {names[row]} reports {', '.join(fault_words(int(joints.fault[row])))}")
    hot = np.flatnonzero(joints.temperature >= limits.derate_c)
    wrong += [f"{names[row]} at {joints.temperature[row]:.0f} degC" for row in hot]
    supply = np.flatnonzero((joints.voltage < limits.low_v) | (joints.voltage > limits.high_v))
    if len(supply):
        wrong.append(f"a supply of {joints.voltage[supply[0]]:.1f} V")
    if reading.imu is not None and monitor.leans(reading.imu):
        wrong.append("the trunk leans so far that the robot would count as fallen")
    return wrong


def require_start(title: str, limits: JointLimits, monitor: FeedbackMonitor, reading: RobotState) -> None:
    """Refuse to go on where :func:`start_problems` finds any.

    Raises:
        RefusedError: it names each problem.
    """
    wrong = start_problems(limits, monitor, reading)
    if wrong:
        raise RefusedError(
            f"{title} is not switched on: {'; '.join(wrong)}.",
            "Put the robot right by hand (torque is off), then start again.",
        )


class HomeMotion:
    """From a measured pose to the home pose, starting and ending at rest, gains rising from 0 on the first part.

    Args:
        start: rad, (n,).
        home: rad, (n,).
        kp: of the joint table, (n,).
        kd: the same.
        mode: POSITION or IMPEDANCE.
        since_s: on the robot's clock.
        duration_s: of the way.
    """

    def __init__(
        self, start: Array, home: Array, kp: Array, kd: Array, mode: Mode, *, since_s: float, duration_s: float
    ):
        self._start, self._home, self._kp, self._kd, self._mode = start.copy(), home, kp, kd, mode
        self._since_s, self._duration_s = since_s, duration_s

    def share(self, now_s: float) -> float:
        """Of the time that has passed, in [0, 1]."""
        return min(max((now_s - self._since_s) / self._duration_s, 0.0), 1.0)

    def command(self, now_s: float) -> JointCommand:
        """The next one, for the supervisor to limit."""
        share, way = self.share(now_s), self._home - self._start
        smooth, slope = share * share * (3 - 2 * share), 6 * share * (1 - share) / self._duration_s
        gains = min(share / _GAINS_SHARE, 1.0)
        target = self._start + smooth * way
        return JointCommand(target, slope * way, np.zeros_like(way), gains * self._kp, gains * self._kd, self._mode)

    def arrived(self, now_s: float, target: Array, limits: JointLimits) -> bool:
        """Whether time is up and the targets sent are those of the home pose."""
        aim = np.clip(self._home, limits.soft_low_rad, limits.soft_high_rad)
        return self.share(now_s) >= 1.0 and bool((np.abs(target - aim) < _ARRIVED_RAD).all())


def not_home(names: tuple[str, ...], q: Array, home: Array) -> list[str]:
    """Joints whose measured angle is far from home: something blocks them."""
    return [names[row] for row in np.flatnonzero(np.abs(q - home) > _HOME_TOLERANCE_RAD)]

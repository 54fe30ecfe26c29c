"""Watching what motors and the inertial unit say: staleness, heat, supply, load, speed, stuck joints, falls, faults.

One :meth:`FeedbackMonitor.observe` a tick, vectorised. It moves nothing: it tells which stop it demands and why, which
samples may still be used, and how much torque is left of each motor's limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.imu import upright_in_imu
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.stopping import StopCategory, StopPolicy
from cadenza.robots.hardware.types import Fault, ImuState, JointState, RobotState

Array = NDArray[np.float64]

_NOT_HEARD = int(Fault.SILENT | Fault.CORRUPT)
_STALE_PERIODS = 1.5
_ABSURD_SPEEDS = 10.0
"""Times the speed limit: what no joint can do, so the sample is wrong."""
_JUMP_SPEEDS = 4.0
_JUMP_SLACK_RAD = 0.1


@dataclass(frozen=True)
class Demand:
    """A stop that must be taken."""

    category: StopCategory
    reason: str
    """One sentence without an end, for the operator."""
    patient: bool = False
    """It may wait for an orderly end: nothing breaks within seconds."""


class FeedbackMonitor:
    """State of n joints as far as it can be trusted.

    Args:
        robot: its joint table and where its inertial unit sits.
        limits: thresholds.
        policy: reactions and times.
        period_s: between readings.
        reports_speed: whether the motors report dq; otherwise it is taken from two readings.
    """

    def __init__(
        self,
        robot: LeggedRobot,
        limits: JointLimits,
        policy: StopPolicy,
        period_s: float,
        *,
        reports_speed: bool = True,
    ):
        n = len(robot.joints)
        self.names = robot.joint_names
        self.limits, self.policy, self.period_s = limits, policy, period_s
        self._reports_speed = reports_speed
        self._upright = upright_in_imu(robot)
        self._fallen_up = math.cos(policy.fall_tilt_rad) if policy.fall_tilt_rad is not None else -math.inf
        self.q = np.full(n, np.nan)
        """Last sample that could be used, rad; NaN before the first."""
        self.dq = np.full(n, np.nan)
        """rad/s."""
        self.missed = np.zeros(n, dtype=np.int64)
        """Readings in a row without a usable sample."""
        self.torque_share = np.ones(n)
        """What is left of each torque limit, in [derated_share, 1]."""
        self.warnings: tuple[str, ...] = ()
        """Of the last reading."""
        self.imu_missed = 0
        self._absurd_rad_s = _ABSURD_SPEEDS * limits.velocity_rad_s
        self._jump_rad_s = _JUMP_SPEEDS * limits.velocity_rad_s
        self._fast_rad_s = limits.overspeed * limits.velocity_rad_s
        self._loaded_nm = limits.overload_share * limits.torque_nm
        self._quiet_c = limits.warn_c - limits.hysteresis_c
        self._quiet_v = (limits.low_v + limits.voltage_warn_v, limits.high_v - limits.voltage_warn_v)
        self._warm = self._loading = False
        self._felt_c = np.full(n, -np.inf)
        self._hot = np.zeros(n, dtype=np.int64)
        self._fast = np.zeros(n, dtype=np.int64)
        self._bad_supply_s = np.zeros(n)
        self._loaded_s = np.zeros(n)
        self._tilted_s = 0.0
        self._at_s = math.nan
        self._reference = np.full(n, np.nan)
        self._unchanged_s = np.zeros(n)
        self._least = np.full(n, np.inf)
        self._most = np.full(n, -np.inf)

    def begin(self) -> None:
        """Forget what was counted, not what was measured: before torque goes on."""
        for count in (self.missed, self._hot, self._fast):
            count[:] = 0
        for time in (self._bad_supply_s, self._loaded_s, self._unchanged_s):
            time[:] = 0.0
        self._least[:], self._most[:] = np.inf, -np.inf
        self.imu_missed, self._tilted_s = 0, 0.0
        self._felt_c[:] = -np.inf
        self._warm = self._loading = False
        self.torque_share[:] = 1.0

    @property
    def warm(self) -> bool:
        """A motor is as warm as makes a warning, or has not cooled down since by the hysteresis."""
        return self._warm

    def fresh(self) -> bool:
        """Whether the last reading brought a usable sample of every joint, and of the inertial unit if there is one."""
        return not self.missed.any() and not self.imu_missed and bool(np.isfinite(self.q).all())

    def observe(self, state: RobotState, target: Array | None = None) -> list[Demand]:
        """Take a reading in.

        Args:
            state: what was read.
            target: the last target that was sent, (n,); None while torque is off.

        Returns:
            Stops that it demands, the strongest first; empty while all is well.
        """
        dt = state.at_s - self._at_s
        dt = max(dt, 0.0) if math.isfinite(dt) else self.period_s
        self._at_s = state.at_s
        demands: list[Demand] = []
        warnings: list[str] = []
        with np.errstate(invalid="ignore", over="ignore"):  # a sensor may say anything
            self._take(state.joints, dt, demands, warnings)
            self._device_faults(state.joints, demands)
            self._heat(state.joints, demands, warnings)
            self._supply(state.joints, dt, demands, warnings)
            self._load(state.joints, dt, demands, warnings)
            if target is not None:
                self._stuck(target, dt, demands)
            if state.imu is not None:
                self._tilt(state.imu, dt, demands, warnings)
        self.warnings = tuple(warnings)
        demands.sort(key=lambda demand: demand.category)
        return demands

    # ------------------------------------------------------------------ parts

    def _names(self, which: NDArray[np.bool_]) -> str:
        rows = np.flatnonzero(which).tolist()
        shown = ", ".join(self.names[row] for row in rows[:4])
        return shown + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")

    def _take(self, joints: JointState, dt: float, demands: list[Demand], warnings: list[str]) -> None:
        policy = self.policy
        good = np.isfinite(joints.q)
        good &= (joints.fault & _NOT_HEARD) == 0
        good &= np.abs(joints.age) <= _STALE_PERIODS * self.period_s  # one from the future is no better
        step = joints.q - self.q
        speed = joints.dq
        if not self._reports_speed:
            speed = np.where(np.isfinite(step), step, 0.0) / (dt or self.period_s)
        good &= np.abs(speed) <= self._absurd_rad_s
        far = np.abs(step) > self._jump_rad_s * (dt * (1 + self.missed)) + _JUMP_SLACK_RAD
        if far.any():
            # A joint cannot get there in that time: the sample is wrong, whatever its checksum says.
            far &= good
            good &= ~far
            if far.any():
                warnings.append(f"impossible jump of {self._names(far)}")
        np.copyto(self.q, joints.q, where=good)
        np.copyto(self.dq, speed, where=good)
        if good.all():
            self.missed[:] = 0
        else:
            self.missed += 1
            self.missed[good] = 0
            lost = self.missed > policy.coast_ticks
            if lost.any():
                why = _why_not_heard(joints, lost)
                demands.append(Demand(policy.stale_feedback, f"no usable feedback from {self._names(lost)}{why}"))
            else:
                warnings.append(f"coasting on the last sample of {self._names(~good)}")
        fast = np.abs(self.dq) > self._fast_rad_s
        if not fast.any():
            self._fast[:] = 0
            return
        self._fast += good
        self._fast[~fast] = 0
        runaway = self._fast >= policy.debounce_ticks
        if runaway.any():
            demands.append(Demand(policy.fault, f"{self._names(runaway)} turns faster than it may"))

    def _device_faults(self, joints: JointState, demands: list[Demand]) -> None:
        bits = joints.fault & ~_NOT_HEARD
        if not bits.any():
            return
        # A name for each bit: an unknown one must not hide. Motors that say the same share a line: a bad supply makes
        # all of them complain.
        for value in sorted(set(bits[bits != 0].tolist())):
            which = bits == value
            said, names = ", ".join(fault_words(int(value))), self._names(which)
            who = f"the motor of {names} reports" if which.sum() == 1 else f"the motors of {names} report"
            demands.append(Demand(self.policy.fault, f"{who}: {said}"))

    def _heat(self, joints: JointState, demands: list[Demand], warnings: list[str]) -> None:
        limits = self.limits
        if not self._warm and not (joints.temperature > self._quiet_c).any():
            return
        heard = np.isfinite(joints.temperature)
        now = np.where(heard, joints.temperature, self._felt_c)
        # Play of the width of the hysteresis: up at once, down only once it is that much colder.
        felt = np.maximum(np.minimum(self._felt_c, now + limits.hysteresis_c), now)
        np.copyto(self._felt_c, felt)
        warm = felt >= limits.warn_c
        self._warm = bool(warm.any())
        if not self._warm:
            self._hot[:] = 0
            self.torque_share[:] = 1.0
            return
        way = np.clip((felt - limits.derate_c) / (limits.stop_c - limits.derate_c), 0.0, 1.0)
        np.copyto(self.torque_share, np.where(way > 0, 1.0 - (1.0 - limits.derated_share) * way, 1.0))
        self._hot += 1
        self._hot[felt < limits.stop_c] = 0
        stop = self._hot >= self.policy.debounce_ticks
        hottest = int(np.argmax(np.where(warm, felt, -np.inf)))
        said = f"{self._names(warm)} warm: up to {felt[hottest]:.0f} degC"
        if stop.any():
            # Heat rises slowly, and the motor's own limit is still some degrees away.
            why = f"{self._names(stop)} too hot: up to {felt[hottest]:.0f} degC"
            demands.append(Demand(self.policy.fault, why, patient=True))
        elif (self.torque_share < 1).any():
            said += f", {self._names(self.torque_share < 1)} derated"
        warnings.append(said)

    def _supply(self, joints: JointState, dt: float, demands: list[Demand], warnings: list[str]) -> None:
        limits, volts = self.limits, joints.voltage
        near = (volts < self._quiet_v[0]) | (volts > self._quiet_v[1])
        if not near.any():  # NaN compares false: what is not reported is not judged
            self._bad_supply_s[:] = 0.0
            return
        bad = (volts < limits.low_v) | (volts > limits.high_v)
        self._bad_supply_s += dt
        self._bad_supply_s[~bad] = 0.0
        volt = float(volts[np.flatnonzero(near)[0]])
        if (self._bad_supply_s >= self.policy.voltage_debounce_s).any():
            demands.append(Demand(self.policy.fault, f"supply of {volt:.1f} V is outside what the motors allow"))
        else:
            warnings.append(f"supply at {volt:.1f} V")

    def _load(self, joints: JointState, dt: float, demands: list[Demand], warnings: list[str]) -> None:
        limits = self.limits
        loaded = np.abs(joints.tau) > self._loaded_nm
        if not loaded.any() and not self._loading:
            return
        self._loaded_s += np.where(loaded, dt, -dt)
        np.maximum(self._loaded_s, 0.0, out=self._loaded_s)
        self._loading = bool(self._loaded_s.any())
        if (self._loaded_s >= limits.overload_s).any():
            over = self._loaded_s >= limits.overload_s
            demands.append(Demand(self.policy.fault, f"{self._names(over)} overloaded for {limits.overload_s:g} s"))
        elif (self._loaded_s >= 0.5 * limits.overload_s).any():
            warnings.append(f"{self._names(self._loaded_s >= 0.5 * limits.overload_s)} at the torque limit")

    def _stuck(self, target: Array, dt: float, demands: list[Demand]) -> None:
        moved = self.q != self._reference
        np.copyto(self._reference, self.q)
        self._unchanged_s += dt
        self._unchanged_s[moved] = 0.0
        np.minimum(self._least, target, out=self._least)
        np.maximum(self._most, target, out=self._most)
        np.copyto(self._least, target, where=moved)
        np.copyto(self._most, target, where=moved)
        # Time at rest with a target at rest does not count: the first step of a policy needs its tick to take effect.
        wandered = self._most - self._least > self.policy.frozen_rad
        self._unchanged_s[~wandered] = 0.0
        stuck = (self._unchanged_s >= self.policy.frozen_s) & wandered
        stuck &= self.missed == 0
        if stuck.any():
            demands.append(Demand(self.policy.fault, f"{self._names(stuck)} blocked, or its encoder stuck"))

    def leans(self, imu: ImuState) -> bool:
        """Whether the trunk leans as far as a robot that falls; False where the unit does not tell."""
        up = self._up(imu)
        return up is not None and up < self._fallen_up

    def _up(self, imu: ImuState) -> float | None:
        length = math.hypot(*imu.gravity.tolist())
        if not (0.5 < length < 2.0 and bool(np.isfinite(imu.gyro).all())):
            return None
        return float(imu.gravity @ self._upright) / length

    def _tilt(self, imu: ImuState, dt: float, demands: list[Demand], warnings: list[str]) -> None:
        up = self._up(imu)
        if up is None or not abs(imu.age) <= _STALE_PERIODS * self.period_s:
            self.imu_missed += 1
            if self.imu_missed > self.policy.coast_ticks:
                demands.append(Demand(self.policy.stale_feedback, "no usable sample from the inertial unit"))
            else:
                warnings.append("coasting on the last sample of the inertial unit")
            return
        self.imu_missed = 0
        self._tilted_s = self._tilted_s + dt if up < self._fallen_up else 0.0
        if self._tilted_s >= self.policy.fall_debounce_s - 1e-9:
            tilt = math.degrees(math.acos(min(max(up, -1.0), 1.0)))
            demands.append(Demand(self.policy.fall, f"the robot falls: its trunk leans {tilt:.0f} deg"))


def fault_words(bits: int) -> list[str]:
    """Names of the bits of :class:`Fault` for people; what has no name by its number."""
    words = [fault.name.lower().replace("_", " ") for fault in Fault if fault.name and bits & fault]
    return words or [f"fault 0x{bits:x}"]


def _why_not_heard(joints: JointState, lost: NDArray[np.bool_]) -> str:
    bits = int(np.bitwise_or.reduce(joints.fault[lost])) & _NOT_HEARD
    return f" ({', '.join(fault_words(bits))})" if bits else ""

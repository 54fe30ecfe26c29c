"""The safety supervisor: nothing reaches a motor but through :meth:`SafetySupervisor.send`.

In this order, and each with a flag in :attr:`Applied.limited_by`:

1. Finite guard, before any clamp: a command with one number that is not finite, or of a wrong shape or mode, is
   refused as a whole and the last target is held. (A clamp written ``max(lo, min(hi, x))`` turns NaN into a limit.)
2. Gains, speed and feed-forward torque into their limits; targets into the soft position limits.
3. Torque: ``kp (q_des - q) + kd (dq_des - dq) + tau`` into its limit by moving ``q_des``.
4. Slew and approach: a target moves no farther from the last one *sent* than slew allows, nor faster towards a soft
   limit than ``k (limit - q)``; the first target after switching on is counted from the measured pose.
5. What torque 4 has brought back beyond the limit is taken away by smaller gains, for motors that take gains.

So the result is always finite, inside the limits and within slew, and in IMPEDANCE mode also within torque.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.joint_port import JointPort
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.monitors import Demand, FeedbackMonitor
from cadenza.robots.hardware.stopping import StopPolicy
from cadenza.robots.hardware.types import JointCommand, Mode, RobotState, Sent

Array = NDArray[np.float64]

_WIRE_SLACK_RAD = 0.01
_TOUCHED = 1e-12
_TOUCHED_SHARE = 1e-9
_TIME_SLACK_S = 1e-9

_FIELDS = ("q", "dq", "tau", "kp", "kd")
_TAU = _FIELDS.index("tau")


class Limit(IntFlag):
    """Why a joint did not get what was asked for; several may hold at once."""

    NONE = 0
    NOT_FINITE = 1
    """The whole command was refused: a number in it is not finite."""
    REFUSED = 2
    """The whole command was refused: shape, type or mode."""
    POSITION = 4
    APPROACH = 8
    """Slower towards a soft limit."""
    VELOCITY = 16
    SLEW = 32
    TORQUE = 64
    GAIN = 128
    DERATED = 256
    """Torque limit lowered because the motor is warm; with TORQUE where that mattered."""
    STALE_COMMAND = 512
    """No command, or one too old: the last target is held."""
    STALE_FEEDBACK = 1024
    """Judged by a sample of some ticks ago."""
    RAMP = 2048
    """Start-up or a controlled stop decides, not the caller."""


_CLIPPED = (Limit.POSITION, Limit.VELOCITY, Limit.TORQUE, Limit.GAIN, Limit.GAIN)
"""What a clamp of each field is called."""


@dataclass(eq=False)
class Applied:
    """What became of a command."""

    requested: JointCommand | None
    """As it came in; None where there was none. May hold anything, NaN included."""
    applied: JointCommand | None
    """After limits; None where nothing was sent."""
    sent: Sent | None
    """What the port says went out."""
    limited_by: NDArray[np.int64]
    """Bits of :class:`Limit` per joint, (n,)."""
    reasons: tuple[str, ...]
    """For people: why a command was refused or held."""
    at_s: float
    """On the robot's clock."""

    def limited(self, names: tuple[str, ...]) -> dict[str, str]:
        """Joint name -> what limited it, for those that were."""
        rows = np.flatnonzero(self.limited_by).tolist()
        return {names[row]: _words(int(self.limited_by[row])) for row in rows}


class SafetySupervisor:
    """The only holder of a port's write handle.

    Args:
        port: written to by nobody else.
        robot: its joint table.
        limits: of its joints.
        policy: reactions.
        period_s: of control; the slew of one tick is for that time, less where a tick comes early.
    """

    def __init__(self, port: JointPort, robot: LeggedRobot, limits: JointLimits, policy: StopPolicy, period_s: float):
        self._port = port
        self.names = robot.joint_names
        self.limits, self.policy, self.period_s = limits, policy, period_s
        self.monitor = FeedbackMonitor(
            robot, limits, policy, period_s, reports_speed="dq" in (port.capabilities.reports or {"dq"})
        )
        self.rejected = 0
        """Commands refused since it was made."""
        n = len(robot.joints)
        self._n = n
        self._table_kp = np.array([row.kp for row in robot.joints])
        self._table_kd = np.array([row.kd for row in robot.joints])
        self._in_a_row = 0
        self._last = np.full(n, np.nan)
        self._last_kp, self._last_kd = self._table_kp.copy(), self._table_kd.copy()
        self._last_at_s = -math.inf
        self._heard_at_s = math.nan
        self._mode = Mode.POSITION
        self._demands: list[Demand] = []
        self._flags = np.zeros(n, dtype=np.int64)
        self._bound = ~limits.self_limited
        self._low, self._high = np.empty(n), np.empty(n)
        self._asked = np.empty((len(_FIELDS), n))
        top = (limits.soft_high_rad, limits.velocity_rad_s, limits.torque_nm, limits.kp_max, limits.kd_max)
        none = np.zeros(n)
        self._highest = np.array(top)
        self._lowest = np.array([limits.soft_low_rad, -limits.velocity_rad_s, -limits.torque_nm, none, none])

    # ------------------------------------------------------------------ life

    @property
    def target(self) -> Array:
        """The last target that was sent, rad, (n,); the measured pose before the first, NaN before that."""
        return self._last.copy()

    @property
    def gains(self) -> tuple[Array, Array]:
        """kp and kd of the last command, (n,) each."""
        return self._last_kp.copy(), self._last_kd.copy()

    @property
    def table_gains(self) -> tuple[Array, Array]:
        """kp and kd of the joint table, (n,) each."""
        return self._table_kp.copy(), self._table_kd.copy()

    def anchor(self, q: Array, mode: Mode) -> None:
        """Start from a measured pose, (n,), rad, in a mode: POSITION or IMPEDANCE. Torque is about to go on."""
        self._last[:] = np.clip(q, self.limits.hard_low_rad, self.limits.hard_high_rad)
        self._last_at_s = -math.inf
        self._last_kp[:], self._last_kd[:] = self._table_kp, self._table_kd
        self._mode = mode
        self._in_a_row = 0
        self._demands.clear()
        self.monitor.begin()

    def expect_commands(self, now_s: float) -> None:
        """From now on a missing command counts."""
        self._heard_at_s = now_s
        self._in_a_row = 0

    def observe(self, state: RobotState, *, powered: bool) -> None:
        """Take a reading in; :meth:`take_demand` tells whether it asks for a stop."""
        self._demands += self.monitor.observe(state, self._last if powered else None)
        if not powered:
            self._demands.clear()

    def take_demand(self) -> Demand | None:
        """The strongest stop asked for since the last call; None if none."""
        if not self._demands:
            return None
        strongest = min(self._demands, key=lambda demand: (demand.category, demand.patient))
        alike = (strongest.category, strongest.patient)
        same = [demand.reason for demand in self._demands if (demand.category, demand.patient) == alike]
        self._demands.clear()
        return Demand(strongest.category, "; ".join(dict.fromkeys(same)), strongest.patient)

    # ------------------------------------------------------------------ sending

    def send(self, command: JointCommand | None, *, age_s: float = 0.0, ramp: bool = False) -> Applied:
        """Limit a command and send it; hold the last target where there is none to send.

        Args:
            command: (n,); None where the policy gave none.
            age_s: since the policy gave it.
            ramp: from start-up or a stop, not from a policy; marked so, and no command is missed meanwhile.

        Raises:
            HardwareError: the port is gone.
        """
        now = self._port.clock.now()
        flags = self._flags
        flags[:] = int(Limit.RAMP) if ramp else 0
        reasons: tuple[str, ...] = ()
        use = command
        if command is None or not age_s <= self.policy.command_deadline_s + _TIME_SLACK_S:
            use = None
            flags |= int(Limit.STALE_COMMAND)
            reasons = (self._lost(now),)
        else:
            wrong, bit = self._unfit(command, ramp=ramp)
            if wrong:
                use = None
                flags |= int(bit)
                reasons = (wrong,)
                self._refused(wrong)
            else:
                self._in_a_row = 0
                self._heard_at_s = now - age_s
        return self._send(command, use or self._hold(), now, reasons)

    def _send(self, requested: JointCommand | None, command: JointCommand, now: float, why: tuple[str, ...]) -> Applied:
        shaped = self._shape(command, now)
        sent = self._port.write(shaped)
        if sent.delivered:
            self._last_at_s = now
            self._last_kp[:], self._last_kd[:] = shaped.kp, shaped.kd
            # The wire's resolution may swallow a slow ramp's steps: count from what was asked, unless the port
            # itself put the goal elsewhere.
            off = np.abs(sent.command.q - shaped.q) > _WIRE_SLACK_RAD
            np.copyto(self._last, shaped.q)
            if off.any():
                np.copyto(self._last, sent.command.q, where=off)
        else:
            why = (*why, "the port did not deliver it")
        return Applied(requested, shaped, sent, self._flags.copy(), why, now)

    def _hold(self) -> JointCommand:
        zero = np.zeros(self._n)
        return JointCommand(self._last.copy(), zero, zero, self._last_kp.copy(), self._last_kd.copy(), self._mode)

    def _lost(self, now: float) -> str:
        if math.isnan(self._heard_at_s):
            return "no command yet"
        silent = now - self._heard_at_s
        if silent > self.policy.command_deadline_s + self.policy.lost_command_hold_s + _TIME_SLACK_S:
            self._demands.append(Demand(self.policy.lost_command, f"no command for {silent:.2f} s"))
        return f"no fresh command for {silent:.3f} s: the last target is held"

    def _refused(self, why: str) -> None:
        self.rejected += 1
        self._in_a_row += 1
        if self._in_a_row >= self.policy.rejected_commands:
            self._demands.append(Demand(self.policy.fault, f"{self._in_a_row} commands in a row were refused: {why}"))

    def _unfit(self, command: JointCommand, *, ramp: bool) -> tuple[str, Limit]:
        if command.mode != self._mode and not (ramp and command.mode == Mode.DAMP):
            return f"a command in mode {command.mode.value} while the robot runs in {self._mode.value}", Limit.REFUSED
        values, shape = self._asked, (self._n,)
        for row, name in enumerate(_FIELDS):
            value = getattr(command, name)
            if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in "fi":
                return f"{name} is no array of {self._n} numbers", Limit.REFUSED
            values[row] = value
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            names = [self.names[joint] for joint in np.flatnonzero(~np.isfinite(values[row]))[:3].tolist()]
            return f"{_FIELDS[row]} of {', '.join(names)} is not finite", Limit.NOT_FINITE
        return "", Limit.NONE

    # ------------------------------------------------------------------ shaping

    def _shape(self, command: JointCommand, now: float) -> JointCommand:
        monitor, flags, mode = self.monitor, self._flags, command.mode
        made = np.array([command.q, command.dq, command.tau, command.kp, command.kd], dtype=np.float64)
        if monitor.missed.any():
            flags[monitor.missed > 0] |= int(Limit.STALE_FEEDBACK)
        torque, bound = self.limits.torque_nm, self._bound
        derated = monitor.torque_share < 1.0
        if derated.any():
            torque = torque * monitor.torque_share
            bound = bound | derated
            flags[derated] |= int(Limit.DERATED)
        self._highest[_TAU] = torque
        self._lowest[_TAU] = -torque
        clipped = np.maximum(np.minimum(made, self._highest), self._lowest)
        moved = np.abs(clipped - made) > _TOUCHED
        if moved.any():
            for row, bit in enumerate(_CLIPPED):
                flags[moved[row]] |= int(bit)
        q, dq, tau, kp, kd = clipped
        some = bool(bound.any())
        if some:
            self._bound_torque(mode, bound, torque, q, dq, tau, kp, kd)
            np.minimum(q, self.limits.soft_high_rad, out=q)
            np.maximum(q, self.limits.soft_low_rad, out=q)
        self._bound_motion(q, now)
        if some and mode != Mode.POSITION:
            self._trim_gains(bound, torque, q, dq, tau, kp, kd)
        if not np.isfinite(clipped).all():  # nothing above can make it so; nothing above is trusted
            flags |= int(Limit.NOT_FINITE)
            self._refused("the limited command is not finite")
            return self._hold()
        return JointCommand(q, dq, tau, kp, kd, mode)

    def _bound_torque(
        self,
        mode: Mode,
        bound: NDArray[np.bool_],
        torque: Array,
        q: Array,
        dq: Array,
        tau: Array,
        kp: Array,
        kd: Array,
    ) -> None:
        """Move q so that the torque at the measured state stays inside its limit."""
        at, speed = self.monitor.q, self.monitor.dq
        if mode == Mode.POSITION:
            # Such a servo applies a gain to q alone: the command's, or the one it was configured with.
            stiff, rest = np.maximum(kp, self._table_kp), np.zeros(self._n)
        else:
            stiff, rest = kp, kd * (dq - speed) + tau
        asked = stiff * (q - at) + rest
        allowed = np.minimum(np.maximum(asked, -torque), torque)
        over = bound & (np.abs(asked - allowed) > _TOUCHED) & (stiff > 0)
        if over.any():
            q[over] = at[over] + (allowed[over] - rest[over]) / stiff[over]
            self._flags[over] |= int(Limit.TORQUE)

    def _bound_motion(self, q: Array, now: float) -> None:
        """Slew from the last target sent, and approach to the soft limits."""
        limits, low, high = self.limits, self._low, self._high
        time = min(self.period_s, max(now - self._last_at_s, 0.0))
        np.multiply(limits.slew_rad_s, time, out=high)
        np.negative(high, out=low)
        moved = q - self._last
        beyond = (moved > high) | (moved < low)
        if beyond.any():
            self._flags[beyond] |= int(Limit.SLEW)
            moved = np.maximum(np.minimum(moved, high), low)
            np.add(self._last, moved, out=q, where=beyond)
        if math.isfinite(limits.approach_per_s):
            room, at = limits.approach_per_s * time, self.monitor.q
            np.maximum(room * (limits.soft_high_rad - at), 0.0, out=high)
            np.minimum(room * (limits.soft_low_rad - at), 0.0, out=low)
            beyond = (moved > high) | (moved < low)
            if beyond.any():
                self._flags[beyond] |= int(Limit.APPROACH)
                moved = np.maximum(np.minimum(moved, high), low)
                np.add(self._last, moved, out=q, where=beyond)

    def _trim_gains(
        self, bound: NDArray[np.bool_], torque: Array, q: Array, dq: Array, tau: Array, kp: Array, kd: Array
    ) -> None:
        """Smaller gains where slew kept q away from where the torque limit wants it."""
        error, slip = q - self.monitor.q, dq - self.monitor.dq
        rest = kd * slip + tau
        over = bound & (np.abs(kp * error + rest) > (1 + _TOUCHED_SHARE) * torque)
        if not over.any():
            return
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = np.where(over & (np.abs(rest) > torque), torque / np.abs(rest), 1.0)
            kd *= share
            tau *= share
            rest = kd * slip + tau
            room = np.maximum((np.sign(error) * torque - rest) / error, 0.0)
        stiff = over & (error != 0.0)
        np.copyto(kp, np.minimum(kp, room), where=stiff)
        self._flags[over] |= int(Limit.TORQUE)


def _words(bits: int) -> str:
    return ", ".join(limit.name.lower() for limit in Limit if limit.name and bits & limit)

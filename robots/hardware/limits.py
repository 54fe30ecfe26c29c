"""What a robot's joints may be asked to do: limits taken from its joint table, on unless somebody switches them off.

Numbers of this module that stand in no joint table are choices of ours, each with its reason:

- *Soft position limit*: the hard stop less 3 deg, less where the home pose lies nearer to the stop. Towards it a
  target may move at most at ``k (limit - q)`` (the form of ros2_control's soft limiter) with k = 20/s.
- *Slew*: three times the joint's speed limit, at most one full action in 20 ms. The shipped OP3 walk asks for up to
  10.4 rad/s, 2.2 times its servos' speed without load, and 99 % of its steps are below 8.7: a policy leads its joints.
- *Temperature*: warn 20 K, derate from 15 K, stop 5 K below where the motor switches itself off.
- *Torque*: the table's. A servo that cannot exceed it by itself is not clipped for it, so that a policy meets the same
  saturation as in training, unless it is derated or the limit was lowered.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.motors import MOTORS

Array = NDArray[np.float64]

_NEVER = 1e9  # finite, so that no product of it is NaN

log = logging.getLogger(__name__)

DEVICE_LIMIT_C: dict[str, float] = {"XM430": 80.0, "XL330": 70.0, "STS3215": 70.0}
"""Temperature at which motors of a family switch themselves off, degC: control tables of ROBOTIS (Temperature Limit,
31) and Feetech (address 13). The XL330's is from memory."""
ASSUMED_DEVICE_LIMIT_C = 80.0
"""For drives whose maker's limit we do not know."""


@dataclass(frozen=True)
class LimitRules:
    """How limits follow from a joint table; the module tells why."""

    margin_rad: float = math.radians(3.0)
    """Between soft limit and hard stop."""
    approach_per_s: float = 20.0
    """k of the speed allowed towards a soft limit, k (limit - q)."""
    slew_speeds: float = 3.0
    """Slew over speed limit."""
    action_time_s: float = 0.02
    """In which a target may move by the robot's ``action_scale`` at most."""
    gain_factor: float = 2.0
    """Largest gains over the table's."""
    warn_below_c: float = 20.0
    derate_below_c: float = 15.0
    stop_below_c: float = 5.0
    """Kelvin below the device's own limit."""
    hysteresis_c: float = 3.0
    derated_share: float = 0.5
    """Of the torque that is left when the stop temperature is reached."""
    voltage_warn_share: float = 0.03
    """Of its range: how near to the end of it the supply makes a warning."""
    overload_share: float = 0.9
    """Of the torque limit, above which a motor counts as overloaded."""
    overload_s: float = 3.0
    """How long it may be so; a warning at half of it."""
    overspeed: float = 2.0
    """Measured speed over the speed limit that counts as running away."""


@dataclass(frozen=True, eq=False)
class JointLimits:
    """Limits of n joints in table order; arrays have shape (n,) and cannot be written to."""

    names: tuple[str, ...]
    hard_low_rad: Array
    hard_high_rad: Array
    """Where the joint's table ends."""
    soft_low_rad: Array
    soft_high_rad: Array
    """Where targets end."""
    approach_per_s: float
    velocity_rad_s: Array
    slew_rad_s: Array
    """How fast a target may move."""
    torque_nm: Array
    self_limited: NDArray[np.bool_]
    """Motors that cannot exceed ``torque_nm`` by themselves."""
    kp_max: Array
    kd_max: Array
    warn_c: Array
    derate_c: Array
    stop_c: Array
    hysteresis_c: float
    derated_share: float
    low_v: Array
    high_v: Array
    """Supply outside which the robot stops."""
    voltage_warn_v: Array
    """Distance from those at which it warns."""
    overload_share: float
    overload_s: float
    overspeed: float
    safe: bool = True
    """False where they were switched off."""

    @classmethod
    def for_robot(cls, robot: LeggedRobot, rules: LimitRules | None = None) -> Self:
        """From a robot's joint table."""
        rules = rules or LimitRules()
        rows = robot.joints
        motors = [MOTORS[row.motor] for row in rows]
        hard = np.array([row.limits_rad for row in rows])
        home = np.array([row.home_rad for row in rows])
        margin_low = np.clip(home - hard[:, 0], 0.0, rules.margin_rad)
        margin_high = np.clip(hard[:, 1] - home, 0.0, rules.margin_rad)
        velocity = np.array([row.velocity_rad_s for row in rows])
        device_c = np.array([device_limit_c(row.motor) for row in rows])
        volts = np.array([motor.voltage_range_v for motor in motors])
        return cls._frozen(
            names=robot.joint_names,
            hard_low_rad=hard[:, 0],
            hard_high_rad=hard[:, 1],
            soft_low_rad=hard[:, 0] + margin_low,
            soft_high_rad=hard[:, 1] - margin_high,
            approach_per_s=rules.approach_per_s,
            velocity_rad_s=velocity,
            slew_rad_s=np.minimum(rules.slew_speeds * velocity, robot.action_scale / rules.action_time_s),
            torque_nm=np.array([row.torque_nm for row in rows]),
            self_limited=np.array(
                [
                    motor.actuator == "dc_motor" and motor.peak_torque_nm <= row.torque_nm
                    for motor, row in zip(motors, rows, strict=True)
                ]
            ),
            kp_max=rules.gain_factor * np.array([row.kp for row in rows]),
            kd_max=rules.gain_factor * np.array([row.kd for row in rows]),
            warn_c=device_c - rules.warn_below_c,
            derate_c=device_c - rules.derate_below_c,
            stop_c=device_c - rules.stop_below_c,
            hysteresis_c=rules.hysteresis_c,
            derated_share=rules.derated_share,
            low_v=volts[:, 0],
            high_v=volts[:, 1],
            voltage_warn_v=rules.voltage_warn_share * (volts[:, 1] - volts[:, 0]),
            overload_share=rules.overload_share,
            overload_s=rules.overload_s,
            overspeed=rules.overspeed,
        )

    @classmethod
    def unsafe(cls, robot: LeggedRobot) -> Self:
        """Without margins, slew, torque, temperature and voltage limits; says so loudly.

        What stays: numbers must be finite, and targets end at the hard stops.
        """
        log.warning(
            "LIMITS OF %s ARE OFF: no slew, torque, temperature or voltage limit. A wrong command can break the robot "
            "or hurt somebody. Keep a hand on the switch of the motors' supply.",
            robot.title,
        )
        limits = cls.for_robot(robot)
        never = np.full(len(robot.joints), _NEVER)
        return limits.changed(
            soft_low_rad=limits.hard_low_rad,
            soft_high_rad=limits.hard_high_rad,
            approach_per_s=math.inf,
            velocity_rad_s=never,
            slew_rad_s=never,
            torque_nm=never,
            self_limited=np.ones(len(never), dtype=bool),
            kp_max=never,
            kd_max=never,
            warn_c=never,
            derate_c=never,
            stop_c=never,
            low_v=-never,
            high_v=never,
            voltage_warn_v=np.zeros(len(never)),
            overload_s=_NEVER,
            overspeed=_NEVER,
            safe=False,
        )

    def changed(self, **changes: object) -> Self:
        """A copy with other values.

        Raises:
            RefusedError: soft limits that leave the hard ones, or limits that are not numbers above 0.
        """
        return self._frozen(**{**{name: getattr(self, name) for name in self.__dataclass_fields__}, **changes})

    @classmethod
    def _frozen(cls, **values: object) -> Self:
        made = cls(**values)  # type: ignore[arg-type]
        n = len(made.names)
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                kind = bool if value.dtype == bool else np.float64
                array = np.array(np.broadcast_to(value, (n,)), dtype=kind)
                array.flags.writeable = False
                object.__setattr__(made, name, array)
        made._check()
        return made

    def _check(self) -> None:
        wrong = ~(
            (self.hard_low_rad <= self.soft_low_rad)
            & (self.soft_low_rad <= self.soft_high_rad)
            & (self.soft_high_rad <= self.hard_high_rad)
        )
        for what in ("velocity_rad_s", "slew_rad_s", "torque_nm", "kp_max"):
            wrong |= ~(getattr(self, what) > 0)
        if wrong.any():
            names = ", ".join(np.array(self.names)[wrong])
            raise RefusedError(
                f"The limits of {names} make no sense.",
                "Soft position limits must lie inside the hard ones; speed, slew, torque and gain must be above 0.",
            )

    def outside(self, q: Array, slack_rad: float = 0.0) -> list[str]:
        """What is wrong with a pose (n,): joints beyond a hard stop or unknown, with their angles; empty if nothing."""
        found = []
        for row, name in enumerate(self.names):
            low, high = self.hard_low_rad[row] - slack_rad, self.hard_high_rad[row] + slack_rad
            if not low <= q[row] <= high:
                found.append(
                    f"{name} at {math.degrees(q[row]):.1f} deg (limits {math.degrees(self.hard_low_rad[row]):.1f} to "
                    f"{math.degrees(self.hard_high_rad[row]):.1f})"
                )
        return found


def device_limit_c(motor: str) -> float:
    """Temperature at which a motor, a key of :data:`MOTORS`, switches itself off, degC."""
    for family, limit in DEVICE_LIMIT_C.items():
        if motor.startswith(family):
            return limit
    return ASSUMED_DEVICE_LIMIT_C


@dataclass(frozen=True, eq=False)
class ObservationBounds:
    """What a policy's observation looked like in training: its range, shape (size,)."""

    low: Array
    high: Array
    names: tuple[str, ...] = ()
    """Of the entries, for messages; may be empty."""
    warn_after: int = 1
    stop_after: int = 25
    """Consecutive observations out of bounds until a stop is asked for: half a second at 50 Hz."""

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or not bool((self.low <= self.high).all()):
            raise RefusedError("The observation bounds do not fit together.", "Export the policy again.")


@dataclass(eq=False)
class ObservationGuard:
    """Counts observations out of bounds in a row."""

    bounds: ObservationBounds
    outside_for: int = field(default=0, init=False)

    def check(self, observation: Array) -> tuple[str, bool]:
        """A reason, empty while all is well, and whether to stop.

        Args:
            observation: (size,). Numbers that are not finite ask for a stop at once.
        """
        if observation.shape != self.bounds.low.shape:
            return f"the observation has shape {observation.shape}, not {self.bounds.low.shape}", True
        out = ~((observation >= self.bounds.low) & (observation <= self.bounds.high))
        if not out.any():
            self.outside_for = 0
            return "", False
        self.outside_for += 1
        worst = np.flatnonzero(out)[:3].tolist()
        named = ", ".join(self.bounds.names[i] if self.bounds.names else f"entry {i}" for i in worst)
        stop = self.outside_for >= self.bounds.stop_after or not bool(np.isfinite(observation).all())
        if self.outside_for < self.bounds.warn_after and not stop:
            return "", False
        return f"the observation left what training saw: {named}", stop


def lowered(limits: JointLimits, *, torque_share: float = 1.0, speed_share: float = 1.0) -> JointLimits:
    """Limits for a first try on a real robot: less torque and slower targets. Shares are of (0, 1]."""
    if not (0 < torque_share <= 1 and 0 < speed_share <= 1):
        raise RefusedError(
            f"Shares of limits lie above 0 and not above 1: torque {torque_share:g}, speed {speed_share:g}.",
            "1 leaves a limit as it is.",
        )
    return limits.changed(
        torque_nm=torque_share * limits.torque_nm,
        velocity_rad_s=speed_share * limits.velocity_rad_s,
        slew_rad_s=speed_share * limits.slew_rad_s,
        self_limited=limits.self_limited & (torque_share == 1.0),
    )

"""How a robot is calibrated: joints are swept by hand, then it is put into its zero pose. Pure bookkeeping, no bus.

A servo's encoder tells one turn; behind +180 deg it goes on at -180. If that place lies inside a joint's range, a goal
on the other side of it sends the joint the long way round. So the sweep comes first: it follows each motor across its
wrap and knows the whole range before any zero is chosen, and what covers the wrap is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from cadenza.robots.description import Joint, LeggedRobot
from cadenza.robots.hardware.calibration import Calibration, JointCalibration
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.types import Array, Identity, JointState

LEAST_SHARE = 0.4
"""Of the joint table's range that a sweep must have covered."""
_SLACK_RAD = math.radians(2.0)
_REVERSED = 1.25
"""How much better the mirrored range must fit before a sign is called wrong."""


@dataclass
class Sweep:
    """What each motor's angle has covered; arrays (n,), rad at the motor, followed across the wrap."""

    n: int
    low: Array = field(init=False)
    high: Array = field(init=False)
    now: Array = field(init=False)
    wraps: Array = field(init=False)
    """Whole turns between the followed angle and what the encoder says."""

    def __post_init__(self) -> None:
        self.low, self.high = np.full(self.n, np.inf), np.full(self.n, -np.inf)
        self.now, self.wraps = np.full(self.n, np.nan), np.zeros(self.n)

    def see(self, state: JointState) -> None:
        """Take one reading; motors that report a fault or did not answer are left out of it."""
        good = np.isfinite(state.q) & (state.fault == 0)
        known = good & np.isfinite(self.now)
        followed = state.q + 2 * math.pi * self.wraps
        step = np.where(known, followed - self.now, 0.0)
        self.wraps -= np.round(step / (2 * math.pi))
        self.now = np.where(good, state.q + 2 * math.pi * self.wraps, self.now)
        self.low = np.where(good, np.minimum(self.low, self.now), self.low)
        self.high = np.where(good, np.maximum(self.high, self.now), self.high)

    @property
    def crossed(self) -> Array:
        """Whether each motor was seen on both sides of the place where its encoder wraps, (n,) of bool."""
        first, last = np.floor((self.low + math.pi) / (2 * math.pi)), np.floor((self.high + math.pi) / (2 * math.pi))
        return np.isfinite(self.low) & (first != last)

    @property
    def width(self) -> Array:
        """Of each range, rad, (n,); -inf before the first reading."""
        return np.where(np.isfinite(self.low), self.high - self.low, -np.inf)


def enough(joint: Joint) -> float:
    """How wide a sweep of this joint must be, rad."""
    return LEAST_SHARE * (joint.limits_rad[1] - joint.limits_rad[0])


def check_sweep(robot: LeggedRobot, sweep: Sweep) -> None:
    """Refuse a sweep from which no range can be taken.

    Raises:
        RefusedError: joints that were hardly moved, or whose range covers the wrap; it names them all.
    """
    small = [
        f"{row.name} moved {math.degrees(max(float(width), 0.0)):.0f} of {math.degrees(enough(row)):.0f} deg or more"
        for row, width in zip(robot.joints, sweep.width, strict=True)
        if width < enough(row)
    ]
    if small:
        raise RefusedError(
            f"Too little was swept: {'; '.join(small)}.", "Move every joint by hand from one stop to the other."
        )
    wrapped = [row.name for row, crossed in zip(robot.joints, sweep.crossed, strict=True) if crossed]
    if wrapped:
        raise RefusedError(
            f"The place where the encoder wraps (+-180 deg at the motor) is in the range of {', '.join(wrapped)}.",
            "Take the horn off that servo, turn its shaft by half a turn and mount it again; then calibrate anew. "
            "Where a joint has no stop, keep it within its limits while you sweep.",
        )


def calibrate(
    robot: LeggedRobot,
    identities: Sequence[Identity],
    sweep: Sweep,
    zero_pose: Array | None,
    *,
    date: str,
    unit: str = "",
    flip: Collection[str] = (),
) -> Calibration:
    """The calibration that follows from a sweep and a pose.

    Args:
        robot: whose.
        identities: who answered, in table order.
        sweep: of all motors.
        zero_pose: motors' angles while all joints stood at 0, rad, (n,); None keeps the table's zeros.
        date: ISO 8601.
        unit: what its owner calls it.
        flip: joints whose motor turns the other way than the table says.

    Raises:
        RefusedError: see :func:`check_sweep`; the zero pose lies outside what was swept; or the range fits the table's
            limits only with the other sign.
    """
    check_sweep(robot, sweep)
    rows, wrong = [], []
    for i, (joint, identity) in enumerate(zip(robot.joints, identities, strict=True)):
        sign = -joint.sign if joint.name in flip else joint.sign
        turns = 2 * math.pi * math.floor((float(sweep.low[i]) + math.pi) / (2 * math.pi))
        low, high = float(sweep.low[i]) - turns, float(sweep.high[i]) - turns
        zero_rad = joint.zero_rad
        if zero_pose is not None:
            at = float(zero_pose[i])
            if not low - _SLACK_RAD <= at <= high + _SLACK_RAD:
                wrong.append(
                    f"{joint.name}: the zero pose ({math.degrees(at):.1f} deg at the motor) lies outside what was "
                    f"swept ({math.degrees(low):.1f} to {math.degrees(high):.1f})"
                )
            zero_rad = -sign * at
        ends = sorted((sign * low + zero_rad, sign * high + zero_rad))
        if _overlap(-ends[1], -ends[0], joint) > _REVERSED * _overlap(ends[0], ends[1], joint):
            wrong.append(
                f"{joint.name} went from {math.degrees(ends[0]):.0f} to {math.degrees(ends[1]):.0f} deg, its limits "
                f"are {math.degrees(joint.limits_rad[0]):.0f} to {math.degrees(joint.limits_rad[1]):.0f}: its motor "
                f"seems to turn the other way (--flip {joint.name})"
            )
        rows.append(
            JointCalibration(
                joint.name, joint.bus_id, joint.motor, sign, zero_rad, 1.0, identity.firmware, identity.serial,
                (ends[0], ends[1]), "swept" if zero_pose is None else "swept, zero pose",
            )
        )  # fmt: skip
    if wrong:
        raise RefusedError("; ".join(wrong) + ".", "Nothing was written.")
    made = Calibration(robot.name, date, tuple(rows), unit)
    made.check(robot)
    return made


def _overlap(low: float, high: float, joint: Joint) -> float:
    return max(min(high, joint.limits_rad[1]) - max(low, joint.limits_rad[0]), 0.0)

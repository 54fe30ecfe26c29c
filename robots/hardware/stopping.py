"""How a robot stops: stop categories, when each is taken, and the motion of a controlled stop.

The categories are those of IEC 60204-1: 0 takes the power away at once; 1 stops under control, then takes it away; 2
stops under control and keeps it. An *emergency* stop is of category 0 or 1 only (ISO 13850), latches and overrides
everything. (The standards themselves were not read; the words are those of secondary sources named in docs/safety.md.)

None of this is a safety function: it runs on a computer, in Python. docs/safety.md says what is.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.joint_port import JointPort
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.types import Capabilities, JointCommand, Mode

Array = NDArray[np.float64]
log = logging.getLogger(__name__)

RobotKind = Literal["biped", "arm", "wheels"]


class StopCategory(IntEnum):
    """How to stop; the lower number is the stronger one."""

    POWER_OFF = 0
    """Torque off at once. A robot that stands will fall, an arm will drop."""
    CONTROLLED = 1
    """Bring the joints to rest, then torque off."""
    HOLD = 2
    """Bring the joints to rest and hold them with power."""


@dataclass(frozen=True)
class StopPolicy:
    """What a kind of robot does when something is wrong; times in s."""

    kind: RobotKind
    lost_command_hold_s: float
    """How long the last target is held after commands stop coming, before ``lost_command`` is taken."""
    lost_command: StopCategory
    hold_then_s: float = math.inf
    """How long a stop of category 2 holds before it turns into one of category 1."""
    fall: StopCategory = StopCategory.POWER_OFF
    fall_tilt_rad: float | None = math.radians(60.0)
    """Angle between the trunk and upright that counts as a fall; None where falling means nothing."""
    fall_debounce_s: float = 0.2
    fault: StopCategory = StopCategory.CONTROLLED
    """A motor's fault, or a limit of temperature, supply, load or speed."""
    stale_feedback: StopCategory = StopCategory.CONTROLLED
    command_deadline_s: float = 0.04
    """Age at which a command counts as stale: two periods of a 50 Hz policy."""
    coast_ticks: int = 3
    """Readings in a row that a joint may miss (microduck's 3 ticks of 20 ms); the next one stops the robot."""
    rejected_commands: int = 5
    """Commands in a row that may be refused before the robot stops."""
    debounce_ticks: int = 3
    """Readings in a row for which a temperature or a speed must be too large."""
    voltage_debounce_s: float = 0.5
    """Legs that land make a supply sag."""
    frozen_s: float = 1.0
    frozen_rad: float = 0.1
    """A joint whose angle does not change by one encoder step for ``frozen_s`` while its target wanders by this much
    is blocked, or its encoder is stuck."""
    ramp_s: float = 0.1
    """In which a controlled stop takes the targets' speed away."""
    settle_rad_s: float = 0.1
    """Speed below which a joint counts as at rest."""
    settle_ticks: int = 3
    settle_timeout_s: float = 1.5
    """After which torque goes off even if joints still move."""
    stand_s: float = 1.5
    """An orderly end: how long commands still count, for a policy that is told to stand still to come to rest;"""
    home_s: float = 1.5
    """then the time of the way to the home pose;"""
    rest_s: float = 0.5
    """then how long it rests there before torque goes off."""
    damp: bool = True
    """A controlled stop damps where the motors can; otherwise it holds."""
    damping_share: float = 1.0
    """Of the joint table's kd, while damping."""
    watchdog_s: float = 0.2
    """Of the motors' own watchdogs."""


POLICIES: dict[RobotKind, StopPolicy] = {
    # Standing still is the pose of a biped that is least likely to end in a fall.
    "biped": StopPolicy(
        "biped", lost_command_hold_s=0.5, lost_command=StopCategory.CONTROLLED, damp=False, settle_timeout_s=1.0
    ),
    "arm": StopPolicy(
        "arm", lost_command_hold_s=0.2, lost_command=StopCategory.HOLD, hold_then_s=5.0, fall_tilt_rad=None
    ),
    "wheels": StopPolicy(
        "wheels", lost_command_hold_s=0.0, lost_command=StopCategory.CONTROLLED, fall_tilt_rad=None, ramp_s=0.2
    ),
}
"""What we choose for each kind (hal.md, loss policy per robot)."""


def stop_policy(robot: LeggedRobot) -> StopPolicy:
    """That of a legged robot: a biped's."""
    return POLICIES["biped"]


def emergency(category: int) -> StopCategory:
    """A category that an emergency stop may have.

    Raises:
        RefusedError: 2, or none.
    """
    if category not in (0, 1):
        raise RefusedError(
            f"An emergency stop is of category 0 or 1, not {category}.", "Category 2 keeps the power on: use stop(2)."
        )
    return StopCategory(category)


class StopMotion:
    """The targets of a controlled stop, tick by tick.

    From the last target on, each joint's goes on at the joint's measured speed, which falls to 0 within ``ramp_s``;
    then it rests. A joint that is at rest already keeps its target, so that a robot that stands goes on standing.
    An orderly end goes on to the home pose in ``home_s`` and rests there for ``rest_s``.

    Args:
        policy: times and thresholds.
        limits: of the joints.
        capabilities: of the motors; without DAMP it holds.
        q: last targets, rad, (n,).
        dq: measured speed, rad/s, (n,); NaN where not known.
        kp: (n,)
        kd: (n,), both of the last command.
        damping: kd while it damps, (n,).
        started_s: on the robot's clock.
        category: 1 or 2.
        mode: in which the motors run.
        home: pose of an orderly end, rad, (n,); None stops where it is.
    """

    def __init__(
        self,
        policy: StopPolicy,
        limits: JointLimits,
        capabilities: Capabilities,
        q: Array,
        dq: Array,
        kp: Array,
        kd: Array,
        damping: Array,
        started_s: float,
        category: StopCategory,
        mode: Mode,
        home: Array | None = None,
    ):
        self.policy, self.category, self.started_s = policy, category, started_s
        self.orderly = home is not None
        self.damps = (
            policy.damp and Mode.DAMP in capabilities.modes and category == StopCategory.CONTROLLED and not self.orderly
        )
        self._home, self._from = home, q
        self._mode = mode
        self._dq = np.clip(np.nan_to_num(dq, nan=0.0), -limits.velocity_rad_s, limits.velocity_rad_s)
        self._q, self._kp, self._kd, self._damping = q.copy(), kp.copy(), kd.copy(), damping.copy()
        self._last_s = started_s
        self._still = 0
        self._moves_s = policy.ramp_s + (policy.home_s + policy.rest_s if self.orderly else 0.0)

    @property
    def strength(self) -> int:
        """A stop with a lower number takes the place of this one."""
        return strength(self.category, orderly=self.orderly)

    def command(self, now_s: float) -> JointCommand:
        """The next one, for the supervisor to limit; (n,)."""
        share = max(0.0, 1.0 - (now_s - self.started_s) / self.policy.ramp_s) if self.policy.ramp_s > 0 else 0.0
        speed = share * self._dq
        if self._home is not None and share == 0.0:
            speed = self._homewards(self._home, now_s)
        else:
            self._q += speed * (now_s - self._last_s)
            self._from = self._q.copy()
        self._last_s = now_s
        zero = np.zeros_like(self._q)
        if self.damps:
            return JointCommand(self._q.copy(), zero, zero, zero, self.policy.damping_share * self._damping, Mode.DAMP)
        return JointCommand(self._q.copy(), speed, zero, self._kp.copy(), self._kd.copy(), self._mode)

    def _homewards(self, home: Array, now_s: float) -> Array:
        """Move the targets on, starting and ending at rest; their speed."""
        way, time = home - self._from, self.policy.home_s
        share = min((now_s - self.started_s - self.policy.ramp_s) / time, 1.0) if time > 0 else 1.0
        self._q = self._from + share * share * (3 - 2 * share) * way
        return 6 * share * (1 - share) / time * way if time > 0 else 0.0 * way

    def finished(self, dq: Array, now_s: float) -> bool:
        """Whether torque may go off; call once a tick. ``dq`` (n,) is NaN where not known: those never settle."""
        if self.category == StopCategory.HOLD:
            return False
        moved = now_s - self.started_s >= self._moves_s
        rest = bool((np.abs(dq) < self.policy.settle_rad_s).all())
        self._still = self._still + 1 if rest and moved else 0
        most_s = self.policy.settle_timeout_s + (self._moves_s if self.orderly else 0.0)
        return self._still >= self.policy.settle_ticks or now_s - self.started_s >= most_s


def strength(category: StopCategory, *, orderly: bool = False) -> int:
    """Order of stops, the strongest first: 0, 1, an orderly end, 2."""
    return 2 * category + orderly


def switch_off(port: JointPort, tries: int = 3) -> str:
    """Torque off, tried a few times; what was not confirmed, empty where all was."""
    problem = ""
    for _ in range(tries):
        try:
            port.deactivate()
        except HardwareError as error:
            problem = str(error)
        else:
            return ""
    log.error("Torque may still be on: %s The motors' own watchdogs are left. Cut their supply.", problem)
    return problem

"""Two policies as one: stand while shaken or asked for nothing, walk while steady and asked to move.

A *sequence* is a folder with ``sequence.json`` that names two bundles of one robot::

    {"format": "cadenza-sequence-1", "walk": "walk", "stand": "stand", "rule": {"shaken_deg": 15.0}}

``walk`` and ``stand`` are folders beside the file, or names of shipped policies. To the control loop it is a policy
like any other: limits, supervisor, stops and the check against the robot are the same for both, and neither gets up
from a fall, which stops the robot as ever.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.bundle import BundleError, PolicyBundle
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.shipped import locate
from cadenza.robots.hardware.types import JointCommand, RobotState

Array = NDArray[np.float64]
SEQUENCE_FILE = "sequence.json"
SEQUENCE_FORMAT = "cadenza-sequence-1"
BLEND_S = 0.2
"""How long joint targets take from one policy's to the other's."""
_MOVES = 1e-6


@dataclass(frozen=True)
class SteadyRule:
    """When to stand, and when to walk on."""

    shaken_deg: float = 15.0
    """Tilt at which walking gives way to standing."""
    steady_deg: float = 6.0
    """Tilt below which it counts as steady again, ..."""
    steady_rad_s: float = 1.5
    """... while it turns slower than this, ..."""
    steady_s: float = 1.0
    """... for so long."""

    def __post_init__(self) -> None:
        values = dataclasses.astuple(self)
        if not all(math.isfinite(value) and value > 0 for value in values) or self.steady_deg > self.shaken_deg:
            raise BundleError(
                f"The rule {dataclasses.asdict(self)} cannot be.", "All above 0, and steady_deg not above shaken_deg."
            )


class SequencedRunner(PolicyRunner):
    """See the module.

    Args:
        walk: takes velocity commands; its facts are those of the whole.
        stand: of the same robot, joints, gains and rate.
        rule: when which.

    Raises:
        BundleError: the two do not fit together, or one says nothing of motors.
    """

    def __init__(self, walk: PolicyBundle, stand: PolicyBundle, rule: SteadyRule | None = None):
        self.standing = PolicyRunner(stand)
        super().__init__(walk)
        mine, theirs = self.facts, self.standing.facts
        different = [
            name for name in ("robot", "joints", "control_dt_s") if getattr(mine, name) != getattr(theirs, name)
        ]
        if different:
            raise BundleError(
                f"{walk.path.name} and {stand.path.name} differ in {', '.join(different)}; they cannot take turns.",
                "Both must be trained for one robot, with its joint table as it is, at one rate.",
            )
        self.rule = rule or SteadyRule()
        self._own_watch = self.watch
        self._blend_ticks = max(1, round(BLEND_S / self.period_s))
        self._last: Array | None = None
        self.reset()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open the sequence in ``folder``.

        Raises:
            BundleError: no such file, or not of this format, or its bundles do not fit.
        """
        file = folder / SEQUENCE_FILE
        try:
            data: Any = json.loads(file.read_text(encoding="utf-8"))
            if data["format"] != SEQUENCE_FORMAT:
                raise BundleError(f"{file} has the format {data['format']!r}; this version reads {SEQUENCE_FORMAT!r}.")
            bundles = [PolicyBundle.load(_found(folder, str(data[name]))) for name in ("walk", "stand")]
            rule = SteadyRule(**{name: float(value) for name, value in data.get("rule", {}).items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{file} names no sequence of policies: {error!r}.",
                'It reads {"format": "cadenza-sequence-1", "walk": "walk", "stand": "stand"}.',
            ) from error
        return cls(bundles[0], bundles[1], rule)

    @property
    def active(self) -> str:
        """``walk`` or ``stand``: whose targets the last step's were."""
        return "walk" if self._walking else "stand"

    @property
    def sample(self) -> Array:
        return super().sample if self._walking else self.standing.sample

    def reset(self, phase: float = 0.0) -> None:
        """Begin anew, standing."""
        if hasattr(self, "_own_watch"):  # not while the base class makes itself
            self.watch = self._own_watch
        super().reset(phase)
        self.standing.reset()
        self._walking, self._steady_ticks, self._since = False, 0, 0
        self._last = None
        if hasattr(self, "_own_watch"):
            self.watch = self.standing.watch

    def step(self, state: RobotState, command: Array, ticks: int = 1) -> JointCommand:
        """Joint targets of whose turn it is; a new turn begins with a blend of 0.2 s from the last targets."""
        if self._wants_to_walk(state, command, ticks) != self._walking:
            self._change(_tilt_deg(state), command)
        if self._walking:
            told = super().step(state, command, ticks)
        else:
            told = self.standing.step(state, np.zeros(3), ticks)
            self.action, self.finite, self.observation = (
                self.standing.action, self.standing.finite, self.standing.observation,
            )  # fmt: skip
        self._since += ticks
        if self._last is not None and self._since < self._blend_ticks and self.finite:
            share = self._since / self._blend_ticks
            told.q = (1.0 - share) * self._last + share * told.q
        if self._since >= self._blend_ticks and self.finite:
            self._last = told.q
        return told

    def _wants_to_walk(self, state: RobotState, command: Array, ticks: int) -> bool:
        imu, rule = state.imu, self.rule
        asked = bool(np.isfinite(command).all() and np.linalg.norm(command) > _MOVES)
        if imu is None or not (np.isfinite(imu.gravity).all() and np.isfinite(imu.gyro).all()):
            return self._walking and asked  # one sample that got lost says nothing
        tilt_deg = _tilt_deg(state)
        steady = tilt_deg <= rule.steady_deg and float(np.linalg.norm(imu.gyro)) <= rule.steady_rad_s
        self._steady_ticks = self._steady_ticks + ticks if steady else 0
        if self._walking:
            return asked and tilt_deg < rule.shaken_deg
        return asked and self._steady_ticks * self.period_s >= rule.steady_s

    def _change(self, tilt_deg: float, command: Array) -> None:
        self._walking, self._since = not self._walking, 0
        why = f"steady for {self.rule.steady_s:g} s"
        if not self._walking:
            asked = np.linalg.norm(command) > _MOVES
            why = f"tilted by {tilt_deg:.0f} degrees" if asked else "no velocity is asked for"
        self.notes.append(f"{self.active} takes over: {why}")
        if self._walking:
            super().reset()
            self.watch = self._own_watch
        else:
            self.standing.reset()
            self.watch = self.standing.watch
            self._steady_ticks = 0


def _tilt_deg(state: RobotState) -> float:
    """Of the base from upright; NaN where no finite sample of gravity is there."""
    if state.imu is None or not np.isfinite(state.imu.gravity).all():
        return math.nan
    return math.degrees(math.acos(min(1.0, max(-1.0, -float(state.imu.gravity[2])))))


def is_sequence(folder: Path) -> bool:
    """Whether the folder holds a sequence rather than one bundle."""
    return (folder / SEQUENCE_FILE).is_file()


def _found(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else locate(name)[0]

"""Deployment facts: what a policy bundle says of the robot, the action and the observation its policy was made for.

They are written by the export from the task itself (:mod:`cadenza.agents.deployment_facts`), never by hand, and carry a
hash: a policy that is fed another order of joints, another scale or another rate moves all the same, only not as it
should. :mod:`cadenza.controllers.deployment` compares them with what is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
POSITION_ACTION = "position_around_home"
"""The one kind of action: target = clip(home + scale * action, limits), for a position controller in the motor."""


@dataclass(frozen=True)
class JointFacts:
    """A row of the robot's joint table as it was in training; SI units, at the joint."""

    name: str
    home_rad: float
    limits_rad: tuple[float, float]
    kp: float
    kd: float
    torque_nm: float
    velocity_rad_s: float


@dataclass(frozen=True)
class TermFacts:
    """A named part of one sample of the observation."""

    name: str
    size: int
    source: str
    """Who knows it: encoder, imu, command or memory."""
    scale: float
    factors: tuple[float, ...]
    """Of each entry, beside ``scale``; (size,)."""

    @property
    def gains(self) -> Array:
        """What each entry is multiplied by, shape (size,)."""
        return np.full(self.size, self.scale) * np.array(self.factors)


@dataclass(frozen=True)
class ObservationBounds:
    """Where the entries of one sample lay in training, scaled as the policy reads them; shapes (sample size,)."""

    kind: Literal["normaliser", "rollout"]
    """``normaliser``: mean and standard deviation that the policy normalises with, of all its training. ``rollout``:
    least and greatest of a rollout at export."""
    samples: int
    """Of the rollout; 0 for a normaliser."""
    low: tuple[float, ...]
    """Least value, or mean - :data:`SIGMAS` standard deviations."""
    high: tuple[float, ...]


SIGMAS = 5.0


@dataclass(frozen=True)
class DeploymentFacts:
    """Field ``deployment`` of a bundle's manifest."""

    robot: str
    joints: tuple[JointFacts, ...]
    """In the order of actions and of every term with one entry a joint."""
    action: str
    action_scale_rad: float
    control_dt_s: float
    """Between two observations."""
    terms: tuple[TermFacts, ...]
    """In the order of a sample."""
    history: int
    """Samples in the observation, the newest first."""
    gait_period_s: float
    """Of the clock, if the policy is told one."""
    bounds: ObservationBounds
    sha256: str = ""
    """Of everything else, see :meth:`digest`."""

    def digest(self) -> str:
        """Hexadecimal sha256 of the canonical JSON of all fields but the hash itself."""
        data = dataclasses.asdict(self)
        del data["sha256"]
        return hashlib.sha256(json.dumps(data, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def sealed(self) -> Self:
        """The same with its hash.

        Raises:
            ValueError: facts that contradict each other.
        """
        sealed = dataclasses.replace(self, sha256=self.digest())
        sealed.check()
        return sealed

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @property
    def control_rate_hz(self) -> float:
        """As manifests give it."""
        return round(1.0 / self.control_dt_s, 9)

    @property
    def sample_size(self) -> int:
        """Entries of one sample."""
        return sum(term.size for term in self.terms)

    @property
    def observation_size(self) -> int:
        """Entries of the observation: all samples."""
        return self.history * self.sample_size

    def entry_names(self) -> tuple[str, ...]:
        """One name an entry of the observation, as manifests list them: ``gyro[0]``, or ``gyro[0]@1`` a step ago."""
        return tuple(
            f"{term.name}[{index}]" + (f"@{age}" if age else "")
            for age in range(self.history)
            for term in self.terms
            for index in range(term.size)
        )

    def sensors(self) -> set[str]:
        """Sources of its terms."""
        return {term.source for term in self.terms}

    def check(self) -> None:
        """Raises:
        ValueError: not finite, sizes that do not fit each other, or a hash that is not theirs.
        """
        try:
            digest = self.digest()
        except ValueError as error:
            raise ValueError("its deployment facts hold a number that is not finite") from error
        if digest != self.sha256:
            raise ValueError("its deployment facts were changed after the export: their hash differs")
        for term in self.terms:
            if len(term.factors) != term.size:
                raise ValueError(f"the term {term.name} has {term.size} entries and {len(term.factors)} factors")
        if not len(self.bounds.low) == len(self.bounds.high) == self.sample_size:
            raise ValueError(f"a sample has {self.sample_size} entries and {len(self.bounds.low)} bounds")
        if self.history < 1 or not self.control_dt_s > 0 or not self.gait_period_s > 0 or not self.joints:
            raise ValueError("history, control step and gait period must be positive, and there must be joints")
        if any(low > high for low, high in zip(self.bounds.low, self.bounds.high, strict=True)):
            raise ValueError("a bound of the observation has its ends exchanged")
        if any(not joint.limits_rad[0] <= joint.home_rad <= joint.limits_rad[1] for joint in self.joints):
            raise ValueError("a home angle lies outside its limits")

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The inverse of ``dataclasses.asdict``, from JSON.

        Raises:
            ValueError: fields missing, unknown or of the wrong kind, or what :meth:`check` finds.
        """
        fields = _fields(cls, data)
        fields["joints"] = tuple(
            JointFacts(**{**_fields(JointFacts, row), "limits_rad": _floats(row["limits_rad"], 2)})
            for row in fields["joints"]
        )
        fields["terms"] = tuple(
            TermFacts(**{**_fields(TermFacts, row), "factors": _floats(row["factors"])}) for row in fields["terms"]
        )
        bounds = _fields(ObservationBounds, fields["bounds"])
        fields["bounds"] = ObservationBounds(
            **{**bounds, "low": _floats(bounds["low"]), "high": _floats(bounds["high"])}
        )
        facts = cls(**fields)
        facts._check_kinds()
        facts.check()
        return facts

    def _check_kinds(self) -> None:
        numbers = [self.action_scale_rad, self.control_dt_s, self.gait_period_s]
        for joint in self.joints:
            numbers += [joint.home_rad, joint.kp, joint.kd, joint.torque_nm, joint.velocity_rad_s]
        numbers += [term.scale for term in self.terms]
        whole = [self.history, self.bounds.samples, *(term.size for term in self.terms)]
        words = [self.robot, self.action, self.sha256, self.bounds.kind, *self.joint_names]
        words += [word for term in self.terms for word in (term.name, term.source)]
        if not (
            all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
            and all(isinstance(number, int) for number in whole)
            and all(isinstance(word, str) for word in words)
        ):
            raise ValueError("its deployment facts hold a value of the wrong kind")


def normaliser_bounds(mean: Array, std: Array, sample_size: int) -> ObservationBounds:
    """Bounds from what a policy normalises with, of which the newest sample counts; shapes (observation,)."""
    mean, std = mean[:sample_size].astype(np.float64), std[:sample_size].astype(np.float64)
    low, high = mean - SIGMAS * std, mean + SIGMAS * std
    return ObservationBounds("normaliser", 0, tuple(low.tolist()), tuple(high.tolist()))


def rollout_bounds(samples: Sequence[Array] | Array) -> ObservationBounds:
    """Bounds from a rollout's samples, (steps, sample size)."""
    rows = np.asarray(samples, dtype=np.float64)
    return ObservationBounds("rollout", len(rows), tuple(rows.min(axis=0).tolist()), tuple(rows.max(axis=0).tolist()))


def _fields(kind: type[Any], data: Any) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(data, Mapping) or set(data) != names:
        found = sorted(data) if isinstance(data, Mapping) else data
        raise ValueError(f"{kind.__name__} needs the fields {sorted(names)}, got {found}")
    return dict(data)


def _floats(values: Any, count: int | None = None) -> Any:
    out = tuple(float(value) for value in values)
    if (count is not None and len(out) != count) or not all(math.isfinite(value) for value in out):
        raise ValueError(f"got {values} where {count or 'finite'} numbers were expected")
    return out

"""From what a robot measures to what its policy reads: the terms of deployment facts, scaled, with history and clock.

The formulas are those of the simulated task: :mod:`cadenza.robots.observing`. Nothing is allocated per call but the
small results of these formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.deployment_facts import DeploymentFacts, ObservationBounds
from cadenza.robots import observing
from cadenza.robots.errors import CadenzaError

Array = NDArray[np.float64]


class UndeployableError(CadenzaError):
    """A policy that reads something which the program on a robot cannot tell it."""


@dataclass(eq=False)
class _Now:
    """One robot's measured quantities, (1, ...); a :class:`cadenza.robots.observing.Measured`."""

    joint_angle: Array
    joint_velocity: Array
    gyro: Array
    gravity: Array
    command: Array
    action: Array
    phase: Array
    home: Array


class ObservationBuilder:
    """Puts observations together.

    Args:
        facts: of the policy's bundle.

    Raises:
        UndeployableError: a term that is privileged, unknown, or of another source or size than it has on a robot.
    """

    def __init__(self, facts: DeploymentFacts):
        joints = len(facts.joints)
        check_terms(facts)
        home = np.array([row.home_rad for row in facts.joints])
        self._now = _Now(
            joint_angle=np.zeros((1, joints)),
            joint_velocity=np.zeros((1, joints)),
            gyro=np.zeros((1, 3)),
            gravity=np.zeros((1, 3)),
            command=np.zeros((1, 3)),
            action=np.zeros((1, joints)),
            phase=np.zeros(1),
            home=home,
        )
        self._dt, self._period = facts.control_dt_s, facts.gait_period_s
        self._observation = np.zeros(facts.observation_size)
        self._samples = self._observation.reshape(facts.history, facts.sample_size)
        self._parts = []
        start = 0
        for term in facts.terms:
            part = self._samples[0, start : start + term.size]
            self._parts.append((observing.TERMS[term.name].read, term.gains, part))
            start += term.size
        self._begun = False

    @property
    def phase(self) -> float:
        """Of the gait, in [0, 1)."""
        return float(self._now.phase[0])

    @property
    def sample(self) -> Array:
        """The newest sample, a view of shape (sample size,)."""
        return self._samples[0]

    def begin(self, phase: float = 0.0) -> None:
        """Forget the past: the next sample fills the history, the gait starts at ``phase``."""
        self._now.phase[0] = phase
        self._begun = False

    def observe(
        self,
        joint_angle: Array,
        joint_velocity: Array,
        gyro: Array,
        gravity: Array,
        command: Array,
        action: Array,
        ticks: int = 1,
    ) -> Array:
        """The observation now.

        Args:
            joint_angle: rad, (joints,) or (1, joints), as all of these.
            joint_velocity: rad/s.
            gyro: rad/s, (3,).
            gravity: (3,).
            command: m/s, m/s and rad/s, (3,); the policy is asked for it from now on.
            action: the last one, (joints,).
            ticks: control steps since the last observation: more than 1 where ticks were missed.

        Returns:
            View of shape (observation size,), float64, overwritten by the next call.
        """
        now = self._now
        if self._begun:
            moving = observing.moves(now.command)
            for _ in range(ticks):
                now.phase[:] = observing.advanced_phase(now.phase, moving, self._dt, self._period)
            if len(self._samples) > 1:
                self._samples[1:] = self._samples[:-1].copy()
        now.joint_angle[0], now.joint_velocity[0] = joint_angle, joint_velocity
        now.gyro[0], now.gravity[0] = gyro, gravity
        now.command[0], now.action[0] = command, action
        for read, gains, part in self._parts:
            np.multiply(read(now)[0], gains, out=part)
        if not self._begun:
            self._samples[1:] = self._samples[0]
            self._begun = True
        return self._observation


def check_terms(facts: DeploymentFacts) -> None:
    """See :class:`ObservationBuilder`."""
    wrong = []
    for term in facts.terms:
        known = observing.TERMS.get(term.name)
        if term.source == "privileged":
            wrong.append(f"{term.name} is privileged: nothing on a robot measures it")
        elif known is None:
            wrong.append(f"{term.name} is not known here; there are {', '.join(observing.TERMS)}")
        elif known.source != term.source:
            wrong.append(f"{term.name} comes from {term.source} in the bundle, from {known.source} on a robot")
        elif known.entries(len(facts.joints)) != term.size:
            here = known.entries(len(facts.joints))
            wrong.append(f"{term.name} has {term.size} entries in the bundle, {here} on a robot")
    if wrong:
        raise UndeployableError(
            f"This policy cannot be run on a robot: {'; '.join(wrong)}.",
            "Train with observations that the robot can measure: those of cadenza/robots/observing.py.",
        )


class ObservationWatch:
    """Whether observations look like those of training.

    An entry is *odd* where it lies beyond its bounds by more than ``warn`` of their width, and *strange* beyond
    ``stop`` of it. A width counts as at least :data:`LEAST_WIDTH` in the policy's scale, so that what never moved in
    training may still have noise.

    Args:
        bounds: of the facts.
        names: of the entries of a sample.
    """

    def __init__(self, bounds: ObservationBounds, names: tuple[str, ...], warn: float = 0.5, stop: float = 2.0):
        low, high = np.array(bounds.low), np.array(bounds.high)
        width = np.maximum(high - low, LEAST_WIDTH)
        self._low, self._high, self._width = low, high, width
        self.names, self.warn, self.stop = names, warn, stop
        self._below, self._above = np.zeros(len(low)), np.zeros(len(low))
        self.odd_ticks = 0
        """How many samples had an odd entry."""
        self.strange_in_a_row = 0
        """How many samples up to the last had a strange entry."""
        self.worst = 0.0
        """How far beyond its bounds the worst entry of the last sample lay, in widths; 0 inside."""
        self.worst_entry = 0

    def look(self, sample: Array) -> None:
        """Judge a sample, (sample size,); a number that is not finite is strange."""
        np.subtract(self._low, sample, out=self._below)
        np.subtract(sample, self._high, out=self._above)
        np.maximum(self._below, self._above, out=self._below)
        np.divide(self._below, self._width, out=self._below)
        self.worst_entry = int(self._below.argmax())  # of a NaN, where there is one
        worst = float(self._below[self.worst_entry])
        self.worst = max(worst, 0.0) if worst == worst else float("inf")
        self.odd_ticks += self.worst > self.warn
        self.strange_in_a_row = self.strange_in_a_row + 1 if self.worst > self.stop else 0

    def describe(self, sample: Array) -> str:
        """The worst entry of the last sample, with its bounds."""
        at = self.worst_entry
        return (
            f"{self.names[at]} = {sample[at]:.3g}, in training {self._low[at]:.3g} to {self._high[at]:.3g} "
            f"(as the policy reads it)"
        )


LEAST_WIDTH = 0.2

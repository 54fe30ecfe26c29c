"""A learned policy as a primitive."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.sequencer.primitive import Context, Observation, Outcome

Judge = Callable[[Observation, Context], Outcome]
"""Looks at the observation and the context of an attempt: RUNNING, or how it has ended."""


def never(observation: Observation, context: Context) -> Outcome:
    """Leaves it to the time limit."""
    return Outcome.RUNNING


class LearnedPrimitive:
    """Acts by ``policy.predict`` until somebody judges that it has ended, or its time is over.

    Args:
        name: what a sequencer calls it.
        policy: with ``predict(observation) -> action, state``.
        rate_hz: of control.
        time_limit_s: of an attempt.
        judge: asked before each action.
        confirm: how many steps in a row the judge must say that it has ended.
    """

    def __init__(
        self,
        name: str,
        policy: Any,
        rate_hz: float,
        time_limit_s: float,
        judge: Judge = never,
        confirm: int = 1,
    ):
        self.name, self.time_limit_s = name, time_limit_s
        self._policy, self._judge, self._confirm = policy, judge, confirm
        self._allowed = max(1, math.ceil(time_limit_s * rate_hz - 1e-9))
        self._outcome = Outcome.RUNNING
        self._steps = self._agreed = 0
        self._context: Context = {}

    def start(self, observation: Observation, context: Context) -> None:
        self._outcome, self._steps, self._agreed, self._context = Outcome.RUNNING, 0, 0, context

    def act(self, observation: Observation) -> NDArray[np.float32]:
        found = self._judge(observation, self._context)
        self._agreed = self._agreed + 1 if found is not Outcome.RUNNING else 0
        self._steps += 1
        if self._agreed >= self._confirm:
            self._outcome = found
        elif self._steps >= self._allowed:
            self._outcome = Outcome.TIMEOUT
        action, _ = self._policy.predict(observation, deterministic=True)
        return np.asarray(action, dtype=np.float32)

    @property
    def done(self) -> bool:
        return self._outcome is not Outcome.RUNNING

    @property
    def outcome(self) -> Outcome:
        return self._outcome

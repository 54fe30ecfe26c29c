"""Struggle signals: numbers that rise when an attempt gets nowhere, computed from what a robot itself sees and does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.sequencer.primitive import Outcome

FIRST_VERSION, SIGNALS_VERSION = 1, 2
"""Definitions. In the first every entry of the action is motion, and every number of the observation shows progress;
in the second those that the task names (:class:`Watched`). What was learned with one keeps it."""
STILL = 0.01
"""An observation of which no entry has moved by this much has not changed: 1 cm, 0.01 rad, 1 %."""
FAILURES_FOR_ONE = 4
"""Failures in a row that make the signal 1."""


@dataclass(frozen=True)
class Signals:
    """Of the last attempt; 0 before the first."""

    no_progress: float = 0.0
    """1 where what shows progress is at its end as at its beginning, falling to 0 as the entry that moved most moved
    by :data:`STILL`."""
    oscillation: float = 0.0
    """1 - |sum of motions| / sum of |motions|: 0 for a straight motion, 1 for one that undoes itself."""
    repeated_failure: float = 0.0
    """Attempts in a row at this stage of one primitive without success, over :data:`FAILURES_FOR_ONE`, at most 1."""

    def vector(self) -> NDArray[np.float32]:
        """(3,)."""
        return np.array(astuple(self), dtype=np.float32)


SIGNAL_COUNT = 3


def numbers_in(observation: Any) -> NDArray[np.float64]:
    """All entries of an observation that are not pictures, one after the other."""
    if not isinstance(observation, Mapping):
        return np.asarray(observation, dtype=np.float64).ravel()
    parts = [np.asarray(value) for value in observation.values()]
    flat = [part.astype(np.float64).ravel() for part in parts if part.ndim < 3]
    return np.concatenate(flat) if flat else np.zeros(0)


@dataclass(frozen=True)
class Watched:
    """What of a task the signals look at. A task says so in its attribute ``watched``; without, at everything."""

    motion: tuple[int, ...] | None = None
    """Entries of the action that move something; a gripper that is held shut is no motion. None: all."""
    progress: Callable[[Any], NDArray[np.float64]] = numbers_in
    """Of an observation, the numbers that change where the task does, each in units of which :data:`STILL` is little.
    A hand that moves is no progress. No numbers: nothing can be said, and ``no_progress`` is 0."""


EVERYTHING = Watched()
"""The first definition."""


def watched_by(task: Any) -> Watched:
    """The task's own ``watched``, or everything."""
    found: Watched = getattr(task, "watched", EVERYTHING)
    return found


class AttemptWatch:
    """Follows one attempt.

    Args:
        observation: at its beginning.
        watched: what to look at.
    """

    def __init__(self, observation: Any, watched: Watched = EVERYTHING):
        self._watched = watched
        self._first, self._last = np.array(watched.progress(observation)), observation
        self._sum: NDArray[np.float64] | None = None
        self._path = 0.0

    def step(self, action: NDArray[Any], observation: Any) -> None:
        """An action, and the observation after it."""
        motion = np.asarray(action, dtype=np.float64)
        if self._watched.motion is not None:
            motion = motion[list(self._watched.motion)]
        self._sum = motion.copy() if self._sum is None else self._sum + motion
        self._path += float(np.linalg.norm(motion))
        self._last = observation

    def signals(self, failures_in_a_row: int) -> Signals:
        """As of now."""
        last = self._first if self._sum is None else self._watched.progress(self._last)
        moved = float(np.abs(last - self._first).max()) if self._first.size else STILL
        straight = 0.0 if self._sum is None else float(np.linalg.norm(self._sum))
        return Signals(
            no_progress=max(0.0, 1.0 - moved / STILL),
            oscillation=1.0 - straight / self._path if self._path > 0.0 else 0.0,
            repeated_failure=min(1.0, failures_in_a_row / FAILURES_FOR_ONE),
        )


def failures_in_a_row(attempts: Sequence[tuple[str, Outcome]]) -> int:
    """How many attempts up to the last were of one primitive and did not succeed."""
    count = 0
    for name, outcome in reversed(attempts):
        if outcome is Outcome.SUCCESS or name != attempts[-1][0]:
            break
        count += 1
    return count

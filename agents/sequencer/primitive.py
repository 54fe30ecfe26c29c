"""What a sequencer chooses among: primitives that start, act once a control step, and end by themselves.

A primitive may be a script, a learned policy or a behaviour of a deployed robot; whoever sequences it sees these few
members only. It is told what it is for by a *context*, a mapping with at least

* ``clip``: index of what it works on, a whole number (of the stage, where there are no clips),
* ``world``: a privileged view of the simulation, or None where there is none (a camera policy, a robot).

A run of one primitive reads::

    primitive.start(observation, {"clip": 0, "world": env.unwrapped.world})
    while not primitive.done:
        observation, reward, terminated, truncated, info = env.step(primitive.act(observation))
    statistics.record(primitive.name, primitive.outcome)

``act`` looks at the observation it is given, may decide that the primitive is over, and returns the action of this
step either way; ``done`` and ``outcome`` are as of the last ``act``.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Observation = Any
"""Whatever the environment observes: an array, or a dict of arrays."""
Action = NDArray[np.float32]
Context = Mapping[str, Any]


class Outcome(enum.Enum):
    """How a primitive stands, or how it ended."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"


@runtime_checkable
class Primitive(Protocol):
    """One skill. It counts its own control steps: an attempt never lasts longer than ``time_limit_s``."""

    name: str
    """What a sequencer calls it; unique among those it chooses from."""
    time_limit_s: float
    """After so long an attempt ends with :attr:`Outcome.TIMEOUT`."""

    def start(self, observation: Observation, context: Context) -> None:
        """Begin an attempt; forgets the last one. ``observation`` is the one that the first ``act`` gets too."""

    def act(self, observation: Observation) -> Action:
        """The action of this control step, float32, as the environment's action space has it."""

    @property
    def done(self) -> bool:
        """Whether the attempt is over; False from ``start`` to the ``act`` that ends it."""

    @property
    def outcome(self) -> Outcome:
        """RUNNING until ``done``."""


class PrimitiveStatistics:
    """How often each primitive was tried and how its attempts ended.

    Args:
        names: of the primitives; others are added as they come.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._counts: dict[str, Counter[Outcome]] = {name: Counter() for name in names}

    def record(self, name: str, outcome: Outcome) -> None:
        """Count one attempt that has ended.

        Raises:
            ValueError: it has not ended.
        """
        if outcome is Outcome.RUNNING:
            raise ValueError(f"An attempt of {name!r} that is still running cannot be counted.")
        self._counts.setdefault(name, Counter())[outcome] += 1

    @property
    def names(self) -> list[str]:
        """Of the primitives, as they came."""
        return list(self._counts)

    def attempts(self, name: str) -> int:
        """Attempts of this primitive that have ended."""
        return sum(self._counts[name].values())

    def successes(self, name: str) -> int:
        """Those of them that ended with success."""
        return self._counts[name][Outcome.SUCCESS]

    def rate(self, name: str) -> float | None:
        """Share of attempts that succeeded; None before the first."""
        attempts = self.attempts(name)
        return self.successes(name) / attempts if attempts else None

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Plain counts, for JSON: name -> ``attempts`` and one entry for each outcome that ends an attempt."""
        ends = [outcome for outcome in Outcome if outcome is not Outcome.RUNNING]
        return {
            name: {"attempts": self.attempts(name), **{end.value: counts[end] for end in ends}}
            for name, counts in self._counts.items()
        }

    def add(self, other: PrimitiveStatistics) -> None:
        """Count the attempts of another statistic too."""
        for name, counts in other._counts.items():
            self._counts.setdefault(name, Counter()).update(counts)

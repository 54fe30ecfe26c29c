"""Time for a control loop: the machine's, or one that only moves when told, so that a whole chain is deterministic."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Time, real or simulated; all ages and deadlines of one robot are on one clock."""

    def now(self) -> float:
        """Seconds, monotonic, from an arbitrary start."""

    def sleep_until(self, when: float) -> None:
        """Return at or after ``when``; at once where that is past."""


class RealClock:
    """The machine's monotonic clock.

    Args:
        spin_s: how long before a deadline to stop sleeping and poll instead: later wake-ups become rarer, at the price
            of a busy processor for that long in each period.
    """

    def __init__(self, spin_s: float = 0.0):
        self.spin_s = spin_s

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, when: float) -> None:
        left = when - self.spin_s - time.monotonic()
        if left > 0:
            time.sleep(left)
        while time.monotonic() < when:
            pass


class VirtualClock:
    """Time that passes only in :meth:`sleep_until`, and takes everything that follows it along.

    ``followers`` are called with the new time before it is reached: a simulation steps up to it, an emulator in
    another process is told to advance and answers when it has.
    """

    def __init__(self, start_s: float = 0.0):
        self._now = start_s
        self.followers: list[Callable[[float], None]] = []

    def now(self) -> float:
        return self._now

    def sleep_until(self, when: float) -> None:
        if when <= self._now:
            return
        for follow in self.followers:
            follow(when)
        self._now = when

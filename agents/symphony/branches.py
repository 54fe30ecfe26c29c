"""The two branches of an update, one after the other or at the same time on two cores.

torch can spread every single operation over threads. On two cores that gains little at Symphony's sizes, changes the
order of summation, and collapses when another program holds a core, because each operation waits for its slowest
thread. Here whole branches run beside each other instead, every operation on the threads of its own branch: there are
a few meetings per update rather than hundreds, and the numbers are the same bits either way. So the choice can be
measured, and measured again, in the middle of a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, TypeVar

from cadenza.agents.symphony.aside import Aside
from cadenza.envs.processors import usable_processors

A = TypeVar("A")
B = TypeVar("B")

_TRIALS = 12
"""Updates timed per mode (after one that warms up) before choosing."""
_AGAIN_AFTER = 1_000
"""Updates until the modes are compared again: another program may have come or gone."""


class Pair:
    """Runs two functions beside each other, or in turn, whichever the clock says is faster.

    Args:
        mode: ``auto`` measures; ``together`` and ``in_turn`` do as they say.
    """

    def __init__(self, mode: str = "auto"):
        if mode not in ("auto", "together", "in_turn"):
            raise ValueError(f"Symphony: branches must be auto, together or in_turn, got {mode!r}.")
        self.mode = mode if usable_processors() > 1 or mode != "auto" else "in_turn"
        self.together = self.mode != "in_turn"
        self._aside = Aside("symphony")
        self._times: dict[bool, list[float]] = {False: [], True: []}
        self._updates = 0
        self._began = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Threads cannot be copied or pickled; a copy starts its own.
        return {"mode": self.mode}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["mode"])  # type: ignore[misc]

    def run(self, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
        """Results of both. ``first`` runs on the calling thread. An exception of either is raised here."""
        if not self.together:
            return first(), second()
        self._aside.start(second)
        try:
            a = first()
        finally:
            # Whatever happens, the other branch must not go on working on shared tensors.
            self._aside.wait()
        return a, self._aside.take()

    def close(self) -> None:
        """End the second thread; a later :meth:`run` makes another."""
        self._aside.close()

    def begin_update(self) -> None:
        """Call before the first :meth:`run` of an update."""
        if self.mode == "auto":
            phase = self._updates % _AGAIN_AFTER
            if phase < 2 * (_TRIALS + 1):
                self.together = phase % 2 == 0
            self._began = time.perf_counter()

    def end_update(self) -> None:
        """Call after the last :meth:`run` of an update."""
        if self.mode != "auto":
            return
        phase = self._updates % _AGAIN_AFTER
        self._updates += 1
        if phase < 2 * (_TRIALS + 1):
            if phase > 1:
                self._times[self.together].append(time.perf_counter() - self._began)
            if phase == 2 * _TRIALS + 1:
                self.together = median(self._times[True]) < median(self._times[False])
                self._times = {False: [], True: []}

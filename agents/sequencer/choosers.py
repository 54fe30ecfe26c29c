"""Who chooses primitives: a script, an oracle, and (in :mod:`selector`) what was learned."""

from __future__ import annotations

import numpy as np

from cadenza.agents.sequencer.machine import Chooser, Decision
from cadenza.agents.sequencer.task import SequenceTask


class ScriptedOrder:
    """The task's order at each stage, each primitive once, and on to the next stage whatever came of it."""

    name = "script"

    def begin(self, task: SequenceTask, seed: int) -> None:
        self._task = task

    def choose(self, decision: Decision) -> str | None:
        stage, place = divmod(len(decision.history), len(self._task.order))
        if stage >= self._task.stages:
            return None
        if place == 0:
            self._task.aim(stage)
        return self._task.order[place]


class OracleRetry:
    """The task's expert, who sees whether a stage is done; what a chooser with perfect eyes would reach."""

    name = "oracle"

    def begin(self, task: SequenceTask, seed: int) -> None:
        self._task = task

    def choose(self, decision: Decision) -> str | None:
        return self._task.expert_choice()


class Straying:
    """Another chooser who now and then takes any primitive: decisions beside the beaten track, for collecting labels.

    Args:
        chooser: whom it follows otherwise.
        share: of decisions in which it strays.
    """

    def __init__(self, chooser: Chooser, share: float):
        self.name, self._chooser, self._share = f"{chooser.name}, straying", chooser, share

    def begin(self, task: SequenceTask, seed: int) -> None:
        self._chooser.begin(task, seed)
        self._names = list(task.primitives)
        self._rng = np.random.default_rng([seed, 7])

    def choose(self, decision: Decision) -> str | None:
        if self._rng.random() < self._share:
            return self._names[int(self._rng.integers(len(self._names)))]
        return self._chooser.choose(decision)

"""The state machine: ask for a primitive, run it within its time limit, log the attempt, ask again.

It knows primitives and stages, and nothing of what they are about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cadenza.agents.sequencer.config import MachineLimits
from cadenza.agents.sequencer.primitive import Observation, Outcome
from cadenza.agents.sequencer.signals import (
    EVERYTHING,
    FIRST_VERSION,
    AttemptWatch,
    Signals,
    failures_in_a_row,
    watched_by,
)
from cadenza.agents.sequencer.task import Info, SequenceTask
from cadenza.envs.names import unknown_name


@dataclass(frozen=True)
class Attempt:
    """One run of one primitive."""

    stage: int
    """In which it began."""
    name: str
    outcome: str
    """``success``, ``failure`` or ``timeout``, by the primitive's own judgement; where the episode ended
    under way, ``success`` if that was because the stage was done, else ``cut``."""
    steps: int
    duration_s: float
    """In the time of the task."""
    finished_before: bool
    """Whether its stage was done, by the task's own test, before and after; no chooser but the oracle is told."""
    finished_after: bool
    no_progress: float
    oscillation: float
    repeated_failure: float

    @property
    def good(self) -> bool:
        """By its own judgement, or since its stage is done.

        A cable counts as routed half a second after it lies in the clip, when the attempt that laid it there is over.
        """
        return self.outcome == Outcome.SUCCESS.value or self.finished_after


@dataclass(frozen=True)
class Decision:
    """What a chooser is asked with."""

    observation: Observation
    stage: int
    history: tuple[int, ...]
    """Ids of all primitives of this episode, oldest first."""
    here: tuple[Attempt, ...]
    """Attempts at this stage so far, those before another stage was worked on included."""
    signals: Signals
    """Of the last attempt."""
    earlier: Mapping[int, Signals] = field(default_factory=dict)
    """The same by earlier definitions, for choosers that learned with one of them: version -> signals."""

    def signals_of(self, version: int) -> Signals:
        """By that definition."""
        return self.earlier.get(version, self.signals)


class Chooser(Protocol):
    """Who chooses primitives."""

    name: str

    def begin(self, task: SequenceTask, seed: int) -> None:
        """An episode begins."""

    def choose(self, decision: Decision) -> str | None:
        """Name of the next primitive; None: nothing more to do."""


@dataclass
class EpisodeResult:
    """One episode."""

    seed: int
    stages: int
    finished: list[bool]
    """By stage, at the end."""
    success: bool
    """All of them."""
    reason: str
    """Why it ended."""
    steps: int
    duration_s: float
    attempts: list[Attempt] = field(default_factory=list)


OnStep = Callable[[Observation, Any, Info, str], None]
"""Told observation, action, info after it, and primitive; for films and recordings."""


def run_episode(
    task: SequenceTask,
    chooser: Chooser,
    seed: int,
    limits: MachineLimits | None = None,
    *,
    on_step: OnStep | None = None,
    on_decision: Callable[[Decision, str], None] | None = None,
) -> EpisodeResult:
    """Play one episode.

    Args:
        task: what is to be done; it is reset with ``seed``.
        chooser: who chooses.
        seed: of everything.
        limits: when to give up.
        on_step: called after each control step.
        on_decision: called with each decision and what was chosen.

    Raises:
        UnknownNameError: the chooser chose what the task does not have.
    """
    limits = limits or MachineLimits()
    observation, info = task.reset(seed)
    chooser.begin(task, seed)
    ids = {name: index for index, name in enumerate(task.primitives)}
    attempts: list[Attempt] = []
    history: list[int] = []
    signals, steps, reason = Signals(), 0, ""
    earlier: dict[int, Signals] = {}
    watched = watched_by(task)
    while not reason:
        if task.over(info):
            reason = "over"
            break
        stage = task.stage(info)
        here = [attempt for attempt in attempts if attempt.stage == stage]
        if len(here) >= limits.attempts_per_stage:
            last, left = attempts[-1], math.ceil(limits.settle_s * task.rate_hz - 1e-9)
            while last.stage == stage and last.outcome == Outcome.SUCCESS.value and left > 0 and not reason:
                action = task.primitives[last.name].act(observation)
                observation, _, terminated, truncated, info = task.step(action)
                steps, left = steps + 1, left - 1
                if on_step is not None:
                    on_step(observation, action, info, last.name)
                if terminated or truncated:
                    reason = "terminated" if terminated else "out of time"
                elif task.stage(info) != stage or task.over(info):
                    break
            if not reason and task.stage(info) == stage and not task.over(info):
                reason = f"{limits.attempts_per_stage} primitives at stage {stage}"
            continue
        decision = Decision(observation, stage, tuple(history), tuple(here), signals, earlier)
        name = chooser.choose(decision)
        if name is None:
            reason = f"{chooser.name} has nothing more to do"
            break
        if name not in ids:
            raise unknown_name(f"primitive of {task.name}", name, list(ids))
        if on_decision is not None:
            on_decision(decision, name)
        if task.stage(info) != stage:  # the script has gone on
            stage = task.stage(info)
            here = [attempt for attempt in attempts if attempt.stage == stage]
        primitive = task.primitives[name]
        primitive.start(observation, task.context(info))
        limit_s = limits.time_limit_s or primitive.time_limit_s
        allowed = max(1, math.ceil(limit_s * task.rate_hz - 1e-9))
        before = task.finished(info)
        watches, taken = (AttemptWatch(observation, watched), AttemptWatch(observation, EVERYTHING)), 0
        while not primitive.done and taken < allowed:
            action = primitive.act(observation)
            observation, _, terminated, truncated, info = task.step(action)
            taken += 1
            for watch in watches:
                watch.step(action, observation)
            if on_step is not None:
                on_step(observation, action, info, name)
            if terminated or truncated:
                reason = "terminated" if terminated else "out of time"
                break
        steps += taken
        outcome = primitive.outcome if primitive.done else Outcome.TIMEOUT
        after = _at(task.finished(info), stage)
        word = outcome.value
        if reason and not primitive.done:
            word = Outcome.SUCCESS.value if after else "cut"
        tried = [(one.name, Outcome(one.outcome)) for one in here] + [(name, outcome)]
        signals, first = (watch.signals(failures_in_a_row(tried)) for watch in watches)
        earlier = {FIRST_VERSION: first}
        attempt = Attempt(
            stage=stage,
            name=name,
            outcome=word,
            steps=taken,
            duration_s=taken / task.rate_hz,
            finished_before=_at(before, stage),
            finished_after=after,
            no_progress=signals.no_progress,
            oscillation=signals.oscillation,
            repeated_failure=signals.repeated_failure,
        )
        attempts.append(attempt)
        history.append(ids[name])
    finished = list(task.finished(info))
    return EpisodeResult(seed, task.stages, finished, all(finished), reason, steps, steps / task.rate_hz, attempts)


def run_flat(
    task: SequenceTask, policy: Any, seed: int, limits: MachineLimits | None = None, *, on_step: OnStep | None = None
) -> EpisodeResult:
    """The same task by one policy that acts at every step and knows no primitives (the flat baseline).

    Args:
        task: what is to be done.
        policy: with ``predict(observation)``.
        seed: of everything.
        limits: ``flat_s_per_stage`` is how long it may act.
        on_step: called after each control step.
    """
    limits = limits or MachineLimits()
    observation, info = task.reset(seed)
    allowed = round(limits.flat_s_per_stage * task.stages * task.rate_hz)
    steps, reason = 0, "out of time"
    while steps < allowed:
        action, _ = policy.predict(observation, deterministic=True)
        observation, _, terminated, truncated, info = task.step(action)
        steps += 1
        if on_step is not None:
            on_step(observation, action, info, "flat")
        if terminated or truncated or task.over(info) or all(task.finished(info)):
            reason = "over" if not truncated else "out of time"
            break
    finished = list(task.finished(info))
    return EpisodeResult(seed, task.stages, finished, all(finished), reason, steps, steps / task.rate_hz)


def _at(finished: Sequence[bool], stage: int) -> bool:
    return bool(finished[stage]) if 0 <= stage < len(finished) else False

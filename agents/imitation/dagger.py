"""DAgger: the learner drives, the expert says at every step what it would have done, and both are learned from.

Ross, Gordon, Bagnell: A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning, AISTATS
2011, arXiv 1011.0686. What is corrected is one primitive of a longer task: the state machine runs the task as always,
with :class:`Corrected` in the primitive's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos import DemoRecorder, DemoSet, Schema
from cadenza.agents.imitation.cloning import fine_tune
from cadenza.agents.imitation.config import FINE_TUNING
from cadenza.agents.imitation.optimisation import Progress, silent
from cadenza.agents.imitation.policy import ImitationPolicy
from cadenza.agents.imitation.samples import Samples, load_samples
from cadenza.agents.runs.robustness import wilson
from cadenza.agents.runs.settings import provenance, write_json
from cadenza.agents.sequencer.config import MachineLimits
from cadenza.agents.sequencer.machine import Chooser, run_episode
from cadenza.agents.sequencer.primitive import Context, Outcome, Primitive
from cadenza.agents.sequencer.task import SequenceTask
from cadenza.envs.errors import CadenzaError

CORRECTIONS, REPORT, POLICY = "corrections", "dagger.json", "policy"


@dataclass(frozen=True)
class DaggerConfig:
    """Settings; the fine-tuning is that of the release of arXiv 2307.08927, the rounds are ours."""

    rounds: int = 3
    """Of driving and learning."""
    episodes: int = 20
    """In a round, each on a layout of its own."""
    beta: float = 0.5
    """Share of steps in which the expert drives, in the first round; its square in the second, and so on."""
    seed: int = 50_000
    """Of the first episode; the layouts are in no demonstration."""
    steps: int = int(FINE_TUNING["steps"])
    """Updates after each round."""
    learning_rate: float = FINE_TUNING["learning_rate"]
    """Where their cosine begins."""
    evaluation_episodes: int = 30
    """Before the first round and after each; the same layouts every time."""
    evaluation_seed: int = 70_000
    """Of the first of them."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.episodes < 1 or self.evaluation_episodes < 1:
            raise CadenzaError("DAgger needs at least one round and one episode.")
        if not 0.0 <= self.beta <= 1.0:
            raise CadenzaError(f"beta is a share within 0 and 1, not {self.beta}.")


class Corrected:
    """A primitive that the learner mostly drives while the expert's answers are recorded.

    The expert, itself a primitive, is asked at every step, whoever drives; it also says when the attempt is over.

    Args:
        expert: gives the labels.
        learner: drives with probability 1 - ``beta``, drawn at each step.
        beta: share of the expert's steps.
        recorder: gets an episode for each attempt.
        number: id of the primitive in the recording.
        rate_hz: of control.
        facts: of the episode: seed and whatever else.
    """

    def __init__(
        self, expert: Primitive, learner: Primitive, beta: float, recorder: DemoRecorder, number: int, rate_hz: float
    ):
        self.name, self.time_limit_s = expert.name, expert.time_limit_s
        self._expert, self._learner, self._beta = expert, learner, beta
        self._recorder, self._number, self._rate_hz = recorder, number, rate_hz
        self.seed, self.round = 0, 0
        self.labels = 0
        """Steps recorded."""
        self._rng = np.random.default_rng(0)

    def begin_episode(self, seed: int, number: int) -> None:
        """An episode of the task begins, in round ``number``; an attempt that was left open is dropped."""
        self._recorder.discard()
        self.seed, self.round = seed, number
        self._rng = np.random.default_rng([seed, 11])

    def start(self, observation: Any, context: Context) -> None:
        self._recorder.discard()  # the machine cut the last attempt
        self._expert.start(observation, context)
        self._learner.start(observation, context)
        facts = {"layout": self.seed, "dagger_round": self.round, "clip": int(context["clip"])}
        self._recorder.start(self.seed, f"{self.name}, corrected", facts)
        self._taken = 0

    def act(self, observation: Any) -> NDArray[np.float32]:
        over = self._expert.done
        acted = self._expert.act(observation)
        if over:  # the machine lets what was done settle: nothing to learn from
            return np.asarray(acted, dtype=np.float32)
        # An expert that adds noise to what it does also says what it meant.
        label = np.clip(np.asarray(getattr(self._expert, "intended", acted), dtype=np.float32), -1.0, 1.0)
        proposed = np.asarray(self._learner.act(observation), dtype=np.float32)
        schema = self._recorder.schema
        self._recorder.add(
            {name: observation[name] for name in schema.observation}, label.astype(schema.action.dtype),
            timestamp_s=self._taken / self._rate_hz, primitive=self._number,
        )  # fmt: skip
        self._taken += 1
        self.labels += 1
        if self._expert.done:
            self._recorder.finish(self._expert.outcome is Outcome.SUCCESS)
        return np.asarray(acted, dtype=np.float32) if self._rng.random() < self._beta else proposed

    @property
    def done(self) -> bool:
        return self._expert.done

    @property
    def outcome(self) -> Outcome:
        return self._expert.outcome


@dataclass(frozen=True)
class Success:
    """How often a primitive's first try at a stage is good, and how often the whole task is done."""

    first_tries: int
    n_tries: int
    tasks: int
    n: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with 95 % Wilson intervals."""
        found: dict[str, Any] = asdict(self)
        for name, count, n in (("first_try", self.first_tries, self.n_tries), ("task", self.tasks, self.n)):
            found[name] = {"share": count / n if n else None, "ci95": wilson(count, n) if n else None}
        return found


def primitive_success(
    task: SequenceTask,
    chooser: Chooser,
    name: str,
    episodes: int,
    seed: int,
    limits: MachineLimits | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Success:
    """Play ``episodes`` episodes and count; episode i is reset with ``seed + i``.

    Args:
        task: with the primitive in question among its primitives.
        chooser: who sequences.
        name: of the primitive.
        episodes: how many.
        seed: of the first.
        limits: of the machine.
        progress: told how many are done.
    """
    tries = good = tasks = 0
    for index in range(episodes):
        result = run_episode(task, chooser, seed + index, limits)
        tasks += result.success
        seen: set[int] = set()
        for attempt in result.attempts:
            if attempt.name == name and attempt.stage not in seen:
                seen.add(attempt.stage)
                tries += 1
                good += attempt.good
        progress(index + 1)
    return Success(good, tries, tasks, episodes)


def dagger(
    policy: ImitationPolicy,
    samples: Samples,
    task: SequenceTask,
    chooser: Chooser,
    primitive: str,
    learner_of: Callable[[ImitationPolicy], Primitive],
    schema: Schema,
    run: str | Path,
    config: DaggerConfig | None = None,
    *,
    facts: dict[str, Any] | None = None,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Rounds of driving, correcting and learning; one row a round, and one of before.

    Args:
        policy: is changed.
        samples: the demonstrations it was made from, which stay part of what is learned.
        task: its primitive of that name is the expert.
        chooser: who sequences the task.
        primitive: which one is learned.
        learner_of: the policy as a primitive.
        schema: of the demonstrations; the corrections are recorded with it.
        run: folder to make: ``corrections/`` (a DemoSet), ``policy/``, ``dagger.json``.
        config: how.
        facts: JSON-able, for the report.
        tell: told each row.
        progress: told of updates and episodes.

    Raises:
        CadenzaError: the folder exists, or the task has no such primitive.
    """
    config, run = config or DaggerConfig(), Path(run)
    if run.is_dir() and any(run.iterdir()):
        raise CadenzaError(f"The run folder {run} exists already; nothing was changed.", "Choose another with --run.")
    primitives: dict[str, Primitive] = dict(task.primitives)
    if primitive not in primitives:
        raise CadenzaError(f"{task.name} has no primitive {primitive!r}.", f"There are: {', '.join(primitives)}.")
    expert, number = primitives[primitive], list(primitives).index(primitive)
    recorder = DemoRecorder(run / CORRECTIONS, schema, description=f"corrections of {primitive} by the expert")
    rows: list[dict[str, Any]] = []

    def measure(round_: int, labels: int) -> None:
        task.primitives = {**primitives, primitive: learner_of(policy)}
        found = primitive_success(
            task, chooser, primitive, config.evaluation_episodes, config.evaluation_seed,
            progress=lambda done: progress(done, config.evaluation_episodes, f"round {round_}: measuring"),
        )  # fmt: skip
        row = {"round": round_, "labels": labels, **found.to_dict()}
        before = rows[-1]["first_try"]["share"] if rows else None
        now = row["first_try"]["share"]
        row["gain"] = None if before is None or now is None else now - before
        rows.append(row)
        write_json(
            run / REPORT,
            {"primitive": primitive, "config": asdict(config), "facts": facts or {}, "rounds": rows, **provenance()},
        )
        tell(row)

    try:
        measure(0, 0)
        labels = 0
        for round_ in range(1, config.rounds + 1):
            beta = config.beta**round_
            corrected = Corrected(expert, learner_of(policy), beta, recorder, number, task.rate_hz)
            task.primitives = {**primitives, primitive: corrected}
            for index in range(config.episodes):
                seed = config.seed + (round_ - 1) * config.episodes + index
                corrected.begin_episode(seed, round_)
                run_episode(task, chooser, seed)
                progress(index + 1, config.episodes, f"round {round_}: driving, the expert in {beta:.0%} of the steps")
            recorder.discard()
            labels += corrected.labels
            joined = samples.joined(corrections_in(run / CORRECTIONS, policy))
            fine_tune(
                policy, joined, progress=progress, steps=config.steps, learning_rate=config.learning_rate,
                validate_every=config.steps, seed=policy.config.seed,
            )  # fmt: skip
            policy.facts["dagger_rounds"] = round_
            policy.save(run / POLICY)
            measure(round_, labels)
    finally:
        task.primitives = primitives
    return rows


def corrections_in(folder: Path, policy: ImitationPolicy) -> Samples:
    """All corrections so far, failures too: what the expert said is right wherever the learner went.

    Raises:
        CadenzaError: there are none.
    """
    import dataclasses

    config = dataclasses.replace(policy.config, successes_only=False, primitive=None, followed_by=None)
    return load_samples(DemoSet(folder, verify=False), config)[0]

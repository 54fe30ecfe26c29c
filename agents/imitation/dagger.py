"""DAgger: the learner drives, the expert says at every step what it would have done, and both are learned from.

Ross, Gordon, Bagnell: A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning, AISTATS
2011, arXiv 1011.0686. What is corrected is one primitive of a longer task: the state machine runs the task as always,
with :class:`Corrected` in the primitive's place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos import DemoRecorder, DemoSet, Schema
from cadenza.agents.imitation.cloning import fine_tune
from cadenza.agents.imitation.config import FINE_TUNING, config_from
from cadenza.agents.imitation.optimisation import Progress, silent
from cadenza.agents.imitation.policy import ImitationPolicy
from cadenza.agents.imitation.samples import Samples, load_samples
from cadenza.agents.imitation.tasks import check_demonstrations, check_recordable, check_task, task_clock
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
        if self.steps < 1 or not self.learning_rate > 0.0:
            raise CadenzaError("DAgger needs at least one update a round, and a learning rate above 0.")
        if min(self.seed, self.evaluation_seed) < 0:
            raise CadenzaError(f"Seeds must not be negative, got {self.seed} and {self.evaluation_seed}.")
        last, measured = self.seed + self.rounds * self.episodes, self.evaluation_seed + self.evaluation_episodes
        if self.seed < measured and self.evaluation_seed < last:
            raise CadenzaError(
                f"Seeds {self.seed} to {last - 1} would drive and {self.evaluation_seed} to {measured - 1} measure.",
                "Choose a seed with which no layout does both.",
            )


class Corrected:
    """A primitive that the learner mostly drives while the expert's answers are recorded.

    The expert, itself a primitive, is asked at every step, whoever drives; it also says when the attempt is over. An
    attempt that the expert was made to fail (its ``injected`` is set) is the expert's alone and is not recorded.
    :meth:`stepped` belongs into the ``on_step`` of the machine: an attempt is stored with what was observed at its end.

    Args:
        expert: gives the labels.
        learner: drives with probability 1 - ``beta``, drawn at each step.
        beta: share of the expert's steps.
        recorder: gets an episode for each attempt.
        number: id of the primitive in the recording.
        clock: tells the time of the world, s.
    """

    def __init__(
        self,
        expert: Primitive,
        learner: Primitive,
        beta: float,
        recorder: DemoRecorder,
        number: int,
        clock: Callable[[], float],
    ):
        self.name, self.time_limit_s = expert.name, expert.time_limit_s
        self._expert, self._learner, self._beta = expert, learner, beta
        self._recorder, self._number, self._clock = recorder, number, clock
        self.seed, self.round = 0, 0
        self.labels = 0
        """Steps stored."""
        self._injected = False
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
        self._injected = bool(getattr(self._expert, "injected", None))
        if not self._injected:
            self._recorder.start(self.seed, f"{self.name}, corrected", facts)

    def act(self, observation: Any) -> NDArray[np.float32]:
        over, at_s = self._expert.done, self._clock()
        acted = self._expert.act(observation)
        if over or self._injected:  # the machine lets what was done settle, or it is to fail: nothing to learn from
            return np.asarray(acted, dtype=np.float32)
        # An expert that adds noise to what it does also says what it meant.
        label = np.clip(np.asarray(getattr(self._expert, "intended", acted), dtype=np.float32), -1.0, 1.0)
        proposed = np.asarray(self._learner.act(observation), dtype=np.float32)
        schema = self._recorder.schema
        self._recorder.add(
            {name: observation[name] for name in schema.observation}, label.astype(schema.action.dtype),
            timestamp_s=at_s, primitive=self._number,
        )  # fmt: skip
        return np.asarray(acted, dtype=np.float32) if self._rng.random() < self._beta else proposed

    def stepped(self, observation: Any, action: Any, info: Any, name: str) -> None:
        """What was observed after a step of primitive ``name``: an attempt that is over is stored."""
        if name != self.name or not self._recorder.is_open or not self._expert.done:
            return
        final = {key: observation[key] for key in self._recorder.schema.observation}
        steps = self._recorder.steps
        self._recorder.finish(self._expert.outcome is Outcome.SUCCESS, final)
        self.labels += steps

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
    resume: bool = False,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Rounds of driving, correcting and learning; one row a round, and one of before.

    After each round the run holds its corrections and its policy; of a round that was cut nothing stays.

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
        resume: go on after the last finished round of the run, with ``policy`` as it was before the first.
        tell: told each row.
        progress: told of updates and episodes.

    Raises:
        CadenzaError: the folder exists (or, with ``resume``, holds no such run), the task has no such primitive, or its
            expert is made to fail.
        MismatchError: policy, demonstrations and task do not fit together; no folder was made then.
        KeyboardInterrupt: Ctrl-C, or SIGTERM while it learned.
    """
    config, run = config or DaggerConfig(), Path(run)
    primitives: dict[str, Primitive] = dict(task.primitives)
    if primitive not in primitives:
        raise CadenzaError(f"{task.name} has no primitive {primitive!r}.", f"There are: {', '.join(primitives)}.")
    expert, number = primitives[primitive], list(primitives).index(primitive)
    if failing := [name for name in ("drop", "misroute") if getattr(expert, name, 0.0)]:
        raise CadenzaError(
            f"The expert is made to fail ({', '.join(failing)}); DAgger would learn that.",
            f"Leave out of the task's settings: {', '.join(failing)}.",
        )
    check_demonstrations(policy, schema)
    check_recordable(check_task(policy, task, config.seed), task, schema, policy.inputs)
    clock = task_clock(task)
    rows = _begin(run, config, resume)
    recorder = DemoRecorder(run / CORRECTIONS, schema, description=f"corrections of {primitive} by the expert")
    done = _go_on(policy, run) if resume else 0
    record = {"primitive": primitive, "config": asdict(config), "facts": facts or {}}

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
        write_json(run / REPORT, {**record, "rounds": rows, **provenance()})
        tell(row)

    try:
        if not rows:
            write_json(run / REPORT, {**record, "rounds": rows, **provenance()})
            measure(0, 0)
        labels = _forget(run / CORRECTIONS, done)
        if rows[-1]["round"] < done:  # it was cut while it measured
            measure(done, labels)
        for round_ in range(done + 1, config.rounds + 1):
            beta = config.beta**round_
            corrected = Corrected(expert, learner_of(policy), beta, recorder, number, clock)
            task.primitives = {**primitives, primitive: corrected}
            for index in range(config.episodes):
                seed = config.seed + (round_ - 1) * config.episodes + index
                corrected.begin_episode(seed, round_)
                run_episode(task, chooser, seed, on_step=corrected.stepped)
                progress(index + 1, config.episodes, f"round {round_}: driving, the expert in {beta:.0%} of the steps")
            recorder.discard()
            labels += corrected.labels
            joined = samples.joined(corrections_in(run / CORRECTIONS, policy))
            tuned = fine_tune(
                policy, joined, progress=progress, steps=config.steps, learning_rate=config.learning_rate,
                validate_every=config.steps, seed=policy.config.seed,
            )  # fmt: skip
            if tuned.interrupted:
                raise KeyboardInterrupt
            policy.facts["dagger_rounds"] = round_
            policy.save(run / POLICY)
            done = round_
            measure(round_, labels)
    finally:
        task.primitives = primitives
        recorder.discard()
        _forget(run / CORRECTIONS, done)
    return rows


def read_dagger(run: str | Path) -> dict[str, Any]:
    """``dagger.json`` of a run.

    Raises:
        CadenzaError: there is none, or it is damaged.
    """
    try:
        record: dict[str, Any] = json.loads((Path(run) / REPORT).read_text())
        config_from(DaggerConfig, record["config"])
        _ = record["rounds"], record["facts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CadenzaError(
            f"{run} is no run of DAgger: {error}.", "`cadenza imitate dagger POLICY --demos DEMOS --run RUN` makes one."
        ) from error
    return record


def _begin(run: Path, config: DaggerConfig, resume: bool) -> list[dict[str, Any]]:
    """Rows of what was measured already."""
    if resume:
        record = read_dagger(run)
        if config_from(DaggerConfig, record["config"]) != config:
            raise CadenzaError(f"The run {run} was begun with other settings.", "Resume it without any.")
        return list(record["rounds"])
    if run.is_dir() and any(run.iterdir()):
        raise CadenzaError(
            f"The run folder {run} exists already; nothing was changed.",
            f"Choose another with --run, or continue it:  cadenza imitate dagger --resume {run}",
        )
    return []


def _go_on(policy: ImitationPolicy, run: Path) -> int:
    """Make ``policy`` what it was after the last finished round, whose number is given back."""
    if not (run / POLICY).is_dir():
        return 0
    saved = ImitationPolicy.load(run / POLICY)
    policy.load_state_dict(saved.state_dict())
    policy.config, policy.facts = saved.config, saved.facts
    return int(saved.facts["dagger_rounds"])


def _forget(folder: Path, done: int) -> int:
    """Delete corrections of rounds after ``done``; how many steps there are before."""
    labels = 0
    for info in DemoSet(folder, verify=False).episodes:
        if info.metadata["dagger_round"] > done:
            info.path.unlink()
        else:
            labels += info.length
    return labels


def corrections_in(folder: Path, policy: ImitationPolicy) -> Samples:
    """All corrections so far, failures too: what the expert said is right wherever the learner went.

    Raises:
        CadenzaError: there are none.
    """
    config = replace(policy.config, successes_only=False, primitive=None, followed_by=None)
    return load_samples(DemoSet(folder, verify=False), config)[0]

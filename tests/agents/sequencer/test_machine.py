"""The state machine and its baselines, on latches that jam."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cadenza.agents.sequencer.choosers import OracleRetry, ScriptedOrder, Straying
from cadenza.agents.sequencer.config import MachineLimits
from cadenza.agents.sequencer.machine import Decision, run_episode, run_flat
from cadenza.agents.sequencer.primitive import Outcome
from cadenza.agents.sequences import make_task
from cadenza.agents.sequences.latches import LatchTask
from cadenza.envs.errors import CadenzaError


class Always:
    name = "always"

    def __init__(self, *names: str | None):
        self.names = names

    def begin(self, task: Any, seed: int) -> None:
        self.left = list(self.names)

    def choose(self, decision: Decision) -> str | None:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def names(result: Any) -> list[str]:
    return [attempt.name for attempt in result.attempts]


def test_a_failure_is_retried_by_the_oracle_and_not_by_the_script() -> None:
    task = LatchTask(stages=3, jam=1.0)
    script, oracle = (run_episode(task, chooser, seed=1) for chooser in (ScriptedOrder(), OracleRetry()))
    assert names(script) == ["press", "advance"] * 3
    assert (script.success, script.finished) == (False, [False] * 3)
    assert names(oracle) == ["press", "clear", "press", "advance"] * 3
    assert (oracle.success, oracle.reason) == (True, "over")


def test_without_jams_the_script_is_enough() -> None:
    result = run_episode(LatchTask(stages=2, jam=0.0), ScriptedOrder(), seed=1)
    assert (result.success, result.finished) == (True, [True, True])


def test_the_same_seed_gives_the_same_episode() -> None:
    task = LatchTask(stages=3, jam=0.5)
    one, two, other = (run_episode(task, Straying(OracleRetry(), 0.3), seed) for seed in (4, 4, 5))
    assert one == two
    assert dataclasses.asdict(one)["attempts"] != dataclasses.asdict(other)["attempts"]


def test_an_attempt_is_logged_with_its_outcome_and_time() -> None:
    press, clear, *_ = run_episode(LatchTask(stages=1, jam=1.0), OracleRetry(), seed=0).attempts
    assert (press.name, press.outcome, press.steps, press.duration_s) == ("press", "failure", 4, 0.4)
    assert (press.finished_before, press.finished_after) == (False, False)
    assert (clear.name, clear.outcome) == ("clear", "success")


def test_no_stage_gets_more_than_eight_primitives() -> None:
    result = run_episode(LatchTask(stages=2, jam=1.0), Always("press"), seed=0)
    assert names(result) == ["press"] * 8
    assert result.reason == "8 primitives at stage 0"
    again = run_episode(LatchTask(stages=2, jam=1.0), Always("press"), 0, MachineLimits(attempts_per_stage=3))
    assert len(again.attempts) == 3


def test_a_new_stage_begins_to_count_anew() -> None:
    chooser = Always("press", "press", "advance", "press", None)
    result = run_episode(LatchTask(stages=2, jam=0.0), chooser, 0, MachineLimits(attempts_per_stage=3))
    assert [(attempt.stage, attempt.name) for attempt in result.attempts] == [
        (0, "press"), (0, "press"), (0, "advance"), (1, "press"),
    ]  # fmt: skip
    assert result.reason == "always has nothing more to do"


class Endless:
    name, time_limit_s = "press", 0.75
    done, outcome = False, Outcome.RUNNING

    def start(self, observation: Any, context: Any) -> None: ...

    def act(self, observation: Any) -> np.ndarray:
        return np.array([0.5, 0.0], np.float32)


def test_a_primitive_that_keeps_to_no_limit_is_cut() -> None:
    task = LatchTask(stages=1)
    task.primitives = {**task.primitives, "press": Endless()}
    result = run_episode(task, Always("press", None), seed=0)
    assert [(a.outcome, a.steps) for a in result.attempts] == [("timeout", 8)]  # 0.75 s at 10 Hz, begun steps whole
    short = run_episode(task, Always("press", None), 0, MachineLimits(time_limit_s=0.2))
    assert short.attempts[0].steps == 2


def test_struggle_signals_by_hand() -> None:
    result = run_episode(LatchTask(stages=1, jam=1.0), Always(*["press"] * 6, "clear", None), seed=0)
    first, *rest = result.attempts
    assert first.no_progress == 0.0  # it jammed the latch: an entry of the observation went from 0 to 1
    assert [attempt.no_progress for attempt in rest[:5]] == [1.0] * 5  # and then nothing moved
    assert [attempt.repeated_failure for attempt in result.attempts] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.0]
    assert {attempt.oscillation for attempt in result.attempts} == {0.0}


def test_motion_that_undoes_itself_oscillates() -> None:
    from cadenza.agents.sequencer.signals import AttemptWatch

    watch = AttemptWatch({"state": np.zeros(2), "picture": np.zeros((4, 4, 3), np.uint8)})
    for sign in (1, -1, 1, -1):
        watch.step(np.array([sign * 0.3, 0.0]), {"state": np.array([0.005, 0.0])})
    found = watch.signals(0)
    assert found.oscillation == pytest.approx(1.0)
    assert found.no_progress == pytest.approx(0.5)


def test_a_task_names_what_is_motion_and_what_is_progress() -> None:
    """A hand that shakes with its gripper shut, and a thing that does not move."""
    from cadenza.agents.sequencer.signals import AttemptWatch, Watched

    own = Watched(motion=(0, 1), progress=lambda observation: observation["thing"])
    watches = {"own": AttemptWatch(begin := seen(0.0, 0.0), own), "all": AttemptWatch(begin)}
    for sign in (1, -1, 1, -1):
        for watch in watches.values():
            watch.step(np.array([sign * 0.3, 0.0, 1.0]), seen(0.05, 0.004))
    found = {name: watch.signals(0) for name, watch in watches.items()}
    assert (found["own"].oscillation, found["own"].no_progress) == (pytest.approx(1.0), pytest.approx(0.6))
    assert found["all"].oscillation == pytest.approx(1 - 1 / np.hypot(1.0, 0.3))
    assert found["all"].no_progress == 0.0
    nothing = AttemptWatch(begin, Watched(progress=lambda observation: np.zeros(0)))
    nothing.step(np.ones(3), seen(0.0, 0.0))
    assert nothing.signals(0).no_progress == 0.0  # nothing can be said


def seen(hand: float, thing: float) -> dict[str, np.ndarray]:
    return {"hand": np.array([hand]), "thing": np.array([thing])}


def test_choosers_can_have_the_signals_of_the_first_definition() -> None:
    from cadenza.agents.sequencer.signals import Watched

    task = LatchTask(2, 1.0)
    task.watched = Watched(motion=(0,), progress=lambda observation: observation["state"][2:3])  # type: ignore[attr-defined]
    told: list[Decision] = []
    run_episode(task, OracleRetry(), 0, on_decision=lambda decision, _: told.append(decision))
    # It jammed: whether the latch is shut did not change, but another number of the observation did.
    assert (told[1].signals.no_progress, told[1].signals_of(2).no_progress) == (1.0, 1.0)
    assert told[1].signals_of(1).no_progress == 0.0
    assert told[0].signals_of(1) == told[0].signals


def test_choosers_are_told_history_and_signals() -> None:
    seen: list[Decision] = []
    run_episode(LatchTask(2, 1.0), OracleRetry(), 0, on_decision=lambda decision, _: seen.append(decision))
    assert [decision.history for decision in seen[:4]] == [(), (0,), (0, 1), (0, 1, 0)]
    assert [decision.stage for decision in seen] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [len(decision.here) for decision in seen] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert seen[1].signals.repeated_failure == 0.25


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(CadenzaError, match="pres"):
        run_episode(LatchTask(), Always("pres"), seed=0)
    with pytest.raises(CadenzaError, match="task to sequence"):
        make_task("latch")
    with pytest.raises(CadenzaError, match="cannot be made"):
        make_task("latches", jams=1)


def test_the_flat_baseline_has_a_time_limit() -> None:
    class Nothing:
        def predict(self, observation: Any, deterministic: bool = True) -> tuple[np.ndarray, None]:
            return np.zeros(2, np.float32), None

    result = run_flat(LatchTask(2, 0.0), Nothing(), 0, MachineLimits(flat_s_per_stage=1.5))
    assert (result.steps, result.success, result.reason, result.attempts) == (30, False, "out of time", [])


def test_nothing_in_the_sequencer_knows_a_task(repository: Any) -> None:
    """It is generic: no module of it imports a task, an environment or a robot."""
    import re

    found = [
        line
        for path in (repository / "agents" / "sequencer").glob("*.py")
        for line in re.findall(r"^\s*(?:from|import) (cadenza\.\S+)", path.read_text(), re.MULTILINE)
        if not re.match(r"cadenza\.(agents\.(sequencer|imitation|runs|demos\.errors)|envs\.(errors|names))\b", line)
    ]
    assert found == []


class Slow:
    """One stage that is done so many steps after its only primitive, of one step, has succeeded."""

    name, stages, rate_hz, order = "slow", 1, 10.0, ("push",)

    def __init__(self, delay: int):
        self.delay, self.primitives, self.pushed = delay, {"push": self}, 0
        self.time_limit_s, self.outcome, self.done = 1.0, Outcome.RUNNING, False

    def start(self, observation: Any, context: Any) -> None:
        self.outcome, self.done = Outcome.RUNNING, False

    def act(self, observation: Any) -> np.ndarray:
        self.outcome, self.done = Outcome.SUCCESS, True
        return np.ones(1)

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        self.pushed = 0
        return np.zeros(1), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.pushed += 1
        return np.full(1, float(self.pushed)), 0.0, False, False, {}

    def stage(self, info: Any) -> int:
        return 0

    def aim(self, stage: int) -> None: ...

    def finished(self, info: Any) -> tuple[bool, ...]:
        return (self.pushed > self.delay,)

    def over(self, info: Any) -> bool:
        return self.pushed > self.delay

    def context(self, info: Any) -> dict[str, Any]:
        return {}

    def expert_choice(self) -> str:
        return "push"

    def close(self) -> None: ...


def test_what_the_last_primitive_did_may_count_a_moment_later() -> None:
    """One attempt of one step; the stage is done 4 steps after it, 0.4 s, or 9 steps after it, too late."""
    limits = MachineLimits(attempts_per_stage=1)
    soon = run_episode(Slow(4), Always("push"), 0, limits)
    assert (soon.success, soon.reason, soon.steps, len(soon.attempts)) == (True, "over", 5, 1)
    late = run_episode(Slow(9), Always("push"), 0, limits)
    assert (late.success, late.reason, late.steps) == (False, "1 primitives at stage 0", 7)
    at_once = run_episode(Slow(4), Always("push"), 0, MachineLimits(attempts_per_stage=1, settle_s=0.0))
    assert (at_once.success, at_once.steps) == (False, 1)

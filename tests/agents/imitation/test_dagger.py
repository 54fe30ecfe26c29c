"""DAgger on the latches: who drives, what is recorded, and that corrections help."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from cadenza.agents.demos import DemoRecorder, DemoSet, Feature, MismatchError, Schema
from cadenza.agents.imitation.cloning import clone
from cadenza.agents.imitation.config import CloningConfig
from cadenza.agents.imitation.dagger import Corrected, DaggerConfig, corrections_in, dagger, primitive_success
from cadenza.agents.imitation.samples import load_samples
from cadenza.agents.imitation.tasks import task_clock
from cadenza.agents.sequencer.choosers import OracleRetry, ScriptedOrder
from cadenza.agents.sequencer.machine import run_episode
from cadenza.agents.sequences.latches import LatchTask, learned_press
from cadenza.envs.errors import CadenzaError

SCHEMA = Schema("cadenza/Latches", {}, 10.0, {"state": Feature("float32", (5,))}, Feature("float32", (2,)), cameras=())
SMALL = CloningConfig(steps=80, batch_size=32, hidden=(16,), validate_every=80, held_out=0.0, learning_rate=1e-2)


class Limp:
    """A learner that does nothing."""

    def predict(self, observation: Any, deterministic: bool = True) -> tuple[np.ndarray, None]:
        return np.zeros(2, np.float32), None


@pytest.fixture
def limp_demos(tmp_path: Path) -> DemoSet:
    """Demonstrations of doing nothing, so that what is learned from them fails."""
    recorder = DemoRecorder(tmp_path / "demos", SCHEMA)
    for seed in range(3):
        recorder.start(seed, "press", {})
        for step in range(5):
            state = np.array([seed, 0.02 * step, 0, 0, 0], np.float32)
            recorder.add({"state": state}, np.zeros(2, np.float32), timestamp_s=step / 10, primitive=0)
        recorder.finish(True)
    return DemoSet(tmp_path / "demos")


def drive(beta: float, folder: Path) -> tuple[DemoSet, list[np.ndarray]]:
    task = LatchTask(stages=2, jam=0.0)
    recorder = DemoRecorder(folder, SCHEMA)
    corrected = Corrected(task.primitives["press"], learned_press(Limp()), beta, recorder, 0, task_clock(task))
    task.primitives = {**task.primitives, "press": corrected}
    driven: list[np.ndarray] = []

    def on_step(observation: Any, action: Any, info: Any, name: str) -> None:
        corrected.stepped(observation, action, info, name)
        if name == "press":
            driven.append(np.asarray(action))

    for seed in range(4):
        corrected.begin_episode(seed, 1)
        run_episode(task, ScriptedOrder(), seed, on_step=on_step)
    return DemoSet(folder), driven


def test_every_step_is_labelled_by_the_expert_whoever_drives(tmp_path: Path) -> None:
    demos, driven = drive(0.5, tmp_path / "mixed")
    assert len(demos) == 8  # an episode for each attempt
    labels = np.concatenate([demos.load(info.index).action for info in demos.episodes])
    assert (labels == np.array([0.0, 1.0], np.float32)).all()
    share = np.mean([action[1] == 1.0 for action in driven])
    assert 0.2 < share < 0.8
    assert {info.metadata["layout"] for info in demos.episodes} == {0, 1, 2, 3}
    assert {info.metadata["clip"] for info in demos.episodes} == {0, 1}


@pytest.mark.parametrize(("beta", "pressed"), [(0.0, 0.0), (1.0, 1.0)])
def test_beta_is_the_experts_share(tmp_path: Path, beta: float, pressed: float) -> None:
    _, driven = drive(beta, tmp_path / "one")
    assert np.mean([action[1] == 1.0 for action in driven]) == pressed


def test_what_settles_after_the_end_is_not_recorded(tmp_path: Path) -> None:
    task = LatchTask(stages=1, jam=0.0)
    recorder = DemoRecorder(tmp_path / "one", SCHEMA)
    corrected = Corrected(task.primitives["press"], learned_press(Limp()), 1.0, recorder, 0, task_clock(task))
    task.primitives = {**task.primitives, "press": corrected}
    corrected.begin_episode(0, 1)
    observation, info = task.reset(0)
    corrected.start(observation, task.context(info))
    while not corrected.done:
        action = corrected.act(observation)
        observation, _, _, _, info = task.step(action)
        corrected.stepped(observation, action, info, "press")
    labels = corrected.labels
    corrected.act(observation)
    assert corrected.labels == labels == len(DemoSet(tmp_path / "one").load(0).action)


def test_corrections_help_and_the_gain_is_reported(limp_demos: DemoSet, tmp_path: Path) -> None:
    samples, inputs = load_samples(limp_demos, SMALL)
    policy = clone(samples, inputs, SMALL).policy
    config = DaggerConfig(rounds=2, episodes=6, steps=300, learning_rate=1e-2, evaluation_episodes=5)
    rows = dagger(
        policy, samples, LatchTask(stages=2, jam=0.0), ScriptedOrder(), "press", learned_press, SCHEMA,
        tmp_path / "run", config,
    )  # fmt: skip
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert (rows[0]["first_tries"], rows[0]["n_tries"]) == (0, 10)
    assert rows[-1]["first_tries"] == 10
    assert sum(row["gain"] for row in rows[1:]) == pytest.approx(1.0)
    assert rows[2]["labels"] > rows[1]["labels"] > 0
    stored = json.loads((tmp_path / "run" / "dagger.json").read_text())
    assert stored["rounds"][-1]["first_try"]["ci95"][0] == pytest.approx(0.7225, abs=1e-3)  # 10 of 10
    assert len(corrections_in(tmp_path / "run" / "corrections", policy)) == rows[-1]["labels"]
    with pytest.raises(CadenzaError, match="exists already"):
        dagger(policy, samples, LatchTask(), ScriptedOrder(), "press", learned_press, SCHEMA, tmp_path / "run")


def test_all_corrections_count_whichever_attempts_the_demonstrations_were_picked_by(
    limp_demos: DemoSet, tmp_path: Path
) -> None:
    demos, _ = drive(0.5, tmp_path / "mixed")
    samples, inputs = load_samples(limp_demos, SMALL)
    policy = clone(samples, inputs, SMALL).policy
    policy.config = dataclasses.replace(SMALL, primitive="press", followed_by="advance")
    steps = sum(len(demos.load(info.index).action) for info in demos.episodes)
    assert len(corrections_in(tmp_path / "mixed", policy)) == steps


def test_layouts_of_driving_and_measuring_differ() -> None:
    config = DaggerConfig()
    driven = {config.seed + index for index in range(config.rounds * config.episodes)}
    measured = {config.evaluation_seed + index for index in range(config.evaluation_episodes)}
    assert driven & measured == set()
    with pytest.raises(CadenzaError, match="beta"):
        DaggerConfig(beta=2.0)
    with pytest.raises(CadenzaError, match="would drive"):
        DaggerConfig(seed=70_029)


def test_first_tries_are_counted_once_a_stage() -> None:
    found = primitive_success(LatchTask(stages=3, jam=1.0), OracleRetry(), "press", episodes=2, seed=0)
    assert (found.first_tries, found.n_tries, found.tasks, found.n) == (0, 6, 2, 2)


def test_a_primitive_that_is_not_there_is_refused(limp_demos: DemoSet, tmp_path: Path) -> None:
    samples, inputs = load_samples(limp_demos, SMALL)
    policy = clone(samples, inputs, SMALL).policy
    with pytest.raises(CadenzaError, match="no primitive 'route'") as error:
        dagger(policy, samples, LatchTask(), ScriptedOrder(), "route", learned_press, SCHEMA, tmp_path / "run")
    assert "press, clear, advance" in error.value.advice


# ------------------------------------------------------------------ what is recorded


def test_time_is_the_worlds_and_what_follows_the_last_step_is_there(tmp_path: Path) -> None:
    task = LatchTask(stages=2, jam=0.0)
    corrected = Corrected(
        task.primitives["press"], learned_press(Limp()), 1.0, DemoRecorder(tmp_path / "one", SCHEMA), 0,
        lambda: 7.0 + 3.0 * task.env.time_s,
    )  # fmt: skip
    task.primitives = {**task.primitives, "press": corrected}
    seen: list[np.ndarray] = []

    def on_step(observation: Any, action: Any, info: Any, name: str) -> None:
        corrected.stepped(observation, action, info, name)
        seen.append(observation["state"])

    corrected.begin_episode(0, 1)
    run_episode(task, ScriptedOrder(), 0, on_step=on_step)
    first, second = (DemoSet(tmp_path / "one").load(index) for index in (0, 1))
    np.testing.assert_allclose(first.timestamp_s, 7.0 + 0.3 * np.arange(len(first.action)))
    assert second.timestamp_s[0] > first.timestamp_s[-1] + 0.3  # another primitive came between
    assert first.final_observation is not None
    np.testing.assert_array_equal(first.final_observation["state"], seen[len(first.action) - 1])
    assert first.final_observation["state"][2] == 1.0  # shut


def test_corrections_can_be_exported(tmp_path: Path) -> None:
    pytest.importorskip("minari")
    from cadenza.agents.demos.lerobot_export import export_lerobot
    from cadenza.agents.demos.minari_export import export_minari

    demos, _ = drive(1.0, tmp_path / "corrections")
    assert export_minari(demos, tmp_path / "minari", "cadenza/corrections-v0").exists()
    assert export_lerobot(demos, tmp_path / "lerobot").exists()


class Failing:
    """An expert of which every second attempt is made to fail."""

    def __init__(self, script: Any):
        self.name, self.time_limit_s, self._script, self.injected = script.name, script.time_limit_s, script, None
        self._attempts = 0

    def start(self, observation: Any, context: Any) -> None:
        self._attempts += 1
        self.injected = "drop" if self._attempts % 2 else None
        self._script.start(observation, context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._script, name)


def test_attempts_that_are_made_to_fail_are_not_learned_from(limp_demos: DemoSet, tmp_path: Path) -> None:
    task = LatchTask(stages=2, jam=0.0)
    expert: Any = Failing(task.primitives["press"])
    corrected = Corrected(
        expert, learned_press(Limp()), 1.0, DemoRecorder(tmp_path / "one", SCHEMA), 0, task_clock(task)
    )
    task.primitives = {**task.primitives, "press": corrected}
    corrected.begin_episode(0, 1)
    run_episode(task, ScriptedOrder(), 0, on_step=corrected.stepped)
    assert [info.metadata["clip"] for info in DemoSet(tmp_path / "one").episodes] == [1]
    samples, inputs = load_samples(limp_demos, SMALL)
    expert.drop = 0.2
    task.primitives = {**task.primitives, "press": expert}
    with pytest.raises(CadenzaError, match=r"made to fail \(drop\)"):
        dagger(
            clone(samples, inputs, dataclasses.replace(SMALL, steps=1)).policy, samples, task, ScriptedOrder(), "press",
            learned_press, SCHEMA, tmp_path / "run",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_nothing_is_made_where_the_task_shows_less_than_the_demonstrations(limp_demos: DemoSet, tmp_path: Path) -> None:
    samples, inputs = load_samples(limp_demos, SMALL)
    policy = clone(samples, inputs, dataclasses.replace(SMALL, steps=1)).policy
    observation = {**SCHEMA.observation, "side": Feature("uint8", (64, 64, 3))}
    schema = dataclasses.replace(SCHEMA, observation=observation, cameras=("side",))
    with pytest.raises(MismatchError, match=r"'side': \(64, 64, 3\) against none"):
        dagger(policy, samples, LatchTask(), ScriptedOrder(), "press", learned_press, schema, tmp_path / "run")
    assert not (tmp_path / "run").exists()

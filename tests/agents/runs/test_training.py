"""Starting a run, what it refuses, what it writes, and how it meets numbers that are not finite."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cadenza.agents.runs.metrics import Table, read_table
from cadenza.agents.runs.policies import open_policy
from cadenza.agents.runs.settings import RunFolder, RunSettings
from cadenza.agents.runs.training import resume, train
from cadenza.envs.errors import CadenzaError

Tiny = Callable[..., RunSettings]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------ refused, with nothing written


def test_an_existing_run_is_refused_and_untouched(tiny: Tiny, run_dir: Path) -> None:
    train(tiny(total_steps=30, evaluate_every=0), run_dir)
    before = tree(run_dir)
    with pytest.raises(CadenzaError, match="exists already") as caught:
        train(tiny(total_steps=30, seed=1), run_dir)
    assert f"cadenza train --resume {run_dir}" in caught.value.advice
    assert tree(run_dir) == before


def test_a_folder_with_other_files_is_refused_and_untouched(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CadenzaError, match="exists already") as caught:
        train(tiny(), tmp_path)
    assert "--resume" not in caught.value.advice
    assert tree(tmp_path) == {"thesis.tex": b"precious"}


def test_an_empty_folder_is_used(tiny: Tiny, run_dir: Path) -> None:
    run_dir.mkdir(parents=True)
    assert train(tiny(total_steps=30, evaluate_every=0), run_dir).step == 30


@pytest.mark.parametrize(
    ("changes", "message", "near"),
    [
        ({"env_id": "cadenza/Humanod-v0"}, "no environment named 'cadenza/Humanod-v0'", "cadenza/Humanoid-v0"),
        ({"env_id": "Hoper-v5", "env_kwargs": {}}, "no environment named 'Hoper-v5'", "Hopper-v5"),
        ({"agent": "symphny", "overrides": {}}, "no agent named 'symphny'", "symphony"),
        ({"preset": "sayaa"}, "no Symphony preset named 'sayaa'", "saya"),
        ({"overrides": {"lerning_rate": 1e-3}}, "Symphony has no setting 'lerning_rate'", "learning_rate"),
        ({"agent": "sac", "overrides": {"bach_size": 3}}, "no setting of sac named 'bach_size'", "batch_size"),
        ({"agent": "sac", "overrides": {}, "preset": "cpu"}, "Presets are Symphony's", "--set NAME=VALUE"),
        ({"overrides": {"batch_size": -1}}, "batch_size must be positive", ""),
        ({"overrides": {"batch_size": "many"}}, "batch_size must be a whole number", ""),
        ({"overrides": {"age_law": "bel"}}, "age_law must be one of", ""),
        ({"agent": "ppo", "overrides": {"n_steps": 1}}, "ppo cannot be built", ""),
        ({"device": "abacus"}, "symphony cannot be built", ""),
        ({"seed": -1}, "symphony cannot be built", ""),
        ({"env_id": "CartPole-v1"}, "action space Discrete", "cadenza list envs"),
        ({"env_id": "CartPole-v1", "agent": "ppo", "overrides": {}}, "action space Discrete", "cadenza list envs"),
    ],
)
@pytest.mark.parametrize("folder_exists", [False, True])
def test_wrong_settings_leave_nothing(
    changes: dict[str, Any], message: str, near: str, folder_exists: bool, run_dir: Path
) -> None:
    if folder_exists:
        run_dir.mkdir(parents=True)
    settings = {"agent": "symphony", "env_id": "Pendulum-v1", "total_steps": 30, **changes}
    with pytest.raises(CadenzaError) as caught:
        train(RunSettings(**settings), run_dir)
    assert message in str(caught.value)
    assert near in f"{caught.value} {caught.value.advice}"
    assert run_dir.exists() == folder_exists
    assert not folder_exists or not any(run_dir.iterdir())


@pytest.mark.parametrize(
    ("name", "value"), [("total_steps", 0), ("n_envs", 0), ("evaluate_episodes", 0), ("checkpoint_every", -1)]
)
def test_impossible_numbers(name: str, value: int) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(CadenzaError, match=f"{name} must .* got {value}"):
        RunSettings(agent="symphony", env_id="Pendulum-v1", **changes)


def test_a_folder_that_cannot_be_made(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(CadenzaError, match="Cannot make the run folder") as caught:
            train(tiny(total_steps=30), run)
        assert "--run" in caught.value.advice
    assert tree(tmp_path) == {"file": b"not a folder"}


@pytest.mark.parametrize("content", [None, "", "{", '{"format": "other"}', '{"format": "cadenza-run-1"}', "[]"])
def test_resuming_what_is_no_run(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CadenzaError):
        resume(tmp_path)


def test_settings_of_a_newer_version(tmp_path: Path) -> None:
    settings = {"agent": "sac", "env_id": "Pendulum-v1", "unheard_of": 1}
    (tmp_path / "config.json").write_text(json.dumps({"format": "cadenza-run-1", "settings": settings}))
    with pytest.raises(CadenzaError, match="unheard_of"):
        resume(tmp_path)


# ------------------------------------------------------------------ what a run leaves


def test_what_a_run_writes(tiny: Tiny, spy: Any, run_dir: Path) -> None:
    settings = tiny(total_steps=120, seed=7)
    result = train(settings, run_dir, spy)
    record = json.loads((run_dir / "config.json").read_text())
    assert record["settings"] == asdict(settings)
    assert record["settings"]["seed"] == 7
    assert RunFolder(run_dir).read_settings() == settings
    assert {"python", "torch", "mujoco", "gymnasium", "stable_baselines3", "numpy"} <= record["versions"].keys()
    assert "git_commit" in record
    assert record["machine"]["cores"] == len(os.sched_getaffinity(0))

    episodes = read_table(run_dir / "episodes.csv")
    assert [int(row["step"]) for row in episodes] == [25, 50, 75, 100]
    assert {row["length"] for row in episodes} == {"25"}
    assert {row["terminated"] for row in episodes} == {"0"}  # Pendulum ends by its time limit only
    evaluations = read_table(run_dir / "evaluations.csv")
    assert [int(row["step"]) for row in evaluations] == [50, 100, 120]
    assert [float(row["return_mean"]) for row in evaluations] == [r.return_mean for _, r, _ in spy.evaluations]
    best = max(spy.evaluations, key=lambda told: told[1].return_mean)
    assert result.best_return == best[1].return_mean
    assert json.loads((run_dir / "best" / "evaluation.json").read_text())["step"] == best[0]
    assert [step for step, _, was_best in spy.evaluations if was_best][-1] == best[0]
    assert open_policy(run_dir).step == best[0]
    assert open_policy(run_dir, "last").step == 120
    assert {"evaluation/return_mean"} <= read_table(run_dir / "progress.csv")[-1].keys()
    assert list((run_dir / "tensorboard").iterdir())
    assert spy.problems == []
    assert spy.steps == list(range(1, 121))


def test_the_best_policy_acts_as_it_was_evaluated(tiny: Tiny, run_dir: Path) -> None:
    from cadenza.agents.runs.evaluation import evaluate
    from cadenza.agents.runs.training import EVALUATION_SEED
    from cadenza.envs.registration import make_env

    train(tiny(total_steps=120), run_dir)
    policy = open_policy(run_dir)
    again = evaluate(policy.act, make_env(policy.env_id, **policy.env_kwargs), episodes=1, seed=EVALUATION_SEED)
    assert again.returns == json.loads((run_dir / "best" / "evaluation.json").read_text())["returns"]


def test_same_seed_same_run(tiny: Tiny, same_runs: Any, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(tiny(total_steps=90, seed=seed), tmp_path / name)
    same_runs(tmp_path / "a", tmp_path / "b")
    assert (
        read_table(tmp_path / "a" / "episodes.csv")[0]["return"]
        != (read_table(tmp_path / "c" / "episodes.csv")[0]["return"])
    )


def test_resuming_is_on_record(tiny: Tiny, run_dir: Path) -> None:
    train(tiny(total_steps=60), run_dir)
    resume(run_dir, total_steps=70)
    record = json.loads((run_dir / "config.json").read_text())
    assert record["settings"]["total_steps"] == 70
    (resumed,) = record["resumed"]
    assert resumed["step"] == 60
    assert resumed["versions"] == record["versions"]


def test_resuming_with_other_versions_is_said(tiny: Tiny, spy: Any, run_dir: Path) -> None:
    train(tiny(total_steps=60), run_dir)
    record = json.loads((run_dir / "config.json").read_text())
    record["versions"]["mujoco"] = "2.0"
    (run_dir / "config.json").write_text(json.dumps(record))
    resume(run_dir, spy, total_steps=70)
    assert any("began with mujoco 2.0" in problem for problem in spy.problems)


def test_time_limit_ends_in_order(tiny: Tiny, run_dir: Path) -> None:
    result = train(tiny(total_steps=10_000_000, evaluate_every=0, checkpoint_every=0), run_dir, time_limit_s=0.5)
    assert 0 < result.step < 10_000_000
    assert not result.interrupted
    assert resume(run_dir, total_steps=result.step + 10).step == result.step + 10


# ------------------------------------------------------------------ tables


def test_table_gains_columns_and_is_cut_at_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    table = Table(path)
    table.append({"step": 1, "a": 0.5})
    table.append({"step": 2, "a": 1.5, "b": "x"})
    assert read_table(path) == [{"step": "1", "a": "0.5", "b": ""}, {"step": "2", "a": "1.5", "b": "x"}]
    with path.open("a") as file:
        file.write("3,")  # cut off by a crash
    assert [row["step"] for row in read_table(path)] == ["1", "2"]
    Table(path, keep_until=1).append({"step": 9})
    assert read_table(path) == [{"step": "1", "a": "0.5", "b": ""}, {"step": "9", "a": "", "b": ""}]
    Table(path)
    assert read_table(path) == []


# ------------------------------------------------------------------ numbers that are not finite


class Exploding(gym.Env):
    """Observation and reward turn NaN at every tenth step of an episode, counted from the first."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (3,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        self.count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation = self.np_random.normal(size=3).astype(np.float32)
        if self.count == 10:
            return observation * np.nan, float("nan"), False, False, {"height": np.nan}
        return observation, 1.0, False, False, {"height": 2.0}


def test_training_goes_on_after_nan(tiny: Tiny, spy: Any, temporary_env: Any, run_dir: Path) -> None:
    seen: list[tuple[int, int]] = []
    dump = run_dir / "non_finite.npz"
    spy.at = {step: lambda step=step: seen.append((step, dump.stat().st_mtime_ns)) for step in (15, 95)}
    result = train(tiny(env_id=temporary_env(Exploding), total_steps=100), run_dir, spy)
    assert result.step == 100
    episodes = read_table(run_dir / "episodes.csv")
    assert [(row["length"], row["return"], row["terminated"]) for row in episodes] == [("10", "9.0", "1")] * 10
    first, tenth = spy.problems
    assert "step 10 (number 1)" in first
    assert str(dump) in first
    assert "step 100 (number 10)" in tenth
    assert seen[0][1] == seen[1][1], "the dump is written once"
    with np.load(dump, allow_pickle=False) as history:
        assert history["action"].shape == (10, 1)
        assert history["observation"].shape == (10, 3)
        assert np.isfinite(history["observation"]).all()
    # Evaluation met the same environment: its figures are numbers, and there is a best policy.
    assert result.best_return == 9.0
    assert [(step, evaluation.lengths) for step, evaluation, _ in spy.evaluations] == [(50, [10]), (100, [10])]
    assert open_policy(run_dir).step == 50

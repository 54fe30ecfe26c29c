"""The training clock leaves out evaluations and checkpoints, spaces evaluations, and ends a run; normalised PPO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cadenza.agents.export import export_bundle
from cadenza.agents.runs import stalls, training
from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.evaluation import evaluate
from cadenza.agents.runs.metrics import read_table
from cadenza.agents.runs.policies import open_policy
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import EVALUATION_SEED, resume, train
from cadenza.controllers.bundle import PolicyBundle
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env

Tiny = Callable[..., RunSettings]
EVALUATION_S = 1_000.0
CHECKPOINT_S = 500.0


@pytest.fixture
def clock(spy: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock on which a step takes 1 s, an evaluation 1,000 s, a checkpoint 500 s."""
    clock = SimpleNamespace(step=0, extra=0.0)
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: clock.step + clock.extra))
    spy.at = {step: lambda step=step: setattr(clock, "step", step) for step in range(1, 400)}

    def slow(function: Callable[..., Any], cost_s: float) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            clock.extra += cost_s
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(training, "evaluate", slow(training.evaluate, EVALUATION_S))
    monkeypatch.setattr(CheckpointStore, "save", slow(CheckpointStore.save, CHECKPOINT_S))
    return clock


def timed(tiny: Tiny, **settings: Any) -> RunSettings:
    return tiny(total_steps=10_000, evaluate_every=0, checkpoint_every=0, evaluate_every_s=30.0, **settings)


def test_the_training_clock_counts_steps_only(tiny: Tiny, spy: Any, clock: Any, run_dir: Path) -> None:
    result = train(timed(tiny, checkpoint_every_s=40.0), run_dir, spy, train_limit_s=100.0)
    assert [step for step, _, _ in spy.evaluations] == [30, 60, 90, 100]
    # Checkpoints at 40, 80 and, at the end, 100.
    assert (result.step, result.elapsed_s) == (100, 100 + 4 * EVALUATION_S + 3 * CHECKPOINT_S)
    rows = read_table(run_dir / "evaluations.csv")
    assert [float(row["train_s"]) for row in rows] == [30, 60, 90, 100]
    assert float(rows[1]["elapsed_s"]) == 60 + 2 * EVALUATION_S + CHECKPOINT_S
    episodes = read_table(run_dir / "episodes.csv")
    assert [(row["step"], float(row["train_s"])) for row in episodes][:2] == [("25", 24.0), ("50", 49.0)]


def test_the_clock_goes_on_where_it_was(tiny: Tiny, spy: Any, clock: Any, same_runs: Any, tmp_path: Path) -> None:
    settings = timed(tiny)
    train(settings, tmp_path / "whole", spy, train_limit_s=130.0)
    spy.at = {step: lambda step=step: setattr(clock, "step", step) for step in range(1, 400)}
    spy.evaluations.clear()
    clock.step = 0
    assert train(settings, tmp_path / "broken", spy, train_limit_s=70.0).step == 70
    assert resume(tmp_path / "broken", spy, train_limit_s=70.0).step == 70  # nothing is left of this budget
    assert resume(tmp_path / "broken", spy, train_limit_s=130.0).step == 130
    assert [step for step, _, _ in spy.evaluations] == [30, 60, 70, 90, 120, 130]
    same_runs(tmp_path / "whole", tmp_path / "broken", skip=(70,))


def test_a_machine_that_stands_still_is_not_training(
    tiny: Tiny, spy: Any, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps by 100 s at step 20 without work, and by 50 s at step 40 with 30 s of work."""
    wall = {"now": 0.0, "cpu": 0.0}
    fake = SimpleNamespace(perf_counter=lambda: wall["now"], process_time=lambda: wall["cpu"])
    monkeypatch.setattr(training, "time", fake)
    monkeypatch.setattr(stalls, "time", fake)

    def go(step: int) -> None:
        passed = {20: 100.0, 40: 50.0}.get(step, 1.0)
        wall["now"] += passed
        wall["cpu"] += {20: 0.5, 40: 30.0}.get(step, 1.0)

    spy.at = {step: lambda step=step: go(step) for step in range(1, 61)}
    train(tiny(total_steps=60, evaluate_every=0), run_dir, spy)
    extra = CheckpointStore(run_dir / "checkpoints").latest()["extra"]
    assert extra["stalled_s"] == 99.5
    assert extra["train_s"] == 58 + 0.5 + 50
    assert extra["elapsed_s"] == 58 + 100 + 50


@pytest.mark.parametrize("name", ["evaluate_every_s", "checkpoint_every_s"])
def test_negative_spacing(name: str) -> None:
    with pytest.raises(CadenzaError, match=f"{name} must not be negative"):
        RunSettings(agent="sac", env_id="Pendulum-v1", **{name: -1.0})  # type: ignore[arg-type]


# ------------------------------------------------------------------ VecNormalize


def test_a_normalised_policy_is_complete(tiny: Tiny, run_dir: Path, tmp_path: Path) -> None:
    """Evaluated, saved as the best, stored as the last and exported, it acts through its statistics."""
    settings = tiny("ppo", total_steps=256, evaluate_every=256, normalize=True)
    assert train(settings, run_dir).step == 256
    returns = {}
    env = make_env(settings.env_id, **settings.env_kwargs)
    for which in ("best", "last"):
        policy = open_policy(run_dir, which)  # type: ignore[arg-type]
        assert policy.model is not None
        normalizer = policy.model.get_vec_normalize_env()
        assert normalizer is not None
        assert normalizer.obs_rms.count > 200  # every step's observation, and not the opened environment's
        assert np.ptp(normalizer.obs_rms.var) > 0
        returns[which] = evaluate(policy.act, env, episodes=1, seed=EVALUATION_SEED).returns
        scaled, _ = policy.model.predict(normalizer.normalize_obs(np.float32([0.5, -0.5, 3.0])), deterministic=True)
        assert policy.act(np.float32([0.5, -0.5, 3.0])) == pytest.approx(scaled)
        raw, _ = policy.model.predict(np.float32([0.5, -0.5, 3.0]), deterministic=True)
        assert policy.act(np.float32([0.5, -0.5, 3.0])) != pytest.approx(raw)
    assert returns["best"] == returns["last"]
    assert float(read_table(run_dir / "evaluations.csv")[-1]["return_mean"]) == returns["last"][0]

    export_bundle(policy.model, tmp_path / "bundle", env_id="Pendulum-v1", env_kwargs={}, agent="ppo")
    observation = np.float32([0.5, -0.5, 3.0])
    assert PolicyBundle.load(tmp_path / "bundle").act(observation) == pytest.approx(policy.act(observation), abs=1e-5)


def test_normalising_is_for_ppo() -> None:
    with pytest.raises(CadenzaError, match="normalize is for ppo"):
        train(RunSettings(agent="sac", env_id="Pendulum-v1", normalize=True), "runs/never")


def test_statistics_without_a_normaliser_are_refused(tiny: Tiny, run_dir: Path) -> None:
    train(tiny("ppo", total_steps=64, evaluate_every=0, normalize=True), run_dir)
    text = (run_dir / "config.json").read_text()
    (run_dir / "config.json").write_text(text.replace('"normalize": true', '"normalize": false'))
    with pytest.raises(CadenzaError, match="disagree on whether observations are normalised"):
        open_policy(run_dir, "last")

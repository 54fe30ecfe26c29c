"""Runs on tasks with goals: hindsight replay by itself, and stopped and resumed to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm

from cadenza.agents.runs.evaluation import evaluate
from cadenza.agents.runs.policies import act_on, open_policy
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import resume, train
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env
from cadenza.robots.menagerie import is_fetched

Same = Callable[..., None]
Tiny = Callable[..., RunSettings]
EPISODE = {"episode_steps": 12, "physics_dt_s": 0.005}
pytestmark = pytest.mark.skipif(not is_fetched("franka_emika_panda"), reason="make robots")


def reach(tiny: Tiny, agent: str = "sac", **settings: Any) -> RunSettings:
    """A short run."""
    return tiny(agent=agent, env_id="cadenza/PandaReach-v0", env_kwargs=EPISODE, **settings)


@pytest.mark.parametrize(
    "case",
    [{}, {"overrides": {"buffer_size": 70}}, {"n_envs": 2}, {"n_envs": 2, "overrides": {"buffer_size": 90}}],
    ids=["one", "the ring wraps", "two environments", "two and the ring wraps"],
)
def test_interrupted_and_resumed(
    case: dict[str, Any], tiny: Tiny, interrupt_at: Any, models: list[BaseAlgorithm], same_runs: Same, same_live: Same,
    tmp_path: Path,
) -> None:  # fmt: skip
    settings = reach(tiny, total_steps=170, **case)
    train(settings, tmp_path / "whole")
    assert train(settings, tmp_path / "broken", interrupt_at(40)).interrupted
    assert resume(tmp_path / "broken", interrupt_at(125)).interrupted
    assert not resume(tmp_path / "broken").interrupted
    assert isinstance(models[0].replay_buffer, HerReplayBuffer)
    same_runs(tmp_path / "whole", tmp_path / "broken")
    same_live(models[0], models[-1], tmp_path / "whole")
    for name in ("ep_start", "ep_length", "_current_ep_start"):
        whole, broken = (getattr(model.replay_buffer, name) for model in (models[0], models[-1]))
        np.testing.assert_array_equal(whole, broken, err_msg=name)


def test_a_run_is_evaluated_by_its_successes(tiny: Tiny, tmp_path: Path) -> None:
    train(reach(tiny, total_steps=60), tmp_path / "run")
    head = (tmp_path / "run" / "evaluations.csv").read_text().splitlines()[0]
    assert "success" in head.split(",")
    policy = open_policy(tmp_path / "run")
    env = make_env(policy.env_id, pictures=False, **policy.env_kwargs)
    result = evaluate(act_on(policy, env), env, episodes=2, seed=0)
    assert result.measures["success"] in (0.0, 0.5, 1.0)


@pytest.mark.parametrize("agent", ["ppo", "symphony"])
def test_who_cannot_look_back_says_so(agent: str, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="has goals in its observation") as refused:
        train(reach(tiny, agent), tmp_path / "run")
    assert "sac, td3, tqc" in refused.value.advice
    assert not (tmp_path / "run").exists()

"""Runs on an environment that shows its critics more than its actor: resumed, opened again, exported, evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from cadenza.agents.card import ship_policy
from cadenza.agents.runs.evaluation import evaluate
from cadenza.agents.runs.policies import act_on, check_fits, open_policy
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.runs.training import resume, train
from cadenza.controllers.bundle import read_manifest
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env
from cadenza.scripts.evaluate import main

Tiny = Callable[..., RunSettings]


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        ("symphony", {}),
        pytest.param("symphony", {"n_envs": 2}, marks=pytest.mark.slow),
        ("sac", {}),
        ("ppo", {"total_steps": 256, "normalize": True}),
        pytest.param("td3", {}, marks=pytest.mark.slow),
        pytest.param("tqc", {}, marks=pytest.mark.slow),
    ],
)
def test_interrupted_and_resumed_to_the_same_bits(
    agent: str, settings: dict[str, Any], partly_seen: str, tiny: Tiny, interrupt_at: Any, models: list[BaseAlgorithm],
    same_runs: Callable[..., None], same_live: Callable[..., None], tmp_path: Path,
) -> None:  # fmt: skip
    chosen = tiny(agent, partly_seen, **{"total_steps": 150, **settings})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(chosen, whole)
    assert models[0].policy.actor_observation_size == 4
    assert train(chosen, broken, interrupt_at(80)).interrupted
    assert not resume(broken).interrupted
    same_runs(whole, broken)
    same_live(models[0], models[-1], whole)


@pytest.mark.parametrize("agent", ["symphony", "ppo"])
def test_a_run_its_bundle_and_its_card_agree(agent: str, partly_seen: str, tiny: Tiny, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "bundle"
    train(tiny(agent, partly_seen), run)
    report = ship_policy(run, folder, episodes=2)
    assert read_manifest(folder).observation_shape == (4,)
    results = []
    for source in (run, folder):
        env = make_env(partly_seen)
        policy = open_policy(source)
        check_fits(policy, env, partly_seen)
        results.append(evaluate(act_on(policy, env), env, episodes=2, seed=0))
        env.close()
    np.testing.assert_allclose(results[0].returns, results[1].returns, rtol=1e-4)
    np.testing.assert_allclose(report.card["evaluation"]["returns"], results[1].returns, rtol=1e-9)
    figures = tmp_path / "figures.json"
    assert main([str(folder), "--episodes", "2", "--json", str(figures)]) == 0
    np.testing.assert_allclose(json.loads(figures.read_text())["returns"], results[1].returns, rtol=1e-9)


def test_another_part_of_the_observation_is_refused(partly_seen: str, tiny: Tiny, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny("symphony", partly_seen, env_kwargs={"seen": 3}, total_steps=70), run)
    policy = open_policy(run)
    other = make_env(partly_seen)
    with pytest.raises(CadenzaError, match=r"sees 3 of 7 entries of the observation; that of .* sees 4"):
        check_fits(policy, other, partly_seen)


def test_a_run_whose_environment_has_learned_to_hide_something_is_not_resumed(
    partly_seen: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old run of an environment that shows all goes on as long as the environment does so."""
    import gymnasium as gym

    run = tmp_path / "run"
    kind = gym.spec(partly_seen).kwargs
    kind["seen"] = "absent"
    train(tiny("symphony", partly_seen, total_steps=70), run)
    assert resume(run, total_steps=80).step == 80
    weights = torch.load(run / "best" / "policy.pt", weights_only=True)
    assert weights["actor.net.weight1"].shape[1] == 7
    kind["seen"] = 4
    with pytest.raises(CadenzaError, match="does not fit"):
        resume(run, total_steps=90)

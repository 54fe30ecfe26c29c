"""Storing MultiCriticPPO, going on with it, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.slim import MultiCriticPPO
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError

Points = Callable[..., DummyVecEnv]
SMALL: dict[str, Any] = {
    "n_steps": 16,
    "batch_size": 32,
    "n_epochs": 2,
    "seed": 1,
    "device": "cpu",
    "policy_kwargs": {"net_arch": [16, 16]},
}


def build(env: Any, **settings: Any) -> MultiCriticPPO:
    return MultiCriticPPO("MlpPolicy", env, **{**SMALL, **settings})


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------ storing


@pytest.mark.parametrize(
    "settings",
    [{}, {"critics": "summed_scaled"}, {"normalize_advantage": "running"}],
    ids=["per_group", "summed_scaled", "running"],
)
def test_save_load_and_go_on_as_if_nothing_had_been(settings: dict[str, Any], points: Points, tmp_path: Path) -> None:
    settings = {"normalize_observations": True, "desired_kl": 0.01, **settings}
    model = build(points(), **settings).learn(3 * 64)
    model.save(tmp_path / "agent")
    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    alone = MultiCriticPPO.load(tmp_path / "agent", device="cpu")
    assert np.array_equal(*(one.predict(obs, deterministic=True)[0] for one in (model, alone)))
    loaded = MultiCriticPPO.load(tmp_path / "agent", env=points(), device="cpu")
    assert loaded.adaptive_rate == model.adaptive_rate
    model.set_env(points())
    for one in (model, loaded):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002 - Stable-Baselines3's buffers draw from it
        one.env.seed(5)
        one.learn(3 * 64, reset_num_timesteps=False)
    assert same(model.policy.state_dict(), loaded.policy.state_dict())
    assert model.num_timesteps == loaded.num_timesteps == 6 * 64


def test_a_checkpoint_continues_bit_for_bit(points: Points, tmp_path: Path) -> None:
    settings = {"normalize_observations": True, "desired_kl": 0.01}
    whole = build(points(), **settings).learn(3 * 64)
    (tmp_path / "checkpoints").mkdir()
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(whole, {})
    whole.learn(3 * 64, reset_num_timesteps=False)
    resumed = build(points(), **{**settings, "seed": 99})
    fresh = CheckpointStore(tmp_path / "checkpoints")
    fresh.restore(fresh.latest(), resumed, "cpu")
    resumed.learn(3 * 64, reset_num_timesteps=False)
    assert same(whole.policy.state_dict(), resumed.policy.state_dict())


def test_two_runs_of_one_seed_are_equal(points: Points) -> None:
    a, b = (build(points()).learn(128) for _ in range(2))
    assert same(a.policy.state_dict(), b.policy.state_dict())
    assert not same(a.policy.state_dict(), build(points(), seed=2).learn(128).policy.state_dict())


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"reward_weights": {"hom": 1.0}}, UnknownNameError, "no reward group named 'hom'"),
        ({"reward_weights": {"home": 0.5, "calm": 0.6}}, CadenzaError, "sum to 1.1, not to 1"),
        ({"gamma": {"clam": 0.9}}, UnknownNameError, "no reward group named 'clam'"),
        ({"gamma": {"calm": 0.9}, "reward_weights": {"home": 1.0}}, CadenzaError, "a discount and no weight"),
        ({"gamma": {"calm": 0.9}, "critics": "summed"}, CadenzaError, "One critic has one gamma"),
        ({"reward_weights": [0.5, 0.5]}, CadenzaError, "names with numbers"),
        ({"gamma": 1.5}, CadenzaError, "between 0 and 1"),
        ({"clip_mode": "sum"}, UnknownNameError, "no clip mode named 'sum'"),
        ({"critics": "one"}, UnknownNameError, "no way of using critics"),
        ({"normalize_advantage": "batch"}, UnknownNameError, "no normalisation of advantages"),
        ({"clip_gradients": "all"}, UnknownNameError, "no way of clipping gradients"),
        ({"desired_kl": 0.0}, CadenzaError, "above 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], error: type, message: str, points: Points) -> None:
    with pytest.raises(error, match=message):
        build(points(), **settings)


def test_an_environment_with_other_groups_is_refused(points: Points, tmp_path: Path) -> None:
    model = build(points())
    model.save(tmp_path / "agent")
    other = points(groups=("home", "noise"))
    with pytest.raises(CadenzaError, match=r"made for the reward groups .*'calm'.*has .*'noise'"):
        model.set_env(other)
    with pytest.raises(CadenzaError, match="made for the reward groups"):
        MultiCriticPPO.load(tmp_path / "agent", env=other, device="cpu")


def test_an_actor_that_may_not_see_all_is_refused(partly_seen: str) -> None:
    with pytest.raises(CadenzaError, match="for critics only"):
        build(gym.make(partly_seen))

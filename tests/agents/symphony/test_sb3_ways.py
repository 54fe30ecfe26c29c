"""What users of Stable-Baselines3 do beside learning: policies alone, schedules, wrappers of their own, early stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from cadenza.agents import Symphony
from cadenza.agents.symphony.presets import resolve_config

TINY = {
    "hidden_size": 16,
    "critic_nodes": 4,
    "batch_size": 16,
    "buffer_size": 500,
    "learning_starts": 20,
    "seed": 0,
    "device": "cpu",
}


class Counting(gym.Env):
    """Observes how many steps its episode has had."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return np.full(1, self.count, np.float32), 1.0, False, False, {}


class StopAt(BaseCallback):
    """Ends learning at a step, or with an exception there."""

    def __init__(self, step: int, error: type[BaseException] | None = None):
        super().__init__()
        self.step, self.error = step, error

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step and self.error is not None:
            raise self.error
        return self.num_timesteps < self.step


def limited(steps: int = 30) -> gym.Env:
    return gym.wrappers.TimeLimit(Counting(), steps)


def test_a_policy_is_saved_and_loaded_alone(tmp_path: Path) -> None:
    model = Symphony("MlpPolicy", "Pendulum-v1", **TINY)
    model.policy.save(str(tmp_path / "policy"))
    loaded = type(model.policy).load(str(tmp_path / "policy"))
    observation = np.array([0.1, -0.4, 2.0], np.float32)
    theirs, ours = (one.predict(observation, deterministic=True)[0] for one in (loaded, model))
    assert np.array_equal(theirs, ours)


def test_a_schedule_that_a_file_cannot_keep_is_told(tmp_path: Path) -> None:
    model = Symphony("MlpPolicy", "Pendulum-v1", learning_rate=lambda left: 1e-3 * left, **TINY).learn(100)
    model.save(tmp_path / "agent")
    with pytest.warns(UserWarning, match="learning_rate=the schedule"):
        Symphony.load(tmp_path / "agent")
    loaded = Symphony.load(tmp_path / "agent", learning_rate=lambda left: 5e-4 * left, env=gym.make("Pendulum-v1"))
    loaded.learn(100, reset_num_timesteps=False)
    assert loaded.policy.optimizer.param_groups[0]["lr"] < 1e-5


def test_deliberate_fall_under_a_time_limit_put_on_by_hand() -> None:
    model = Symphony("MlpPolicy", limited(), deliberate_fall_steps=5, **TINY).learn(1)
    assert model._time_limits.tolist() == [30.0]
    assert Symphony("MlpPolicy", Counting(), **TINY).learn(1)._time_limits.tolist() == [np.inf]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_no_transition_leads_over_an_early_stop(overlap: bool, error: type[BaseException] | None) -> None:
    model = Symphony("MlpPolicy", limited(), overlap=overlap, **TINY)
    try:
        model.learn(1000, callback=StopAt(47, error))
    except KeyboardInterrupt:
        assert error is not None
    model.learn(100, reset_num_timesteps=False)
    batch = model.replay_buffer.sample_batch(2_000)
    steps = (batch.next_observations - batch.observations)[:, 0]
    assert torch.equal(steps, torch.ones_like(steps))


def test_settings_below_zero_are_refused() -> None:
    for name in ("learning_rate_end", "deliberate_fall_steps", "smoothness_weight", "normalize_until"):
        with pytest.raises(ValueError, match=f"{name} must not be below 0"):
            resolve_config("cpu", {name: -1})
    with pytest.raises(ValueError, match="lost beside 1"):
        resolve_config("cpu", {"clamp_epsilon": 1e-8})


def test_saya_survives_a_saturated_scale() -> None:
    """Its bound 1 - 1e-8 is 1 in float32, where the swaddling loss is infinite."""
    model = Symphony("MlpPolicy", "Pendulum-v1", preset="saya", **TINY).learn(25)
    with torch.no_grad():
        model.policy.actor.net.bias3[0, 1:] = 40.0
        model.policy.actor.net.weight3.zero_()
    model.train(1, 16)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())

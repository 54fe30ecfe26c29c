"""A point that should go to a place and not hurry, with two groups of reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cadenza.envs.reward_groups import scalar_reward


class Errand(gym.Env):
    """A point on the square [-1, 1]^2 that is moved by up to 0.2 a step; it should be at (0.6, -0.3).

    Group ``near``: 1 - tanh 2|x - goal|, times ``near_scale``. Group ``calm``: -|a|^2 times ``calm_scale``, or the
    constant ``calm``. With ``cliff`` an episode terminates where x > cliff. ``scalar``: the reward is the group of that
    name alone. All rewards are multiples of 1/1024, so that float32 adds them exactly.
    """

    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    reward_groups = ("near", "calm")

    def __init__(
        self,
        near_scale: float = 1.0,
        calm_scale: float = 1.0,
        calm: float | None = None,
        cliff: float = np.inf,
        scalar: str | None = None,
    ):
        self.near_scale, self.calm_scale, self.calm, self.cliff = near_scale, calm_scale, calm, cliff
        self.scalar = scalar
        self.place = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1.0, 1.0, 2)
        return self.place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + 0.2 * np.asarray(action, dtype=np.float64), -1.0, 1.0)
        near = 1 - np.tanh(2 * np.linalg.norm(self.place - (0.6, -0.3)))
        calm = -float(np.square(action).sum())
        vector = np.round(1024 * np.array([near, calm])) / 1024 * (self.near_scale, self.calm_scale)
        if self.calm is not None:
            vector[1] = self.calm
        reward = scalar_reward(vector, self.reward_groups, dict.fromkeys(self.reward_groups, 0.5))
        if self.scalar is not None:
            reward = float(vector[self.reward_groups.index(self.scalar)])
        info = {"reward_vector": vector}
        return self.place.astype(np.float32), reward, bool(self.place[0] > self.cliff), False, info


@pytest.fixture
def errand() -> Iterator[str]:
    """Id of an environment with the groups near and calm; its episodes have 20 steps."""
    env_id = "CadenzaTestErrand-v0"
    gym.register(env_id, entry_point=Errand, max_episode_steps=20)
    yield env_id
    del gym.registry[env_id]

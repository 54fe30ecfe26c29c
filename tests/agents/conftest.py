"""A small environment that shows its critics more than its actor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest


class PartlySeen(gym.Env):
    """A mass on a plane in the wind: its place and speed are measured, wind and drag are not. Action: a push."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (7,), np.float32)
    action_space = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)

    def __init__(self, seen: Any = 4):
        if seen != "absent":
            self.actor_observation_size = seen
        self.measured, self.wind, self.drag = np.zeros(4), np.zeros(2), 0.0

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.measured, self.wind, [self.drag]]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.measured, self.wind = self.np_random.normal(size=4), self.np_random.normal(size=2)
        self.drag = float(self.np_random.uniform(0.1, 1.0))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        place, speed = self.measured[:2], self.measured[2:]
        speed = speed + 0.1 * (np.asarray(action) + self.wind - self.drag * speed)
        self.measured = np.concatenate([place + 0.1 * speed, speed])
        self.wind = 0.9 * self.wind + 0.3 * self.np_random.normal(size=2)
        reward = 1.0 - float(np.tanh(np.linalg.norm(place)))
        return self._observation(), reward, bool(np.linalg.norm(place) > 8), False, {}


@pytest.fixture
def partly_seen() -> Iterator[str]:
    """Id of an environment whose actor may see 4 of 7 entries; ``seen=N`` changes that, ``"absent"`` leaves it out."""
    env_id = "CadenzaTestPartlySeen-v0"
    gym.register(env_id, entry_point=PartlySeen, max_episode_steps=20)
    yield env_id
    del gym.registry[env_id]

"""A point that is pushed about a square, with two groups of reward, and the shape of a run that a test can afford."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.slim.skills import SkillPrior
from cadenza.envs.reward_groups import ObjectEntries, scalar_reward


class PointMass(gym.Env):
    """A point on the square [-1, 1]^2 that is moved by up to ``speed`` a step.

    Group ``home``: ``home_scale`` (1 - tanh 3|x|), a pull to where it starts. Group ``calm``: -|a|^2, or a constant.
    With ``cliff`` an episode terminates where x > cliff.
    """

    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    object_entries = ObjectEntries(position=(0, 1), center=(0.0, 0.0), half_extent=(1.0, 1.0))

    def __init__(
        self,
        speed: float = 0.1,
        home_scale: float = 1.0,
        cliff: float = np.inf,
        calm: float | None = None,
        groups: tuple[str, ...] = ("home", "calm"),
    ):
        self.reward_groups = groups
        self.speed, self.home_scale, self.cliff, self.calm = speed, home_scale, cliff, calm
        self.place = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.05, 0.05, 2)
        return self.place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + self.speed * np.asarray(action, dtype=np.float64), -1.0, 1.0)
        home = self.home_scale * (1 - np.tanh(3 * np.linalg.norm(self.place)))
        calm = -float(np.square(action).sum()) if self.calm is None else self.calm
        vector = np.array([home, calm])
        reward = scalar_reward(vector, self.reward_groups, dict.fromkeys(self.reward_groups, 0.5))
        return self.place.astype(np.float32), reward, bool(self.place[0] > self.cliff), False, {"reward_vector": vector}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def points() -> Callable[..., DummyVecEnv]:
    """``points(n, steps=20, **kwargs)``: n copies of the point mass with a time limit."""

    def make(count: int = 4, steps: int = 20, **kwargs: Any) -> DummyVecEnv:
        return DummyVecEnv([lambda: gym.wrappers.TimeLimit(PointMass(**kwargs), steps)] * count)

    return make


@pytest.fixture(scope="session")
def puck() -> Any:
    """The module ``puck.py`` beside this file: a small table top."""
    spec = importlib.util.spec_from_file_location("cadenza_test_puck", Path(__file__).with_name("puck.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def puck_id(puck: Any) -> Iterator[str]:
    """An id under which the puck is registered for one test, with episodes of 25 steps."""
    env_id = "CadenzaTestPuck-v0"
    gym.register(env_id, entry_point=puck.Puck, max_episode_steps=25)
    yield env_id
    del gym.registry[env_id]


class Pusher:
    """Stands in for an agent: the point moves along z, whatever it sees."""

    def __init__(self) -> None:
        self.prior = SkillPrior("circle", 2)

    def act(self, observations: NDArray[Any], z: Any, deterministic: bool = True) -> NDArray[np.float32]:
        skills = np.broadcast_to(np.asarray(z, dtype=np.float32), (len(observations), 2))
        return np.concatenate([skills, np.zeros((len(observations), 5), np.float32)], 1)


@pytest.fixture
def pusher() -> Any:
    return Pusher()


@pytest.fixture
def small() -> dict[str, Any]:
    """Settings of SLIM for a test: tiny networks and rollouts."""
    return {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "hidden": [16], "phi_hidden": [16], "phi_epochs": 1}

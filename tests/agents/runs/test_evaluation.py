"""Figures of an evaluation, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cadenza.agents.runs.evaluation import evaluate, summarize
from cadenza.envs.registration import make_env


class Staircase(gym.Env):
    """Episode with reset seed s lasts s steps, each with reward 2 and x_velocity s; even s fall, odd s time out."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.seed, self.left = seed, seed
        return np.zeros(1), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        over, falls = self.left == 0, self.seed % 2 == 0
        info = {"x_velocity": float(self.seed), "healthy": True, "label": "text", "terms": {"a": 1.0}, "n": np.int64(3)}
        return np.zeros(1), 2.0, over and falls, over and not falls, info


def still(observation: Any) -> Any:
    return np.zeros(1, np.float32)


def test_by_hand() -> None:
    """Seeds 1, 2, 3: returns 2, 4, 6 and lengths 1, 2, 3; the mean velocity over the six steps is (1+2*2+3*3)/6."""
    told: list[tuple[int, float]] = []
    result = evaluate(still, Staircase(), episodes=3, seed=1, progress=lambda i, r: told.append((i, r)))
    assert result.returns == [2.0, 4.0, 6.0]
    assert result.lengths == [1, 2, 3]
    assert (result.n, result.return_mean, result.return_std, result.length_mean) == (3, 4.0, 2.0, 2.0)
    half = 4.303 * 2.0 / math.sqrt(3)  # Student's t, 2 degrees of freedom
    assert result.return_ci95 is not None
    assert result.return_ci95 == pytest.approx((4 - half, 4 + half))
    assert result.survived == 2  # the episodes of seeds 1 and 3
    assert result.forward_velocity_mean == pytest.approx(14 / 6)
    assert result.measures == pytest.approx({"x_velocity": 14 / 6, "n": 3.0})
    assert told == [(0, 2.0), (1, 4.0), (2, 6.0)]


@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (11, 2.228), (31, 2.042), (32, 2.0395), (50, 2.0096), (400, 1.9659)])
def test_quantile(n: int, t: float) -> None:
    result = summarize([float(i) for i in range(n)], [1] * n, 0, {})
    assert result.return_ci95 is not None
    half = (result.return_ci95[1] - result.return_ci95[0]) / 2
    assert half == pytest.approx(t * result.return_std / math.sqrt(n), rel=1e-4)
    assert result.return_mean == pytest.approx((n - 1) / 2)
    assert result.forward_velocity_mean is None


def test_one_episode_has_no_interval() -> None:
    result = evaluate(still, Staircase(), episodes=1, seed=2)
    assert (result.return_mean, result.return_std, result.survived) == (4.0, 0.0, 0)
    assert result.return_ci95 is None
    json.dumps(result.to_dict(), allow_nan=False)  # it goes into files that other languages read


def test_same_seed_same_figures() -> None:
    env = make_env("Hopper-v5", max_episode_steps=40)
    results = [evaluate(lambda _: np.full(3, 0.3), env, episodes=3, seed=seed) for seed in (5, 5, 6)]
    assert results[0] == results[1]
    # Episode i is reset with seed + i, so that any of them can be repeated alone.
    assert results[2].returns[:2] == results[0].returns[1:]
    assert results[0].returns[0] != results[0].returns[1]

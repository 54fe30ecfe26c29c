"""A single environment as the policy of skills sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cadenza.agents.slim import SLIM
from cadenza.envs.errors import CadenzaError


@pytest.fixture
def model(puck: Any, small: dict[str, Any]) -> SLIM:
    return SLIM("MlpPolicy", puck.PuckVecEnv(2), seed=0, device="cpu", **small)


def rollout(env: Any, model: SLIM, seed: int, steps: int = 20, **options: Any) -> list[Any]:
    observation, _ = env.reset(seed=seed, options=options or None)
    seen = [observation]
    for _ in range(steps):
        observation, reward, _, _, info = env.step(model.predict(observation, deterministic=True)[0])
        seen += [observation, reward, info["reward_vector"]]
    return seen


def test_a_seed_repeats_episode_and_skill(model: SLIM, puck: Any) -> None:
    env = model.stage(puck.Puck())
    first, again, other = (rollout(env, model, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0][-2:], other[0][-2:])
    assert env.observation_space.contains(first[0])


def test_the_skill_is_held_and_can_be_chosen(model: SLIM, puck: Any) -> None:
    env = model.stage(puck.Puck())
    env.choose((0.6, 0.8))
    for seen in (rollout(env, model, 0), rollout(env, model, 1)):
        assert all(np.allclose(observation[-2:], (0.6, 0.8)) for observation in (seen[0], *seen[1::3]))
    seen = rollout(env, model, 1, skill=(0.0, 1.0))
    assert np.allclose(seen[0][-2:], (0.0, 1.0))
    with pytest.raises(CadenzaError, match="2 entries"):
        env.choose((1.0, 0.0, 0.0))


def test_the_reward_is_the_agents_weighted_sum(model: SLIM, puck: Any) -> None:
    """Groups in the environment's order, then diversity; the same numbers as in training."""
    weights = model.config.weights
    seen = rollout(model.stage(puck.Puck()), model, 0)
    for reward, vector in zip(seen[2::3], seen[3::3], strict=True):
        expected = weights["reach"] * vector[0] + weights["safety"] * vector[1] + weights["diversity"] * vector[2]
        assert reward == pytest.approx(expected)
    assert any(vector[0] != 0 for vector in seen[3::3])


def test_what_the_episodes_said(model: SLIM, puck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two episodes: one pushes east, one stands against the western border."""
    from gymnasium.wrappers import TimeLimit

    env = model.stage(TimeLimit(puck.Puck(), 12))
    for east, y in ((1.0, 0.0), (-1.0, 0.0)):
        env.reset(seed=0, options={"object": (0.4, y, 0.0)})
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(np.array([east, 0, 0, 0, 0, 0, 0], np.float32))
            over = terminated or truncated
    found = env.columns()
    # East: 12 steps of 4 cm from 15 cm before the puck, which gives way at 5 cm: 48 - 15 + 5 = 38 cm.
    assert found["displacement_mean_m"] == pytest.approx(0.38 / 2)
    assert found["cells"] == 1
    assert found["unsafe_steps_per_1000"] == pytest.approx(1000 * 11 / 24)
    assert info["object_displacement_m"] == 0.0

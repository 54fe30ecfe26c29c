"""Multi-critic Symphony beside the weighted sum, as ``cadenza bench critics`` compares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.slim.skills import SkillConditioned, SkillPrior
from cadenza.agents.symphony.comparison import DiversityLearner, Plan, compare, group_rewards
from cadenza.envs.errors import CadenzaError
from cadenza.envs.reward_groups import ObjectEntries
from cadenza.scripts.main import run

SMALL = {"hidden_size": 24, "critic_nodes": 8, "batch_size": 32, "buffer_size": 400, "learning_starts": 40}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Still:
    """Never moves."""

    def predict(self, observations: np.ndarray, deterministic: bool) -> tuple[np.ndarray, None]:
        assert deterministic
        return np.zeros((len(observations), 2), np.float32), None


def test_groups_are_counted_per_noise_free_step(errand: str) -> None:
    env = DummyVecEnv([lambda: gym.make(errand)])
    model: Any = Still()
    found = group_rewards(model, env, 3)
    assert found["calm"] == 0.0
    assert found["episode_steps"] == 20.0
    env.seed(10_000)
    places = [env.reset()[0] for _ in range(3)]
    expected = np.mean([1 - np.tanh(2 * np.linalg.norm(place - (0.6, -0.3))) for place in places])
    assert found["near"] == pytest.approx(expected, abs=1e-3)
    assert group_rewards(model, env, 3) == found  # the same starts again


def test_rows_for_each_way_and_seed(errand: str) -> None:
    told: list[dict[str, Any]] = []
    ways = ("per_group", "summed", "summed_scaled")
    weights = {"near": 0.75, "calm": 0.25}
    plan = Plan(errand, weights, ways, steps=60, seeds=(0, 1), episodes=2, overrides=SMALL)
    rows = compare(plan, told.append)
    assert rows == told
    assert [(row["critics"], row["seed"]) for row in rows] == [(way, seed) for seed in (0, 1) for way in ways]
    assert all(row["weights"] == weights and row["calm"] <= 0 < row["near"] for row in rows)
    json.dumps(rows)


def test_skills_add_a_group_whose_objective_learns(errand: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    once = DiversityLearner._on_rollout_end

    def spied(self: DiversityLearner) -> None:
        if self._every != 50:
            self._every = self._next = 50
        before = [p.clone() for p in self._objective.parameters()]
        once(self)
        taken.append(any(not torch.equal(p, q) for p, q in zip(before, self._objective.parameters(), strict=True)))

    monkeypatch.setattr(DiversityLearner, "_on_rollout_end", spied)
    entries = ObjectEntries(position=(0, 1), center=(0.0, 0.0), half_extent=(1.0, 1.0))
    monkeypatch.setattr(gym.spec(errand).entry_point, "object_entries", entries, raising=False)
    (row,) = compare(Plan(errand, None, ("per_group",), steps=130, skills=True, episodes=2, overrides=SMALL))
    assert set(row["weights"]) == {"near", "calm", "diversity"}
    assert sum(taken) == 2
    assert np.isfinite(row["diversity"])


def test_the_learner_of_skills_leaves_no_steps_behind(errand: str) -> None:
    env = SkillConditioned(DummyVecEnv([lambda: gym.make(errand)]), SkillPrior(), "full_state")
    seen = []

    class Objective:
        def update(self, transitions: Any) -> None:
            seen.append(len(transitions.before))

    learner = DiversityLearner(env, Objective(), every=4)
    env.reset()
    for _ in range(10):
        env.step(np.zeros((1, 2), np.float32))
        learner.num_timesteps += 1
        learner._on_rollout_end()
    assert seen == [4, 4]


def test_the_command(errand: str, tmp_path: Path) -> None:
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    figures = tmp_path / "critics.json"
    assert run(["bench", "critics", errand, "--steps", "60", "--episodes", "1", "--weights",
                 '{"near": 0.5, "calm": 0.5}', "--json", str(figures), "--set", *settings]) == 0  # fmt: skip
    record = json.loads(figures.read_text())
    assert set(record["means"]) == {"per_group", "summed"}
    assert record["means"]["summed"]["near"] == record["rows"][1]["near"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"ways": ("both",)}, "way of using critics named 'both'"),
        ({"steps": 0}, "at least one"),
        ({"env_id": "Pendulum-v1"}, "declares no reward groups"),
        ({"weights": {"near": 0.5}}, "sum to 0.5"),
        ({"overrides": {"hiden_size": 3}}, "hiden_size"),
    ],
)
def test_bad_plans_are_refused(plan: dict[str, Any], message: str, errand: str) -> None:
    with pytest.raises(CadenzaError, match=message):
        compare(Plan(**{"env_id": errand, "steps": 10, **plan}))

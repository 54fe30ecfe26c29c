"""The features of goal-conditioned observations: their moments, and how learners carry them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from cadenza.agents.goal_features import GoalFeatures, takes
from cadenza.agents.runs.catalogue import build_model
from cadenza.agents.runs.settings import RunSettings
from cadenza.envs.registration import make_vec_env

SPACE = spaces.Dict(
    {
        "observation": spaces.Box(-np.inf, np.inf, (4,)),
        "achieved_goal": spaces.Box(-np.inf, np.inf, (3,)),
        "desired_goal": spaces.Box(-np.inf, np.inf, (3,)),
    }
)


def observations(count: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    return {
        name: 0.01 * torch.randn(count, space.shape[0], generator=random, dtype=torch.float64) + index
        for index, (name, space) in enumerate(SPACE.items())
        if space.shape is not None
    }


def test_features_have_mean_0_and_deviation_1_over_all_batches() -> None:
    features, seen = GoalFeatures(SPACE, limit=100.0).train(), observations(640)
    for start in range(0, 640, 64):
        features({name: part[start : start + 64] for name, part in seen.items()})
    out = features.eval()(seen)
    assert out.shape == (640, features.features_dim) == (640, 10)
    torch.testing.assert_close(out.mean(0), torch.zeros(10), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.std(0), torch.ones(10), atol=0.02, rtol=0)
    missing = seen["desired_goal"] - seen["achieved_goal"]
    correlation = np.corrcoef(out[:, 7].numpy(), missing[:, 0].numpy())[0, 1]
    assert correlation == pytest.approx(1.0, abs=1e-4)


def test_only_learning_moves_the_moments_and_far_values_are_clipped() -> None:
    features, seen = GoalFeatures(SPACE).train(), observations(64)
    features(seen)
    before = {name: value.clone() for name, value in features.state_dict().items()}
    out = features.eval()({name: 1e6 * part for name, part in seen.items()})
    assert float(out.abs().max()) == 5.0
    assert all(torch.equal(value, before[name]) for name, value in features.state_dict().items())


def test_before_anything_was_learned_values_pass_as_they_are() -> None:
    seen = observations(2)
    torch.testing.assert_close(GoalFeatures(SPACE).eval()(seen)[:, :4], seen["observation"].float() / (1 + 1e-4))


def test_pictures_and_other_observations_are_left_to_stable_baselines3() -> None:
    picture = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    for other in (spaces.Dict({**SPACE.spaces, "scene": picture}), SPACE["observation"]):
        assert not takes(other)
        with pytest.raises(ValueError, match="GoalFeatures needs a goal"):
            GoalFeatures(other)


@pytest.mark.parametrize("agent", ["sac", "td3", "tqc"])
def test_learners_of_goals_use_them_and_their_targets_have_the_same_moments(agent: str) -> None:
    envs = make_vec_env("cadenza/PandaReach-v0", 2, episode_steps=10)
    overrides = {"learning_starts": 40, "buffer_size": 400, "batch_size": 16, "train_freq": 1, "gradient_steps": 2}
    settings = RunSettings(agent=agent, env_id="cadenza/PandaReach-v0", seed=0, overrides=overrides)
    model = build_model(settings, envs)
    model.learn(60)
    policy = model.policy
    assert isinstance(policy.critic.features_extractor, GoalFeatures)
    assert isinstance(policy.actor.features_extractor, GoalFeatures)
    online, target = policy.critic.features_extractor, policy.critic_target.features_extractor
    assert float(online.running_count) > 0
    for name, value in online.named_buffers():
        torch.testing.assert_close(dict(target.named_buffers())[name], value)

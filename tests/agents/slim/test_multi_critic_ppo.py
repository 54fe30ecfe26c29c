"""MultiCriticPPO: with one group it is PPO; with more, no group disturbs another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.slim import MultiCriticPPO

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


def parameters(model: Any, but: str = "return_normalizer") -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.policy.state_dict().items() if but not in name}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def actor(model: MultiCriticPPO) -> dict[str, torch.Tensor]:
    names = ("mlp_extractor.policy_net", "action_net", "log_std")
    return {name: tensor for name, tensor in model.policy.state_dict().items() if name.startswith(names)}


# ------------------------------------------------------------------ one group: PPO


class OneGroup(gym.Wrapper):
    """The scalar reward as a vector of one."""

    reward_groups = ("all",)

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, {**info, "reward_vector": [reward]}


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        ("Pendulum-v1", {}),
        ("CartPole-v1", {"ent_coef": 0.01}),
        ("Pendulum-v1", {"clip_range_vf": 0.2, "target_kl": 0.01, "use_sde": True, "sde_sample_freq": 4}),
        ("CartPole-v1", {"normalize_advantage": False, "learning_rate": lambda left: 1e-3 * left}),
    ],
)
def test_with_one_group_it_is_ppo_to_the_last_bit(env_id: str, settings: dict[str, Any]) -> None:
    # 32 does not divide 3 * 16: the last minibatch is a smaller one. 13 steps: time-outs inside a rollout.
    arguments = {**SMALL, **settings}
    learned = []
    for cls, wrap in ((PPO, lambda env: env), (MultiCriticPPO, lambda env: env), (MultiCriticPPO, OneGroup)):
        env = DummyVecEnv([lambda wrap=wrap: wrap(gym.make(env_id, max_episode_steps=7))] * 3)
        model = cls("MlpPolicy", env, **{**arguments, "policy_kwargs": {"net_arch": [16, 16]}})
        first = parameters(model)["action_net.weight"].clone()
        learned.append(parameters(model.learn(4 * 3 * 16)))
        assert not torch.equal(first, learned[-1]["action_net.weight"])
    assert same(learned[0], learned[1])
    assert same(learned[0], learned[2])


def test_a_policy_with_more_critics_starts_with_ppos_actor_and_first_critic(points: Points) -> None:
    plain = PPO("MlpPolicy", points(), **SMALL)
    several = build(points(), normalize_returns=False)
    mine = parameters(several)
    assert all(torch.equal(tensor, mine[name]) for name, tensor in parameters(plain).items())
    first, second = (head.weight for head in several.policy.value_heads())
    assert not torch.equal(first, second)


# ------------------------------------------------------------------ more groups


def collect(model: MultiCriticPPO) -> Any:
    """A rollout in the buffer, not learned from."""
    _, callback = model._setup_learn(0, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model.rollout_buffer


def constant_values(model: MultiCriticPPO, *values: float) -> None:
    for head, value in zip(model.policy.value_heads(), values, strict=True):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, value)


@pytest.mark.parametrize(("cliff", "terminated"), [(np.inf, False), (-np.inf, True)])
def test_time_outs_bootstrap_each_critic_and_terminations_none(cliff: float, terminated: bool, points: Points) -> None:
    """Every episode is one step long; the critics say 10 and -20 of every state."""
    model = build(points(2, steps=1, cliff=cliff), gamma={"home": 0.5, "calm": 0.9}, normalize_returns=False)
    constant_values(model, 10.0, -20.0)
    buffer = collect(model)
    assert buffer.terminated == terminated
    following = np.zeros(2) if terminated else np.array([0.5 * 10, 0.9 * -20])
    np.testing.assert_allclose(buffer.returns, buffer.rewards + following, atol=1e-5)
    assert (buffer.rewards[..., 1] <= 0).all()  # they stay as they came


def test_the_buffer_keeps_the_vector(points: Points) -> None:
    buffer = collect(build(points(3)))
    for name in ("rewards", "values", "returns", "advantages", "bootstraps"):
        assert getattr(buffer, name).shape == (16, 3, 2), name
    batch = next(buffer.get(10))
    assert batch.advantages.shape == batch.returns.shape == batch.old_values.shape == (10, 2)
    assert batch.old_log_prob.shape == (10,)


@pytest.mark.parametrize("clip_mode", ["summed", "per_critic"])
@pytest.mark.parametrize("normalize", ["rollout", "running", "minibatch"])
def test_scaling_one_reward_does_not_change_what_the_actor_learns(
    clip_mode: Any, normalize: Any, points: Points
) -> None:
    """By 1024, a power of two: not a single bit may move. The other critic must not notice either."""
    settings = {"clip_mode": clip_mode, "normalize_advantage": normalize}
    a, b = (build(points(home_scale=scale), **settings).learn(4 * 64) for scale in (1.0, 1024.0))
    if normalize != "minibatch":
        assert same(actor(a), actor(b))
        assert torch.equal(*(model.policy.value_heads()[1].weight for model in (a, b)))
        assert torch.equal(*(model.policy.value_heads()[0].weight for model in (a, b)))
    else:  # the 1e-8 beside the deviation is not scaled
        for name, tensor in actor(a).items():
            torch.testing.assert_close(tensor, actor(b)[name], rtol=1e-3, atol=1e-4)


def test_a_single_critic_on_the_sum_is_disturbed_by_it(points: Points) -> None:
    a, b = (build(points(home_scale=scale), critics="summed").learn(4 * 64) for scale in (1.0, 1024.0))
    assert not same(actor(a), actor(b))


@pytest.mark.parametrize("normalize", ["rollout", "running", "minibatch"])
def test_a_constant_reward_contributes_exactly_nothing(normalize: Any, points: Points) -> None:
    learned = []
    for constant in (0.0, 0.25, -3.0):
        model = build(points(calm=constant), normalize_advantage=normalize).learn(3 * 64)
        learned.append(actor(model))
        if normalize != "minibatch":
            assert (model.rollout_buffer.advantages[..., 1] == 0).all()
            assert (model.rollout_buffer.advantages[..., 0] != 0).any()
    assert same(learned[0], learned[1])
    assert same(learned[0], learned[2])


def test_weights_decide_which_group_is_followed(points: Points) -> None:
    only = build(points(), reward_weights={"home": 1.0}).learn(128)
    both = build(points(), reward_weights={"home": 1.0, "calm": 0.0}, normalize_advantage="minibatch").learn(128)
    assert (only.groups, only.critic_names) == (("home",), ("home",))
    assert both.groups == ("home", "calm")
    model = build(points(), reward_weights={"home": 0.25, "calm": 0.75})
    collect(model)
    model.rollout_buffer.normalize_advantages(np.array(model.critic_weights))
    np.testing.assert_allclose(model.rollout_buffer.advantages.std((0, 1)), [0.25, 0.75], rtol=1e-4)


@pytest.mark.parametrize("critics", ["summed", "summed_scaled"])
def test_one_critic_sees_the_weighted_sum(critics: Any, points: Points) -> None:
    model = build(points(home_scale=100.0), critics=critics, reward_weights={"home": 0.2, "calm": 0.8})
    vectors = np.array([[100.0, -1.0], [50.0, -2.0]], dtype=np.float32)
    found = model._critic_rewards(vectors)
    expected = vectors @ [0.2, 0.8] if critics == "summed" else vectors / [25, 0.5] @ [0.2, 0.8]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)
    model.learn(128)
    assert model.rollout_buffer.gammas.shape == (1,)

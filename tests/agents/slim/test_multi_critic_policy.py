"""The networks of MultiCriticPPO: normalisers inside, gradients apart, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.slim import MultiCriticPolicy, MultiCriticPPO
from cadenza.envs.errors import CadenzaError

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


def test_moving_the_return_normaliser_changes_no_value(points: Points) -> None:
    policy = build(points()).policy
    draw = torch.Generator().manual_seed(0)
    for head in policy.value_heads():
        torch.nn.init.normal_(head.weight, generator=draw)
    obs = torch.randn(16, 2, generator=draw)
    with torch.no_grad():
        for scale in (100.0, 1.0, 0.01):
            before = policy.predict_values(obs)
            policy.update_return_normalizer(scale * torch.randn(64, 2, generator=draw) + torch.tensor([50.0, -3.0]))
            torch.testing.assert_close(policy.predict_values(obs), before, rtol=1e-3, atol=1e-3)
    assert policy.return_normalizer.std[0] > 10


def test_the_first_rollout_sets_the_return_normaliser(points: Points) -> None:
    policy = build(points()).policy
    policy.update_return_normalizer(torch.tensor([[1.0, 0.0], [5.0, 0.0]]))
    assert policy.return_normalizer.mean.tolist() == [3.0, 0.0]
    assert policy.return_normalizer.std.tolist() == pytest.approx([2.0, 1e-6])


def test_observations_are_normalised_inside_the_policy_by_what_was_seen(points: Points) -> None:
    model = build(points(speed=0.5), normalize_observations=True)
    seen = []
    for _ in range(3):
        model.learn(64, reset_num_timesteps=False)
        seen.append(model.rollout_buffer.observations.copy())
    rows = np.concatenate(seen)
    obs = rows[:7]
    expected = (obs - rows.mean(0)) / rows.std(0)
    found = model.policy.features_extractor(torch.as_tensor(obs)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_first_ratio_of_every_update_is_one(points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy learns from what it saw when it acted, though its normaliser moves from rollout to rollout."""
    from cadenza.agents.slim import multi_critic_ppo

    ratios: list[torch.Tensor] = []
    real = multi_critic_ppo.summed_surrogate

    def watched(advantages: torch.Tensor, ratio: torch.Tensor, clip_range: float) -> torch.Tensor:
        ratios.append(ratio.detach())
        return real(advantages, ratio, clip_range)

    monkeypatch.setattr(multi_critic_ppo, "summed_surrogate", watched)
    build(points(), normalize_observations=True, n_epochs=1, batch_size=64).learn(3 * 64)
    assert len(ratios) == 3
    for ratio in ratios:
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)


def test_export_acts_as_predict_does(points: Points) -> None:
    model = build(points(), normalize_observations=True).learn(128)
    obs = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    with torch.no_grad():
        exported = model.policy.deterministic_module()(torch.as_tensor(obs)).numpy()
    np.testing.assert_allclose(exported, model.predict(obs, deterministic=True)[0], atol=1e-6)


def test_gradients_are_clipped_apart(points: Points) -> None:
    model = build(points())
    groups = model.policy.parameter_groups()
    names = [name for name, _ in model.policy.named_parameters()]
    assert len(groups) == 3
    assert sum(map(len, groups)) == len(names)
    assert any(parameter is model.policy.log_std for parameter in groups[0])
    # A critic's loss of a million, and an actor's of one: only the critic is held back.
    out = model.policy.action_net(model.policy.mlp_extractor.forward_actor(torch.ones(1, 2))).sum()
    value = model.policy.value_heads()[1](model.policy.further_critics[0].body(torch.ones(1, 2))).sum()
    before = torch.autograd.grad(out, model.policy.action_net.bias, retain_graph=True)[0]
    model.max_grad_norm = 100.0
    model._step(out + 1e6 * value)
    assert torch.equal(model.policy.action_net.bias.grad, before)
    norm = torch.stack([p.grad.norm() for p in groups[2] if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(100.0, rel=1e-3)


def test_the_learning_rate_adapts_and_is_used(points: Points) -> None:
    model = build(points(), desired_kl=1e-9, learning_rate=1e-3).learn(64)
    assert model.adaptive_rate == pytest.approx(1e-3 / 1.5**2)  # two epochs, each far too large
    assert model.policy.optimizer.param_groups[0]["lr"] == model.adaptive_rate


def test_normalised_observations_need_their_own_extractor(points: Points) -> None:
    from stable_baselines3.common.torch_layers import FlattenExtractor

    kwargs = {"features_extractor_class": FlattenExtractor}
    with pytest.raises(CadenzaError, match="a features extractor of its own"):
        build(points(), normalize_observations=True, policy_kwargs=kwargs)
    assert issubclass(MultiCriticPolicy, PPO.policy_aliases["MlpPolicy"])

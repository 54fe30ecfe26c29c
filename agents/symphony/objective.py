"""Symphony's loss: one scalar for actor, critics and feature extractor at once (arXiv 2512.10477, one backward)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cadenza.agents.symphony.losses import rehae, rehse, resistance_loss, swaddling, temporal_advantage
from cadenza.agents.symphony.policy import SymphonyPolicy
from cadenza.agents.symphony.presets import ALPHA
from cadenza.agents.symphony.replay import Batch


class Loss(NamedTuple):
    """The loss and what is worth logging of it; all scalars but as noted."""

    total: Tensor
    advantage: Tensor
    critic: Tensor
    swaddling: Tensor
    reward: Tensor
    value_trace: Tensor
    """The mean of Q_T, to be carried to the next update."""
    next_scale: Tensor
    """S' of shape (batch, actions), detached."""
    next_resistance: Tensor
    """B' of shape (batch, actions), detached."""


def symphony_loss(policy: SymphonyPolicy, batch: Batch, noise: Tensor | None = None) -> Loss:
    """The loss of one update on a batch of raw observations.

    Args:
        policy: in training mode.
        batch: transitions; rewards already divided by r_bar.
        noise: N of shape (batch, actions) for a'; drawn from the policy's generator when None.
    """
    config = policy.config
    obs, next_obs = policy.normalized(batch.observations), policy.normalized(batch.next_observations)

    # 1. The next action, its value under the target critics.
    next_action, next_scale, next_resistance = policy.actor(policy.critic.z(next_obs))
    if noise is None:
        noise = policy.bounded_noise(next_action, 0.5 if config.noiseless else config.noise_std)
    next_action = torch.tanh(next_scale * next_action + noise)
    target = policy.critic_target
    with torch.no_grad():
        target_z = target.z(next_obs)
        latent = target.predict_reward(target_z, next_action)[0] if config.feature_extractor else None
    next_value = target.value(target.values(target_z, next_action, latent))
    next_value_fixed = next_value.detach()

    # 2. The value trace Q_T.
    recent = next_value_fixed if config.value_trace == "sample" else next_value_fixed.mean()
    trace = ALPHA * policy.value_trace + (1.0 - ALPHA) * recent

    # 3. The target of the online critics.
    scale, resistance = next_scale, next_resistance
    if config.clamp == "swaddling":
        low, high = config.clamp_epsilon, 1.0 - config.clamp_epsilon
        scale, resistance = scale.clamp(low, high), resistance.clamp(low, high)
    swaddle = swaddling(scale, resistance, config.swaddling_reduction)
    rewards = batch.rewards
    if config.noiseless:
        rewards = rewards * next_resistance.detach().mean(-1, keepdim=True)
    bootstrap = next_value_fixed - swaddle.detach() if config.swaddling_in_target else next_value_fixed
    target_value = rewards + config.gamma * (1.0 - batch.terminals) * bootstrap

    # 4. The loss.
    z = policy.critic.z(obs)
    online_latent, reward_loss = None, obs.new_zeros(())
    if config.feature_extractor:
        online_latent, predicted = policy.critic.predict_reward(z, batch.actions)
        reward_loss = rehse(predicted - batch.rewards)
    values = policy.critic.values(z, batch.actions, online_latent)
    advantage = rehae(temporal_advantage(next_value, trace))
    critic_loss = rehse(values - target_value)
    swaddle_loss = swaddle.mean() + resistance_loss(resistance, config.swaddling_reduction).mean()
    total = critic_loss - advantage + swaddle_loss + reward_loss
    return Loss(
        total,
        advantage.detach(),
        critic_loss.detach(),
        swaddle_loss.detach(),
        reward_loss.detach(),
        trace.mean(),
        next_scale.detach(),
        next_resistance.detach(),
    )

"""Symphony's loss (arXiv 2512.10477, one backward pass for actor, critics and feature extractor).

The loss is the sum of two branches that meet in one number per sample, the critics' target:

- the **actor branch** plays the next action, has the target critics value it, and gives that number, the advantage and
  the swaddling losses;
- the **critic branch** values the stored action and compares.

The target carries no gradient, so each branch has a backward pass of its own, and the two can run at the same time
(:mod:`cadenza.agents.symphony.branches`). Their gradients added up are the gradient of the sum.

With K reward groups (``policy.gammas``) everything that is a value has K columns: each group has its own critics,
trace, target and advantage. The actor's objective is the weighted sum of the advantages, the critics' loss the sum of
theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, no_grad, tanh

from cadenza.agents.symphony.losses import (
    group_advantages,
    group_errors,
    group_shares,
    rehae,
    rehse,
    resistance_loss,
    swaddling,
    temporal_advantage,
)
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
    """The mean of Q_T, to be carried to the next update; (K,) with K groups."""
    next_scale: Tensor
    """S' of shape (batch, actions), detached."""
    next_resistance: Tensor
    """B' of shape (batch, actions), detached."""
    by_group: Tensor | None = None
    """The advantage of each of several groups before its weight, (K,)."""


class ActorBranch(NamedTuple):
    """What the next state gives."""

    loss: Tensor
    """swaddling - advantage (+ smoothness); its gradient reaches the actor and a feature extractor, if there is one."""
    target_value: Tensor
    """y, the critics' target, shape (batch, 1) or (batch, K), detached."""
    advantage: Tensor
    swaddling: Tensor
    value_trace: Tensor
    next_scale: Tensor
    next_resistance: Tensor
    by_group: Tensor | None


class CriticForward(NamedTuple):
    """What the stored state and action give before the target is known."""

    values: Tensor
    """(batch, Nq), or (batch, K, Nq)."""
    reward_loss: Tensor


def actor_branch(policy: SymphonyPolicy, batch: Batch, noise: Tensor | None = None) -> ActorBranch:
    """Steps 1 to 3 of an update and the actor's part of step 4.

    Args:
        policy: in training mode.
        batch: raw observations; rewards already divided by r_bar.
        noise: N of shape (batch, actions) for a'; drawn from the policy's generator when None.
    """
    config = policy.config
    next_obs = policy.normalized(batch.next_observations)

    # 1. The next action, its value under the target critics.
    next_action, next_scale, next_resistance = policy.actor(policy.actor_input(next_obs))
    if noise is None:
        noise = policy.bounded_noise(next_action, 0.5 if config.noiseless else config.noise_std)
    pre_squash = next_scale * next_action
    next_action = tanh(pre_squash + noise)
    target = policy.critic_target
    with no_grad():
        target_z = target.z(next_obs)
        latent = target.predict_reward(target_z, next_action)[0] if config.feature_extractor else None
    next_value = target.value(target.values(target_z, next_action, latent))
    next_value_fixed = next_value.detach()

    # 2. The value trace Q_T.
    recent = next_value_fixed
    if config.value_trace == "mean":
        recent = recent.mean() if policy.gammas is None else recent.mean(0, keepdim=True)
    trace = ALPHA * policy.value_trace + (1.0 - ALPHA) * recent

    # 3. The target of the online critics.
    scale, resistance = next_scale, next_resistance
    if config.clamp == "swaddling":
        # In float32 1 - 1e-8, Saya's bound, is 1, where the loss is infinite: the number before it instead.
        below_one = 1.0 - torch.finfo(scale.dtype).eps / 2
        low, high = config.clamp_epsilon, min(1.0 - config.clamp_epsilon, below_one)
        scale, resistance = scale.clamp(low, high), resistance.clamp(low, high)
    swaddle = swaddling(scale, resistance, config.swaddling_reduction)
    rewards = batch.rewards
    if config.noiseless:
        rewards = rewards * next_resistance.detach().mean(-1, keepdim=True)
    bootstrap = next_value_fixed - swaddle.detach() if config.swaddling_in_target else next_value_fixed
    gamma = config.gamma if policy.gammas is None else next_value_fixed.new_tensor(policy.gammas)
    target_value = rewards + gamma * (1.0 - batch.terminals) * bootstrap

    # 4. The actor's losses.
    by_group = None
    if policy.gammas is None:
        advantage = rehae(temporal_advantage(next_value, trace, config.advantage_scale))
    else:
        by_group = group_advantages(next_value, trace, config.group_advantage_scale)
        pulls = _pulls(by_group, next_action) if config.group_balance == "pull" else None
        shares = torch.as_tensor(group_shares(policy.attention, pulls), dtype=by_group.dtype, device=by_group.device)
        advantage = (shares * by_group).sum()
    swaddle_loss = swaddle.mean() + resistance_loss(resistance, config.swaddling_reduction).mean()
    loss = swaddle_loss - advantage
    if config.smoothness_weight:
        loss = loss + config.smoothness_weight * (tanh(pre_squash) - batch.actions).square().mean()
    return ActorBranch(
        loss,
        target_value,
        advantage.detach(),
        swaddle_loss.detach(),
        trace.mean() if policy.gammas is None else trace.mean(0),
        next_scale.detach(),
        next_resistance.detach(),
        None if by_group is None else by_group.detach(),
    )


def _pulls(by_group: Tensor, action: Tensor) -> NDArray[np.float64]:
    """Root mean square over the batch of each advantage's gradient for the action, times the batch size; (K,)."""
    count = len(action)
    gradients = [torch.autograd.grad(one, action, retain_graph=True)[0] for one in by_group]
    return np.array([count * float(g.square().sum(-1).mean().sqrt()) for g in gradients])


def critic_forward(policy: SymphonyPolicy, batch: Batch) -> CriticForward:
    """The online critics' values of the stored pairs, and the reward network's loss (0 without one)."""
    obs = policy.normalized(batch.observations)
    z = policy.critic.z(obs)
    latent, reward_loss = None, obs.new_zeros(())
    if policy.config.feature_extractor:
        latent, predicted = policy.critic.predict_reward(z, batch.actions)
        reward_loss = rehse(predicted - batch.rewards)
    values = policy.critic.values(z, batch.actions, latent)
    if policy.gammas is not None:
        values = values.unflatten(-1, (len(policy.gammas), -1))
    return CriticForward(values, reward_loss)


def critic_loss(forward: CriticForward, target_value: Tensor) -> Tensor:
    """ReHSE(q(s, a) - y), without the reward network's loss; the sum over groups where there are several."""
    if forward.values.ndim == 3:
        return group_errors(forward.values - target_value.unsqueeze(-1)).sum()
    return rehse(forward.values - target_value)


def combine(actor: ActorBranch, critic: Tensor, reward: Tensor) -> Loss:
    """Both branches as one loss."""
    return Loss(
        actor.loss + critic + reward,
        actor.advantage,
        critic.detach(),
        actor.swaddling,
        reward.detach(),
        actor.value_trace,
        actor.next_scale,
        actor.next_resistance,
        actor.by_group,
    )


def symphony_loss(policy: SymphonyPolicy, batch: Batch, noise: Tensor | None = None) -> Loss:
    """The loss of one update; arguments as for :func:`actor_branch`."""
    actor = actor_branch(policy, batch, noise)
    forward = critic_forward(policy, batch)
    return combine(actor, critic_loss(forward, actor.target_value), forward.reward_loss)

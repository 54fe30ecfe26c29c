"""Rollouts whose reward is a vector: storage, generalised advantages per group, and how they become one number.

Shapes: T steps, N environments, K reward groups. Formulas: generalised advantage estimation (Schulman et al., arXiv
1506.02438, eq. 16) for each group by itself; the advantages of each group are normalised by themselves before they are
weighted and summed (the idea of SLIM, arXiv 2402.00823; the exact rules are written down in docs/slim.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

FLAT = 1e-6
"""Below this spread a group says nothing: dividing by it would turn rounding errors into a signal of full weight."""


class MultiCriticSamples(NamedTuple):
    """A minibatch of B transitions."""

    observations: Tensor
    actions: Tensor
    old_values: Tensor
    """(B, K)."""
    old_log_prob: Tensor
    """(B,)."""
    advantages: Tensor
    """(B, K), as :meth:`MultiCriticRolloutBuffer.normalize_advantages` left them."""
    returns: Tensor
    """(B, K)."""


def vector_gae(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    bootstraps: NDArray[np.float32],
    episode_starts: NDArray[np.float32],
    last_values: NDArray[np.float32],
    dones: NDArray[Any],
    gammas: NDArray[np.float64],
    gae_lambda: float,
) -> NDArray[np.float32]:
    """Advantages of every group, shape (T, N, K).

    delta_k = r_k + gamma_k V_k(s') - V_k(s); V_k(s') is 0 after a termination and ``bootstraps`` after a time-out.

    Args:
        rewards: r_k(t), (T, N, K).
        values: V_k(s_t), (T, N, K).
        bootstraps: V_k of the last observation of an episode that ran out of time, else 0; (T, N, K).
        episode_starts: 1 where s_t is the first of an episode; (T, N).
        last_values: V_k of the observation after the last step; (N, K).
        dones: whether the last step ended an episode; (N,).
        gammas: discount of each group; (K,).
        gae_lambda: the trade-off of bias and variance, the same for all.
    """
    # The order of operations is Stable-Baselines3's, so that with one group the numbers are its own to the last bit.
    gamma, decay = gammas.astype(np.float32), (gammas * gae_lambda).astype(np.float32)
    rewards = rewards + gamma * bootstraps
    advantages = np.zeros_like(rewards)
    running = np.zeros_like(last_values)
    for step in reversed(range(len(rewards))):
        last = step == len(rewards) - 1
        goes_on = 1.0 - (dones.astype(np.float32) if last else episode_starts[step + 1])[:, None]
        next_values = last_values if last else values[step + 1]
        delta = rewards[step] + gamma * next_values * goes_on - values[step]
        running = delta + decay * goes_on * running
        advantages[step] = running
    return advantages


def normalized_columns(advantages: NDArray[np.float32]) -> NDArray[np.float32]:
    """(A_k - mean)/std of each column of (..., K) over all other axes; one with std below :data:`FLAT` becomes 0."""
    axes = tuple(range(advantages.ndim - 1))
    wide = advantages.astype(np.float64)
    std = wide.std(axes)
    flat = std < FLAT
    scaled = (wide - wide.mean(axes)) / np.where(flat, 1.0, std)
    return np.where(flat, 0.0, scaled).astype(np.float32)


def silent_groups(rewards: NDArray[np.float32], any_termination: bool) -> NDArray[np.bool_]:
    """Which groups of a rollout (T, N, K) say nothing about the actions in it, shape (K,).

    A reward that never changes cannot prefer one action to another as long as no episode is cut short by it; a reward
    that is 0 throughout cannot even then. Its advantages are the critic's own error and the end of the rollout. What
    counts as a change is relative to the reward's size, so that the unit of a reward does not matter.
    """
    size = np.abs(rewards).max(axis=(0, 1))
    constant = np.ptp(rewards, axis=(0, 1)) <= FLAT * size
    return np.asarray(constant & ((size == 0) | (not any_termination)))


class MultiCriticRolloutBuffer(RolloutBuffer):
    """Stable-Baselines3's RolloutBuffer with a last axis K in rewards, values, returns and advantages.

    Args:
        gammas: discount of each group, shape (K,).
        arguments, keywords: those of RolloutBuffer.
    """

    bootstraps: NDArray[np.float32]
    """V_k of the last observation of an episode that ran out of time; kept apart, so that rewards stay as they came."""
    terminated: bool
    """Whether any episode of this rollout ended other than by running out of time."""

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *arguments: Any,
        gammas: Sequence[float],
        **keywords: Any,
    ):
        self.gammas = np.asarray(gammas, dtype=np.float64)
        super().__init__(buffer_size, observation_space, action_space, *arguments, **keywords)

    def reset(self) -> None:
        super().reset()
        shape = (self.buffer_size, self.n_envs, len(self.gammas))
        for name in ("rewards", "values", "returns", "advantages", "bootstraps"):
            setattr(self, name, np.zeros(shape, dtype=np.float32))
        self.terminated = False

    def add_step(
        self,
        obs: NDArray[Any],
        action: NDArray[Any],
        rewards: NDArray[np.float32],
        episode_start: NDArray[Any],
        values: Tensor,
        log_prob: Tensor,
        bootstraps: NDArray[np.float32],
    ) -> None:
        """One step of all environments; rewards, values and bootstraps of shape (N, K)."""
        if isinstance(self.observation_space, spaces.Discrete):
            obs = obs.reshape((self.n_envs, *self.obs_shape))
        self.observations[self.pos] = np.array(obs)
        self.actions[self.pos] = np.array(action.reshape((self.n_envs, self.action_dim)))
        self.rewards[self.pos] = rewards
        self.episode_starts[self.pos] = np.array(episode_start)
        self.values[self.pos] = values.cpu().numpy()
        self.log_probs[self.pos] = log_prob.cpu().numpy().reshape(-1)
        self.bootstraps[self.pos] = bootstraps
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: NDArray[Any]) -> None:
        """Fill ``advantages`` and ``returns``; ``last_values`` (N, K), ``dones`` (N,)."""
        self.advantages = vector_gae(
            self.rewards,
            self.values,
            self.bootstraps,
            self.episode_starts,
            last_values.cpu().numpy(),
            dones,
            self.gammas,
            self.gae_lambda,
        )
        self.returns = self.advantages + self.values

    def silent(self) -> NDArray[np.bool_]:
        """Which groups say nothing about the actions of this rollout (:func:`silent_groups`), shape (K,)."""
        return silent_groups(self.rewards, self.terminated)

    def normalize_advantages(self, weights: NDArray[np.float64]) -> None:
        """Replace the advantages by w_k (A_k - mean_k)/std_k over the rollout, 0 for groups that say nothing."""
        heard = weights * ~self.silent()
        self.advantages = normalized_columns(self.advantages) * heard.astype(np.float32)

    def scale_advantages(self, weights: NDArray[np.float64], scale: AdvantageScale) -> None:
        """The same with the deviation of all rollouts so far."""
        silent = self.silent()
        self.advantages = scale.scaled(self.advantages, silent) * (weights * ~silent).astype(np.float32)

    def _get_samples(self, batch_inds: NDArray[Any], env: Any = None) -> MultiCriticSamples:  # type: ignore[override]
        data = (
            self.observations[batch_inds],
            self.actions[batch_inds].astype(np.float32, copy=False),
            self.values[batch_inds],
            self.log_probs[batch_inds].flatten(),
            self.advantages[batch_inds],
            self.returns[batch_inds],
        )
        return MultiCriticSamples(*(self.to_torch(array) for array in data))


class RewardScaler(torch.nn.Module):
    """Running standard deviation of each group's reward: what a single critic on a scaled sum divides by."""

    mean: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, groups: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(groups, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(groups, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def scaled(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take ``vectors`` (N, K) into the running moments (Chan et al. 1979) and divide them by the deviations."""
        batch = torch.from_numpy(vectors.astype(np.float64)).to(self.mean.device)
        size, total = len(batch), self.count + len(batch)
        gap = batch.mean(0) - self.mean
        self.squares += (batch - batch.mean(0)).square().sum(0) + gap.square() * self.count * size / total
        self.mean += gap * size / total
        self.count.copy_(total)
        std = (self.squares / total).sqrt()
        return (batch / torch.where(std < FLAT, 1.0, std)).cpu().numpy().astype(np.float32)


class AdvantageScale(torch.nn.Module):
    """Running deviation of each group's advantages, (K,): the root of the mean variance of all rollouts so far.

    What a rollout alone says of it may be little: diversity of a cube that nobody touched has a deviation, of noise.
    """

    squares: Tensor
    rollouts: Tensor

    def __init__(self, groups: int):
        super().__init__()
        self.register_buffer("squares", torch.zeros(groups, dtype=torch.float64))
        self.register_buffer("rollouts", torch.zeros(groups, dtype=torch.float64))

    def scaled(self, advantages: NDArray[np.float32], silent: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Advantages (T, N, K) without their mean, by the deviations; ``silent`` ones do not count."""
        columns = torch.from_numpy(advantages.reshape(-1, advantages.shape[-1]).astype(np.float64))
        columns = (columns - columns.mean(0)).to(self.squares.device)
        heard = torch.from_numpy(~silent).to(self.squares.device)
        self.squares += torch.where(heard, columns.square().mean(0), 0.0)
        self.rollouts += heard
        deviation = (self.squares / self.rollouts.clamp_min(1.0)).sqrt()
        found = columns / torch.where(deviation < FLAT, 1.0, deviation) * (deviation >= FLAT)
        return found.reshape(advantages.shape).cpu().numpy().astype(np.float32)

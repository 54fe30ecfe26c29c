"""The Fading Replay Buffer for rewards of several groups: a vector for each transition, one r_bar for each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from cadenza.agents.slim.multi_critic_buffer import FLAT
from cadenza.agents.symphony.replay import Batch, FadingReplayBuffer


class GroupReplayBuffer(FadingReplayBuffer):
    """Stores K numbers a reward; each leaves divided by its group's r_bar, the mean absolute reward of the exploration.

    A group that gave nothing during the exploration takes the size of its first reward as its r_bar, so that its unit
    never matters.

    Args:
        buffer_size, observation_space, action_space, device, n_envs, optimize_memory_usage: FadingReplayBuffer's.
        groups: K, at least 2.
        sum_weights: give the weighted sum of the scaled rewards, (batch, 1), instead of all K.
        keywords: FadingReplayBuffer's.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        groups: int,
        sum_weights: Sequence[float] | None = None,
        **keywords: Any,
    ):
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            groups=groups,
            **keywords,
        )
        self.groups = groups
        self._sum_weights = None
        if sum_weights is not None:
            self._sum_weights = torch.tensor(sum_weights, dtype=torch.float32, device=self.device)[:, None]
        self._forget_groups()

    def _forget_groups(self) -> None:
        self.reward_scales = np.ones(self.groups)
        """r_bar of each group; 1 while it is not known."""
        self._known = np.zeros(self.groups, dtype=bool)
        self._low, self._high = np.full(self.groups, np.inf), np.full(self.groups, -np.inf)
        self._terminated = False

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """As FadingReplayBuffer's, with ``reward`` of shape (N, K)."""
        super().add(obs, next_obs, action, reward, done, infos)
        np.minimum(self._low, reward.min(0), out=self._low)
        np.maximum(self._high, reward.max(0), out=self._high)
        timeouts = [self.handle_timeout_termination and bool(i.get("TimeLimit.truncated", False)) for i in infos]
        self._terminated |= any(ended and not late for ended, late in zip(done, timeouts, strict=True))
        if not self.exploring and not self._known.all():
            size = np.abs(reward, dtype=np.float64).max(0)
            first = ~self._known & (size > 0)
            self.reward_scales[first] = size[first]
            self._known |= first

    def silent(self) -> NDArray[np.bool_]:
        """Which groups say nothing about actions, shape (K,): the rule of ``agents/slim`` over all that was ever added.

        A reward that never changes cannot prefer one action to another as long as no episode is cut short; one that is
        0 throughout cannot even then. What counts as a change is relative to the reward's size.
        """
        if not self._writes:
            return np.ones(self.groups, dtype=bool)
        size = np.maximum(np.abs(self._low), np.abs(self._high))
        constant = self._high - self._low <= FLAT * size
        return np.asarray(constant & ((size == 0) | (not self._terminated)))

    def sample_batch(self, batch_size: int) -> Batch:
        """As FadingReplayBuffer's; rewards (batch, K), or (batch, 1) with ``sum_weights``."""
        batch = super().sample_batch(batch_size)
        return batch if self._sum_weights is None else batch._replace(rewards=batch.rewards @ self._sum_weights)

    def _fix_reward_scale(self, count: int) -> None:
        sizes = np.abs(self._rewards[:count], dtype=np.float64).mean(0) if count else np.zeros(self.groups)
        self._known = sizes > 0
        self.reward_scales = np.where(self._known, sizes, 1.0)

    def _scale_rewards(self, rewards: NDArray[np.float32]) -> None:
        np.multiply(rewards, (1.0 / self.reward_scales).astype(np.float32), out=rewards)

    def reset(self) -> None:
        """Forget everything, exploration included."""
        super().reset()
        self._forget_groups()

    # ------------------------------------------------------------------ checkpoints

    def group_state(self) -> dict[str, Any]:
        """What is known of the groups, JSON-able; infinite bounds (nothing stored) as None."""
        seen = self._low <= self._high
        return {
            "reward_scales": self.reward_scales.tolist(),
            "known": self._known.tolist(),
            "low": [low if known else None for low, known in zip(self._low.tolist(), seen, strict=True)],
            "high": [high if known else None for high, known in zip(self._high.tolist(), seen, strict=True)],
            "terminated": bool(self._terminated),
        }

    def set_group_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`group_state`."""
        self.reward_scales = np.array(state["reward_scales"], dtype=np.float64)
        self._known = np.array(state["known"], dtype=bool)
        self._low = np.array([np.inf if low is None else low for low in state["low"]], dtype=np.float64)
        self._high = np.array([-np.inf if high is None else high for high in state["high"]], dtype=np.float64)
        self._terminated = bool(state["terminated"])

    def get_extra_state(self) -> dict[str, Any]:
        """Everything beside the arrays, JSON-able."""
        return {**super().get_extra_state(), "groups": self.group_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`get_extra_state`; the arrays of :meth:`storage` must have been restored before."""
        super().set_extra_state(state)
        self.set_group_state(state["groups"])

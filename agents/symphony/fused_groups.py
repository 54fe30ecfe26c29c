"""The compiled update with a critic triple for each of K reward groups; see :mod:`cadenza.agents.symphony.fused`.

The 3 K critics are one batched product, forward and backward. What differs between groups are a few numbers for each
sample, (K, batch), which NumPy works on at once; ranks and losses are the compiled passes of the scalar update, group
after group. ``tests/agents/symphony/test_multi_critic_update.py`` holds it to autograd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cadenza.agents.symphony.arithmetic import HEADS
from cadenza.agents.symphony.fused import UpdateMemory
from cadenza.agents.symphony.losses import FLAT_VALUES, QT_FLOOR, group_shares
from cadenza.agents.symphony.objective import Loss
from cadenza.agents.symphony.policy import SymphonyPolicy
from cadenza.agents.symphony.presets import ALPHA
from cadenza.agents.symphony.replay import Batch

Array = NDArray[np.float32]


class GroupUpdateMemory(UpdateMemory):
    """One update of a policy with several reward groups."""

    def __init__(self, policy: SymphonyPolicy, live: int, actor_live: int, batch: int):
        super().__init__(policy, live, actor_live, batch)
        gammas = (self.config.gamma,) if policy.gammas is None else policy.gammas
        self.gammas = np.array(gammas, np.float32)[:, None]
        groups = len(gammas)
        self.heads = [slice(HEADS * k, HEADS * (k + 1)) for k in range(groups)]
        self.targets, self.grad_values = np.empty((groups, batch), np.float32), np.empty((groups, batch), np.float32)
        self.advantages, self.traces = np.zeros(groups, np.float32), np.zeros(groups, np.float32)
        self.attention, self.shares = policy.attention.copy(), policy.attention.copy()

    @torch.no_grad()
    def value_next(self, batch: Batch, noise: Tensor | None) -> None:
        """Forward pass of the actor branch."""
        rewards = self.play_next(batch, noise).T
        groups = len(self.heads)
        out = self.target.out_np.reshape(groups, HEADS, self.batch, -1)
        rows = out.transpose(0, 2, 1, 3).reshape(groups, self.batch, -1)
        self.order = np.argsort(rows, axis=-1)
        values = np.take_along_axis(rows, self.order, -1) @ self.weights
        self.targets[:] = rewards + self.gammas * (1 - batch.terminals.numpy()[:, 0]) * values
        self.attention[:] = self.policy.attention
        self._weigh(values)

    def _weigh(self, values: Array) -> None:
        """From values (K, batch) to advantages, traces, and the gradients of minus each advantage."""
        config = self.config
        means = values.mean(1, keepdims=True)
        previous = self.policy.value_trace.numpy().reshape(-1, 1)
        recent = means if config.value_trace == "mean" else values
        trace = np.float32(ALPHA) * previous + np.float32(1 - ALPHA) * recent
        spread = values.std(1, keepdims=True)
        size = spread if config.group_advantage_scale == "spread" else np.abs(trace)
        size = np.maximum(size, np.float32(QT_FLOOR))
        heard = spread >= FLAT_VALUES
        error = np.where(heard, (values - trace) / size, np.float32(0))
        half = np.tanh(np.float32(0.5) * error)
        slope = np.abs(half) + np.float32(0.5) * np.abs(error) * (1 - half * half)
        self.advantages[:] = (np.abs(error) * half).mean(1)
        self.traces[:] = np.broadcast_to(trace, values.shape).mean(1)
        self.grad_values[:] = np.where(heard, -slope / (size * np.float32(self.batch)), np.float32(0))

    @torch.no_grad()
    def improve_actor(self) -> None:
        """Backward pass of the actor branch and the actor's step."""
        for k, heads in enumerate(self.heads):
            self.kernels.scatter_value_gradient(
                self.order[k], self.weights, self.grad_values[k], self.target.grad_out_np[heads]
            )
        self.target.backward()
        by_group = self.target.grad_x_heads_np.reshape(len(self.heads), HEADS, self.batch, -1).sum(1)
        pulls = None
        if self.config.group_balance == "pull":
            pulls = np.float32(self.batch) * np.sqrt(np.square(by_group).sum(-1).mean(-1))
        self.shares[:] = group_shares(self.attention, pulls)
        self.target.grad_x_np[:] = np.tensordot(self.shares, by_group, 1)
        self.step_actor()
        self.policy.value_trace.copy_(torch.from_numpy(self.traces).view_as(self.policy.value_trace))

    @torch.no_grad()
    def differentiate_critics(self) -> None:
        """Backward pass of the critic branch."""
        critics = self.critics
        losses: list[Any] = [
            self.kernels.critic_loss(critics.out_np[heads], self.targets[k], critics.grad_out_np[heads])
            for k, heads in enumerate(self.heads)
        ]
        self.critic_loss = float(sum(losses))
        critics.backward()

    def loss(self) -> Loss:
        """Of the last update."""
        self.sums[:] = self.shares @ self.advantages, 0.0
        traces = torch.from_numpy(self.traces.copy())
        return super().loss()._replace(value_trace=traces, by_group=torch.from_numpy(self.advantages.copy()))

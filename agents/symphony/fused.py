"""The update of S3-like presets without torch's graph: products by torch, everything between them compiled.

Step by step the same as :mod:`cadenza.agents.symphony.objective` with autograd and torch's AdamW, which
``tests/agents/symphony/test_fused.py`` holds it to. What it leaves out is the bookkeeping: some three hundred small
operations per update that cost more than their arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cadenza.agents.symphony.block import BlockWeights, Saved, block_backward, block_forward, compiled
from cadenza.agents.symphony.branches import Pair
from cadenza.agents.symphony.losses import QT_FLOOR
from cadenza.agents.symphony.objective import Loss
from cadenza.agents.symphony.policy import SymphonyPolicy
from cadenza.agents.symphony.presets import ALPHA
from cadenza.agents.symphony.replay import Batch


def fusible(policy: SymphonyPolicy) -> bool:
    """Whether the policy's settings, device and precision have a compiled update."""
    config, weight = policy.config, policy.actor.net.weight1
    return (
        compiled() is not None
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and not config.feature_extractor
        and not config.swaddling_in_target
        and config.gradient_dropout == "none"
        and config.clamp == "actor"
    )


class _Next(NamedTuple):
    """What the actor branch keeps from its forward to its backward pass."""

    inputs: Tensor
    """[a', s'] (batch, A + live observations)."""
    actor: Saved
    target: Saved
    heads: Tensor
    action: Tensor
    order: NDArray[np.int64]
    grad_value: NDArray[np.float32]
    target_value: NDArray[np.float32]
    sums: NDArray[np.float32]
    resistance: Tensor
    previous: Tensor


class _Now(NamedTuple):
    """What the critic branch keeps."""

    inputs: Tensor
    saved: Saved
    values: Tensor


class FusedUpdate:
    """One update of a policy for which :func:`fusible` holds."""

    def __init__(self, policy: SymphonyPolicy):
        from cadenza.agents.symphony import loss_kernels

        self.kernels = loss_kernels
        self.policy = policy
        self.weights = policy.critic.value_weights.numpy()
        self.actions = policy.action_size
        self.live = policy.critic.z_size
        self.refresh()

    def refresh(self) -> None:
        """Take in new normaliser statistics.

        Trailing observations that never varied (the Gymnasium humanoid has 84) are zero for the networks, so their
        columns need no work.
        """
        policy = self.policy
        if policy.config.normalize_observations:
            varying = policy.normalizer.inverse_std.nonzero()
            self.live = int(varying[-1]) + 1 if len(varying) else 1
        self.actor = _cut(policy.actor.net.weights(), self.live)
        self.critics = _cut(policy.critic.critics.weights(), self.actions + self.live)
        self.target = _cut(policy.critic_target.critics.weights(), self.actions + self.live)

    def __call__(self, batch: Batch, pair: Pair, noise: Tensor | None = None) -> Loss:
        """One gradient step on ``batch``, then the target's Polyak step."""
        after, now = pair.run(lambda: self._next(batch, noise), lambda: self._now(batch))
        losses, (critic, critic_gradients) = pair.run(
            lambda: self._improve_actor(after), lambda: self._critic_gradients(after, now)
        )
        # The target critics are read by the actor branch until here.
        policy = self.policy
        self._step(policy.critic.critics.weights(), critic_gradients, policy.critic_target.critics.weights())
        policy.value_trace.fill_(float(after.sums[1]))
        return self._loss(after, losses, critic)

    def _inputs(self, obs: Tensor, actions: Tensor) -> Tensor:
        """[action, normalised live observations] (batch, A + live)."""
        policy, size = self.policy, self.live
        inputs = torch.empty(len(obs), self.actions + size)
        inputs[:, : self.actions] = actions
        live = inputs[:, self.actions :]
        if policy.config.normalize_observations:
            normalizer = policy.normalizer
            torch.sub(obs[:, :size], normalizer.mean[:size], out=live)
            live.mul_(normalizer.inverse_std[:size]).clamp_(-normalizer.limit, normalizer.limit)
        else:
            live.copy_(obs)
        return inputs

    @torch.no_grad()  # which holds for one thread
    def _next(self, batch: Batch, noise: Tensor | None) -> _Next:
        policy, config, k = self.policy, self.policy.config, self.kernels
        if noise is None:
            noise = policy.bounded_noise(batch.actions, 0.5 if config.noiseless else config.noise_std)
        inputs = self._inputs(batch.next_observations, batch.actions)
        raw, actor = block_forward(self.actor, inputs[:, self.actions :])
        heads, action = torch.empty_like(raw[0]), torch.empty_like(noise)
        k.head_forward(raw[0].numpy(), noise.numpy(), config.clamp_epsilon, heads.numpy(), action.numpy())
        inputs[:, : self.actions] = action
        values, target = block_forward(self.target, inputs)
        rows = values.transpose(0, 1).reshape(len(inputs), -1).numpy()
        order = np.argsort(rows, axis=-1)
        rewards = batch.rewards[:, 0]
        resistance = heads[:, 2 * noise.shape[1] :].abs().clamp_(config.clamp_epsilon, 1.0 - config.clamp_epsilon)
        if config.noiseless:
            rewards = rewards * resistance.mean(-1)
        grad_value, target_value = np.empty(len(inputs), np.float32), np.empty(len(inputs), np.float32)
        sums = np.empty(2, np.float32)
        k.bootstrap(
            rows, order, self.weights, rewards.numpy(), batch.terminals[:, 0].numpy(),
            float(policy.value_trace), ALPHA, config.gamma, QT_FLOOR, config.value_trace == "mean",
            config.advantage_scale == "spread", target_value, grad_value, sums,
        )  # fmt: skip
        return _Next(
            inputs, actor, target, heads, action, order, grad_value, target_value, sums, resistance, batch.actions
        )

    @torch.no_grad()
    def _now(self, batch: Batch) -> _Now:
        inputs = self._inputs(batch.observations, batch.actions)
        values, saved = block_forward(self.critics, inputs)
        return _Now(inputs, saved, values)

    @torch.no_grad()
    def _improve_actor(self, after: _Next) -> NDArray[np.float32]:
        """Backward pass of the actor branch and the actor's step; [swaddling loss, mean S, mean B, smoothness]."""
        policy, config, k = self.policy, self.policy.config, self.kernels
        heads, action = after.heads, after.action
        grad_values = torch.empty(len(self.target.weight3), len(action), self.target.weight3.shape[2])
        k.scatter_value_gradient(after.order, self.weights, after.grad_value, grad_values.numpy())
        grad_action, _ = block_backward(
            self.target, after.inputs, after.target, grad_values, learns=False, live=self.actions
        )
        assert grad_action is not None
        grad_raw, losses = torch.empty_like(heads), np.empty(4, np.float32)
        k.head_backward(
            heads.numpy(), action.numpy(), grad_action.numpy(), config.clamp_epsilon,
            config.swaddling_reduction == "sum", after.previous.numpy(), config.smoothness_weight,
            grad_raw.numpy(), losses,
        )  # fmt: skip
        _, gradients = block_backward(self.actor, after.inputs[:, self.actions :], after.actor, grad_raw[None])
        self._step(policy.actor.net.weights(), gradients, None)
        return losses

    @torch.no_grad()
    def _critic_gradients(self, after: _Next, now: _Now) -> tuple[float, tuple[Tensor | None, ...]]:
        grad = torch.empty_like(now.values)
        loss = self.kernels.critic_loss(now.values.numpy(), after.target_value, grad.numpy())
        _, gradients = block_backward(self.critics, now.inputs, now.saved, grad)
        return loss, gradients

    def _step(self, block: BlockWeights, gradients: tuple[Tensor | None, ...], target: BlockWeights | None) -> None:
        policy, k = self.policy, self.kernels
        group = policy.optimizer.param_groups[0]
        numbers = group["lr"], *group["betas"], group["weight_decay"], group["eps"]
        for index, (parameter, gradient) in enumerate(zip(block, gradients, strict=True)):
            if parameter is None or gradient is None:
                continue
            state = policy.optimizer.state[parameter]
            copy = None if target is None else target[index]
            whole = [parameter, gradient, state["exp_avg"], state["exp_avg_sq"], *([] if copy is None else [copy])]
            parts = [whole]
            if gradient.shape != parameter.shape:
                # Of the first layer only the rows of live inputs: the others' gradients are zero.
                parts = [[x[head, : gradient.shape[1]] for x in whole] for head in range(len(parameter))]
            for part in parts:
                arrays = [x.detach().numpy().reshape(-1) for x in part]
                if copy is None:
                    k.adamw(*arrays, *numbers)
                else:
                    k.adamw_with_target(*arrays, *numbers, policy.config.tau)

    def _loss(self, after: _Next, losses: NDArray[np.float32], critic: float) -> Loss:
        advantage, trace, swaddling, smoothness = (float(x) for x in (*after.sums, losses[0], losses[3]))
        action_size = after.action.shape[1]
        epsilon = self.policy.config.clamp_epsilon
        scale = after.heads[:, action_size : 2 * action_size].abs().clamp_(epsilon, 1.0 - epsilon)
        return Loss(
            torch.tensor(swaddling - advantage + smoothness + critic),
            torch.tensor(advantage),
            torch.tensor(critic),
            torch.tensor(swaddling),
            torch.zeros(()),
            torch.tensor(trace),
            scale,
            after.resistance,
        )


def _cut(block: BlockWeights, inputs: int) -> BlockWeights:
    """The block on its first ``inputs`` inputs; shares memory."""
    return block._replace(weight1=block.weight1[:, :inputs])

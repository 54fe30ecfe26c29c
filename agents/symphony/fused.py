"""The update of S3-like presets without torch's graph: products by torch, everything between them compiled.

Step by step the same as :mod:`cadenza.agents.symphony.objective` with autograd and torch's AdamW, which
``tests/agents/symphony/test_fused.py`` holds it to. What it leaves out is the bookkeeping: some three hundred small
operations per update that cost more than their arithmetic. All memory is laid out once per batch size, and each branch
gives Python's lock away only some fifteen times, at products and passes that are worth it: two threads that trade the
lock at every small operation spend their time waiting for each other to wake.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cadenza.agents.symphony.block import LAYER_NORM_EPS, BlockWeights, compiled
from cadenza.agents.symphony.branches import Pair
from cadenza.agents.symphony.losses import QT_FLOOR
from cadenza.agents.symphony.networks import FeedForward
from cadenza.agents.symphony.objective import Loss
from cadenza.agents.symphony.policy import SymphonyPolicy
from cadenza.agents.symphony.presets import ALPHA
from cadenza.agents.symphony.replay import Batch

Array = NDArray[np.float32]


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


class FusedUpdate:
    """Updates of a policy for which :func:`fusible` holds."""

    def __init__(self, policy: SymphonyPolicy):
        self.policy = policy
        self._memory: UpdateMemory | None = None
        self._acting: _Acting | None = None
        self.refresh()
        # What is loaded into either may lie elsewhere, or bring other statistics.
        reference = weakref.ref(self)

        def loaded(*_: Any) -> None:
            update = reference()
            if update is not None:
                update.refresh()

        policy.register_load_state_dict_post_hook(loaded)
        policy.optimizer.register_load_state_dict_post_hook(loaded)

    def __getstate__(self) -> dict[str, Any]:
        return {"policy": self.policy}  # a copy lays out its own memory

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["policy"])  # type: ignore[misc]

    def refresh(self) -> None:
        """Take in new normaliser statistics, or an optimiser whose state was loaded.

        Trailing observations that never varied (the Gymnasium humanoid has 84) are zero for the networks, so their
        columns need no work. They get none at all, weight decay and Polyak steps included.
        """
        policy = self.policy
        self.live = policy.critic.z_size
        if policy.config.normalize_observations:
            varying = policy.normalizer.inverse_std.nonzero()
            self.live = int(varying[-1]) + 1 if len(varying) else 1
        # Of them the actor reads those that it may see.
        self.actor_live = min(self.live, policy.actor_observation_size or self.live)
        self._memory = self._acting = None

    def step(self, batch: Batch, pair: Pair, noise: Tensor | None = None) -> None:
        """One gradient step on ``batch``, then the target's Polyak step."""
        memory = self._memory
        moved = memory is not None and memory.address != self.policy.actor.net.weight1.data_ptr()
        if memory is None or moved or memory.batch != len(batch.rewards):
            memory = self._memory = self._lay_out(len(batch.rewards))
        pair.run(lambda: memory.value_next(batch, noise), lambda: memory.value_now(batch))
        pair.run(memory.improve_actor, memory.differentiate_critics)
        # The target critics are read by the actor branch until here.
        memory.step_critics()

    def _lay_out(self, batch: int) -> UpdateMemory:
        if self.policy.gammas is None:
            return UpdateMemory(self.policy, self.live, self.actor_live, batch)
        from cadenza.agents.symphony.fused_groups import GroupUpdateMemory

        return GroupUpdateMemory(self.policy, self.live, self.actor_live, batch)

    def act(self, obs: NDArray[Any], noise_std: float, active: Array | None) -> Array:
        """:meth:`SymphonyPolicy.act` for (envs, obs) of any number format: (envs, actions)."""
        acting = self._acting
        moved = acting is not None and acting.address != self.policy.actor.net.weight1.data_ptr()
        if acting is None or moved or acting.batch != len(obs):
            acting = self._acting = _Acting(self.policy, self.actor_live, len(obs))
        return acting(obs, noise_std, active)

    def loss(self) -> Loss:
        """The loss of the last step's batch."""
        assert self._memory is not None
        return self._memory.loss()


class UpdateMemory:
    """Everything one update of one batch size writes to, and the passes that write it.

    Names ending in ``_np`` are NumPy's names of the same memory.
    """

    def __init__(self, policy: SymphonyPolicy, live: int, actor_live: int, batch: int):
        from cadenza.agents.symphony import loss_kernels

        self.policy, self.config, self.batch, self.live = policy, policy.config, batch, live
        self.kernels = loss_kernels
        actions = self.actions = policy.action_size
        self.weights = policy.critic.value_weights.numpy()
        normalizer = policy.normalizer
        self.inverse = normalizer.inverse_std[:live]
        self.mean = normalizer.mean[:live]
        self.address = policy.actor.net.weight1.data_ptr()
        self.limit = normalizer.limit
        # [action, live observations] of now and next.
        self.now, self.next = torch.empty(batch, actions + live), torch.empty(batch, actions + live)
        self.next_action_np = self.next[:, :actions].numpy()
        self.actor = _Block(policy.actor.net, self.next[:, actions : actions + actor_live], learns=True, live=0)
        self.critics = _Block(policy.critic.critics, self.now, learns=True, live=0)
        self.target = _Block(policy.critic_target.critics, self.next, learns=False, live=actions)
        self.noise = torch.empty(batch, actions)
        self.heads_np = np.empty((batch, 3 * actions), np.float32)
        self.action_np = np.empty((batch, actions), np.float32)
        self.order: NDArray[np.int64] = np.zeros((batch, policy.config.value_count), np.int64)
        self.target_value, self.grad_value = np.empty(batch, np.float32), np.empty(batch, np.float32)
        self.sums, self.losses = np.zeros(2, np.float32), np.zeros(4, np.float32)
        self.critic_loss = 0.0
        self.previous_np: Array = self.action_np
        average = None if policy.average is None else policy.average.net
        self.steps_actor = _moments(policy, policy.actor.net, self.actor, average)
        self.steps_critics = _moments(policy, policy.critic.critics, self.critics, policy.critic_target.critics)

    def _inputs(self, obs: Tensor, actions: Tensor | None, inputs: Tensor) -> None:
        live = inputs[:, self.actions :]
        if self.config.normalize_observations:
            torch.sub(obs[:, : self.live], self.mean, out=live)
            live.mul_(self.inverse).clamp_(-self.limit, self.limit)
        else:
            live.copy_(obs)
        if actions is not None:
            inputs[:, : self.actions] = actions

    @torch.no_grad()  # which holds for one thread
    def value_next(self, batch: Batch, noise: Tensor | None) -> None:
        """Forward pass of the actor branch."""
        config = self.config
        rewards = self.play_next(batch, noise)[:, 0]
        rows = self.target.out_np.transpose(1, 0, 2).reshape(self.batch, -1)
        self.order = np.argsort(rows, axis=-1)
        self.kernels.bootstrap(
            rows, self.order, self.weights, rewards, batch.terminals.numpy()[:, 0], float(self.policy.value_trace),
            ALPHA, config.gamma, QT_FLOOR, config.value_trace == "mean", config.advantage_scale == "spread",
            self.target_value, self.grad_value, self.sums,
        )  # fmt: skip

    def play_next(self, batch: Batch, noise: Tensor | None) -> Array:
        """The next action, valued by the target critics; the rewards of the targets, (batch, groups)."""
        config, k = self.config, self.kernels
        std = 0.5 if config.noiseless else config.noise_std
        if noise is None:
            noise = self.noise.normal_(generator=self.policy.generator)
        else:
            std = 0.0  # it is N already
        self._inputs(batch.next_observations, None, self.next)
        self.actor.forward()
        raw = self.actor.out_np[0]
        k.head_forward(raw, noise.numpy(), std, config.clamp_epsilon, self.heads_np, self.action_np)
        self.next_action_np[:] = self.action_np
        self.target.forward()
        self.previous_np = batch.actions.numpy()
        rewards: Array = batch.rewards.numpy()
        if config.noiseless:
            resistance = np.clip(
                np.abs(self.heads_np[:, 2 * self.actions :]), config.clamp_epsilon, 1 - config.clamp_epsilon
            )
            rewards = rewards * resistance.mean(-1, keepdims=True, dtype=np.float32)
        return rewards

    @torch.no_grad()
    def value_now(self, batch: Batch) -> None:
        """Forward pass of the critic branch."""
        self._inputs(batch.observations, batch.actions, self.now)
        self.critics.forward()

    @torch.no_grad()
    def improve_actor(self) -> None:
        """Backward pass of the actor branch and the actor's step."""
        self.kernels.scatter_value_gradient(self.order, self.weights, self.grad_value, self.target.grad_out_np)
        self.target.backward()
        self.step_actor()
        self.policy.value_trace.fill_(float(self.sums[1]))

    def step_actor(self) -> None:
        """From the gradient of the next action to the actor's step."""
        config, k = self.config, self.kernels
        k.head_backward(
            self.heads_np, self.action_np, self.target.grad_x_np, config.clamp_epsilon,
            config.swaddling_reduction == "sum", self.previous_np, config.smoothness_weight,
            self.actor.grad_out_np[0], self.losses,
        )  # fmt: skip
        self.actor.backward()
        if self.policy.average is None:
            k.adamw(*self.steps_actor, *self._rates())
        else:
            k.adamw_with_target(*self.steps_actor, *self._rates(), config.actor_average)

    @torch.no_grad()
    def differentiate_critics(self) -> None:
        """Backward pass of the critic branch."""
        critics = self.critics
        self.critic_loss = float(self.kernels.critic_loss(critics.out_np, self.target_value, critics.grad_out_np))
        critics.backward()

    def step_critics(self) -> None:
        """The critics' step and their target's."""
        self.kernels.adamw_with_target(*self.steps_critics, *self._rates(), self.config.tau)

    def _rates(self) -> tuple[float, ...]:
        group = self.policy.optimizer.param_groups[0]
        return group["lr"], *group["betas"], group["weight_decay"], group["eps"]

    def loss(self) -> Loss:
        """Of the last update."""
        advantage, trace = (float(x) for x in self.sums)
        swaddling, smoothness = float(self.losses[0]), float(self.losses[3])
        low, high = self.config.clamp_epsilon, 1.0 - self.config.clamp_epsilon
        heads = torch.from_numpy(self.heads_np.copy()).abs_().clamp_(low, high)
        return Loss(
            torch.tensor(swaddling - advantage + smoothness + self.critic_loss),
            torch.tensor(advantage),
            torch.tensor(self.critic_loss),
            torch.tensor(swaddling),
            torch.zeros(()),
            torch.tensor(trace),
            heads[:, self.actions : 2 * self.actions],
            heads[:, 2 * self.actions :],
        )


class _Acting:
    """The acting path for a fixed number of environments."""

    def __init__(self, policy: SymphonyPolicy, live: int, batch: int):
        self.policy, self.config, self.batch, self.live = policy, policy.config, batch, live
        normalizer = policy.normalizer
        self.mean, self.inverse = normalizer.mean[:live].numpy(), normalizer.inverse_std[:live].numpy()
        self.address = policy.actor.net.weight1.data_ptr()
        self.limit = normalizer.limit
        self.inputs = torch.empty(batch, live)
        self.inputs_np = self.inputs.numpy()
        self.actor = _Block(policy.actor.net, self.inputs, learns=False, live=0)
        self.noise = torch.empty(batch, policy.action_size)

    @torch.no_grad()
    def __call__(self, obs: NDArray[Any], noise_std: float, active: Array | None) -> Array:
        inputs = self.inputs_np
        inputs[:] = obs.reshape(self.batch, -1)[:, : self.live]
        if self.config.normalize_observations:
            np.subtract(inputs, self.mean, out=inputs)
            np.multiply(inputs, self.inverse, out=inputs)
            np.clip(inputs, -self.limit, self.limit, out=inputs)
        self.actor.forward()
        action, scale, _ = np.split(np.tanh(self.actor.out_np[0] / 2), 3, axis=1)
        low = self.config.clamp_epsilon
        pre_squash = np.clip(np.abs(scale), low, 1 - low) * action
        if active is not None:
            pre_squash *= active
        if noise_std > 0:
            noise = self.noise.normal_(generator=self.policy.generator).numpy()
            pre_squash += np.clip(noise * np.float32(noise_std), -1, 1)
        return np.tanh(pre_squash)


class _Block:
    """A feed-forward block on a fixed input tensor, with all its intermediate and gradient memory.

    Args:
        module: the parameters; its first ``x.shape[1]`` inputs are used.
        x: (batch, in), written by the caller before :meth:`forward`.
        learns: whether :meth:`backward` gives the parameters' gradients.
        live: of how many first input columns it gives the gradient, summed over heads.
    """

    def __init__(self, module: FeedForward, x: Tensor, *, learns: bool, live: int):
        from cadenza.agents.symphony import kernels

        self.kernels: Any = kernels
        self.learns, self.live = learns, live
        w = self.weights = _each(module.weights(), Tensor.detach)
        heads, hidden, outputs, batch = module.heads, module.hidden_size, module.out_size, len(x)
        inputs = x.shape[1]
        self.x = x.unsqueeze(0).expand(heads, -1, -1)
        self.w1, self.bias3 = w.weight1[:, :inputs], w.bias3.unsqueeze(1)
        wide: list[Tensor] = [torch.empty(heads, batch, hidden) for _ in range(8)]
        self.pre1, self.y1, self.pre2, self.y2, self.grad_y2, self.grad_pre2, self.grad_y1, self.grad_pre1 = wide
        self.pre1_np, self.y1_np, self.pre2_np, self.y2_np = (t.numpy() for t in wide[:4])
        self.grad_y2_np, self.grad_pre2_np, self.grad_y1_np, self.grad_pre1_np = (t.numpy() for t in wide[4:])
        self.normed, self.derivative, self.angle = (np.empty((heads, batch, hidden), np.float32) for _ in range(3))
        self.rstd = np.empty((heads, batch), np.float32)
        self.scale, self.inverse = np.empty((heads, hidden), np.float32), np.empty((heads, hidden), np.float32)
        self.out, self.grad_out = torch.empty(heads, batch, outputs), torch.empty(heads, batch, outputs)
        self.out_np, self.grad_out_np = self.out.numpy(), self.grad_out.numpy()
        self.bias1_np, self.norm_weight_np, self.norm_bias_np, self.bias2_np = (
            t.numpy() for t in (w.bias1, w.norm_weight, w.norm_bias, w.bias2)
        )
        assert w.raw_scale is not None
        self.raw_scale_np = w.raw_scale.numpy()
        self.w2t, self.w3t = w.weight2.transpose(1, 2), w.weight3.transpose(1, 2)
        self.xt, self.y1t, self.y2t = self.x.transpose(1, 2), self.y1.transpose(1, 2), self.y2.transpose(1, 2)
        # Gradients, in the order of BlockWeights; the sums over the batch are written even where nobody learns.
        self.gradients = _each(w._replace(weight1=self.w1), lambda t: t.new_empty(t.shape))
        self.gradients_np = [None if t is None else t.numpy() for t in self.gradients]
        if live:
            self.w1t_live = w.weight1[:, :live].transpose(1, 2)
            self.grad_x = torch.empty(heads, batch, live)
            self.grad_x_heads_np = self.grad_x.numpy()
            self.grad_x_np = np.empty((batch, live), np.float32)

    def forward(self) -> None:
        """``out`` (heads, batch, out) of ``x``."""
        k, w = self.kernels, self.weights
        torch.bmm(self.x, self.w1, out=self.pre1)
        k.norm_forward(
            self.pre1_np, self.bias1_np, self.norm_weight_np, self.norm_bias_np, LAYER_NORM_EPS,
            self.y1_np, self.normed, self.rstd,
        )  # fmt: skip
        torch.bmm(self.y1, w.weight2, out=self.pre2)
        k.scale_of(self.raw_scale_np, self.scale, self.inverse)
        k.resine_forward(
            self.pre2_np, self.bias2_np, self.scale, self.inverse, self.y2_np, self.derivative, self.angle
        )  # fmt: skip
        torch.baddbmm(self.bias3, self.y2, w.weight3, out=self.out)

    def backward(self) -> None:
        """From ``grad_out`` to ``gradients`` and ``grad_x_np``, as far as wanted."""
        k, g = self.kernels, self.gradients_np
        torch.bmm(self.grad_out, self.w3t, out=self.grad_y2)
        k.resine_backward(
            self.grad_y2_np, self.y2_np, self.derivative, self.angle, self.scale, self.grad_pre2_np, g[5], g[6]
        )  # fmt: skip
        torch.bmm(self.grad_pre2, self.w2t, out=self.grad_y1)
        k.norm_backward(
            self.grad_y1_np, self.normed, self.rstd, self.norm_weight_np, self.grad_pre1_np, g[2], g[3], g[1]
        )  # fmt: skip
        if self.learns:
            torch.bmm(self.xt, self.grad_pre1, out=self.gradients.weight1)
            torch.bmm(self.y1t, self.grad_pre2, out=self.gradients.weight2)
            torch.bmm(self.y2t, self.grad_out, out=self.gradients.weight3)
            k.column_sum(self.grad_out_np, g[9])
        if self.live:
            torch.bmm(self.grad_pre1, self.w1t_live, out=self.grad_x)
            k.head_sum(self.grad_x_heads_np, self.grad_x_np)


def _moments(
    policy: SymphonyPolicy, module: FeedForward, block: _Block, target: FeedForward | None
) -> tuple[tuple[Array, ...], ...]:
    """Flat views of parameters, gradients, both moments (and the target's parameters), part by part.

    Of the first layer only the rows of live inputs: the others' gradients are zero.
    """
    columns: list[list[Array]] = [[] for _ in range(4 if target is None else 5)]
    copies = module.weights() if target is None else target.weights()
    for parameter, gradient, copy in zip(module.weights(), block.gradients, copies, strict=True):
        if parameter is None or gradient is None or copy is None:
            continue
        state = policy.optimizer.state[parameter]
        whole = [parameter, gradient, state["exp_avg"], state["exp_avg_sq"], copy][: len(columns)]
        parts = [whole]
        if gradient.shape != parameter.shape:
            parts = [[x[head, : gradient.shape[1]] for x in whole] for head in range(len(parameter))]
        for part in parts:
            for column, x in zip(columns, part, strict=True):
                flat = x.detach().view(-1)  # a view, or an error
                column.append(flat.numpy())
    return tuple(tuple(column) for column in columns)


def _each(block: BlockWeights, change: Callable[[Tensor], Tensor]) -> BlockWeights:
    values: list[Any] = [None if t is None else change(t) for t in block]
    return BlockWeights(*values)

"""Symphony's networks as one Stable-Baselines3 policy: actor, three critics, target, feature extractor, normaliser.

Actions inside are scaled to [-1, 1], as everywhere in Stable-Baselines3; a_max of the paper is the scaling to the
action space's bounds, done by ``predict``. The target copies what the critics' values depend on: the critics and, where
there is one, the feature extractor with its reward network. Where a part of the observation is privileged
(:mod:`cadenza.agents.asymmetric`), the actors read the leading entries only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.optim.adamw import adamw

from cadenza.agents.symphony.losses import fading_weights
from cadenza.agents.symphony.networks import FeedForward, FourierSeries, GradientDropout
from cadenza.agents.symphony.presets import ALPHA, SymphonyConfig

SETTLED_STEP = 1e9
"""Adam's step count from the first update on. Its bias corrections 1 - beta^t are then exactly 1, which turns torch's
fused AdamW into the paper's optimiser without bias correction."""


class ObservationNormalizer(nn.Module):
    """clip((obs - mean)/std, +-limit); a dimension that never varied gives 0. Identity until :meth:`update`."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, size: int, limit: float):
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("inverse_std", torch.ones(size))

    def update(self, mean: Tensor, std: Tensor) -> None:
        """Set the moments; both of shape (obs,)."""
        varies = std > 1e-6
        self.mean.copy_(mean)
        self.inverse_std.copy_(torch.where(varies, 1.0 / std.clamp_min(1e-6), torch.zeros_like(std)))

    def forward(self, obs: Tensor) -> Tensor:
        return ((obs - self.mean) * self.inverse_std).clamp(-self.limit, self.limit)

    def leading(self, size: int) -> ObservationNormalizer:
        """A normaliser for the first ``size`` entries alone, with the moments of now."""
        part = ObservationNormalizer(size, self.limit).to(self.mean)
        part.mean.copy_(self.mean[:size])
        part.inverse_std.copy_(self.inverse_std[:size])
        return part


class Actor(nn.Module):
    """FF(obs, h, 3A) -> tanh(./2) -> action A, scale S = |.|, resistance B = |.|, each of shape (batch, actions)."""

    def __init__(self, in_size: int, action_size: int, config: SymphonyConfig, dropout: nn.Module):
        super().__init__()
        self.net = FeedForward(in_size, config.hidden_size, 3 * action_size, activation=config.resine)
        self.dropout = dropout
        self.bounds = (config.clamp_epsilon, 1.0 - config.clamp_epsilon) if config.clamp == "actor" else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        action, scale, resistance = torch.tanh(self.dropout(self.net(x)[0]) / 2).chunk(3, dim=-1)
        scale, resistance = scale.abs(), resistance.abs()
        if self.bounds is not None:
            scale, resistance = scale.clamp(*self.bounds), resistance.clamp(*self.bounds)
        return action, scale, resistance


class CriticStack(nn.Module):
    """Three critics and all their values depend on: (s, a) -> (batch, Nq).

    With ``config.feature_extractor`` (Saya): z(s) = RMSNorm([s, F(s)]), the reward network R on [a, z] with a latent of
    width k before its scalar output, and za = RMSNorm([a, z, latent*]); the critics read za, else [a, s].

    With ``groups`` K > 1 there are three critics for each reward group, group after group, in one batched product.
    """

    value_weights: Tensor

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        config: SymphonyConfig,
        dropouts: tuple[nn.Module, nn.Module],
        groups: int = 1,
    ):
        super().__init__()
        self.groups = groups
        h, n, k = config.hidden_size, config.critic_nodes, config.latent_size
        self.extractor: FourierSeries | None = None
        self.z_size = obs_size
        if config.feature_extractor:
            self.extractor = FourierSeries(obs_size, h, k, activation=config.resine)
            self.z_size = obs_size + k
            self.z_norm = nn.RMSNorm(self.z_size)
            self.reward_net = FeedForward(action_size + self.z_size, h, k, activation=config.resine)
            self.reward_out = nn.Linear(k, 1)
            self.za_norm = nn.RMSNorm(action_size + self.z_size + k)
            critic_in, live = action_size + self.z_size + k, None
        else:
            critic_in, live = action_size + obs_size, action_size
        self.critics = FeedForward(critic_in, h, n, heads=3 * groups, activation=config.resine, live=live)
        self.output_dropout, self.latent_dropout = dropouts
        weights = torch.as_tensor(fading_weights(config.critic_weights, config.value_count), dtype=torch.float32)
        self.register_buffer("value_weights", weights, persistent=False)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those the actor depends on too: the feature extractor's."""
        return [] if self.extractor is None else [*self.extractor.parameters(), *self.z_norm.parameters()]

    def z(self, obs: Tensor) -> Tensor:
        """State features, shape (batch, obs + k); the observation itself without an extractor."""
        return obs if self.extractor is None else self.z_norm(torch.cat([obs, self.extractor(obs)], -1))

    def predict_reward(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Reward latent (batch, k) and predicted normalised reward (batch, 1)."""
        latent = self.latent_dropout(self.reward_net(torch.cat([action, z], -1))[0])
        return latent, self.reward_out(latent)

    def values(self, z: Tensor, action: Tensor, latent: Tensor | None) -> Tensor:
        """All critic values, (batch, K Nq). ``latent`` is :meth:`predict_reward`'s; its gradient is stopped here."""
        if self.extractor is None:
            features = torch.cat([action, z], -1)
        else:
            assert latent is not None
            features = self.za_norm(torch.cat([action, z, latent.detach()], -1))
        return self.output_dropout(torch.cat(self.critics(features).unbind(0), -1))

    def value(self, values: Tensor) -> Tensor:
        """Sorted, weighted sum of each group's values (batch, K Nq): (batch, K). The weights fade out the largest."""
        if self.groups > 1:
            return self._ranked_sum(values.unflatten(-1, (self.groups, -1))).squeeze(-1)
        return self._ranked_sum(values)

    def _ranked_sum(self, values: Tensor) -> Tensor:
        # Each value gets the weight of its rank. NumPy's argsort is several times faster than torch's sort.
        fixed = values.detach()
        order = (
            torch.from_numpy(np.argsort(fixed.numpy(), axis=-1)) if fixed.device.type == "cpu" else fixed.argsort(-1)
        )
        weights = torch.empty_like(fixed).scatter_(-1, order, self.value_weights.to(fixed.dtype).expand_as(fixed))
        return (values * weights).sum(-1, keepdim=True)


class SymphonyPolicy(BasePolicy):
    """Actor, critics, target critics, normaliser and optimiser of one Symphony learner.

    Args:
        observation_space, action_space: Boxes.
        lr_schedule: Stable-Baselines3's learning-rate schedule.
        config: the resolved settings.
        generator: source of acting and update noise.
        critic_generator: source of the critics' gradient dropout. Its own, because actor and critics may run beside
            each other, where the order of draws from a common source would be chance.
        actor_observation_size: how many leading entries the actor sees; None: all.
        gammas: discount of each reward group that has critics of its own; None: one triple for a scalar reward.

    Raises:
        ValueError: settings that cannot have several actors' views or several groups.
    """

    value_trace: Tensor
    attention: NDArray[np.float32]
    """Weights of the groups' advantages at this moment, (K,): 0 for a group that says nothing. The learner sets it."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        config: SymphonyConfig,
        generator: torch.Generator | None = None,
        critic_generator: torch.Generator | None = None,
        actor_observation_size: int | None = None,
        gammas: tuple[float, ...] | None = None,
    ):
        super().__init__(observation_space, action_space, squash_output=True)
        obs_size, action_size = spaces.flatdim(observation_space), spaces.flatdim(action_space)
        if actor_observation_size is not None and config.feature_extractor:
            raise ValueError(
                "Symphony: actor and critics share the feature extractor z(s) (presets saya, saya_paper), which would "
                f"show the actor more than the {actor_observation_size} of {obs_size} entries that this environment "
                "lets it see. Take a preset without one, such as cpu or s3."
            )
        self.gammas = gammas if gammas is not None and len(gammas) > 1 else None
        groups = 1 if self.gammas is None else len(self.gammas)
        if groups > 1 and (config.feature_extractor or config.swaddling_in_target):
            raise ValueError(
                "Symphony: presets with a feature extractor (saya, saya_paper) learn from one reward, which its reward "
                f"network predicts; this learner has {groups} reward groups. Take cpu or s3, or critics='summed'."
            )
        self.attention = np.full(groups, 1.0 / groups, dtype=np.float32)
        self.config = config
        self.actor_observation_size = actor_observation_size
        self.generator = generator
        self.action_size = action_size
        self.normalizer = ObservationNormalizer(obs_size, config.normalize_clip)
        output = self._dropout(config.gradient_dropout == "output", critic_generator)
        latent = self._dropout(config.gradient_dropout == "latent", critic_generator)
        self.critic = CriticStack(obs_size, action_size, config, (output, latent), groups)
        actor_output = self._dropout(config.gradient_dropout == "output", generator)
        actor_in = actor_observation_size or self.critic.z_size
        self.actor = Actor(actor_in, action_size, config, actor_output)
        self.critic_target = CriticStack(obs_size, action_size, config, (nn.Identity(), nn.Identity()), groups)
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.requires_grad_(False).eval()
        self.average: Actor | None = None
        if config.actor_average:
            self.average = Actor(actor_in, action_size, config, nn.Identity())
            self.average.load_state_dict(self.actor.state_dict())
            self.average.requires_grad_(False).eval()
        # Q_(T-1), carried from update to update; of each group where there are several.
        self.register_buffer("value_trace", torch.zeros(()) if groups == 1 else torch.zeros(groups))
        self.optimizer = self._make_optimizer(float(lr_schedule(1)))

    def _dropout(self, active: bool, generator: torch.Generator | None) -> nn.Module:
        return GradientDropout(self.config.gradient_dropout_p, generator) if active else nn.Identity()

    def _make_optimizer(self, learning_rate: float) -> torch.optim.AdamW:
        """AdamW with beta1 = alpha, beta2 = 1 - tau and no bias correction (see :data:`SETTLED_STEP`)."""
        config = self.config
        epsilon = 1.0 - 1e-8 if config.annealed_epsilon else 1e-8
        parameters = [*self.actor.parameters(), *self.critic.parameters()]
        return torch.optim.AdamW(
            parameters,
            lr=learning_rate,
            betas=(ALPHA, 1.0 - config.tau),
            eps=epsilon,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def initialize_optimizer(self) -> None:
        """Lay out zero moments on the parameters' device, with the step count settled. Call after ``to(device)``."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(SETTLED_STEP, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }

    # ------------------------------------------------------------------ acting

    def bounded_noise(self, like: Tensor, std: float) -> Tensor:
        """N = std * clip(randn, -1/std, 1/std), inside [-1, 1], of ``like``'s shape."""
        noise = torch.randn(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)
        return noise.clamp_(-1 / std, 1 / std).mul_(std)

    def normalized(self, obs: Tensor) -> Tensor:
        """Observations as the networks see them, (batch, obs)."""
        flat = obs.flatten(1)
        return self.normalizer(flat) if self.config.normalize_observations else flat

    def actor_input(self, obs: Tensor) -> Tensor:
        """What the actor reads of :meth:`normalized` observations: z(s), or the measured entries alone."""
        return self.critic.z(obs) if self.actor_observation_size is None else obs[:, : self.actor_observation_size]

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Raw observations -> actions in [-1, 1], shape (batch, actions)."""
        return self._predict(obs, deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        if deterministic:
            return self.act(observation, noise_std=0.0, actor=self.calm_actor())
        return self.act(observation, noise_std=self.config.noise_std)

    def act(self, obs: Tensor, noise_std: float, active: Tensor | None = None, actor: Actor | None = None) -> Tensor:
        """tanh(active * S * A + N) for raw observations (batch, obs); no noise where ``noise_std`` is 0.

        ``active``: (batch, 1) of ones and zeros; a zero leaves only the noise (deliberate fall). ``actor``: another
        than the newest.
        """
        dtype = self.normalizer.mean.dtype
        action, scale, _ = (actor or self.actor)(self.actor_input(self.normalized(obs.to(dtype))))
        pre_squash = scale * action
        if active is not None:
            pre_squash = pre_squash * active
        if noise_std > 0:
            pre_squash = pre_squash + self.bounded_noise(pre_squash, noise_std)
        return torch.tanh(pre_squash)

    def calm_actor(self) -> Actor:
        """The actor of noise-free acting: the averaged one where there is one."""
        return self.actor if self.average is None else self.average

    def deterministic_module(self) -> nn.Module:
        """Raw observation (batch, obs) -> noise-free action in [-1, 1]: what a policy bundle carries.

        Where a part of the observation is privileged, it takes the measured entries alone.
        """
        return _DeterministicActor(self) if self.actor_observation_size is None else _MeasuredActor(self)

    # ------------------------------------------------------------------ learning

    def actor_gradients(self, loss: Tensor) -> list[Tensor]:
        """Gradients of the actor branch: of the actor's parameters, then of those it shares with the critics."""
        return list(torch.autograd.grad(loss, [*self.actor.parameters(), *self.critic.shared_parameters()]))

    def critic_gradients(self, loss: Tensor) -> list[Tensor]:
        """Gradients of the critic branch, of all the critics' parameters."""
        return list(torch.autograd.grad(loss, list(self.critic.parameters())))

    def share_gradients(self, actor: list[Tensor], critic: list[Tensor]) -> None:
        """Add what the actor branch gave to shared parameters to the critic branch's; drop it from ``actor``."""
        shared = self.critic.shared_parameters()
        if not shared:
            return
        place = {id(parameter): index for index, parameter in enumerate(self.critic.parameters())}
        for parameter, gradient in zip(shared, actor[-len(shared) :], strict=True):
            critic[place[id(parameter)]].add_(gradient)
        del actor[-len(shared) :]

    def step_actor(self, gradients: list[Tensor]) -> None:
        """AdamW step of the actor's parameters."""
        self._step(list(self.actor.parameters()), gradients)

    def step_critics(self, gradients: list[Tensor]) -> None:
        """AdamW step of the critics' parameters."""
        self._step(list(self.critic.parameters()), gradients)

    @torch.no_grad()
    def _step(self, parameters: list[nn.Parameter], gradients: list[Tensor]) -> None:
        # One optimiser object holds the state; its functional form steps the part of it that is ready.
        group, state = self.optimizer.param_groups[0], [self.optimizer.state[p] for p in parameters]
        adamw(
            list(parameters), gradients, [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [],
            [s["step"] for s in state], fused=True, amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1],
            lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip

    @torch.no_grad()
    def update_target(self) -> None:
        """Polyak step of the target towards the online critics."""
        torch._foreach_lerp_(
            list(self.critic_target.parameters()), list(self.critic.parameters()), weight=self.config.tau
        )

    @torch.no_grad()
    def update_average(self) -> None:
        """Polyak step of the averaged actor, where there is one, towards the newest."""
        if self.average is not None:
            weight = self.config.actor_average
            torch._foreach_lerp_(list(self.average.parameters()), list(self.actor.parameters()), weight=weight)

    def anneal_epsilon(self) -> None:
        """eps_t = eps_(t-1) beta2 + 1e-8 (1 - beta2), before each optimiser step (Saya); otherwise nothing."""
        if self.config.annealed_epsilon:
            for group in self.optimizer.param_groups:
                beta2 = group["betas"][1]
                group["eps"] = group["eps"] * beta2 + 1e-8 * (1.0 - beta2)

    def set_training_mode(self, mode: bool) -> None:
        # Stable-Baselines3 switches twice per step, and without dropout nothing depends on it: walking through all
        # modules would cost more than acting does.
        if self.config.gradient_dropout == "none":
            return
        self.train(mode)
        self.critic_target.eval()
        if self.average is not None:
            self.average.eval()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,  # as in Stable-Baselines3: the optimiser is not stored
            "config": self.config,
            "actor_observation_size": self.actor_observation_size,
            "gammas": self.gammas,
        }


def check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Raise ValueError, with advice, for spaces that the policy cannot have."""
    if not isinstance(action_space, spaces.Box):
        raise ValueError(
            f"Symphony drives continuous actions (a bounded Box); this environment's action space is {action_space}. "
            "Use PPO for discrete actions."
        )
    if not isinstance(observation_space, spaces.Box):
        raise ValueError(
            f"Symphony reads one Box of numbers; this environment's observation space is {observation_space}. "
            "Wrap the environment in gymnasium.wrappers.FlattenObservation."
        )


class _DeterministicActor(nn.Module):
    """The acting path alone, in operations that export to ONNX."""

    def __init__(self, policy: SymphonyPolicy):
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> Tensor:
        with torch.no_grad():
            action, scale, _ = self.policy.calm_actor()(self.policy.critic.z(self.policy.normalized(obs)))
            return torch.tanh(scale * action)


class _MeasuredActor(nn.Module):
    """The same for a policy whose actor reads ``actor_observation_size`` entries, and with nothing else in it."""

    def __init__(self, policy: SymphonyPolicy):
        super().__init__()
        size = policy.actor_observation_size
        assert size is not None
        self.normalizer = policy.normalizer.leading(size) if policy.config.normalize_observations else nn.Identity()
        self.actor = policy.calm_actor()

    def forward(self, obs: Tensor) -> Tensor:
        with torch.no_grad():
            action, scale, _ = self.actor(self.normalizer(obs))
            return torch.tanh(scale * action)

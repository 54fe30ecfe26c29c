"""One actor and K critics, each a network of its own, as a Stable-Baselines3 policy; both normalisers live inside.

The first critic is the one that Stable-Baselines3's ActorCriticPolicy has anyway, and is made at the same moment; the
others are made after it. So a policy with one critic draws the same random weights, and is the same policy.

Values that leave this class are in units of the reward. Inside, a critic may work in units of its own return
normaliser: when that moves, the critic's last layer is rescaled so that the values stay what they were (Pop-Art, van
Hasselt et al., arXiv 1602.07714).
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from cadenza.agents.slim.multi_critic_buffer import FLAT
from cadenza.agents.symphony.policy import ObservationNormalizer
from cadenza.envs.errors import CadenzaError

_RETURN_RATE = 0.05
"""How fast the return normaliser follows: rewards that are learned, as diversity is, change their size for good."""


class NormalizingExtractor(FlattenExtractor):
    """A flat observation, normalised by the running mean and deviation of all rollouts, clipped to +-``limit``."""

    mean: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, observation_space: spaces.Space, limit: float = 10.0):
        super().__init__(observation_space)
        size = self.features_dim
        self.normalizer = ObservationNormalizer(size, limit)
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        return self.normalizer(self.flatten(observations))

    def update(self, observations: Tensor) -> None:
        """Take a rollout's observations, shape (M, obs), into the moments (Chan et al. 1979)."""
        batch = self.flatten(observations).double()
        size, total = len(batch), self.count + len(batch)
        gap = batch.mean(0) - self.mean
        self.squares += (batch - batch.mean(0)).square().sum(0) + gap.square() * self.count * size / total
        self.mean += gap * size / total
        self.count.copy_(total)
        self.normalizer.update(self.mean.float(), (self.squares / total).sqrt().float())


class ReturnNormalizer(nn.Module):
    """Mean and deviation of each group's returns, as exponential averages over rollouts; shapes (K,)."""

    mean: Tensor
    std: Tensor
    first: Tensor
    second: Tensor
    rollouts: Tensor

    def __init__(self, groups: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(groups))
        self.register_buffer("std", torch.ones(groups))
        self.register_buffer("first", torch.zeros(groups, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(groups, dtype=torch.float64))
        self.register_buffer("rollouts", torch.zeros((), dtype=torch.float64))

    def update(self, returns: Tensor) -> None:
        """Take the returns (M, K) of one rollout into the moments."""
        batch = returns.double()
        self.rollouts += 1
        rate = torch.clamp(1.0 / self.rollouts, min=_RETURN_RATE)
        self.first += rate * (batch.mean(0) - self.first)
        self.second += rate * (batch.square().mean(0) - self.second)
        self.mean.copy_(self.first)
        self.std.copy_((self.second - self.first.square()).clamp_min(FLAT**2).sqrt())


class Critic(nn.Module):
    """One more critic: features (batch, features) -> value (batch, 1)."""

    def __init__(self, body: nn.Module, width: int):
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.body(features))


class MultiCriticPolicy(ActorCriticPolicy):
    """``MlpPolicy`` of :class:`~cadenza.agents.slim.MultiCriticPPO`.

    Args:
        critics: K.
        normalize_returns: let each critic work in units of its own returns. The heads start at 0 then, so that the
            first advantages, too, scale with the reward.
        normalize_observations: normalise inside the policy (:class:`NormalizingExtractor`).
        arguments, keywords: those of ActorCriticPolicy.

    Raises:
        CadenzaError: ``normalize_observations`` beside a features extractor of another kind.
    """

    def __init__(
        self,
        *arguments: Any,
        critics: int = 1,
        normalize_returns: bool = False,
        normalize_observations: bool = False,
        **keywords: Any,
    ):
        self.critics, self.normalize_returns = critics, normalize_returns
        self.normalize_observations = normalize_observations
        if normalize_observations:
            given = keywords.setdefault("features_extractor_class", NormalizingExtractor)
            if not issubclass(given, NormalizingExtractor) or not keywords.get("share_features_extractor", True):
                raise CadenzaError(
                    f"normalize_observations is a features extractor of its own, shared by actor and critics; "
                    f"{given.__name__} cannot be used beside it.",
                    "Leave one of them out.",
                )
        super().__init__(*arguments, **keywords)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = ("critics", "normalize_returns", "normalize_observations")
        return {**super()._get_constructor_parameters(), **{name: getattr(self, name) for name in own}}

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.further_critics = nn.ModuleList(self._another_critic() for _ in range(self.critics - 1))
        self.return_normalizer = ReturnNormalizer(self.critics)
        if self.normalize_returns:
            for head in self.value_heads():
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)
        if self.critics > 1:  # the optimiser that Stable-Baselines3 has just made knows the first critic only
            self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _another_critic(self) -> Critic:
        layers = self.net_arch if isinstance(self.net_arch, list) else self.net_arch.get("vf", [])
        arch: dict[str, list[int]] = {"pi": [], "vf": layers}
        extractor = MlpExtractor(self.features_dim, arch, self.activation_fn, device=self.device)
        critic = Critic(extractor.value_net, extractor.latent_dim_vf)
        if self.ortho_init:
            critic.body.apply(lambda module: self.init_weights(module, gain=2**0.5))
            critic.head.apply(lambda module: self.init_weights(module, gain=1))
        return critic

    # ------------------------------------------------------------------ values

    def value_heads(self) -> list[nn.Linear]:
        """The last layer of each critic, in the order of the groups."""
        return [self.value_net, *(critic.head for critic in self.further_critics)]  # type: ignore[list-item]

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of the actor (with a shared features extractor), then those of each critic."""
        first = [*self.mlp_extractor.value_net.parameters(), *self.value_net.parameters()]
        critics = [first, *(list(critic.parameters()) for critic in self.further_critics)]
        taken = {id(parameter) for critic in critics for parameter in critic}
        return [[parameter for parameter in self.parameters() if id(parameter) not in taken], *critics]

    def update_return_normalizer(self, returns: Tensor) -> None:
        """Move the normaliser to the returns (M, K) of a rollout and rescale the heads, so that no value changes."""
        normalizer = self.return_normalizer
        old_mean, old_std = normalizer.mean.clone(), normalizer.std.clone()
        normalizer.update(returns)
        with torch.no_grad():
            for k, head in enumerate(self.value_heads()):
                head.weight *= old_std[k] / normalizer.std[k]
                head.bias.copy_((old_std[k] * head.bias + old_mean[k] - normalizer.mean[k]) / normalizer.std[k])

    def _values(self, features: Tensor) -> Tensor:
        values = self.value_net(self.mlp_extractor.forward_critic(features))
        if self.critics > 1:
            values = torch.cat([values, *(critic(features) for critic in self.further_critics)], 1)
        if self.normalize_returns:
            values = values * self.return_normalizer.std + self.return_normalizer.mean
        return values

    # ------------------------------------------------------------------ what Stable-Baselines3 calls

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (N, ...), values (N, K) and log-probabilities (N,)."""
        actor_features, critic_features = self._both_features(obs)
        distribution = self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(actor_features))
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape((-1, *self.action_space.shape)), self._values(critic_features), log_prob  # type: ignore[misc]

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, K), log-probabilities (B,) and entropies (B,) of stored actions."""
        actor_features, critic_features = self._both_features(obs)
        distribution = self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(actor_features))
        return self._values(critic_features), distribution.log_prob(actions), distribution.entropy()

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """V_k(s) of every group, shape (N, K), in units of the reward."""
        return self._values(self._both_features(obs)[1])

    def _both_features(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        features = self.extract_features(obs)
        return features if isinstance(features, tuple) else (features, features)

    def deterministic_module(self) -> nn.Module:
        """Raw observations (batch, obs) -> mean actions scaled to [-1, 1], for export.

        Raises:
            CadenzaError: actions that are not a bounded Box of numbers.
        """
        if not isinstance(self.action_space, spaces.Box):
            raise CadenzaError(f"Actions of the kind {self.action_space} cannot be exported; a bounded Box can.")
        return _MeanAction(self)


class _MeanAction(nn.Module):
    """The Gaussian's mean, clipped to the bounds as ``predict`` does, scaled to [-1, 1]."""

    low: Tensor
    high: Tensor

    def __init__(self, policy: MultiCriticPolicy):
        super().__init__()
        assert isinstance(policy.action_space, spaces.Box)
        self.features, self.body = policy.pi_features_extractor, policy.mlp_extractor.policy_net
        self.mean = policy.action_net
        self.register_buffer("low", torch.as_tensor(policy.action_space.low))
        self.register_buffer("high", torch.as_tensor(policy.action_space.high))

    def forward(self, obs: Tensor) -> Tensor:
        mean = self.mean(self.body(self.features(obs)))
        clipped = torch.minimum(torch.maximum(mean, self.low), self.high)
        return 2.0 * (clipped - self.low) / (self.high - self.low) - 1.0

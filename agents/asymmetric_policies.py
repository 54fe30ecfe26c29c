"""Stable-Baselines3's policies with an actor that reads the measured part of the observation; critics read all of it.

They take the place of MlpPolicy in PPO, SAC and TD3; :mod:`cadenza.agents.asymmetric_contrib` has those of sb3-contrib.
Each is the original but for the features extractor of its actor.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor


class MeasuredExtractor(FlattenExtractor):
    """The first ``size`` entries of a flat observation: (batch, obs) -> (batch, size)."""

    def __init__(self, observation_space: spaces.Space, size: int):
        super().__init__(observation_space)
        self.size = self._features_dim = size

    def forward(self, observations: Tensor) -> Tensor:
        return self.flatten(observations)[:, : self.size]


class MeasuredActor:
    """Mixin for off-policy policies: every actor they make, a target actor too, reads the measured part.

    Args:
        actor_observation_size: how many leading entries of the observation that is.
        arguments, keywords: the policy's own.

    Raises:
        ValueError: a features extractor that actor and critics would share, or one of another kind.
    """

    def __init__(self, *arguments: Any, actor_observation_size: int, **keywords: Any):
        self.actor_observation_size = actor_observation_size
        super().__init__(*arguments, **_separate(keywords))

    def make_actor(self, features_extractor: Any = None) -> Any:
        policy: Any = super()
        space: spaces.Space = self.observation_space  # type: ignore[attr-defined]
        return policy.make_actor(MeasuredExtractor(space, self.actor_observation_size))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        policy: Any = super()
        return {**policy._get_constructor_parameters(), "actor_observation_size": self.actor_observation_size}


class AsymmetricSACPolicy(MeasuredActor, SACPolicy):
    """SAC's."""


class AsymmetricTD3Policy(MeasuredActor, TD3Policy):
    """TD3's."""


class AsymmetricActorCriticPolicy(ActorCriticPolicy):
    """PPO's: the policy network reads the measured part, the value network all.

    Args:
        actor_observation_size: how many leading entries of the observation the policy network reads.
        arguments, keywords: those of ActorCriticPolicy.

    Raises:
        ValueError: a features extractor that both would share, or one of another kind.
    """

    def __init__(self, *arguments: Any, actor_observation_size: int, **keywords: Any):
        self.actor_observation_size = actor_observation_size
        super().__init__(*arguments, **_separate(keywords))

    def _build_mlp_extractor(self) -> None:
        # The first thing that Stable-Baselines3 builds on its features extractors.
        measured = MeasuredExtractor(self.observation_space, self.actor_observation_size)
        self.features_extractor = self.pi_features_extractor = measured
        super()._build_mlp_extractor()
        actors = MlpExtractor(measured.features_dim, self.net_arch, self.activation_fn, self.device)
        self.mlp_extractor.policy_net, self.mlp_extractor.latent_dim_pi = actors.policy_net, actors.latent_dim_pi

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "actor_observation_size": self.actor_observation_size}


def _separate(keywords: dict[str, Any]) -> dict[str, Any]:
    if keywords.get("share_features_extractor"):
        raise ValueError(
            "share_features_extractor would show the actor the privileged part of the observation; leave it out."
        )
    if keywords.get("features_extractor_class", FlattenExtractor) is not FlattenExtractor:
        raise ValueError(
            "features_extractor_class has no form that keeps the privileged part of the observation from the actor; "
            "leave it out."
        )
    return {**keywords, "share_features_extractor": False}

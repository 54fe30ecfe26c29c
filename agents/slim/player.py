"""Who can play skills: a SLIM agent, or a policy bundle of one (:mod:`cadenza.agents.slim.skill_bundle`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import ArrayLike, NDArray

from cadenza.agents.slim.skills import SkillFeatures, SkillPrior

if TYPE_CHECKING:
    import gymnasium as gym
    import numpy as np
    from stable_baselines3.common.vec_env import VecEnv

    from cadenza.agents.slim.diversity import DiversityObjective
    from cadenza.agents.slim.presets import SlimConfig
    from cadenza.agents.slim.skill_env import PlayedSkills


class SkillPlayer(Protocol):
    """Skills that can be played and measured."""

    diversity: DiversityObjective
    """What tells them apart."""

    @property
    def config(self) -> SlimConfig:
        """The settings they were learned with."""
        ...

    @property
    def prior(self) -> SkillPrior:
        """What they are drawn from."""
        ...

    def features_in(self, env: gym.Env | VecEnv) -> SkillFeatures:
        """What of the observations of ``env`` (without skills) they change."""
        ...

    def stage(self, env: gym.Env) -> PlayedSkills:
        """A single environment as their policy sees it."""
        ...

    def act(self, observations: NDArray[Any], z: ArrayLike, deterministic: bool = True) -> NDArray[np.float32]:
        """Actions of the skills ``z`` for observations without a skill."""
        ...

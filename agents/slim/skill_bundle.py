"""Skills in a policy bundle: the policy reads z behind the observation, and phi says what tells the skills apart.

``cadenza export`` of a run of ``cadenza train slim`` writes them; everything that plays the skills of a run plays those
of a bundle too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
from numpy.typing import ArrayLike, NDArray

from cadenza.agents.slim.diversity import DiversityObjective, objective_class
from cadenza.agents.slim.presets import SlimConfig
from cadenza.agents.slim.skill_env import PlayedSkills
from cadenza.agents.slim.skills import SkillFeatures, SkillPrior, append_skills, features_of
from cadenza.controllers.bundle import SKILLS_FILE, BundleError, PolicyBundle

if TYPE_CHECKING:
    import gymnasium as gym
    from stable_baselines3.common.vec_env import VecEnv

_KEPT = ("objective", "skill", "skill_size", "features", "weights", "phi_hidden")
"""The settings without which skills cannot be played or rewarded; how they were learned is the card's to tell."""


def write_skills(config: SlimConfig, diversity: DiversityObjective, path: Path) -> dict[str, Any]:
    """Write phi to ``path``; the ``skills`` of a bundle's manifest."""
    safetensors.torch.save_file(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in diversity.state_dict().items()}, path
    )
    settings = dataclasses.asdict(config)
    kept = {name: settings[name] for name in _KEPT}
    return {**kept, "weights": dict(config.weights), "feature_size": diversity.feature_size}


class SkillBundle:
    """The skills of a policy bundle (:class:`~cadenza.agents.slim.player.SkillPlayer`).

    Args:
        bundle: of an agent with skills; its loading has compared all files with the manifest.

    Raises:
        BundleError: a bundle without skills, or whose ``skills.safetensors`` does not fit its settings.
    """

    def __init__(self, bundle: PolicyBundle):
        self.bundle, manifest = bundle, bundle.manifest
        if manifest.skills is None:
            raise BundleError(f"{bundle.path} has no skills: it holds a policy of {manifest.agent}.")
        told = dict(manifest.skills)
        try:
            size = int(told.pop("feature_size"))
            hidden = tuple(int(one) for one in told.pop("phi_hidden"))
            self.config = SlimConfig(**told, phi_hidden=hidden)
            self.prior = SkillPrior(self.config.skill, self.config.skill_size)
            self.diversity = objective_class(self.config.objective)(size, self.prior, hidden=hidden)
            self.diversity.load_state_dict(safetensors.torch.load_file(bundle.path / SKILLS_FILE))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BundleError(f"The skills of {bundle.path} cannot be read: {error}.", "Export them again.") from error

    def features_in(self, env: gym.Env | VecEnv) -> SkillFeatures:
        """What of the observations of ``env`` (without skills) these skills change."""
        return features_of(env, self.config.features)

    def stage(self, env: gym.Env) -> PlayedSkills:
        """A single environment as the policy sees it, with a skill in the observation."""
        return PlayedSkills(env, self)

    def act(self, observations: NDArray[Any], z: ArrayLike, deterministic: bool = True) -> NDArray[np.float32]:
        """Actions of skill ``z``, as :meth:`cadenza.agents.slim.SLIM.act`.

        Raises:
            CadenzaError: ``z`` is not a skill of this prior, observations of another size, or a draw is asked for: a
                bundle holds the noise-free policy alone.
        """
        if not deterministic:
            raise BundleError("A bundle has no noise: its actions are the policy's mean.", "Play the run instead.")
        size = self.bundle.manifest.observation_size
        return np.asarray(self.bundle.act(append_skills(observations, z, self.prior, size)), dtype=np.float32)

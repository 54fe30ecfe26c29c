"""SLIM: skills without a task reward, one critic per reward, as a Stable-Baselines3 algorithm.

Source: *SLIM: Skill Learning with Multiple Critics* (Emukpere, Wu, Perez, Renders; arXiv 2402.00823). The equations and
hyper-parameters of the paper were not at hand; docs/slim.md says what is from it and what is our design.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize, unwrap_vec_wrapper
from torch import nn

import cadenza.envs  # noqa: F401 - makes our ids known to gymnasium.make
from cadenza.agents.slim.diversity import DiversityObjective, objective_class
from cadenza.agents.slim.multi_critic_policy import MultiCriticPolicy
from cadenza.agents.slim.multi_critic_ppo import MultiCriticPPO
from cadenza.agents.slim.presets import DIVERSITY, REACH, SAFETY, SlimConfig, resolve_config
from cadenza.agents.slim.skill_bundle import write_skills
from cadenza.agents.slim.skill_env import PlayedSkills
from cadenza.agents.slim.skills import SkillConditioned, SkillFeatures, SkillPrior, append_skills, features_of
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name


class SLIM(MultiCriticPPO):
    """MultiCriticPPO on the reward groups of the environment and one more, ``diversity``, for skills z.

    Usage: ``SLIM("MlpPolicy", env, seed=0).learn(2_000_000)``, then ``model.act(observation, z)``. The environment
    declares its own groups, ``reach`` and ``safety`` for the default weights, and where its object is
    (:mod:`cadenza.envs.reward_groups`); it is wrapped in :class:`~cadenza.agents.slim.SkillConditioned` by itself.

    Args:
        policy: ``"MlpPolicy"``.
        env: a Gymnasium environment or id, or a VecEnv, with flat observations and a bounded Box action space.
        preset: a name of :data:`cadenza.agents.slim.PRESETS`: SLIM or one of its baselines.
        tensorboard_log, verbose, device, seed, stats_window_size, policy_kwargs: as in Stable-Baselines3.
        overrides: any field of :class:`~cadenza.agents.slim.SlimConfig`, e.g. ``objective``, ``weights``, ``n_steps``.

    Raises:
        CadenzaError: unknown preset, setting or reward group, weights that do not sum to 1, a setting out of range, or
            an environment that skills cannot be learned in.
    """

    diversity: DiversityObjective
    ranks_by_return: ClassVar[bool] = False
    """Whether the best of a run's evaluations is worth keeping: not here, since what a return says changes with phi."""

    def __init__(
        self,
        policy: str | type[MultiCriticPolicy],
        env: GymEnv | str | None,
        *,
        preset: str = "slim",
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        stats_window_size: int = 100,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **overrides: Any,
    ):
        config = resolve_config(preset, overrides)
        self.preset = preset
        self.settings: dict[str, Any] = dataclasses.asdict(config)
        """The :class:`SlimConfig` as JSON values."""
        self.diversity_seed: int | None = seed
        self.feature_size = 0
        weights = config.weights
        if env is not None:
            if _init_setup_model:
                env = conditioned(env, config, verbose=verbose, seed=seed)
            else:  # by load, which has wrapped it and puts the stored settings in the place of these
                weights = _layer(env).reward_weights
            self.feature_size = _layer(env).features.size
        hidden = list(config.hidden)
        super().__init__(
            policy,
            env,
            learning_rate=config.learning_rate,
            n_steps=config.n_steps,
            batch_size=config.batch_size,
            n_epochs=config.n_epochs,
            gamma=config.gamma if env is None else discounts(config, weights, _layer(env).reward_groups),
            gae_lambda=config.gae_lambda,
            clip_range=config.clip_range,
            normalize_advantage=config.normalize_advantage,
            ent_coef=config.ent_coef,
            vf_coef=config.vf_coef,
            max_grad_norm=config.max_grad_norm,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs={
                "net_arch": {"pi": hidden, "vf": hidden},
                "activation_fn": nn.ELU,
                "log_std_init": config.log_std_init,
                **(policy_kwargs or {}),
            },
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
            reward_weights=weights if env is not None else None,
            critics=config.critics,
            clip_mode=config.clip_mode,
            normalize_returns=config.normalize_returns,
            normalize_observations=config.normalize_observations,
            clip_gradients="each",
            desired_kl=config.desired_kl,
        )
        if _init_setup_model:
            self._setup_model()

    @property
    def config(self) -> SlimConfig:
        """The settings of this agent."""
        return resolve_config(self.preset, self.settings)

    @property
    def prior(self) -> SkillPrior:
        """What skills are drawn from."""
        return _prior(self.config)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.diversity_seed is None:
            self.diversity_seed = int(np.random.SeedSequence().generate_state(1)[0])
        config = self.config
        self.diversity = objective_class(config.objective)(
            self.feature_size,
            self.prior,
            hidden=config.phi_hidden,
            learning_rate=config.phi_learning_rate,
            epochs=config.phi_epochs,
            batch_size=config.phi_batch_size,
            seed=self.diversity_seed,
        ).to(self.device)
        if self.env is not None:
            _layer(self.env).objective = self.diversity

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As in Stable-Baselines3; skills are added where they are missing."""
        env = conditioned(env, self.config, verbose=self.verbose, seed=self.seed)
        super().set_env(env, force_reset)
        _layer(env).objective = self.diversity

    # ------------------------------------------------------------------ acting

    def features_in(self, env: gym.Env | VecEnv) -> SkillFeatures:
        """What of the observations of ``env`` (without skills) this agent's skills change."""
        return features_of(env, self.config.features)

    def stage(self, env: gym.Env) -> PlayedSkills:
        """A single environment as the policy sees it, with a skill in the observation (:mod:`skill_env`)."""
        return PlayedSkills(env, self)

    def act(self, observations: NDArray[Any], z: ArrayLike, deterministic: bool = True) -> NDArray[np.float32]:
        """Actions of skill ``z`` for observations without a skill.

        Args:
            observations: (obs,) or (N, obs).
            z: (size,), or (N, size) for a skill each.
            deterministic: the mean of the policy instead of a draw.

        Returns:
            (actions,) or (N, actions).

        Raises:
            CadenzaError: ``z`` is not a skill of this agent's prior, or the observations have another size.
        """
        whole = self.observation_space.shape
        assert whole is not None
        return self.predict(append_skills(observations, z, self.prior, whole[0]), deterministic=deterministic)[0]

    def write_skills(self, path: pathlib.Path) -> dict[str, Any]:
        """Write what tells the skills apart to ``path``; what a bundle's manifest says of them."""
        return write_skills(self.config, self.diversity, path)

    # ------------------------------------------------------------------ learning

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """As in MultiCriticPPO; transitions of before, such as of a rollout that was broken off, are forgotten."""
        _layer(env).forget_transitions()
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)

    def train(self) -> None:
        """Update actor and critics, then what tells skills apart: rewards in a rollout are all of one phi."""
        super().train()
        assert self.env is not None
        for name, value in self.diversity.update(_layer(self.env).take_transitions()).items():
            self.logger.record(f"diversity/{name}", value)

    # ------------------------------------------------------------------ storing

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """As in Stable-Baselines3; skills are added to ``env`` where they are missing."""
        if env is not None:
            data, _, _ = load_from_zip_file(path, device="cpu", custom_objects=custom_objects)
            assert data is not None
            config = resolve_config(data["preset"], data["settings"])
            env = conditioned(env, config, verbose=data["verbose"], seed=data["seed"])
        return super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        return [*modules, "diversity", "diversity.optimizer"], tensors

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint needs beside weights and counters: arrays and JSON values."""
        assert self.env is not None
        return {**super().get_extra_state(), "skills": _layer(self.env).skill_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Put :meth:`get_extra_state` back."""
        super().set_extra_state(state)
        assert self.env is not None
        _layer(self.env).set_skill_state(state["skills"])


def conditioned(env: GymEnv | str, config: SlimConfig, *, verbose: int = 0, seed: int | None = None) -> VecEnv:
    """``env`` vectorised and with skills; one that has them already is returned as it is.

    Raises:
        CadenzaError: skills of another kind, or observations that VecNormalize has changed.
    """
    vectorised: VecEnv = SLIM._wrap_env(maybe_make_env(env, verbose), verbose)
    if unwrap_vec_normalize(vectorised) is not None:
        raise CadenzaError(
            "SLIM reads the place of the object from the observation, which VecNormalize changes.",
            "Use the bare environment: observations are normalised inside the policy.",
        )
    found = unwrap_vec_wrapper(vectorised, SkillConditioned)
    if found is None:
        drawn = 0 if seed is None else seed
        return SkillConditioned(vectorised, _prior(config), config.features, config.weights, seed=drawn)
    if found.prior != _prior(config):
        raise CadenzaError(f"This agent's skills are {_prior(config)}; the environment's are {found.prior}.")
    wanted = features_of(found.venv, config.features)
    if (type(found.features), found.features.size) != (type(wanted), wanted.size):
        raise CadenzaError(
            f"This agent's skills are to change features={config.features!r}; the environment's change others "
            f"({type(found.features).__name__}, {found.features.size} numbers).",
            "Give both the same features, or the environment without skills: SLIM adds them.",
        )
    return vectorised


def discounts(config: SlimConfig, weights: Mapping[str, float], groups: Sequence[str]) -> float | dict[str, float]:
    """The discount of each group in ``weights``; a single critic has one for all.

    Raises:
        CadenzaError: a discount of a group that neither ``groups``, the environment's, nor SLIM's own have.
    """
    if config.critics != "per_group":
        return config.gamma
    known = dict.fromkeys((*groups, REACH, DIVERSITY, SAFETY))
    for name in config.gammas:
        if name not in known:
            raise unknown_name("reward group", name, known)
    return {name: config.gammas.get(name, config.gamma) for name in weights}


def _prior(config: SlimConfig) -> SkillPrior:
    return SkillPrior(config.skill, config.skill_size)


def _layer(env: GymEnv | str) -> SkillConditioned:
    assert isinstance(env, VecEnv)
    found = unwrap_vec_wrapper(env, SkillConditioned)
    assert found is not None, "SLIM wraps its environments itself"
    return found

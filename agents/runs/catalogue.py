"""The algorithms a run can train: Symphony, and those of Stable-Baselines3 and sb3-contrib for comparison."""

from __future__ import annotations

import copy
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from cadenza.agents.runs.settings import RunSettings

AGENTS: dict[str, tuple[str, str, str]] = {
    "symphony": ("cadenza.agents.symphony", "Symphony", "ours; off-policy, gentle actions, made for humanoids"),
    "sac": ("stable_baselines3", "SAC", "Soft Actor-Critic"),
    "td3": ("stable_baselines3", "TD3", "Twin Delayed DDPG"),
    "ppo": ("stable_baselines3", "PPO", "Proximal Policy Optimisation; on-policy"),
    "tqc": ("sb3_contrib", "TQC", "Truncated Quantile Critics"),
    "crossq": ("sb3_contrib", "CrossQ", "CrossQ: batch normalisation instead of target networks"),
    "slim": ("cadenza.agents.slim", "SLIM", "ours; skills without a task reward, one critic per reward"),
    "multi_critic_ppo": ("cadenza.agents.slim", "MultiCriticPPO", "ours; PPO with one critic per reward group"),
}
"""Name -> module, class, summary."""

ON_POLICY = ("ppo", "slim", "multi_critic_ppo")
"""Those without a replay buffer."""

HINDSIGHT = ("sac", "td3", "tqc")
"""Those that learn from goals, with hindsight experience replay."""

DEFAULT_PRESETS = {"symphony": "cpu", "slim": "slim"}
"""Agents that have presets, and the one that is taken where none is named."""

DEFAULT_ENVS, DEFAULT_STEPS = {"slim": 16}, {"slim": 1_000_000}
"""How many environments, and steps in all, where nobody says: of agents that need more than 1, and than 100,000."""

ASYMMETRIC_POLICIES: dict[str, tuple[str, str]] = {
    "sac": ("cadenza.agents.asymmetric_policies", "AsymmetricSACPolicy"),
    "td3": ("cadenza.agents.asymmetric_policies", "AsymmetricTD3Policy"),
    "ppo": ("cadenza.agents.asymmetric_policies", "AsymmetricActorCriticPolicy"),
    "tqc": ("cadenza.agents.asymmetric_contrib", "AsymmetricTQCPolicy"),
    "crossq": ("cadenza.agents.asymmetric_contrib", "AsymmetricCrossQPolicy"),
}
"""Name -> module and class of what takes MlpPolicy's place where a part of the observation is for critics only."""


def agent_class(name: str) -> type[BaseAlgorithm]:
    """The Stable-Baselines3 class behind a name.

    Raises:
        CadenzaError: unknown name (nearest listed), or its package is not installed.
    """
    if name not in AGENTS:
        raise unknown_name("agent", name, AGENTS, see="cadenza list agents")
    module, class_name, _ = AGENTS[name]
    try:
        found: type[BaseAlgorithm] = getattr(import_module(module), class_name)
    except ImportError as error:
        raise CadenzaError(f"The agent {name} needs {module}: {error}.", "pip install 'cadenza[peers]'") from error
    return found


def check_settings(settings: RunSettings) -> None:
    """Raise CadenzaError for an unknown agent, preset or algorithm setting, before anything is written."""
    cls = agent_class(settings.agent)
    if settings.normalize and settings.agent != "ppo":
        raise CadenzaError(f"normalize is for ppo; the checkpoints of {settings.agent} lack its last raw observation.")
    if settings.agent == "symphony":
        from cadenza.agents.symphony.branches import Pair
        from cadenza.agents.symphony.presets import PRESETS, resolve_config

        preset = settings.preset or "cpu"
        if preset not in PRESETS:
            raise unknown_name("Symphony preset", preset, PRESETS, see="cadenza list presets")
        try:
            # Not of the config, since it changes nothing but the speed.
            Pair(settings.overrides.get("branches", "auto"))
            resolve_config(preset, {k: v for k, v in settings.overrides.items() if k != "branches"})
        except (ValueError, TypeError) as error:
            raise CadenzaError(str(error), "`cadenza list presets` shows what can be set.") from error
        return
    if settings.agent == "slim":
        from cadenza.agents.slim.presets import resolve_config as resolve_slim

        resolve_slim(settings.preset or DEFAULT_PRESETS["slim"], settings.overrides)
        return
    if settings.preset is not None:
        raise CadenzaError(f"Presets are Symphony's and SLIM's; {settings.agent} has none.", "Use --set NAME=VALUE.")
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "policy", "env", "_init_setup_model"}
    for name in settings.overrides:
        if name not in known:
            raise unknown_name(f"setting of {settings.agent}", name, sorted(known))


def build_model(settings: RunSettings, env: Any, **extra: Any) -> BaseAlgorithm:
    """A fresh, seeded model; ``extra`` overrides the settings' overrides.

    Where ``env`` has an ``actor_observation_size``, the actor sees that many leading entries of its observation.

    Raises:
        CadenzaError: an observation or action space that the algorithm cannot use, or no policy whose actor sees less
            than its critics.
    """
    from gymnasium import spaces

    from cadenza.agents.asymmetric import ATTRIBUTE, actor_observation_size

    cls: Any = agent_class(settings.agent)
    if not isinstance(env.action_space, spaces.Box):
        raise CadenzaError(
            f"{settings.env_id} has the action space {env.action_space}; Cadenza trains robots, whose actions are "
            "continuous (a bounded Box).",
            "`cadenza list envs` shows environments that fit.",
        )
    hindsight = _hindsight(settings, env) if _has_goal(env.observation_space) else None
    if hindsight is None and not isinstance(env.observation_space, spaces.Box):
        raise CadenzaError(
            f"{settings.env_id} has the observation space {env.observation_space}; a Box of numbers is needed.",
            "Wrap it in gymnasium.wrappers.FlattenObservation and register the result.",
        )
    overrides = _built(settings.overrides, env.action_space)
    arguments = {"seed": settings.seed, "device": settings.device, "verbose": 0, **overrides, **extra}
    if settings.agent in DEFAULT_PRESETS:
        arguments["preset"] = settings.preset or DEFAULT_PRESETS[settings.agent]
    policy: Any = "MlpPolicy"
    if hindsight is not None:
        policy, arguments = "MultiInputPolicy", {**hindsight, **arguments}
        arguments["policy_kwargs"] = {**_goal_features(env.observation_space), **(arguments.get("policy_kwargs") or {})}
    measured = actor_observation_size(env)
    if measured is not None and settings.agent != "symphony":  # which reads it itself
        policy = _asymmetric_policy(settings.agent)
        arguments["policy_kwargs"] = {**(arguments.get("policy_kwargs") or {}), ATTRIBUTE: measured}
    try:
        model: BaseAlgorithm = cls(policy, env, **arguments)
    except CadenzaError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise CadenzaError(f"{settings.agent} cannot be built with these settings: {error}") from error
    return model


def _has_goal(space: Any) -> bool:
    """Whether observations are those of a goal-conditioned environment."""
    from gymnasium import spaces

    return isinstance(space, spaces.Dict) and {"observation", "achieved_goal", "desired_goal"} <= set(space.spaces)


def _hindsight(settings: RunSettings, env: Any) -> dict[str, Any]:
    """What a goal-conditioned environment's learner has beside its settings: hindsight experience replay.

    Raises:
        CadenzaError: the agent cannot do that.
    """
    if settings.agent not in HINDSIGHT:
        raise CadenzaError(
            f"{settings.env_id} has goals in its observation, from which {settings.agent} does not learn.",
            f"Agents that do, with hindsight experience replay: {', '.join(HINDSIGHT)}.",
        )
    from stable_baselines3 import HerReplayBuffer

    # A single environment is one in which a stored policy is opened.
    specs = env.get_attr("spec") if hasattr(env, "get_attr") else [env.spec]
    limits = [getattr(spec, "max_episode_steps", None) or 1000 for spec in specs]
    # Before the first episode has ended there is nothing to look back on.
    return {"replay_buffer_class": HerReplayBuffer, "learning_starts": (limits[0] + 1) * len(limits)}


def _goal_features(space: Any) -> dict[str, Any]:
    from cadenza.agents.goal_features import GoalFeatures, takes

    return {"features_extractor_class": GoalFeatures} if takes(space) else {}


def _asymmetric_policy(agent: str) -> Any:
    if agent not in ASYMMETRIC_POLICIES:
        raise CadenzaError(
            f"{agent} has no policy whose actor sees less than its critics, which this environment asks for "
            "(actor_observation_size).",
            f"Agents that have: symphony, {', '.join(ASYMMETRIC_POLICIES)}.",
        )
    module, name = ASYMMETRIC_POLICIES[agent]
    return getattr(import_module(module), name)


def _built(overrides: dict[str, Any], actions: Any) -> dict[str, Any]:
    """Overrides, which are JSON, with the objects that Stable-Baselines3 wants in two places.

    ``action_noise`` as a number is the standard deviation of Gaussian noise, in units of the action scaled to [-1, 1];
    ``policy_kwargs["activation_fn"]`` as text is the name of a layer of ``torch.nn``.
    """
    built = copy.deepcopy(overrides)  # Stable-Baselines3 writes into policy_kwargs
    if isinstance(built.get("action_noise"), int | float):
        import numpy as np
        from stable_baselines3.common.noise import NormalActionNoise

        sigma = built["action_noise"] * np.ones(actions.shape)
        built["action_noise"] = NormalActionNoise(np.zeros(actions.shape), sigma)
    kwargs = built.get("policy_kwargs")
    if isinstance(kwargs, dict) and isinstance(kwargs.get("activation_fn"), str):
        from torch import nn

        name = kwargs["activation_fn"]
        layer = getattr(nn, name, None)
        if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
            raise CadenzaError(f"torch.nn has no layer named {name!r}.", "For example: ReLU, Tanh, ELU.")
        built["policy_kwargs"] = {**kwargs, "activation_fn": layer}
    return built

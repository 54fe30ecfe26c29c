"""What a saved agent says of itself, and an agent made from that."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces

from cadenza.agents.asymmetric import check_actor
from cadenza.agents.symphony import storage
from cadenza.agents.symphony.group_replay import GroupReplayBuffer
from cadenza.agents.symphony.groups import LearnedGroups, check_kept

if TYPE_CHECKING:
    from cadenza.agents.symphony.symphony import Symphony

    Model = TypeVar("Model", bound=Symphony)


def header_of(model: Symphony) -> dict[str, Any]:
    """Everything of ``model`` but its tensors and its buffer, JSON-able."""
    header: dict[str, Any] = {
        "format": "cadenza-symphony-1",
        "version": version("cadenza"),
        "preset": model.preset,
        "config": model.config.to_dict(),
        "observation_space": storage.box_to_json(model.observation_space),
        "action_space": storage.box_to_json(model.action_space),
        "seed": model.seed,
        "verbose": model.verbose,
        "n_envs": model.n_envs,
        "num_timesteps": model.num_timesteps,
        "episode_num": model._episode_num,
        "n_updates": model._n_updates,
        "extra": model.get_extra_state(),
        "reward_scale": model.replay_buffer.reward_scale,
        "exploring": model.replay_buffer.exploring,
        "scheduled": callable(model.learning_rate),
    }
    if model.groups is not None:
        header["groups"] = model.groups.to_json()
    if isinstance(model.replay_buffer, GroupReplayBuffer):
        header["group_state"] = model.replay_buffer.group_state()
    if model.actor_observation_size is not None:
        header["actor_observation_size"] = model.actor_observation_size
    return header


def restored(
    cls: type[Model],
    header: dict[str, Any],
    parameters: dict[str, Any],
    env: GymEnv | None,
    device: torch.device | str,
    overrides: dict[str, Any],
) -> Model:
    """The agent that ``header`` and ``parameters`` describe; raises what ``Symphony.load`` raises.

    Args:
        cls: Symphony or a class of it.
        header: of :func:`header_of`.
        parameters: of ``get_parameters``.
        env: what it is to go on with; None: nothing.
        device: of its tensors.
        overrides: settings of its config, and ``seed``, ``verbose``, ``tensorboard_log``.
    """
    observation_space = storage.box_from_json(header["observation_space"])
    action_space = storage.box_from_json(header["action_space"])
    settings = {k: overrides.pop(k) for k in ("seed", "verbose", "tensorboard_log") if k in overrides}
    check_kept(header["config"], overrides)
    if header.get("scheduled") and "learning_rate" not in overrides:
        warnings.warn(
            "This agent learned with a schedule of its learning rate, which a file does not keep. To go on with it: "
            "load(..., learning_rate=the schedule).",
            stacklevel=3,
        )
    config = {**header["config"], **overrides}
    model = cls(
        "MlpPolicy",
        None,
        preset=header["preset"],
        device=device,
        seed=settings.get("seed", header["seed"]),
        verbose=settings.get("verbose", header["verbose"]),
        tensorboard_log=settings.get("tensorboard_log"),
        _init_setup_model=False,
        **config,
    )
    model.observation_space, model.action_space = observation_space, action_space
    model.n_envs = header["n_envs"]
    model.actor_observation_size = header.get("actor_observation_size")  # all of it in files of before
    if header.get("groups") is not None:
        model.groups = LearnedGroups.from_json(header["groups"])
    if env is not None:
        wrapped = cls._wrap_env(env, model.verbose)
        check_for_correct_spaces(wrapped, observation_space, action_space)
        check_actor(wrapped, model.actor_observation_size)
        if model.groups is not None:
            model.groups.check(wrapped)
        model.env, model.n_envs = wrapped, wrapped.num_envs
    model._setup_model()
    model.set_parameters(parameters, exact_match=True, device=device)
    model.num_timesteps, model._episode_num = header["num_timesteps"], header["episode_num"]
    model._n_updates = header["n_updates"]
    model.set_extra_state(header["extra"])
    model.replay_buffer.reward_scale = header["reward_scale"]
    model.replay_buffer.exploring = header["exploring"]
    if isinstance(model.replay_buffer, GroupReplayBuffer):
        model.replay_buffer.set_group_state(header["group_state"])
    return model

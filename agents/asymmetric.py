"""Asymmetric actor-critic: critics may see more of the simulation than a robot can measure.

An environment says so by an attribute ``actor_observation_size``: the first that many entries of its flat observation
are what the robot measures, the rest is privileged and for critics only (Pinto et al., *Asymmetric Actor Critic for
Image-Based Robot Learning*, arXiv 1710.06542). Without the attribute actor and critics see the same. The critics are
needed in training only, so that a policy bundle reads the measured part and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cadenza.envs.errors import CadenzaError

if TYPE_CHECKING:
    from cadenza.controllers.bundle import PolicyBundle

ATTRIBUTE = "actor_observation_size"


def actor_observation_size(env: gym.Env | VecEnv) -> int | None:
    """How many leading entries of ``env``'s observation its actor may see; None where it may see all of them.

    Raises:
        CadenzaError: a size that does not fit the observation, or a wrapper that changed the observation since.
    """
    found = _of_vec_env(env) if isinstance(env, VecEnv) else [_of_env(env)]
    if any(size != found[0] for size in found):
        raise CadenzaError(f"The environments of one run have different {ATTRIBUTE}s: {found}.")
    size, space = found[0], env.observation_space
    if size is None:
        return None
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise CadenzaError(
            f"{_name(env)} has {ATTRIBUTE} {size}, but its observation space {space} is not one row of numbers.",
            "Wrap it in gymnasium.wrappers.FlattenObservation, and put the attribute there.",
        )
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if not (whole and 1 <= size <= space.shape[0]):
        raise CadenzaError(
            f"{_name(env)} has {ATTRIBUTE} {size!r}; its observation has {space.shape[0]} entries.",
            "It must be a whole number of them, at least 1: the leading entries that the robot measures.",
        )
    return None if size == space.shape[0] else int(size)


def check_actor(env: gym.Env | VecEnv, size: int | None) -> None:
    """Raise ValueError where ``env`` shows its actor another part than an agent's actor reads (None: all)."""
    theirs, whole = actor_observation_size(env), spaces.flatdim(env.observation_space)
    if size != theirs:
        raise ValueError(
            f"This agent's actor reads {size or whole} of the {whole} entries of the observation; the environment's "
            f"{ATTRIBUTE} lets it see {theirs or whole}. Load it with the environment it was trained in, or train anew."
        )


def act_in(bundle: PolicyBundle, env: gym.Env) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """``bundle.act`` for the observations of ``env``, cut to what the actor sees there.

    Raises:
        CadenzaError: the actor sees something else there than the bundle reads.
    """
    size, reads = actor_observation_size(env), bundle.manifest.observation_shape
    shape = env.observation_space.shape
    sees = shape if size is None else (size,)
    if reads != sees:
        whole = "" if size is None else f" of its {shape}"
        raise CadenzaError(
            f"The bundle's policy reads observations of shape {reads}; the actor of {_name(env)} sees {sees}{whole}.",
            f"It was trained in {bundle.manifest.env_id} with env_kwargs {bundle.manifest.env_kwargs}: use that "
            "environment or one with the same spaces, or train again where its observation has changed since.",
        )
    if size is None:
        return bundle.act
    return lambda observation: bundle.act(np.asarray(observation)[..., :size])


def _of_env(env: gym.Env) -> Any:
    layer = env
    while not hasattr(layer, ATTRIBUTE):
        if not isinstance(layer, gym.Wrapper):
            return None
        layer = layer.env
    size = getattr(layer, ATTRIBUTE)
    if size is not None:
        _check_untouched(_name(env), size, layer.observation_space, env.observation_space)
    return size


def _of_vec_env(env: VecEnv) -> list[Any]:
    base = env.unwrapped
    if isinstance(base, DummyVecEnv):
        found = [_of_env(one) for one in base.envs]
    else:
        found = base.get_attr(ATTRIBUTE) if base.has_attr(ATTRIBUTE) else [None]
    for size in found:
        if size is not None:
            _check_untouched(_name(env), size, base.observation_space, env.observation_space)
    return found


def _check_untouched(name: str, size: Any, inner: gym.Space, outer: gym.Space) -> None:
    """The leading entries are no longer the measured ones where a wrapper stacks, filters or adds to them."""
    if inner.shape != outer.shape:
        raise CadenzaError(
            f"{name} has {ATTRIBUTE} {size} of an observation of shape {inner.shape}, but a wrapper around it makes "
            f"the shape {outer.shape}.",
            f"Give that wrapper an {ATTRIBUTE} of its own, with the measured entries first.",
        )


def _name(env: gym.Env | VecEnv) -> str:
    if isinstance(env, VecEnv):
        return "The vectorised environment"
    spec = getattr(env, "spec", None)
    return type(env.unwrapped).__name__ if spec is None else str(spec.id)

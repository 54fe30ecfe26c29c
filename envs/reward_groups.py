"""Vector rewards: how a task declares named groups of its reward, and how a learner reads them. The one place for it.

A task (a Gymnasium environment, a wrapper, or a VecEnv) takes part by three things:

- an attribute ``reward_groups``, a tuple of K different names such as ``("reach", "safety")``;
- ``info["reward_vector"]`` after every step, K finite numbers in that order;
- a scalar reward that is the weighted sum of the vector. The weights are the attribute ``reward_weights``, a mapping
  from each group to a number, all together 1; without it every group weighs 1/K. :func:`scalar_reward` adds them up.

A learner with one critic per group (:class:`cadenza.agents.slim.MultiCriticPPO`) reads the vector; every other learner
reads the scalar and notices nothing. ``info["reward_terms"]`` is something else: the parts of the scalar, for the log.

Skill discovery needs one more fact: which entries of the observation say where the object is (:class:`ObjectEntries`,
as an attribute ``object_entries``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

GROUPS_ATTRIBUTE = "reward_groups"
WEIGHTS_ATTRIBUTE = "reward_weights"
OBJECT_ATTRIBUTE = "object_entries"
VECTOR_KEY = "reward_vector"
_SUM_TOLERANCE = 1e-6


@runtime_checkable
class GroupedReward(Protocol):
    """What an environment with a vector reward has; nobody needs to inherit from it."""

    reward_groups: tuple[str, ...]


@dataclass(frozen=True)
class ObjectEntries:
    """Where an object's pose stands in a flat observation, and the workspace it moves in.

    Args:
        position: indices of x, y (and z) [m].
        center, half_extent: middle and half size of the workspace along each of them [m].
        quaternion: indices of the unit quaternion (w, x, y, z); None where the orientation does not matter.
    """

    position: tuple[int, ...]
    center: tuple[float, ...]
    half_extent: tuple[float, ...]
    quaternion: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.position) == len(self.center) == len(self.half_extent) >= 1:
            raise CadenzaError(f"{self} needs one centre and one half extent for each position entry.")
        if min(self.half_extent) <= 0:
            raise CadenzaError(f"The half extents {self.half_extent} of a workspace must be above 0 m.")
        if self.quaternion is not None and len(self.quaternion) != 4:
            raise CadenzaError(f"A quaternion has the four entries w, x, y, z; {self.quaternion} does not.")


def declared(env: gym.Env | VecEnv, attribute: str) -> Any:
    """``attribute`` of the outermost layer of ``env`` that has it; None where none has.

    Raises:
        CadenzaError: copies of one vectorised environment say different things.
    """
    if isinstance(env, VecEnv):
        return _of_vec_env(env, attribute)
    return _of_env(env, attribute)


def reward_groups(env: gym.Env | VecEnv) -> tuple[str, ...] | None:
    """The names of ``env``'s reward groups, in the order of its vector; None where it has a scalar reward only.

    Raises:
        CadenzaError: not a tuple of different, non-empty names.
    """
    found = declared(env, GROUPS_ATTRIBUTE)
    if found is None:
        return None
    names = () if isinstance(found, str) else tuple(found)
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise CadenzaError(
            f"The {GROUPS_ATTRIBUTE} {found!r} of the environment are not different names.",
            'For example: reward_groups = ("reach", "safety").',
        )
    return names


def reward_weights(env: gym.Env | VecEnv, groups: Sequence[str]) -> dict[str, float]:
    """The weights by which ``env`` makes its scalar of the vector: its own, or 1/K each."""
    own = declared(env, WEIGHTS_ATTRIBUTE)
    weights = dict.fromkeys(groups, 1.0 / len(groups)) if own is None else dict(own)
    check_weights(groups, weights)
    return weights


def check_weights(groups: Sequence[str], weights: Mapping[str, float]) -> tuple[str, ...]:
    """The groups that ``weights`` names, in the order of ``groups``. A group that is left out is not learned from.

    Raises:
        CadenzaError: an unknown group (the nearest names are listed), a weight below 0, or weights whose sum is not 1.
    """
    if not isinstance(weights, Mapping):
        raise CadenzaError(
            f"Reward weights are names with numbers, not {weights!r}.",
            f"For example: {dict.fromkeys(groups, round(1 / len(groups), 3))}",
        )
    for name in weights:
        if name not in groups:
            raise unknown_name("reward group", name, groups)
    try:
        numbers = [float(weight) for weight in weights.values()]
    except (TypeError, ValueError) as error:
        raise CadenzaError(f"The reward weights {dict(weights)} must be numbers.") from error
    if not all(np.isfinite(number) and number >= 0 for number in numbers):
        raise CadenzaError(f"The reward weights {dict(weights)} must be finite and not below 0.")
    if abs(sum(numbers) - 1.0) > _SUM_TOLERANCE:
        raise CadenzaError(
            f"The reward weights {dict(weights)} sum to {sum(numbers):.6g}, not to 1.",
            "Divide each by their sum: weights share out the policy's attention, they do not scale the reward.",
        )
    return tuple(name for name in groups if name in weights)


def scalar_reward(vector: ArrayLike, groups: Sequence[str], weights: Mapping[str, float]) -> float:
    """The weighted sum of a reward vector of shape (K,)."""
    numbers = np.asarray(vector, dtype=np.float64)
    return float(numbers @ np.array([weights.get(name, 0.0) for name in groups]))


def read_vectors(infos: Iterable[Mapping[str, Any]], groups: Sequence[str]) -> NDArray[np.float32]:
    """The reward vectors of one step of N environments, shape (N, K).

    Raises:
        CadenzaError: an info without a vector, one of another length, or a number that is not finite.
    """
    rows = []
    for index, info in enumerate(infos):
        if VECTOR_KEY not in info:
            raise CadenzaError(
                f"Environment {index} declares the reward groups {tuple(groups)} but its info has no {VECTOR_KEY!r}.",
                f'Put it into the info of every step: info["{VECTOR_KEY}"] = numpy.array([...]).',
            )
        row = np.asarray(info[VECTOR_KEY], dtype=np.float32)
        if row.shape != (len(groups),):
            raise CadenzaError(
                f"The {VECTOR_KEY} of environment {index} has shape {row.shape}; its reward groups {tuple(groups)} "
                f"ask for ({len(groups)},)."
            )
        rows.append(row)
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all():
        index, column = np.argwhere(~np.isfinite(vectors))[0]
        raise CadenzaError(f"The reward {groups[column]!r} of environment {index} is {vectors[index, column]}.")
    return vectors


def _of_env(env: gym.Env, attribute: str) -> Any:
    layer = env
    while not hasattr(layer, attribute):
        if not isinstance(layer, gym.Wrapper):
            return None
        layer = layer.env
    return getattr(layer, attribute)


def _of_vec_env(env: VecEnv, attribute: str) -> Any:
    layer: VecEnv = env
    while isinstance(layer, VecEnvWrapper):
        # Not getattr, which would ask the layers below and complain where two of them have the attribute.
        if attribute in vars(layer) or hasattr(type(layer), attribute):
            return getattr(layer, attribute)
        layer = layer.venv
    if hasattr(layer, attribute):
        return getattr(layer, attribute)
    if isinstance(layer, DummyVecEnv):
        found = [_of_env(one, attribute) for one in layer.envs]
    else:
        found = layer.get_attr(attribute) if layer.has_attr(attribute) else [None]
    if any(one != found[0] for one in found):
        raise CadenzaError(f"The environments of one run have different {attribute}: {found}.")
    return found[0]

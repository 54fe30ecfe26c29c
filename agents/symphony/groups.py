"""Which reward groups (:mod:`cadenza.envs.reward_groups`) a Symphony learner reads, and what it makes of a vector.

``critics="per_group"`` (multi-critic Symphony) gives each group a critic triple, a discount and a weight of its own.
``summed`` and ``summed_scaled`` have one triple on the weighted sum, to be compared with. With one group all of them
are plain Symphony on that group's reward, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from gymnasium import Env
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from cadenza.agents.symphony.presets import SymphonyConfig
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name
from cadenza.envs.reward_groups import check_weights, read_vectors, reward_groups, reward_weights

SCALAR = "reward"
"""Name of the one group of an environment that declares none."""


@dataclass(frozen=True)
class LearnedGroups:
    """The reward groups of one learner.

    Args:
        declared: all groups of the environment, in the order of its vector; None where it has a scalar reward.
        names: those that are learned from, in the same order.
        weights: of each of ``names``, all together 1.
        gammas: discount of each.
        critics: ``per_group``, ``summed`` or ``summed_scaled``.
    """

    declared: tuple[str, ...] | None
    names: tuple[str, ...]
    weights: tuple[float, ...]
    gammas: tuple[float, ...]
    critics: str

    @classmethod
    def of(cls, env: Env | VecEnv, config: SymphonyConfig) -> Self | None:
        """What ``config`` makes of ``env``'s groups; None where it reads the scalar.

        Raises:
            CadenzaError: unknown group (the nearest names are listed), or weights that do not sum to 1.
        """
        if config.critics == "scalar":
            return None
        declared = reward_groups(env)
        names = declared or (SCALAR,)
        weights = config.reward_weights
        if weights is None:
            weights = {SCALAR: 1.0} if declared is None else reward_weights(env, names)
        learned = check_weights(names, weights)
        for name in config.group_gamma or {}:
            if name not in learned:
                if name in names:
                    raise CadenzaError(f"{name!r} has a discount and no weight: it is not learned from.")
                raise unknown_name("reward group", name, learned)
        gammas = tuple(float((config.group_gamma or {}).get(name, config.gamma)) for name in learned)
        return cls(declared, learned, tuple(float(weights[name]) for name in learned), gammas, config.critics)

    @property
    def critic_count(self) -> int:
        """K, how many critic triples there are."""
        return len(self.names) if self.critics == "per_group" else 1

    @property
    def stored_count(self) -> int:
        """How many numbers of a reward the replay buffer keeps."""
        return 1 if self.critics == "summed" else len(self.names)

    def check(self, env: Env | VecEnv) -> None:
        """Raise CadenzaError where ``env`` has other groups."""
        found = reward_groups(env)
        if found != self.declared:
            raise CadenzaError(
                f"This agent was made for the reward groups {self.declared}; the environment has {found}.",
                "Load it with the environment it was trained in, or train anew.",
            )

    def read(self, rewards: NDArray[Any], infos: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """The rewards of the groups that are learned from, shape (N, groups).

        Raises:
            CadenzaError: an info without a vector, one of another length, or a number that is not finite.
        """
        if self.declared is None:
            return np.asarray(rewards, dtype=np.float32)[:, None]
        vectors = read_vectors(infos, self.declared)
        return vectors[:, [self.declared.index(name) for name in self.names]]

    def stored(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the replay buffer keeps of :meth:`read`: (N, groups), or (N,) where it is one number."""
        if self.critics == "summed":
            return (vectors @ np.array(self.weights)).astype(np.float32)
        return vectors if self.stored_count > 1 else vectors[:, 0]

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON-able values."""
        return {
            "declared": None if self.declared is None else list(self.declared),
            "names": list(self.names),
            "weights": list(self.weights),
            "gammas": list(self.gammas),
            "critics": self.critics,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        declared = None if data["declared"] is None else tuple(data["declared"])
        return cls(declared, tuple(data["names"]), tuple(data["weights"]), tuple(data["gammas"]), data["critics"])


def check_kept(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Raise CadenzaError where ``overrides`` would give a saved agent other groups, weights or discounts of groups."""
    grouped = config.get("critics", "scalar") != "scalar"
    for name in ("critics", "reward_weights", "group_gamma", *(("gamma",) if grouped else ())):
        if name in overrides and overrides[name] != config.get(name, "scalar" if name == "critics" else None):
            raise CadenzaError(
                f"A saved agent keeps its reward groups; {name} cannot be changed to {overrides[name]!r} in load().",
                "Train anew with other groups.",
            )

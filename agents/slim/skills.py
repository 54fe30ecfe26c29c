"""Skills: what z is drawn from, what of the world a skill should change, and the environment that plays them.

A skill z is drawn from a fixed prior at the start of an episode and held to its end; the policy sees it as the last
entries of its observation. The reward group ``diversity`` says how well the transition can be told from other skills'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn, VecEnvWrapper
from torch import Tensor

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name
from cadenza.envs.reward_groups import (
    OBJECT_ATTRIBUTE,
    VECTOR_KEY,
    ObjectEntries,
    check_weights,
    declared,
    read_vectors,
    reward_groups,
)

DIVERSITY = "diversity"
PRIORS = ("circle", "sphere", "one_hot")
YAW_SCALE = 0.1
"""A turn by 1 rad counts like a push by a tenth of the workspace's half extent: about what the corner of a small object
moves. Counted in full, spinning the object on the spot would be the easiest way to be different."""
_UNIT_TOLERANCE = 1e-3

Numbers = TypeVar("Numbers", NDArray[np.float32], Tensor)


@dataclass(frozen=True)
class SkillPrior:
    """The distribution that skills are drawn from.

    Args:
        kind: ``circle`` (unit circle, size 2), ``sphere`` (unit sphere in ``size`` dimensions) or ``one_hot`` (one of
            ``size`` skills).
        size: how many numbers z has.

    Raises:
        CadenzaError: unknown kind, or a size that it cannot have.
    """

    kind: str = "circle"
    size: int = 2

    def __post_init__(self) -> None:
        if self.kind not in PRIORS:
            raise unknown_name("skill prior", self.kind, PRIORS)
        if self.size < 2 or (self.kind == "circle" and self.size != 2):
            needed = "exactly 2" if self.kind == "circle" else "at least 2"
            raise CadenzaError(f"A skill on the prior {self.kind} has {needed} entries, not {self.size}.")

    @property
    def discrete(self) -> bool:
        """Whether there are finitely many skills."""
        return self.kind == "one_hot"

    @property
    def log_density(self) -> float:
        """log p(z), the same for every skill: uniform over ``size`` skills, or over the area 2 pi^(D/2)/Gamma(D/2)."""
        if self.discrete:
            return -math.log(self.size)
        return math.lgamma(self.size / 2) - math.log(2) - self.size / 2 * math.log(math.pi)

    def sample(self, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """``count`` skills, shape (count, size)."""
        if self.discrete:
            return np.eye(self.size, dtype=np.float32)[generator.integers(self.size, size=count)]
        drawn = generator.normal(size=(count, self.size))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    def check(self, z: ArrayLike) -> NDArray[np.float32]:
        """``z`` of shape (size,) or (N, size) as float32, if each row is a skill of this prior.

        Raises:
            CadenzaError: another size, a number that is not finite, not of length 1, or not one-hot.
        """
        try:
            skill = np.asarray(z, dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise CadenzaError(f"A skill is {self.size} numbers ({self.kind}), not {z!r}.") from error
        if skill.ndim not in (1, 2) or skill.shape[-1] != self.size:
            raise CadenzaError(
                f"A skill of this agent has {self.size} entries ({self.kind}); {skill.shape} were given."
            )
        if not np.isfinite(skill).all():
            raise CadenzaError(f"The skill {skill.tolist()} is not finite.")
        if self.discrete and not (np.isin(skill, (0.0, 1.0)).all() and (skill.sum(-1) == 1.0).all()):
            raise CadenzaError(f"The skill {skill.tolist()} is not one-hot: one entry 1, all others 0.")
        if not self.discrete and (np.abs(np.linalg.norm(skill, axis=-1) - 1.0) > _UNIT_TOLERANCE).any():
            raise CadenzaError(f"The skill {skill.tolist()} is not of length 1.", "Divide it by its length.")
        return skill

    def directions(self, z: Numbers) -> Numbers:
        """What phi's step is multiplied with: z itself, or (onehot - 1/D) D/(D-1), whose entries add up to 0."""
        return (z - 1.0 / self.size) * (self.size / (self.size - 1)) if self.discrete else z


def append_skills(observations: NDArray[Any], z: ArrayLike, prior: SkillPrior, size: int) -> NDArray[np.float32]:
    """Observations (obs,) or (N, obs) with a skill (or N) behind them: what the policy reads, (..., ``size``).

    Raises:
        CadenzaError: ``z`` is not a skill of ``prior``, or the observations have another size.
    """
    rows, skill = np.asarray(observations, dtype=np.float32), prior.check(z)
    if rows.ndim not in (1, 2) or rows.shape[-1] != size - prior.size:
        raise CadenzaError(
            f"Observations without a skill have {size - prior.size} entries here; {rows.shape} were given."
        )
    if skill.ndim > rows.ndim or (skill.ndim == 2 and len(skill) != len(rows)):
        raise CadenzaError(f"{skill.shape} skills do not fit {rows.shape} observations.")
    return np.concatenate([rows, np.broadcast_to(skill, (*rows.shape[:-1], prior.size))], -1)


class SkillFeatures(Protocol):
    """What of the observation a skill should change: (N, obs) -> (N, size) float32."""

    size: int

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.float32]: ...


class FullState:
    """The whole observation, as it is."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(observations, dtype=np.float32)


class ObjectPose:
    """Position of the object, the workspace scaled to [-1, 1]; sine and cosine of its yaw, times :data:`YAW_SCALE`.

    Beyond the workspace nothing changes any more. Otherwise skills that are rewarded for distance become pushes far off
    in the one direction in which the table goes on, and phi folds the other direction into it.
    """

    def __init__(self, entries: ObjectEntries):
        self.entries = entries
        self.size = len(entries.position) + (0 if entries.quaternion is None else 2)
        self._center = np.array(entries.center, dtype=np.float32)
        self._scale = 1.0 / np.array(entries.half_extent, dtype=np.float32)

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        rows = np.asarray(observations, dtype=np.float32)
        parts = [np.clip((rows[:, self.entries.position] - self._center) * self._scale, -1.0, 1.0)]
        if self.entries.quaternion is not None:
            w, x, y, z = rows[:, self.entries.quaternion].T
            yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
            parts.append(YAW_SCALE * np.stack([np.sin(yaw), np.cos(yaw)], 1))
        return np.concatenate(parts, 1, dtype=np.float32)


FEATURES = ("object", "full_state")


def features_of(env: gym.Env | VecEnv, kind: str) -> SkillFeatures:
    """The features ``object`` or ``full_state`` of ``env``.

    Raises:
        CadenzaError: unknown kind, or an environment that does not say where its object is.
    """
    size = spaces.flatdim(env.observation_space)
    if kind not in FEATURES:
        raise unknown_name("kind of skill features", kind, FEATURES)
    if kind == "full_state":
        return FullState(size)
    entries = declared(env, OBJECT_ATTRIBUTE)
    if entries is None:
        raise CadenzaError(
            f"The environment has no {OBJECT_ATTRIBUTE}, so nobody knows where its object is.",
            f"Give it {OBJECT_ATTRIBUTE} = ObjectEntries(...) (cadenza.envs.reward_groups), or use the features "
            "full_state.",
        )
    outside = [index for index in (*entries.position, *(entries.quaternion or ())) if not 0 <= index < size]
    if outside:
        raise CadenzaError(f"{OBJECT_ATTRIBUTE} names the entries {outside}; the observation has {size}.")
    return ObjectPose(entries)


class Transitions(NamedTuple):
    """M steps of skills: features before and after, and the skill."""

    before: NDArray[np.float32]
    """(M, features)."""
    after: NDArray[np.float32]
    """(M, features); at the end of an episode its own last state, not the next one's first."""
    skills: NDArray[np.float32]
    """(M, size)."""


class Objective(Protocol):
    """What gives the diversity reward (:mod:`cadenza.agents.slim.diversity`)."""

    def reward(
        self, before: NDArray[np.float32], after: NDArray[np.float32], skills: NDArray[np.float32]
    ) -> NDArray[np.float32]: ...


class SkillConditioned(VecEnvWrapper):
    """Appends the skill to the observation, holds it for an episode, and adds the reward group ``diversity``.

    The scalar reward becomes the weighted sum of all groups; ``info["skill"]`` is the skill that was played.

    Args:
        venv: environments with flat observations; their own reward groups may be none.
        prior: what skills are drawn from.
        features: a :class:`SkillFeatures`, or ``object`` or ``full_state``.
        weights: of the scalar reward, group -> weight; None: 1/K each.
        seed: of the skills; :meth:`seed` sets it anew.

    Raises:
        CadenzaError: observations that are not flat, a group ``diversity`` that is there already, bad weights.
    """

    objective: Objective | None
    """Gives the diversity reward; 0 while there is none."""

    def __init__(
        self,
        venv: VecEnv,
        prior: SkillPrior,
        features: SkillFeatures | str = "object",
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
    ):
        space = venv.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise CadenzaError(
                f"Skills are appended to a flat observation; this environment's is {space}.",
                "Wrap it in gymnasium.wrappers.FlattenObservation.",
            )
        own = reward_groups(venv) or ()
        if DIVERSITY in own:
            raise CadenzaError(f"The environment has a reward group {DIVERSITY!r} already; skills bring their own.")
        low = np.concatenate([space.low, np.full(prior.size, -1)]).astype(np.float32)
        high = np.concatenate([space.high, np.full(prior.size, 1)]).astype(np.float32)
        super().__init__(venv, spaces.Box(low, high, dtype=np.float32))
        self.prior = prior
        self.features = features_of(venv, features) if isinstance(features, str) else features
        self.objective = None
        self.reward_groups = (*own, DIVERSITY)
        self.reward_weights = dict(weights or dict.fromkeys(self.reward_groups, 1.0 / len(self.reward_groups)))
        check_weights(self.reward_groups, self.reward_weights)
        self._own_groups = own
        self._weights = np.array([self.reward_weights.get(name, 0.0) for name in self.reward_groups])
        self._generator = np.random.default_rng(seed)
        self._chosen: NDArray[np.float32] | None = None
        self._skills = prior.sample(self.num_envs, self._generator)
        self._observations = np.zeros((self.num_envs, *space.shape), dtype=np.float32)
        self._steps: list[Transitions] = []

    # ------------------------------------------------------------------ skills

    @property
    def skills(self) -> NDArray[np.float32]:
        """The skills being played, a copy of shape (N, size)."""
        return self._skills.copy()

    def choose_skills(self, z: ArrayLike | None) -> None:
        """Play ``z`` of shape (size,) or (N, size) from the next observation on, in later episodes too.

        None goes back to drawing one for each episode. In training a skill is held; a high level may change it.
        """
        if z is None:
            self._chosen = None
            return
        skills = self.prior.check(z)
        if skills.ndim == 2 and len(skills) != self.num_envs:
            raise CadenzaError(f"There are {self.num_envs} environments; {len(skills)} skills were given.")
        self._chosen = np.broadcast_to(skills, (self.num_envs, self.prior.size)).copy()
        self._skills = self._chosen.copy()

    def with_skills(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Observations (N, obs) with the skills being played appended."""
        return np.concatenate([observations, self._skills], 1, dtype=np.float32)

    def forget_transitions(self) -> None:
        """Drop the steps that nobody has taken."""
        self._steps.clear()

    def take_transitions(self) -> Transitions:
        """All steps since the last call, in order; they are forgotten here.

        Raises:
            CadenzaError: there are none.
        """
        if not self._steps:
            raise CadenzaError("No step of these environments has been taken since the last call.")
        parts, self._steps = self._steps, []
        return Transitions(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    # ------------------------------------------------------------------ VecEnv

    def seed(self, seed: int | None = None) -> Any:
        """Seed the skills and the environments below."""
        if seed is not None:
            self._generator = np.random.default_rng([seed, self.prior.size])
        return self.venv.seed(seed)

    def reset(self) -> NDArray[np.float32]:
        self.forget_transitions()
        self._draw(np.arange(self.num_envs))
        self._observations = np.array(self.venv.reset(), dtype=np.float32)
        return self.with_skills(self._observations)

    def step_wait(self) -> VecEnvStepReturn:
        received, rewards, dones, infos = self.venv.step_wait()
        observations = np.array(received, dtype=np.float32)
        reached = observations.copy()
        for index in np.flatnonzero(dones).tolist():
            reached[index] = infos[index]["terminal_observation"]
        step = Transitions(self.features(self._observations), self.features(reached), self._skills.copy())
        self._steps.append(step)
        diversity = np.zeros(self.num_envs, dtype=np.float32)
        if self.objective is not None:
            diversity = self.objective.reward(*step)
        vectors = diversity[:, None]
        if self._own_groups:
            vectors = np.concatenate([read_vectors(infos, self._own_groups), vectors], 1)
        rewards[:] = vectors @ self._weights
        for index, info in enumerate(infos):
            info[VECTOR_KEY], info["skill"] = vectors[index], step.skills[index]
            if dones[index]:
                # Valued as what it was, the end of the old skill.
                info["terminal_observation"] = np.concatenate([reached[index], step.skills[index]])
        self._draw(np.flatnonzero(dones))
        self._observations = observations
        return self.with_skills(observations), rewards, dones, infos

    def _draw(self, indices: NDArray[np.intp]) -> None:
        if len(indices):
            drawn = self.prior.sample(len(indices), self._generator)
            self._skills[indices] = drawn if self._chosen is None else self._chosen[indices]

    # ------------------------------------------------------------------ checkpoints

    def skill_state(self) -> dict[str, Any]:
        """The skills being played and their generator; arrays and JSON values."""
        chosen = None if self._chosen is None else self._chosen.copy()
        state = {"skills": self._skills.copy(), "chosen": chosen, "observations": self._observations.copy()}
        return {**state, "generator": self._generator.bit_generator.state}

    def set_skill_state(self, state: Mapping[str, Any]) -> None:
        """Put :meth:`skill_state` back. Transitions since the last :meth:`take_transitions` are forgotten."""
        self.forget_transitions()
        self._skills = np.array(state["skills"], dtype=np.float32)
        self._chosen = None if state["chosen"] is None else np.array(state["chosen"], dtype=np.float32)
        self._observations = np.array(state["observations"], dtype=np.float32)
        self._generator.bit_generator.state = state["generator"]

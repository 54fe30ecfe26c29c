"""A single environment as the policy of skills sees it: evaluations, films and the command line play in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadenza.agents.slim.skill_metrics import CELL_M, moved_cells
from cadenza.agents.slim.skills import DIVERSITY, ObjectPose
from cadenza.envs.reward_groups import VECTOR_KEY, read_vectors, reward_groups, scalar_reward

if TYPE_CHECKING:
    from cadenza.agents.slim.player import SkillPlayer


class PlayedSkills(gym.Wrapper):
    """Appends a skill to the observation and holds it for the episode; the reward is the agent's own weighted sum.

    A skill is drawn at each reset from its seed, so that an episode can be repeated, unless
    ``options={"skill": z}`` or :meth:`choose` names one. The reward group ``diversity`` is that of the agent's
    objective as it is now.

    Args:
        env: a single environment with flat observations.
        model: whose skills are played.
    """

    def __init__(self, env: gym.Env, model: SkillPlayer):
        super().__init__(env)
        self._model, self._prior = model, model.prior
        self._features = model.features_in(env)
        self._own_groups = reward_groups(env) or ()
        self._groups = (*self._own_groups, DIVERSITY)
        self._weights = dict(model.config.weights)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        ones = np.ones(self._prior.size)
        low, high = np.concatenate([space.low, -ones]), np.concatenate([space.high, ones])
        self.observation_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        self._generator = np.random.default_rng(0)
        self._chosen: NDArray[np.float32] | None = None
        self.skill = self._prior.sample(1, self._generator)[0]
        """What is being played, shape (size,)."""
        self._observation = np.zeros(space.shape, dtype=np.float32)
        self._start = np.zeros(0)
        self._displacements: list[NDArray[np.float64]] = []
        self._steps = self._unsafe_steps = 0

    def choose(self, z: ArrayLike | None) -> None:
        """Play ``z`` in the episodes to come; None goes back to drawing."""
        self._chosen = None if z is None else self._prior.check(z)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        options = dict(options or {})
        wanted = options.pop("skill", self._chosen)
        if seed is not None:
            self._generator = np.random.default_rng([seed, self._prior.size])
        drawn = self._prior.sample(1, self._generator)[0]  # drawn in any case: what comes later does not depend on it
        self.skill = drawn if wanted is None else self._prior.check(wanted)
        observation, info = self.env.reset(seed=seed, options=options or None)
        self._observation = np.array(observation, dtype=np.float32)
        self._start = self._place(self._observation)
        return self._with_skill(), {**info, "skill": self.skill.copy()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before = self._features(self._observation[None])
        observation, _, terminated, truncated, info = self.env.step(action)
        self._observation = np.array(observation, dtype=np.float32)
        after = self._features(self._observation[None])
        vector = self._model.diversity.reward(before, after, self.skill[None])
        if self._own_groups:
            vector = np.concatenate([read_vectors([info], self._own_groups)[0], vector])
        moved = self._place(self._observation) - self._start
        self._steps += 1
        self._unsafe_steps += any(_violations(info).values())
        if terminated or truncated:
            self._displacements.append(moved)
        info = {**info, VECTOR_KEY: vector, "skill": self.skill.copy()}
        if len(moved):
            info["object_displacement_m"] = float(np.linalg.norm(moved))
        return self._with_skill(), scalar_reward(vector, self._groups, self._weights), terminated, truncated, info

    def columns(self) -> dict[str, float]:
        """What the episodes that have ended say of the skills, for the table of evaluations."""
        told: dict[str, float] = {"unsafe_steps_per_1000": 1000.0 * self._unsafe_steps / max(1, self._steps)}
        if self._displacements and len(self._displacements[0]):
            moved = np.stack(self._displacements)
            told["displacement_mean_m"] = float(np.linalg.norm(moved, axis=1).mean())
            told["cells"] = len(moved_cells(moved, CELL_M))
        return told

    def _place(self, observation: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where the object is [m]; empty where the skills are not those of an object."""
        if not isinstance(self._features, ObjectPose):
            return np.zeros(0)
        return observation[list(self._features.entries.position)].astype(np.float64)

    def _with_skill(self) -> NDArray[np.float32]:
        return np.concatenate([self._observation, self.skill], dtype=np.float32)


def _violations(info: Mapping[str, Any]) -> Mapping[str, bool]:
    found: Mapping[str, bool] = info.get("violations") or {}
    return found

"""A point that pushes a puck about a table: the table top's contract (docs/tabletop.md) without its physics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.envs.reward_groups import ObjectEntries, scalar_reward

STEP_M, RADIUS_M, HALF_M, HEIGHT_M = 0.04, 0.05, 0.3, 0.025


class Puck(gym.Env):
    """The first two actions move the point; where it would enter the puck, the puck gives way. Closing lifts nothing.

    ``contact_force_n`` is 5 while pushing and 20 at the point's own border, which counts as the violation ``contact``.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}
    action_space = gym.spaces.Box(-1.0, 1.0, (7,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (42,), np.float32)
    reward_groups = ("reach", "safety")
    reward_weights: ClassVar[dict[str, float]] = {"reach": 0.5, "safety": 0.5}
    object_entries = ObjectEntries(
        position=(16, 17, 18), center=(0.5, 0.0, 0.1), half_extent=(HALF_M, HALF_M, 0.1), quaternion=(19, 20, 21, 22)
    )
    dt = 0.05

    def __init__(self, render_mode: str | None = None, noise_m: float = 0.1):
        self.render_mode, self.noise_m = render_mode, noise_m
        self.point, self.puck = np.zeros(2), np.zeros(2)
        self.yaw = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        x, y, self.yaw = (options or {}).get(
            "object", (*(self._center + self.np_random.uniform(-self.noise_m, self.noise_m, 2)), 0.0)
        )
        self.puck = np.array([x, y], dtype=np.float64)
        self.point = self._center - (0.25, 0.0)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        wanted = self.point + STEP_M * np.asarray(action, dtype=np.float64)[:2]
        self.point = np.clip(wanted, self._center - HALF_M, self._center + HALF_M)
        gap = self.puck - self.point
        distance = float(np.linalg.norm(gap))
        touching = distance < RADIUS_M
        if touching:
            direction = gap / distance if distance > 0 else np.array([1.0, 0.0])
            self.puck = self.point + RADIUS_M * direction
        off = bool((np.abs(self.puck - self._center) > HALF_M).any())
        bumped = bool((wanted != self.point).any())
        reach = 1 - np.tanh(5 * max(0.0, distance - RADIUS_M))
        safety = -float(bumped) - float(off)
        vector = np.array([reach, safety])
        info = {
            "reward_vector": vector,
            "reward_terms": {"reach": reach, "contact": -float(bumped), "off_table": -float(off)},
            "contact_force_n": 20.0 if bumped else 5.0 * touching,
            "grasped": touching and action[6] < 0,
            "lifted": False,
            "violations": {"contact": bumped, "off_table": off},
        }
        reward = scalar_reward(vector, self.reward_groups, dict.fromkeys(self.reward_groups, 0.5))
        return self._observe(), reward, off, False, info

    def render(self) -> NDArray[np.uint8]:
        image = np.full((64, 64, 3), 200, np.uint8)
        for place, colour in ((self.puck, (200, 30, 30)), (self.point, (30, 30, 200))):
            row, column = (32 + 31 * (place - self._center)[::-1] / HALF_M).astype(int).clip(1, 62)
            image[row - 1 : row + 2, column - 1 : column + 2] = colour
        return image

    def get_state(self) -> NDArray[np.float64]:
        return np.array([*self.point, *self.puck, self.yaw])

    def set_state(self, state: NDArray[np.float64]) -> None:
        self.point, self.puck, self.yaw = np.array(state[:2]), np.array(state[2:4]), float(state[4])

    @property
    def _center(self) -> NDArray[np.float64]:
        return np.array(self.object_entries.center[:2])

    def _observe(self) -> NDArray[np.float32]:
        observation = np.zeros(42, dtype=np.float32)
        observation[16:23] = (*self.puck, HEIGHT_M, np.cos(self.yaw / 2), 0, 0, np.sin(self.yaw / 2))
        observation[23:30] = (*self.point, HEIGHT_M, 1, 0, 0, 0)
        return observation


class PuckVecEnv(DummyVecEnv):
    """``n`` pucks with a time limit, and their states as the vectorised table top gives them."""

    def __init__(self, n: int = 4, steps: int = 20, noise_m: float = 0.1):
        super().__init__([lambda: gym.wrappers.TimeLimit(Puck(noise_m=noise_m), steps)] * n)

    def get_states(self) -> list[NDArray[np.float64]]:
        return [np.append(env.unwrapped.get_state(), env._elapsed_steps) for env in self.envs]  # type: ignore[attr-defined]

    def set_states(self, states: Sequence[Any], indices: Sequence[int] | None = None) -> NDArray[np.float32]:
        chosen = range(self.num_envs) if indices is None else indices
        for index, state in zip(chosen, states, strict=True):
            env: Any = self.envs[index]
            env.unwrapped.set_state(state[:5])
            env._elapsed_steps = int(state[5])
        return np.stack([env.unwrapped._observe() for env in self.envs])  # type: ignore[attr-defined]

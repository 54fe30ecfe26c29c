"""Reach, Push and PickPlace: bring the hand, or a cube, to a point. Goal-conditioned, so that hindsight works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadenza.controllers.poses import length
from cadenza.envs.tabletop.signals import Signals
from cadenza.envs.tabletop.task import Array, TableTask, numbers_of

_POINT = "x, y, z"


class GoalTask(TableTask):
    """What the three have in common: reward by the distance between what is achieved and what is desired."""

    @property
    def threshold(self) -> float:
        """Distance that counts as success, m."""
        return self.place.threshold if self.config.threshold_m is None else self.config.threshold_m

    @property
    def goal_noise(self) -> float:
        """Half width of the square in which goals lie, m."""
        return self.place.goal_noise if self.config.goal_noise_m is None else self.config.goal_noise_m

    @property
    def start_noise(self) -> float:
        """Half width of the square in which the cube starts, m."""
        return self.place.goal_noise if self.config.start_noise_m is None else self.config.start_noise_m

    def compute_reward(self, achieved: ArrayLike, desired: ArrayLike) -> Array:
        """The reward of goals (..., 3), shape (...): sparse 0 or -1, or minus the distance."""
        away = distance(achieved, desired)
        missed: Array = away if self.config.reward == "dense" else (away > self.threshold).astype(np.float64)
        return 0.0 - missed

    def reward(self, signals: Signals) -> tuple[Array, dict[str, Array]]:
        if not self.goal_apart:
            return self._shaped(signals)
        # Of the observation's own numbers, so that a replay buffer computes the same.
        reward = self.compute_reward(self.achieved(signals).astype(np.float32), signals.goal.astype(np.float32))
        return reward, {"goal": reward}

    def _shaped(self, signals: Signals) -> tuple[Array, dict[str, Array]]:
        """A quarter for the hand at the cube, half for the cube near its goal, a quarter at it; in Reach the hand's."""
        away = distance(self.achieved(signals), signals.goal)
        hand = distance(signals.hand_position, signals.object_position) if self.has_object else away
        scale = 0.5 / self.place.threshold  # a distance of twice the threshold is worth 1 - tanh(1)
        terms: dict[str, Array] = {
            "hand": 0.25 * (1.0 - np.tanh(scale * hand)),
            "near": 0.5 * (1.0 - np.tanh(0.5 * scale * away)),
            "goal": np.where(away <= self.threshold, 0.25, 0.0),
        }
        reward: Array = terms["hand"] + terms["near"] + terms["goal"]
        return reward, terms

    def infos(self, signals: Signals) -> list[dict[str, Any]]:
        away = distance(self.achieved(signals).astype(np.float32), signals.goal.astype(np.float32)).tolist()
        return [{"is_success": value <= self.threshold, "distance_m": value} for value in away]

    def draw(self, random: np.random.Generator) -> tuple[Array, float, Array]:
        start = np.array([*self.square(random, self.start_noise), self.place.rest])
        yaw = random.uniform(-self.config.start_yaw_rad, self.config.start_yaw_rad)
        return start, yaw, self.draw_goal(random)

    def draw_goal(self, random: np.random.Generator) -> Array:
        """A goal (3,)."""
        raise NotImplementedError

    def achieved(self, signals: Signals) -> Array:
        return signals.object_position


class Reach(GoalTask):
    """The hand is to come to a point; the cube stands aside and is not observed."""

    has_object = False

    def draw(self, random: np.random.Generator) -> tuple[Array, float, Array]:
        (x, y), (half_x, half_y) = self.place.table_center, self.place.table_half
        corner = np.array([x - half_x + 2 * self.place.cube_half, y + half_y - 2 * self.place.cube_half])
        return np.array([*corner, self.place.rest]), 0.0, self.draw_goal(random)

    def draw_goal(self, random: np.random.Generator) -> Array:
        half = self.place.hand_noise if self.config.goal_noise_m is None else self.config.goal_noise_m
        return np.array([*self.square(random, half), random.uniform(*self.place.height)])

    def extent(self) -> tuple[float, float]:
        wider = 0.0 if self.config.goal_noise_m is None else self.config.goal_noise_m
        return max(self.place.hand_noise, wider), self.place.height[1]

    def check_goal(self, goal: Sequence[float]) -> Array:
        numbers = numbers_of("goal", goal, (3,), _POINT)
        if not self.place.within_reach(numbers.tolist()) or not self.hand_comes_near(numbers, self.threshold):
            raise self.unreachable(numbers.tolist(), "the hand does not come there")
        return numbers

    def achieved(self, signals: Signals) -> Array:
        return signals.hand_position


class Push(GoalTask):
    """The cube is to come to a place on the table."""

    def extent(self) -> tuple[float, float]:
        return max(self.goal_noise, self.start_noise), self.place.rest

    def draw_goal(self, random: np.random.Generator) -> Array:
        return np.array([*self.square(random, self.goal_noise), self.place.rest])

    def check_goal(self, goal: Sequence[float]) -> Array:
        numbers = numbers_of("goal", goal, (2, 3), "x, y or x, y, z")
        if len(numbers) == 2:
            numbers = np.append(numbers, self.place.rest)
        if abs(numbers[2] - self.place.rest) > self.threshold:
            raise self.unreachable(numbers.tolist(), f"a cube that is pushed stays at z {self.place.rest:g} m")
        inside = self.place.within_reach(numbers.tolist()) and self.place.on_table(numbers[0], numbers[1])
        if not inside or not self.hand_comes_near(numbers, self.threshold):
            raise self.unreachable(numbers.tolist(), "a cube cannot be pushed there")
        return numbers


class PickPlace(GoalTask):
    """The cube is to come to a point, which in half of the episodes is in the air."""

    def extent(self) -> tuple[float, float]:
        return max(self.goal_noise, self.start_noise), self.place.carry

    def draw_goal(self, random: np.random.Generator) -> Array:
        x, y = self.square(random, self.goal_noise)
        z = random.uniform(self.place.rest, self.place.carry)
        return np.array([x, y, z if random.uniform() < 0.5 else self.place.rest])

    def check_goal(self, goal: Sequence[float]) -> Array:
        numbers = numbers_of("goal", goal, (3,), _POINT)
        inside = self.place.within_reach(numbers.tolist()) and self.hand_comes_near(numbers, self.threshold)
        if not inside or not self.place.rest - 1e-9 <= numbers[2] <= self.place.height[1]:
            raise self.unreachable(numbers.tolist(), "a cube cannot be carried there")
        return numbers


def distance(achieved: ArrayLike, desired: ArrayLike) -> Array:
    """Between points (..., 3), m, shape (...)."""
    away: NDArray[np.float64] = np.asarray(achieved, dtype=np.float64) - np.asarray(desired, dtype=np.float64)
    return length(away)[..., 0]

"""Play: an arm, a cube and no task. For skill discovery (docs/slim.md): rewards as a vector, safety term by term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.poses import length
from cadenza.envs.errors import CadenzaError
from cadenza.envs.reward_groups import ObjectEntries, check_weights
from cadenza.envs.tabletop.physics import Physics
from cadenza.envs.tabletop.safety import OBJECT_FORCE, VIOLATIONS, pressed_object, safety_terms
from cadenza.envs.tabletop.settings import TableConfig
from cadenza.envs.tabletop.signals import Signals
from cadenza.envs.tabletop.task import Array, TableTask
from cadenza.robots.arm_description import ArmRobot

GROUPS = ("reach", "safety")
LIFTED_M = 0.04
SHARPNESS_1_M = 10.0


class Play(TableTask):
    """The reward groups are ``reach`` (hand and fingers near the object) and ``safety``; the cube's fall terminates."""

    has_goal = False

    def __init__(self, arm: ArmRobot, config: TableConfig, n: int, physics: Callable[[mujoco.MjModel], Physics]):
        check_weights(GROUPS, config.weights)
        super().__init__(arm, config, n, physics)
        self.reward_groups = GROUPS
        self.reward_weights = {name: float(config.weights.get(name, 0.0)) for name in GROUPS}
        slices = self.layout.slices()
        half = max(self.place.start_noise, self.place.goal_noise) * 1.2
        self.object_entries = ObjectEntries(
            position=tuple(range(*slices["object_position"].indices(self.layout.size))),
            center=(*self.place.center, self.place.rest),
            half_extent=(half, half, half),
            quaternion=tuple(range(*slices["object_quaternion"].indices(self.layout.size))),
        )
        self.vector = np.zeros((n, len(GROUPS)))
        """Of the last step."""
        self._safety: dict[str, Array] = {}
        self.violations = VIOLATIONS if config.object_limit_n is None else (*VIOLATIONS, OBJECT_FORCE)
        """Terms of safety that are 1 or 0."""
        self._pressed = self._sensor("object_force")
        self.object_force = np.zeros(n)
        """The most that cube and table pressed on each other within the last control step, N."""

    def draw(self, random: np.random.Generator) -> tuple[Array, float, Array]:
        half = self.place.start_noise if self.config.start_noise_m is None else self.config.start_noise_m
        start = np.array([*self.square(random, half), self.place.rest])
        return start, random.uniform(-self.config.start_yaw_rad, self.config.start_yaw_rad), np.zeros(3)

    def check_goal(self, goal: Sequence[float]) -> Array:
        raise CadenzaError("Play has no goal.", "Reach, Push and PickPlace have; Play takes the option 'object'.")

    def reward(self, signals: Signals) -> tuple[Array, dict[str, Array]]:
        reach, self._safety = reach_reward(signals), safety_terms(signals, self.limits, self.config.force_limit_n)
        if self.config.object_limit_n is not None:
            self._safety[OBJECT_FORCE] = pressed_object(self.object_force, self.config.object_limit_n)
        safety = np.zeros(self.n)
        for values in self._safety.values():
            safety = safety - values
        self.vector = np.stack((reach, safety), axis=1)
        weight = self.reward_weights
        terms = {"reach": weight["reach"] * reach}
        terms |= {name: 0.0 - weight["safety"] * values for name, values in self._safety.items()}
        return weight["reach"] * reach + weight["safety"] * safety, terms

    def terminated(self, signals: Signals) -> NDArray[np.bool_]:
        return self._safety["off_table"] > 0

    def watch(self, begin: bool = False) -> None:
        super().watch(begin)
        if begin:
            self.object_force[:] = 0.0
        else:
            np.maximum(self.object_force, length(self._sensors[:, self._pressed])[:, 0], out=self.object_force)

    def infos(self, signals: Signals) -> list[dict[str, Any]]:
        force, pressed = self.force.tolist(), self.object_force.tolist()
        grasped = (signals.touches[:, 0] & signals.touches[:, 1]).tolist()
        touched = (signals.touches[:, 0] | signals.touches[:, 1]).tolist()
        lifted = (signals.object_position[:, 2] > self.place.rest + LIFTED_M).tolist()
        kinds = np.stack([self._safety[name] > 0 for name in self.violations], axis=1).tolist()
        return [
            {
                "reward_vector": self.vector[index],
                "contact_force_n": force[index],
                "object_force_n": pressed[index],
                "touched": touched[index],
                "grasped": grasped[index],
                "lifted": lifted[index],
                "violations": dict(zip(self.violations, kinds[index], strict=True)),
            }
            for index in range(self.n)
        ]


def reach_reward(s: Signals) -> Array:
    """1 - tanh(10 (d_hand + d_left + d_right) / 3), the distances of hand and fingers from the object, m."""
    hand = length(s.hand_position - s.object_position)[:, 0]
    fingers = length(s.finger_position - s.object_position[:, None])[..., 0]
    return 1.0 - np.tanh(SHARPNESS_1_M / 3.0 * (hand + fingers[:, 0] + fingers[:, 1]))

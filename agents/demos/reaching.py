"""A scripted expert for Gymnasium's Reacher: inverse kinematics of two links, a PD controller, and noise.

Observation of Reacher-v5: cosines and sines of both joint angles, the target's place, joint velocities, and the vector
from target to fingertip (x, y). Two links of 0.1 and 0.11 m.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LINKS_M = (0.1, 0.11)
NEAR_M = 0.01
REACH, HOLD = 0, 1
"""Primitives: on the way, and there."""


class ReachingExpert:
    """Brings the fingertip to the target by the shorter way round.

    Args:
        seed: of the noise.
        noise: standard deviation of what is added to each action, of 1.
        stiffness: torque per angle, 1/rad.
        damping: torque per velocity, s/rad.
    """

    def __init__(self, seed: int, noise: float = 0.05, stiffness: float = 0.5, damping: float = 0.12) -> None:
        self._random = np.random.default_rng([seed, 5])  # of the seed alone it would be the environment's own
        self._noise, self._stiffness, self._damping = noise, stiffness, damping
        self._goal = np.zeros(2)
        self._label = REACH
        self._env: Any = None
        self.intended: NDArray[np.float32] = np.zeros(2, np.float32)
        """The last action without the noise."""

    def reset(self, env: Any, observation: NDArray[np.float64], info: dict[str, Any]) -> None:
        """Choose the elbow for which the joints turn less."""
        self._env, self._label = env.unwrapped, REACH
        angles = joint_angles(observation)
        goals = [inverse_kinematics(observation[4:6], bend) for bend in (1.0, -1.0)]
        self._goal = min(goals, key=lambda goal: float(np.abs(_turn(goal - angles)).sum()))

    def act(self, observation: NDArray[np.float64]) -> NDArray[np.float32]:
        """Torques in [-1, 1], of two motors."""
        self._label = HOLD if np.linalg.norm(observation[8:10]) < NEAR_M else REACH
        error = _turn(self._goal - joint_angles(observation))
        torque = self._stiffness * error - self._damping * observation[6:8]
        self.intended = np.clip(torque, -1.0, 1.0).astype(np.float32)
        return np.clip(torque + self._random.normal(0.0, self._noise, 2), -1.0, 1.0).astype(np.float32)

    def label(self) -> int:
        """:data:`REACH` or :data:`HOLD`."""
        return self._label

    def success(self) -> bool:
        """Whether the fingertip is within 1 cm of the target now."""
        gap = self._env.get_body_com("fingertip") - self._env.get_body_com("target")
        return bool(np.linalg.norm(gap[:2]) < NEAR_M)


def joint_angles(observation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Both, rad, from their cosines and sines."""
    return np.arctan2(observation[2:4], observation[0:2])


def inverse_kinematics(place: NDArray[np.float64], bend: float) -> NDArray[np.float64]:
    """Joint angles, rad, that bring the fingertip to ``place`` [m], or as near as the links reach.

    Args:
        place: (x, y).
        bend: sign of the elbow's angle, 1 or -1.
    """
    upper, lower = LINKS_M
    cosine = (float(place @ place) - upper**2 - lower**2) / (2.0 * upper * lower)
    elbow = bend * np.arccos(np.clip(cosine, -1.0, 1.0))
    shoulder = np.arctan2(place[1], place[0]) - np.arctan2(lower * np.sin(elbow), upper + lower * np.cos(elbow))
    return np.array([shoulder, elbow])


def _turn(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into (-pi, pi]."""
    return np.arctan2(np.sin(angles), np.cos(angles))


def make_expert(seed: int, **settings: Any) -> ReachingExpert:
    """For :data:`cadenza.agents.demos.experts.EXPERTS`."""
    return ReachingExpert(seed, **settings)

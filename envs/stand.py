"""A humanoid that stands where it is, and goes on standing when it is pushed.

It starts near its home pose, in any direction, and gets a kick of its base every four to eight seconds. It is paid for
standing upright at home height and in the home pose, and pays for moving. ``weights={"balance": 1.0}`` pays it also for
having its feet where its motion will come to rest, which takes a step after a hard push. The episode terminates when it
falls (tilt, height); the time limit of 20 s truncates.

Observation: that of :mod:`cadenza.envs.walk` without command and clock. Action: as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.legged import rewards
from cadenza.envs.legged.events import Conditions
from cadenza.envs.legged.observations import actor_terms
from cadenza.envs.legged.settings import LeggedConfig
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.legged.terms import ObservationTerm, RewardTerm, bell, norm_bell

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StandConfig(LeggedConfig):
    """Settings of Stand."""

    conditions: Conditions = field(default_factory=lambda: {"push": (0.0, 3.0)})
    """Pushes are a part of the task: kicks of up to three times the easy walking speed (OP3's home pose takes two)."""


class Stand(LeggedTask):
    """``cadenza/<Robot>Stand-v0``."""

    config_type = StandConfig
    config: StandConfig
    weights: ClassVar[Mapping[str, float]] = {
        "upright": 1.0,
        "height": 1.0,
        "home_pose": 1.0,
        "still": 1.0,
        "balance": 0.0,  # no policy that was paid for it has beaten the others: docs/results/op3-stand.md
        "torque": -0.3,
        "action_rate": -0.6,
        "joint_motion": -0.3,
        "foot_slip": -0.3,
        "joint_limits": -0.5,
    }

    def observation_terms(self) -> Sequence[ObservationTerm]:
        return actor_terms(len(self.home), clock=False)

    def reward_terms(self) -> Sequence[RewardTerm]:
        speed = self.robot.speed_m_s
        return (
            RewardTerm("upright", lambda s: bell(1.0 - rewards.upright(s), 0.1)),
            RewardTerm("height", lambda s: rewards.height(s, 0.1)),
            RewardTerm("home_pose", lambda s: rewards.home_pose(s, 0.3)),
            RewardTerm("still", lambda s: norm_bell(s.base_velocity, 0.5 * speed)),
            RewardTerm("balance", lambda s: rewards.balance(s, 0.3)),
            RewardTerm("torque", rewards.torque),
            RewardTerm("action_rate", rewards.action_rate),
            RewardTerm("joint_motion", lambda s: rewards.joint_motion(s, 3.0)),
            RewardTerm("foot_slip", lambda s: rewards.foot_slip(s, speed)),
            RewardTerm("joint_limits", lambda s: rewards.joint_limits(s, 0.1)),
        )

    def measures(self) -> dict[str, Array]:
        """Speed of the base and its tilt."""
        s = self.last_signals
        return {
            "x_velocity": s.base_velocity[:, 0],
            "speed": np.sqrt(np.square(s.base_velocity[:, :2]).sum(axis=1)),
            "tilt_rad": np.arccos(np.clip(s.up, -1.0, 1.0)),
        }

"""A humanoid that runs: Walk at two to three times the easy speed, with a flight phase.

Commands are forward speeds only, the clock is quicker, and a foot is on the ground for a good third of its cycle, so
that there is a time with none. Everything else, observation and action included, is :mod:`cadenza.envs.walk`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from cadenza.envs.walk import Walk, WalkConfig
from cadenza.robots.description import LeggedRobot


@dataclass(frozen=True)
class RunConfig(WalkConfig):
    """Settings of Run."""

    duty: float = 0.38
    period_share: float = 0.7
    """Of the walking gait's period."""

    @classmethod
    def of(cls, robot: LeggedRobot) -> Self:
        """Commands of one to three times a robot's easy speed."""
        v = robot.speed_m_s
        return cls(
            forward_m_s=(v, 3.0 * v),
            left_m_s=(0.0, 0.0),
            yaw_rad_s=(-0.3, 0.3),
            velocity_width_m_s=v,
        )


class Run(Walk):
    """``cadenza/<Robot>Run-v0``."""

    config_type = RunConfig
    config: RunConfig
    weights: ClassVar[Mapping[str, float]] = {
        **Walk.weights,
        "velocity": 2.5,
        "vertical_velocity": 0.0,
        "hard_landing": -0.1,
    }

    def gait_period_s(self) -> float:
        return self.config.period_share * self.robot.gait_period_s

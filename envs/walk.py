"""A humanoid that walks as it is told: forward and sideways velocity and yaw rate, zero included.

It starts in its home pose, in any direction, with a random command that is drawn anew every ten seconds. It is paid for
moving as commanded, upright, in a gait whose steps follow a clock, and pays for torque, jerky actions, slipping feet
and poses far from home. The episode terminates when it falls (tilt, height); the time limit of 20 s truncates.

Observation, float64; the terms in the order of the vector (n: joints, 20 for OP3), times ``history``, newest first:

| Term             | Size | Source     | Unit  | Scale | Meaning                                                       |
|------------------|------|------------|-------|-------|---------------------------------------------------------------|
| gyro             | 3    | imu        | rad/s | 0.25  | angular velocity in the IMU's axes                            |
| gravity          | 3    | imu        | -     | 1     | direction of gravity there; (0, 0, -1) upright                |
| command          | 3    | command    | -     | 1     | forward, left, turn, over the easy speed and 1 rad/s          |
| joint_position   | n    | encoder    | rad   | 1     | angle minus home                                              |
| joint_velocity   | n    | encoder    | rad/s | 0.05  |                                                               |
| last_action      | n    | memory     | -     | 1     |                                                               |
| clock            | 2    | memory     | -     | 1     | cosine and sine of the gait's phase                           |
| *privileged, for critics, with ``privileged=True``:* |||||                                                     |
| base_velocity    | 3    | privileged | m/s   | 1     | in the heading frame, over the easy speed                     |
| base_height      | 1    | privileged | -     | 10    | over home height, minus 1                                     |
| feet             | 4    | privileged | -     | 1     | contact and height over the swing's top, left and right       |
| friction         | 1    | privileged | -     | 1     | of the ground                                                 |
| push_soon        | 1    | privileged | -     | 1     | 1 in the half second before a push                            |

Action, float32 of shape (n,) in [-1, 1], in the order of the robot's joint table: targets of the position actuators,
``home + scale * action``, cut at the joints' limits, 50 times a second.

Rewards and weights follow MuJoCo Playground's joystick tasks (OP3, G1; shared facts in docs/tasks.md) but are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.legged import rewards
from cadenza.envs.legged.commands import AXES, CommandRanges, as_command
from cadenza.envs.legged.observations import actor_terms, command_term
from cadenza.envs.legged.settings import LeggedConfig
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.legged.terms import ObservationTerm, RewardTerm
from cadenza.robots.description import LeggedRobot

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WalkConfig(LeggedConfig):
    """Settings of Walk; :meth:`of` scales them to a robot."""

    forward_m_s: tuple[float, float] = (-0.1, 0.3)
    left_m_s: tuple[float, float] = (-0.1, 0.1)
    yaw_rad_s: tuple[float, float] = (-0.5, 0.5)
    zero_share: float = 0.1
    resample_s: float = 10.0
    command: tuple[float, float, float] | None = None
    """One command for ever, instead of random ones; it may lie beyond their ranges, as whoever sets it should know."""
    velocity_width_m_s: float = 0.16
    """Error at which the velocity reward has fallen to 1/e."""
    yaw_width_rad_s: float = 0.4
    duty: float = 0.55
    """Share of the gait's cycle that a foot is on the ground."""

    @classmethod
    def of(cls, robot: LeggedRobot) -> Self:
        """Commands of about a robot's easy speed."""
        v = robot.speed_m_s
        return cls(
            forward_m_s=(-0.4 * v, 1.2 * v),
            left_m_s=(-0.4 * v, 0.4 * v),
            velocity_width_m_s=0.8 * v,
        )


class Walk(LeggedTask):
    """``cadenza/<Robot>Walk-v0``."""

    config_type = WalkConfig
    config: WalkConfig
    weights: ClassVar[Mapping[str, float]] = {
        "velocity": 2.0,
        "yaw": 0.6,
        "upright": 0.2,
        "height": 0.2,
        "gait": 1.0,
        "clearance": 1.0,
        "vertical_velocity": -0.2,
        "roll_pitch_rate": -0.4,
        "tilt": -1.0,
        "torque": -0.3,
        "action_rate": -0.6,
        "foot_slip": -0.3,
        "joint_limits": -0.5,
        "hip_pose": -0.6,
        "arm_pose": -0.4,
        "still_pose": -0.5,
        "hard_landing": -0.3,
    }

    def observation_terms(self) -> Sequence[ObservationTerm]:
        return actor_terms(len(self.home), command_term(self.robot.speed_m_s), clock=True)

    def reward_terms(self) -> Sequence[RewardTerm]:
        c, robot = self.config, self.robot
        hips = self.joints_named("hip_yaw", "hip_roll")
        upper = self.joints_named(
            "sho", "el", "wrist", "waist", "head", "neck", "torso", "Waist", "Head", "Elbow", "Shoulder"
        )
        top = robot.clearance_m
        return (
            RewardTerm("velocity", lambda s: rewards.velocity_tracking(s, c.velocity_width_m_s)),
            RewardTerm("yaw", lambda s: rewards.yaw_tracking(s, c.yaw_width_rad_s)),
            RewardTerm("upright", rewards.upright),
            RewardTerm("height", lambda s: rewards.height(s, 0.1)),
            RewardTerm("gait", lambda s: rewards.gait_contact(s, c.duty)),
            RewardTerm("clearance", lambda s: rewards.clearance(s, c.duty, top)),
            RewardTerm("vertical_velocity", lambda s: rewards.vertical_velocity(s, robot.speed_m_s)),
            RewardTerm("roll_pitch_rate", lambda s: rewards.roll_pitch_rate(s, 3.0)),
            RewardTerm("tilt", rewards.tilt),
            RewardTerm("torque", rewards.torque),
            RewardTerm("action_rate", rewards.action_rate),
            RewardTerm("foot_slip", lambda s: rewards.foot_slip(s, robot.speed_m_s)),
            RewardTerm("joint_limits", lambda s: rewards.joint_limits(s, 0.1)),
            RewardTerm("hip_pose", lambda s: rewards.pose_deviation(s, hips, 0.3)),
            RewardTerm("arm_pose", lambda s: rewards.pose_deviation(s, upper, 0.5)),
            RewardTerm("still_pose", lambda s: (1.0 - s.moves) * (1.0 - rewards.home_pose(s, 0.2))),
            RewardTerm("hard_landing", rewards.hard_landing),
        )

    @property
    def command_ranges(self) -> CommandRanges:
        """Where commands are drawn from, and what may be given."""
        c = self.config
        return CommandRanges(c.forward_m_s, c.left_m_s, c.yaw_rad_s, c.zero_share)

    def checked_command(self, command: Sequence[float]) -> Array:
        return self.command_ranges.checked(command, f"{self.robot.prefix}{type(self).__name__}")

    def parameter_ranges(self) -> dict[str, tuple[float, float]]:
        c = self.config
        ranges = {"forward_m_s": c.forward_m_s, "left_m_s": c.left_m_s, "yaw_rad_s": c.yaw_rad_s}
        return {name: pair for name, pair in ranges.items() if pair[1] > pair[0]} | super().parameter_ranges()

    def command_hold_s(self) -> float:
        return float("inf") if self.config.command is not None else self.config.resample_s

    def draw_command(self, index: int, random: np.random.Generator) -> Array:
        c = self.config
        if c.command is not None:
            return as_command(c.command)
        drawn = self.command_ranges.draw(random)
        # A curriculum may fix one of them; it is drawn all the same, so that the others stay what they would be.
        for axis, name in enumerate(AXES):
            drawn[axis] = self.parameters[index].get(name, drawn[axis])
        return drawn

    def measures(self) -> dict[str, Any]:
        """Forward velocity and how far velocities are from the command."""
        s = self.last_signals
        error = s.base_velocity[:, :2] - s.command[:, :2]
        return {
            "x_velocity": s.base_velocity[:, 0],
            "velocity_error": np.sqrt(np.square(error).sum(axis=1)),
            "yaw_error": np.abs(s.base_rotation[:, 2] - s.command[:, 2]),
        }

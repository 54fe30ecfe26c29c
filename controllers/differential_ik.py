"""Differential inverse kinematics with mink: joint references that lead the hand to a pose, within all limits.

Each call solves one small quadratic programme: bring the TCP to the target (frame task), stay near the home pose
(posture task, weak), subject to the limits of angle (configuration limit) and speed (velocity limit). Unlike the closed
form of :mod:`cadenza.controllers.hand_ik` it finds the best motion *along* a limit, and it takes further mink tasks; it
goes one arm at a time.

The programme runs on a model of the arm alone, with a rigid hand, and follows its own reference: an arm that sags or
lags does not pull the reference with it. :meth:`DifferentialIK.advance` takes the measured angles to keep the reference
from running away from an arm that is held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mink
import numpy as np
from numpy.typing import ArrayLike

from cadenza.controllers.hand_ik import task_weights, threshold_of
from cadenza.controllers.joint_pd import SPEED_SHARE
from cadenza.controllers.poses import Array, checked, pose_difference, shortened, unit_quaternion
from cadenza.robots.arm_description import ArmRobot, Mount
from cadenza.robots.arm_pose import arm_index, home_angles, joint_limits, tcp_jacobian, tcp_pose, velocity_limits


@dataclass(frozen=True)
class DifferentialIKConfig:
    """Weights and guards."""

    position_cost: float = 1.0
    """Per metre."""
    orientation_cost: float = 1.0
    """Per radian, times what :func:`~cadenza.controllers.hand_ik.task_weights` give a rotation."""
    posture_cost: float = 1e-2
    """Per radian from home; pulls the hand off by less than 1e-4 of that."""
    hand_speed_m_s: float = 0.8
    """The reference moves the hand no faster than this, however far the target."""
    hand_turn_rad_s: float = 2.5
    hand_stop_m_s2: float = 4.0
    """It slows down before the target at this rate."""
    hand_stop_rad_s2: float = 12.0
    acceleration_rad_s2: float = 15.0
    """Of the joints' reference: drives of limited torque cannot follow a jump in speed."""
    speed_share: float = SPEED_SHARE
    """Share of the speed limits that is used."""
    limit_margin_rad: float = 0.02
    leash_rad: float = 0.3
    """The reference stays within this of the measured angles."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}.")
        if self.speed_share > 1:
            raise ValueError(f"speed_share must be at most 1, got {self.speed_share}.")


class DifferentialIK:
    """References for the n joints that move an arm's hand.

    Args:
        arm: gives kinematics, home pose and limits.
        rate_hz: at which :meth:`advance` is called.
        config: weights and guards.
        mount: where the base stands, as it was given to ``build_spec``.

    Raises:
        ValueError: a rate that is not positive.
    """

    def __init__(
        self,
        arm: ArmRobot,
        rate_hz: float,
        config: DifferentialIKConfig | None = None,
        *,
        mount: Mount | None = None,
    ) -> None:
        if not rate_hz > 0:
            raise ValueError(f"rate_hz must be positive, got {rate_hz}.")
        self.config = c = config or DifferentialIKConfig()
        self.size = len(arm.arm_joints)
        self.period_s = 1.0 / rate_hz
        self.model = arm.build_spec(rigid_hand=True, contacts="none", visuals=False, mount=mount).compile()
        self.index = arm_index(self.model, arm)
        self.configuration = mink.Configuration(self.model)
        self.threshold, self.reach_m = threshold_of(arm), arm.reach_m
        self._costs = np.repeat((c.position_cost, c.orientation_cost), 3) * task_weights(arm)
        self.hand = mink.FrameTask("tcp", "site", self._costs[:3], self._costs[3:])
        self.posture = mink.PostureTask(self.model, cost=c.posture_cost)
        speeds = c.speed_share * velocity_limits(arm)
        names = [row.name for row in arm.arm_joints]
        self.limits = [
            mink.ConfigurationLimit(self.model, min_distance_from_limits=c.limit_margin_rad),
            mink.VelocityLimit(self.model, dict(zip(names, speeds, strict=True))),
        ]
        self.acceleration = _AccelerationLimit(self.limits, c.acceleration_rad_s2)
        # mink's solver finds no step from outside its limits, so no reference ever starts there.
        low, high = joint_limits(arm)
        self._low, self._high = low + c.limit_margin_rad, high - c.limit_margin_rad
        self._home = home_angles(arm)
        self._started = False

    def reset(self, angles: ArrayLike) -> None:
        """Start from these joint angles, rad, (n,), at rest."""
        self._set(checked("angles", angles, self.size))
        self.posture.set_target(self._full(self._home))
        self.acceleration.velocity = np.zeros(self.model.nv)
        self._started = True

    @property
    def reference(self) -> Array:
        """Joint angles, rad, (n,)."""
        return np.asarray(self.configuration.q[self.index.qpos])

    def pose(self) -> tuple[Array, Array]:
        """Position, m, (3,) and quaternion wxyz (4,) of the hand at the reference."""
        return tcp_pose(self.configuration.data, self.index)

    def advance(
        self, position: ArrayLike, quaternion: ArrayLike, angles: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """One step of the reference towards a pose of the hand in the world.

        Args:
            position: m, (3,).
            quaternion: wxyz (4,), of either sign.
            angles: measured, rad, (n,): the reference is kept on its leash; None: it runs by itself.

        Returns:
            The reference, rad, and its velocity, rad/s, both (n,); :meth:`JointPD.targets
            <cadenza.controllers.joint_pd.JointPD.targets>` turns them into ``ctrl``.

        Raises:
            ValueError: sizes that do not fit, numbers that are not finite, a quaternion that is none, or no
                :meth:`reset` before.
        """
        if not self._started:
            raise ValueError("DifferentialIK.reset(angles) comes before the first advance().")
        c = self.config
        goal = checked("the position", position, 3), unit_quaternion("the quaternion", quaternion)
        if angles is not None:
            measured = checked("angles", angles, self.size)
            self._set(np.clip(self.reference, measured - c.leash_rad, measured + c.leash_rad))
        here = self.pose()
        error = pose_difference(goal, here)
        step = np.concatenate(
            (
                shortened(error[:3], self._step_length(error[:3], c.hand_speed_m_s, c.hand_stop_m_s2)),
                shortened(error[3:], self._step_length(error[3:], c.hand_turn_rad_s, c.hand_stop_rad_s2)),
            )
        )
        near = here[0] + step[:3]
        turn = mink.SO3.exp(step[3:]) @ mink.SO3(here[1])
        self.hand.set_target(mink.SE3.from_rotation_and_translation(turn, near))

        start = self.reference
        jacobian = self._costs[:, None] * tcp_jacobian(self.model, self.configuration.data, self.index)
        smallest = np.linalg.svd(jacobian, compute_uv=False)[-1]
        velocity = mink.solve_ik(
            self.configuration,
            [self.hand, self.posture],
            self.period_s,
            solver="daqp",
            damping=self._damping(float(smallest), float(np.linalg.norm(step[:3]))),
            limits=[*self.limits, self.acceleration],
        )
        self._set(start + velocity[self.index.dof] * self.period_s)
        self.acceleration.velocity = velocity
        return self.reference, (self.reference - start) / self.period_s

    def _step_length(self, error: Array, speed: float, stop: float) -> float:
        """How far the hand goes in a period so that it can stop at the target."""
        return min(speed, math.sqrt(2.0 * stop * float(np.linalg.norm(error)))) * self.period_s

    def _damping(self, smallest: float, distance_m: float) -> float:
        """lambda^2: 0 at the target, away from singularities. The second part is the bend of the path, see hand_ik."""
        share = max(1.0 - (smallest / self.threshold) ** 2, 0.0)
        return share * self.threshold**2 + 0.5 * self.reach_m * distance_m + 1e-9

    def _set(self, angles: Array) -> None:
        self.configuration.update(self._full(np.clip(angles, self._low, self._high)))

    def _full(self, angles: Array) -> Array:
        full = np.zeros(self.model.nq)
        full[self.index.qpos] = angles
        return full


class _AccelerationLimit(mink.Limit):
    """Bounds the change of the joints' velocity, but never so that a limit of angle or speed could not be kept.

    Args:
        others: limits that rows of the identity make; they come first.
        acceleration: rad/s^2.
    """

    def __init__(self, others: list[mink.Limit], acceleration: float) -> None:
        self.others, self.acceleration = others, acceleration
        self.velocity = np.zeros(0)

    def compute_qp_inequalities(self, configuration: mink.Configuration, dt: float) -> Any:
        """Rows ``+-dq <= h`` for every joint."""
        size = configuration.nv
        low, high = np.full(size, -np.inf), np.full(size, np.inf)
        for limit in self.others:
            rows = limit.compute_qp_inequalities(configuration, dt)
            if rows.h is None:
                continue
            high = np.minimum(high, rows.h[:size])
            low = np.maximum(low, -rows.h[size:])
        change = self.acceleration * dt
        most = np.clip((self.velocity + change) * dt, low, high)
        least = np.clip((self.velocity - change) * dt, low, high)
        eye = np.eye(size)
        return mink.limits.Constraint(G=np.vstack((eye, -eye)), h=np.concatenate((most, -least)))

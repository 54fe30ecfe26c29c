"""Operational-space control: torques that make the hand move as a mass on a spring and damper, in six dimensions.

With the arm's inertia M, the TCP's Jacobian J and the torque ``b`` that gravity and speed ask for (``qfrc_bias``)::

    a    = kp e + kd (v* - v)                                  what the hand is to do, m/s^2 and rad/s^2
    L    = (J M^-1 J^T + U diag(d) U^T)^-1                     the arm's inertia as the hand feels it
    tau  = J^T L a + (I - J^T L J M^-1) M (kp0 (q0 - q) - kd0 dq) + b

(Khatib 1987; gains of the specification: kp 150, kp0 10, both critically damped.) Where a singular value s_i of J is
below the threshold eps, ``d_i = (eps^2 - s_i^2) v_i^T M^-1 v_i``, with v_i the joint-space direction of s_i: as in
:mod:`cadenza.controllers.hand_ik`, the joints' acceleration along it is at most a / eps, and 0 at the singularity.

Three guards come on top, each 0 in free motion: a joint nearer than ``limit_margin_rad`` to a limit is pushed back, one
faster than ``speed_share`` of its limit is braked, and torques are clipped to the motors'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from cadenza.controllers.hand_ik import task_weights, threshold_of
from cadenza.controllers.poses import Array, checked, pose_difference, shortened, unit_quaternion
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import (
    arm_index,
    home_angles,
    joint_limits,
    tcp_jacobian,
    tcp_pose,
    torque_limits,
    velocity_limits,
)


@dataclass(frozen=True)
class OperationalSpaceConfig:
    """Gains and guards."""

    kp: float = 150.0
    """1/s^2, for translation and rotation."""
    damping_ratio: float = 1.0
    """kd = 2 damping_ratio sqrt(kp)."""
    null_kp: float = 10.0
    """1/s^2, towards the home pose."""
    null_damping_ratio: float = 1.0
    error_m: float = 0.1
    """A target farther away pulls no harder than one at this distance; so the hand stays below kp / kd times it."""
    error_rad: float = 0.5
    limit_margin_rad: float = 0.1
    limit_frequency_rad_s: float = 20.0
    """Of the critically damped spring that pushes a joint out of the margin."""
    speed_share: float = 0.75
    """Share of a joint's speed limit that it may come to."""
    brake_1_s: float = 100.0
    """Most acceleration of a joint per speed that it may still gain; one that is too fast loses speed as quickly."""
    slow_1_s: float = 10.0
    """Rate at which all joints lose speed where their motors are too weak for anything else."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}.")
        if self.speed_share >= 1:
            raise ValueError(f"speed_share must be below 1, got {self.speed_share}.")


class OperationalSpace:
    """Torques for an arm built with ``actuation="torque"``; call it once every physics step.

    Args:
        arm: gives home pose and limits.
        model: that the arm is part of.
        config: gains and guards.

    Raises:
        ValueError: the model's actuators of the arm take no torques, or lack altogether.
    """

    def __init__(self, arm: ArmRobot, model: mujoco.MjModel, config: OperationalSpaceConfig | None = None) -> None:
        self.config = config or OperationalSpaceConfig()
        self.index = arm_index(model, arm)
        if (model.actuator_biastype[self.index.actuator] != mujoco.mjtBias.mjBIAS_NONE).any():
            raise ValueError(f'The model of {arm.title} takes positions; build it with actuation="torque".')
        self.model = model
        self.home = home_angles(arm)
        self.limits = joint_limits(arm)
        self.speed = velocity_limits(arm)
        self.torque = torque_limits(arm)
        self.threshold, self.weights = threshold_of(arm), task_weights(arm)
        self._inertia = np.empty((model.nv, model.nv))

    def torques(
        self, data: mujoco.MjData, position: ArrayLike, quaternion: ArrayLike, twist: ArrayLike | None = None
    ) -> Array:
        """N m, shape (n,), within the motors' limits.

        ``data`` must be as ``mj_step1`` or ``mj_forward`` leave it; after ``mj_step`` its kinematics are one step old,
        which costs damping but no stability at 4 ms.

        Args:
            data: the simulation.
            position: of the target, m, (3,).
            quaternion: wxyz (4,), of either sign.
            twist: velocity of the target, m/s and rad/s, (6,); None: it stands.

        Raises:
            ValueError: sizes that do not fit, numbers that are not finite, a quaternion that is none.
        """
        c, at = self.config, self.index
        goal = checked("the position", position, 3), unit_quaternion("the quaternion", quaternion)
        angles, velocities = data.qpos[at.qpos], data.qvel[at.dof]
        jacobian = self.weights[:, None] * tcp_jacobian(self.model, data, at)
        mujoco.mj_fullM(self.model, data, self._inertia)
        inertia = self._inertia[np.ix_(at.dof, at.dof)]
        mobility = np.linalg.inv(inertia)

        error = pose_difference(goal, tcp_pose(data, at))
        error = np.concatenate((shortened(error[:3], c.error_m), shortened(error[3:], c.error_rad)))
        error = error * self.weights
        wanted = np.zeros(6) if twist is None else checked("the twist", twist, 6) * self.weights
        kd = 2.0 * c.damping_ratio * math.sqrt(c.kp)
        acceleration = c.kp * error + kd * (wanted - jacobian @ velocities)

        felt = damped_inertia(jacobian, mobility, self.threshold)
        null_kd = 2.0 * c.null_damping_ratio * math.sqrt(c.null_kp)
        posture = inertia @ (c.null_kp * (self.home - angles) - null_kd * velocities)
        posture -= jacobian.T @ (felt @ (jacobian @ (mobility @ posture)))
        torque = jacobian.T @ (felt @ acceleration) + posture + self._off_limits(angles, velocities, inertia.diagonal())
        return self._within_torques(mobility @ torque, velocities, inertia, data.qfrc_bias[at.dof])

    def _off_limits(self, angles: Array, velocities: Array, inertia: Array) -> Array:
        """Torques that keep joints off their limits of angle, N m, (n,)."""
        c = self.config
        depth = np.maximum(self.limits[0] + c.limit_margin_rad - angles, 0.0)
        depth = depth - np.maximum(angles - self.limits[1] + c.limit_margin_rad, 0.0)
        frequency = c.limit_frequency_rad_s
        return inertia * (frequency**2 * depth - 2.0 * frequency * velocities * (depth != 0.0))

    def _bounds(self, velocities: Array) -> tuple[Array, Array]:
        """Least and most acceleration, rad/s^2, (n,) each, with which no joint is too fast 1/brake_1_s later.

        Adding a brake to the torque is not enough: whatever pulls harder than it brakes, wins.
        """
        most, brake = self.config.speed_share * self.speed, self.config.brake_1_s
        return -brake * (most + velocities), brake * (most - velocities)

    def _within_torques(self, wanted: Array, velocities: Array, inertia: Array, bias: Array) -> Array:
        """Torques, N m, (n,), within the motors' limits, that come as near to the acceleration as those allow.

        Cutting the torques one by one would give back to the other joints what they had been braked by: what a
        saturated joint cannot hold accelerates its neighbours. So the others' torques are computed anew with what the
        saturated ones do give. Where these then become too fast themselves, all is slowed down together: the torques
        are those of a point on the way from braking every joint to what is wanted, as far along it as all motors can.
        """
        low, high = self._bounds(velocities)
        wanted = np.clip(wanted, low, high)
        torque: Array = inertia @ wanted + bias
        saturated = np.zeros(len(torque), dtype=bool)
        reached = wanted.copy()
        while (beyond := (np.abs(torque) > self.torque) & ~saturated).any():
            saturated |= beyond
            cut, free = np.clip(torque, -self.torque, self.torque), ~saturated
            given = cut[saturated] - bias[saturated] - inertia[np.ix_(saturated, free)] @ wanted[free]
            reached[saturated] = np.linalg.solve(inertia[np.ix_(saturated, saturated)], given)
            torque = np.where(saturated, cut, inertia @ reached + bias)
        if ((reached >= low) & (reached <= high))[saturated].all():
            return torque
        braking = bias - self.config.slow_1_s * (inertia @ velocities)
        further = inertia @ wanted + bias - braking
        room = np.where(further > 0.0, self.torque - braking, self.torque + braking)
        share = np.divide(room, np.abs(further), out=np.ones_like(room), where=further != 0.0)
        slowed: Array = braking + min(1.0, max(0.0, float(share.min()))) * further
        return np.clip(slowed, -self.torque, self.torque)


def damped_inertia(jacobian: Array, mobility: Array, threshold: float) -> Array:
    """The inertia L that the hand feels, kg and kg m^2, (6, 6), finite in singular poses too.

    Args:
        jacobian: (6, n).
        mobility: inverse of the arm's inertia, (n, n).
        threshold: singular value below which a direction is damped.
    """
    left, values, right = np.linalg.svd(jacobian)
    missing = 6 - len(values)
    # An arm with fewer than six joints has directions that no joint moves: any positive damping does there.
    ease = np.einsum("ij,jk,ik->i", right[: len(values)], mobility, right[: len(values)])
    ease = np.append(ease, np.full(missing, mobility.diagonal().mean()))
    squares = np.append(values * values, np.zeros(missing))
    damping = np.maximum(threshold * threshold - squares, 0.0) * ease
    return np.linalg.inv(jacobian @ mobility @ jacobian.T + (left * damping) @ left.T)

"""From a pose of the hand to joint targets, once a control step: damped least squares over any number of arms.

The step that brings the hand from where it is to its target is ``dq = J# e + (I - J# J) k (home - q)``, with::

    J J^T = U diag(s^2) U^T,      J# = J^T U diag(1 / max(s^2, eps^2)) U^T

For singular values above the threshold ``eps`` that is the pseudo-inverse. Below it the gain along that direction is
s / eps^2 instead of 1 / s: it falls to 0 at the singularity, and nowhere exceeds 1 / eps. (Maciejewski and Klein 1988
damp the singular directions alone in this way; lambda^2 = eps^2 - s^2 makes the sum the maximum above.)

One arm is a stack of one: every matrix goes through the same LAPACK and BLAS calls however many there are, so that a
vectorised environment and a single one get the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cadenza.controllers.joint_pd import SPEED_SHARE, drive_reach, lead_time
from cadenza.controllers.poses import Array, apply, checked, finite, length, pose_difference, unit_quaternion
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import home_angles, joint_limits


def threshold_of(arm: ArmRobot) -> float:
    """Singular value of the Jacobian (m/rad and rad/rad mixed) below which a direction is damped: 8 % of the reach."""
    return 0.08 * arm.reach_m


def task_weights(arm: ArmRobot) -> Array:
    """What an error of the hand's pose counts in each direction, (6,).

    1 for an arm that can take any pose. One with fewer than six joints cannot, and a metre would count like a radian:
    there a radian counts 0.05, so that the hand gives way in rotation and not in place.
    """
    return np.repeat((1.0, 1.0 if len(arm.arm_joints) >= 6 else 0.05), 3)


def damped_inverse(jacobian: ArrayLike, threshold: ArrayLike) -> Array:
    """``J#`` of Jacobians (..., 6, n), shape (..., n, 6); no singular value of it exceeds 1 / threshold.

    The threshold is one for all, or one for each (...).

    Raises:
        ValueError: another shape, not finite, or a threshold that is not positive.
    """
    given = np.asarray(jacobian, dtype=np.float64)
    if given.ndim < 2 or given.shape[-2] != 6:
        raise ValueError(f"A Jacobian has shape (..., 6, n), not {given.shape}.")
    if not np.isfinite(given).all():
        raise ValueError("The Jacobian holds a number that is not finite.")
    least = np.broadcast_to(np.asarray(threshold, dtype=np.float64), given.shape[:-2]).reshape(-1, 1)
    if not (least > 0).all():
        raise ValueError(f"threshold must be positive, got {least.ravel()}.")
    stack = np.ascontiguousarray(given.reshape(-1, *given.shape[-2:]))
    transposed = np.ascontiguousarray(np.swapaxes(stack, -1, -2))
    squares, directions = np.linalg.eigh(np.matmul(stack, transposed))
    scaled = directions / np.maximum(squares, least * least)[:, None, :]
    inner = np.matmul(scaled, np.ascontiguousarray(np.swapaxes(directions, -1, -2)))
    return np.matmul(transposed, inner).reshape(*given.shape[:-2], given.shape[-1], 6)


class HandToJoints:
    """Turns target poses of the hand into targets of position actuators, once a control step.

    Args:
        arm: gives home pose, gains and limits.
        rate_hz: of the control steps.
        threshold: singular value below which a direction is damped; None: :func:`threshold_of` the arm.
        posture_gain: share of the way home that what does not move the hand goes in each step; it keeps the elbow
            of a 7-joint arm from drifting.
        speed_share: share of the speed limits that a step may ask for.

    Raises:
        ValueError: a rate, gain or share that cannot be.
    """

    def __init__(
        self,
        arm: ArmRobot,
        rate_hz: float,
        *,
        threshold: float | None = None,
        posture_gain: float = 0.05,
        speed_share: float = SPEED_SHARE,
    ) -> None:
        if not rate_hz > 0 or not 0 < speed_share <= 1 or not 0 <= posture_gain <= 1:
            raise ValueError(
                "rate_hz must be positive, speed_share in (0, 1] and posture_gain in [0, 1]; "
                f"got {rate_hz}, {speed_share} and {posture_gain}."
            )
        self.size = len(arm.arm_joints)
        self.home = home_angles(arm)
        self.limits = joint_limits(arm)
        self.threshold = threshold_of(arm) if threshold is None else threshold
        self.weights = task_weights(arm)
        self.reach_m = arm.reach_m
        self.posture_gain = posture_gain
        self.kp = np.array([row.kp for row in arm.arm_joints])
        self.lead_s = lead_time(arm, rate_hz)
        self._reach = drive_reach(arm, rate_hz, speed_share)

    def targets(
        self,
        jacobian: ArrayLike,
        target: tuple[ArrayLike, ArrayLike],
        hand: tuple[ArrayLike, ArrayLike],
        angles: ArrayLike,
        twist: ArrayLike | None = None,
        weight: ArrayLike = 0.0,
    ) -> Array:
        """Targets of the position actuators, rad, (..., n), within limits of angle and speed.

        Args:
            jacobian: of the TCP, (..., 6, n).
            target: position, m, (..., 3) and quaternion wxyz (..., 4) to reach.
            hand: the same as measured.
            angles: measured, rad, (..., n).
            twist: velocity with which the target moves, m/s and rad/s, (..., 6): the drives' lag is made up for.
            weight: torque that carries the arm, N m, (..., n), where no maker's controller adds it.

        Raises:
            ValueError: sizes that do not fit, numbers that are not finite, a quaternion that is none.
        """
        angles = checked("angles", angles, self.size)
        goal = (checked("the target position", target[0], 3), unit_quaternion("the target quaternion", target[1]))
        here = (checked("the hand's position", hand[0], 3), unit_quaternion("the hand's quaternion", hand[1]))
        matrix = checked("the Jacobian", jacobian, 6, self.size) * self.weights[:, None]
        motion = pose_difference(goal, here)
        # Where the arm is stretched out, the hand's path bends within a step by up to (distance x reach) / 2 per
        # radian squared; a threshold below the root of that would overshoot for ever.
        bend = 0.5 * self.reach_m * length(motion[..., :3])[..., 0]
        inverse = damped_inverse(matrix, np.sqrt(np.maximum(self.threshold * self.threshold, bend)))
        motion = motion * self.weights
        step = apply(inverse, motion)
        home = self.posture_gain * (self.home - angles)
        step = step + home - apply(inverse, apply(matrix, home))
        if twist is not None:
            step = step + self.lead_s * apply(inverse, checked("the twist", twist, 6) * self.weights)
        # All joints slow down together, so that the hand keeps its direction.
        most = np.max(np.abs(step) / self._reach, axis=-1, keepdims=True)
        step = step / np.maximum(most, 1.0)
        return np.clip(angles + step + finite("the weight", weight) / self.kp, *self.limits)

"""Damped least squares: the formula by hand, one arm and many, tracking, limits and singularities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.controllers.hand_actions import HandDelta
from cadenza.controllers.hand_ik import HandToJoints, damped_inverse, task_weights
from cadenza.controllers.poses import apply, pose_difference
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import hinge_jacobian, home_angles, joint_limits, tcp_jacobian, velocity_limits

Array = NDArray[np.float64]
RATE_HZ = 20


def jacobian_of(world: Any) -> Array:
    at, data = world.at, world.data
    return hinge_jacobian(data.xaxis[at.joint], data.xanchor[at.joint], data.site_xpos[at.tcp])


def test_the_damped_inverse_by_hand() -> None:
    """Diagonal, threshold 0.1: 1 / s above it, s / 0.01 below."""
    jacobian = np.zeros((6, 7))
    jacobian[range(6), range(6)] = (2.0, 1.0, 0.5, 0.1, 0.05, 0.0)
    inverse = damped_inverse(jacobian, 0.1)
    np.testing.assert_allclose(inverse[range(6), range(6)], (0.5, 1.0, 2.0, 10.0, 5.0, 0.0), atol=1e-12)
    assert np.abs(inverse[6]).max() == 0


def test_away_from_singularities_it_is_the_pseudo_inverse() -> None:
    jacobian = np.random.default_rng(0).normal(size=(20, 6, 7))
    np.testing.assert_allclose(damped_inverse(jacobian, 1e-3), np.linalg.pinv(jacobian), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("threshold", [0.02, 0.08, 0.3])
def test_its_gain_never_exceeds_one_over_the_threshold(threshold: float) -> None:
    generator = np.random.default_rng(1)
    jacobian = generator.normal(size=(200, 6, 7)) * generator.uniform(0, 1, (200, 6, 1)) ** 6
    gains = np.linalg.norm(damped_inverse(jacobian, threshold), ord=2, axis=(1, 2))
    assert gains.max() <= 1 / threshold + 1e-9
    assert gains.max() > 0.9 / threshold, "the bound is reached"


@pytest.mark.parametrize("copies", [1, 2, 7, 64])
def test_many_arms_get_the_same_bits_as_one(arm: ArmRobot, simulate: Callable[..., Any], copies: int) -> None:
    """States of a rollout, stacked; then each alone, as the single environment would ask."""
    world = simulate(arm)
    generator = np.random.default_rng(2)
    control = HandToJoints(arm, RATE_HZ)
    stack: list[tuple[Array, ...]] = []
    low, high = joint_limits(arm)
    for _ in range(copies):
        world.data.qpos[world.at.qpos] = generator.uniform(low, high)
        position, turn = world.pose()
        twist = generator.normal(size=6) * 0.3
        goal = generator.normal(size=4)
        stack.append(
            (
                jacobian_of(world),
                position + generator.normal(size=3) * 0.05,
                goal / np.linalg.norm(goal),
                position,
                turn,
                world.angles,
                twist,
                generator.normal(size=len(low)),
            )
        )
    j, p, q, hp, hq, a, t, w = (np.stack(part) for part in zip(*stack, strict=True))
    many = control.targets(j, (p, q), (hp, hq), a, t, w)
    assert many.shape == (copies, len(low))
    for row, (j1, p1, q1, hp1, hq1, a1, t1, w1) in enumerate(stack):
        np.testing.assert_array_equal(control.targets(j1, (p1, q1), (hp1, hq1), a1, t1, w1), many[row])


def test_what_brings_the_elbow_home_does_not_move_the_hand(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(panda)
    world.data.qpos[world.at.qpos] = home_angles(panda) + np.array((0.2, 0.1, -0.3, 0.2, 0.1, -0.2, 0.3))
    pose = world.pose()
    control = HandToJoints(panda, RATE_HZ)
    moved = control.targets(jacobian_of(world), pose, pose, world.angles) - world.angles
    assert np.linalg.norm(moved) > 1e-3
    assert np.abs(jacobian_of(world) @ moved).max() < 1e-9
    towards = home_angles(panda) - world.angles
    assert moved @ towards > 0


def test_circle_at_20_hz(full_arm: ArmRobot, simulate: Callable[..., Any], circle: Callable[..., Any]) -> None:
    """With the twist each period ends at its target, but for the arc's height over one, r (1 - cos(w T / 2)) = 0.04 mm,
    and the drives' first tenth: under 1 mm. Without it the hand trails by more than two periods' way, 8 mm, less what
    the error itself asks for each period, 1 - exp(-T kp / kd): 39 % (Panda), 22 % (UR5e).
    """
    way = 0.05 * 2 * np.pi / 4 / RATE_HZ
    lag_s = full_arm.joints[0].kd / full_arm.joints[0].kp
    share = 1 - np.exp(-1 / RATE_HZ / lag_s)
    for lead, low, high in ((True, 0.0, 1.0e-3), (False, 0.8 * way * (1 / share - 1), 1.2 * way * (1 / share - 1))):
        world = simulate(full_arm)
        control = HandToJoints(full_arm, RATE_HZ)
        start, turn = world.pose()
        errors = []
        for step in range(8 * RATE_HZ):
            position, twist = circle((step + 1) / RATE_HZ, start)
            hand = world.pose()
            world.data.ctrl[world.at.actuator] = control.targets(
                jacobian_of(world), (position, turn), hand, world.angles, twist if lead else None
            )
            world.run(1 / RATE_HZ)
            errors.append(pose_difference((position, turn), world.pose()))
        settled = np.array(errors)[2 * RATE_HZ :]
        worst = np.linalg.norm(settled[:, :3], axis=1).max()
        assert low <= worst <= high
        assert np.linalg.norm(settled[:, 3:], axis=1).max() < 0.01


def test_a_policys_full_actions_move_the_hand_by_what_they_say(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    """Ten actions of 2 cm to the left: 20 cm within 1 cm, after the arm has come to rest."""
    world = simulate(panda)
    control, action = HandToJoints(panda, RATE_HZ), HandDelta()
    start = target = world.pose()
    for step in range(30):
        push = np.array([0, 0.5 * (step < 10), 0, 0, 0, 0, 0])
        hand = world.pose()
        target = action.moved(target, hand, push)
        world.data.ctrl[world.at.actuator] = control.targets(
            jacobian_of(world), target, hand, world.angles, action.twist(push)
        )
        world.run(1 / RATE_HZ)
    moved = world.pose()[0] - start[0]
    np.testing.assert_allclose(moved, (0, 0.2, 0), atol=0.01)


def test_no_action_means_no_drift(arm: ArmRobot, simulate: Callable[..., Any]) -> None:
    """The target stays while actions are 0, so gravity, sag and the null space cannot carry the hand away."""
    world = simulate(arm)
    control, action = HandToJoints(arm, RATE_HZ), HandDelta()
    target = start = world.pose()
    places = []
    for _ in range(20 * RATE_HZ):
        hand = world.pose()
        target = action.moved(target, hand, np.zeros(7))
        world.data.ctrl[world.at.actuator] = control.targets(
            jacobian_of(world), target, hand, world.angles, None, world.weight
        )
        world.run(1 / RATE_HZ)
        places.append(world.pose()[0])
    assert np.linalg.norm(places[-1] - start[0]) < (1e-6 if arm.compensates_gravity else 0.005)
    assert np.linalg.norm(places[-1] - places[-10 * RATE_HZ]) < 1e-3


def test_targets_out_of_reach(arm: ArmRobot, far: Array, simulate: Callable[..., Any]) -> None:
    world = simulate(arm)
    control, action = HandToJoints(arm, RATE_HZ), HandDelta()
    low, high = joint_limits(arm)
    speed, beyond = np.zeros(len(low)), np.zeros(len(low))
    _, turn = world.pose()

    def watch() -> None:
        nonlocal speed, beyond
        speed = np.maximum(speed, np.abs(world.velocities))
        beyond = np.maximum(beyond, np.maximum(low - world.angles, world.angles - high))

    for _ in range(10 * RATE_HZ):
        hand = world.pose()
        mujoco.mj_comPos(world.model, world.data)
        goal = action.moved((far * arm.reach_m, turn), hand, np.zeros(7))
        targets = control.targets(
            tcp_jacobian(world.model, world.data, world.at), goal, hand, world.angles, None, world.weight
        )
        assert ((low <= targets) & (targets <= high)).all()
        world.data.ctrl[world.at.actuator] = targets
        world.run(1 / RATE_HZ, watch)
    # Asked for is 0.7 of the limit; a stiff drive with clipped torque overshoots within steps of 4 ms.
    assert (speed <= 1.05 * velocity_limits(arm)).all()
    assert beyond.max() < 0.02
    assert np.abs(world.velocities).max() < 0.1


def test_a_step_keeps_its_direction_when_it_is_too_fast(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(panda)
    control = HandToJoints(panda, RATE_HZ, posture_gain=0.0)
    position, turn = world.pose()
    steps = [
        control.targets(
            jacobian_of(world), (position + np.array((0.0, way, 0.0)), turn), (position, turn), world.angles
        )
        - world.angles
        for way in (0.6, 0.7)
    ]
    reach = 0.7 * velocity_limits(panda) * 0.1
    for step in steps:
        assert np.max(np.abs(step) / reach) == pytest.approx(1.0)


def test_an_arm_of_five_joints_gives_way_in_rotation(so101: ArmRobot, panda: ArmRobot) -> None:
    np.testing.assert_array_equal(task_weights(so101), (1, 1, 1, 0.05, 0.05, 0.05))
    np.testing.assert_array_equal(task_weights(panda), np.ones(6))


def test_apply_multiplies_row_by_row() -> None:
    matrices, vectors = np.random.default_rng(3).normal(size=(5, 3, 4)), np.random.default_rng(4).normal(size=(5, 4))
    np.testing.assert_allclose(apply(matrices, vectors), [m @ v for m, v in zip(matrices, vectors, strict=True)])


def test_bad_input_is_refused(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(panda)
    pose, control = world.pose(), HandToJoints(panda, RATE_HZ)
    jacobian, angles = jacobian_of(world), world.angles
    with pytest.raises(ValueError, match=r"A Jacobian has shape \(\.\.\., 6, n\), not \(5, 7\)"):
        damped_inverse(np.zeros((5, 7)), 0.1)
    with pytest.raises(ValueError, match="threshold must be positive"):
        damped_inverse(jacobian, 0.0)
    with pytest.raises(ValueError, match="Jacobian holds a number that is not finite"):
        damped_inverse(jacobian * np.nan, 0.1)
    with pytest.raises(ValueError, match=r"the Jacobian has shape \(6, 6\)"):
        control.targets(jacobian[:, :6], pose, pose, angles)
    with pytest.raises(ValueError, match=r"angles has shape \(6,\)"):
        control.targets(jacobian, pose, pose, angles[:6])
    with pytest.raises(ValueError, match="the target position holds a number that is not finite"):
        control.targets(jacobian, (pose[0] * np.nan, pose[1]), pose, angles)
    with pytest.raises(ValueError, match="the target quaternion is not a unit quaternion"):
        control.targets(jacobian, (pose[0], np.zeros(4)), pose, angles)
    with pytest.raises(ValueError, match="posture_gain"):
        HandToJoints(panda, RATE_HZ, posture_gain=2.0)

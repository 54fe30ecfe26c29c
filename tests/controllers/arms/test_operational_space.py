"""Operational-space control against a mass on a spring and damper, at singularities and at the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.controllers.operational_space import OperationalSpace, OperationalSpaceConfig, damped_inertia
from cadenza.controllers.poses import pose_difference, rotated
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import home_angles, joint_limits, tcp_pose, torque_limits, velocity_limits

Array = NDArray[np.float64]
Target = Callable[[float], tuple[Array, Array, Array | None]]


def drive(world: Any, control: OperationalSpace, target: Target, seconds: float) -> tuple[Array, dict[str, Array]]:
    """Pose errors, (steps, 6), and per joint the largest speed and torque, and how far it went beyond its limits."""
    model, data, at = world.model, world.data, world.at
    low, high = joint_limits(world.arm)
    worst = {name: np.zeros(len(at.dof)) for name in ("speed", "torque", "beyond")}
    errors = []
    for step in range(round(seconds / model.opt.timestep)):
        position, quaternion, twist = target(step * model.opt.timestep)
        mujoco.mj_step1(model, data)
        errors.append(pose_difference((position, quaternion), tcp_pose(data, at)))
        data.ctrl[at.actuator] = control.torques(data, position, quaternion, twist)
        mujoco.mj_step2(model, data)
        angles = data.qpos[at.qpos]
        worst["speed"] = np.maximum(worst["speed"], np.abs(data.qvel[at.dof]))
        worst["torque"] = np.maximum(worst["torque"], np.abs(data.qfrc_actuator[at.dof]))
        worst["beyond"] = np.maximum(worst["beyond"], np.maximum(low - angles, angles - high))
    return np.array(errors), worst


def test_circle_error_is_that_of_a_spring(
    full_arm: ArmRobot, simulate: Callable[..., Any], circle: Callable[..., Any]
) -> None:
    """e'' + kd e' + kp e = the target's acceleration. On 5 cm in 4 s that is 0.1234 m/s^2, so with w = 1.571 rad/s,
    |e| = 0.1234 / |150 - w^2 + i 24.5 w| = 0.81 mm; without the target's velocity, 12.65 mm.
    """
    world = simulate(full_arm, actuation="torque")
    control = OperationalSpace(full_arm, world.model)
    start, turn = world.pose()
    errors, worst = drive(world, control, lambda t: (circle(t, start)[0], turn, circle(t, start)[1]), 6)
    settled = np.linalg.norm(errors[500:, :3], axis=1)
    assert settled.max() < 0.9e-3
    assert settled.mean() == pytest.approx(0.81e-3, rel=0.1)
    assert np.linalg.norm(errors[500:, 3:], axis=1).max() < 1e-3
    assert (worst["torque"] <= torque_limits(full_arm) + 1e-9).all()

    world = simulate(full_arm, actuation="torque")
    errors, _ = drive(
        world,
        control=OperationalSpace(full_arm, world.model),
        target=lambda t: (circle(t, start)[0], turn, None),
        seconds=6,
    )
    assert np.linalg.norm(errors[500:, :3], axis=1).mean() == pytest.approx(12.65e-3, rel=0.05)


def test_step_response_is_critically_damped(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    """x(t) = 1 - (1 + w t) exp(-w t) with w = sqrt(150): 70.2 % after 0.2 s, 95.6 % after 0.4 s, no overshoot."""
    world = simulate(panda, actuation="torque")
    control = OperationalSpace(panda, world.model)
    start, turn = world.pose()
    goal = start + np.array([0.0, 0.05, 0.0])
    errors, _ = drive(world, control, lambda t: (goal, turn, None), 2)
    share = 1 - errors[:, 1] / 0.05
    assert share[50] == pytest.approx(0.702, abs=0.02)
    assert share[100] == pytest.approx(0.956, abs=0.015)
    assert share.max() < 1.01
    assert np.abs(errors[:, [0, 2]]).max() < 1e-3, "other directions stay"
    assert np.abs(errors[-1]).max() < 1e-4


def test_rotation_step(full_arm: ArmRobot, simulate: Callable[..., Any]) -> None:
    """0.3 rad about the world's z: the same curve, and the hand stays in place."""
    world = simulate(full_arm, actuation="torque")
    control = OperationalSpace(full_arm, world.model)
    start, turn = world.pose()
    goal = rotated(turn, np.array([0.0, 0.0, 0.3]))
    errors, _ = drive(world, control, lambda t: (start, goal, None), 2)
    assert 1 - errors[50, 5] / 0.3 == pytest.approx(0.702, abs=0.03)
    assert np.linalg.norm(errors[:, :3], axis=1).max() < 3e-3
    assert np.abs(errors[-1]).max() < 1e-3


def test_it_holds_the_arm_without_drift(arm: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(arm, actuation="torque")
    control = OperationalSpace(arm, world.model)
    start, turn = world.pose()
    drive(world, control, lambda t: (start, turn, None), 10)
    after, turned = world.pose()
    assert np.linalg.norm(after - start) < 1e-5
    assert np.abs(pose_difference((start, turn), (after, turned))).max() < 1e-4


def test_both_signs_of_a_quaternion_give_the_same_torque(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(panda, actuation="torque")
    control = OperationalSpace(panda, world.model)
    start, turn = world.pose()
    goal = rotated(turn, np.array([0.2, -0.1, 0.3]))
    np.testing.assert_allclose(
        control.torques(world.data, start, goal), control.torques(world.data, start, -goal), atol=1e-9
    )


def test_the_null_space_turns_the_elbow_home_and_leaves_the_hand(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    """Started with the elbow swung out at one pose of the hand, the arm comes nearer to home."""
    world = simulate(panda, actuation="torque")
    control = OperationalSpace(panda, world.model, OperationalSpaceConfig(null_kp=40.0))
    world.data.qpos[world.at.qpos] = home_angles(panda) + np.array((0.6, 0.0, -0.6, 0.0, 0.3, 0.0, 0.0))
    start, turn = world.pose()
    before = np.linalg.norm(world.angles - home_angles(panda))
    errors, _ = drive(world, control, lambda t: (start, turn, None), 4)
    assert np.linalg.norm(world.angles - home_angles(panda)) < 0.8 * before
    assert np.linalg.norm(errors[:, :3], axis=1).max() < 3e-3


def test_targets_out_of_reach(arm: ArmRobot, far: Array, simulate: Callable[..., Any]) -> None:
    """Stretched out, folded or over its own base: bounded speed and torque, inside the joint limits, and at rest."""
    world = simulate(arm, actuation="torque")
    control = OperationalSpace(arm, world.model)
    _, turn = world.pose()
    _, worst = drive(world, control, lambda t: (far * arm.reach_m, turn, None), 8)
    assert (worst["speed"] <= velocity_limits(arm)).all()
    assert (worst["torque"] <= torque_limits(arm) + 1e-9).all()
    assert worst["beyond"].max() < 0.02
    assert np.abs(world.velocities).max() < 0.1


@pytest.mark.parametrize("start", ["lower", "upper", 1, 2, 3])
def test_no_joint_is_too_fast_from_its_limits(start: str | int, arm: ArmRobot, simulate: Callable[..., Any]) -> None:
    """From all joints at a limit or anywhere, to a point above the base: what the hand wants must not win."""
    world = simulate(arm, actuation="torque")
    world.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    low, high = joint_limits(arm)
    share = {"lower": 0.0, "upper": 1.0}.get(str(start))
    drawn = np.random.default_rng(start if isinstance(start, int) else 0).uniform(size=len(low))
    world.data.qpos[world.at.qpos] = low + (drawn if share is None else share) * (high - low)
    mujoco.mj_forward(world.model, world.data)
    _, turn = world.pose()
    _, worst = drive(world, OperationalSpace(arm, world.model), lambda t: (np.array([0, 0, 0.3]), turn, None), 2)
    assert (worst["speed"] <= 0.9 * velocity_limits(arm)).all(), worst["speed"] / velocity_limits(arm)


@pytest.mark.parametrize(
    ("start", "target"),
    [
        # Joint 3 came to three times its limit here, when torques were cut one by one.
        ((-0.05, 0.35, 2.5, -2.71, -2.22, 0.31, 0.91), (-1.71, 0.1, 0.2)),
        # Joint 4 to twice its limit.
        ((2.23, 0.74, -1.89, -2.8, -1.83, 3.68, -0.24), (2.565, 0.0, 0.2565)),
        # One joint runs into its margin, which takes more torque than four motors have.
        ((-1.51, 1.23, -2.57, -0.67, 2.48, 2.89, 1.15), (0.0, 0.0, 0.05)),
    ],
)
def test_saturated_motors_let_no_joint_run_away(
    start: tuple[float, ...], target: tuple[float, ...], panda: ArmRobot, simulate: Callable[..., Any]
) -> None:
    """Towards a point that cannot be reached, the hand downwards, until more is asked of the motors than they have."""
    world = simulate(panda, actuation="torque")
    world.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    world.data.qpos[world.at.qpos] = start
    mujoco.mj_forward(world.model, world.data)
    control, down = OperationalSpace(panda, world.model), np.array([0.0, 1.0, 0.0, 0.0])
    _, worst = drive(world, control, lambda t: (np.array(target), down, None), 5)
    assert (worst["speed"] <= 0.9 * velocity_limits(panda)).all(), worst["speed"] / velocity_limits(panda)
    assert (worst["torque"] >= 0.999 * torque_limits(panda)).any()  # or nothing was tried
    assert (worst["torque"] <= torque_limits(panda) + 1e-9).all()


def test_a_stretched_arm_comes_back(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    """Out of the singularity and to the pose asked for."""
    world = simulate(panda, actuation="torque")
    control = OperationalSpace(panda, world.model)
    start, turn = world.pose()
    drive(world, control, lambda t: (np.array([1.5, 0.0, 0.4]), turn, None), 4)
    errors, worst = drive(world, control, lambda t: (start, turn, None), 6)
    assert np.abs(errors[-1]).max() < 2e-3
    assert (worst["speed"] <= velocity_limits(panda)).all()


def test_inertia_is_exact_away_from_singularities_and_finite_at_them(
    panda: ArmRobot, simulate: Callable[..., Any]
) -> None:
    """With inertia 1 joint acceleration for a hand's of 1 is at most 1 / threshold, and 0 along a lost direction."""
    generator = np.random.default_rng(0)
    left, _ = np.linalg.qr(generator.normal(size=(6, 6)))
    right, _ = np.linalg.qr(generator.normal(size=(7, 7)))
    for smallest, wanted in ((0.5, 2.0), (0.1, 10.0), (0.05, 5.0), (0.01, 1.0), (0.0, 0.0)):
        jacobian = (left * (2.0, 1.5, 1.0, 0.9, 0.8, smallest)) @ right[:6]
        gain = jacobian.T @ damped_inertia(jacobian, np.eye(7), 0.1)
        # s / max(s^2, 0.1^2) along the weakest direction, 1 / s along the others.
        assert np.linalg.norm(gain @ left[:, 5]) == pytest.approx(wanted, abs=1e-9)
        assert np.linalg.norm(gain @ left[:, 0]) == pytest.approx(0.5, abs=1e-9)


def test_bad_input_is_refused(panda: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(panda, actuation="torque")
    control = OperationalSpace(panda, world.model)
    turn = np.array([0.0, 1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"the position has shape \(2,\)"):
        control.torques(world.data, [0.0, 1.0], turn)
    with pytest.raises(ValueError, match="the position holds a number that is not finite"):
        control.torques(world.data, [0.0, np.nan, 1.0], turn)
    with pytest.raises(ValueError, match="not a unit quaternion"):
        control.torques(world.data, np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"the twist has shape \(3,\)"):
        control.torques(world.data, np.zeros(3), turn, np.zeros(3))
    with pytest.raises(ValueError, match=r'takes positions; build it with actuation="torque"'):
        OperationalSpace(panda, simulate(panda).model)
    with pytest.raises(ValueError, match="kp must be a positive number, got -1"):
        OperationalSpaceConfig(kp=-1)
    with pytest.raises(ValueError, match="speed_share must be below 1"):
        replace(OperationalSpaceConfig(), speed_share=1.2)

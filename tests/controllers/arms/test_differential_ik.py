"""Differential inverse kinematics: tracking, limits that hold exactly, singularities, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.controllers.differential_ik import DifferentialIK, DifferentialIKConfig
from cadenza.controllers.joint_pd import JointPD
from cadenza.controllers.poses import pose_difference, rotated
from cadenza.robots.arm_description import ArmRobot, Mount
from cadenza.robots.arm_pose import home_angles, joint_limits, velocity_limits

Array = NDArray[np.float64]


@pytest.mark.parametrize("rate_hz", [20, 50, 125])  # whole numbers of physics steps of 4 ms
def test_circle(full_arm: ArmRobot, simulate: Callable[..., Any], circle: Callable[..., Any], rate_hz: int) -> None:
    """A hand at 8 cm/s goes 4 mm in a period of 20 Hz; the reference leads the drives: under 1 mm remains."""
    world = simulate(full_arm)
    control, drives = DifferentialIK(full_arm, rate_hz), JointPD(full_arm, rate_hz)
    control.reset(world.angles)
    start, turn = world.pose()
    errors = []
    for step in range(6 * rate_hz):
        position = circle((step + 1) / rate_hz, start)[0]
        reference, velocity = control.advance(position, turn, world.angles)
        world.data.ctrl[world.at.actuator] = drives.targets(reference, velocity, 0.0, world.angles)
        world.run(1 / rate_hz)
        errors.append(pose_difference((position, turn), world.pose()))
    settled = np.array(errors)[2 * rate_hz :]
    assert np.linalg.norm(settled[:, :3], axis=1).max() < 1e-3
    assert np.linalg.norm(settled[:, 3:], axis=1).max() < 0.01


def test_a_step_is_reached_at_the_speed_of_the_hand(panda: ArmRobot) -> None:
    """30 cm to the side at 0.8 m/s, braking at 4 m/s^2: 0.3 / 0.8 + 0.8 / (2 * 4) = 0.475 s, and a start of 0.1 s."""
    control = DifferentialIK(panda, 50)
    control.reset(home_angles(panda))
    start, turn = control.pose()
    goal = start + np.array([0.0, 0.3, 0.1])
    places = [start]
    for _ in range(100):
        control.advance(goal, turn)
        places.append(control.pose()[0])
    distance = np.linalg.norm(np.array(places) - goal, axis=1)
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1) * 50
    assert speed.max() < 0.82
    assert distance[-1] < 1e-3
    assert 0.4 < np.argmax(distance < 0.01) / 50 < 0.9
    assert (np.diff(distance) < 1e-4).all(), "no overshoot"


def test_both_signs_of_a_quaternion_lead_to_the_same_place(panda: ArmRobot) -> None:
    found = []
    for sign in (1.0, -1.0):
        control = DifferentialIK(panda, 50)
        control.reset(home_angles(panda))
        start, turn = control.pose()
        goal = rotated(turn, np.array([0.3, -0.2, 0.5]))
        for _ in range(60):
            control.advance(start, sign * goal)
        assert np.abs(pose_difference((start, goal), control.pose())).max() < 2e-3
        found.append(control.reference)
    np.testing.assert_allclose(found[0], found[1], atol=1e-9)


def test_references_keep_every_limit(arm: ArmRobot, far: Array) -> None:
    """Whatever is asked, references stay 0.02 rad inside the angles and within 0.7 of the speeds, and come to rest."""
    control = DifferentialIK(arm, 20)
    control.reset(home_angles(arm))
    _, turn = control.pose()
    low, high = joint_limits(arm)
    velocity = np.zeros(len(low))
    for _ in range(300):
        reference, velocity = control.advance(far * arm.reach_m, turn)
        assert (np.abs(velocity) <= 0.7 * velocity_limits(arm) + 1e-6).all()
        assert ((low + 0.02 - 1e-9 <= reference) & (reference <= high - 0.02 + 1e-9)).all()
    assert np.abs(velocity).max() < 0.05


def test_targets_out_of_reach_in_simulation(arm: ArmRobot, far: Array, simulate: Callable[..., Any]) -> None:
    world = simulate(arm)
    control, drives = DifferentialIK(arm, 20), JointPD(arm, 20)
    control.reset(world.angles)
    low, high = joint_limits(arm)
    speed, beyond = np.zeros(len(low)), np.zeros(len(low))
    _, turn = world.pose()

    def watch() -> None:
        nonlocal speed, beyond
        speed = np.maximum(speed, np.abs(world.velocities))
        beyond = np.maximum(beyond, np.maximum(low - world.angles, world.angles - high))

    for _ in range(200):
        reference, velocity = control.advance(far * arm.reach_m, turn, world.angles)
        world.data.ctrl[world.at.actuator] = drives.targets(reference, velocity, world.weight, world.angles)
        world.run(0.05, watch)
    # References keep 0.7 of the speed limits; a stiff drive with clipped torque overshoots within steps of 4 ms.
    assert (speed <= 1.15 * velocity_limits(arm)).all()
    assert beyond.max() < 0.02
    assert np.abs(world.velocities).max() < 0.05


def test_the_reference_does_not_run_away_from_an_arm_that_is_held(panda: ArmRobot) -> None:
    control = DifferentialIK(panda, 20)
    control.reset(home_angles(panda))
    start, turn = control.pose()
    for _ in range(60):
        reference, _ = control.advance(start + np.array((0.0, 0.4, 0.2)), turn, home_angles(panda))
        assert np.abs(reference - home_angles(panda)).max() <= 0.3 + 0.7 * 2.61 / 20 + 1e-9


def test_it_stands_where_the_arm_stands(panda: ArmRobot) -> None:
    there = DifferentialIK(panda, 20, mount=Mount((1.0, 2.0, 0.5)))
    here = DifferentialIK(panda, 20)
    there.reset(home_angles(panda))
    here.reset(home_angles(panda))
    np.testing.assert_allclose(there.pose()[0] - here.pose()[0], (1.0, 2.0, 0.5), atol=1e-12)


def test_a_start_outside_of_the_limits_is_taken_back_inside(panda: ArmRobot) -> None:
    control = DifferentialIK(panda, 20)
    control.reset(home_angles(panda) + 10.0)
    low, high = joint_limits(panda)
    assert ((low <= control.reference) & (control.reference <= high)).all()
    position, turn = control.pose()
    control.advance(position, turn)


def test_bad_input_is_refused(panda: ArmRobot) -> None:
    control = DifferentialIK(panda, 20)
    turn = np.array([0.0, 1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="reset"):
        control.advance(np.zeros(3), turn)
    control.reset(home_angles(panda))
    with pytest.raises(ValueError, match=r"the position has shape \(4,\)"):
        control.advance(np.zeros(4), turn)
    with pytest.raises(ValueError, match="the position holds a number that is not finite"):
        control.advance(np.full(3, np.inf), turn)
    with pytest.raises(ValueError, match="not a unit quaternion"):
        control.advance(np.zeros(3), np.full(4, 3.0))
    with pytest.raises(ValueError, match=r"angles has shape \(8,\)"):
        control.advance(np.zeros(3), turn, np.zeros(8))
    with pytest.raises(ValueError, match="rate_hz must be positive"):
        DifferentialIK(panda, 0)
    with pytest.raises(ValueError, match="posture_cost must be a positive number"):
        DifferentialIKConfig(posture_cost=0)
    with pytest.raises(ValueError, match="speed_share must be at most 1"):
        DifferentialIKConfig(speed_share=2.0)

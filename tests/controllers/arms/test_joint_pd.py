"""Joint control against the physics of its drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest

from cadenza.controllers.joint_pd import JointPD, lead_time
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import home_angles, joint_limits, torque_limits, velocity_limits


def test_torques_by_hand(panda: ArmRobot) -> None:
    """w = 20 rad/s, inertia 2 kg m^2. Joint 1: 2 (400 * 0.01 + 40 * 0.02) = 9.6 N m, and 3 of weight. Joint 7: 8."""
    control = JointPD(panda, 250)
    zero, inertia = np.zeros(7), 2 * np.eye(7)
    found = control.torques(np.full(7, 0.01), np.eye(7)[0] * 0.02, zero, zero, inertia, np.eye(7)[0] * 3)
    assert found[0] == pytest.approx(12.6)
    assert found[6] == pytest.approx(8)
    far = control.torques(-np.ones(7), zero, zero, zero, inertia)
    np.testing.assert_array_equal(far, [-87] * 4 + [-12] * 3)


def test_the_lead_of_a_held_target(panda: ArmRobot) -> None:
    """kd / kp = 0.1 s. 20 Hz: 0.05 / (exp(0.5) - 1) = 77.07 ms; very fast control: 100 ms."""
    np.testing.assert_allclose(lead_time(panda, 20), 0.0770747, rtol=1e-5)
    np.testing.assert_allclose(lead_time(panda, 1e5), 0.1, rtol=1e-3)


def follow_ramp(world: Any, rate_hz: int, lead: bool) -> float:
    """Largest error, rad, of joint 1 at the ends of periods, of a ramp of 0.5 rad/s, in its second second."""
    control = JointPD(world.arm, rate_hz)
    error = 0.0
    for step in range(2 * rate_hz):
        goal = home_angles(world.arm)
        goal[0] += 0.5 * (step + 1) / rate_hz
        velocity = np.eye(len(goal))[0] * 0.5
        world.data.ctrl[world.at.actuator] = control.targets(goal, velocity if lead else 0.0)
        world.run(1 / rate_hz)
        if step >= rate_hz:
            error = max(error, abs(goal[0] - world.angles[0]))
    return error


@pytest.mark.parametrize("rate_hz", [20, 50, 250])
def test_a_drive_with_lead_follows_a_ramp(panda: ArmRobot, simulate: Callable[..., Any], rate_hz: int) -> None:
    """A ramp of 0.5 rad/s is trailed by 0.5 * (kd / kp) = 50 mrad, less with long periods; with lead by under 2."""
    assert follow_ramp(simulate(panda), rate_hz, lead=True) < 0.002
    lag = follow_ramp(simulate(panda), rate_hz, lead=False)
    assert lag == pytest.approx(0.5 * 0.05 * np.exp(-0.5) / (1 - np.exp(-0.5)) if rate_hz == 20 else 0.05, rel=0.25)


def test_the_reference_is_as_fast_as_asked_and_no_faster(arm: ArmRobot) -> None:
    """A goal 1 rad away at v = 0.7 of the speed limit and a = 8 rad/s^2 takes 1 / v + v / a, or 2 sqrt(1 / a)."""
    control = JointPD(arm, 100)
    start = home_angles(arm)
    control.reset(start)
    low, high = joint_limits(arm)
    goal = start + np.where(start > (low + high) / 2, -1.0, 1.0)
    steps = 0
    reference = start
    while np.abs(reference - goal).max() > 1e-9:
        reference, velocity = control.advance(goal)
        assert steps < 500
        assert (np.abs(velocity) <= 0.7 * velocity_limits(arm) + 1e-9).all()
        steps += 1
    speed = 0.7 * velocity_limits(arm).min()
    assert steps / 100 == pytest.approx(1 / speed + speed / 8 if speed**2 < 8 else 2 / np.sqrt(8), rel=0.08)


def test_references_and_targets_stay_within_the_limits(arm: ArmRobot) -> None:
    control = JointPD(arm, 20)
    control.reset(home_angles(arm))
    low, high = joint_limits(arm)
    for _ in range(300):
        reference, velocity = control.advance(high + 5)
    np.testing.assert_array_equal(reference, high)
    assert (control.targets(reference, velocity + 1.0) <= high).all()
    assert (control.targets(low, -1.0, weight=-50.0) >= low).all()


def test_a_joint_that_lags_is_not_told_to_jump(panda: ArmRobot) -> None:
    """u - q <= 0.7 v kd / kp: 0.7 * 2.175 * 0.1 = 0.152 rad for joint 1."""
    angles = home_angles(panda)
    found = JointPD(panda, 20).targets(angles + 0.5, 0.0, 0.0, angles)
    assert found[0] - angles[0] == pytest.approx(0.7 * 2.175 * 0.1)


def test_step_in_simulation_keeps_speed_and_torque_limits(full_arm: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(full_arm)
    control = JointPD(full_arm, 50)
    control.reset(world.angles)
    goal = home_angles(full_arm) + np.where(home_angles(full_arm) > 0, -1.0, 1.0)
    goal = np.clip(goal, *joint_limits(full_arm))
    speed = torque = np.zeros(len(goal))

    def watch() -> None:
        nonlocal speed, torque
        speed = np.maximum(speed, np.abs(world.velocities))
        torque = np.maximum(torque, np.abs(world.data.qfrc_actuator[world.at.dof]))

    for _ in range(150):
        reference, velocity = control.advance(goal)
        world.data.ctrl[world.at.actuator] = control.targets(reference, velocity, 0.0, world.angles)
        world.run(0.02, watch)
    np.testing.assert_allclose(world.angles, goal, atol=1e-3)
    assert (speed <= velocity_limits(full_arm)).all()
    assert (torque <= torque_limits(full_arm) + 1e-6).all()


def test_the_weight_lifts_a_servo_that_would_sag(so101: ArmRobot, simulate: Callable[..., Any]) -> None:
    """Alone the arm hangs by weight / kp (0.5 N m on 10 N m/rad: 50 mrad); what remains is friction, 0.052 / 10."""
    world = simulate(so101)
    control = JointPD(so101, 50)
    weight = world.weight
    assert np.abs(weight).max() > 0.4
    world.run(3)
    sag = np.abs(world.angles - home_angles(so101)).max()
    assert sag == pytest.approx(np.abs(weight).max() / control.kp[0], abs=0.012)
    for _ in range(200):
        world.data.ctrl[world.at.actuator] = control.targets(home_angles(so101), 0.0, world.weight)
        world.run(0.02)
    assert np.abs(world.angles - home_angles(so101)).max() < 0.006


def test_torque_mode_holds_without_drift(arm: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(arm, actuation="torque")
    control = JointPD(arm, 250)
    home = home_angles(arm)
    inertia, block = np.empty((world.model.nv,) * 2), np.ix_(world.at.dof, world.at.dof)
    for _ in range(1250):
        mujoco.mj_step1(world.model, world.data)
        weight = world.data.qfrc_bias[world.at.dof]
        mujoco.mj_fullM(world.model, world.data, inertia)
        world.data.ctrl[world.at.actuator] = control.torques(
            home, np.zeros(len(home)), world.angles, world.velocities, inertia[block], weight
        )
        mujoco.mj_step2(world.model, world.data)
    assert np.abs(world.angles - home).max() < 1e-6


def test_bad_input_is_refused(panda: ArmRobot) -> None:
    control = JointPD(panda, 20)
    with pytest.raises(ValueError, match="reset"):
        control.advance(np.zeros(7))
    control.reset(np.zeros(7))
    with pytest.raises(ValueError, match=r"the goal has shape \(6,\)"):
        control.advance(np.zeros(6))
    with pytest.raises(ValueError, match="the goal holds a number that is not finite"):
        control.advance(np.full(7, np.nan))
    with pytest.raises(ValueError, match="must be positive and speed_share"):
        JointPD(panda, 0)
    with pytest.raises(ValueError, match="speed_share"):
        JointPD(panda, 20, speed_share=1.5)


def test_weights_velocities_and_rates_that_are_not_finite_are_refused(panda: ArmRobot) -> None:
    control, home = JointPD(panda, 250), home_angles(panda)
    bad, still = np.full(control.size, np.nan), np.zeros(control.size)
    for arguments in ({"velocity": bad}, {"weight": bad}, {"weight": np.inf}):
        with pytest.raises(ValueError, match="not finite"):
            control.targets(home, **arguments)
    with pytest.raises(ValueError, match="the weight holds a number"):
        control.torques(home, still, home, still, np.eye(control.size), weight=np.inf)
    with pytest.raises(ValueError, match="must be positive"):
        JointPD(panda, 250, frequency_rad_s=np.nan)

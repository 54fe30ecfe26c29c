"""Motors against numbers worked out by hand, as formulas and in MuJoCo."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from cadenza.robots import load_humanoid
from cadenza.robots.actuators import actuation, add_actuator, at_voltage, torque
from cadenza.robots.building import build_spec
from cadenza.robots.checking import rest, standing
from cadenza.robots.description import Joint, LeggedRobot
from cadenza.robots.encoders import angle_steps, quantise, velocity_steps
from cadenza.robots.motors import (
    MOTORS,
    add_motors,
    dynamixel_duty_per_rad,
    gains_from_bandwidth,
    joint,
    planetary_inertia,
    servo_gains,
)
from cadenza.robots.names import UnknownNameError
from cadenza.robots.pose import JointIndex, home_angles, joint_addresses

RPM = 2 * math.pi / 60
WIDE = (-100.0, 100.0)


def servo(**changes: float) -> Joint:
    """An XM430-W350 with the OP3's kp on a joint without stops or friction."""
    return joint("hinge", "XM430-W350", 1, WIDE, **{"kp": 21.1, "friction_nm": 0.0, **changes})


def hinge(row: Joint, inertia: float = 0.0) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """One body on one hinge in weightlessness, driven by the row's motor."""
    spec = mujoco.MjSpec()
    spec.option.gravity = [0, 0, 0]
    spec.option.timestep = 0.004
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    body = spec.worldbody.add_body(name="arm", mass=1e-3, inertia=[inertia + 1e-6] * 3, explicitinertial=True)
    at = body.add_joint(name=row.name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1])
    at.armature = row.armature
    at.damping = actuation(row).damping if np.isscalar(at.damping) else [actuation(row).damping, 0, 0]
    add_actuator(spec, row)
    model = spec.compile()
    return model, mujoco.MjData(model)


# Position error, speed in rpm, torque. 4.1 N m at standstill, none at 46 rpm; kd = 4.1 / (46 rpm) = 0.0891 N m per rpm.
CURVE = [
    (1.0, 0.0, 4.1),
    (1.0, 23.0, 2.05),
    (1.0, 46.0, 0.0),
    (1.0, 69.0, -2.05),
    (1.0, -23.0, 6.15),
    (-1.0, 0.0, -4.1),
    (0.05, 0.0, 1.055),
    (0.05, 46.0, -3.045),
    (0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("error", "rpm", "wanted"), CURVE)
def test_torque_falls_with_speed(error: float, rpm: float, wanted: float) -> None:
    row = servo()
    assert torque(row, error, rpm * RPM) == pytest.approx(wanted, abs=1e-9)
    model, data = hinge(row)
    data.ctrl[0], data.qvel[0] = error, rpm * RPM
    mujoco.mj_forward(model, data)
    assert data.qfrc_actuator[0] + data.qfrc_passive[0] == pytest.approx(wanted, abs=1e-9)


def test_a_servo_runs_up_to_its_no_load_speed_as_a_motor_does() -> None:
    """dq = n (1 - exp(-t / tau)) with tau = armature / kd = 0.045 / 0.851 = 53 ms."""
    row = servo()
    model, data = hinge(row)
    data.ctrl[0] = 50.0
    speeds = []
    for _ in range(500):
        mujoco.mj_step(model, data)
        speeds.append(data.qvel[0])
    assert speeds[-1] == pytest.approx(46 * RPM, rel=1e-4)
    times = 0.004 * np.arange(1, 501)
    expected = 46 * RPM * (1 - np.exp(-times / (0.045 / row.kd)))
    assert np.abs(np.array(speeds) - expected).max() < 0.04 * 46 * RPM


def test_a_drive_clips_all_of_its_torque() -> None:
    row = joint("hinge", "Unitree 5020", 1, WIDE, kp=100.0, kd=2.0, friction_nm=0.0)
    for error, speed, wanted in (
        (0.1, 0.0, 10.0),
        (0.1, 3.0, 4.0),
        (1.0, 0.0, 25.0),
        (1.0, 30.0, 25.0),
        (0, 20, -25.0),
    ):
        assert torque(row, error, speed) == pytest.approx(wanted)
        model, data = hinge(row)
        data.ctrl[0], data.qvel[0] = error, speed
        mujoco.mj_forward(model, data)
        assert data.qfrc_actuator[0] + data.qfrc_passive[0] == pytest.approx(wanted)


def test_the_kind_can_be_chosen(op3: LeggedRobot) -> None:
    model = build_spec(op3, visuals=False, actuator="pd").compile()
    kd = op3.joints[0].kd
    assert model.dof_damping[6:].max() == 0
    np.testing.assert_allclose(model.actuator_biasprm[:, 2], -kd)
    assert torque(servo(), 1.0, 23 * RPM, "pd") == 4.1


def test_voltage_scales_stall_torque_and_stiffness_but_not_the_back_emf() -> None:
    robot = load_humanoid("op3")
    full = at_voltage(robot, 14.8)
    for before, after in zip(robot.joints, full.joints, strict=True):
        assert after.torque_nm == pytest.approx(4.1 * 14.8 / 12)
        assert after.kp == pytest.approx(21.1 * 14.8 / 12)
        assert after.kd == before.kd
        assert after.velocity_rad_s == pytest.approx(46 * 14.8 / 12 * RPM)
        # Still a motor: no torque at its own no-load speed.
        assert torque(after, 10.0, after.velocity_rad_s) == pytest.approx(0, abs=1e-9)
    assert at_voltage(robot, 12.0) == robot


@pytest.mark.parametrize("supply_v", [9.9, 14.9])
def test_a_voltage_outside_the_makers_range_is_refused(supply_v: float) -> None:
    with pytest.raises(ValueError, match=r"XM430-W350 runs on 10 to 14\.8 V, not on"):
        at_voltage(load_humanoid("op3"), supply_v)


def test_a_current_controlled_drive_does_not_feel_the_supply() -> None:
    robot = load_humanoid("unitree_g1")
    assert at_voltage(robot, 40.0) == robot


VARIANTS: dict[str, Callable[[LeggedRobot], tuple[LeggedRobot, dict[str, object]]]] = {
    "10 V": lambda r: (at_voltage(r, 10.0), {}),
    "14.8 V": lambda r: (at_voltage(r, 14.8), {}),
    "pd": lambda r: (r, {"actuator": "pd"}),
    "backlash": lambda r: (r, {"backlash": True}),
    "2 ms": lambda r: (replace(r, physics_dt_s=0.002), {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_op3_stands_and_rests_with_every_actuator(op3: LeggedRobot, variant: str) -> None:
    robot, options = VARIANTS[variant](op3)
    assert standing(robot, **options) == []
    assert rest(robot, **options) == []


def test_backlash_is_a_deadband_of_its_width(op3: LeggedRobot) -> None:
    """Pushed by the limb with 1 N m either way, an OP3's knee gives by 0.125 deg; the encoder shows gear plus play."""
    spec = build_spec(op3, visuals=False, backlash=True)
    spec.option.gravity = [0, 0, 0]
    model = spec.compile()
    index = joint_addresses(model, op3)
    assert len(index.backlash_row) == 20
    row = op3.joint_names.index("l_knee")
    play = int(index.backlash_qpos[row])
    given = []
    for push in (1.0, -1.0):
        data = mujoco.MjData(model)
        data.qpos[index.qpos] = data.ctrl[:] = home_angles(op3)
        for _ in range(500):
            data.qfrc_applied[index.dof[row]] = data.qfrc_applied[index.backlash_dof[row]] = push
            data.qvel[:6] = 0
            mujoco.mj_step(model, data)
        given.append(data.qpos[play])
        gear = data.qpos[index.qpos[row]] - home_angles(op3)[row]
        assert gear * push > 0
        assert index.angles(data.qpos)[row] == data.qpos[index.qpos[row]] + data.qpos[play]
        assert index.velocities(data.qvel)[row] == data.qvel[index.dof[row]] + data.qvel[index.backlash_dof[row]]
    assert np.degrees(given) == pytest.approx([0.125, -0.125], rel=0.08)


def test_free_play_needs_no_force(op3: LeggedRobot) -> None:
    """Inside the play the limb moves without the gear."""
    spec = build_spec(op3, visuals=False, backlash=True)
    spec.option.gravity = [0, 0, 0]
    model = spec.compile()
    index: JointIndex = joint_addresses(model, op3)
    data = mujoco.MjData(model)
    data.qpos[index.qpos] = data.ctrl[:] = home_angles(op3)
    data.qpos[index.backlash_qpos] = 0.001
    mujoco.mj_forward(model, data)
    assert np.abs(data.qfrc_constraint[index.backlash_dof]).max() == 0
    np.testing.assert_allclose(index.angles(data.qpos), home_angles(op3) + 0.001)


def test_drives_without_known_play_get_none() -> None:
    robot = load_humanoid("unitree_h1")
    assert {MOTORS[row.motor].backlash_rad for row in robot.joints} == {0.0}


def test_gains_follow_from_the_rotor() -> None:
    """10 Hz: w = 62.83 rad/s; a = 0.01: kp = 0.01 * 3948 = 39.48, kd = 2 * 2 * 0.01 * 62.83 = 2.513."""
    assert gains_from_bandwidth(0.01) == pytest.approx((39.478, 2.5133), rel=1e-4)
    assert gains_from_bandwidth(0.01, 20.0, 1.0) == pytest.approx((157.91, 2.5133), rel=1e-4)


def test_a_rotor_on_derived_gains_swings_at_the_frequency_asked_for() -> None:
    """With a damping ratio of 0.1 a step overshoots by exp(-pi z / sqrt(1 - z^2)) = 72.9 %, half a period after it."""
    kp, kd = gains_from_bandwidth(0.01, 5.0, 0.1)
    row = joint("hinge", "Unitree 7520-22", 1, WIDE, armature=0.01, kp=kp, kd=kd, friction_nm=0.0)
    model, data = hinge(row)
    model.opt.timestep = 1e-4
    data.ctrl[0] = 0.1
    angles = []
    for _ in range(1500):
        mujoco.mj_step(model, data)
        angles.append(data.qpos[0])
    assert max(angles) == pytest.approx(0.1729, rel=0.01)
    assert 1e-4 * int(np.argmax(angles)) == pytest.approx(0.5 / (5 * math.sqrt(1 - 0.01)), rel=0.02)


def test_inertia_through_two_planetary_stages() -> None:
    """5020: 0.139e-4 * 16^2 + 0.017e-4 * 4.5^2 + 0.169e-4 = 0.0036097 kg m^2, the value mjlab states."""
    assert planetary_inertia((0.139e-4, 0.017e-4, 0.169e-4), (1 + 46 / 18, 4.5)) == pytest.approx(0.003609725)
    stated = {"5020": 0.003609725, "7520-14": 0.010177520, "7520-22": 0.025101925, "4010": 0.00425}
    for name, armature in stated.items():
        assert MOTORS[f"Unitree {name}"].armature_kg_m2 == pytest.approx(armature, rel=1e-6)


def test_dynamixel_gain_in_newton_metres() -> None:
    """800 / 128 = 6.25 PWM per count; 651.9 counts per rad; 885 is full: 4.604 of full per rad, 18.87 N m/rad."""
    assert dynamixel_duty_per_rad() == pytest.approx(4.6038, rel=1e-4)
    kp, kd = servo_gains(MOTORS["XM430-W350"])
    assert kp == pytest.approx(18.876, rel=1e-3)
    assert kd == pytest.approx(0.8511, rel=1e-3)
    assert kp * 894 / 800 == pytest.approx(21.1, rel=1e-3)


def test_feetech_servos_are_there() -> None:
    for name, stall, rpm in (("STS3215-7.4V", 1.91, 52), ("STS3215-12V", 2.94, 45)):
        row = joint("hinge", name, 1, WIDE)
        assert row.kp == pytest.approx(5.312 * stall)
        assert torque(row, 10.0, 0.0) == stall
        assert torque(row, 10.0, rpm * RPM) == pytest.approx(0, abs=1e-9)


def test_an_unknown_motor_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no motor named 'XM430W350'") as caught:
        joint("hinge", "XM430W350", 1, WIDE)
    assert "XM430-W350" in caught.value.advice


def test_a_motors_name_is_taken_once() -> None:
    known = MOTORS["XM430-W350"]
    add_motors(known)
    with pytest.raises(ValueError, match="another motor named 'XM430-W350'"):
        add_motors(replace(known, peak_torque_nm=5.0))
    assert MOTORS["XM430-W350"] is known


def test_encoders_see_steps() -> None:
    robot = load_humanoid("op3")
    steps = angle_steps(robot)
    assert steps == pytest.approx(np.full(20, 2 * math.pi / 4096))
    angles = np.full((3, 20), 0.1)
    seen = quantise(angles, steps)
    # 0.1 rad is 65.19 counts.
    assert seen == pytest.approx(np.full((3, 20), 65 * 2 * math.pi / 4096))
    assert velocity_steps(robot)[0] == pytest.approx(0.02398, rel=1e-3)
    values = np.array([0.1234])
    np.testing.assert_array_equal(quantise(values, np.zeros(1)), values)
    assert not angle_steps(load_humanoid("unitree_g1")).any()

"""One conformance suite for every humanoid in robots/humanoids/, and proof that it notices what is wrong."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from cadenza.robots import humanoid_names, load_humanoid
from cadenza.robots.building import build_spec
from cadenza.robots.checking import CHECKS, at_home, on_ground, standing
from cadenza.robots.description import Foot, Imu, Joint, LeggedRobot
from cadenza.robots.errors import CadenzaError
from cadenza.robots.menagerie import MissingModelError, menagerie_entry, menagerie_spec
from cadenza.robots.motors import MOTORS
from cadenza.robots.names import UnknownNameError
from cadenza.robots.pose import home_angles, home_qpos, joint_addresses

FIVE = {"op3": 20, "unitree_g1": 29, "unitree_h1": 19, "booster_t1": 23, "berkeley_humanoid": 12}


def with_joints(robot: LeggedRobot, names: str, **changes: object) -> LeggedRobot:
    """The robot with the rows changed whose name contains ``names``."""
    rows = [replace(j, **changes) if names in j.name else j for j in robot.joints]  # type: ignore[arg-type]
    return replace(robot, joints=tuple(rows))


def test_the_five_ship_with_their_joints() -> None:
    assert {name: len(load_humanoid(name).joints) for name in FIVE} == FIVE
    assert set(FIVE) <= set(humanoid_names())


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(robot: LeggedRobot, check: str) -> None:
    assert CHECKS[check](robot) == []


def test_it_stands_with_all_contacts_too(robot: LeggedRobot) -> None:
    assert standing(robot, contacts="all") == []
    model = on_ground(robot, contacts="all")
    data = at_home(robot, model)
    ground = model.geom("ground").id
    feet = {model.body(foot.body).id for foot in robot.feet}
    for contact in data.contact:
        assert ground in contact.geom, "parts of the robot touch each other at home"
        assert feet & set(model.geom_bodyid[list(contact.geom)])


def test_what_the_table_says_about_its_source(robot: LeggedRobot) -> None:
    entry = menagerie_entry(robot.menagerie)
    assert robot.licence == entry.license
    assert entry.category == "humanoid"
    for joint in robot.joints:
        motor = MOTORS[joint.motor]
        assert len(motor.source) > 40, motor.name
        assert motor.voltage_range_v[0] <= motor.nominal_voltage_v <= motor.voltage_range_v[1]


def test_left_and_right_are_mirror_images(robot: LeggedRobot) -> None:
    """Same size of limits, home and gains on both sides; the sign depends on the axis."""
    pairs = {"left": "right", "Left": "Right", "l_": "r_", "LL_": "LR_"}
    seen = 0
    for joint in robot.joints:
        for left, right in pairs.items():
            if joint.name.startswith(left):
                other = robot.joint(right + joint.name[len(left) :])
                assert sorted(map(abs, joint.limits_rad)) == pytest.approx(sorted(map(abs, other.limits_rad)))
                assert abs(joint.home_rad) == abs(other.home_rad)
                assert (joint.motor, joint.torque_nm, joint.kp, joint.kd) == (
                    *(other.motor, other.torque_nm, other.kp, other.kd),
                )
                seen += 1
    assert seen >= (len(robot.joints) - 3) // 2


def test_sensors_know_the_feet(robot: LeggedRobot) -> None:
    model = on_ground(robot)
    data = at_home(robot, model)
    for foot, side in zip(robot.feet, (1, -1), strict=True):
        position = data.sensor(f"{foot.name}_position").data
        np.testing.assert_allclose(position, data.site(f"{foot.name}_sole").xpos)
        assert position[1] * side > 0.02
        assert abs(position[2]) < 1e-9
        assert data.sensor(f"{foot.name}_contact").data.shape == (4,)
    index = joint_addresses(model, robot)
    data.qpos[index.base_qpos + 2] += 1
    data.qvel[index.base_dof : index.base_dof + 3] = (0.1, 0.2, 0.3)
    mujoco.mj_forward(model, data)
    for foot in robot.feet:
        np.testing.assert_allclose(data.sensor(f"{foot.name}_velocity").data, (0.1, 0.2, 0.3), atol=1e-9)
        np.testing.assert_array_equal(data.sensor(f"{foot.name}_contact").data, 0)
    imu = model.site("imu")
    assert model.body(imu.bodyid[0]).name == robot.imu.body


def test_only_feet_touch_and_not_each_other(robot: LeggedRobot) -> None:
    model = on_ground(robot)
    feet = {model.body(foot.body).id for foot in robot.feet}
    for geom in range(model.ngeom):
        if model.geom(geom).name != "ground":
            touches = bool(model.geom_contype[geom] or model.geom_conaffinity[geom])
            assert touches == (int(model.geom_bodyid[geom]) in feet)
            if touches:
                assert (model.geom_contype[geom], model.geom_conaffinity[geom]) == (0, 1)
                assert model.geom_friction[geom, 0] == robot.sole_friction


def test_visuals_weigh_nothing_and_move_nothing(op3: LeggedRobot) -> None:
    final = []
    for visuals in (True, False):
        spec = build_spec(op3, visuals=visuals)
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
        model = spec.compile()
        assert (model.nmesh > 0) == visuals
        data = at_home(op3, model)
        data.qvel[0] = 0.3
        for _ in range(100):
            mujoco.mj_step(model, data)
        final.append(data.qpos.copy())
    np.testing.assert_array_equal(*final)


def test_every_call_builds_a_new_spec(op3: LeggedRobot) -> None:
    op3.build_spec(visuals=False).worldbody.add_body(name="extra")
    assert op3.build_spec(visuals=False).body("extra") is None


def test_an_added_geom_does_not_inherit_the_models_defaults(robot: LeggedRobot) -> None:
    spec = build_spec(robot, visuals=False)
    spec.worldbody.add_geom(name="box", size=[0.1, 0.1, 0.1], type=mujoco.mjtGeom.mjGEOM_BOX)
    model = spec.compile()
    box = model.geom("box").id
    assert (model.geom_contype[box], model.geom_conaffinity[box], model.geom_group[box]) == (1, 1, 0)
    np.testing.assert_allclose(model.geom_solref[box], (0.02, 1))


# What each check is for, as a change that it must notice.
WRONG = {
    "bodies": lambda r: replace(r, mass_kg=r.mass_kg + 0.001),
    "limits": lambda r: with_joints(r, "knee", torque_nm=1000.0),
    "home": lambda r: with_joints(r, "ank_pitch", home_rad=0.0),
    "standing": lambda r: with_joints(r, "ank_pitch", kp=0.5),
    "rest": lambda r: with_joints(r, "", kd=0.0, friction_nm=0.0),
}


@pytest.mark.parametrize("check", WRONG)
def test_the_checks_notice(op3: LeggedRobot, check: str) -> None:
    assert CHECKS[check](WRONG[check](op3))


def test_a_sole_beside_its_place_is_noticed(op3: LeggedRobot) -> None:
    moved = replace(op3, feet=(Foot("left", "l_ank_roll_link", (0.05, 0.0125, -0.0305)), op3.feet[1]))
    assert any("beside the middle" in line for line in CHECKS["home"](moved))


def test_table_and_model_must_have_the_same_joints(op3: LeggedRobot) -> None:
    with pytest.raises(ValueError, match=r"Not in the model: none\. Not in the table: head_tilt"):
        build_spec(replace(op3, joints=op3.joints[:-1]))
    with pytest.raises(ValueError, match=r"Not in the model: tail"):
        build_spec(replace(op3, joints=(*op3.joints, replace(op3.joints[0], name="tail", bus_id=99))))


def test_a_body_that_is_not_there_is_answered_with_those_that_are(op3: LeggedRobot) -> None:
    with pytest.raises(ValueError, match=r"no body 'chest'; there are: .*body_link"):
        build_spec(replace(op3, imu=Imu("chest")))


def test_a_foot_without_geoms_is_refused(op3: LeggedRobot) -> None:
    foot = replace(op3.feet[0], geoms=("no such",))
    with pytest.raises(ValueError, match=r"l_ank_roll_link has nothing to touch the ground with"):
        build_spec(replace(op3, feet=(foot, op3.feet[1])))


def test_tables_refuse_what_cannot_be() -> None:
    robot = load_humanoid("op3")
    with pytest.raises(ValueError, match="bus id 1 stands twice"):
        replace(robot, joints=(robot.joints[0], replace(robot.joints[1], bus_id=1)))
    with pytest.raises(ValueError, match=r"home pose of l_knee .* lies outside"):
        with_joints(robot, "l_knee", home_rad=3.0)
    with pytest.raises(ValueError, match="no joint named 'tail'"):
        robot.joint("tail")


def test_op3_is_the_robot_on_the_bus() -> None:
    """ROBOTIS's bus ids, one motor, its published range where the model's sign is known."""
    robot = load_humanoid("op3")
    assert [joint.bus_id for joint in robot.joints] == list(range(1, 21))
    assert robot.joint_names[:4] == ("r_sho_pitch", "l_sho_pitch", "r_sho_roll", "l_sho_roll")
    assert robot.joint_names[10:16] == ("r_hip_pitch", "l_hip_pitch", "r_knee", "l_knee", "r_ank_pitch", "l_ank_pitch")
    assert robot.joint_names[18:] == ("head_pan", "head_tilt")
    assert {joint.motor for joint in robot.joints} == {"XM430-W350"}
    assert {(joint.kp, joint.torque_nm) for joint in robot.joints} == {(21.1, 4.1)}
    assert robot.joints[0].kd == pytest.approx(4.1 / (46 * 2 * math.pi / 60))
    assert len({joint.kd for joint in robot.joints}) == 1
    assert np.degrees(robot.joint("l_hip_pitch").limits_rad) == pytest.approx((-135, 28))
    assert np.degrees(robot.joint("r_hip_pitch").limits_rad) == pytest.approx((-28, 135))


@pytest.mark.parametrize(("name", "forward"), [("l_hip_pitch", -1), ("r_hip_pitch", 1)])
def test_op3_thighs_swing_farther_forward_than_back(op3: LeggedRobot, name: str, forward: int) -> None:
    model = on_ground(op3)
    data = mujoco.MjData(model)
    data.joint(name).qpos = 0.5 * forward
    mujoco.mj_kinematics(model, data)
    assert data.body(f"{name[0]}_knee_link").xpos[0] > 0.04
    low, high = op3.joint(name).limits_rad
    assert (high if forward > 0 else -low) > 2 * (-low if forward > 0 else high)


def test_home_qpos_leaves_other_bodies_alone(op3: LeggedRobot) -> None:
    spec = build_spec(op3, visuals=False)
    ball = spec.worldbody.add_body(name="ball", pos=[1, 2, 3])
    ball.add_freejoint()
    ball.add_geom(size=[0.1, 0, 0])
    model = spec.compile()
    qpos = home_qpos(op3, model)
    index = joint_addresses(model, op3)
    np.testing.assert_array_equal(qpos[index.qpos], home_angles(op3))
    at = int(model.jnt_qposadr[model.body("ball").jntadr[0]])
    np.testing.assert_array_equal(qpos[at : at + 3], (1, 2, 3))


def test_a_missing_model_names_the_command(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    with pytest.raises(MissingModelError, match="robotis_op3 is not on this computer") as caught:
        load_humanoid("op3").build_spec()
    assert "make robots" in caught.value.advice
    assert "cadenza robots fetch robotis_op3" in caught.value.advice


def test_unknown_names_are_answered_with_the_nearest(op3: LeggedRobot) -> None:
    with pytest.raises(UnknownNameError, match="no robot named 'unitree_g2'") as caught:
        load_humanoid("unitree_g2")
    assert "unitree_g1" in caught.value.advice
    with pytest.raises(CadenzaError, match="no model in the MuJoCo Menagerie named 'robotis_op4'") as caught:
        menagerie_spec("robotis_op4")
    assert "robotis_op3" in caught.value.advice
    with pytest.raises(CadenzaError, match="no entry point of robotis_op3 named 'op'"):
        menagerie_spec("robotis_op3", "op")


def test_robots_are_data_without_mujoco() -> None:
    code = (
        "import sys, cadenza.robots as r\n"
        "robots = [r.load_humanoid(name) for name in r.humanoid_names()]\n"
        "assert len(robots) >= 5 and 'mujoco' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_prefixes_and_bus_ids_are_their_own() -> None:
    robots = [load_humanoid(name) for name in humanoid_names()]
    assert len({robot.prefix for robot in robots}) == len(robots)
    joint: Joint
    for robot in robots:
        for joint in robot.joints:
            assert joint.sign in (1, -1)

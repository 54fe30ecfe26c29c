"""One conformance suite for every arm in robots/arms/, proof that it notices what is wrong, and hand-set numbers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from cadenza.robots import arm_names, load_arm, load_robot, robot_names
from cadenza.robots.actuators import at_voltage
from cadenza.robots.arm_building import build_spec
from cadenza.robots.arm_checking import CHECKS, compiled
from cadenza.robots.arm_description import ArmRobot, Finger, GripperDrive, Mount
from cadenza.robots.arm_pose import arm_index, hinge_jacobian, home_angles, put_at_home, tcp_jacobian, tcp_pose
from cadenza.robots.menagerie import OTHER_MODELS, is_fetched, licence_of, menagerie_entry, menagerie_spec
from cadenza.robots.motors import MOTORS
from cadenza.robots.names import UnknownNameError

PANDA_LIMITS = [
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
]


def fetched(name: str) -> ArmRobot:
    arm = load_arm(name)
    for model in arm.models:
        if not is_fetched(model):
            pytest.skip(f"{model} is not on this computer: make robots")
    return arm


@pytest.fixture(params=arm_names())
def arm(request: pytest.FixtureRequest) -> ArmRobot:
    return fetched(request.param)


@pytest.fixture
def panda() -> ArmRobot:
    return fetched("panda")


def test_the_three_ship_with_their_joints() -> None:
    assert {name: len(load_arm(name).joints) for name in arm_names()} == {"panda": 7, "so101": 6, "ur5e": 6}
    assert {name: len(load_arm(name).arm_joints) for name in arm_names()} == {"panda": 7, "so101": 5, "ur5e": 6}
    assert set(arm_names()) < set(robot_names())
    assert load_robot("panda") is load_arm("panda")


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(arm: ArmRobot, check: str) -> None:
    assert CHECKS[check](arm) == []


@pytest.mark.parametrize(
    ("name", "models", "hand"),
    [
        ("panda", {"franka_emika_panda": 17.451901}, 0.76),
        # The Menagerie's UR5e weighs 20.99 kg without a tool: the difference is the gripper.
        ("ur5e", {"universal_robots_ur5e": 20.9949, "robotiq_2f85": 1.0526}, 1.0526),
        ("so101", {"therobotstudio_so101": 0.632006}, 0.099),
    ],
)
def test_masses(name: str, models: dict[str, float], hand: float) -> None:
    arm = fetched(name)
    assert arm.models == tuple(models)
    for model, mass in models.items():
        assert menagerie_spec(model).compile().body_mass.sum() == pytest.approx(mass, abs=1e-4)
    assert arm.mass_kg == pytest.approx(sum(models.values()), abs=2e-4)
    assert arm.tool_mass_kg == pytest.approx(hand, abs=1e-4)


def test_panda_is_frankas(panda: ArmRobot) -> None:
    assert panda.joint_names == tuple(f"joint{number}" for number in range(1, 8))
    assert [joint.limits_rad for joint in panda.joints] == PANDA_LIMITS
    assert [joint.torque_nm for joint in panda.joints] == [87] * 4 + [12] * 3
    assert [joint.velocity_rad_s for joint in panda.joints] == [2.175] * 4 + [2.61] * 3
    # The home pose of the specification.
    assert home_angles(panda) == pytest.approx([0, 0.1963, 0, -2.6180, 0, 2.9416, 0.7854])


@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_gains_are_the_menageries(name: str) -> None:
    arm = fetched(name)
    theirs = menagerie_spec(arm.menagerie, arm.entry).compile()
    ours = build_spec(arm, visuals=False).compile()
    for row, joint in enumerate(arm.joints):
        at = theirs.joint(joint.name).id
        (drive,) = np.flatnonzero(theirs.actuator_trnid[:, 0] == at)[:1]
        np.testing.assert_allclose(ours.actuator_gainprm[row, 0], theirs.actuator_gainprm[drive, 0])
        np.testing.assert_allclose(ours.actuator_biasprm[row, :3], theirs.actuator_biasprm[drive, :3])
        np.testing.assert_allclose(ours.actuator_forcerange[row], theirs.actuator_forcerange[drive])
        assert ours.dof_armature[ours.joint(joint.name).dofadr[0]] == theirs.dof_armature[theirs.jnt_dofadr[at]]


def test_the_2f85_pulls_as_in_the_menagerie() -> None:
    """There ctrl runs from 0 to 255 and its gain is 0.3137: 100 N m/rad over the drivers' 0.8 rad."""
    theirs = menagerie_spec("robotiq_2f85").compile() if is_fetched("robotiq_2f85") else pytest.skip("make robots")
    drive = load_arm("ur5e").gripper.drive
    assert drive is not None
    assert theirs.actuator_gainprm[0, 0] * 255 == pytest.approx(drive.kp * 0.8, rel=1e-6)
    np.testing.assert_allclose(theirs.actuator_biasprm[0, :3], (0, -drive.kp, -drive.kd))
    assert theirs.actuator_forcerange[0, 1] == drive.force


def test_the_so101_is_six_sts3215_on_one_bus() -> None:
    arm = load_arm("so101")
    assert [(joint.name, joint.bus_id) for joint in arm.joints] == [
        ("shoulder_pan", 1), ("shoulder_lift", 2), ("elbow_flex", 3),
        ("wrist_flex", 4), ("wrist_roll", 5), ("gripper", 6),
    ]  # fmt: skip
    assert {joint.motor for joint in arm.joints} == {"STS3215-7.4V"}
    # 32 * 0.166 of full voltage per rad, at 1.91 N m.
    assert arm.joints[0].kp == pytest.approx(10.146, rel=1e-3)
    weak = at_voltage(arm, 6.0)
    assert weak.joints[0].torque_nm == pytest.approx(1.91 * 6.0 / 7.4)


def test_what_the_table_says_about_its_source(arm: ArmRobot) -> None:
    assert arm.licence == licence_of(arm.menagerie)
    if arm.menagerie not in OTHER_MODELS:
        assert menagerie_entry(arm.menagerie).category == "arm"
    if arm.tool is not None:
        assert arm.tool.licence == licence_of(arm.tool.menagerie)
    for joint in arm.joints:
        assert len(MOTORS[joint.motor].source) > 40


def test_the_tcp_lies_between_the_fingers_and_looks_out_of_the_hand(arm: ArmRobot) -> None:
    model, data = compiled(arm)
    index = arm_index(model, arm)
    left, right = data.site_xpos[index.fingers]
    position, quaternion = tcp_pose(data, index)
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    frame = data.site_xmat[index.tcp].reshape(3, 3)
    hand = data.xipos[model.body(arm.tool_body).id]
    assert (position - hand) @ frame[:, 2] > 0.05
    if len(arm.gripper.joints) > 1:
        closing = (right - left) / np.linalg.norm(right - left)
        assert abs(closing @ frame[:, 1]) > 0.999
        # The pads' middles are within 2 cm of the TCP along the hand.
        assert abs(((left + right) / 2 - position) @ frame[:, 2]) < 0.02


def test_jacobian_of_hinges_is_mujocos(arm: ArmRobot) -> None:
    model, data = compiled(arm)
    index = arm_index(model, arm)
    generator = np.random.default_rng(3)
    axes, anchors, points, wanted = [], [], [], []
    for _ in range(5):
        data.qpos[index.qpos] = generator.uniform(-1, 1, len(index.qpos))
        mujoco.mj_forward(model, data)
        axes.append(data.xaxis[index.joint].copy())
        anchors.append(data.xanchor[index.joint].copy())
        points.append(data.site_xpos[index.tcp].copy())
        wanted.append(tcp_jacobian(model, data, index))
    found = hinge_jacobian(np.array(axes), np.array(anchors), np.array(points))
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    np.testing.assert_array_equal(hinge_jacobian(axes[2], anchors[2], points[2]), found[2])


def test_torque_mode_falls_and_position_mode_does_not(panda: ArmRobot) -> None:
    """Without torque the shoulder's 42 N m of weight bring it down; with the position drive nothing moves."""
    heights = {}
    for actuation in ("position", "torque"):
        model, data = compiled(panda, actuation=actuation)
        index = arm_index(model, panda)
        if actuation == "torque":
            data.ctrl[index.actuator] = 0
        start = tcp_pose(data, index)[0][2]
        for _ in range(50):
            mujoco.mj_step(model, data)
        mujoco.mj_kinematics(model, data)
        heights[actuation] = tcp_pose(data, index)[0][2] - start
    assert abs(heights["position"]) < 1e-6
    assert heights["torque"] < -0.05


def test_gravity_compensation_counts_as_the_motors_torque(panda: ArmRobot) -> None:
    model, data = compiled(panda)
    index = arm_index(model, panda)
    np.testing.assert_allclose(data.qfrc_actuator[index.dof], data.qfrc_bias[index.dof], atol=1e-6)
    # Joint 2 carries its weight with a negative torque; a drive at -87 N m on top of that still gives -87.
    assert data.qfrc_bias[index.dof[1]] < -10
    data.ctrl[index.actuator[1]] = panda.joints[1].limits_rad[0]
    mujoco.mj_forward(model, data)
    assert data.qfrc_actuator[index.dof[1]] == pytest.approx(-87)


@pytest.mark.parametrize("step_s", [0.004, 0.005])
def test_stiff_drives_are_stable_at_4_and_5_ms(arm: ArmRobot, step_s: float) -> None:
    """A target that jumps by 0.3 rad in every joint is reached, and all is at rest, within three seconds."""
    spec = build_spec(arm, visuals=False)
    spec.option.timestep = step_s
    model = spec.compile()
    data = mujoco.MjData(model)
    put_at_home(model, data, arm)
    index = arm_index(model, arm)
    low, high = np.array([row.limits_rad for row in arm.arm_joints]).T
    away = np.where(home_angles(arm) > (low + high) / 2, -0.3, 0.3)
    data.ctrl[index.actuator] = goal = home_angles(arm) + away
    fastest = 0.0
    for _ in range(round(3 / step_s)):
        mujoco.mj_step(model, data)
        fastest = max(fastest, float(np.abs(data.qvel[index.dof]).max()))
    assert fastest < 8
    assert np.abs(data.qvel[index.dof]).max() < 0.01
    sag = 0.0 if arm.compensates_gravity else 0.1
    assert np.abs(data.qpos[index.qpos] - goal).max() < 0.001 + sag


@pytest.mark.parametrize("contacts", ["all", "hand", "none"])
def test_who_touches(arm: ArmRobot, contacts: str) -> None:
    model, _ = compiled(arm, contacts=contacts)
    hand = model.body(arm.tool_body).id
    touching = {int(model.geom_bodyid[g]) for g in range(model.ngeom) if model.geom_contype[g]}

    def of_hand(body: int) -> bool:
        while body:
            if body == hand:
                return True
            body = int(model.body_parentid[body])
        return False

    if contacts == "none":
        assert not touching
    else:
        assert all(of_hand(body) for body in touching) == (contacts == "hand")
        fingers = {int(model.body(finger.body).id) for finger in arm.gripper.fingers}
        assert fingers <= touching


def test_a_rigid_hand_leaves_the_arm_alone(arm: ArmRobot) -> None:
    whole, data = compiled(arm)
    rigid, other = compiled(arm, rigid_hand=True, contacts="none")
    n = len(arm.arm_joints)
    assert (rigid.nq, rigid.nu, rigid.neq, rigid.ngeom and 0) == (n, n, 0, 0)
    assert rigid.body_mass.sum() == pytest.approx(whole.body_mass.sum())
    np.testing.assert_allclose(
        tcp_pose(other, arm_index(rigid, arm))[0], tcp_pose(data, arm_index(whole, arm))[0], atol=1e-12
    )
    assert arm_index(rigid, arm).gripper_actuator == -1


def test_the_mount_moves_the_arm(arm: ArmRobot) -> None:
    model, data = compiled(arm)
    moved, other = compiled(arm, mount=Mount((1.0, 2.0, 0.5), (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))))
    before = tcp_pose(data, arm_index(model, arm))[0]
    after = tcp_pose(other, arm_index(moved, arm))[0]
    np.testing.assert_allclose(after, (1.0 - before[1], 2.0 + before[0], 0.5 + before[2]), atol=1e-9)


def test_an_added_geom_does_not_inherit_the_models_defaults(arm: ArmRobot) -> None:
    spec = build_spec(arm, visuals=False)
    spec.worldbody.add_geom(name="box", size=[0.1, 0.1, 0.1], type=mujoco.mjtGeom.mjGEOM_BOX)
    model = spec.compile()
    box = model.geom("box").id
    assert (model.geom_contype[box], model.geom_conaffinity[box], model.geom_group[box]) == (1, 1, 0)
    np.testing.assert_allclose(model.geom_solref[box], (0.02, 1))


def with_joint(arm: ArmRobot, number: int, **changes: object) -> ArmRobot:
    rows = list(arm.joints)
    rows[number] = replace(rows[number], **changes)  # type: ignore[arg-type]
    return replace(arm, joints=tuple(rows))


# What each check is for, as a change that it must notice.
WRONG = {
    "bodies": lambda a: replace(a, tool_mass_kg=a.tool_mass_kg + 0.001),
    "limits": lambda a: with_joint(a, 5, torque_nm=13.0),
    "home": lambda a: with_joint(a, 0, home_rad=1.0),
    "rest": lambda a: with_joint(a, 1, kd=-450.0),
    "holding": lambda a: replace(a, compensates_gravity=False),
    "gripper": lambda a: replace(a, gripper=replace(a.gripper, width_m=(0.0, 0.07))),
}


@pytest.mark.parametrize("check", WRONG)
def test_the_checks_notice(panda: ArmRobot, check: str) -> None:
    changed = WRONG[check](panda)
    if check == "holding":
        # 42 N m on 450 N m/rad: 0.09 rad. Gravity explains it, but the hand hangs centimetres below home.
        changed = replace(changed, joints=tuple(replace(row, kp=row.kp / 10) for row in changed.joints))
    assert CHECKS[check](changed)


def test_a_table_in_another_order_is_noticed(panda: ArmRobot) -> None:
    swapped = replace(panda, joints=(panda.joints[1], panda.joints[0], *panda.joints[2:]))
    assert any("order differs" in line for line in CHECKS["limits"](swapped))


def test_a_finger_beside_its_place_is_noticed(panda: ArmRobot) -> None:
    fingers = (Finger("left", "left_finger", (0.0, -0.005, 0.0445)), panda.gripper.fingers[1])
    assert CHECKS["gripper"](replace(panda, gripper=replace(panda.gripper, fingers=fingers)))


def test_tables_refuse_what_cannot_be(panda: ArmRobot) -> None:
    with pytest.raises(ValueError, match=r"Not in the table: joint7"):
        build_spec(replace(panda, joints=panda.joints[:-1]))
    with pytest.raises(ValueError, match="bus id 1 stands twice"):
        with_joint(panda, 1, bus_id=1)
    with pytest.raises(ValueError, match=r"finger_joint1 is neither"):
        replace(panda, gripper=replace(panda.gripper, drive=None))
    so101 = load_arm("so101")
    with pytest.raises(ValueError, match=r"gripper is both"):
        replace(so101, gripper=replace(so101.gripper, drive=GripperDrive(1.0, 0.1, 1.0, "")))
    with pytest.raises(ValueError, match=r"must be the table's last"):
        replace(so101, joints=(so101.joints[-1], *so101.joints[:-1]))
    with pytest.raises(ValueError, match=r"actuation is 'position' or 'torque', not 'velocity'"):
        build_spec(panda, actuation="velocity")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"contacts is 'all', 'hand' or 'none', not 'feet'"):
        build_spec(panda, contacts="feet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no body 'palm'; there are: .*hand"):
        build_spec(replace(panda, tool_body="palm"))
    model, _ = compiled(panda)
    with pytest.raises(ValueError, match=r"The model lacks shoulder_pan_joint"):
        arm_index(model, load_arm("ur5e"))


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no arm named 'pandas'") as caught:
        load_arm("pandas")
    assert "panda" in caught.value.advice
    with pytest.raises(UnknownNameError, match="no robot named 'ur5'") as caught:
        load_robot("ur5")
    assert "ur5e" in caught.value.advice


def test_arms_are_data_without_mujoco() -> None:
    code = (
        "import sys, cadenza.robots as r\n"
        "arms = [r.load_arm(name) for name in r.arm_names()]\n"
        "assert len(arms) >= 3 and 'mujoco' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_prefixes_are_their_own() -> None:
    robots = [load_robot(name) for name in robot_names()]
    assert len({robot.prefix for robot in robots}) == len(robots)

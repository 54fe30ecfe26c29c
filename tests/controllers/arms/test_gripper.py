"""The gripper opens, closes, holds a box with the force that its drive has, and says how wide it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest

from cadenza.controllers.gripper import GripperControl, finger_width
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import arm_index, put_at_home


def test_a_command_moves_the_target_at_the_fingers_speed(panda: ArmRobot) -> None:
    """40 mm at 50 mm/s: 0.8 s, 16 steps of 20 Hz."""
    control = GripperControl(panda, 20)
    control.reset(0.04)
    targets = [float(control.advance(0.3)) for _ in range(17)]
    np.testing.assert_allclose(targets[:2], (0.0375, 0.035))
    assert targets[14] > 0
    assert targets[15] == pytest.approx(0, abs=1e-12)
    assert float(control.advance(-0.3)) == pytest.approx(0.0025)


def test_within_the_threshold_the_last_command_stands(panda: ArmRobot) -> None:
    control = GripperControl(panda, 20, threshold=0.2)
    control.reset(0.04)
    assert float(control.advance(0.1)) == pytest.approx(0.04)
    control.advance(0.5)
    assert float(control.advance(-0.1)) == pytest.approx(0.035)
    assert float(control.advance(-0.5)) == pytest.approx(0.0375)


def test_many_grippers_at_once(panda: ArmRobot) -> None:
    control = GripperControl(panda, 20)
    control.reset(np.full(3, 0.04))
    np.testing.assert_allclose(control.advance([1.0, -1.0, 0.0]), (0.0375, 0.04, 0.04))


def test_it_opens_and_closes_and_reports_its_width(arm: ArmRobot, simulate: Callable[..., Any]) -> None:
    world = simulate(arm)
    control = GripperControl(arm, 20)
    control.reset(arm.gripper.open)
    for command, width in zip((1.0, -1.0), arm.gripper.width_m, strict=True):
        widths = []
        for _ in range(60):
            world.data.ctrl[world.at.gripper_actuator] = control.advance(command)
            world.run(0.05)
            widths.append(finger_width(world.data, world.at))
        # Nothing touches here: the pads of a closed 2F-85 stand 1.9 mm inside each other.
        assert widths[-1] == pytest.approx(width, abs=2.5e-3)
        assert (np.sign(np.diff(widths[2:10])) == -np.sign(command)).all()


@pytest.mark.parametrize(("name", "side_m"), [("panda", 0.05), ("ur5e", 0.05), ("so101", 0.03)])
def test_a_box_is_held_with_the_drives_force(
    name: str, side_m: float, request: pytest.FixtureRequest, panda: ArmRobot
) -> None:
    """Panda: 1000 N/m * 25 mm on the two fingers together, so 12.5 N each. All: it does not slip in two seconds."""
    from cadenza.robots import load_arm

    arm = load_arm(name)
    spec = arm.build_spec(visuals=False, contacts="hand")
    bare = spec.compile()
    data = mujoco.MjData(bare)
    put_at_home(bare, data, arm)
    index = arm_index(bare, arm)
    frame = data.site_xmat[index.tcp].reshape(3, 3)
    middle = data.site_xpos[index.tcp].copy()
    if name == "so101":  # against the fixed jaw, which does not move
        middle = data.site_xpos[index.fingers[0]] + frame[:, 1] * (side_m / 2 + 0.001)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, data.site_xmat[index.tcp])
    box = spec.worldbody.add_body(name="box", pos=middle, quat=quaternion)
    box.add_freejoint()
    box.add_geom(
        name="box",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.012, side_m / 2, 0.012],
        mass=0.05,
        friction=[1, 0.005, 1e-4],
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    index = arm_index(model, arm)
    put_at_home(model, data, arm, index)
    gravity = model.opt.gravity.copy()
    model.opt.gravity[:] = 0  # the box hangs in the air until it is held
    control = GripperControl(arm, 20)
    control.reset(arm.gripper.open)
    for step in range(100):
        if step == 60:
            model.opt.gravity[:] = gravity
            held = data.body("box").xpos - data.site_xpos[index.tcp]
        data.ctrl[index.gripper_actuator] = control.advance(1.0)
        for _ in range(round(0.05 / model.opt.timestep)):
            mujoco.mj_step(model, data)
    assert finger_width(data, index) == pytest.approx(side_m, abs=0.008)
    assert np.linalg.norm(data.body("box").xpos - data.site_xpos[index.tcp] - held) < 0.004
    if name == "panda":
        forces = {"left": 0.0, "right": 0.0}
        for number, contact in enumerate(data.contact):
            bodies = {model.body(model.geom_bodyid[geom]).name for geom in contact.geom}
            force = np.zeros(6)
            mujoco.mj_contactForce(model, data, number, force)
            for side in forces:
                forces[side] += force[0] * (f"{side}_finger" in bodies)
        assert forces == pytest.approx({"left": 12.5, "right": 12.5}, abs=0.4)


def test_bad_input_is_refused(panda: ArmRobot) -> None:
    control = GripperControl(panda, 20)
    with pytest.raises(ValueError, match="reset"):
        control.advance(1.0)
    with pytest.raises(ValueError, match="not finite"):
        control.reset(np.nan)
    control.reset(0.0)
    with pytest.raises(ValueError, match="not finite"):
        control.advance(np.nan)
    with pytest.raises(ValueError, match="threshold"):
        GripperControl(panda, 20, threshold=-1)

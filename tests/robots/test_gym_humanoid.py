from __future__ import annotations

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from cadenza.robots import ROBOTS, gym_humanoid, load
from cadenza.robots.gym_humanoid import ACTUATORS, CTRL_LIMIT, JOINTS, build_spec


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_spec().compile()


def test_joints_are_in_the_models_order(model: mujoco.MjModel) -> None:
    assert model.joint(0).name == "root"
    assert [model.joint(index).name for index in range(1, model.njnt)] == [joint.name for joint in JOINTS]
    # A free joint has 7 positions and 6 velocities, a hinge one of each.
    assert [int(model.joint(joint.name).qposadr[0]) for joint in JOINTS] == list(range(7, model.nq))
    assert [int(model.joint(joint.name).dofadr[0]) for joint in JOINTS] == list(range(6, model.nv))


@pytest.mark.parametrize("joint", JOINTS, ids=lambda joint: joint.name)
def test_the_table_is_the_model(model: mujoco.MjModel, joint: gym_humanoid.Joint) -> None:
    index, dof = model.joint(joint.name).id, int(model.joint(joint.name).dofadr[0])
    np.testing.assert_allclose(joint.limits_rad, model.jnt_range[index], rtol=1e-12)
    assert model.jnt_limited[index]
    assert joint.armature == model.dof_armature[dof]
    assert joint.damping == model.dof_damping[dof]
    assert joint.stiffness == model.jnt_stiffness[index]
    gear = model.actuator_gear[ACTUATORS.index(joint.name), 0]
    assert joint.torque_nm == pytest.approx(gear * CTRL_LIMIT)


def test_actuators_are_in_the_order_of_ctrl(model: mujoco.MjModel) -> None:
    assert [model.joint(model.actuator_trnid[index, 0]).name for index in range(model.nu)] == list(ACTUATORS)
    assert sorted(ACTUATORS) == sorted(joint.name for joint in JOINTS)
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-CTRL_LIMIT, CTRL_LIMIT]] * model.nu)


def test_the_spec_gives_the_model_that_gymnasium_simulates(model: mujoco.MjModel) -> None:
    from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv

    theirs = HumanoidEnv().model
    for name in ("body_mass", "body_inertia", "jnt_axis", "geom_size", "dof_damping", "actuator_gear"):
        np.testing.assert_array_equal(getattr(model, name), getattr(theirs, name), err_msg=name)
    assert model.opt.timestep == theirs.opt.timestep == 0.003


def test_every_call_builds_a_new_spec() -> None:
    build_spec().worldbody.add_body(name="extra")
    assert build_spec().compile().nbody == 14


def test_every_listed_robot_loads_and_compiles() -> None:
    for name in ROBOTS:
        robot = load(name)
        assert robot.build_spec().compile().nu == len(robot.ACTUATORS) == len(robot.JOINTS)


def test_an_unknown_robot_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"no robot named 'g1'.*gym_humanoid"):
        load("g1")


def test_listing_robots_does_not_load_mujoco() -> None:
    code = "import sys, cadenza.robots; assert cadenza.robots.ROBOTS and 'mujoco' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

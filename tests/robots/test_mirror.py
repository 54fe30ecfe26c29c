"""The mirror images of joints, against what a simulation of the mirrored robot does."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from cadenza.robots import humanoid_names, load_humanoid
from cadenza.robots.mirror import joint_mirror
from cadenza.robots.pose import home_angles, joint_addresses


@pytest.mark.parametrize("name", humanoid_names())
def test_the_home_pose_is_its_own_image_and_twice_is_once(name: str) -> None:
    robot = load_humanoid(name)
    mirror = joint_mirror(robot, robot.build_spec(visuals=False).compile())
    home = home_angles(robot)
    assert mirror(home) == pytest.approx(home, abs=1e-9)
    values = np.random.default_rng(0).uniform(-1, 1, (3, len(home)))
    assert np.array_equal(mirror(mirror(values)), values)


@pytest.mark.parametrize("name", humanoid_names())
def test_soles_and_hands_go_where_the_mirror_says(name: str) -> None:
    """Random poses: the left sole of the image is the right one, reflected."""
    robot = load_humanoid(name)
    model = robot.build_spec(visuals=False).compile()
    mirror, at = joint_mirror(robot, model), joint_addresses(model, robot)
    random = np.random.default_rng(1)
    limits = np.array([joint.limits_rad for joint in robot.joints])
    for _ in range(5):
        angles = random.uniform(0.3 * limits[:, 0], 0.3 * limits[:, 1])
        places = []
        for pose in (angles, mirror(angles)):
            data = mujoco.MjData(model)
            data.qpos[at.base_qpos + 3] = 1.0
            data.qpos[at.qpos] = pose
            mujoco.mj_kinematics(model, data)
            base = data.body(robot.base).xpos
            places.append({foot.name: data.site(f"{foot.name}_sole").xpos - base for foot in robot.feet})
        assert places[1]["left"] == pytest.approx(places[0]["right"] * (1, -1, 1), abs=6e-3)
        assert places[1]["right"] == pytest.approx(places[0]["left"] * (1, -1, 1), abs=6e-3)


def test_a_robot_with_one_leg_longer_has_no_image() -> None:
    robot = load_humanoid("op3")
    spec = robot.build_spec(visuals=False)
    knee = next(joint for joint in spec.joints if joint.name == "l_knee")
    knee.pos = (0.0, 0.0, 0.03)
    with pytest.raises(ValueError, match="not symmetric: nothing mirrors"):
        joint_mirror(robot, spec.compile())

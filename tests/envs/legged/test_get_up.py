"""GetUp begins on the ground."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cadenza.envs.get_up import GetUp
from cadenza.envs.legged.frames import rotate
from cadenza.envs.legged.task import LeggedTask

MakeTask = Callable[..., LeggedTask]


def test_fallen_robots_lie(make_task: MakeTask) -> None:
    task = make_task("get_up", poses=16)
    assert isinstance(task, GetUp)
    poses = task.fallen_poses
    up = rotate(poses[:, 3:7], np.array([0.0, 0.0, 1.0]))[:, 2]
    height = poses[:, 2] / task.home_height
    assert height.max() < 0.75, height
    assert up.max() < 0.75, up
    assert (up < 0.5).mean() > 0.9
    assert height.min() > 0.0
    joints = poses[:, task.addresses.qpos]
    assert (joints >= task.limits[:, 0] - 0.1).all()
    assert (joints <= task.limits[:, 1] + 0.1).all()
    # On both sides: face and back.
    forward = rotate(poses[:, 3:7], np.array([1.0, 0.0, 0.0]))[:, 2]
    assert forward.min() < -0.3
    assert forward.max() > 0.3


def test_they_are_the_same_every_time_and_differ_by_seed(make_task: MakeTask) -> None:
    one, two, three = (make_task("get_up", poses=3, pose_seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.fallen_poses, two.fallen_poses)  # type: ignore[attr-defined]
    assert not np.array_equal(one.fallen_poses, three.fallen_poses)  # type: ignore[attr-defined]


def test_nothing_terminates_and_standing_is_reported(make_task: MakeTask) -> None:
    task = make_task("get_up", n=4, poses=4)
    task.reset(np.arange(4))
    for _ in range(10):
        assert not task.step(np.zeros((4, 20)))[2].any()
    assert not task.measures()["standing"].any()
    # At home it stands.
    task.physics.qpos[:] = task.home_qpos
    task.physics.qvel[:] = 0.0
    task.step(np.zeros((4, 20)))
    assert task.measures()["standing"].all()


def test_the_motors_work_again_after_the_fall(make_task: MakeTask) -> None:
    task = make_task("get_up", poses=1)
    np.testing.assert_allclose(task.model.actuator_gainprm[:, 0], [joint.kp for joint in task.robot.joints])

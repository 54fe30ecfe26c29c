"""Observations in the mirror: a task that is begun mirrored goes on mirrored."""

from __future__ import annotations

import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.mirror import task_mirror
from cadenza.envs.legged.terms import ObservationLayout, ObservationTerm
from cadenza.envs.registration import make_env
from cadenza.robots.mirror import joint_mirror


@pytest.mark.parametrize("task", ["Walk", "Stand", "Run", "GetUp"])
def test_every_task_has_one_and_twice_is_once(task: str) -> None:
    env = make_env(f"cadenza/OP3{task}-v0", pictures=False, privileged=True, history=2).unwrapped
    mirror = env.mirror
    n = env.observation_space.shape[0]
    values = np.random.default_rng(0).normal(size=n)
    once = mirror.observation_sign * values[mirror.observation_index]
    assert sorted(mirror.observation_index) == list(range(n))
    assert np.array_equal(mirror.observation_sign * once[mirror.observation_index], values)
    env.close()


def test_the_mirrored_robot_does_the_mirrored_thing() -> None:
    """From mirrored states, with mirrored actions and commands, observations stay images of each other for a while.

    The model's inertias are not quite symmetric, and contacts are decided one by one, so not for ever.
    """
    ours, image = (make_env("cadenza/T1Walk-v0", pictures=False, privileged=True).unwrapped for _ in range(2))
    mirror = ours.mirror
    ours.reset(seed=0)
    image.reset(seed=0)
    joints = joint_mirror(ours.task.robot, ours.task.model)
    at = ours.task.addresses
    # Facing along x, so that the mirror plane of the world is that of the robot.
    for env in (ours, image):
        env.data.qpos[3:7] = (1, 0, 0, 0)
    image.data.qpos[at.qpos] = joints(ours.data.qpos[at.qpos])
    image.task.phase[:] = (ours.task.phase + 0.5) % 1.0
    for env, command in ((ours, (0.3, 0.1, 0.2)), (image, (0.3, -0.1, -0.2))):
        env.task.physics.forward(np.array([0]))
        env.task.hold_command(0, command)
    random = np.random.default_rng(2)
    for _ in range(5):
        action = random.uniform(-0.3, 0.3, env.action_space.shape)
        seen, _, _, _, _ = ours.step(action)
        mirrored, _, _, _, _ = image.step(mirror.action_sign * action[mirror.action_index])
        expected = mirror.observation_sign * seen[mirror.observation_index]
        assert mirrored == pytest.approx(expected, abs=0.05)
    assert np.abs(seen - mirrored).max() > 0.2  # they do differ, but for the mirror
    ours.close()
    image.close()


def test_a_term_without_a_rule_is_refused_by_name() -> None:
    env = make_env("cadenza/OP3Walk-v0", pictures=False).unwrapped
    joints = joint_mirror(env.task.robot, env.task.model)
    layout = ObservationLayout([ObservationTerm("smell", 1, "imu", lambda s: s.phase[:, None])])
    with pytest.raises(CadenzaError, match="smell"):
        task_mirror(layout, joints)
    env.close()

"""Gymnasium's humanoid in the mirror, against a simulation of the mirrored state."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

from cadenza.envs.humanoid_mirror import humanoid_mirror
from cadenza.envs.registration import make_env

IDS = ("cadenza/Humanoid-v0", "cadenza/HumanoidPaper-v0")


def state_mirror(env: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Index and sign of qpos and qvel: the observation's, with x and y put before."""
    mirror = env.mirror
    index, sign = mirror.observation_index, mirror.observation_sign
    qpos = np.concatenate([[0, 1], index[:22] + 2]), np.concatenate([[1, -1], sign[:22]])
    qvel = index[22:45] - 22, sign[22:45]
    return *qpos, *qvel


@pytest.mark.parametrize("env_id", IDS)
def test_twice_is_once(env_id: str) -> None:
    env = make_env(env_id).unwrapped
    mirror = env.mirror
    size = env.observation_space.shape[0]
    assert sorted(mirror.observation_index) == list(range(size))
    values = np.random.default_rng(0).normal(size=size)
    once = mirror.observation_sign * values[mirror.observation_index]
    assert np.array_equal(mirror.observation_sign * once[mirror.observation_index], values)
    action = np.arange(17.0)
    once = mirror.action_sign * action[mirror.action_index]
    assert np.array_equal(mirror.action_sign * once[mirror.action_index], action)


@pytest.mark.parametrize("env_id", IDS)
def test_the_mirrored_humanoid_falls_to_the_other_side(env_id: str) -> None:
    """A model made symmetric (its two odd numbers put right), pushed sideways, with random actions."""
    ours, image = (make_env(env_id).unwrapped for _ in range(2))
    mirror = ours.mirror
    for env in (ours, image):
        env.reset(seed=1)
        for left, right in (("left_hip_y", "right_hip_y"), ("left_knee", "right_knee")):
            left_joint, right_joint = env.model.joint(left), env.model.joint(right)
            left_joint.stiffness[:] = right_joint.stiffness
            left_joint.armature[:] = right_joint.armature
        mujoco.mj_setConst(env.model, mujoco.MjData(env.model))
    qpos_index, qpos_sign, qvel_index, qvel_sign = state_mirror(ours)
    random = np.random.default_rng(2)
    qpos, qvel = ours.data.qpos.copy(), ours.data.qvel + random.uniform(-0.5, 0.5, 23)
    ours.set_state(qpos, qvel)
    image.set_state(qpos_sign * qpos[qpos_index], qvel_sign * qvel[qvel_index])
    paid = []
    for _ in range(30):
        action = random.uniform(-1, 1, 17).astype(np.float32)
        seen, reward, *_ = ours.step(action)
        mirrored, image_reward, *_ = image.step((mirror.action_sign * action[mirror.action_index]).astype(np.float32))
        assert mirrored == pytest.approx(mirror.observation_sign * seen[mirror.observation_index], abs=1e-3, rel=0.02)
        assert image_reward == pytest.approx(reward, abs=1e-3)
        paid.append(abs(mirrored - seen).max())
    assert max(paid) > 0.1


def test_every_pair_of_joints_is_found() -> None:
    env = make_env("cadenza/Humanoid-v0").unwrapped
    names = [env.model.actuator(index).name for index in range(17)]
    mirror = humanoid_mirror(env.model, world=False)
    pairs = {names[row]: names[index] for row, index in enumerate(mirror.action_index)}
    assert pairs["right_knee"] == "left_knee"
    assert pairs["abdomen_z"] == "abdomen_z"
    assert mirror.action_sign[names.index("abdomen_z")] == -1
    assert mirror.action_sign[names.index("abdomen_y")] == 1
    assert mirror.action_sign[names.index("right_hip_x")] == 1
    assert mirror.action_sign[names.index("right_shoulder1")] == -1

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.envs.humanoid import Humanoid, HumanoidConfig, HumanoidPaper


def actions(count: int, limit: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-limit, limit, (count, 17)).astype(np.float32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_paper_variant_equals_humanoid_v4_step_for_step() -> None:
    ours, theirs = gym.make("cadenza/HumanoidPaper-v0"), gym.make("Humanoid-v4")
    assert ours.observation_space.shape == theirs.observation_space.shape == (376,)
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    episodes = 0
    for action in actions(200):
        mine, reference = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(mine[0], reference[0])
        assert mine[1:4] == reference[1:4]
        assert {key: mine[4][key] for key in reference[4]} == reference[4]
        if mine[2]:
            episodes += 1
            np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
    assert episodes >= 3


def test_humanoid_equals_humanoid_v5_with_scaled_actions() -> None:
    ours, theirs = gym.make("cadenza/Humanoid-v0"), gym.make("Humanoid-v5")
    assert ours.observation_space.shape == theirs.observation_space.shape == (348,)
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    limit = theirs.unwrapped.model.actuator_ctrlrange[:, 1]
    for action in actions(200):
        mine, reference = ours.step(action), theirs.step(limit * action)
        np.testing.assert_array_equal(mine[0], reference[0])
        assert mine[1:4] == reference[1:4]
        if mine[2]:
            np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])


def test_full_action_means_the_motors_limit() -> None:
    env = Humanoid()
    env.reset(seed=0)
    env.step(np.ones(17, np.float32))
    np.testing.assert_allclose(env.data.ctrl, 0.4)
    _, _, _, _, info = env.step(-np.ones(17, np.float32))
    assert info["reward_terms"]["control"] == pytest.approx(-0.1 * 17 * 0.4**2)


def test_paper_variant_clamps_the_force_but_charges_the_whole_action() -> None:
    env = HumanoidPaper()
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.full(17, 0.9, np.float32))
    assert info["reward_terms"]["control"] == pytest.approx(-0.1 * 17 * 0.9**2, rel=1e-6)
    np.testing.assert_allclose(env.data.actuator_force, 0.4)


def test_paper_variant_acts_the_same_beyond_the_limit() -> None:
    one, other = HumanoidPaper(), HumanoidPaper()
    one.reset(seed=0)
    other.reset(seed=0)
    a, b = one.step(np.full(17, 0.5, np.float32)), other.step(np.full(17, 1.0, np.float32))
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1] - b[1] == pytest.approx(0.1 * 17 * (1.0 - 0.25))


@pytest.mark.parametrize(("kind", "healthy"), [(Humanoid, 0.0), (HumanoidPaper, 5.0)])
def test_a_torso_below_one_metre_terminates(kind: type[Humanoid | HumanoidPaper], healthy: float) -> None:
    env = kind()
    env.reset(seed=0)
    qpos = env.data.qpos.copy()
    qpos[2] = 0.9
    env.set_state(qpos, env.data.qvel.copy())
    _, _, terminated, truncated, info = env.step(np.zeros(17, np.float32))
    assert (terminated, truncated) == (True, False)
    assert info["reward_terms"]["healthy"] == healthy


def test_forward_reward_is_the_weighted_speed_of_the_centre_of_mass() -> None:
    env = Humanoid(HumanoidConfig(forward_weight=2.0))
    env.reset(seed=0)
    qvel = env.data.qvel.copy()
    qvel[0] = 3.0
    env.set_state(env.data.qpos.copy(), qvel)
    _, _, _, _, info = env.step(np.zeros(17, np.float32))
    assert info["x_velocity"] == pytest.approx(3.0, rel=0.01)
    assert info["reward_terms"]["forward"] == pytest.approx(2.0 * info["x_velocity"])


def test_weights_of_the_config_are_used() -> None:
    env = Humanoid(HumanoidConfig(healthy_weight=1.5, control_weight=0.0, forward_weight=0.0, contact_weight=0.0))
    env.reset(seed=0)
    assert env.step(np.ones(17, np.float32))[1] == 1.5


@pytest.mark.parametrize("kind", [Humanoid, HumanoidPaper])
def test_copies_keep_the_config(kind: type[Humanoid | HumanoidPaper]) -> None:
    env = kind(HumanoidConfig(healthy_weight=2.0))
    assert copy.deepcopy(env).config == pickle.loads(pickle.dumps(env)).config == env.config

"""Declaring reward groups, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError
from cadenza.envs.reward_groups import (
    GroupedReward,
    ObjectEntries,
    check_weights,
    read_vectors,
    reward_groups,
    reward_weights,
    scalar_reward,
)

GROUPS = ("reach", "diversity", "safety")
Points = Callable[..., DummyVecEnv]


def test_groups_are_found_through_wrappers_and_vectorised_environments(points: Points) -> None:
    env = points(2)
    assert reward_groups(env) == reward_groups(VecMonitor(env)) == reward_groups(env.envs[0]) == ("home", "calm")
    assert isinstance(env.envs[0].unwrapped, GroupedReward)
    assert reward_groups(gym.make("Pendulum-v1")) is None
    assert reward_groups(DummyVecEnv([lambda: gym.make("Pendulum-v1")])) is None
    outer = VecMonitor(env)
    outer.reward_groups = ("other",)
    assert reward_groups(outer) == ("other",)


class _Two(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    reward_groups = ("a", "b")


@pytest.mark.slow
def test_groups_are_found_in_other_processes() -> None:
    env = SubprocVecEnv([_Two, _Two], start_method="fork")
    try:
        assert reward_groups(env) == ("a", "b")
    finally:
        env.close()


@pytest.mark.parametrize("groups", [(), "reach", ("a", "a"), ("a", 3), ("a", "")])
def test_groups_that_are_no_names_are_refused(groups: Any, points: Points) -> None:
    env = points(1)
    env.envs[0].unwrapped.reward_groups = groups
    with pytest.raises(CadenzaError, match="are not different names"):
        reward_groups(env)


def test_copies_of_one_environment_must_agree(points: Points) -> None:
    env = points(2)
    env.envs[1].unwrapped.reward_groups = ("calm", "home")
    with pytest.raises(CadenzaError, match="different reward_groups"):
        reward_groups(env)


def test_weights_come_from_the_environment_or_are_equal(points: Points) -> None:
    env = points(2)
    assert reward_weights(env, ("home", "calm")) == {"home": 0.5, "calm": 0.5}
    env.set_attr("reward_weights", {"home": 0.9, "calm": 0.1})
    assert reward_weights(env, ("home", "calm")) == {"home": 0.9, "calm": 0.1}


def test_an_unknown_group_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no reward group named 'safty'") as caught:
        check_weights(GROUPS, {"safty": 1.0})
    assert "safety" in caught.value.advice


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"reach": 0.5, "safety": 0.4}, "sum to 0.9, not to 1"),
        ({}, "sum to 0, not to 1"),
        ({"reach": 1.5, "safety": -0.5}, "not below 0"),
        ({"reach": float("nan")}, "must be finite"),
    ],
)
def test_weights_that_share_out_more_or_less_than_all_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(CadenzaError, match=message):
        check_weights(GROUPS, weights)


def test_groups_may_be_left_out_and_keep_their_order() -> None:
    assert check_weights(GROUPS, {"safety": 0.25, "reach": 0.75}) == ("reach", "safety")
    assert check_weights(GROUPS, dict.fromkeys(GROUPS, 1 / 3)) == GROUPS


def test_the_scalar_is_the_weighted_sum() -> None:
    assert scalar_reward([1.0, 10.0, 100.0], GROUPS, {"reach": 0.5, "safety": 0.25}) == 25.5


def test_the_scalar_of_an_environment_is_that_of_its_vector(points: Points) -> None:
    env = points(3)
    env.reset()
    _, rewards, _, infos = env.step(np.ones((3, 2)))
    vectors = read_vectors(infos, ("home", "calm"))
    assert vectors.shape == (3, 2)
    np.testing.assert_array_equal(vectors[:, 1], -2.0)
    np.testing.assert_allclose(rewards, vectors @ [0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({}, "its info has no 'reward_vector'"),
        ({"reward_vector": [1.0]}, r"has shape \(1,\).* ask for \(2,\)"),
        ({"reward_vector": 1.0}, r"has shape \(\)"),
        ({"reward_vector": [0.0, np.nan]}, "The reward 'calm' of environment 1 is nan"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(info: dict[str, Any], message: str) -> None:
    with pytest.raises(CadenzaError, match=message):
        read_vectors([{"reward_vector": [0.0, 0.0]}, info], ("home", "calm"))


def test_a_workspace_must_make_sense() -> None:
    with pytest.raises(CadenzaError, match="one half extent for each"):
        ObjectEntries((0, 1), (0.0,), (1.0, 1.0))
    with pytest.raises(CadenzaError, match="above 0 m"):
        ObjectEntries((0,), (0.0,), (0.0,))
    with pytest.raises(CadenzaError, match="four entries"):
        ObjectEntries((0,), (0.0,), (1.0,), quaternion=(1, 2, 3))

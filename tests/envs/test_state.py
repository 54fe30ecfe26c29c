from __future__ import annotations

import io
import json
import logging
import math
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor

from cadenza.envs.guard import FiniteGuard
from cadenza.envs.registration import CABLE_ROUTING, ENVIRONMENTS, make_env
from cadenza.envs.state import EnvStateError, flatten_state, get_env_state, set_env_state, unflatten_state

# Cable routing observes a dict and ends otherwise: tests/envs/cable.
IDS = [
    *(env_id for env_id in ENVIRONMENTS if env_id != CABLE_ROUTING),
    "Humanoid-v5",
    "Hopper-v5",
    "Ant-v5",
    "Walker2d-v5",
    "Pendulum-v1",
]


def through_files(state: dict[str, Any]) -> dict[str, Any]:
    """To strict JSON and npz, as bytes, and back."""
    tree, arrays = flatten_state(state)
    text = json.dumps(tree, allow_nan=False)
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return unflatten_state(json.loads(text), np.load(file, allow_pickle=False))


def make(env_id: str, **kwargs: Any) -> gym.Env:
    return FiniteGuard(Monitor(make_env(env_id, **kwargs)))


def _numbers(observation: Any) -> Any:
    """As lists; of a goal's task by part."""
    if isinstance(observation, dict):
        return {name: part.tolist() for name, part in observation.items()}
    return observation.tolist()


def play(env: gym.Env, actions: list[Any]) -> list[Any]:
    """Step, reset by hand where an episode ends, and keep everything that comes out."""
    out: list[Any] = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        episode = {key: value for key, value in info.get("episode", {}).items() if key != "t"}
        out.append((_numbers(observation), float(reward), terminated, truncated, episode, info.get("x_velocity")))
        if terminated or truncated:
            out.append(_numbers(env.reset()[0]))
    return out


@pytest.mark.parametrize("env_id", IDS)
def test_a_restored_environment_goes_on_bit_for_bit(env_id: str) -> None:
    # A short limit makes sure that the replay crosses the end of an episode.
    env = make(env_id, max_episode_steps=90)
    env.reset(seed=1)
    env.action_space.seed(1)
    actions = [env.action_space.sample() for _ in range(260)]
    play(env, actions[:100])
    state = through_files(get_env_state(env))
    expected = play(env, actions[100:])
    assert any(not isinstance(entry, tuple) for entry in expected)

    fresh = make(env_id, max_episode_steps=90)
    fresh.reset(seed=99)
    set_env_state(fresh, state)
    assert play(fresh, actions[100:]) == expected
    assert fresh.get_wrapper_attr("episode_returns") == env.get_wrapper_attr("episode_returns")

    # And into one that is itself somewhere else, twice from the same state: restoring must not share arrays with it.
    set_env_state(env, state)
    assert play(env, actions[100:]) == expected
    set_env_state(env, state)
    assert play(env, actions[100:]) == expected


def test_the_state_is_saved_twice_the_same() -> None:
    env = make("Hopper-v5")
    env.reset(seed=0)
    play(env, [env.action_space.sample() for _ in range(20)])
    state = get_env_state(env)
    other = make("Hopper-v5")
    set_env_state(other, state)
    (tree, arrays), (again, arrays_again) = flatten_state(state), flatten_state(get_env_state(other))
    assert tree == again
    assert arrays.keys() == arrays_again.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, arrays_again[name], err_msg=name)


class Odd(gym.Env):
    """An environment with one attribute of every kind."""

    def __init__(self) -> None:
        self.observation_space = self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.values: dict[str, Any] = {}
        self.live: Any = object()
        self.window: Any = None
        self.table = np.zeros(4)
        self.view = self.table[1:3]


@pytest.mark.parametrize(
    "value",
    [
        2**127 + 1,
        0.1 + 0.2,
        -0.0,
        (1, (2.0, "three"), None),
        [True, [False]],
        {1: "int", "1": "str", (2, 3): "tuple", "__array__": "a", "__type__": "b"},
        np.float32(0.1),
        np.int8(-3),
        np.bool_(True),
    ],
    ids=repr,
)
def test_values_keep_their_type(value: Any) -> None:
    env, other = Odd(), Odd()
    env.values = {"value": value}
    set_env_state(other, through_files(get_env_state(env)))
    back = other.values["value"]
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_arrays_and_deques_keep_dtype_shape_and_limit() -> None:
    env, other = Odd(), Odd()
    env.values = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "z": np.array(3.5), "d": deque([1, (2,)], maxlen=3)}
    set_env_state(other, through_files(get_env_state(env)))
    assert (other.values["a"].dtype, other.values["a"].shape, other.values["z"].shape) == (np.uint8, (2, 3), ())
    assert other.values["d"] == deque([1, (2,)])
    assert other.values["d"].maxlen == 3


def test_numbers_that_json_does_not_know_survive() -> None:
    env, other = Odd(), Odd()
    env.values = {"inf": (-math.inf, math.inf), "nan": math.nan}
    set_env_state(other, through_files(get_env_state(env)))
    assert other.values["inf"] == (-math.inf, math.inf)
    assert math.isnan(other.values["nan"])


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_random_generators_go_on_where_they_were(kind: str) -> None:
    env, other = Odd(), Odd()
    generator = np.random.Generator(getattr(np.random, kind)(5))
    generator.integers(10, size=3, dtype=np.uint32)  # leaves half a word in some generators
    env.values = {"generator": generator}
    set_env_state(other, through_files(get_env_state(env)))
    back = other.values["generator"]
    assert (
        back.integers(2**31, size=7, dtype=np.uint32).tolist()
        == generator.integers(2**31, size=7, dtype=np.uint32).tolist()
    )
    assert back.normal() == generator.normal()


def test_live_objects_and_views_stay_what_they_are() -> None:
    env, other = Odd(), Odd()
    env.table[:] = 7
    live, window = other.live, object()
    other.window = window
    set_env_state(other, get_env_state(env))
    assert other.live is live
    assert other.window is window
    assert other.table.tolist() == [7.0] * 4
    assert other.view.tolist() == [7.0] * 2


def test_attributes_made_after_saving_go_away() -> None:
    env = Odd()
    state = get_env_state(env)
    env.cache = 3  # type: ignore[attr-defined]
    set_env_state(env, state)
    assert not hasattr(env, "cache")


def test_how_an_environment_is_shown_is_not_state() -> None:
    env = make_env("Pendulum-v1")
    env.reset(seed=0)
    shown = make_env("Pendulum-v1", render_mode="rgb_array")
    shown.reset(seed=1)
    set_env_state(shown, get_env_state(env))
    assert shown.render_mode == "rgb_array"


def test_the_saved_state_names_no_path() -> None:
    env = make("cadenza/Humanoid-v0")
    env.reset(seed=0)
    assert "humanoid.xml" not in json.dumps(flatten_state(get_env_state(env))[0])


def test_other_wrappers_are_refused() -> None:
    state = get_env_state(make("Hopper-v5"))
    with pytest.raises(EnvStateError, match=r"FiniteGuard > Monitor > TimeLimit.*this environment is TimeLimit"):
        set_env_state(make_env("Hopper-v5"), state)


def test_another_model_is_refused() -> None:
    one, other = make_env("Hopper-v5"), make_env("Hopper-v5")
    state = get_env_state(one)
    state["mujoco"]["arrays"]["qpos"] = np.zeros(3)
    with pytest.raises(EnvStateError, match="qpos differ in shape"):
        set_env_state(other, state)


def test_a_field_that_this_mujoco_does_not_have_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    env = make_env("Hopper-v5")
    env.reset(seed=0)
    state = get_env_state(env)
    state["mujoco"]["arrays"]["field_of_the_future"] = np.zeros(3)
    with caplog.at_level(logging.WARNING):
        set_env_state(env, state)
    assert "field_of_the_future" in caplog.text

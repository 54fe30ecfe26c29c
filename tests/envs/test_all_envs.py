"""What every registered environment promises; a new one is covered as soon as it is in ENVIRONMENTS."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from cadenza.envs.registration import CABLE_ROUTING, ENVIRONMENTS, legged_ids, make_env, table_ids
from cadenza.envs.state import get_env_state, set_env_state
from cadenza.robots.menagerie import is_fetched

STEPS = 300
LEGGED = legged_ids()
LEGGED_STEPS = 60
"""They share their code; tests/envs/legged looks at it more closely."""
TABLES = table_ids()
TABLE_STEPS = 40
"""The same; tests/envs/tabletop."""


def make(env_id: str, **kwargs: Any) -> gym.Env:
    if env_id in LEGGED:
        robot, task = LEGGED[env_id]
        if not is_fetched(robot.menagerie):
            pytest.skip(f"{robot.menagerie} is not on this computer: make robots")
        if task == "get_up":
            kwargs["poses"] = 2
    if env_id in TABLES and not all(is_fetched(model) for model in TABLES[env_id][0].models):
        pytest.skip(f"{TABLES[env_id][0].title} is not on this computer: make robots")
    return make_env(env_id, pictures=False, **kwargs)


# Cable routing has another kind of observation, action and end: tests/envs/cable.
@pytest.fixture(params=[env_id for env_id in ENVIRONMENTS if env_id != CABLE_ROUTING])
def env(request: pytest.FixtureRequest) -> Iterator[gym.Env]:
    made = make(request.param)
    yield made
    made.close()


def steps_of(env: gym.Env) -> int:
    if env.spec.id in TABLES:
        return TABLE_STEPS
    return LEGGED_STEPS if env.spec.id in LEGGED else STEPS


def raw(observation: Any) -> bytes:
    """All numbers of an observation, also of one in parts."""
    if isinstance(observation, dict):
        return b"".join(observation[name].tobytes() for name in sorted(observation))
    return observation.tobytes()


def random_actions(env: gym.Env, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Shape (count, actions)."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, *env.action_space.shape)).astype(np.float32)


def rollout(env: gym.Env, actions: NDArray[np.float32], seed: int | None) -> list[tuple[bytes, float, bool, bool]]:
    """Everything of a run, comparable bit for bit; episodes that end are begun anew."""
    out = [(raw(env.reset(seed=seed)[0]), 0.0, False, False)]
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        out.append((raw(observation), float(reward), terminated, truncated))
        if terminated or truncated:
            out.append((raw(env.reset()[0]), 0.0, False, False))
    return out


def physics(env: gym.Env) -> dict[str, Any]:
    """Every array of mjData whose size the model fixes."""
    return get_env_state(env)["mujoco"]["arrays"]


def test_gymnasium_accepts_it(env: gym.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Gymnasium's advice about spaces: float64 observations without bounds are what its own tasks have as well.
        warnings.filterwarnings("ignore", message=".*(minimum|maximum) value.*infinity")
        check_env(env.unwrapped, skip_render_check=True)


def test_stable_baselines_accepts_it(env: gym.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Gymnasium's wrappers do not hand on compute_reward, which the check asks for by name.
        check_env_sb3(env.unwrapped if env.spec.id in TABLES else env, skip_render_check=True)


def test_spaces_are_boxes_of_the_promised_kind(env: gym.Env) -> None:
    actions, observations = env.action_space, env.observation_space
    assert isinstance(actions, gym.spaces.Box)
    assert actions.dtype == np.float32
    assert (actions.low == -1).all()
    assert (actions.high == 1).all()
    # A hand has six directions and a gripper, however many motors move it.
    assert actions.shape == ((7,) if env.spec.id in TABLES else (env.unwrapped.model.nu,))
    parts = observations.spaces.values() if isinstance(observations, gym.spaces.Dict) else [observations]
    for part in parts:
        assert isinstance(part, gym.spaces.Box)
        assert part.dtype in (np.float32, np.float64)


def test_observations_stay_finite_and_inside_their_space(env: gym.Env) -> None:
    observation, _ = env.reset(seed=0)
    for action in random_actions(env, steps_of(env)):
        assert observation in env.observation_space
        for part in observation.values() if isinstance(observation, dict) else [observation]:
            assert np.isfinite(part).all()
        observation, reward, terminated, truncated, _ = env.step(action)
        assert np.isfinite(reward)
        if terminated or truncated:
            observation, _ = env.reset()


def test_reward_terms_sum_to_the_reward(env: gym.Env) -> None:
    env.reset(seed=0)
    names = None
    for action in random_actions(env, steps_of(env)):
        _, reward, terminated, truncated, info = env.step(action)
        terms = info["reward_terms"]
        assert sum(terms.values()) == pytest.approx(reward, abs=1e-9)
        assert all(type(value) is float for value in terms.values())
        assert names in (None, list(terms))
        names = list(terms)
        if terminated or truncated:
            env.reset()


def test_forward_speed_is_reported(env: gym.Env) -> None:
    if env.spec.id in TABLES:
        return  # an arm stands
    env.reset(seed=0)
    assert np.isfinite(env.step(random_actions(env, 1)[0])[4]["x_velocity"])


def test_the_same_seed_gives_the_same_run_bit_for_bit(env: gym.Env) -> None:
    actions = random_actions(env, steps_of(env))
    first = rollout(env, actions, seed=7)
    assert rollout(env, actions, seed=7) == first
    assert rollout(make(env.spec.id), actions, seed=7) == first
    assert rollout(env, actions, seed=8)[0] != first[0]


def test_reset_restores_the_whole_physics_state(env: gym.Env) -> None:
    env.reset(seed=5)
    expected = physics(env)
    for action in random_actions(env, 50):
        env.step(action)
    data = env.unwrapped.data
    data.xfrc_applied[:] = 3.0
    data.qfrc_applied[:] = 2.0
    assert data.qacc_warmstart.any()
    assert data.time > 0
    env.reset(seed=5)
    assert data.time == 0
    for name, array in physics(env).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_the_time_limit_truncates_and_does_not_terminate(env: gym.Env) -> None:
    limited = make(env.spec.id, max_episode_steps=3)
    limited.reset(seed=0)
    ends = [limited.step(np.zeros(env.action_space.shape, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_environment_itself_never_truncates(env: gym.Env) -> None:
    inner = env.unwrapped
    inner.reset(seed=0)
    ended = 0
    for action in random_actions(env, STEPS):
        _, _, terminated, truncated, _ = inner.step(action)
        assert type(terminated) is bool
        assert truncated is False
        if terminated:
            ended += 1
            inner.reset()
            if env.spec.id in LEGGED:
                break
    # Who lies on the ground cannot fall, and nothing ends before a table but the time.
    assert (ended == 0) if "GetUp" in env.spec.id or env.spec.id in TABLES else (ended >= 1)


def test_a_saved_state_goes_on_bit_for_bit(env: gym.Env) -> None:
    actions = random_actions(env, min(120, steps_of(env)))
    env.reset(seed=2)
    for action in actions[:10]:
        env.step(action)
    state = get_env_state(env)
    other = make(env.spec.id)
    other.reset(seed=3)
    set_env_state(other, state)
    for action in actions[10:]:
        (one, *rest), (two, *rest_two) = env.step(action), other.step(action)
        assert raw(one) == raw(two)
        assert rest[:3] == rest_two[:3]
        if rest[1] or rest[2]:
            assert raw(env.reset()[0]) == raw(other.reset()[0])


def test_actions_are_not_written_to(env: gym.Env) -> None:
    env.reset(seed=0)
    action = np.full(env.action_space.shape, 0.7, np.float32)
    action.flags.writeable = False
    env.step(action)

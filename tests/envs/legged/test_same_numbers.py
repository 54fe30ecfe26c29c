"""One robot or many, one thread or two, interrupted or not: the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.tasks import TASKS
from cadenza.envs.legged.vectorized import LeggedVecEnv
from cadenza.envs.registration import make_env, make_vec_env
from cadenza.envs.state import flatten_state, get_env_state, set_env_state, unflatten_state
from cadenza.robots import humanoid_names, load_humanoid

SEED, N = 11, 8
HARD: dict[str, Any] = {"randomised": True, "privileged": True, "history": 3}


def vec_env(env_id: str, n: int = N, threads: int = 1, **settings: Any) -> LeggedVecEnv:
    made = make_vec_env(env_id, n, threads=threads, **settings)
    assert isinstance(made, LeggedVecEnv)
    return made


def actions(steps: int, n: int, joints: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).uniform(-1, 1, (steps, n, joints)).astype(np.float32)


def compare(env_id: str, n: int, steps: int, **settings: Any) -> tuple[int, int]:
    """Step both ways and compare; how many episodes terminated and how many were truncated."""
    many = vec_env(env_id, n, **settings)
    ones = [make_env(env_id, pictures=False, **settings) for _ in range(n)]
    many.seed(SEED)
    first = many.reset()
    for row, env, seed in zip(first, ones, range(SEED, SEED + n), strict=True):
        assert row.tobytes() == env.reset(seed=seed)[0].tobytes()
    ends = [0, 0]
    for chosen in actions(steps, n, many.action_space.shape[0]):
        observations, rewards, dones, infos = many.step(chosen)
        assert rewards.dtype == np.float32
        for index, env in enumerate(ones):
            one, reward, terminated, truncated, info = env.step(chosen[index])
            assert np.float32(reward) == rewards[index]
            assert dones[index] == (terminated or truncated)
            if dones[index]:
                ends[not terminated] += 1
                assert infos[index]["terminal_observation"].tobytes() == one.tobytes()
                assert infos[index]["TimeLimit.truncated"] == (truncated and not terminated)
                assert infos[index]["reward_terms"] == info["reward_terms"]
                one = env.reset()[0]
            assert one.tobytes() == observations[index].tobytes()
    return ends[0], ends[1]


@pytest.mark.parametrize("settings", [{}, HARD], ids=["nominal", "randomised"])
@pytest.mark.parametrize("task", list(TASKS))
def test_many_are_like_one_each(task: str, settings: dict[str, Any]) -> None:
    small = {"poses": 4} if task == "get_up" else {}
    terminated, truncated = compare(f"cadenza/OP3{TASKS[task].label}-v0", N, 150, episode_s=1.1, **settings, **small)
    assert truncated > 0
    assert terminated > 0 or task == "get_up"


@pytest.mark.parametrize("robot_name", [name for name in humanoid_names() if name != "op3"])
def test_other_robots_too(robot_name: str) -> None:
    assert sum(compare(f"cadenza/{load_humanoid(robot_name).prefix}Walk-v0", 3, 60, episode_s=0.8, randomised=True)) > 0


def test_rough_ground_and_backlash_too() -> None:
    assert sum(compare("cadenza/OP3Walk-v0", 3, 60, episode_s=0.8, terrain="rough", backlash=True, contacts="all")) > 0


def test_meshes_that_only_show_change_nothing() -> None:
    one, two = (make_env("cadenza/OP3Walk-v0", pictures=shown, **HARD) for shown in (True, False))
    assert one.unwrapped.model.nmesh > two.unwrapped.model.nmesh
    assert one.reset(seed=4)[0].tobytes() == two.reset(seed=4)[0].tobytes()
    for action in actions(60, 1, 20)[:, 0]:
        (seen, *rest), (same, *rest_two) = one.step(action), two.step(action)
        assert seen.tobytes() == same.tobytes()
        assert rest[:3] == rest_two[:3]
        if rest[1]:
            assert one.reset()[0].tobytes() == two.reset()[0].tobytes()


def run(env: LeggedVecEnv, chosen: NDArray[np.float32]) -> list[bytes]:
    out = []
    for row in chosen:
        observations, rewards, dones, _ = env.step(row)
        out.append(observations.tobytes() + rewards.tobytes() + dones.tobytes())
    return out


def test_the_number_of_threads_does_not_matter() -> None:
    runs = []
    for threads in (1, 2):
        env = vec_env("cadenza/OP3Walk-v0", 6, threads, **HARD)
        env.seed(SEED)
        runs.append([env.reset().tobytes(), *run(env, actions(60, 6, 20))])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("env_id", ["cadenza/OP3Stand-v0", "cadenza/OP3Walk-v0"])
def test_a_saved_batch_goes_on_in_a_new_one(env_id: str) -> None:
    chosen = actions(90, 5, 20)
    env = vec_env(env_id, 5, **HARD)
    env.seed(SEED)
    env.reset()
    run(env, chosen[:17])
    tree, arrays = flatten_state(env.get_state())
    expected = run(env, chosen[17:])
    other = vec_env(env_id, 5, **HARD)
    other.seed(99)
    other.reset()
    run(other, chosen[:40])
    other.set_state(unflatten_state(tree, arrays))
    assert run(other, chosen[17:]) == expected
    untouched = vec_env(env_id, 5, **HARD)  # one that was never reset
    untouched.set_state(unflatten_state(tree, arrays))
    assert run(untouched, chosen[17:]) == expected


def test_a_saved_environment_goes_on_in_a_new_one() -> None:
    chosen = actions(90, 1, 20)[:, 0]
    env, other = (make_env("cadenza/OP3Walk-v0", pictures=False, **HARD) for _ in range(2))
    env.reset(seed=SEED)
    for action in chosen[:17]:
        env.step(action)
    state = get_env_state(env)
    other.reset(seed=5)
    set_env_state(other, state)
    for action in chosen[17:]:
        (one, *rest), (two, *rest_two) = env.step(action), other.step(action)
        assert one.tobytes() == two.tobytes()
        assert rest[:3] == rest_two[:3]
        if rest[1]:
            assert env.reset()[0].tobytes() == other.reset()[0].tobytes()


def test_a_state_of_another_batch_is_refused() -> None:
    small, large = vec_env("cadenza/OP3Walk-v0", 2), vec_env("cadenza/OP3Walk-v0", 3)
    small.reset()
    with pytest.raises(CadenzaError, match="another model or number of copies"):
        large.set_state(small.get_state())

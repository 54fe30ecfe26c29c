"""Velocity commands: drawn, held, given."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cadenza.envs.legged.commands import CommandError, CommandRanges
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.registration import make_env, make_vec_env
from cadenza.envs.walk import WalkConfig
from cadenza.robots import load_humanoid

FIRST = np.zeros(1, dtype=np.intp)
ZERO = np.zeros(20, np.float32)
MakeTask = Callable[..., LeggedTask]


def test_the_share_of_zero_and_the_ranges() -> None:
    ranges = CommandRanges((-0.1, 0.3), (-0.2, 0.2), (0.5, 0.5), zero_share=0.25)
    random = np.random.default_rng(0)
    drawn = np.array([ranges.draw(random) for _ in range(4000)])
    zero = ~drawn.any(axis=1)
    assert abs(zero.mean() - 0.25) < 0.02
    moving = drawn[~zero]
    assert (moving[:, 2] == 0.5).all()
    np.testing.assert_allclose(moving.min(axis=0)[:2], [-0.1, -0.2], atol=0.005)
    np.testing.assert_allclose(moving.max(axis=0)[:2], [0.3, 0.2], atol=0.005)


def test_a_new_one_every_ten_seconds(make_task: MakeTask) -> None:
    assert WalkConfig.of(load_humanoid("op3")).resample_s == 10.0
    task = make_task("walk", zero_share=0.0)
    task.reset(FIRST)
    assert task.command_steps[0] == 500
    task = make_task("walk", zero_share=0.0, resample_s=0.1)
    task.reset(FIRST)
    commands = [task.command[0].copy()]
    for _ in range(15):
        task.step(ZERO[None])
        commands.append(task.command[0].copy())
    for count, (before, after) in enumerate(pairwise(commands), 1):
        assert np.array_equal(before, after) == (count % 5 != 0)


def test_an_observation_shows_the_command_that_counts_next(make_task: MakeTask) -> None:
    """The reward of a step is for the command that the action was chosen by."""
    task = make_task("walk", zero_share=0.0, resample_s=0.1)
    observation = task.reset(FIRST)
    part = task.layout.slices()["command"]
    scale = np.array([1 / task.robot.speed_m_s, 1 / task.robot.speed_m_s, 1.0])
    for _ in range(12):
        np.testing.assert_allclose(observation[0, part], task.command[0] * scale)
        told = task.command[0].copy()
        observation = task.step(ZERO[None])[0]
        np.testing.assert_array_equal(task.last_signals.command[0], told)


def test_a_command_can_be_given() -> None:
    env = make_env("cadenza/OP3Walk-v0", pictures=False, resample_s=0.1)
    observation, info = env.reset(seed=0, options={"command": (0.2, 0.0, -0.5)})
    np.testing.assert_array_equal(info["command"], [0.2, 0.0, -0.5])
    np.testing.assert_allclose(observation[6:9], [0.2 / 0.2, 0.0, -0.5])
    for _ in range(12):
        np.testing.assert_array_equal(env.step(ZERO)[4]["command"], [0.2, 0.0, -0.5])
    # The next episode draws its own again.
    assert env.reset()[1]["command"].tolist() != [0.2, 0.0, -0.5]
    fixed = make_env("cadenza/OP3Walk-v0", pictures=False, command=(0.1, 0.0, 0.0))
    assert fixed.reset(seed=0)[1]["command"].tolist() == [0.1, 0.0, 0.0]


def test_options_of_many_are_those_of_one() -> None:
    envs = make_vec_env("cadenza/OP3Walk-v0", 2, threads=1, resample_s=0.1)
    assert envs is not None
    envs.seed(5)
    envs.set_options([{"command": (0.2, 0.0, -0.5)}, {}])
    observations = envs.reset()
    env = make_env("cadenza/OP3Walk-v0", pictures=False, visuals=False, resample_s=0.1)
    np.testing.assert_array_equal(observations[0], env.reset(seed=5, options={"command": (0.2, 0.0, -0.5)})[0])
    task = envs.get_attr("task")[0]
    others = []
    for _ in range(12):
        observations = envs.step(np.zeros((2, 20), np.float32))[0]
        np.testing.assert_array_equal(observations[0], env.step(ZERO)[0])
        others.append(task.command[1].copy())
    np.testing.assert_array_equal(task.command[0], [0.2, 0.0, -0.5])
    assert len(np.unique(others, axis=0)) > 1
    envs.seed(5)
    envs.reset()  # options are used once
    assert task.command[0].tolist() != [0.2, 0.0, -0.5]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ((0.5, 0.0, 0.0), "forward_m_s = 0.5 lies beyond .* forward_m_s -0.08 to 0.24"),
        ((0.1, -0.2, 0.0), "left_m_s = -0.2"),
        ((0.1, 0.0, 2.0), "yaw_rad_s = 2"),
        ((0.1, 0.0), "three finite numbers"),
        ((0.1, float("nan"), 0.0), "three finite numbers"),
        ("fast", "three finite numbers"),
    ],
)
def test_a_command_that_is_none_of_the_tasks_is_refused(command: Any, says: str) -> None:
    env = make_env("cadenza/OP3Walk-v0", pictures=False, visuals=False)
    env.reset(seed=0)
    before = env.unwrapped.task.state()["arrays"]  # type: ignore[attr-defined]
    with pytest.raises(CommandError, match=says) as caught:
        env.reset(options={"command": command})
    assert caught.value.advice
    after = env.unwrapped.task.state()["arrays"]  # type: ignore[attr-defined]
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    envs = make_vec_env("cadenza/OP3Walk-v0", 2, threads=1)
    assert envs is not None
    envs.set_options({"command": command})
    with pytest.raises(CommandError, match=says):
        envs.reset()


def test_zero_is_always_taken_and_a_wider_range_takes_more() -> None:
    env = make_env("cadenza/OP3Run-v0", pictures=False, visuals=False)
    assert not env.reset(seed=0, options={"command": (0, 0, 0)})[1]["command"].any()
    wide = make_env("cadenza/OP3Walk-v0", pictures=False, visuals=False, forward_m_s=(0.0, 0.5))
    assert wide.reset(seed=0, options={"command": (0.5, 0, 0)})[1]["command"][0] == 0.5


def test_a_task_without_commands_says_which_have_them() -> None:
    env = make_env("cadenza/OP3Stand-v0", pictures=False, visuals=False)
    with pytest.raises(CommandError, match="OP3Stand takes no velocity command") as caught:
        env.reset(seed=0, options={"command": (0.1, 0, 0)})
    assert "cadenza/OP3Walk-v0" in caught.value.advice


def test_a_curriculum_chooses_one_and_the_others_stay() -> None:
    env = make_env("cadenza/OP3Walk-v0", pictures=False, zero_share=0.0)
    free = env.reset(seed=3)[1]["command"]
    chosen = env.reset(seed=3, options={"parameters": {"forward_m_s": 0.123}})[1]["command"]
    assert chosen[0] == 0.123
    np.testing.assert_array_equal(chosen[1:], free[1:])


def test_a_zero_command_holds_the_clock(make_task: MakeTask) -> None:
    for command, moves in (((0, 0, 0), False), ((0.1, 0, 0), True)):
        task = make_task("walk", command=command)
        task.reset(FIRST)
        before = task.phase.copy()
        task.step(ZERO[None])
        assert bool(task.phase[0] != before[0]) is moves
        if moves:
            assert (task.phase[0] - before[0]) % 1.0 - 0.02 / task.robot.gait_period_s < 1e-12


def test_run_is_quicker(make_task: MakeTask) -> None:
    task = make_task("run")
    task.reset(FIRST)
    assert task.gait_period_s() == 0.7 * task.robot.gait_period_s
    assert task.command[0, 0] == 0.0 or task.command[0, 0] >= task.robot.speed_m_s

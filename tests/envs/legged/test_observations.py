"""What is where in an observation, and that no actor sees what only the simulation knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cadenza.envs.legged.observations import actor_terms
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.legged.tasks import TASKS
from cadenza.envs.legged.terms import ObservationLayout, ObservationTerm
from cadenza.envs.registration import make_env

FIRST = np.zeros(1, dtype=np.intp)
MakeTask = Callable[..., LeggedTask]


def term(name: str, source: str = "imu", size: int = 2) -> ObservationTerm:
    return ObservationTerm(name, size, source, lambda s: s.gyro)  # type: ignore[arg-type]


def test_a_privileged_term_cannot_stand_among_the_actors() -> None:
    with pytest.raises(ValueError, match="Privileged observation terms must come last"):
        ObservationLayout([term("a"), term("secret", "privileged"), term("b")])


def test_names_are_unique_and_there_is_a_newest_sample() -> None:
    with pytest.raises(ValueError, match="different names"):
        ObservationLayout([term("a"), term("a")])
    with pytest.raises(ValueError, match="history 0 must be 1 or more"):
        ObservationLayout([term("a")], history=0)


def test_slices_and_names() -> None:
    layout = ObservationLayout([term("a"), term("b", size=1), term("known", "privileged", 3)], history=2)
    assert (layout.sample_size, layout.actor_size, layout.size) == (3, 6, 9)
    assert layout.slices() == {"a": slice(0, 2), "b": slice(2, 3), "known": slice(6, 9)}
    assert layout.names() == ("a[0]", "a[1]", "b[0]", "a[0]@1", "a[1]@1", "b[0]@1")


@pytest.mark.parametrize("task_name", list(TASKS))
def test_actors_see_what_the_robot_knows(task_name: str, make_task: MakeTask) -> None:
    small = {"poses": 2} if task_name == "get_up" else {}
    task = make_task(task_name, privileged=True, history=2, **small)
    assert {term.source for term in task.layout.actor} <= {"encoder", "imu", "command", "memory"}
    assert {term.source for term in task.layout.privileged} == {"privileged"}
    assert task.reset(FIRST).shape == (1, task.layout.size)
    for term_ in (*task.layout.actor, *task.layout.privileged):
        assert term_.read(task._signals(FIRST)).shape == (1, term_.size), term_.name
    assert make_task(task_name, **small).layout.privileged == ()


def test_changing_what_is_hidden_does_not_reach_the_actor(make_task: MakeTask) -> None:
    task = make_task("walk", privileged=True)
    task.reset(FIRST)
    signals = task._signals(FIRST)
    before = task.layout.sample(signals)
    for name in ("angle", "velocity", "torque", "base_velocity", "base_rotation", "height", "foot_force", "friction"):
        setattr(signals, name, np.full_like(getattr(signals, name), np.nan))
    np.testing.assert_array_equal(task.layout.sample(signals), before)


def test_history_is_newest_first_and_starts_with_the_first(make_task: MakeTask) -> None:
    task = make_task("walk", history=3)
    size = task.layout.sample_size
    first = task.reset(FIRST)[0].reshape(3, size)
    np.testing.assert_array_equal(first, np.tile(first[0], (3, 1)))
    samples = [first[0]]
    for action in np.random.default_rng(0).uniform(-1, 1, (4, 20)):
        observation = task.step(action[None])[0][0].reshape(3, size)
        samples.insert(0, observation[0])
        for age in range(3):
            np.testing.assert_array_equal(observation[age], samples[min(age, len(samples) - 1)])
        part = task.layout.slices()["last_action"]
        np.testing.assert_array_equal(observation[0, part], action)


def test_scales_are_applied(make_task: MakeTask) -> None:
    task = make_task("walk")
    task.reset(FIRST)
    observation = task.step(np.full((1, 20), 0.4))[0][0]
    s, at = task.last_signals, task.layout.slices()
    np.testing.assert_allclose(observation[at["gyro"]], 0.25 * s.gyro[0])
    np.testing.assert_allclose(observation[at["joint_velocity"]], 0.05 * s.joint_velocity[0])
    np.testing.assert_allclose(observation[at["joint_position"]], s.joint_angle[0] - task.home)
    turn = 2 * np.pi * s.phase[0]
    np.testing.assert_allclose(observation[at["clock"]], [np.cos(turn), np.sin(turn)])


def test_standing_tasks_have_neither_command_nor_clock() -> None:
    assert [t.name for t in actor_terms(20, clock=False)] == [
        "gyro", "gravity", "joint_position", "joint_velocity", "last_action",
    ]  # fmt: skip


def test_the_environment_says_how_much_is_the_actors() -> None:
    env = make_env("cadenza/OP3Walk-v0", pictures=False, privileged=True).unwrapped
    assert env.actor_observation_size == 3 + 3 + 3 + 60 + 2
    assert env.observation_space.shape == (env.actor_observation_size + 10,)

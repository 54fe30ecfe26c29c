"""Which environment plays which task, the wrapper, and the page about both."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cadenza.envs.teachers import ParameterSpace, Teacher, make_teacher
from cadenza.envs.teachers.curriculum import Curriculum, TeacherWrapper

SPACE = ParameterSpace({"reward": (0.0, 1.0)})


class Listening(Teacher):
    """Counts up and notes what it is told."""

    name = "listening"

    def __init__(self) -> None:
        super().__init__(ParameterSpace({"reward": (0.0, 100.0)}), 0)
        self.given = 0
        self.told: list[tuple[float, float]] = []

    def _draw(self) -> Any:
        self.given += 1
        return np.array([self.given / 100])

    def _learn(self, task: Any, episode_return: float) -> None:
        self.told.append((round(float(task[0]) * 100), episode_return))


class Paying(gym.Env):
    """Pays the task's parameter at every step, for three steps."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        assert options is not None
        self.options, self.steps = options, 0
        return np.zeros(1, np.float32), {"start": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Action 1 blows the simulation up."""
        self.steps += 1
        info = {"non_finite": True} if action else {}
        return np.zeros(1, np.float32), self.options["parameters"]["reward"], bool(action), self.steps == 3, info


def test_episodes_overlap_and_end_in_any_order() -> None:
    teacher = Listening()
    curriculum = Curriculum(teacher)
    assert [curriculum.next_parameters(index)["reward"] for index in range(3)] == [1.0, 2.0, 3.0]
    curriculum.finish(1, 20.0)
    assert curriculum.next_parameters(1) == {"reward": 4.0}
    curriculum.finish(0, 10.0)
    curriculum.finish(1, 40.0)
    assert teacher.told == [(2, 20.0), (1, 10.0), (4, 40.0)]


def test_an_episode_is_reported_once_and_an_unfinished_one_never() -> None:
    teacher = Listening()
    curriculum = Curriculum(teacher)
    with pytest.raises(ValueError, match="environment 5"):
        curriculum.finish(5, 1.0)
    curriculum.next_parameters(0)
    curriculum.next_parameters(0)["reward"] = 77.0  # the caller's own copy
    curriculum.finish(0, 9.0)
    with pytest.raises(ValueError, match="environment 0"):
        curriculum.finish(0, 9.0)
    assert teacher.told == [(2, 9.0)]


def test_the_tasks_being_played_are_saved() -> None:
    first, second = (Curriculum(make_teacher("alp-gmm", SPACE, seed)) for seed in (1, 2))
    first.next_parameters(0)
    playing = first.next_parameters(1)
    second.load_state_dict(first.state_dict())
    second.finish(1, 4.0)
    assert second.teacher.state_dict()["history"]["tasks"].tolist() == [[playing["reward"]]]
    with pytest.raises(ValueError, match="environment 1"):
        second.finish(1, 4.0)
    first.finish(1, 4.0)  # the state was a copy
    assert first.next_parameters(1) == second.next_parameters(1)


def test_the_wrapper_reports_whole_episodes() -> None:
    teacher = Listening()
    env = TeacherWrapper(Paying(), Curriculum(teacher))
    _, info = env.reset(seed=0, options={"other": 3})
    assert info == {"start": True, "parameters": {"reward": 1.0}}
    assert env.unwrapped.options == {"other": 3, "parameters": {"reward": 1.0}}  # type: ignore[attr-defined]
    env.step(0)
    env.reset()  # in the middle: dropped
    for _ in range(3):
        env.step(0)
    assert teacher.told == [(2, 6.0)]


def test_the_callers_parameters_come_first_and_are_not_reported() -> None:
    teacher = Listening()
    env = TeacherWrapper(Paying(), Curriculum(teacher))
    env.reset(options={"parameters": {"reward": 0.5}})
    rewards = [env.step(0)[1] for _ in range(3)]
    assert (rewards, teacher.given, teacher.told) == ([0.5] * 3, 0, [])


def test_nothing_is_learned_from_a_simulation_that_blew_up() -> None:
    teacher = Listening()
    env = TeacherWrapper(Paying(), Curriculum(teacher))
    env.reset()
    env.step(1)
    assert (teacher.told, teacher.ignored) == ([], 1)


@pytest.fixture
def page(repository: Path) -> list[str]:
    text = (repository / "docs" / "curriculum.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_pages_example(page: list[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(page[0], "curriculum.md", "exec"), names)
    assert names["teacher"].episodes == 20
    assert all(math.isfinite(value) for value in names["teacher"].history.returns)


def test_the_pages_figure(page: list[str], elsewhere: Path) -> None:
    small = page[1].replace("SEEDS, EPISODES = 10, 20_000", "SEEDS, EPISODES = 2, 300")
    assert small != page[1]
    exec(compile(small, "curriculum.md", "exec"), {})
    assert (elsewhere / "curriculum.png").stat().st_size > 5000

"""What every teacher keeps to, and the registry."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cadenza.envs.names import UnknownNameError
from cadenza.envs.state import flatten_state, unflatten_state
from cadenza.envs.teachers import (
    TEACHERS,
    ParameterError,
    ParameterSpace,
    Teacher,
    TeacherStateError,
    make_teacher,
)

SPACE = ParameterSpace({"command_speed_m_s": (0.0, 0.5), "push_m_s": (0.1, 0.3)})


def played(teacher: Teacher, episodes: int) -> list[dict[str, float]]:
    """Let the teacher choose; the learner is bad at pushes, and better from episode to episode."""
    tasks = []
    for _ in range(episodes):
        tasks.append(teacher.sample())
        pushed = tasks[-1]["push_m_s"] > 0.2
        teacher.update(tasks[-1], 0.1 if pushed else tasks[-1]["command_speed_m_s"] + teacher.episodes / 100)
    return tasks


def through_files(state: dict[str, Any]) -> Any:
    """``state`` after it was written as JSON and an archive of plain arrays, and read again."""
    tree, arrays = flatten_state(state)
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type] # arrays by name
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        return unflatten_state(json.loads(json.dumps(tree, allow_nan=False)), archive)


def test_vector_and_dict() -> None:
    vector = SPACE.vector({"push_m_s": 0.25, "command_speed_m_s": 0.125})
    assert vector.tolist() == [0.125, 0.25]
    assert SPACE.normalize(vector) == pytest.approx([0.25, 0.75])
    assert SPACE.parameters(vector) == {"command_speed_m_s": 0.125, "push_m_s": 0.25}
    assert {type(value) for value in SPACE.parameters(vector).values()} == {float}
    assert SPACE.denormalize(np.array([[0.0, 1.0], [0.5, 0.5]])) == pytest.approx(np.array([[0.0, 0.3], [0.25, 0.2]]))
    json.dumps(SPACE.ranges)


@pytest.mark.parametrize("ends", [(0.1, 0.3), (-0.7, 0.1), (1e-9, 7.3)])
def test_the_ends_of_a_range_are_in_it(ends: tuple[float, float]) -> None:
    space = ParameterSpace({"x": ends})
    for unit in (0.0, 1.0, np.nextafter(1.0, 0.0)):
        space.vector(space.parameters(space.denormalize(np.array([unit]))))
    assert space.denormalize(np.ones(1)).tolist() == [ends[1]]


@pytest.mark.parametrize("ends", [(1.0, 1.0), (1.0, 0.0), (0.0, np.inf), (np.nan, 1.0)])
def test_ranges_without_sense_are_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ParameterError, match="push_m_s"):
        ParameterSpace({"push_m_s": ends})


def test_a_space_needs_a_parameter() -> None:
    with pytest.raises(ParameterError):
        ParameterSpace({})


@pytest.mark.parametrize("value", [0.31, 0.09, np.nan, np.inf])
def test_values_beyond_the_range_are_refused(value: float) -> None:
    with pytest.raises(ParameterError, match=r"push_m_s is .* its range is 0\.1 to 0\.3"):
        SPACE.vector({"command_speed_m_s": 0.2, "push_m_s": value})


def test_wrong_and_missing_names_are_refused() -> None:
    with pytest.raises(UnknownNameError) as caught:
        SPACE.vector({"command_speed_m_s": 0.2, "push_ms": 0.2})
    assert "push_m_s" in caught.value.advice
    with pytest.raises(ParameterError, match="push_m_s"):
        SPACE.vector({"command_speed_m_s": 0.2})


def test_the_registry() -> None:
    assert list(TEACHERS) == ["random", "alp-gmm"]
    for name in TEACHERS:
        assert make_teacher(name, SPACE, 0).name == name
    with pytest.raises(UnknownNameError) as caught:
        make_teacher("alp_gmm", SPACE, 0)
    assert "alp-gmm" in caught.value.advice


def test_listing_teachers_is_quick() -> None:
    code = "import sys, cadenza.envs.teachers; print(*({'sklearn', 'scipy', 'gymnasium', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", TEACHERS)
def test_the_seed_decides(name: str) -> None:
    first, same, other = (played(make_teacher(name, SPACE, seed), 300) for seed in (3, 3, 4))
    assert first == same
    assert first[0] != other[0]
    for task in first:
        SPACE.vector(task)  # refuses what is beyond a range


@pytest.mark.parametrize("name", TEACHERS)
def test_the_global_generator_is_left_alone(name: str) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002 - the one that is looked at
    played(make_teacher(name, SPACE, 0), 260)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index] # noqa: NPY002


@pytest.mark.parametrize("before", [0, 130, 250, 777])
@pytest.mark.parametrize("name", TEACHERS)
def test_a_saved_teacher_goes_on_bit_for_bit(name: str, before: int) -> None:
    """Saved before any task, between fits, at a fit and with a search tree; the next two fits are the same too."""
    whole = make_teacher(name, SPACE, 11)
    played(whole, before)
    whole.update(SPACE.parameters(SPACE.low), np.nan)
    saved = through_files(whole.state_dict())
    expected = played(whole, 510)

    restored = make_teacher(name, SPACE, 99)
    played(restored, 260)  # whatever it knew is gone
    restored.load_state_dict(saved)
    assert (restored.episodes, restored.ignored) == (before, 1)
    assert played(restored, 510) == expected
    assert flatten_state(restored.state_dict())[0] == flatten_state(whole.state_dict())[0]
    for ours, theirs in zip(*(flatten_state(t.state_dict())[1].values() for t in (restored, whole)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", TEACHERS)
def test_a_state_is_a_copy(name: str) -> None:
    teacher = make_teacher(name, SPACE, 0)
    played(teacher, 251)
    state = teacher.state_dict()
    first = flatten_state(through_files(state))[1]
    played(teacher, 260)
    for key, array in flatten_state(state)[1].items():
        np.testing.assert_array_equal(array, first[key])


def test_a_state_of_another_teacher_or_space_is_refused() -> None:
    state = make_teacher("random", SPACE, 0).state_dict()
    with pytest.raises(TeacherStateError, match="alp-gmm"):
        make_teacher("alp-gmm", SPACE, 0).load_state_dict(state)
    turned = ParameterSpace({"push_m_s": (0.1, 0.3), "command_speed_m_s": (0.0, 0.5)})
    with pytest.raises(TeacherStateError):
        make_teacher("random", turned, 0).load_state_dict(state)


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("spoiled", [np.nan, np.inf, -np.inf])
def test_returns_that_are_no_numbers_are_counted_and_nothing_else(name: str, spoiled: float) -> None:
    clean, dirty = make_teacher(name, SPACE, 5), make_teacher(name, SPACE, 5)
    for index in range(260):
        task = clean.sample()
        assert dirty.sample() == task
        if index % 7 == 0:
            dirty.update(task, spoiled)
        for teacher in (clean, dirty):
            teacher.update(task, task["push_m_s"])
    assert (dirty.episodes, dirty.ignored) == (260, 38)
    assert dirty.sample() == clean.sample()


def test_random_is_uniform() -> None:
    """Quarters of either range hold a quarter of 4000 tasks, give or take 4 standard deviations (110)."""
    teacher = make_teacher("random", SPACE, 0)
    units = np.array([SPACE.normalize(SPACE.vector(task)) for task in played(teacher, 4000)])
    for column in units.T:
        assert np.histogram(column, 4, (0, 1))[0] == pytest.approx([1000] * 4, abs=110)

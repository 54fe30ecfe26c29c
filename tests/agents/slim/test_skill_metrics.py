"""The figures of skills against numbers computed by hand, and the episodes they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.slim import SLIM
from cadenza.agents.slim.skill_metrics import (
    SkillEpisodes,
    bootstrapped,
    cells_of,
    consistency,
    coverage,
    evaluate_skills,
    figures_of,
    jackknifed,
    moved_cells,
    play_skills,
    reachable_cells,
    spread_skills,
)
from cadenza.envs.errors import CadenzaError

HALF = (0.3, 0.3, 0.1)
EAST, WEST, NORTH = (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0)


def plane(*places: tuple[float, float]) -> Any:
    return np.array(places)


# ------------------------------------------------------------------ coverage


def test_cells_are_five_centimetres_around_their_middle() -> None:
    found = cells_of(plane((0.024, -0.024), (0.026, 0.0), (-0.026, 0.074), (0.1, -0.1)))
    assert found.tolist() == [[0, 0], [1, 0], [-1, 1], [2, -2]]


def test_reachable_cells() -> None:
    assert len(reachable_cells(HALF)) == 13 * 13 - 1
    assert len(reachable_cells((0.3, 0.1))) == 13 * 5 - 1
    assert (0, 0) not in reachable_cells(HALF)


def test_coverage_counts_cells_once_and_not_the_one_of_standing_still() -> None:
    assert coverage(plane((0.0, 0.0), (0.01, 0.02)), HALF) == 0.0
    assert moved_cells(plane((0.05, 0.0), (0.06, 0.01), (0.0, 0.0))) == {(1, 0)}
    assert coverage(plane((0.05, 0.0), (0.06, 0.01), (-0.1, 0.2)), HALF) == pytest.approx(2 / 168)
    assert coverage(plane((0.05, 0.0), (0.9, 0.0)), HALF) == pytest.approx(1 / 168)  # the second is out of reach


def test_consistency() -> None:
    assert consistency(plane((0.1, 0.0), (0.3, 0.0))) == pytest.approx(1.0)
    assert consistency(plane((0.1, 0.0), (-0.1, 0.0))) == pytest.approx(0.0)
    assert consistency(plane((0.1, 0.0), (0.0, 0.1))) == pytest.approx(np.sqrt(0.5))
    assert consistency(plane((0.0, 0.0), (0.0, 0.0))) == 0.0
    assert consistency(np.full((10, 3), -1.3e-5)) == 0.0  # it settled on the table, untouched
    assert consistency(plane((0.1, 0.0), (1e-5, 0.0))) == pytest.approx(1.0)


# ------------------------------------------------------------------ intervals


def test_the_jackknife_of_a_mean_is_the_standard_error() -> None:
    """Groups of one: the delete-one jackknife of a mean is its standard error to the last digits (Tukey 1958)."""
    values = np.random.default_rng(0).normal(size=20)
    found = jackknifed(lambda chosen: float(values[chosen].mean()) + 10.0, 20)
    error = values.std(ddof=1) / np.sqrt(20)
    assert found.value == pytest.approx(values.mean() + 10)
    assert (found.high - found.value, found.value - found.low) == pytest.approx((1.96 * error, 1.96 * error))


def test_an_interval_of_a_count_lies_around_it() -> None:
    """A bootstrap's would lie below: episodes drawn with replacement hold fewer different cells."""
    cells = np.random.default_rng(0).integers(60, size=100)

    def count(chosen: Any) -> float:
        return float(len(np.unique(cells[chosen])))

    found = jackknifed(count, 100)
    assert found.low < found.value < found.high
    assert bootstrapped(count, 100, draws=200).high < found.value


def test_one_value_has_no_width() -> None:
    found = bootstrapped(lambda chosen: 2.0, 5, draws=50)
    assert found.to_list() == [2.0, 2.0, 2.0]


def test_figures_by_hand(puck: Any) -> None:
    episodes = SkillEpisodes(
        skills=np.array([EAST, WEST, NORTH, EAST], np.float32),
        starts=np.zeros((4, 3)),
        ends=np.array([[0.1, 0, 0], [-0.1, 0, 0], [0, 0.01, 0], [0.1, 0.01, 0]]),
        steps=np.array([100, 100, 50, 100]),
        touched_steps=np.array([40, 20, 0, 20]),
        grasped_steps=np.array([10, 0, 0, 10]),
        lifted=np.array([True, False, False, False]),
        terminated=np.array([False, False, True, False]),
        peak_force_n=np.array([2.0, 4.0, 12.0, 2.0]),
        object_force_n=np.array([1.0, 1.0, 5.0, 1.0]),
        violations={"contact": np.array([3, 0, 4, 0]), "off_table": np.array([0, 0, 1, 0])},
        unsafe_steps=np.array([3, 0, 4, 0]),
    )
    repeated = episodes.select(np.array([0, 3, 0, 1]))
    figures = {k: f.value for k, f in figures_of(episodes, repeated, puck.Puck.object_entries, 2).items()}
    expected = {
        "coverage": 2 / 168,
        "cells": 2,
        "displacement_m": (0.1 + 0.1 + 0.01 + np.hypot(0.1, 0.01)) / 4,
        "moved": 3 / 4,
        "consistency": (np.linalg.norm([0.1, 0.005]) / ((0.1 + np.hypot(0.1, 0.01)) / 2) + 0.0) / 2,
        "grasp_consistency": 20 / 80,
        "lift_rate": 1 / 4,
        "fell": 1 / 4,
        "violations_per_1000": 7 / 350 * 1000,
        "violations_per_1000_contact": 7 / 350 * 1000,
        "violations_per_1000_off_table": 1 / 350 * 1000,
        "peak_force_n": 5.0,
        "peak_force_max_n": 12.0,
        "object_force_n": 2.0,
    }
    assert figures == pytest.approx(expected)


def test_cells_are_counted_beyond_the_grid_of_the_coverage(puck: Any) -> None:
    """Two pushes from border to border: two cells, and none that a push from the middle reaches."""
    half = puck.Puck.object_entries.half_extent
    far = np.array([[1.8 * half[0], 0.0], [-1.8 * half[0], 0.0], [0.001, 0.0]])
    assert len(moved_cells(far)) == 2
    assert coverage(far, half) == 0.0


# ------------------------------------------------------------------ episodes


@pytest.mark.parametrize("n_envs", [1, 3, 8])
def test_every_skill_gets_its_own_episode(n_envs: int, puck: Any, pusher: Any) -> None:
    skills = np.array([EAST, WEST, EAST, NORTH, WEST], np.float32)
    told: list[int] = []
    episodes = play_skills(pusher, puck.PuckVecEnv(n_envs, noise_m=0.0), skills, seed=1, progress=told.append)
    assert told == [1, 2, 3, 4, 5]
    assert np.array_equal(episodes.skills, skills)
    moved = episodes.displacements
    assert (moved[[0, 2], 0] > 0.05).all()  # who goes east meets the puck
    assert (np.linalg.norm(moved[[1, 3, 4]], axis=1) == 0).all()
    assert (episodes.steps[~episodes.terminated] == 20).all()


def test_what_an_episode_counts_is_what_the_environment_says(puck: Any, pusher: Any) -> None:
    """West is against the border from the second step on, and nothing is touched there."""
    episodes = play_skills(pusher, puck.PuckVecEnv(1), np.array([WEST], np.float32))
    env = puck.Puck()
    env.reset(seed=0)
    infos = [env.step(pusher.act(np.zeros((1, 42)), WEST)[0])[4] for _ in range(20)]
    assert episodes.violations["contact"].tolist() == [sum(info["violations"]["contact"] for info in infos)] != [0]
    assert episodes.unsafe_steps.tolist() == episodes.violations["contact"].tolist()
    assert episodes.peak_force_n.tolist() == [20.0]
    assert episodes.touched_steps.tolist() == [0]


def test_an_object_that_fell_ends_where_it_fell(puck: Any, pusher: Any) -> None:
    episodes = play_skills(pusher, puck.PuckVecEnv(2, 60, 0.0), np.array([EAST, EAST, EAST], np.float32), seed=3)
    for index in np.flatnonzero(episodes.terminated):
        assert (np.abs(episodes.ends[index, :2] - (0.5, 0.0)) > 0.3).any()
        assert episodes.steps[index] < 60
    assert episodes.terminated.any()


def test_the_same_seed_gives_the_same_report(puck: Any, small: dict[str, Any]) -> None:
    model = SLIM("MlpPolicy", puck.PuckVecEnv(2), seed=0, device="cpu", **small)
    reports = [
        evaluate_skills(model, puck.PuckVecEnv(3), skills=4, repeated_skills=2, repeats=2, seed=5).to_dict()
        for _ in range(2)
    ]
    assert reports[0] == reports[1]
    assert len(reports[0]["displacements_m"]) == 4
    assert reports[0]["environment_steps"] == 8 * 20


def test_bad_questions_are_refused(puck: Any, pusher: Any, points: Any) -> None:
    with pytest.raises(CadenzaError, match="2 entries"):
        play_skills(pusher, puck.PuckVecEnv(1), np.ones((2, 3), np.float32))
    with pytest.raises(CadenzaError, match="at least 2 skills"):
        evaluate_skills(pusher, puck.PuckVecEnv(1), skills=1)

    class Blind(puck.Puck):  # type: ignore[misc,name-defined]
        object_entries = None

    with pytest.raises(CadenzaError, match="object_entries"):
        play_skills(pusher, DummyVecEnv([Blind]), np.array([EAST], np.float32))


def test_spread_skills_are_skills(puck: Any, small: dict[str, Any]) -> None:
    for settings in ({}, {"skill": "one_hot", "skill_size": 3}, {"skill": "sphere", "skill_size": 3}):
        model = SLIM("MlpPolicy", puck.PuckVecEnv(1), seed=0, device="cpu", **small, **settings)
        skills = model.prior.check(spread_skills(model, 7))
        assert len(np.unique(skills, axis=0)) == (3 if model.prior.discrete else 7)

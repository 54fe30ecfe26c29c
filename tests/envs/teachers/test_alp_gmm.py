"""Learning progress worked out by hand, what the mixture makes of it, and the toy grid of the paper."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from cadenza.envs.teachers import AlpGmmConfig, AlpGmmTeacher, ParameterSpace, make_teacher
from cadenza.envs.teachers.alp_gmm import INDEX_EVERY, Mixture, TaskHistory, fit_mixture
from cadenza.envs.teachers.toy_grid import ToyGrid, play

SPACE = ParameterSpace({"speed": (0.0, 2.0), "push": (0.0, 1.0)})
COMPONENTS = AlpGmmConfig().components


def test_the_settings_are_the_papers() -> None:
    config = AlpGmmConfig()
    assert (config.fit_every, config.window, config.uniform_share) == (250, 250, 0.2)
    assert config.components == (2, 3, 4, 5, 6, 7, 8, 9, 10)


def test_learning_progress_by_hand() -> None:
    """Nearest in normalised parameters: speed 1.0 and 2.0 are half of its range apart, not all of push's."""
    teacher = AlpGmmTeacher(SPACE, 0)
    for speed, push, episode_return in (
        (0.0, 0.0, 10.0),  # the first: nothing to compare with
        (2.0, 0.0, 4.0),  # |4 - 10|
        (0.4, 0.0, 13.0),  # nearest (0, 0): |13 - 10|
        (1.0, 0.6, 1.0),  # to (0.4, 0): 0.3, 0.6, to (0, 0): 0.5, 0.6, to (2, 0): 0.5, 0.6: |1 - 13|
        (2.0, 0.0, 4.5),  # the same as the second: |4.5 - 4|
        (1.9, 0.0, 2.0),  # near two that are equal: the newer one counts, |2 - 4.5|
    ):
        teacher.update({"speed": speed, "push": push}, episode_return)
    assert teacher.history.progress.tolist() == [0.0, 6.0, 3.0, 12.0, 0.5, 2.5]
    assert teacher.history.tasks[3].tolist() == [0.5, 0.6]


@pytest.mark.parametrize("dim", [1, 3])
def test_the_nearest_task_is_that_of_looking_at_all(dim: int) -> None:
    """Across three builds of the tree, with tasks on borders and corners again and again."""
    rng = np.random.default_rng(dim)
    history = TaskHistory(dim)
    for count in range(3 * INDEX_EVERY + 70):
        task = np.clip(rng.uniform(-0.4, 1.4, dim), 0, 1)
        if count:
            distances = np.linalg.norm(history.tasks - task, axis=1)
            newest = np.flatnonzero(distances == distances.min())[-1]
            assert history.nearest(task) == newest
        history.add(task, float(count))
    assert history.count == 3 * INDEX_EVERY + 70


def two_regions(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Progress in one corner of the square and nowhere else."""
    tasks = rng.random((250, 2))
    return tasks, np.where((tasks < 0.3).all(axis=1), 5.0 + rng.random(250), 0.01 * rng.random(250))


def test_akaike_chooses_among_fits_with_full_covariances() -> None:
    tasks, progress = two_regions(np.random.default_rng(0))
    mixture = fit_mixture(tasks, progress, COMPONENTS, np.random.default_rng(1))
    assert mixture is not None
    points, rng = np.column_stack([tasks, progress / progress.max()]), np.random.default_rng(1)
    fits = [GaussianMixture(k, random_state=int(rng.integers(2**32))).fit(points) for k in COMPONENTS]
    best = min(fits, key=lambda fit: fit.aic(points))
    np.testing.assert_array_equal(mixture.means, best.means_)
    np.testing.assert_array_equal(mixture.weights, best.weights_)
    assert mixture.covariances.shape == (len(best.means_), 3, 3)
    assert fit_mixture(tasks, progress, (3,), rng).means.shape == (3, 3)  # type: ignore[union-attr]


def test_a_fit_leaves_the_number_of_threads_alone() -> None:
    import torch

    torch.set_num_threads(2)
    tasks, progress = two_regions(np.random.default_rng(0))
    fit_mixture(tasks, progress, (2,), np.random.default_rng(1))
    assert torch.get_num_threads() == 2


def test_gaussians_are_drawn_in_proportion_to_their_progress() -> None:
    """Three to one, whatever their weights; of the uniform fifth some are close to a mean too.

    The Gaussians have a deviation of 0.01 in each parameter; within 0.05 of the mean is all of them.
    """
    teacher = AlpGmmTeacher(SPACE, 0)
    teacher.mixture = Mixture(
        weights=np.array([0.1, 0.9]),
        means=np.array([[0.2, 0.2, 0.75], [0.8, 0.8, 0.25]]),
        covariances=np.array([np.eye(3) * 1e-4] * 2),
    )
    units = np.array([SPACE.normalize(SPACE.vector(teacher.sample())) for _ in range(4000)])
    first, second = (np.linalg.norm(units - mean, axis=1) < 0.05 for mean in (0.2, 0.8))
    # Two standard deviations of such a share of 4000 are 0.016.
    assert first.mean() == pytest.approx(0.8 * 0.75 + 0.2 * np.pi * 0.05**2, abs=0.025)
    assert second.mean() == pytest.approx(0.8 * 0.25 + 0.2 * np.pi * 0.05**2, abs=0.025)


def test_covariances_of_the_parameters_are_followed() -> None:
    teacher = AlpGmmTeacher(SPACE, 0, AlpGmmConfig(uniform_share=0.0))
    covariance = np.array([[4e-3, 3e-3, 0.01], [3e-3, 4e-3, 0.0], [0.01, 0.0, 0.1]])
    teacher.mixture = Mixture(np.ones(1), np.array([[0.5, 0.5, 1.0]]), covariance[None])
    units = np.array([SPACE.normalize(SPACE.vector(teacher.sample())) for _ in range(4000)])
    assert np.cov(units.T) == pytest.approx(covariance[:2, :2], abs=4e-4)


def test_uniform_until_the_first_fit_and_then_where_progress_is() -> None:
    teacher = AlpGmmTeacher(SPACE, 2)
    random = make_teacher("random", SPACE, 2)
    for _ in range(250):
        task = teacher.sample()
        assert task == random.sample()
        assert teacher.mixture is None
        corner = task["speed"] < 0.6 and task["push"] < 0.3
        teacher.update(task, float(teacher.rng.random()) if corner else 0.0)
        random.rng.bit_generator.state = teacher.rng.bit_generator.state
    assert teacher.mixture is not None
    units = np.array([SPACE.normalize(SPACE.vector(teacher.sample())) for _ in range(500)])
    # Uniform tasks would come within 0.4 of the origin, the corner and its neighbours, 16 % of the time.
    assert (units < 0.4).all(axis=1).mean() > 0.6


def test_the_unit_of_the_return_does_not_matter() -> None:
    """A factor of 1024 changes no digit of what is divided by the largest."""
    chosen = []
    for factor in (1.0, 1024.0):
        teacher, grid = AlpGmmTeacher(ToyGrid.space, 7), ToyGrid(4, 6, 8)
        for _ in range(600):
            task = teacher.sample()
            teacher.update(task, factor * grid.episode(task))
        chosen.append(teacher.sample())
        assert teacher.mixture is not None
    assert chosen[0] == chosen[1]


def test_a_fit_sees_the_window_and_nothing_else() -> None:
    """Every 60 episodes the last 40, with the numbers that the teacher's own generator gives at that moment."""
    teacher, returns = AlpGmmTeacher(SPACE, 0, AlpGmmConfig(60, 40, (2, 3))), np.random.default_rng(1)
    for episode in range(1, 181):
        task, before, rng = teacher.sample(), teacher.mixture, np.random.default_rng()
        rng.bit_generator.state = teacher.rng.bit_generator.state
        teacher.update(task, float(returns.random()))
        if episode % 60:
            assert teacher.mixture is before
        else:
            expected = fit_mixture(teacher.history.tasks[-40:], teacher.history.progress[-40:], (2, 3), rng)
            assert expected is not None
            assert teacher.mixture is not None
            np.testing.assert_array_equal(teacher.mixture.means, expected.means)


def test_without_progress_tasks_stay_uniform() -> None:
    teacher = AlpGmmTeacher(SPACE, 0)
    for _ in range(500):
        teacher.update(teacher.sample(), 3.0)
    assert teacher.mixture is None
    pushes = np.array([teacher.sample()["push"] for _ in range(2000)])
    assert np.histogram(pushes, 4, (0, 1))[0] == pytest.approx([500] * 4, abs=80)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("distinct", "most"), [(1, 0), (2, 2), (3, 3), (40, 10)])
def test_fewer_distinct_points_than_components(distinct: int, most: int) -> None:
    tasks = np.tile(np.linspace(0, 1, distinct)[:, None], (120, 2))
    mixture = fit_mixture(tasks, np.ones(len(tasks)), COMPONENTS, np.random.default_rng(0))
    if most == 0:
        assert mixture is None
    else:
        assert mixture is not None
        assert 2 <= len(mixture.weights) <= most
        assert np.isfinite(mixture.covariances).all()
        np.linalg.cholesky(mixture.covariances)


@pytest.mark.filterwarnings("error")
def test_one_task_again_and_again() -> None:
    """Two points, the task with and without progress: the mixture stands, and samples stay in the range."""
    teacher = AlpGmmTeacher(SPACE, 0)
    for index in range(1100):
        teacher.update({"speed": 2.0, "push": 1.0}, float(index % 3 == 0))
    assert teacher.mixture is not None
    for _ in range(50):
        SPACE.vector(teacher.sample())


@pytest.mark.filterwarnings("error")
def test_one_episode_beyond_all_measure() -> None:
    teacher = AlpGmmTeacher(SPACE, 0)
    for index in range(250):
        teacher.update(teacher.sample(), -1e12 if index == 100 else float(index % 5))
    assert teacher.mixture is not None
    SPACE.vector(teacher.sample())


def test_a_toy_cell_opens_when_its_neighbour_is_mastered() -> None:
    grid = ToyGrid(cells=3, mastery=2, most=4)
    here, beside, across, far = ({"x": x, "y": y} for x, y in ((0.1, 0.1), (0.5, 0.1), (0.4, 0.4), (1.0, 1.0)))
    assert [grid.episode(task) for task in (beside, across, far)] == [0.0, 0.0, 0.0]
    assert [grid.episode(here) for _ in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert grid.mastered == 1
    assert [grid.episode(task) for task in (beside, across, far)] == [0.25, 0.25, 0.0]
    assert [grid.episode(task) for task in (across, far)] == [0.5, 0.25]
    assert grid.mastered == 2


@pytest.mark.parametrize("seed", range(3))
def test_alp_gmm_masters_cells_that_random_does_not(seed: int) -> None:
    """100 cells, each of 15 practices: uniform tasks hit an open cell 40 times in 4000 episodes."""
    mastered = {
        name: play(make_teacher(name, ToyGrid.space, seed), ToyGrid(10, 15, 20), 4000, 1000)
        for name in ("random", "alp-gmm")
    }
    assert mastered["alp-gmm"][-1] > 2 * mastered["random"][-1]
    assert mastered["alp-gmm"][-1] >= 15
    assert mastered["random"][-1] >= 1  # it does learn

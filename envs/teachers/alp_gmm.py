"""ALP-GMM: practise where returns are changing.

Portelas, Colas, Hofmann, Oudeyer: Teacher algorithms for curriculum learning of Deep RL in continuously parameterized
environments, CoRL 2019, arXiv:1910.07224, Algorithm 1.

A task's **absolute learning progress** is the distance between its return and that of the nearest task played before.
It is high where the learner is getting better, and where it forgets; it is low where nothing is left to learn and where
all is still too hard. A Gaussian mixture over [parameters, progress] finds the regions.

What the paper leaves open is settled like this: of several equally near tasks the newest one counts; progress is
divided by the largest of the window before a fit, so that the unit of the return does not matter (full covariances
follow any scale, but the fit's regularisation and its start by k-means do not); a window without any progress gives no
mixture, and tasks are uniform until the next fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.teachers.teacher import ParameterSpace, Teacher

INDEX_EVERY = 500
"""Tasks between two builds of the search tree; the newest, fewer than these, are looked through one by one."""


@dataclass(frozen=True)
class AlpGmmConfig:
    """Settings, with the paper's values."""

    fit_every: int = 250
    """Episodes between two fits; as many at the start are uniform."""
    window: int = 250
    """Newest episodes that a fit sees."""
    components: tuple[int, ...] = tuple(range(2, 11))
    """Numbers of Gaussians to try; Akaike's criterion picks one."""
    uniform_share: float = 0.2
    """Of the tasks, drawn from the whole space: progress may begin anywhere."""


@dataclass(frozen=True)
class Mixture:
    """Gaussians over [parameters in [0, 1], progress over the largest of the window]."""

    weights: NDArray[np.float64]
    """Shape (k,)."""
    means: NDArray[np.float64]
    """Shape (k, dim + 1)."""
    covariances: NDArray[np.float64]
    """Shape (k, dim + 1, dim + 1)."""


class TaskHistory:
    """Every task so far with its return and learning progress.

    The nearest earlier task is found in a k-d tree of the bulk, built anew at every :data:`INDEX_EVERY` tasks, and
    among the few since. When it is built depends on nothing but the number of tasks: a restored history has the same
    tree as the saved one.

    Args:
        dim: numbers that make a task.
    """

    def __init__(self, dim: int):
        self.count = 0
        self._tasks = np.empty((INDEX_EVERY, dim))
        self._returns = np.empty(INDEX_EVERY)
        self._progress = np.empty(INDEX_EVERY)
        self._newest: dict[bytes, int] = {}
        self._tree: Any = None

    @property
    def tasks(self) -> NDArray[np.float64]:
        """In [0, 1], oldest first, shape (count, dim)."""
        return self._tasks[: self.count]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Shape (count,)."""
        return self._returns[: self.count]

    @property
    def progress(self) -> NDArray[np.float64]:
        """Absolute learning progress in the unit of the returns, shape (count,)."""
        return self._progress[: self.count]

    def add(self, task: NDArray[np.float64], episode_return: float) -> float:
        """Note a task, shape (dim,), and tell its absolute learning progress; the first one has none."""
        nearest = self.nearest(task)
        progress = 0.0 if nearest is None else abs(episode_return - float(self._returns[nearest]))
        if self.count == len(self._tasks):
            self._tasks, self._returns, self._progress = (
                np.concatenate([array, np.empty_like(array)])
                for array in (self._tasks, self._returns, self._progress)
            )  # fmt: skip
        self._tasks[self.count] = task
        self._returns[self.count] = episode_return
        self._progress[self.count] = progress
        self._newest[self._tasks[self.count].tobytes()] = self.count
        self.count += 1
        if self.count % INDEX_EVERY == 0:
            self._index()
        return progress

    def nearest(self, task: NDArray[np.float64]) -> int | None:
        """Position of the task nearest to ``task``, shape (dim,); where it was played more than once, the newest.

        None while there is none.
        """
        found, distance = None, np.inf
        if self._tree is not None:
            distance, found = self._tree.query(task)
        recent = self.tasks[self.count // INDEX_EVERY * INDEX_EVERY :]
        if len(recent):
            distances = np.sqrt(np.square(recent - task).sum(axis=1))
            closest = int(np.argmin(distances))
            if distances[closest] <= distance:
                found = self.count - len(recent) + closest
        # Samples beyond a range end on its border, so that corners come again and again.
        return None if found is None else self._newest[self._tasks[found].tobytes()]

    def _index(self) -> None:
        # Here and not above: the names of the teachers must be quick to list.
        from scipy.spatial import cKDTree

        self._tree = cKDTree(self.tasks[: self.count // INDEX_EVERY * INDEX_EVERY])

    def state_dict(self) -> dict[str, Any]:
        """The history as arrays; the tree is not among them."""
        return {"tasks": self.tasks.copy(), "returns": self.returns.copy(), "progress": self.progress.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the arrays back and build the tree that they had."""
        self.count = len(state["tasks"])
        # A length of 0 could not be doubled.
        room = np.empty(max(INDEX_EVERY - self.count, 0))
        self._tasks = np.concatenate([state["tasks"], np.empty((len(room), self._tasks.shape[1]))])
        self._returns = np.concatenate([state["returns"], room])
        self._progress = np.concatenate([state["progress"], room])
        self._newest = {task.tobytes(): position for position, task in enumerate(self.tasks)}
        self._tree = None
        if self.count >= INDEX_EVERY:
            self._index()


class AlpGmmTeacher(Teacher):
    """Draws a Gaussian in proportion to its mean learning progress, and the task from it; some tasks are uniform.

    A task beyond a range is put on its border.

    Args:
        space: of the tasks.
        seed: of the teacher's generator, which the fits draw from too.
        config: the settings.
    """

    name = "alp-gmm"

    def __init__(self, space: ParameterSpace, seed: int, config: AlpGmmConfig | None = None):
        super().__init__(space, seed)
        self.config = config or AlpGmmConfig()
        self.history = TaskHistory(space.dim)
        self.mixture: Mixture | None = None
        """Of the last fit; None before the first, and where there was nothing to fit."""

    def _draw(self) -> NDArray[np.float64]:
        mixture, dim = self.mixture, self.space.dim
        if mixture is None or self.rng.random() < self.config.uniform_share:
            return self.rng.random(dim)
        # Means of numbers from 0 to 1 of which one is 1: none is negative, and their sum is not 0.
        progress = mixture.means[:, dim]
        chosen = self.rng.choice(len(progress), p=progress / progress.sum())
        # Leaving out the last dimension of a Gaussian is leaving out its row and column.
        mean, covariance = mixture.means[chosen, :dim], mixture.covariances[chosen, :dim, :dim]
        return np.clip(self.rng.multivariate_normal(mean, covariance, method="cholesky"), 0.0, 1.0)

    def _learn(self, task: NDArray[np.float64], episode_return: float) -> None:
        self.history.add(task, episode_return)
        if self.episodes % self.config.fit_every == 0:
            tasks, progress = (rows[-self.config.window :] for rows in (self.history.tasks, self.history.progress))
            self.mixture = fit_mixture(tasks, progress, self.config.components, self.rng)

    def state_dict(self) -> dict[str, Any]:
        mixture = self.mixture
        return super().state_dict() | {
            "history": self.history.state_dict(),
            "mixture": None if mixture is None else {name: array.copy() for name, array in vars(mixture).items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.history.load_state_dict(state["history"])
        saved = state["mixture"]
        self.mixture = None if saved is None else Mixture(**{name: array.copy() for name, array in saved.items()})


def fit_mixture(
    tasks: NDArray[np.float64],
    progress: NDArray[np.float64],
    components: tuple[int, ...],
    rng: np.random.Generator,
) -> Mixture | None:
    """The mixture over [tasks, progress] that Akaike's information criterion prefers.

    Args:
        tasks: in [0, 1], shape (n, dim).
        progress: absolute learning progress, not negative, shape (n,).
        components: numbers of Gaussians to try; those above the number of distinct points are left out.
        rng: gives every fit its seed.

    Returns:
        None where there is nothing to prefer: no progress at all, or too few distinct points for any of
        ``components``.
    """
    most = progress.max()
    if most == 0.0:
        return None
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    points = np.column_stack([tasks, progress / most])
    distinct = len(np.unique(points, axis=0))
    best, best_criterion = None, np.inf
    # One thread: 250 points are no work to share, and where another program holds a core, scikit-learn's threads wait
    # for each other (at the lowest priority beside two trainings all fits took 2.6 s in place of 0.13 s).
    with threadpool_limits(1), warnings.catch_warnings(), np.errstate(under="ignore"):
        # A fit that has not settled after 100 rounds is judged like the others.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for count in components:
            if count > distinct:
                continue
            fit = GaussianMixture(count, covariance_type="full", random_state=int(rng.integers(2**32)))
            criterion = float(fit.fit(points).aic(points))
            if criterion < best_criterion:
                best, best_criterion = fit, criterion
    return None if best is None else Mixture(best.weights_, best.means_, best.covariances_)

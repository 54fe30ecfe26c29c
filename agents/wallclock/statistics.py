"""Mean, interquartile mean and bootstrap intervals, as Agarwal et al. ask for where there are few runs.

Agarwal, Schwarzer, Castro, Courville, Bellemare: Deep Reinforcement Learning at the Edge of the Statistical Precipice,
NeurIPS 2021, arXiv:2108.13264 (its library is rliable). Their stratified bootstrap draws runs anew within each task.
Here is one task, hence one stratum, whose runs are the seeds; a run's score is uncertain too, so its episodes are drawn
anew as well. With one seed only the episodes are left: such an interval knows nothing of what another seed would do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

DRAWS = 2_000


def iqm(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half of the last axis: a quarter of the values, rounded down, is cut at either end."""
    ordered, cut = np.sort(scores, axis=-1), scores.shape[-1] // 4
    return np.asarray(ordered[..., cut : scores.shape[-1] - cut].mean(axis=-1))


def mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the last axis."""
    return np.asarray(scores.mean(axis=-1))


def iqm_interval(returns: NDArray[np.float64], draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the IQM of ``returns`` (seeds x episodes), by ``draws`` bootstrap samples."""
    return _interval(iqm, returns, draws, seed)


def mean_interval(returns: NDArray[np.float64], draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """The same of the mean."""
    return _interval(mean, returns, draws, seed)


def _interval(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    returns: NDArray[np.float64],
    draws: int,
    seed: int,
) -> tuple[float, float]:
    seeds, episodes = returns.shape
    draw = np.random.default_rng(seed)
    which = draw.integers(seeds, size=(draws, seeds, 1))
    samples = returns[which, draw.integers(episodes, size=(draws, seeds, episodes))]
    low, high = np.percentile(statistic(samples.reshape(draws, -1)), (2.5, 97.5))
    return float(low), float(high)

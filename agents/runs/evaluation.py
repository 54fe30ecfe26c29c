"""Noise-free evaluation: return with an interval, episode length, and what the environment itself measures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.motor_watch import MotorWatch

Act = Callable[[NDArray[Any]], NDArray[Any]]
"""Observation -> action in the environment's action space."""

# Two-sided 95 % quantiles of Student's t by degrees of freedom (any statistics text).
_T95 = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
]  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """The outcome of ``n`` episodes; every figure is over episodes but for ``measures`` (mean over all steps)."""

    n: int
    return_mean: float
    return_std: float
    return_ci95: tuple[float, float] | None
    """95 % interval of the mean (Student's t); None for a single episode."""
    length_mean: float
    survived: int
    """Episodes that ended by the time limit and not by a fall."""
    forward_velocity_mean: float | None
    """Mean over all steps [m/s] where the environment reports ``x_velocity``."""
    measures: dict[str, float]
    """Mean over all steps of every number in ``info``; ``success``: share of episodes that end with ``is_success``."""
    returns: list[float]
    lengths: list[int]
    motors: dict[str, Any] | None = None
    """What the episodes, one after the other from cold, would have done to the motors
    (:func:`cadenza.envs.motor_metrics.summarize`); None without a motor."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def evaluate(
    act: Act,
    env: gym.Env,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> Evaluation:
    """Play ``episodes`` episodes; episode i resets with seed ``seed + i``, so any of them can be repeated.

    ``progress`` is called after each with its index and return.
    """
    returns, lengths, survived, steps = [], [], 0, 0
    sums: dict[str, float] = {}
    successes: list[bool] = []
    env = watch = MotorWatch(env)
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        total, length, over = 0.0, 0, False
        while not over:
            observation, reward, terminated, truncated, info = env.step(act(observation))
            total, length = total + float(reward), length + 1
            _add_measures(sums, info)
            over = terminated or truncated
        returns.append(total)
        lengths.append(length)
        if "is_success" in info:
            successes.append(bool(info["is_success"]))
        steps += length
        survived += bool(truncated and not terminated)
        if progress is not None:
            progress(episode, total)
    measures = {name: value / steps for name, value in sums.items()}
    if successes:
        measures["success"] = float(np.mean(successes))
    return dataclasses.replace(summarize(returns, lengths, survived, measures), motors=watch.summary())


def duration(seconds: float) -> str:
    """A time in words: ``48 s``, ``39 min``, ``3 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _add_measures(sums: dict[str, float], info: dict[str, Any]) -> None:
    for name, value in info.items():
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            sums[name] = sums.get(name, 0.0) + float(value)


def _t95(degrees: int) -> float:
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = 1.959964  # of the normal distribution; then the expansion in 1/degrees (Abramowitz & Stegun, 26.7.5)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / degrees + second / degrees**2


def summarize(returns: list[float], lengths: list[int], survived: int, measures: dict[str, float]) -> Evaluation:
    """Means, deviations and interval of finished episodes."""
    n = len(returns)
    mean, std = float(np.mean(returns)), float(np.std(returns, ddof=1)) if n > 1 else 0.0
    half = _t95(n - 1) * std / math.sqrt(n) if n > 1 else None
    return Evaluation(
        n=n,
        return_mean=mean,
        return_std=std,
        return_ci95=None if half is None else (mean - half, mean + half),
        length_mean=float(np.mean(lengths)),
        survived=survived,
        forward_velocity_mean=measures.get("x_velocity"),
        measures=measures,
        returns=returns,
        lengths=lengths,
    )

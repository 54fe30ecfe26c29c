"""The formulas of Symphony as pure functions (arXiv 2512.10477, sections on losses, actor and replay).

Nothing here owns parameters; everything works for float32 and float64 and on any device.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PHI = (1.0 + math.sqrt(5.0)) / 2.0

FLAT_VALUES = 1e-6
"""Below this spread the values of a reward group say nothing about the next actions (:func:`group_advantages`)."""

QT_FLOOR = 1e-6
"""Smallest |Q_T| the advantage is divided by. Q_T starts at 0, so the first updates would otherwise divide by it."""


def rehse(error: Tensor) -> Tensor:
    """Rectified Huber symmetric error, mean(e * tanh(e/2)): the critic's and the reward network's loss."""
    return (error * torch.tanh(error / 2)).mean()


def rehae(error: Tensor) -> Tensor:
    """Rectified Huber asymmetric error, mean(|e| * tanh(e/2)): keeps the sign; the advantage objective."""
    return (error.abs() * torch.tanh(error / 2)).mean()


def _log_odds(x: Tensor) -> Tensor:
    """Omega(x) = ln((1+x)/(1-x))."""
    return torch.log((1 + x) / (1 - x))


def swaddling(scale: Tensor, resistance: Tensor, reduction: str = "mean") -> Tensor:
    """H(s, b) = Omega(s^(1/b*)) + b * s ln s, reduced over action dimensions.

    Args:
        scale: S of shape (batch, actions), inside (0, 1).
        resistance: B of the same shape; the exponent sees it without gradient (b*).
        reduction: ``mean`` or ``sum`` over the action dimensions.

    Returns:
        One value per sample, shape (batch, 1).
    """
    terms = _log_odds(scale ** (1 / resistance.detach())) + resistance * scale * torch.log(scale)
    return terms.mean(-1, keepdim=True) if reduction == "mean" else terms.sum(-1, keepdim=True)


def resistance_loss(resistance: Tensor, reduction: str = "mean") -> Tensor:
    """Beta loss Omega(b^2), reduced like :func:`swaddling`; shape (batch, 1)."""
    terms = _log_odds(resistance * resistance)
    return terms.mean(-1, keepdim=True) if reduction == "mean" else terms.sum(-1, keepdim=True)


def temporal_advantage(next_value: Tensor, trace: Tensor, scale: str = "trace") -> Tensor:
    """(q' - Q_T)/|Q_T|, the normalised advantage; |Q_T| is floored at :data:`QT_FLOOR`.

    ``scale="spread"`` (ours) divides by the standard deviation of q' over the batch instead. Values grow to many times
    their spread while the agent learns to survive, and the paper's gradient shrinks with 1/|Q_T|; this one does not.
    """
    size = next_value.detach().std(correction=0) if scale == "spread" else trace.abs()
    return (next_value - trace) / size.clamp_min(QT_FLOOR)


def group_advantages(next_value: Tensor, trace: Tensor, scale: str = "spread") -> Tensor:
    """ReHAE of :func:`temporal_advantage`, each reward group by itself (ours): (batch, K) values -> (K,).

    A group whose values are all alike has advantage 0 and no gradient: dividing by their spread would turn rounding
    errors into a signal of full weight.
    """
    spread = next_value.detach().std(0, correction=0)
    size = spread if scale == "spread" else trace.abs()
    error = (next_value - trace) / size.clamp_min(QT_FLOOR)
    error = torch.where(spread < FLAT_VALUES, torch.zeros_like(error), error)
    return (error.abs() * torch.tanh(error / 2)).mean(0)


def group_shares(weights: NDArray[Any], pulls: NDArray[Any] | None) -> NDArray[Any]:
    """Factors of the groups' advantages in the actor's objective, (K,): w_k, times n/n_k where there are ``pulls`` n_k.

    n_k is the root mean square of the advantage's gradient for the action, n their weighted mean. So each group moves
    the action in proportion to its weight, however much of its value actions decide. A group without any pull has 0.
    """
    if pulls is None:
        return weights
    heard = weights * (pulls > 0)
    if not heard.any():
        return np.zeros_like(weights)
    mean = (heard * pulls).sum() / heard.sum()
    return np.asarray(heard * mean / np.where(pulls > 0, pulls, 1), dtype=weights.dtype)


def group_errors(error: Tensor) -> Tensor:
    """ReHSE of each reward group: errors (batch, K, Nq) -> (K,)."""
    return (error * torch.tanh(error / 2)).mean((0, 2))


def fading_weights(law: str, count: int) -> NDArray[np.float64]:
    """Fixed weights on the ascending critic values: they fade out the largest. Shape (count,), sum 1.

    ``tanh``: w_i = tanh((pi (1 - i/Nq))^e) (S3); ``bell``: w_i = exp(-(|1 - phi/2 - i/Nq| phi)^(2e)) (Saya).
    """
    x = np.arange(count, dtype=np.float64) / count
    weights = np.tanh((math.pi * (1 - x)) ** math.e) if law == "tanh" else _bell(np.abs(1 - PHI / 2 - x))
    return np.asarray(weights / weights.sum())


def age_probabilities(law: str, count: int) -> NDArray[np.float64]:
    """Replay probability by age index, 0 = oldest. Shape (count,), sum 1.

    ``tanh``: p_i ~ tanh((pi i/N)^e) (S3); ``bell``: p_i ~ exp(-(|i/N - phi/2| phi)^(2e)) (Saya); ``power_law``:
    p_i ~ i/N; ``uniform``.
    """
    x = np.arange(count, dtype=np.float64) / count
    if law == "tanh":
        weights = np.tanh((math.pi * x) ** math.e)
    elif law == "bell":
        weights = _bell(np.abs(x - PHI / 2))
    elif law == "power_law":
        weights = x.copy()
    else:
        weights = np.ones(count)
    # A law that gives the oldest slot no weight leaves nothing to draw from when there is a single slot.
    return weights / weights.sum() if weights.sum() > 0 else np.ones(count) / count


def _bell(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-((distance * PHI) ** (2 * math.e)))

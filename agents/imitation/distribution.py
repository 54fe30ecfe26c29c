"""A Gaussian squashed by tanh, and how likely a demonstrated action is under it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_LOG_2, _HALF_LOG_2PI = math.log(2.0), 0.5 * math.log(2.0 * math.pi)


def inverse_tanh(action: Tensor, clip: float) -> Tensor:
    """atanh of ``action`` clipped to [-clip, clip]; log1p keeps its digits where the action is small."""
    action = action.clamp(-clip, clip)
    return 0.5 * (torch.log1p(action) - torch.log1p(-action))


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor, clip: float) -> Tensor:
    """log p(action), summed over the last axis, of a = tanh(u), u ~ N(mean, exp(log_std)²).

    log p(a) = log N(u; mean, std) - log(1 - a²), and log(1 - a²) = 2 (log 2 - u - softplus(-2u)), which does not lose
    its digits where |a| nears 1.

    Args:
        mean: of u, (..., actions).
        log_std: of u, (..., actions).
        action: in [-1, 1], (..., actions).
        clip: see :func:`inverse_tanh`.
    """
    u = inverse_tanh(action, clip)
    gaussian = -0.5 * ((u - mean) * torch.exp(-log_std)) ** 2 - log_std - _HALF_LOG_2PI
    squash = 2.0 * (_LOG_2 - u - functional.softplus(-2.0 * u))
    return (gaussian - squash).sum(-1)

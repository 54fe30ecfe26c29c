"""PPO's loss with several advantages per sample, as pure functions. B samples, K reward groups.

PPO: Schulman et al., arXiv 1707.06347, eq. 7. With one group both surrogates are that equation.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

ClipMode = Literal["summed", "per_critic"]
Normalization = Literal["minibatch", "rollout", "running", "none"]

CLIP_MODES: tuple[str, ...] = ("summed", "per_critic")
NORMALIZATIONS: tuple[str, ...] = ("minibatch", "rollout", "running", "none")

_RATE_FACTOR, _RATE_RANGE = 1.5, (1e-5, 1e-2)


def summed_surrogate(advantages: Tensor, ratio: Tensor, clip_range: float) -> Tensor:
    """E min(A rho, A clip(rho)) with A = sum_k A_k, a scalar to maximise. advantages (B, K), ratio (B,)."""
    total = advantages.sum(1)
    return torch.min(total * ratio, total * torch.clamp(ratio, 1 - clip_range, 1 + clip_range)).mean()


def per_critic_surrogate(advantages: Tensor, ratio: Tensor, clip_range: float) -> Tensor:
    """sum_k E min(A_k rho, A_k clip(rho)): never above :func:`summed_surrogate`, so more careful. Shapes as there."""
    ratio = ratio[:, None]
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    return torch.min(advantages * ratio, advantages * clipped).mean(0).sum()


def minibatch_normalized(advantages: Tensor, weights: Tensor) -> Tensor:
    """w_k (A_k - mean)/(std + 1e-8) of each column of (B, K), as Stable-Baselines3 does for its one column."""
    if len(advantages) > 1:  # one sample has no deviation
        columns = [(column - column.mean()) / (column.std() + 1e-8) for column in advantages.unbind(1)]
        advantages = torch.stack(columns, 1)
    return advantages * weights


def value_loss(returns: Tensor, values: Tensor, std: Tensor | None) -> Tensor:
    """Sum over critics of the mean squared error of (B, K), each in units of its ``std`` (K,) where there is one."""
    losses = [functional.mse_loss(r, v) for r, v in zip(returns.unbind(1), values.unbind(1), strict=True)]
    stacked = torch.stack(losses)
    return stacked.sum() if std is None else (stacked / std.square()).sum()


def approximate_kl(log_prob: Tensor, old_log_prob: Tensor) -> float:
    """E[(rho - 1) - log rho], an unbiased estimate of KL(old || new) that is never negative (Schulman's blog, k3)."""
    with torch.no_grad():
        log_ratio = log_prob - old_log_prob
        return float(torch.mean((torch.exp(log_ratio) - 1) - log_ratio))


def adapted_rate(rate: float, kl: float, desired_kl: float) -> float:
    """The next learning rate: smaller after a step of twice the desired size, larger after one of half of it."""
    if kl > 2.0 * desired_kl:
        rate /= _RATE_FACTOR
    elif kl < 0.5 * desired_kl:
        rate *= _RATE_FACTOR
    return min(max(rate, _RATE_RANGE[0]), _RATE_RANGE[1])


def check_choice(kind: str, value: str, choices: tuple[str, ...]) -> str:
    """``value``, if it is one of ``choices``; else UnknownNameError with the nearest."""
    if not isinstance(value, str):
        raise CadenzaError(f"The {kind} must be one of {', '.join(choices)}, not {value!r}.")
    if value not in choices:
        raise unknown_name(kind, value, choices)
    return value

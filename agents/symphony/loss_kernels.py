"""Compiled passes of Symphony's loss and optimiser, each with its gradient; see :mod:`cadenza.agents.symphony.kernels`.

Formulas as in :mod:`cadenza.agents.symphony.losses`; arrays are float32 and C-contiguous.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_f = np.float32
_fast: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
_inline: Any = numba.njit(nogil=True, inline="always", error_model="numpy")
# Infinities and NaN must come out as such, so that a diverged update is seen.
_careful: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "arcp", "reassoc", "nsz"})


@_careful
def head_forward(raw: Array, noise: Array, std: float, epsilon: float, heads: Array, action: Array) -> None:
    """Actor's output to action: raw (batch, 3A), noise (batch, A) -> tanh(raw/2) in ``heads``, ``action`` (batch, A).

    The action is tanh(S A + N), S = |tanh(raw_s/2)| kept ``epsilon`` off 0 and 1, N = std * clip(noise, -1/std, 1/std);
    with ``std`` 0 the noise is N itself.
    """
    B, N = noise.shape
    low, high = _f(epsilon), _f(1) - _f(epsilon)
    size = _f(std)
    for i in range(B):
        for j in range(3 * N):
            heads[i, j] = np.tanh(_f(0.5) * raw[i, j])
        for j in range(N):
            scale = min(max(abs(heads[i, N + j]), low), high)
            n = noise[i, j]
            if size > 0:
                n = min(max(n * size, _f(-1)), _f(1))
            action[i, j] = np.tanh(scale * heads[i, j] + n)


@_careful
def head_backward(
    heads: Array, action: Array, grad_action: Array, epsilon: float, summed: bool,
    previous: Array, smoothness: float, grad_raw: Array, losses: Array,
) -> None:  # fmt: skip
    """Gradient of swaddling - advantage for the actor's output.

    Args:
        heads: of :func:`head_forward`, (batch, 3A).
        action: of :func:`head_forward`, (batch, A).
        grad_action: of the loss, (batch, A), strided as it comes.
        epsilon: of the clamp.
        summed: whether swaddling is summed over action dimensions rather than averaged.
        previous: the stored action before, (batch, A), strided as it comes.
        smoothness: weight of the mean squared change from ``previous``.
        grad_raw: (batch, 3A), written.
        losses: [swaddling loss, mean S, mean B, weighted smoothness loss], written.
    """
    B, N = action.shape
    pull = _f(2) * _f(smoothness) / _f(B * N)
    change = 0.0
    low, high = _f(epsilon), _f(1) - _f(epsilon)
    weight = _f(1) / _f(B) if summed else _f(1) / _f(B * N)
    loss, scales, resistances = 0.0, 0.0, 0.0
    for i in range(B):
        for j in range(N):
            a, raw_s, raw_b = heads[i, j], heads[i, N + j], heads[i, 2 * N + j]
            s, b = min(max(abs(raw_s), low), high), min(max(abs(raw_b), low), high)
            log_s = np.log(s)
            e = np.exp(log_s / b)
            loss += np.log((_f(1) + e) / (_f(1) - e)) + b * s * log_s + np.log((_f(1) + b * b) / (_f(1) - b * b))
            scales += s
            resistances += b
            grad_u = grad_action[i, j] * (_f(1) - action[i, j] * action[i, j])
            if smoothness > 0:
                calm = np.tanh(s * a)
                away = calm - previous[i, j]
                change += away * away
                grad_u += pull * away * (_f(1) - calm * calm)
            grad_s = grad_u * a + weight * (_f(2) / (_f(1) - e * e) * e / (b * s) + b * (log_s + _f(1)))
            # The exponent 1/b is taken without gradient.
            grad_b = weight * (s * log_s + _f(4) * b / (_f(1) - b * b * b * b))
            grad_raw[i, j] = grad_u * s * _f(0.5) * (_f(1) - a * a)
            # torch.clamp passes the gradient at its limits too; |x| has none at 0.
            grad_raw[i, N + j] = _f(0)
            if low <= abs(raw_s) <= high:
                grad_raw[i, N + j] = np.sign(raw_s) * grad_s * _f(0.5) * (_f(1) - raw_s * raw_s)
            grad_raw[i, 2 * N + j] = _f(0)
            if low <= abs(raw_b) <= high:
                grad_raw[i, 2 * N + j] = np.sign(raw_b) * grad_b * _f(0.5) * (_f(1) - raw_b * raw_b)
    losses[0] = weight * loss
    losses[1] = scales / (B * N)
    losses[2] = resistances / (B * N)
    losses[3] = _f(smoothness) * change / (B * N)


@_careful
def bootstrap(
    values: Array, order: NDArray[np.int64], weights: Array, rewards: Array, terminals: Array, previous: float,
    alpha: float, gamma: float, floor: float, shared_trace: bool, by_spread: bool,
    target: Array, grad_value: Array, sums: Array,
) -> None:  # fmt: skip
    """Target of the critics, and the gradient of -advantage.

    Args:
        values: of the target critics, (batch, Nq).
        order: columns of each row in ascending order of value.
        weights: of the sorted values, (Nq,).
        rewards: (batch,).
        terminals: 0 or 1, (batch,).
        previous: mean of Q_(T-1).
        alpha: share of the past in Q_T.
        gamma: discount.
        floor: least |Q_T| that is divided by.
        shared_trace: one Q_T for the batch (Saya) rather than one per sample.
        by_spread: divide the advantage by the standard deviation of the values rather than by |Q_T|.
        target: y, (batch,), written.
        grad_value: gradient of -advantage for q', (batch,), written.
        sums: [advantage, mean of Q_T], written.
    """
    B, N = values.shape
    mean: Any = _f(0)
    for i in range(B):
        value: Any = _f(0)
        for j in range(N):
            value += values[i, order[i, j]] * weights[j]
        grad_value[i] = value
        mean += value
        target[i] = rewards[i] + _f(gamma) * (_f(1) - terminals[i]) * value
    mean /= _f(B)
    square: Any = _f(0)
    for i in range(B):
        square += (grad_value[i] - mean) * (grad_value[i] - mean)
    spread = np.sqrt(square / _f(B))
    advantage, traces = 0.0, 0.0
    for i in range(B):
        value = grad_value[i]
        trace = _f(alpha) * _f(previous) + (_f(1) - _f(alpha)) * (mean if shared_trace else value)
        size = max(spread if by_spread else abs(trace), _f(floor))
        e = (value - trace) / size
        h = np.tanh(_f(0.5) * e)
        advantage += abs(e) * h
        traces += trace
        grad_value[i] = -(np.sign(e) * h + _f(0.5) * abs(e) * (_f(1) - h * h)) / (size * _f(B))
    sums[0] = advantage / B
    sums[1] = traces / B


@_fast
def scatter_value_gradient(order: NDArray[np.int64], weights: Array, grad_value: Array, grad_values: Array) -> None:
    """Gradient for the critics' own outputs (heads, batch, n): each gets the weight of its rank.

    ``order`` (batch, Nq) are the columns of the unsorted (batch, heads * n) in ascending order of value.
    """
    H, B, N = grad_values.shape
    for i in range(B):
        for rank in range(H * N):
            column = order[i, rank]
            grad_values[column // N, i, column % N] = grad_value[i] * weights[rank]


@_careful
def critic_loss(values: Array, target: Array, grad: Array) -> Any:
    """ReHSE(values - target) for values (heads, batch, n), target (batch,); its gradient in ``grad``."""
    H, B, N = values.shape
    share = _f(1) / _f(H * B * N)
    total = 0.0
    for k in range(H):
        for i in range(B):
            for j in range(N):
                e = values[k, i, j] - target[i]
                h = np.tanh(_f(0.5) * e)
                total += e * h
                grad[k, i, j] = share * (h + _f(0.5) * e * (_f(1) - h * h))
    return total * share


@_inline
def _moved(p: Any, g: Any, m: Any, v: Any, b1: Any, b2: Any, keep: Any, lr: Any, eps: Any) -> Any:
    """Parameter and both moments after one step of AdamW without bias correction."""
    m = b1 * m + (_f(1) - b1) * g
    v = b2 * v + (_f(1) - b2) * g * g
    return keep * p - lr * m / (np.sqrt(v) + eps), m, v


@_fast
def adamw(
    parameters: Any, gradients: Any, firsts: Any, seconds: Any,
    rate: float, beta1: float, beta2: float, decay: float, epsilon: float,
) -> None:  # fmt: skip
    """AdamW without bias correction, in place, on tuples of flat arrays."""
    b1, b2, keep, lr, eps = _f(beta1), _f(beta2), _f(1 - rate * decay), _f(rate), _f(epsilon)
    for part in range(len(parameters)):
        parameter, gradient, first, second = parameters[part], gradients[part], firsts[part], seconds[part]
        for i in range(parameter.size):
            p, m, v = _moved(parameter[i], gradient[i], first[i], second[i], b1, b2, keep, lr, eps)
            parameter[i], first[i], second[i] = p, m, v


@_fast
def adamw_with_target(
    parameters: Any, gradients: Any, firsts: Any, seconds: Any, targets: Any,
    rate: float, beta1: float, beta2: float, decay: float, epsilon: float, tau: float,
) -> None:  # fmt: skip
    """:func:`adamw`, and the Polyak step of ``targets`` towards the new parameters in the same sweep."""
    b1, b2, keep, lr, eps, t = _f(beta1), _f(beta2), _f(1 - rate * decay), _f(rate), _f(epsilon), _f(tau)
    for part in range(len(parameters)):
        parameter, gradient, first, second = parameters[part], gradients[part], firsts[part], seconds[part]
        target = targets[part]
        for i in range(parameter.size):
            p, m, v = _moved(parameter[i], gradient[i], first[i], second[i], b1, b2, keep, lr, eps)
            parameter[i], first[i], second[i] = p, m, v
            target[i] += t * (p - target[i])

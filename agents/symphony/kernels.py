"""Compiled element-wise passes of the feed-forward block: LayerNorm and ReSine in one sweep each.

Between the matrix products of an update, torch runs some two hundred small operations, each of which reads and writes
its arrays anew and takes Python's lock for its start. Numba compiles them into a handful of passes that hold no lock
(so that the two branches of an update really run beside each other). Where Numba is missing, on other devices and in
other precisions :mod:`cadenza.agents.symphony.block` does the same in torch.

All arrays are float32, C-contiguous and of shape (heads, batch, units), (heads, batch) or (heads, units). Sine, cosine
and tanh are polynomials, because a call of the mathematics library would keep the loop from being vectorised; their
errors (below 2e-7 for angles up to 1e6, which normalised inputs never reach; beyond 1e7 they mean nothing) are those of
float32 rounding. ``tests/agents/symphony/test_kernels.py`` holds everything to torch.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
_f = np.float32

# Without leave to re-associate: the argument reduction below is exact only in the order it is written.
_exact: Any = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nnan", "ninf", "nsz", "arcp"}
)
# With it, so that sums over a row are vectorised.
_fast: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
_inline: Any = numba.njit(nogil=True, inline="always", error_model="numpy")

_ROUND = _f(1.5 * 2**23)
"""Adding and subtracting it rounds a float32 of modest size to the nearest integer."""
_INVERSE_PI = _f(1 / np.pi)
# pi in three parts, the first two short enough that multiples of them are exact (Cody and Waite).
_PI_1, _PI_2, _PI_3 = _f(3.140625), _f(9.67502593994140625e-4), _f(1.509957990978376432e-7)
# Least-squares fits at Chebyshev nodes, r in [-pi/2, pi/2], z = r^2: sin r = r + r z P(z), cos r = 1 + z P(z).
_S0, _S1, _S2, _S3, _S4 = (
    _f(c) for c in (-1.6666667e-1, 8.3333328e-3, -1.9841087e-4, 2.7536482e-6, -2.4080558e-8)
)  # fmt: skip
_C0, _C1, _C2, _C3, _C4 = (
    _f(c) for c in (-0.5, 4.166666e-2, -1.3888652e-3, 2.4774601e-5, -2.6297940e-7)
)  # fmt: skip
# tanh u = u + u z P(z), |u| <= 1.1.
_T0, _T1, _T2, _T3, _T4, _T5, _T6, _T7 = (
    _f(c)
    for c in (
        -3.33333313e-1, 1.333327e-1, -5.3956881e-2, 2.1790715e-2,
        -8.5883662e-3, 3.0489631e-3, -8.1102306e-4, 1.1138317e-4,
    )
)  # fmt: skip


@_inline
def _sine_and_cosine(t: Any) -> Any:
    turns = (t * _INVERSE_PI + _ROUND) - _ROUND
    r = ((t - turns * _PI_1) - turns * _PI_2) - turns * _PI_3
    half = turns * _f(0.5)
    # -1 for an odd number of half turns.
    sign = _f(1) - _f(4) * abs(half - ((half + _ROUND) - _ROUND))
    z = r * r
    sine = r + r * z * (_S0 + z * (_S1 + z * (_S2 + z * (_S3 + z * _S4))))
    cosine = _f(1) + z * (_C0 + z * (_C1 + z * (_C2 + z * (_C3 + z * _C4))))
    return sign * sine, sign * cosine


@_inline
def _small_tanh(u: Any) -> Any:
    z = u * u
    return u + u * z * (_T0 + z * (_T1 + z * (_T2 + z * (_T3 + z * (_T4 + z * (_T5 + z * (_T6 + z * _T7)))))))


@_exact
def resine_forward(
    pre: Array, bias: Array, scale: Array, inverse: Array, y: Array, slope_at: Array, angle: Array
) -> None:
    """S3's ReSine of x = pre + bias: y, its derivative dy/dx, and the angle x/s.

    ``scale`` = s and ``inverse`` = 1/s of shape (heads, units); the gate's slope is 1.5.
    """
    H, B, N = pre.shape
    for k in range(H):
        for i in range(B):
            for j in range(N):
                t = (pre[k, i, j] + bias[k, j]) * inverse[k, j]
                sine, cosine = _sine_and_cosine(t)
                gate = _f(0.5) + _f(0.5) * _small_tanh(_f(0.75) * sine)
                y[k, i, j] = scale[k, j] * sine * gate
                slope_at[k, i, j] = cosine * gate * (_f(1) + _f(1.5) * sine * (_f(1) - gate))
                angle[k, i, j] = t


@_exact
def resine_width_forward(
    pre: Array, bias: Array, scale: Array, inverse: Array, slope: Array,
    y: Array, slope_at: Array, angle: Array, slope_gradient: Array,
) -> None:  # fmt: skip
    """ReSine with a learned gate: as :func:`resine_forward` with ``slope`` = c (heads, units), and dy/dc beside."""
    H, B, N = pre.shape
    for k in range(H):
        for i in range(B):
            for j in range(N):
                t = (pre[k, i, j] + bias[k, j]) * inverse[k, j]
                sine, cosine = _sine_and_cosine(t)
                # The slope has no bound: tanh of an eighth, then tanh 2u = 2 tanh u / (1 + tanh^2 u) three times.
                u = min(max(_f(0.5) * slope[k, j] * sine, _f(-8.8)), _f(8.8))
                h = _small_tanh(_f(0.125) * u)
                h = _f(2) * h / (_f(1) + h * h)
                h = _f(2) * h / (_f(1) + h * h)
                h = _f(2) * h / (_f(1) + h * h)
                gate = _f(0.5) + _f(0.5) * h
                turn = sine * (_f(1) - gate)
                value = scale[k, j] * sine * gate
                y[k, i, j] = value
                slope_at[k, i, j] = cosine * gate * (_f(1) + slope[k, j] * turn)
                angle[k, i, j] = t
                slope_gradient[k, i, j] = value * turn


@_fast
def resine_backward(
    grad: Array, y: Array, slope_at: Array, angle: Array, scale: Array,
    grad_pre: Array, grad_bias: Array, grad_raw_scale: Array,
) -> None:  # fmt: skip
    """Gradients of ``pre``, ``bias`` and of the raw scale, where s = sigmoid(raw).

    dy/ds = f - t f' with y = s f, and ds/draw = s (1 - s).
    """
    H, B, N = grad.shape
    for k in range(H):
        for j in range(N):
            grad_bias[k, j] = _f(0)
            grad_raw_scale[k, j] = _f(0)
        for i in range(B):
            for j in range(N):
                g = grad[k, i, j]
                p = g * slope_at[k, i, j]
                grad_pre[k, i, j] = p
                grad_bias[k, j] += p
                grad_raw_scale[k, j] += g * y[k, i, j] - scale[k, j] * (p * angle[k, i, j])
        for j in range(N):
            grad_raw_scale[k, j] *= _f(1) - scale[k, j]


@_fast
def weighted_column_sum(grad: Array, factor: Array, total: Array) -> None:
    """total[k, j] = sum over the batch of grad * factor."""
    H, B, N = grad.shape
    for k in range(H):
        for j in range(N):
            total[k, j] = _f(0)
        for i in range(B):
            for j in range(N):
                total[k, j] += grad[k, i, j] * factor[k, i, j]


@_fast
def norm_forward(
    pre: Array, bias: Array, weight: Array, shift: Array, epsilon: float, y: Array, normed: Array, rstd: Array
) -> None:
    """LayerNorm of pre + bias over the units: normed, 1/std (heads, batch), and y = normed * weight + shift."""
    H, B, N = pre.shape
    for k in range(H):
        for i in range(B):
            total = _f(0)
            for j in range(N):
                total += pre[k, i, j] + bias[k, j]
            mean = total / _f(N)
            square = _f(0)
            for j in range(N):
                centred = pre[k, i, j] + bias[k, j] - mean
                square += centred * centred
            r = _f(1) / np.sqrt(square / _f(N) + _f(epsilon))
            rstd[k, i] = r
            for j in range(N):
                value = (pre[k, i, j] + bias[k, j] - mean) * r
                normed[k, i, j] = value
                y[k, i, j] = value * weight[k, j] + shift[k, j]


@_fast
def norm_backward(
    grad: Array, normed: Array, rstd: Array, weight: Array,
    grad_pre: Array, grad_weight: Array, grad_shift: Array, grad_bias: Array,
) -> None:  # fmt: skip
    """Gradients of ``pre`` (and of the linear bias before it), weight and shift of :func:`norm_forward`."""
    H, B, N = grad.shape
    for k in range(H):
        for j in range(N):
            grad_weight[k, j] = _f(0)
            grad_shift[k, j] = _f(0)
            grad_bias[k, j] = _f(0)
        for i in range(B):
            mean, along = _f(0), _f(0)
            for j in range(N):
                g = grad[k, i, j]
                n = normed[k, i, j]
                grad_weight[k, j] += g * n
                grad_shift[k, j] += g
                g *= weight[k, j]
                mean += g
                along += g * n
            mean /= _f(N)
            along /= _f(N)
            for j in range(N):
                p = rstd[k, i] * (grad[k, i, j] * weight[k, j] - mean - normed[k, i, j] * along)
                grad_pre[k, i, j] = p
                grad_bias[k, j] += p


@_fast
def scale_of(raw: Array, scale: Array, inverse: Array) -> None:
    """s = sigmoid(raw) and 1/s, both (heads, units)."""
    H, N = raw.shape
    for k in range(H):
        for j in range(N):
            e = np.exp(-raw[k, j])
            inverse[k, j] = _f(1) + e
            scale[k, j] = _f(1) / (_f(1) + e)


@_fast
def column_sum(x: Array, total: Array) -> None:
    """total[k, j] = sum over the batch of x."""
    H, B, N = x.shape
    for k in range(H):
        for j in range(N):
            total[k, j] = _f(0)
        for i in range(B):
            for j in range(N):
                total[k, j] += x[k, i, j]


@_fast
def head_sum(x: Array, total: Array) -> None:
    """total[i, j] = sum over the heads of x."""
    H, B, N = x.shape
    for i in range(B):
        for j in range(N):
            value = _f(0)
            for k in range(H):
                value += x[k, i, j]
            total[i, j] = value

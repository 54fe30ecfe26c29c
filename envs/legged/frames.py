"""Rotations over arrays of quaternions, written out by component so that one row gives the same bits as many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DOWN = np.array([0.0, 0.0, -1.0])
"""Of gravity, in the world."""


def rotate(quaternion: Array, vector: Array) -> Array:
    """From the body's axes to the world's.

    Args:
        quaternion: wxyz, of length 1, shape (n, 4).
        vector: shape (n, 3) or (3,).

    Returns:
        Shape (n, 3).
    """
    return _turn(quaternion, vector, 1.0)


def rotate_back(quaternion: Array, vector: Array) -> Array:
    """From the world's axes to the body's; shapes as in :func:`rotate`."""
    return _turn(quaternion, vector, -1.0)


def _turn(quaternion: Array, vector: Array, direction: float) -> Array:
    w = quaternion[:, 0]
    x, y, z = (direction * quaternion[:, index] for index in (1, 2, 3))
    a, b, c = vector[..., 0], vector[..., 1], vector[..., 2]
    # v + 2 w (q x v) + 2 q x (q x v)
    u0, u1, u2 = y * c - z * b, z * a - x * c, x * b - y * a
    out = np.empty((len(quaternion), 3))
    out[:, 0] = a + 2.0 * (w * u0 + y * u2 - z * u1)
    out[:, 1] = b + 2.0 * (w * u1 + z * u0 - x * u2)
    out[:, 2] = c + 2.0 * (w * u2 + x * u1 - y * u0)
    return out


def yaw(quaternion: Array) -> Array:
    """Heading of the body's x axis, rad in (-pi, pi], shape (n,)."""
    w, x, y, z = (quaternion[:, index] for index in range(4))
    return np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def into_heading(angle: Array, vector: Array) -> Array:
    """World components of (n, 3) vectors as forward, left and up of a body with that heading (n,)."""
    cos, sin = np.cos(angle), np.sin(angle)
    out = np.empty_like(vector)
    out[:, 0] = cos * vector[:, 0] + sin * vector[:, 1]
    out[:, 1] = cos * vector[:, 1] - sin * vector[:, 0]
    out[:, 2] = vector[:, 2]
    return out


def multiply(first: Array, second: Array) -> Array:
    """Hamilton product of wxyz quaternions, shapes (n, 4) or (4,): ``second`` is done first."""
    w1, x1, y1, z1 = (first[..., index] for index in range(4))
    w2, x2, y2, z2 = (second[..., index] for index in range(4))
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )

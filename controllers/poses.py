"""Poses of a hand: differences between two, and steps from one. Quaternions are wxyz; q and -q are one rotation.

Everything works on any number of poses at once: the last axis is the vector. All vectors are along the world's axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_TINY = 1e-12


def checked(name: str, value: ArrayLike, *shape: int) -> Array:
    """The value as an array of floats whose last axes are ``shape``.

    Raises:
        ValueError: another shape, or a number that is not finite.
    """
    array = np.asarray(value, dtype=np.float64)
    if array.shape[-len(shape) :] != shape:
        raise ValueError(f"{name} has shape {array.shape}; its last axes must be {shape}.")
    return finite(name, array)


def finite(name: str, value: ArrayLike) -> Array:
    """The value as an array of floats of any shape; ValueError where a number is not finite."""
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a number that is not finite: {array}.")
    return array


def unit_quaternion(name: str, value: ArrayLike) -> Array:
    """The quaternion (..., 4) with length 1.

    Raises:
        ValueError: another shape, not finite, or a length that is more than 10 % away from 1: not a rotation.
    """
    array = checked(name, value, 4)
    size = length(array)
    if (np.abs(size - 1.0) > 0.1).any():
        raise ValueError(f"{name} is not a unit quaternion: its length is {size.ravel()}.")
    return array / size


def multiply(left: Array, right: Array) -> Array:
    """Product of quaternions (..., 4): first ``right``, then ``left``."""
    w, x, y, z = (left[..., i] for i in range(4))
    a, b, c, d = (right[..., i] for i in range(4))
    return np.stack(
        (
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ),
        axis=-1,
    )


def rotation_difference(target: Array, current: Array) -> Array:
    """Rotation vector (..., 3), rad, that takes ``current`` to ``target`` the short way: at most pi long."""
    conjugate = current * np.array([1.0, -1.0, -1.0, -1.0])
    turn = multiply(target, conjugate)
    # Of the two quaternions of this rotation, the one with a positive scalar part turns by less than pi.
    turn = np.where(turn[..., :1] < 0.0, -turn, turn)
    sine = length(turn[..., 1:])
    angle = 2.0 * np.arctan2(sine, turn[..., :1])
    # Near no rotation, angle / sine tends to 2.
    return turn[..., 1:] * np.where(sine > _TINY, angle / np.maximum(sine, _TINY), 2.0)


def rotated(quaternion: Array, rotation: Array) -> Array:
    """The quaternion (..., 4) turned by a rotation vector (..., 3), rad, about the world's axes; of length 1."""
    angle = length(rotation)
    half = 0.5 * angle
    factor = np.where(angle > _TINY, np.sin(half) / np.maximum(angle, _TINY), 0.5)
    turned = multiply(np.concatenate((np.cos(half), factor * rotation), axis=-1), quaternion)
    return turned / length(turned)


def pose_difference(target: tuple[Array, Array], current: tuple[Array, Array]) -> Array:
    """Translation in m, then rotation vector in rad, from one pose to another, (..., 6); a pose is (position, wxyz)."""
    return np.concatenate((target[0] - current[0], rotation_difference(target[1], current[1])), axis=-1)


def shortened(vector: Array, most: float | Array) -> Array:
    """The vectors (..., k), no longer than ``most``; their directions stay."""
    return vector * np.minimum(1.0, most / np.maximum(length(vector), _TINY))


def length(vector: Array) -> Array:
    """(..., k) -> (..., 1). Added up entry by entry: numpy's own sum rounds differently for one row and for many."""
    total = vector[..., :1] * vector[..., :1]
    for entry in range(1, vector.shape[-1]):
        total = total + vector[..., entry : entry + 1] * vector[..., entry : entry + 1]
    return np.sqrt(total)


def apply(matrix: Array, vector: Array) -> Array:
    """Matrices (..., a, b) times vectors (..., b), each as its own product: the same bits for one and for many."""
    stack = np.ascontiguousarray(matrix.reshape(-1, *matrix.shape[-2:]))
    columns = np.ascontiguousarray(vector.reshape(-1, vector.shape[-1], 1))
    return np.matmul(stack, columns).reshape(*vector.shape[:-1], matrix.shape[-2])

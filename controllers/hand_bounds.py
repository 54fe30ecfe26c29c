"""How far a hand's target may go: a box over the table, and a largest turn away from a rotation.

Without bounds a policy that explores leads the hand away from everything it could learn from, and into poses from which
the arm does not come back. Other stacks bound their controllers too (robosuite's ``position_limits`` and
``orientation_limits``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cadenza.controllers.poses import Array, checked, length, rotated, rotation_difference, shortened, unit_quaternion


@dataclass(frozen=True)
class HandBounds:
    """Bounds of target poses, of any number of hands at once.

    Raises:
        ValueError: a box with nothing in it, a turn that is not positive, or a quaternion that is none.
    """

    low: Array
    """Least x, y, z, m."""
    high: Array
    """Most of them."""
    quaternion: Array
    """The rotation, wxyz, ..."""
    turn_rad: float
    """... from which a target turns away by no more than this."""

    def __post_init__(self) -> None:
        low, high = checked("low", self.low, 3), checked("high", self.high, 3)
        unit_quaternion("the rotation between the bounds", self.quaternion)
        if not ((low < high).all() and self.turn_rad > 0):
            raise ValueError(f"Bounds need low < high and a positive turn, not {low}, {high} and {self.turn_rad}.")

    def within(self, position: Array, quaternion: Array) -> tuple[Array, Array, Array]:
        """The nearest pose inside, of positions (..., 3), m, and quaternions wxyz (..., 4), and what was not held back.

        The third is (..., 6): 1 for each coordinate that was inside and, three times, for the rotation; 0 otherwise.
        """
        middle = np.broadcast_to(np.asarray(self.quaternion, dtype=np.float64), quaternion.shape)
        turn = rotation_difference(quaternion, middle)
        place = np.clip(position, self.low, self.high)
        free = np.concatenate((place == position, np.repeat(length(turn) <= self.turn_rad, 3, axis=-1)), axis=-1)
        return place, rotated(middle, shortened(turn, self.turn_rad)), free.astype(np.float64)

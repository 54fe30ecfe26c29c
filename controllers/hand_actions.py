"""What an action of a policy means to a hand: a small change of its pose, and the gripper open or closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cadenza.controllers.poses import Array, checked, pose_difference, rotated, shortened


@dataclass(frozen=True)
class HandDelta:
    """An action in [-1, 1]^7 as a change of the hand's pose and a gripper command.

    ======  ==================================================================
    0 to 2  translation along the world's axes, times ``position_m``
    3 to 5  rotation vector about the world's axes, times ``rotation_rad``
    6       gripper: more than 0 closes it (:mod:`cadenza.controllers.gripper`)
    ======  ==================================================================

    4 cm and 0.2 rad at 20 Hz are at most 0.8 m/s and 4 rad/s along one axis (docs/controllers.md).
    """

    position_m: float = 0.04
    rotation_rad: float = 0.2
    rate_hz: float = 20.0
    leash_m: float = 0.08
    """The target stays within this distance of the hand: an arm that is held back is not torn away later."""
    leash_rad: float = 0.4
    """The same for its rotation."""

    size = 7

    def __post_init__(self) -> None:
        for name in ("position_m", "rotation_rad", "rate_hz", "leash_m", "leash_rad"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}.")

    def delta(self, action: ArrayLike) -> Array:
        """Metres, then radians, (..., 6), of actions (..., 7); what lies outside [-1, 1] is clipped.

        Raises:
            ValueError: another size, or a number that is not finite.
        """
        clipped = np.clip(checked("the action", action, self.size), -1.0, 1.0)
        return clipped[..., :6] * np.repeat((self.position_m, self.rotation_rad), 3)

    def twist(self, action: ArrayLike) -> Array:
        """The velocity that carries the delta out within one period, m/s and rad/s, (..., 6)."""
        return self.delta(action) * self.rate_hz

    def moved(self, target: tuple[Array, Array], hand: tuple[Array, Array], action: ArrayLike) -> tuple[Array, Array]:
        """The next target pose: the last one moved by the action, kept on its leash from where the hand is.

        Args:
            target: position (..., 3) and quaternion wxyz (..., 4) of the last target.
            hand: the same of the hand as measured.
            action: (..., 7).
        """
        delta = self.delta(action)
        position, quaternion = target[0] + delta[..., :3], rotated(target[1], delta[..., 3:])
        away = pose_difference((position, quaternion), hand)
        return (
            hand[0] + shortened(away[..., :3], self.leash_m),
            rotated(hand[1], shortened(away[..., 3:], self.leash_rad)),
        )

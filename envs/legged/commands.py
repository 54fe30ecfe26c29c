"""Velocity commands: what a user's joystick would say, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class CommandRanges:
    """Where commands are drawn from, evenly; a range of equal ends fixes the value."""

    forward_m_s: Range
    left_m_s: Range
    yaw_rad_s: Range
    zero_share: float = 0.1
    """Of commands that are all zero: stand still."""

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """One command, shape (3,)."""
        low, high = np.array([self.forward_m_s, self.left_m_s, self.yaw_rad_s]).T
        zero = random.random() < self.zero_share
        command = random.uniform(low, high)
        return np.zeros(3) if zero else command

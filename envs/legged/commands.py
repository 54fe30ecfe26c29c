"""Velocity commands: what a user's joystick would say, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cadenza.envs.errors import CadenzaError

Range = tuple[float, float]
AXES = ("forward_m_s", "left_m_s", "yaw_rad_s")
"""Names of a command's three numbers, which are also the settings with their ranges."""
_ROUNDING = 1e-9


class CommandError(CadenzaError, ValueError):
    """A velocity command that a task does not take."""


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

    def checked(self, command: Sequence[float], task: str) -> np.ndarray:
        """A command that somebody gives, shape (3,), if it could have been drawn; zero always could.

        Args:
            command: forward and left, m/s, and turning to the left, rad/s.
            task: what it is given to, for the error.

        Raises:
            CommandError: not three finite numbers, or one beyond its range.
        """
        given = as_command(command)
        if not given.any():
            return given
        for name, value, (low, high) in zip(AXES, given, self._all(), strict=True):
            if not low - _ROUNDING <= value <= high + _ROUNDING:
                ranges = ", ".join(f"{a} {b[0]:g} to {b[1]:g}" for a, b in zip(AXES, self._all(), strict=True))
                raise CommandError(
                    f"{name} = {value:g} lies beyond what {task} is trained for: {ranges}.",
                    f"Ask for less, or widen the range by a setting of the environment: "
                    f"{name}=({min(low, value):g}, {max(high, value):g}) in make_env or --env-set.",
                )
        return given

    def _all(self) -> tuple[Range, Range, Range]:
        return self.forward_m_s, self.left_m_s, self.yaw_rad_s


def as_command(command: Sequence[float]) -> np.ndarray:
    """Three finite numbers as an array.

    Raises:
        CommandError: it is something else.
    """
    wanted = "A command is three finite numbers: forward and left, m/s, and turning to the left, rad/s;"
    try:
        given = np.asarray(command, dtype=np.float64)
    except (TypeError, ValueError):
        raise CommandError(f"{wanted} got {command!r}.", "For example (0.2, 0, 0).") from None
    if given.shape != (3,) or not np.isfinite(given).all():
        raise CommandError(f"{wanted} got {command!r}.", "For example (0.2, 0, 0).")
    return given

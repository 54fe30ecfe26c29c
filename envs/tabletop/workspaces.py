"""The table before each arm, as data: where it stands, what lies on it, where things start and what can be reached.

The table's top is the plane z = 0, on which the arm's base stands; x points away from it. Lengths in m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cadenza.robots.names import unknown_name

Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class Workspace:
    """A table and a cube for one arm."""

    table_center: tuple[float, float]
    table_half: tuple[float, float]
    cube_half: float
    cube_kg: float
    center: tuple[float, float]
    """Around which cubes and goals are drawn."""
    start_noise: float
    """Half width of the square in which Play's cube starts, as far as it is within reach."""
    goal_noise: float
    """The same of the cubes and goals of Push and PickPlace."""
    hand_noise: float
    """Half width of the square in which Reach's goals lie."""
    radius: tuple[float, float]
    """Horizontal distance from the base's axis at which the arm can work with its hand down, least and most."""
    height: tuple[float, float]
    """Of goals of the hand above the table."""
    carry: float
    """Highest goal of a carried cube."""
    threshold: float
    """Distance from the goal that counts as success."""
    fingers: float | None = None
    """Value of the fingers' joints at the start, m or rad; None: open."""

    hand_turn: float = 0.8
    """Largest turn of a bounded hand away from its rotation at home, rad: a cube is gripped at a yaw of pi / 4."""

    @property
    def rest(self) -> float:
        """Height of the cube's centre when it lies on the table."""
        return self.cube_half

    def on_table(self, x: float, y: float, side: float = 0.0) -> bool:
        """Whether a point lies over the table, ``side`` or more from its edge."""
        return all(
            abs(value - middle) <= half - side
            for value, middle, half in zip((x, y), self.table_center, self.table_half, strict=True)
        )

    def within_reach(self, point: Sequence[float]) -> bool:
        """Whether a hand can come to a point."""
        x, y, z = point
        return self.radius[0] <= math.hypot(x, y) <= self.radius[1] and 0.0 <= z <= self.height[1] and x > 0


WORKSPACES: dict[str, Workspace] = {
    "panda": Workspace(
        table_center=(0.35, 0.0), table_half=(0.6, 0.7), cube_half=0.025, cube_kg=0.06, center=(0.5, 0.0),
        start_noise=0.25, goal_noise=0.15, hand_noise=0.2, radius=(0.28, 0.72), height=(0.03, 0.4), carry=0.25,
        threshold=0.05, fingers=0.035,
    ),
    "ur5e": Workspace(
        table_center=(0.35, 0.0), table_half=(0.6, 0.7), cube_half=0.025, cube_kg=0.06, center=(0.5, 0.0),
        start_noise=0.25, goal_noise=0.15, hand_noise=0.2, radius=(0.28, 0.75), height=(0.03, 0.4), carry=0.25,
        threshold=0.05,
    ),
    "so101": Workspace(
        table_center=(0.15, 0.0), table_half=(0.3, 0.35), cube_half=0.0125, cube_kg=0.015, center=(0.25, 0.0),
        start_noise=0.1, goal_noise=0.07, hand_noise=0.08, radius=(0.15, 0.33), height=(0.02, 0.2), carry=0.1,
        threshold=0.025,
    ),
}  # fmt: skip
"""By the arm's name."""


def workspace(arm: str) -> Workspace:
    """The table of an arm.

    Raises:
        UnknownNameError: there is none for it.
    """
    if arm not in WORKSPACES:
        raise unknown_name("arm with a table", arm, WORKSPACES)
    return WORKSPACES[arm]

"""When a cable is routed: pure functions of the cable's nodes and a clip.

Seated: where the cable crosses the clip's mid-plane, its centre line is between the walls and below the lip. Routed:
seated for half a second on end. A cable may cross the plane more than once; one seated crossing is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.cable.layouts import ClipPose
from cadenza.envs.cable.model import WALL_HEIGHT_M

Array = NDArray[np.float64]

HELD_S = 0.5
"""A cable that is seated for so long is routed."""


@dataclass(frozen=True)
class Crossing:
    """Where the cable's centre line goes through a clip's mid-plane."""

    across_m: float
    """From the middle of the gap along v."""
    height_m: float
    """Over the table."""
    arc_m: float
    """Along the cable, from the anchor."""
    forward: bool
    """Whether the cable goes along +u there."""


def crossings(nodes: Array, clip: ClipPose) -> list[Crossing]:
    """Every crossing of the plane u = 0, in the order of the cable.

    Args:
        nodes: ends of the segments, from the anchor on, (n + 1, 3), m.
        clip: gives the plane.
    """
    away = nodes - clip.position
    along = away @ clip.u
    lengths = np.linalg.norm(np.diff(nodes, axis=0), axis=1)
    starts = np.concatenate(((0.0,), np.cumsum(lengths)))
    found = []
    # A node on the plane belongs to the segment that leaves it, so that no crossing counts twice.
    for index in np.flatnonzero((along[:-1] >= 0.0) != (along[1:] >= 0.0)):
        before, after = along[index], along[index + 1]
        share = before / (before - after)
        point = away[index] + share * (away[index + 1] - away[index])
        arc = starts[index] + share * lengths[index]
        found.append(Crossing(float(point @ clip.v), float(point[2]), float(arc), bool(after > before)))
    return found


def is_in_gap(crossing: Crossing, gap_m: float) -> bool:
    """Whether the centre line is between the walls and below the lip."""
    return abs(crossing.across_m) <= gap_m / 2 and 0.0 <= crossing.height_m <= WALL_HEIGHT_M


def seated_crossing(nodes: Array, clip: ClipPose, gap_m: float) -> Crossing | None:
    """The first crossing inside the gap, or None."""
    return next((found for found in crossings(nodes, clip) if is_in_gap(found, gap_m)), None)


class RoutedTest:
    """Counts for how long each clip has been seated.

    Args:
        clips: how many.
        dt_s: between two calls of :meth:`update`.
    """

    def __init__(self, clips: int, dt_s: float) -> None:
        self._needed = round(HELD_S / dt_s)
        self.steps = [0] * clips
        """How many calls in a row found each clip seated."""

    def update(self, seated: list[bool]) -> None:
        """Count one more moment."""
        self.steps = [count + 1 if now else 0 for count, now in zip(self.steps, seated, strict=True)]

    @property
    def routed(self) -> list[bool]:
        """Of each clip: seated now and half a second ago, and at every moment between that was looked at."""
        return [count > self._needed for count in self.steps]

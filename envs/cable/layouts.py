"""Where the clips stand: named distributions over a row of three places, or poses given one by one.

A clip's frame: its origin on the table in the middle between the walls; ``u`` along the channel, the way the cable
goes; ``v`` across it; z up. Yaw 0 turns ``u`` to the world's +y. The nominal row runs along +y, from the anchor away.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

Array = NDArray[np.float64]

ROW_X_M = 0.45
"""The nominal row, before the arm's base."""
PLACES_Y_M = (-0.13, 0.0, 0.13)
"""Of the nominal clips, in the order in which the cable is routed."""
MOST_OFFSET_M = 0.05
MOST_YAW_RAD = math.radians(30.0)
Y_JITTER_M = 0.01
LEAST_DISTANCE_M = 0.08
"""Between two clips, so that a hand fits between them."""
_TRAIN_SHARE = 0.8
"""Of the range of offset and yaw that ``train`` draws from; ``held_out`` draws from the rim that is left."""


@dataclass(frozen=True)
class ClipPose:
    """Where one clip stands."""

    x: float
    """m, world."""
    y: float
    yaw: float = 0.0
    """rad; 0: the channel runs along +y."""

    @property
    def u(self) -> Array:
        """Along the channel, shape (3,)."""
        return np.array([-math.sin(self.yaw), math.cos(self.yaw), 0.0])

    @property
    def v(self) -> Array:
        """Across the channel, shape (3,); u, v and z are no right-handed frame: v, u, z are."""
        return np.array([math.cos(self.yaw), math.sin(self.yaw), 0.0])

    @property
    def position(self) -> Array:
        """The origin, on the table, shape (3,)."""
        return np.array([self.x, self.y, 0.0])


Layout: TypeAlias = tuple[ClipPose, ...]
LayoutChoice: TypeAlias = str | Sequence[ClipPose | Sequence[float]]
"""A name in :data:`LAYOUTS`, or one (x, y, yaw) a clip."""


def _nominal(count: int, generator: np.random.Generator) -> Layout:
    return tuple(ClipPose(ROW_X_M, y) for y in PLACES_Y_M[:count])


def _within(share: float) -> Callable[[np.random.Generator], tuple[float, float]]:
    def draw(generator: np.random.Generator) -> tuple[float, float]:
        offset, yaw = generator.uniform(-share, share, 2)
        return float(offset), float(yaw)

    return draw


def _rim(generator: np.random.Generator) -> tuple[float, float]:
    while True:
        offset, yaw = _within(1.0)(generator)
        if max(abs(offset), abs(yaw)) > _TRAIN_SHARE:
            return offset, yaw


def _row(draw: Callable[[np.random.Generator], tuple[float, float]]) -> Callable[[int, np.random.Generator], Layout]:
    def layout(count: int, generator: np.random.Generator) -> Layout:
        clips = []
        for y in PLACES_Y_M[:count]:
            offset, yaw = draw(generator)
            shift = generator.uniform(-Y_JITTER_M, Y_JITTER_M)
            clips.append(ClipPose(ROW_X_M + MOST_OFFSET_M * offset, y + float(shift), MOST_YAW_RAD * yaw))
        return tuple(clips)

    return layout


LAYOUTS: dict[str, Callable[[int, np.random.Generator], Layout]] = {
    "nominal": _nominal,
    "train": _row(_within(_TRAIN_SHARE)),
    "held_out": _row(_rim),
    "full": _row(_within(1.0)),
}
"""Named distributions: a straight row; within 4 cm and 24 degrees of it; the rim beyond that, up to 5 cm and 30
degrees, which ``train`` never shows; both."""


def checked_layout(layout: LayoutChoice, clips: int) -> str | Layout:
    """A known name as it is, or poses as :class:`ClipPose`.

    Raises:
        UnknownNameError: no such name.
        CadenzaError: not one pose a clip, poses out of the hand's reach, or two too close together.
    """
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise unknown_name("layout", layout, LAYOUTS)
        return layout
    if not isinstance(layout, Iterable):
        raise CadenzaError(
            f"The layout is {layout!r}; it is a name, or one (x, y, yaw) a clip.", f"Names: {', '.join(LAYOUTS)}."
        )
    poses = tuple(pose if isinstance(pose, ClipPose) else _pose(pose) for pose in layout)
    if len(poses) != clips:
        raise CadenzaError(
            f"The layout has {len(poses)} poses for {clips} clips.", "Give one (x, y, yaw) a clip, or the number clips."
        )
    for pose in poses:
        inside = 0.35 <= pose.x <= 0.60 and -0.20 <= pose.y <= 0.25 and abs(pose.yaw) <= 1.2
        if not inside:  # nor is anything that is not a number
            raise CadenzaError(
                f"A clip cannot stand at x {pose.x:g} m, y {pose.y:g} m, yaw {pose.yaw:g} rad.",
                "x is within 0.35 to 0.60 m, y within -0.20 to 0.25 m, yaw within 1.2 rad.",
            )
    for one, two in itertools.combinations(poses, 2):
        if math.dist((one.x, one.y), (two.x, two.y)) < LEAST_DISTANCE_M:
            raise CadenzaError(
                f"Two clips stand closer together than {100 * LEAST_DISTANCE_M:g} cm: {one} and {two}.",
                "Move one of them: the hand goes between.",
            )
    return poses


def _pose(values: Sequence[float]) -> ClipPose:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (2, 3):
        raise CadenzaError(f"A clip's pose is (x, y) or (x, y, yaw), not {values!r}.")
    return ClipPose(*numbers)


def draw_layout(layout: str | Layout, clips: int, generator: np.random.Generator) -> Layout:
    """Poses for one episode; ``layout`` as :func:`checked_layout` returns it."""
    return LAYOUTS[layout](clips, generator) if isinstance(layout, str) else layout

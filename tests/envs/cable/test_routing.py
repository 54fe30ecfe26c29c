"""The routed test on cables laid by hand: what counts as in the clip, and for how long."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cadenza.envs.cable.layouts import ClipPose
from cadenza.envs.cable.model import SEGMENT_M, WALL_HEIGHT_M
from cadenza.envs.cable.routing import HELD_S, RoutedTest, crossings, seated_crossing

GAP_M = 0.010
CLIP = ClipPose(0.45, 0.0)


def straight(
    clip: ClipPose, across: float = 0.0, height: float = 0.004, turn: float = 0.0, count: int = 8
) -> np.ndarray:
    """Nodes of a straight cable through (across, height) in the clip's mid-plane, ``turn`` rad off its channel."""
    along = math.cos(turn) * clip.u + math.sin(turn) * clip.v
    middle = clip.position + across * clip.v + np.array((0.0, 0.0, height))
    # Not a multiple of a segment: no node lies in the mid-plane.
    return middle + np.outer((np.arange(count) - 3.3) * SEGMENT_M, along)


TABLE = {
    "in the middle, on the table": ({}, True),
    "against a wall": ({"across": 0.0049}, True),
    "inside a wall": ({"across": 0.0051}, False),
    "beside the clip": ({"across": -0.02}, False),
    "just below the lip": ({"height": WALL_HEIGHT_M - 1e-4}, True),
    "on the lip": ({"height": WALL_HEIGHT_M + 1e-4}, False),
    "high over the gap": ({"height": 0.05}, False),
    "slanted, but in the gap where it crosses": ({"turn": 0.4}, True),
    "backwards": ({"turn": math.pi}, True),
    "along the mid-plane": ({"turn": math.pi / 2}, False),
    "ends before the clip": ({"count": 4}, False),
    "ends just behind the mid-plane": ({"count": 5}, True),
}


@pytest.mark.parametrize("yaw", [0.0, 0.5, -0.5])
@pytest.mark.parametrize("case", list(TABLE))
def test_truth_table(case: str, yaw: float) -> None:
    placed, expected = TABLE[case]
    clip = ClipPose(0.47, -0.1, yaw)
    assert (seated_crossing(straight(clip, **placed), clip, GAP_M) is not None) is expected


def test_a_crossing_says_where() -> None:
    (found,) = crossings(straight(CLIP, across=0.003, height=0.006), CLIP)
    assert found.across_m == pytest.approx(0.003)
    assert found.height_m == pytest.approx(0.006)
    assert found.arc_m == pytest.approx(3.3 * SEGMENT_M)
    assert found.forward
    assert not crossings(straight(CLIP, turn=math.pi), CLIP)[0].forward


def test_a_node_in_the_plane_crosses_once() -> None:
    nodes = np.array([(0.45, y, 0.004) for y in (-0.05, -0.025, 0.0, 0.025)])
    assert len(crossings(nodes, CLIP)) == 1


def test_one_of_several_crossings_is_enough() -> None:
    """A loop: beside the clip, back, and through it."""
    points = [(0.50, -0.02), (0.50, 0.02), (0.45, 0.02), (0.45, -0.02)]
    nodes = np.array([(x, y, 0.004) for x, y in points])
    assert [found.across_m for found in crossings(nodes, CLIP)] == pytest.approx([0.05, 0.0])
    found = seated_crossing(nodes, CLIP, GAP_M)
    assert found is not None
    assert found.arc_m == pytest.approx(0.04 + 0.05 + 0.02)


def test_routed_is_seated_for_half_a_second_on_end() -> None:
    test = RoutedTest(clips=2, dt_s=0.1)
    seen = []
    for step in range(9):
        test.update([True, step != 3])
        seen.append(test.routed)
    # Looked at every 0.1 s: half a second lies between the first and the sixth look.
    needed = round(HELD_S / 0.1)
    assert [routed[0] for routed in seen] == [False] * needed + [True] * (9 - needed)
    assert not any(routed[1] for routed in seen)
    test.update([False, True])
    assert test.routed == [False, True]
    test.update([True, True])
    assert test.routed == [False, True]

"""Where on the cable to take hold and where to carry it: pure functions of the world's state."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.cable.hand import MOST_YAW_RAD
from cadenza.envs.cable.layouts import ClipPose
from cadenza.envs.cable.model import LENGTH_M
from cadenza.envs.cable.world import CableWorld

Array = NDArray[np.float64]

SLACK_M = 0.024
"""More cable than the straight way to the clip takes: without it the cable cannot turn into the clip."""
LEAD_M = 0.036
"""From the clip to the hand that lays the cable: the fingers are 2 cm wide."""
FINGERS_HALF_M = (0.010, 0.034)
"""Half of the room that open fingers take, along and across the cable."""
CLIP_HALF_M = 0.016
"""Half of a clip's diagonal."""
GRASP_WINDOW_M = (0.032, 0.100)
"""Beyond the clip along the cable, in which a hold can lay it."""


def arc_at_clip(world: CableWorld, clip: int) -> float:
    """Where along the cable it would cross this clip, pulled straight from the last clip before in which it lies."""
    arc, place = 0.0, world.nodes[0]
    for before in range(clip):
        seat = world.seat(before)
        if seat is not None and seat.arc_m > arc:
            arc, place = seat.arc_m, world.clips[before].position
    return arc + float(np.linalg.norm((world.clips[clip].position - place)[:2]))


def beyond_clip(world: CableWorld, clip: int) -> float | None:
    """How far beyond the clip, along the cable, the hand has hold of it, m; None without a hold."""
    return None if world.held is None else world.held.arc_m - arc_at_clip(world, clip)


def point_at(nodes: Array, arc_m: float) -> tuple[Array, float]:
    """The place (3,) at this length along the cable, and the cable's yaw there, in (-pi, pi]."""
    lengths = np.linalg.norm(np.diff(nodes, axis=0), axis=1)
    ends = np.cumsum(lengths)
    index = int(np.clip(np.searchsorted(ends, arc_m), 0, len(lengths) - 1))
    step = nodes[index + 1] - nodes[index]
    share = (arc_m - (ends[index] - lengths[index])) / lengths[index]
    return nodes[index] + share * step, math.atan2(-step[0], step[1])


def hand_yaw_along(yaw: float) -> float:
    """The hand's yaw for a cable of this yaw: fingers do not mind which way the cable goes; within its reach."""
    return min(max(math.remainder(yaw, math.pi), -MOST_YAW_RAD), MOST_YAW_RAD)


def grasp_arc(world: CableWorld, clip: int, beyond_m: float) -> float:
    """Where to take hold to lay the cable into ``clip``: ``beyond_m`` after it, or a little off where a clip stands.

    Fingers that come down on a clip would be held up by it.
    """
    wanted = arc_at_clip(world, clip) + beyond_m
    nodes = world.nodes
    best, least = wanted, math.inf
    for shift in (0.0, 0.008, -0.008, 0.016, -0.016, -0.024, 0.024, 0.032, 0.040, 0.048):
        arc = min(wanted + shift, LENGTH_M - 0.01)
        place, yaw = point_at(nodes, arc)
        cost = abs(shift) + 30.0 * _blocked(world, place, hand_yaw_along(yaw))
        if cost < least:
            best, least = arc, cost
    return best


def _blocked(world: CableWorld, place: Array, yaw: float) -> float:
    """How deep a clip stands in the room that closing fingers sweep, m; 0 for clear."""
    along = np.array((-math.sin(yaw), math.cos(yaw)))
    across = np.array((math.cos(yaw), math.sin(yaw)))
    deepest = 0.0
    for clip in world.clips:
        away = clip.position[:2] - place[:2]
        near = FINGERS_HALF_M[0] + CLIP_HALF_M - abs(float(away @ along))
        beside = FINGERS_HALF_M[1] + CLIP_HALF_M - abs(float(away @ across))
        deepest = max(deepest, min(near, beside))
    return deepest


def exit_pose(world: CableWorld, clip: int, beyond_m: float) -> tuple[Array, float]:
    """Where the hand lays the cable into the clip: position on the table (3,) and yaw.

    Args:
        world: as it stands.
        clip: to lay into.
        beyond_m: how far beyond the clip the hand has hold.
    """
    pose: ClipPose = world.clips[clip]
    distance = min(max(beyond_m - SLACK_M, 0.030), 0.060)
    return pose.position + distance * pose.u, pose.yaw

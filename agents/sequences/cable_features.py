"""Where hand and cable are as the clip in work sees it: what a policy of cable routing reads best.

:class:`ClipFrame` (feature set ``cable``) has everything in the clip's frame; :class:`ClipView` (``cable_view``) adds
the few numbers on which laying the cable, and choosing what to do next, depend.

Lengths in m, in the frame of the current clip (across v, along u, up z; :mod:`cadenza.envs.cable.layouts`):

==========  ===  ==============================================================================
hand        3    the TCP
turn        4    sine and cosine of the hand's yaw from the clip's, and of the clip's from +y
gripper     1    between the pads
cable       72   the 24 points
near        72   the same, clipped to 4 cm: the gap is a few mm wide
reach       72   the points from the TCP, clipped to 4 cm
others      6    the clip before and the clip after, across and along, and whether there is one
clip        3    1 at the clip in work
==========  ===  ==============================================================================

Of ``ClipView`` besides:

==========  ===  ==============================================================================
crossing    8    where the cable crosses the clip: whether, across to 8 cm, to 3 cm, to 6 mm, height, askew (rad), in
                 it; how much further along the cable than if it came straight
hold        3    from the hand to the cable, whether it holds it, how far beyond the clip along the cable
lay         5    the hand from the exit, along; from the clip's middle, across; its height, to 4 cm; from the cable's
                 crossing, across; slack of the cable between the last clip it lies in and the hand
seats       3    which clips the cable lies in
==========  ===  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.cable_routing.geometry import SLACK_M
from cadenza.envs.cable.model import ANCHOR_M, GAP_CLEARANCE_M, RADIUS_M, SEGMENT_M, SEGMENTS, WALL_HEIGHT_M
from cadenza.envs.cable.observation import CLIP_NUMBERS, state_layout
from cadenza.envs.cable.settings import MOST_CLIPS
from cadenza.envs.errors import CadenzaError

NEAR_M = 0.04
_SIZES = {"hand": 3, "turn": 4, "gripper": 1, "cable": 72, "near": 72, "reach": 72, "others": 6, "clip": 3}
_VIEW = {"crossing": 8, "hold": 3, "lay": 5, "seats": 3}


class ClipFrame:
    """Adds ``clip_frame`` to observations of ``cadenza/CableRouting-v0`` with ``observe="state"``."""

    key = "clip_frame"
    names = tuple(f"{part}_{index}" for part, size in _SIZES.items() for index in range(size))

    def __init__(self) -> None:
        self._layout = state_layout("state")
        self._size = max(part.stop for part in self._layout.values())

    def __call__(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        state = np.asarray(observation["state"], dtype=np.float64)
        if state.shape[-1] != self._size:
            raise CadenzaError(
                f"The features of the clip's frame need the whole state of {self._size} numbers, not "
                f"{state.shape[-1]}.",
                "Make the environment with observe=state.",
            )
        part = {name: state[:, where] for name, where in self._layout.items()}
        clips = part["clips"].reshape(-1, MOST_CLIPS, CLIP_NUMBERS)
        at = part["current_clip"].argmax(1)
        rows = np.arange(len(state))
        clip = clips[rows, at]
        yaw = clip[:, 3]
        hand = _in_frame(part["tcp_pose"][:, None, :3], clip)[:, 0]
        quaternion = part["tcp_pose"][:, 3:]
        turned = 2.0 * np.arctan2(quaternion[:, 2], quaternion[:, 1]) - 0.5 * np.pi - yaw
        points = _in_frame(part["cable"].reshape(-1, SEGMENTS, 3), clip)
        near = np.clip(points, -NEAR_M, NEAR_M)
        reach = np.clip(points - hand[:, None], -NEAR_M, NEAR_M)
        others = [self._other(clips, clip, at + step, rows) for step in (-1, 1)]
        turns = np.stack([np.sin(turned), np.cos(turned), np.sin(yaw), np.cos(yaw)], 1)
        flat = [one.reshape(len(state), -1) for one in (points, near, reach)]
        found = np.concatenate([hand, turns, part["gripper"], *flat, *others, part["current_clip"]], 1)
        return found.astype(np.float32)

    def _other(
        self, clips: NDArray[Any], clip: NDArray[Any], which: NDArray[Any], rows: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Another clip in the frame of ``clip``, (N, 3): across, along, whether it is there."""
        inside = np.clip(which, 0, MOST_CLIPS - 1)
        other = clips[rows, inside]
        there = (which == inside) & (other[:, 4] > 0.5)
        place = _in_frame(other[:, None, :3], clip)[:, 0, :2]
        return np.where(there[:, None], np.concatenate([place, np.ones((len(rows), 1))], 1), 0.0)


class ClipView(ClipFrame):
    """Adds ``clip_view``: :class:`ClipFrame`'s numbers, and those of the module's second table."""

    key = "clip_view"
    names = (*ClipFrame.names, *(f"{part}_{index}" for part, size in _VIEW.items() for index in range(size)))

    def __call__(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        frame = super().__call__(observation)
        state = np.asarray(observation["state"], dtype=np.float64)
        part = {name: state[:, where] for name, where in self._layout.items()}
        clips = part["clips"].reshape(-1, MOST_CLIPS, CLIP_NUMBERS)
        at = part["current_clip"].argmax(1)
        rows = np.arange(len(state))
        nodes = cable_nodes(part["cable"].reshape(-1, SEGMENTS, 3))
        crossed = np.stack([_crossing(nodes, clips[:, index]) for index in range(MOST_CLIPS)], 1)
        seats = crossed[..., 5] * (clips[..., 4] > 0.5)
        # The last clip in which the cable lies before the one in work, else the anchor; as the expert measures.
        arc, place = np.zeros(len(state)), nodes[:, 0].copy()
        for before in range(MOST_CLIPS - 1):
            lies = (seats[:, before] > 0.5) & (before < at) & (crossed[:, before, 4] > arc)
            arc = np.where(lies, crossed[:, before, 4], arc)
            place = np.where(lies[:, None], clips[:, before, :3], place)
        clip, here = clips[rows, at], crossed[rows, at]
        to_clip = np.linalg.norm((clip[:, :3] - place)[:, :2], axis=1)
        hand = part["tcp_pose"][:, :3]
        distance, held_arc = _nearest(nodes, hand)
        width = part["gripper"][:, 0]  # fingers that have closed on nothing are closer together than the cable is thick
        holds = (distance < 0.012) & (width > 1.25 * RADIUS_M) & (width < 2 * RADIUS_M + 0.004)
        beyond = np.clip(held_arc - arc - to_clip, -0.2, 0.2)
        lead = np.clip(beyond - SLACK_M, 0.030, 0.060)
        across, along, height = _in_frame(hand[:, None], clip)[:, 0].T
        slack = held_arc - arc - to_clip - np.linalg.norm(hand - clip[:, :3], axis=1)
        seen = here[:, 0] > 0.5
        found = np.stack(
            [
                here[:, 0], np.clip(here[:, 1], -0.08, 0.08), np.clip(here[:, 1], -0.03, 0.03),
                np.clip(here[:, 1], -0.006, 0.006),
                np.clip(here[:, 2], 0.0, 0.05), np.clip(here[:, 3], -1.0, 1.0), here[:, 5],
                np.where(seen, np.clip(here[:, 4] - arc - to_clip, -0.1, 0.1), 0.0),
                np.clip(distance, 0.0, NEAR_M), holds, beyond,
                np.clip(along - lead, -NEAR_M, NEAR_M), np.clip(across, -NEAR_M, NEAR_M),
                np.clip(height, 0.0, NEAR_M), np.where(seen, np.clip(across - here[:, 1], -NEAR_M, NEAR_M), 0.0),
                np.clip(slack, -NEAR_M, NEAR_M), *seats.T,
            ],
            1,
        )  # fmt: skip
        return np.concatenate([frame, found], 1).astype(np.float32)


def clip_progress(observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """What of an observation shows that work at the clip gets on, for the struggle signals; the hand is no part of it.

    How far the place where the cable crosses the clip in work is from lying in it: across and above, at most
    :data:`NEAR_M` each (which it is too where it does not cross); which clips it lies in; which one is in work. (8,);
    without the cable in the observation (``observe="camera"``) nothing.
    """
    layout = state_layout("state")
    state = np.asarray(observation["state"], dtype=np.float64)[None]
    if state.shape[1] != max(part.stop for part in layout.values()):
        return np.zeros(0)
    part = {name: state[:, where] for name, where in layout.items()}
    clips = part["clips"].reshape(1, MOST_CLIPS, CLIP_NUMBERS)
    nodes = cable_nodes(part["cable"].reshape(1, SEGMENTS, 3))
    crossed = np.stack([_crossing(nodes, clips[:, index]) for index in range(MOST_CLIPS)], 1)[0]
    here = crossed[int(part["current_clip"][0].argmax())]
    away = np.clip(np.abs(here[1:3]), 0.0, NEAR_M) if here[0] > 0.5 else np.full(2, NEAR_M)
    return np.concatenate([away, crossed[:, 5] * (clips[0, :, 4] > 0.5), part["current_clip"][0]])


def cable_nodes(middles: NDArray[Any]) -> NDArray[np.float64]:
    """Ends of the segments (N, 25, 3) from their middles (N, 24, 3).

    Each end is the mirror image of the one before at the middle between them, so that the first gives all. It is where
    the anchor's bush lets it be: the place from which all segments come out as long as they are, by least squares.
    """
    count, segments, _ = middles.shape
    signs = np.where(np.arange(segments) % 2 == 0, 1.0, -1.0)
    offsets = np.zeros((count, segments + 1, 3))  # node k = offset k + (-1)^k node 0
    for index in range(segments):
        offsets[:, index + 1] = 2.0 * middles[:, index] - offsets[:, index]
    centres = signs[:, None] * (middles - offsets[:, :-1])
    first = np.tile(np.array(ANCHOR_M), (count, 1))
    for _ in range(3):
        away = first[:, None] - centres
        length = np.maximum(np.linalg.norm(away, axis=2), 1e-9)
        normal = away / length[..., None]
        residual = length - 0.5 * SEGMENT_M
        square = np.einsum("nki,nkj->nij", normal, normal) + 1e-3 * np.eye(3)
        first = first - np.linalg.solve(square, np.einsum("nki,nk->ni", normal, residual)[..., None])[..., 0]
    flips = np.where(np.arange(segments + 1) % 2 == 0, 1.0, -1.0)
    nodes: NDArray[np.float64] = offsets + flips[:, None] * first[:, None]
    return nodes


def _crossing(nodes: NDArray[Any], clip: NDArray[Any]) -> NDArray[np.float64]:
    """Where the cable crosses a clip nearest to its middle, (N, 6): whether, across, height, askew, arc, in the gap."""
    points = _in_frame(nodes, clip)
    along = points[..., 1]
    change = (along[:, :-1] >= 0.0) != (along[:, 1:] >= 0.0)
    step = points[:, 1:] - points[:, :-1]
    share = np.where(change, along[:, :-1] / np.where(change, along[:, :-1] - along[:, 1:], 1.0), 0.0)
    place = points[:, :-1] + share[..., None] * step
    far = np.where(change, np.hypot(place[..., 0], place[..., 2]), np.inf)
    best, rows = far.argmin(1), np.arange(len(nodes))
    there = change[rows, best]
    gap_half = RADIUS_M + 0.25 * sum(GAP_CLEARANCE_M)
    arc = (best + share[rows, best]) * SEGMENT_M
    before, after = (_at_arc(points, np.clip(arc + off, 0.0, SEGMENTS * SEGMENT_M - 1e-3)) for off in (-0.01, 0.01))
    way = after - before
    across, height = place[rows, best, 0], place[rows, best, 2]
    inside = (np.abs(across) <= gap_half) & (height <= WALL_HEIGHT_M)
    found = np.stack([across, height, np.arctan2(way[:, 0], way[:, 1]), arc, inside], 1)
    return np.concatenate([there[:, None], np.where(there[:, None], found, 0.0)], 1)


def _at_arc(points: NDArray[Any], arc: NDArray[Any]) -> NDArray[np.float64]:
    """Places (N, 3) at these lengths (N,) along the cable."""
    index = np.floor(arc / SEGMENT_M).astype(np.intp)
    rows = np.arange(len(points))
    share = arc / SEGMENT_M - index
    found: NDArray[np.float64] = points[rows, index] + share[:, None] * (points[rows, index + 1] - points[rows, index])
    return found


def _nearest(nodes: NDArray[Any], hand: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of the cable from the hand, (N,), and where along the cable that is, (N,)."""
    starts, steps = nodes[:, :-1], np.diff(nodes, axis=1)
    share = np.clip(((hand[:, None] - starts) * steps).sum(2) / (steps * steps).sum(2), 0.0, 1.0)
    distance = np.linalg.norm(starts + share[..., None] * steps - hand[:, None], axis=2)
    best, rows = distance.argmin(1), np.arange(len(nodes))
    return distance[rows, best], (best + share[rows, best]) * SEGMENT_M


def _in_frame(points: NDArray[Any], clip: NDArray[Any]) -> NDArray[np.float64]:
    """World points (N, k, 3) across, along and above the clips (N, 5)."""
    away = points - clip[:, None, :3]
    cos, sin = np.cos(clip[:, 3])[:, None], np.sin(clip[:, 3])[:, None]
    across = cos * away[..., 0] + sin * away[..., 1]
    along = -sin * away[..., 0] + cos * away[..., 1]
    return np.stack([across, along, away[..., 2]], -1)

"""Where hand and cable are as the clip in work sees it: what a policy of cable routing reads best.

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
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.cable.model import SEGMENTS
from cadenza.envs.cable.observation import CLIP_NUMBERS, state_layout
from cadenza.envs.cable.settings import MOST_CLIPS
from cadenza.envs.errors import CadenzaError

NEAR_M = 0.04
_SIZES = {"hand": 3, "turn": 4, "gripper": 1, "cable": 72, "near": 72, "reach": 72, "others": 6, "clip": 3}


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


def _in_frame(points: NDArray[Any], clip: NDArray[Any]) -> NDArray[np.float64]:
    """World points (N, k, 3) across, along and above the clips (N, 5)."""
    away = points - clip[:, None, :3]
    cos, sin = np.cos(clip[:, 3])[:, None], np.sin(clip[:, 3])[:, None]
    across = cos * away[..., 0] + sin * away[..., 1]
    along = -sin * away[..., 0] + cos * away[..., 1]
    return np.stack([across, along, away[..., 2]], -1)

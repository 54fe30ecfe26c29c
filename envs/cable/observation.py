"""What policies see of cable routing.

State variant, one vector (98,), SI units, world frame; its slices by name:

=============  ====  =============================================================================
tcp_pose       7     position and quaternion wxyz of the hand
gripper        1     between the pads
cable          72    middles of the 24 segments, from the anchor on, x, y, z each; privileged
clips          15    x, y, z, yaw and 1 of each of three clips; five 0 where there is none
current_clip   3     1 at the clip in work
=============  ====  =============================================================================

Camera variant: ``state`` has tcp_pose and gripper only, beside one picture a camera.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.cable.model import SEGMENTS
from cadenza.envs.cable.settings import MOST_CLIPS, Observe
from cadenza.envs.cable.world import CableWorld

CLIP_NUMBERS = 5
PROPRIOCEPTION = {"tcp_pose": 7, "gripper": 1}
PRIVILEGED = {"cable": 3 * SEGMENTS, "clips": CLIP_NUMBERS * MOST_CLIPS, "current_clip": MOST_CLIPS}


def state_layout(observe: Observe) -> dict[str, slice]:
    """Where each part stands in the state vector."""
    parts = PROPRIOCEPTION | (PRIVILEGED if observe == "state" else {})
    slices, start = {}, 0
    for name, size in parts.items():
        slices[name] = slice(start, start + size)
        start += size
    return slices


def state_of(world: CableWorld, observe: Observe) -> NDArray[np.float32]:
    """The state vector of the world as it stands."""
    quaternion = world.tcp_quaternion
    # A hand that points down has w = 0: of the two quaternions of its pose always the same one.
    quaternion = quaternion if quaternion[1] >= 0.0 else -quaternion
    parts = [world.tcp, quaternion, np.array((world.width_m,))]
    if observe == "state":
        clips = np.zeros((MOST_CLIPS, CLIP_NUMBERS))
        for row, clip in zip(clips, world.clips, strict=False):
            row[:] = (clip.x, clip.y, 0.0, clip.yaw, 1.0)
        parts += [world.points.ravel(), clips.ravel(), np.eye(MOST_CLIPS)[world.current_clip]]
    return np.concatenate(parts).astype(np.float32)

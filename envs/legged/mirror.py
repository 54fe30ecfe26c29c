"""A legged task in the mirror: left and right exchanged in observations and actions.

A robot that is its own mirror image walks to the left as it walks to the right, so every transition that was lived is
also true mirrored. An agent that learns from both has twice the data and no favourite leg.
"""

from __future__ import annotations

import numpy as np

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.terms import ObservationLayout, ObservationTerm
from cadenza.envs.mirror import Mirror
from cadenza.robots.mirror import JointMirror

Rule = tuple[list[int], list[float]]

_VECTOR: Rule = ([0, 1, 2], [1, -1, 1])
_AXIAL: Rule = ([0, 1, 2], [-1, 1, -1])
_RULES: dict[str, Rule] = {
    "gyro": _AXIAL,
    "gravity": _VECTOR,
    "command": ([0, 1, 2], [1, -1, -1]),  # forward, left, turn to the left
    "clock": ([0, 1], [-1, -1]),  # half a cycle later the other leg swings
    "base_velocity": _VECTOR,
    "base_height": ([0], [1]),
    "feet": ([1, 0, 3, 2], [1, 1, 1, 1]),
    "friction": ([0], [1]),
    "push_soon": ([0], [1]),
}
_JOINTS = ("joint_position", "joint_velocity", "last_action")


def task_mirror(layout: ObservationLayout, joints: JointMirror) -> Mirror:
    """The mirror of a task's observation vector.

    Raises:
        CadenzaError: a term whose mirror image nobody has stated.
    """

    def rule(term: ObservationTerm) -> Rule:
        if term.name in _JOINTS:
            return joints.index.tolist(), joints.sign.tolist()
        if term.name not in _RULES or len(_RULES[term.name][0]) != term.size:
            raise CadenzaError(
                f"Nobody has said what the observation term {term.name!r} looks like in a mirror.",
                "Add it to envs/legged/mirror.py, or train without mirror.",
            )
        return _RULES[term.name]

    index: list[int] = []
    sign: list[float] = []
    for term in (*layout.actor * layout.history, *layout.privileged):
        places, signs = rule(term)
        start = len(index)
        index += [start + place for place in places]
        sign += signs
    return Mirror(np.array(index, dtype=np.intp), np.array(sign, dtype=np.float64), joints.index, joints.sign)

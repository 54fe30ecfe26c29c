"""What an observation of a table top is made of: named terms with their sizes, sources and scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.tabletop.signals import Signals
from cadenza.robots.arm_description import ArmRobot

Array = NDArray[np.float64]
Source = Literal["encoder", "kinematics", "tracker", "command"]
"""Who knows it on a real table: the joints' encoders, forward kinematics of these, whatever follows the object, or who
asks for something."""


@dataclass(frozen=True)
class Term:
    """A named part of the observation."""

    name: str
    size: int
    source: Source
    read: Callable[[Signals], Array]
    """The quantity in SI units, shape (n, size)."""
    scale: float = 1.0
    """What it is multiplied by in the observation."""
    unit: str = ""
    meaning: str = ""


class Layout:
    """The order of the terms in the vector."""

    def __init__(self, terms: Sequence[Term]):
        self.terms = tuple(terms)
        self.size = sum(term.size for term in terms)
        self.scale = np.concatenate([np.full(term.size, term.scale) for term in terms])

    def vector(self, signals: Signals) -> NDArray[np.float32]:
        """Shape (n, size)."""
        return (np.concatenate([term.read(signals) for term in self.terms], axis=1) * self.scale).astype(np.float32)

    def slices(self) -> dict[str, slice]:
        """Where each term lies in the vector."""
        out, start = {}, 0
        for term in self.terms:
            out[term.name] = slice(start, start + term.size)
            start += term.size
        return out

    def names(self) -> tuple[str, ...]:
        """One name an entry: ``joint_angle[0]``."""
        return tuple(f"{term.name}[{index}]" for term in self.terms for index in range(term.size))


def state_terms(arm: ArmRobot, *, with_object: bool) -> tuple[Term, ...]:
    """The specification's R^42 for a Panda: q 7, dq 7, gripper 2, object pose 7, hand pose 7, object and hand twist 6.

    Without an object the same without it.
    """
    joints, fingers = len(arm.arm_joints), len(arm.gripper.joints)
    # The fingers' range is a few cm: 1 is the way from closed to open.
    per_range = 1.0 / abs(arm.gripper.open - arm.gripper.closed)
    both = (
        Term("joint_angle", joints, "encoder", lambda s: s.joint_angle, unit="rad"),
        Term("joint_velocity", joints, "encoder", lambda s: s.joint_velocity, unit="rad/s"),
        Term(
            "gripper",
            fingers,
            "encoder",
            lambda s: s.gripper,
            per_range,
            meaning="finger joints over their range",
        ),
        Term("object_position", 3, "tracker", lambda s: s.object_position, unit="m"),
        Term("object_quaternion", 4, "tracker", lambda s: s.object_quaternion, meaning="wxyz"),
        Term("hand_position", 3, "kinematics", lambda s: s.hand_position, unit="m"),
        Term("hand_quaternion", 4, "kinematics", lambda s: s.hand_quaternion, meaning="wxyz"),
        Term("object_twist", 6, "tracker", lambda s: s.object_twist, unit="m/s, rad/s"),
        Term("hand_twist", 6, "kinematics", lambda s: s.hand_twist, unit="m/s, rad/s"),
    )
    return tuple(term for term in both if with_object or not term.name.startswith("object"))


def goal_terms(achieved: Callable[[Signals], Array]) -> tuple[Term, ...]:
    """The goal, and the way to it from what is achieved, where they are a part of the vector."""
    return (
        Term("goal_position", 3, "command", lambda s: s.goal, unit="m"),
        Term("goal_offset", 3, "command", lambda s: s.goal - achieved(s), unit="m"),
    )

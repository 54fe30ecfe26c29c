"""States of a robot's hardware and the steps between them that are allowed."""

from __future__ import annotations

from enum import Enum

from cadenza.robots.hardware.errors import RefusedError


class Lifecycle(Enum):
    """State of a robot's hardware."""

    UNCONFIGURED = "unconfigured"
    """Connected or not; motors as they were found."""
    INACTIVE = "inactive"
    """Configured; torque off, readable."""
    HOMING = "homing"
    """Torque on; the pose goes home and then rests there until somebody releases the robot."""
    ACTIVE = "active"
    """Commands of a policy are let through."""
    STOPPING = "stopping"
    """A controlled stop; commands are ignored."""
    ESTOPPED = "estopped"
    """Latched; torque off until a reset."""
    FAULT = "fault"
    """Latched; stopped by a fault, torque off until a reset."""


_S = Lifecycle

TRANSITIONS: dict[Lifecycle, frozenset[Lifecycle]] = {
    _S.UNCONFIGURED: frozenset({_S.INACTIVE, _S.ESTOPPED, _S.FAULT}),
    _S.INACTIVE: frozenset({_S.HOMING, _S.UNCONFIGURED, _S.ESTOPPED, _S.FAULT}),
    _S.HOMING: frozenset({_S.ACTIVE, _S.STOPPING, _S.INACTIVE, _S.ESTOPPED, _S.FAULT}),
    _S.ACTIVE: frozenset({_S.STOPPING, _S.INACTIVE, _S.ESTOPPED, _S.FAULT}),
    # Back to ACTIVE from a stop of category 2 alone, which holds with power; an operator's act.
    _S.STOPPING: frozenset({_S.INACTIVE, _S.ESTOPPED, _S.FAULT, _S.ACTIVE}),
    _S.ESTOPPED: frozenset({_S.INACTIVE, _S.UNCONFIGURED}),
    _S.FAULT: frozenset({_S.INACTIVE, _S.UNCONFIGURED, _S.ESTOPPED}),
}
"""State -> states that may follow. What leads out of ESTOPPED and FAULT is a reset or closing, nothing else."""

POWERED = frozenset({_S.HOMING, _S.ACTIVE, _S.STOPPING})
"""Torque is on."""


def check_transition(now: Lifecycle, to: Lifecycle) -> None:
    """Refuse a step that the table does not have.

    Raises:
        RefusedError: it names both states and those that may follow.
    """
    if to not in TRANSITIONS[now]:
        follow = ", ".join(sorted(state.value for state in TRANSITIONS[now]))
        raise RefusedError(
            f"The robot is {now.value}; it cannot become {to.value} from there.", f"What may follow: {follow}."
        )

"""What a careful arm does not do: pure functions of the signals, each (n,), at least 0.

A joint near its limit, a hard contact, a joint near its highest speed, the object off the table (1 each while it
lasts), the squared change of the action, and, where it is asked for, the object pressed hard on the table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.tabletop.signals import Signals

Array = NDArray[np.float64]
LIMIT_SHARE = 0.05
SPEED_SHARE = 0.9
ACTION_RATE = 0.01
VIOLATIONS = ("joint_limit", "contact_force", "joint_speed", "off_table")
"""Terms that are 1 or 0; ``action_rate`` is the fifth."""
OBJECT_FORCE = "object_force"
"""A violation that is ours and counts where it is asked for: the object pressed on the table."""


def near_limit(s: Signals, limits: Array) -> Array:
    """Any joint within 5 % of its range of a limit; ``limits`` (2, joints)."""
    margin = LIMIT_SHARE * (limits[1] - limits[0])
    return ((s.joint_angle < limits[0] + margin) | (s.joint_angle > limits[1] - margin)).any(axis=1).astype(np.float64)


def hard_contact(s: Signals, limit_n: float) -> Array:
    """Arm and table, or the arm's own parts, pressed harder than the limit."""
    return (s.contact_force > limit_n).astype(np.float64)


def pressed_object(force_n: Array, limit_n: float) -> Array:
    """Object and table pressed on each other harder than the limit; no signal, as Play alone measures the force."""
    return (force_n > limit_n).astype(np.float64)


def near_top_speed(s: Signals) -> Array:
    """Any joint faster than 90 % of its limit."""
    return (s.speed_share > SPEED_SHARE).astype(np.float64)


def off_table(s: Signals) -> Array:
    """The object's centre is lower than the table's top."""
    return (s.object_position[:, 2] < 0.0).astype(np.float64)


def action_rate(s: Signals) -> Array:
    """0.01 times the squared length of the action's change."""
    change = s.action - s.last_action
    total = np.zeros(len(change))
    for entry in range(change.shape[1]):  # numpy's own sum rounds differently for one row and for many
        total = total + change[:, entry] * change[:, entry]
    return ACTION_RATE * total


def safety_terms(s: Signals, limits: Array, limit_n: float) -> dict[str, Array]:
    """All of them by name; safety is minus their sum."""
    return {
        "joint_limit": near_limit(s, limits),
        "contact_force": hard_contact(s, limit_n),
        "joint_speed": near_top_speed(s),
        "off_table": off_table(s),
        "action_rate": action_rate(s),
    }

"""How the hand holds the cable. ``assist``: a weld to the nearest segment; ``friction``: what the pads do alone.

A friction grasp of a thin cable creeps in simulation (50 to 155 um/s even at impratio 10), so the assist is the
default. It is an assist: a real hand has nothing like it.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.cable.model import RADIUS_M, SEGMENT_M, SEGMENTS, weld_name

Array = NDArray[np.float64]

REACH_M = 0.008
"""From the middle between the pads to the cable's centre line."""
CLOSED_M = 2 * RADIUS_M + 0.003
"""The pads are on the cable when they are no further apart."""
MOST_FORCE_N = 12.0
"""Pulled harder than this, the cable slips out of the hand."""


@dataclass
class Held:
    """What the hand has hold of."""

    segment: int
    share: float
    """Along the segment, 0 to 1."""

    @property
    def arc_m(self) -> float:
        """Along the cable, from the anchor."""
        return (self.segment + self.share) * SEGMENT_M


class Grasp:
    """The hold of one hand on the cable.

    Args:
        model: of :func:`cadenza.envs.cable.model.build_spec`.
        hand: name of the body that the pads hang on.
        assist: whether a weld helps.
    """

    def __init__(self, model: mujoco.MjModel, hand: str, *, assist: bool) -> None:
        self.model, self.assist = model, assist
        self.hand = model.body(hand).id
        self.segments = np.array([model.body(f"cable{n}").id for n in range(SEGMENTS)], dtype=np.intp)
        self.welds = np.array([model.equality(weld_name(n)).id for n in range(SEGMENTS)], dtype=np.intp)
        self.pads = np.array([model.geom(f"{side}_pad").id for side in ("left", "right")], dtype=np.intp)
        self.capsules = np.array([model.geom(f"cable{n}").id for n in range(SEGMENTS)], dtype=np.intp)
        self.held: Held | None = None
        self.must_open = False
        """After a slip the assist waits until the hand has been opened."""

    def reset(self) -> None:
        """Hold nothing; after ``mj_resetData``, which takes the welds away."""
        self.held, self.must_open = None, False

    def update(self, data: mujoco.MjData, nodes: Array, *, closing: bool, width_m: float) -> None:
        """Once a control step, before the physics: take hold, keep or let go.

        Args:
            data: as it stands.
            nodes: of the cable, (n + 1, 3), m.
            closing: whether the hand is told to close.
            width_m: between the pads.
        """
        if not closing:
            self.release(data)
            self.must_open = False
            return
        if self.held is not None and self.assist:
            return
        nearest, distance = self._nearest(nodes, data.geom_xpos[self.pads].mean(axis=0), data)
        near = distance <= REACH_M and width_m <= CLOSED_M
        if not self.assist:
            # Two pads that are closed on nothing are closer together than the cable is thick.
            self.held = nearest if near and width_m >= RADIUS_M else None
        elif near and not self.must_open:
            self._weld(data, nearest)
            self.held = nearest

    def check(self, data: mujoco.MjData) -> None:
        """After some physics steps: a cable that pulls too hard slips out of an assisted grasp."""
        if self.held is not None and self.assist and self.force_n(data) > MOST_FORCE_N:
            self.slip(data)

    def slip(self, data: mujoco.MjData) -> None:
        """Lose the cable; the hand has to open before it can take hold again."""
        self.release(data)
        self.must_open = True

    def release(self, data: mujoco.MjData) -> None:
        """Let go."""
        data.eq_active[self.welds] = 0
        self.held = None

    def force_n(self, data: mujoco.MjData) -> float:
        """Force between hand and cable, N: of the weld and the pads' contacts together."""
        return float(np.linalg.norm(self.force(data)))

    def force(self, data: mujoco.MjData) -> Array:
        """Of the hand on the cable, N, along the world's axes, (3,)."""
        total = np.zeros(3)
        if self.held is None:
            return total
        if self.assist:
            weld = self.welds[self.held.segment]
            rows = np.flatnonzero((data.efc_type == mujoco.mjtConstraint.mjCNSTR_EQUALITY) & (data.efc_id == weld))
            # The rows' Jacobian is of the hand's point minus the segment's.
            total -= data.efc_force[rows[:3]]
        wrench = np.empty(6)
        for number in range(data.ncon):
            one, two = data.contact.geom[number]
            if (one in self.pads) == (two in self.pads):
                continue
            mujoco.mj_contactForce(self.model, data, number, wrench)
            along = data.contact.frame[number].reshape(3, 3).T @ wrench[:3]
            # The frame's normal points from the first geom to the second, and the force is on the second.
            total += along if one in self.pads else -along
        return total

    def _nearest(self, nodes: Array, point: Array, data: mujoco.MjData) -> tuple[Held, float]:
        """The place on the cable nearest to the line between the pads' middles and the distance from ``point``.

        The pads are 24 mm high: their tips' line counts, from the middle down to 4 mm above the tips.
        """
        down = data.geom_xmat[self.pads[0]].reshape(3, 3)[:, 2]
        starts, steps = nodes[:-1], np.diff(nodes, axis=0)
        best, least = Held(0, 0.0), np.inf
        for depth in (0.0, 0.004, 0.008):
            here = point + depth * down
            share = np.clip(((here - starts) * steps).sum(1) / (steps * steps).sum(1), 0.0, 1.0)
            distance = np.linalg.norm(starts + share[:, None] * steps - here, axis=1)
            number = int(np.argmin(distance))
            if distance[number] < least:
                best, least = Held(number, float(share[number])), float(distance[number])
        return best, least

    def _weld(self, data: mujoco.MjData, held: Held) -> None:
        """Hold the segment to the hand as it now is, but for the last millimetre to the middle between the pads."""
        body = self.segments[held.segment]
        weld = self.welds[held.segment]
        turn, there = np.empty(9), data.xmat[body].reshape(3, 3)
        anchor = np.array((held.share * SEGMENT_M, 0.0, 0.0))  # in the segment's frame
        point = data.xpos[body] + there @ anchor
        here = data.xmat[self.hand].reshape(3, 3)
        turn[:] = (here.T @ there).ravel()
        numbers = self.model.eq_data[weld]
        numbers[0:3] = anchor
        numbers[3:6] = here.T @ (point - data.xpos[self.hand])
        numbers[4] = 0.0  # the fingers close along the hand's y
        mujoco.mju_mat2Quat(numbers[6:10], turn)
        data.eq_active[weld] = 1

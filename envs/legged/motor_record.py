"""What the commands of n copies would have done to their motors: :class:`MotorWatch` for a vectorised task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.motor_metrics import LOOKBACK, Totals, difference, empty_totals, measure, merge
from cadenza.envs.motor_watch import BLOCK, MotorLimits, last_start

Array = NDArray[np.float64]


class MotorRecord:
    """Counts for every copy as :class:`cadenza.envs.motor_watch.MotorWatch` does for one environment.

    Args:
        model: that the copies share.
        n: copies.
        dt_s: length of a control step.

    Raises:
        ValueError: an actuator of the model has no limits to compare a command with.
    """

    def __init__(self, model: mujoco.MjModel, n: int, dt_s: float):
        limits = MotorLimits.of(model)
        if limits is None:
            raise ValueError("The model's actuators have no range of commands.")
        self._limits, self.dt_s, self.names = limits, dt_s, limits.names
        motors = len(self.names)
        # float32, since checkpoints store them. The first rows are the steps before the block.
        self._commands = np.zeros((LOOKBACK + BLOCK, n, motors), np.float32)
        self._forces = np.zeros((LOOKBACK + BLOCK, n, motors), np.float32)
        self._starts = np.zeros((BLOCK, n), bool)
        self._filled = 0
        self._before = np.zeros(n, dtype=np.int64)
        self._fresh = np.ones(n, dtype=bool)
        self._rise_k = np.zeros((n, motors))
        self._totals = empty_totals(motors)
        self._marked = empty_totals(motors)

    def begin(self, ids: NDArray[np.intp]) -> None:
        """Episodes of these copies start: their next step is not compared with the last one."""
        self._fresh[ids] = True

    def note(self, commands: Array, forces: Array) -> None:
        """Take note of a step.

        Args:
            commands: ``ctrl``, shape (n, motors).
            forces: ``actuator_force`` at the end of the step, same shape.
        """
        row = self._filled
        self._commands[LOOKBACK + row], self._forces[LOOKBACK + row] = commands, forces
        self._starts[row] = self._fresh
        self._fresh[:] = False
        self._filled = row + 1
        if self._filled == BLOCK:
            self._totals, self._rise_k = self._measured()
            for copy in range(len(self._before)):
                past = BLOCK - last_start(self._starts[:, copy], int(self._before[copy]))
                self._before[copy] = min(LOOKBACK, past)
            for rows in (self._commands, self._forces):
                rows[:LOOKBACK] = rows[BLOCK:]
            self._filled = 0

    def _measured(self) -> tuple[Totals, Array]:
        """Totals with the rows collected so far, and the windings' rise after them."""
        count = self._filled
        if count == 0:
            return self._totals, self._rise_k
        limits, upto = self._limits, LOOKBACK + count
        commands = limits.share(self._commands[:upto])
        loads = limits.load(self._forces[:upto])
        found = [
            measure(
                commands[:, copy],
                None if loads is None else loads[:, copy],
                self._starts[:count, copy],
                int(self._before[copy]),
                self._rise_k[copy],
                self.dt_s or math.nan,
            )
            for copy in range(len(self._before))
        ]
        totals = reduce(merge, (new for new, _ in found), self._totals)
        return totals, np.stack([rise for _, rise in found])

    def mark(self) -> tuple[Totals, Totals]:
        """Totals of all steps of all copies, and of those since the last mark."""
        totals = self._measured()[0]
        since = difference(totals, self._marked)
        self._marked = _copied(totals)
        return totals, since

    def state(self) -> dict[str, Any]:
        """For a checkpoint; only the rows that were written."""
        upto = LOOKBACK + self._filled
        return {
            "commands": self._commands[:upto].copy(),
            "forces": self._forces[:upto].copy(),
            "starts": self._starts[: self._filled].copy(),
            "before": self._before.copy(),
            "fresh": self._fresh.copy(),
            "rise_k": self._rise_k.copy(),
            "totals": _copied(self._totals),
            "marked": _copied(self._marked),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on counting from :meth:`state`."""
        self._filled = len(state["starts"])
        upto = LOOKBACK + self._filled
        self._commands[:upto], self._forces[:upto] = state["commands"], state["forces"]
        self._starts[: self._filled] = state["starts"]
        self._before[:], self._fresh[:] = state["before"], state["fresh"]
        self._rise_k = np.array(state["rise_k"])
        self._totals, self._marked = _copied(state["totals"]), _copied(state["marked"])


def _copied(totals: Mapping[str, Any]) -> Totals:
    return {name: np.copy(value) if isinstance(value, np.ndarray) else value for name, value in totals.items()}

"""Delays of whole physics steps: a command that reaches its motor late, a sensor that reaches the policy late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.events import Event
from cadenza.envs.legged.physics import Physics

Array = NDArray[np.float64]
Ids = NDArray[np.intp]


class Delays:
    """Delays of n copies, each with its own; where none can occur, physics runs through in one call.

    Args:
        n: copies.
        substeps: physics steps in a control step.
        events: of the environment; ``command_delay`` and ``observation_delay`` say what can occur.
        joints: how many targets there are.
        physics_dt_s: for the error message.
    """

    def __init__(self, n: int, substeps: int, events: Mapping[str, Event], joints: int, physics_dt_s: float):
        self.substeps = substeps
        most_command, most_observation = (int(events[name].high) for name in ("command_delay", "observation_delay"))
        for kind, most in (("command", most_command), ("observation", most_observation)):
            if most > 50 * substeps or events[f"{kind}_delay"].low < 0:
                raise CadenzaError(
                    f"A {kind} delay of {most} physics steps ({most * physics_dt_s:.2f} s) cannot be simulated.",
                    f"Give {kind}_delay a range of whole physics steps between 0 and {50 * substeps}.",
                )
        self._late_commands, self._late_sensors = most_command > 0, most_observation > 0
        self.command = np.zeros(n, dtype=np.int64)
        self.observation = np.zeros(n, dtype=np.int64)
        # Targets of this control step (0) and those before it; a delay of a whole control step needs the one before.
        self.targets = np.zeros((n, 2 + most_command // substeps, joints))
        # What was sensed after each physics step, the newest first. joints * 2 + quaternion + rotation.
        self.sensed = np.zeros((n, 1 + most_observation, 2 * joints + 7))
        self._rows = np.arange(n)

    def set(self, index: int, command: float, observation: float) -> None:
        """A copy's delays, in physics steps."""
        self.command[index], self.observation[index] = int(command), int(observation)

    def begin(self, ids: Ids, targets: Array, sensed: Array) -> None:
        """An episode starts: everything late is as it is now."""
        self.targets[ids] = targets[:, None]
        self.sensed[ids] = sensed[:, None]

    def run(self, physics: Physics, targets: Array, sense: Callable[[slice], Array]) -> None:
        """One control step of all copies with these targets, (n, joints)."""
        self.targets[:, 1:] = self.targets[:, :-1].copy()
        self.targets[:, 0] = targets
        if not self._late_commands and not self._late_sensors:
            physics.ctrl[:] = targets
            physics.step(self.substeps)
            return
        for step in range(self.substeps):
            # At this physics step the motor obeys what was commanded `command` steps ago.
            behind = -(-(self.command - step) // self.substeps)
            physics.ctrl[:] = self.targets[self._rows, np.maximum(behind, 0)]
            physics.step(1)
            if self._late_sensors:
                self.sensed[:, 1:] = self.sensed[:, :-1].copy()
                self.sensed[:, 0] = sense(slice(None))

    def delayed(self, rows: Ids, now: Array) -> Array:
        """What reaches the policy of these copies, given what is sensed now, (len(rows), ...)."""
        if not self._late_sensors:
            return now
        return self.sensed[rows, self.observation[rows]]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        names = ("command", "observation", "targets", "sensed")
        return {name: getattr(self, name).copy() for name in names}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        for name, value in state.items():
            getattr(self, name)[...] = value

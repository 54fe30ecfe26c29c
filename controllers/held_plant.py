"""A simulated robot on a gantry, as the emulators have it: so that both begin alike."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.emulators.gantry import Gantry
from cadenza.robots.hardware.plant import Plant

Array = NDArray[np.float64]
LOWERING_S = 1.2
"""How long the gantry takes, with a little more."""


class HeldPlant(Plant):
    """A plant whose base a gantry holds until :meth:`put_down`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.gantry = Gantry(self)
        self.poses: list[tuple[float, Array]] | None = None
        """Time and ``qpos`` after each advance, where a film puts a list here."""

    @classmethod
    def of_robot(cls, robot: LeggedRobot, *, hung_up: bool = False, visuals: bool = False) -> Self:
        """See :meth:`Plant.of_robot`."""
        made = super().of_robot(robot, hung_up=hung_up, visuals=visuals)
        assert isinstance(made, cls)
        return made

    def advance(self, until_s: float) -> None:
        """See :meth:`Plant.advance`."""
        steps = int(np.floor((until_s - self.data.time) / self.dt + 1e-6))
        for _ in range(steps):
            self.step()
            self.gantry.hold(self.dt)
        if steps > 0 and self.poses is not None:
            self.poses.append((self.time, self.data.qpos.copy()))

    def put_down(self) -> float:
        """Lower it and let go; how long that takes, s."""
        self.gantry.release()
        return LOWERING_S

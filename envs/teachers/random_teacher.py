"""The teacher that any other must beat: every task equally often, whatever comes of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.teachers.teacher import Teacher


class RandomTeacher(Teacher):
    """Uniform over the whole space, as domain randomisation is."""

    name = "random"

    def _draw(self) -> NDArray[np.float64]:
        return self.rng.random(self.space.dim)

    def _learn(self, task: NDArray[np.float64], episode_return: float) -> None:
        """Nothing: the return does not matter."""

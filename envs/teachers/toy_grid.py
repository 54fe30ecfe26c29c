"""A learner that costs microseconds: the grid on which a teacher shows what it is worth.

After the toy space of arXiv:1910.07224, section 4.1 and appendix: a task is a point of a square of cells. An episode
in a cell that is open adds one practice; a cell opens once a neighbour on the side of the origin is mastered, so that
most of the space is too hard for long and what is easy is soon learned.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.teachers.teacher import ParameterSpace, Teacher


class ToyGrid:
    """The learner: competence per cell.

    Args:
        cells: along each side.
        mastery: practices after which a cell counts as mastered and opens its neighbours.
        most: practices after which a cell cannot get any better.
    """

    space = ParameterSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)})

    def __init__(self, cells: int = 10, mastery: int = 75, most: int = 100):
        self.cells, self.mastery, self.most = cells, mastery, most
        self.practice = np.zeros((cells, cells), np.int64)
        """Of each cell, from 0 to ``most``."""

    @property
    def mastered(self) -> int:
        """Number of mastered cells."""
        return int((self.practice >= self.mastery).sum())

    def episode(self, parameters: Mapping[str, float]) -> float:
        """Practise at a point; the return is the competence of its cell from then on, in [0, 1]."""
        x, y = (min(int(parameters[name] * self.cells), self.cells - 1) for name in self.space.names)
        # The cell itself is no neighbour, but it is mastered only if it is open.
        nearby = self.practice[max(x - 1, 0) : x + 1, max(y - 1, 0) : y + 1]
        if (x, y) == (0, 0) or nearby.max() >= self.mastery:
            self.practice[x, y] = min(self.practice[x, y] + 1, self.most)
        return float(self.practice[x, y] / self.most)


def play(teacher: Teacher, grid: ToyGrid, episodes: int, every: int) -> NDArray[np.int64]:
    """Let ``teacher`` choose ``episodes`` tasks of ``grid``; how many cells were mastered after each ``every`` of them.

    Returns:
        Shape (episodes // every + 1,); the first is that of before.
    """
    mastered = [grid.mastered]
    for episode in range(1, episodes + 1):
        parameters = teacher.sample()
        teacher.update(parameters, grid.episode(parameters))
        if episode % every == 0:
            mastered.append(grid.mastered)
    return np.array(mastered, np.int64)

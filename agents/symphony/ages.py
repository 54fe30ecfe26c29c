"""Drawing ages by the replay law at a cost and in a memory that do not depend on the buffer's capacity.

The age axis is cut into at most :data:`CELLS` equal cells. A cell is drawn by Walker's alias method (Walker 1977,
table by Vose 1991), O(1) per draw, and then a place in it, uniformly. Up to CELLS transitions a cell is one age and the
law is exact; beyond, each cell has its exact probability, spread evenly over the ages inside. Of four million
ages, those that hold 99.9 % of the probability keep theirs within 0.1 %, under every law (tests: test_ages.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.symphony.losses import age_probabilities

CELLS = 16_384
"""Most cells of the table: 256 KB, which stays in a core's second-level cache."""


class AgeScratch:
    """Arrays for drawing ``batch_size`` ages, made once; ``ages`` holds the result, shape (batch,), int64."""

    def __init__(self, batch_size: int):
        self.uniform = np.empty((2, batch_size))
        self.keep = np.empty(batch_size)
        self.kept = np.empty(batch_size, dtype=np.bool_)
        self.cells = np.empty(batch_size, dtype=np.int64)
        self.ages = np.empty(batch_size, dtype=np.int64)


class AgeSampler:
    """The age law of a buffer of ``capacity`` transitions as an alias table.

    Args:
        law: a name that :func:`~cadenza.agents.symphony.losses.age_probabilities` knows.
        capacity: N in transitions.
    """

    def __init__(self, law: str, capacity: int):
        mass = cell_masses(law, capacity)
        self.keep, self.other = alias_table(mass)
        """A drawn cell stands with probability ``keep``, otherwise ``other`` takes its place; each (cells,)."""

    def draw(self, generator: np.random.Generator, stored: int, s: AgeScratch) -> NDArray[np.int64]:
        """Draw ages in [0, stored), 0 = oldest, into ``s.ages``; allocates nothing.

        With fewer than N stored, the law runs over what is stored: its age axis is scaled down.
        """
        position, within = generator.random(out=s.uniform)
        np.multiply(position, len(self.keep), out=position)
        np.copyto(s.cells, position, casting="unsafe")
        np.subtract(position, s.cells, out=position)
        np.take(self.keep, s.cells, out=s.keep, mode="clip")
        np.take(self.other, s.cells, out=s.ages, mode="clip")
        np.less(position, s.keep, out=s.kept)
        np.copyto(s.ages, s.cells, where=s.kept)
        np.add(within, s.ages, out=within)
        np.multiply(within, stored / len(self.keep), out=within)
        np.copyto(s.ages, within, casting="unsafe")
        return np.minimum(s.ages, stored - 1, out=s.ages)  # the last cell's end may round up


def cell_masses(law: str, capacity: int, cells: int = CELLS) -> NDArray[np.float64]:
    """Probability of each of min(cells, capacity) equal cells of the age axis; shape (cells,), sum 1."""
    probabilities = age_probabilities(law, capacity)
    if capacity <= cells:
        return probabilities
    edges = np.arange(cells + 1) * (capacity / cells)
    whole = np.minimum(edges.astype(np.int64), capacity - 1)
    before = np.concatenate(([0.0], np.cumsum(probabilities)))[whole]
    # A cell's edge may fall inside an age, whose probability is then shared.
    return np.diff(before + (edges - whole) * probabilities[whole])


def alias_table(mass: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vose's table: ``keep`` in [0, 1] and ``other``, so that cell k is drawn with probability mass[k] / sum."""
    count = len(mass)
    level = (mass * (count / mass.sum())).tolist()
    keep, other = np.ones(count), np.arange(count)
    poor = [k for k in range(count) if level[k] < 1.0]
    rich = [k for k in range(count) if level[k] >= 1.0]
    while poor and rich:
        taker, giver = poor.pop(), rich[-1]
        keep[taker], other[taker] = level[taker], giver
        level[giver] -= 1.0 - level[taker]
        if level[giver] < 1.0:
            poor.append(rich.pop())
    return keep, other  # whoever is left over stands at 1 but for rounding

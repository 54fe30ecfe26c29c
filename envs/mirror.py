"""What it means to see an environment in a mirror, for agents that learn from both sides of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Mirror:
    """``mirrored = sign * values[..., index]`` for whole observations, critics' part included, and for actions.

    An environment that offers one as ``mirror`` says: a transition seen so is as true and as well paid as the one that
    was lived.
    """

    observation_index: NDArray[np.intp]
    observation_sign: NDArray[np.float64]
    action_index: NDArray[np.intp]
    action_sign: NDArray[np.float64]

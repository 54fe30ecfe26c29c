"""What a teacher is, and the space it chooses tasks from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name


class ParameterError(CadenzaError, ValueError):
    """Task parameters, or ranges of them, that make no sense."""


class TeacherStateError(CadenzaError):
    """A saved state that does not belong to this teacher."""


class ParameterSpace:
    """Continuous task parameters by name, each with its lowest and highest value; the order is that of the mapping.

    Args:
        ranges: name -> (low, high), e.g. ``{"command_speed_m_s": (0.0, 0.5), "push_m_s": (0.0, 1.0)}``. A name ends in
            its unit.

    Raises:
        ParameterError: there is no parameter, or a range is not finite or has no width.
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]]):
        if not ranges:
            raise ParameterError("A parameter space needs at least one parameter.")
        for name, (low, high) in ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ParameterError(
                    f"The range of {name} is {low} to {high}.",
                    "Give two finite numbers, the lower one first; what shall not vary is no parameter.",
                )
        self.names = tuple(ranges)
        self.low = np.array([low for low, _ in ranges.values()], np.float64)
        """Lowest values, shape (dim,), read-only."""
        self.high = np.array([high for _, high in ranges.values()], np.float64)
        """Highest values, shape (dim,), read-only."""
        self.low.flags.writeable = self.high.flags.writeable = False

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def ranges(self) -> dict[str, list[float]]:
        """Name -> [low, high], JSON-able: for the run folder."""
        ends = zip(self.names, self.low.tolist(), self.high.tolist(), strict=True)
        return {name: [low, high] for name, low, high in ends}

    def vector(self, parameters: Mapping[str, float]) -> NDArray[np.float64]:
        """``parameters`` in the order of :attr:`names` and in their own units, shape (dim,).

        Raises:
            UnknownNameError: a name that is no parameter.
            ParameterError: a parameter is missing, not a finite number or out of its range.
        """
        for name in parameters:
            if name not in self.names:
                raise unknown_name("task parameter", name, self.names)
        missing = [name for name in self.names if name not in parameters]
        if missing:
            raise ParameterError(f"Without a value: {', '.join(missing)}.", f"Needed: {', '.join(self.names)}.")
        values = np.array([parameters[name] for name in self.names], np.float64)
        # Written so that NaN counts as outside.
        outside = np.flatnonzero(~((values >= self.low) & (values <= self.high)))
        if outside.size:
            first = int(outside[0])
            raise ParameterError(
                f"{self.names[first]} is {values[first]}, its range is {self.low[first]} to {self.high[first]}."
            )
        return values

    def parameters(self, vector: NDArray[np.float64]) -> dict[str, float]:
        """The inverse of :meth:`vector`, as Python numbers."""
        return dict(zip(self.names, vector.tolist(), strict=True))

    def normalize(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the parameters' units to [0, 1]; shape (..., dim)."""
        return (vector - self.low) / (self.high - self.low)

    def denormalize(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """From [0, 1] to the parameters' units; shape (..., dim)."""
        # Written so that 0 and 1 give the ends exactly; between, rounding may leave the range by one unit in the last
        # place, which `vector` would refuse.
        return np.clip(self.low * (1.0 - unit) + self.high * unit, self.low, self.high)


class Teacher(ABC):
    """Chooses the parameters of each episode and is told how the episode went.

    One teacher serves any number of environments: episodes may overlap and end in any order. Its random numbers are its
    own, so that neither the environments nor the learner change what it chooses.

    Args:
        space: of the tasks.
        seed: of the teacher's generator.
    """

    name: str
    """As in :data:`cadenza.envs.teachers.TEACHERS`; stands in the saved state."""

    def __init__(self, space: ParameterSpace, seed: int):
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.episodes = 0
        """Episodes learned from."""
        self.ignored = 0
        """Episodes whose return was not a finite number: nothing is learned from them."""

    def sample(self) -> dict[str, float]:
        """Parameters of the next episode, within their ranges."""
        return self.space.parameters(self.space.denormalize(self._draw()))

    def update(self, parameters: Mapping[str, float], episode_return: float) -> None:
        """Learn from a finished episode.

        Args:
            parameters: that it was played with.
            episode_return: undiscounted sum of its rewards; NaN or infinity is counted and ignored otherwise.

        Raises:
            UnknownNameError, ParameterError: ``parameters`` are not of this space.
        """
        task = self.space.normalize(self.space.vector(parameters))
        episode_return = float(episode_return)
        if not math.isfinite(episode_return):
            self.ignored += 1
            return
        self.episodes += 1
        self._learn(task, episode_return)

    @abstractmethod
    def _draw(self) -> NDArray[np.float64]:
        """A task in [0, 1], shape (dim,)."""

    @abstractmethod
    def _learn(self, task: NDArray[np.float64], episode_return: float) -> None:
        """Take note of a task in [0, 1], shape (dim,), and its finite return; :attr:`episodes` counts it already."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next choices depend on: strings, numbers, dicts, None and arrays (copies); no pickle needed.

        :func:`cadenza.envs.state.flatten_state` parts it into JSON and an ``.npz``.
        """
        return {
            "teacher": self.name,
            "space": self.space.ranges,
            "generator": self.rng.bit_generator.state,
            "episodes": self.episodes,
            "ignored": self.ignored,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken: the choices from here on are the same, bit for bit.

        Raises:
            TeacherStateError: the state is of another kind of teacher or of another space.
        """
        if state["teacher"] != self.name:
            raise TeacherStateError(f"The saved teacher is {state['teacher']!r}, this one is {self.name!r}.")
        # As lists: the order of the names is the order of the vectors.
        if list(state["space"].items()) != list(self.space.ranges.items()):
            raise TeacherStateError(
                f"The saved teacher chose from {state['space']}, this one from {self.space.ranges}.",
                "Make it with the names, order and ranges of the run that saved it.",
            )
        self.rng.bit_generator.state = state["generator"]
        self.episodes = int(state["episodes"])
        self.ignored = int(state["ignored"])

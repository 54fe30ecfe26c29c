"""Demonstrations of a toy: a point on a plane is pushed to a place that the observation names; a camera sees both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

SIDE = 16


@dataclass
class Feature:
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None


@dataclass
class Schema:
    observation: dict[str, Feature]
    action: Feature
    cameras: tuple[str, ...]
    env_id: str = "Toy-v0"
    env_settings: dict[str, Any] = field(default_factory=dict)
    rate_hz: float = 10.0


@dataclass
class Info:
    index: int
    length: int
    success: bool
    seed: int
    task: str = "reach"
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Episode:
    observation: dict[str, np.ndarray]
    action: np.ndarray
    primitive: np.ndarray
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    meant: np.ndarray | None = None
    info: Info | None = None

    @property
    def intended(self) -> np.ndarray:
        return self.action if self.meant is None else self.meant


class Demos:
    """What cloning needs of a DemoSet."""

    def __init__(self, episodes: int = 12, length: int = 20, failures: int = 0):
        names = ("tcp_x", "tcp_y", "goal_x", "goal_y", "constant")
        self.schema = Schema(
            {"state": Feature("float32", (5,), names), "wrist": Feature("uint8", (SIDE, SIDE, 3))},
            Feature("float32", (2,)),
            ("wrist",),
        )
        rng = np.random.default_rng(0)
        self.episodes, self._episodes, self.corrupt = [], [], []
        for index in range(episodes):
            place, goal = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2)
            states, pictures, actions = [], [], []
            for _ in range(length):
                action = np.clip(2.0 * (goal - place), -1, 1)
                states.append([*place, *goal, 3.0])
                pictures.append(draw(place, goal))
                actions.append(action)
                place = place + 0.1 * action
            primitive = np.where(np.arange(length) < length // 2, 0, 1)
            arrays = {"state": np.array(states, np.float32), "wrist": np.array(pictures)}
            self._episodes.append(Episode(arrays, np.array(actions, np.float32), primitive))
            self.episodes.append(Info(index, length, index >= failures, seed=index // 2))

    def read(self, cameras: Any = None) -> Iterator[Episode]:
        for info, episode in zip(self.episodes, self._episodes, strict=True):
            episode.info = info
            yield episode

    def load(self, index: int, cameras: Any = None) -> Episode:
        return self._episodes[index]


def draw(place: np.ndarray, goal: np.ndarray) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), 30, np.uint8)
    for point, channel in ((place, 0), (goal, 1)):
        row, column = np.clip(((point + 1.0) * SIDE / 2).astype(int), 1, SIDE - 2)
        picture[row - 1 : row + 2, column - 1 : column + 2, channel] = 250
    return picture


@pytest.fixture
def demos() -> Callable[..., Demos]:
    return Demos

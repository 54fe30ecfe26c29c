"""A set of demonstrations in numbers: how many, how long, how often measured, which ranges."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos.dataset import DemoSet

RATE_SHARE = 0.05
"""A measured rate that is farther from the nominal one is pointed out, and not exported as the nominal one."""


@dataclass(frozen=True)
class Range:
    """One entry of an observation or action over all steps."""

    name: str
    low: float
    high: float
    mean: float
    std: float

    @property
    def constant(self) -> bool:
        """Whether it never changes: there is nothing to be learned from it."""
        return self.low == self.high


@dataclass
class Inspection:
    """A set in numbers."""

    episodes: int = 0
    successes: int = 0
    steps: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    """Episodes of each."""
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(episodes,)."""
    intervals_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Between the steps of an episode, of all episodes."""
    nominal_hz: float = math.nan
    ranges: list[Range] = field(default_factory=list)
    primitives: dict[int, int] = field(default_factory=dict)
    """Steps of each."""
    primitive_names: tuple[str, ...] = ()
    """By number, where the episodes' metadata say so."""
    megabytes: float = 0.0
    corrupt: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def measured_hz(self) -> float:
        """Of the median interval."""
        return 1.0 / float(np.median(self.intervals_s)) if self.intervals_s.size else math.nan

    @property
    def rate_is_off(self) -> bool:
        """Whether what was measured is not what the set claims."""
        measured = self.measured_hz
        return measured == measured and not math.isclose(measured, self.nominal_hz, rel_tol=RATE_SHARE)

    def name_of(self, primitive: int) -> str:
        """A primitive's name; its number where it has none."""
        known = 0 <= primitive < len(self.primitive_names)
        return self.primitive_names[primitive] if known else str(primitive)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "episodes": self.episodes, "successes": self.successes, "steps": self.steps, "tasks": self.tasks,
            "lengths": self.lengths.tolist(), "nominal_hz": self.nominal_hz,
            "measured_hz": self.measured_hz if self.intervals_s.size else None,
            "longest_interval_s": float(self.intervals_s.max()) if self.intervals_s.size else None,
            "primitives": {str(number): count for number, count in self.primitives.items()},
            "primitive_names": list(self.primitive_names),
            "megabytes": self.megabytes,
            "corrupt": [[str(path), reason] for path, reason in self.corrupt],
            "ranges": [[one.name, one.low, one.high, one.mean, one.std] for one in self.ranges],
        }  # fmt: skip


def inspect_set(demos: DemoSet) -> Inspection:
    """Read every episode, pictures left out, and boil the set down."""
    found = Inspection(nominal_hz=demos.schema.rate_hz)
    names = [name for key, feature in demos.schema.vectors.items() for name in feature.entry_names(key)]
    names += demos.schema.action.entry_names("action")
    lengths, intervals = [], []
    primitives: Counter[int] = Counter()
    tasks: Counter[str] = Counter()
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    total, squares = np.zeros(len(names)), np.zeros(len(names))
    centre: NDArray[np.float64] | None = None
    for episode in demos.read(cameras=()):
        count = episode.info.length
        parts = [episode.observation[key].reshape(count, -1) for key in demos.schema.vectors] + [episode.action]
        rows = np.concatenate(parts, axis=1).astype(np.float64)
        centre = rows[0] if centre is None else centre  # sums of what is left keep their digits
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
        total, squares = total + (rows - centre).sum(axis=0), squares + np.square(rows - centre).sum(axis=0)
        lengths.append(count)
        intervals.append(np.diff(episode.timestamp_s))
        primitives.update(episode.primitive.tolist())
        tasks[episode.info.task] += 1
        named = episode.info.metadata.get("primitive_names")
        found.primitive_names = tuple(map(str, named)) if named else found.primitive_names
        found.successes += episode.info.success
        found.megabytes += episode.info.path.stat().st_size / 1e6
    found.corrupt = list(demos.corrupt)
    if centre is None:
        return found
    found.episodes, found.steps = len(lengths), sum(lengths)
    found.lengths, found.intervals_s = np.array(lengths), np.concatenate(intervals)
    found.tasks, found.primitives = dict(tasks), dict(sorted(primitives.items()))
    mean = total / found.steps
    std = np.sqrt(np.maximum(squares / found.steps - mean**2, 0.0))
    columns = (low.tolist(), high.tolist(), (mean + centre).tolist(), std.tolist())
    found.ranges = [Range(name, *values) for name, *values in zip(names, *columns, strict=True)]
    return found

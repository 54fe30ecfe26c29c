"""What the benchmarks share: timing, machine load, random transitions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]


def load_average() -> list[float] | None:
    """The machine's load over 1, 5 and 15 minutes; None where the system does not tell."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def ms_per_call(call: Callable[[], object], count: int) -> float:
    """Milliseconds per call, over ``count`` calls."""
    began = time.perf_counter()
    for _ in range(count):
        call()
    return 1e3 * (time.perf_counter() - began) / count


def adder(buffer: Any) -> Callable[[], None]:
    """A function that adds one random transition, drawn here, to a buffer of one environment."""
    from itertools import cycle

    import numpy as np

    draw = np.random.default_rng(0)
    obs = draw.standard_normal((65, 1, buffer.obs_size)).astype(np.float32)
    action = draw.uniform(-1, 1, (64, 1, buffer.action_dim)).astype(np.float32)
    rows = cycle(zip(obs[:-1], obs[1:], action, strict=True))
    reward, done = np.ones(1, dtype=np.float32), np.zeros(1, dtype=bool)
    infos: list[dict[str, Any]] = [{}]

    def add() -> None:
        before, after, act = next(rows)
        buffer.add(before, after, act, reward, done, infos)

    return add

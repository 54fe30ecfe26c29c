"""A machine that stands still while its clock runs on: paused virtual machines, closed laptops."""

from __future__ import annotations

import time

STALL_S = 2.0
"""Shorter pauses are not told from waiting for a core [s]."""
BUSY_SHARE = 0.05
"""A process that got this much of a processor was not standing still."""


class StallMeter:
    """Finds the time in which this process got next to no processor time although the clock went on."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def lap(self) -> float:
        """Seconds stood still since the last lap: 0 but for a lap longer than :data:`STALL_S` without work."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        passed_s, busy_s = wall_s - self._wall_s, cpu_s - self._cpu_s
        self._wall_s, self._cpu_s = wall_s, cpu_s
        return passed_s - busy_s if passed_s > STALL_S and busy_s < BUSY_SHARE * passed_s else 0.0

"""How many processors there are for this process, and how many threads step a batch of simulations fastest on them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeVar

Batch = TypeVar("Batch")

GAIN = 0.9
"""More threads are taken only if they need at most this part of the time of fewer."""
_ROUNDS = 9


def usable_processors() -> int:
    """Those this process may run on: fewer than the machine has under ``taskset``, in a container, in a batch job.

    MuJoCo's own "0: all" counts the machine's. Two threads that then share one processor wait for each other: 16 Pandas
    took 2.5 times as long.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fastest(times: Mapping[int, float]) -> int:
    """The number of threads to use: more only where they are faster by a tenth than the best of fewer.

    Args:
        times: threads -> time of the same work, in any unit.
    """
    ascending = sorted(times)
    best = ascending[0]
    for threads in ascending[1:]:
        if times[threads] <= GAIN * times[best]:
            best = threads
    return best


def stepping_threads(
    make: Callable[[int], Batch],
    step: Callable[[Batch], object],
    copies: int,
    *,
    processors: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Threads that step a batch fastest just now, measured on batches that are thrown away.

    A second thread pays on idle processors. Where another program runs on one of them, every step waits for the thread
    that shares it. The simulation is the same to the bit with any number, so nothing but time depends on the answer.

    Args:
        make: the batch with this many threads, the caller's included.
        step: what is timed.
        copies: in the batch; more threads than these have nothing to do.
        processors: usable; found out by default.
        clock: seconds.
    """
    most = min(copies, usable_processors() if processors is None else processors)
    if most <= 1:
        return 1
    candidates = sorted({2**i for i in range(most.bit_length())} | {most})
    batches = {threads: make(threads) for threads in candidates}
    times: dict[int, list[float]] = {threads: [] for threads in candidates}
    for index in range(_ROUNDS):
        # In turns, so that a program that comes or goes meanwhile is met by all of them.
        for threads in candidates[:: 1 if index % 2 == 0 else -1]:
            began = clock()
            step(batches[threads])
            if index:  # starting the threads belongs to the first
                times[threads].append(clock() - began)
    return fastest({threads: median(values) for threads, values in times.items()})

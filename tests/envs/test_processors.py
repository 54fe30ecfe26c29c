"""How many threads step a batch: what the process may use, and what measures faster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cadenza.envs.processors import fastest, stepping_threads, usable_processors


def steps_taking(seconds: dict[int, float], copies: int = 16, processors: int = 8) -> tuple[int, list[int]]:
    """The choice where a step on t threads takes ``seconds[t]``, and which numbers of threads were tried."""
    now, made = 0.0, []

    def make(threads: int) -> int:
        made.append(threads)
        return threads

    def step(threads: int) -> None:
        nonlocal now
        now += seconds[threads]

    return stepping_threads(make, step, copies, processors=processors, clock=lambda: now), made


def test_more_threads_must_earn_their_place() -> None:
    assert steps_taking({1: 8.0, 2: 4.5, 4: 2.5, 8: 2.4})[0] == 4
    assert steps_taking({1: 8.0, 2: 20.0, 4: 25.0, 8: 40.0})[0] == 1  # other programs have the processors


@pytest.mark.parametrize(
    ("copies", "processors", "tried"),
    [(16, 1, []), (1, 8, []), (16, 2, [1, 2]), (3, 8, [1, 2, 3]), (16, 6, [1, 2, 4, 6])],
)
def test_never_more_than_copies_or_processors(copies: int, processors: int, tried: list[int]) -> None:
    assert steps_taking(dict.fromkeys(range(9), 1.0), copies, processors) == (1, tried)


def test_the_slow_first_step_does_not_count() -> None:
    first = {1, 2}
    now = 0.0

    def step(threads: int) -> None:
        nonlocal now
        now += (100.0 if threads == 2 and threads in first else 0.0) + 1.0 / threads
        first.discard(threads)

    assert stepping_threads(lambda threads: threads, step, 16, processors=2, clock=lambda: now) == 2


def test_fastest_is_the_least_that_is_nearly_best() -> None:
    assert fastest({4: 0.85, 1: 1.0, 2: 0.89}) == 2
    assert fastest({1: 1.0}) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot confine a process")
def test_a_confined_process_steps_on_what_it_may_use() -> None:
    program = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from cadenza.envs.registration import make_vec_env\n"
        "print(make_vec_env('cadenza/PandaReach-v0', 4).physics.batch.nthread,"
        "make_vec_env('cadenza/OP3Stand-v0', 4).physics.batch.nthread)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["1", "1"]
    assert usable_processors() == len(os.sched_getaffinity(0))

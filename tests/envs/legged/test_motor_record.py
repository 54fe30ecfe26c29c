"""What the motors of many copies go through is what watches around single environments see."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest

from cadenza.envs.legged.vectorized import LeggedVecEnv
from cadenza.envs.motor_metrics import merge
from cadenza.envs.motor_watch import BLOCK, MotorWatch
from cadenza.envs.registration import make_env

COPIES, STEPS = 3, BLOCK + 40


def actions() -> np.ndarray:
    """Strong enough that some copies fall and begin anew."""
    return np.random.default_rng(3).uniform(-1.5, 1.5, (STEPS, COPIES, 20)).astype(np.float32)


def batch() -> LeggedVecEnv:
    env = LeggedVecEnv("op3", "walk", COPIES, threads=1)
    env.seed(7)
    env.reset()
    return env


def same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name] == pytest.approx(right[name], rel=1e-9, abs=1e-12), name


def test_copies_count_as_single_environments_do() -> None:
    many = batch()
    for step in actions():
        many.step(step)
    watches = []
    for copy in range(COPIES):
        watch = MotorWatch(make_env("cadenza/OP3Walk-v0", pictures=False))
        watch.reset(seed=7 + copy)
        for step in actions()[:, copy]:
            _, _, terminated, truncated, _ = watch.step(step)
            if terminated or truncated:
                watch.reset()
        watches.append(watch)
    totals, since = many.motor_record.mark()
    assert totals["steps"] == COPIES * STEPS
    same(totals, reduce(merge, (watch.totals() for watch in watches)))
    same(since, totals)
    assert many.motor_record.mark()[1]["steps"] == 0


def test_a_resumed_environment_goes_on_counting() -> None:
    unbroken, broken = batch(), batch()
    half = STEPS // 2
    for step in actions():
        unbroken.step(step)
    for step in actions()[:half]:
        broken.step(step)
    resumed = LeggedVecEnv("op3", "walk", COPIES, threads=1)
    resumed.set_state(broken.get_state())
    for step in actions()[half:]:
        resumed.step(step)
    same(resumed.motor_record.mark()[0], unbroken.motor_record.mark()[0])

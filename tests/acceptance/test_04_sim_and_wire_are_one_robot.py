"""Promise 4: one policy through one loop does the same on the simulation and on driver, wire and emulator.

The shipped policy walks on the floor: contacts amplify every difference, so "equal" here is not a matter of luck.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed import WALK, Run, drive

from cadenza.controllers.rigs import EMULATED, SIM
from cadenza.controllers.shipped import policies_folder

TICK = 2 * math.pi / 4096
STEPS = {"q": TICK, "dq": 0.0239691, "gyro": math.radians(2000 / 32800), "gravity": 0.00175, "goal": TICK}
"""One step of each quantity on the wire."""


@pytest.fixture(scope="module")
def walk(op3_is_here: None) -> Path:
    pytest.importorskip("dynamixel_sdk")
    pytest.importorskip("onnxruntime")
    return policies_folder() / "op3-walk"


def differences(ours: Run, theirs: Run) -> dict[str, float]:
    """Largest difference of each quantity over all ticks."""
    return {
        name: float(np.max(np.abs(np.array(getattr(ours, name)) - np.array(getattr(theirs, name)))))
        for name in (*STEPS, "action")
    }


def assert_equal(ours: Run, theirs: Run, ticks: int) -> None:
    assert len(ours.q) == len(theirs.q) >= ticks, (ours.report.reason, theirs.report.reason)
    found = differences(ours, theirs)
    for name, step in STEPS.items():
        assert found[name] <= 1.01 * step, f"{name} differs by {found[name]:.6f}, a step is {step:.6f}"
    # An action is made of measured numbers; a step of one of them moves it by as little as this.
    assert found["action"] <= 0.05


@pytest.mark.parametrize("ticks", [150, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_walk_on_the_floor_is_the_same_tick_by_tick(walk: Path, ticks: int) -> None:
    ours = drive(SIM, walk, ticks, command=WALK)
    theirs = drive(EMULATED, walk, ticks, command=WALK)
    assert_equal(ours, theirs, ticks)
    for run in (ours, theirs):
        assert run.report.reason == "the time is over"
        assert run.report.missed_ticks == 0
    assert np.ptp(np.array(theirs.q), axis=0).max() > 0.2, "it does something"


@pytest.mark.parametrize("task", ["stand", pytest.param("walk", marks=pytest.mark.slow)])
def test_an_untrained_policy_shakes_both_alike(small_bundle: Any, task: str) -> None:
    ticks = 100 if task == "stand" else 1_000
    folder = small_bundle(task)
    assert_equal(drive(SIM, folder, ticks, hung_up=True), drive(EMULATED, folder, ticks, hung_up=True), ticks)


@pytest.mark.parametrize(
    ("late", "ticks"),
    [
        (1, 200),
        (2, 200),
        pytest.param(1, 1_000, marks=pytest.mark.slow),
        pytest.param(2, 1_000, marks=pytest.mark.slow),
    ],
)
def test_one_or_two_ticks_of_delay_do_not_end_the_walk(walk: Path, late: int, ticks: int) -> None:
    """Samples 20 or 40 ms old, and nobody says so."""
    run = drive(EMULATED, walk, ticks, command=np.zeros(3), late=late)
    assert run.report.reason == "the time is over"
    assert not run.report.fell
    assert run.report.active_ticks == ticks
    assert run.uprightness > 0.9

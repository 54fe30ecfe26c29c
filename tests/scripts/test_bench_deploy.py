"""``cadenza bench deploy``: the figures agree with each other; nothing is asserted about this machine's speed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from cadenza.controllers.loop import next_deadline
from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.deploy import Deploy, measure_can, measure_deploy


@pytest.mark.parametrize(
    ("late_s", "expected"),
    [
        (-0.015, (10.02, 0)),  # in time
        (0.004, (10.02, 0)),  # late by less than a quarter of the period: run
        (0.006, (10.04, 1)),
        (0.28, (10.30, 14)),
        (0.284, (10.30, 14)),
        (0.286, (10.32, 15)),
    ],
)
def test_deadlines_are_absolute_and_skipped_never_made_up_for(late_s: float, expected: tuple[float, int]) -> None:
    deadline, skipped = next_deadline(10.0, 0.02, 10.02 + late_s)
    assert (deadline, skipped) == (pytest.approx(expected[0]), expected[1])
    assert deadline - (10.02 + late_s) > -0.25 * 0.02 - 1e-9


@pytest.mark.slow
def test_servos_are_measured(small_bundle: Callable[[str], Path]) -> None:
    try:
        record = measure_deploy(Deploy(str(small_bundle("walk")), seconds=1.0, only="dynamixel"))
    except CadenzaError as error:  # too busy for a loop in real time
        assert "The loop was stopped before the policy drove" in str(error)  # noqa: PT017
        return
    assert 0 < record["bus_ms_p50"] <= record["bus_ms_p99"] <= record["bus_ms_max"]
    assert 0 < record["policy_us_p50"] <= record["policy_us_p99"]
    assert record["ticks"] + record["missed_ticks"] <= 51
    assert record["seconds"] == 1.0


@pytest.mark.slow
def test_drives_on_can_are_measured() -> None:
    record = measure_can(0.5)
    assert 0 < record["bus_ms_p50"] <= record["bus_ms_p99"] <= record["bus_ms_max"]
    assert record["ticks"] + record["missed_ticks"] == pytest.approx(100, abs=3)
    assert math.isclose(record["rate_hz"], 200.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Deploy(seconds=0.0), "--seconds must be above 0"),
        (Deploy(only="feetech"), "--only takes both, dynamixel or can"),
        (Deploy(bundle="nowhere"), "There is no policy bundle 'nowhere'"),
    ],
)
def test_mistakes_are_explained(options: Deploy, said: str) -> None:
    with pytest.raises(CadenzaError, match=said):
        measure_deploy(options)

"""Motor metrics of commands and loads whose figures are known beforehand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.envs.motor_metrics import (
    LOOKBACK,
    METRICS,
    TORQUE_METRICS,
    Totals,
    difference,
    empty_totals,
    measure,
    merge,
    summarize,
)
from cadenza.robots.motor_thermal import Winding


def block(
    commands: Any, loads: Any = None, starts: Any = (0,), dt_s: float = 0.1, **kwargs: Any
) -> tuple[Totals, NDArray[np.float64]]:
    """Totals of one motor, or of several as columns, that begins an episode at each row of ``starts``."""
    rows = np.asarray(commands, float)
    rows = rows.reshape(len(rows), -1)
    begins = np.zeros(len(rows), bool)
    begins[list(starts)] = True
    ahead = np.zeros((LOOKBACK, rows.shape[1]))
    force = None if loads is None else np.concatenate([ahead, np.asarray(loads, float).reshape(rows.shape)])
    rise = kwargs.pop("rise_k", np.zeros(rows.shape[1]))
    return measure(np.concatenate([ahead, rows]), force, begins, 0, rise, dt_s, **kwargs)


def figures(commands: Any, loads: Any = None, dt_s: float | None = 0.1, **kwargs: Any) -> dict[str, Any]:
    totals, _ = block(commands, loads, dt_s=dt_s or 1.0, **kwargs)
    return summarize(totals, [f"joint {index}" for index in range(len(totals["saturated"]))], dt_s)


def test_saturation_counted_by_hand() -> None:
    told = figures([[1.0, 0.0], [-0.96, 0.95], [0.94, -1.0], [0.2, 0.1]])
    assert told["saturated_share"] == pytest.approx(3 / 8)
    assert told["joints"]["joint 0"]["saturated_share"] == 0.5
    assert told["joints"]["joint 1"]["saturated_share"] == 0.25
    assert told["worst_joint"]["saturated_share"] == "joint 0"


def test_changes_by_hand() -> None:
    told = figures([[0.0, 0.0], [0.5, 0.0], [0.25, 0.1], [-0.75, 0.1]])
    assert told["joints"]["joint 0"]["action_change_mean"] == pytest.approx((0.5 + 0.25 + 1.0) / 3)
    assert told["action_change_mean"] == pytest.approx((1.75 + 0.1) / 6)


def test_percentile() -> None:
    """980 changes of 0.105, ten of 0.505 and ten of 1.5: 99 % of them are at most 0.51, the end of the ten's bin."""
    changes = np.repeat([0.105, 0.505, 1.5], [980, 10, 10])
    signs = np.where(np.arange(1000) % 2, -1, 1)
    commands = np.concatenate([[0.0], np.cumsum(changes * signs)])
    assert np.abs(commands).max() < 2  # the metric does not clip; only the size of the changes matters here
    assert figures(commands)["action_change_p99"] == pytest.approx(0.51, abs=1e-9)
    assert figures([1.0, -1.0, 1.0])["action_change_p99"] == pytest.approx(2.0, abs=0.01)


def test_percentile_of_commands_that_stay() -> None:
    """No change is no change, not the middle of the first bin; also beside changes within that bin, and merged."""
    assert figures(np.zeros(50))["action_change_p99"] == 0.0
    mostly_still = np.where(np.arange(1001) > 500, 0.004, 0.0)  # one change of 1,000
    assert figures(mostly_still)["action_change_p99"] == 0.0
    small = np.concatenate([np.zeros(901), np.cumsum(np.where(np.arange(100) % 2, -1, 1) * 0.004)])  # 100 of 1,000
    assert figures(small)["action_change_p99"] == pytest.approx(0.009)  # 90 of the 100 within the bin of 0.01
    still, moving = block(np.zeros(1000))[0], block(small)[0]
    whole = merge(still, moving)
    assert whole["unchanged"] == 999 + 900
    assert difference(whole, still)["unchanged"] == 900
    before = {name: value for name, value in still.items() if name != "unchanged"}  # of an older checkpoint
    assert merge(before, moving)["unchanged"] == merge(moving, before)["unchanged"] == 900
    assert difference(whole, before)["unchanged"] == 1899
    assert summarize(before, ["joint"], 0.1)["action_change_p99"] == pytest.approx(0.0099)


def test_jerk() -> None:
    """From -1 to 1 and back: the third difference is 8. A parabola has none."""
    assert figures([1.0, -1.0] * 10)["jerk_rms"] == pytest.approx(8.0)
    assert figures(np.linspace(0, 1, 20) ** 2)["jerk_rms"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("steps", [64, 201, 512])
@pytest.mark.parametrize(("cycles_per_step", "share"), [(0.03, 0.0), (0.09, 0.0), (0.16, 1.0), (0.3, 1.0), (0.5, 1.0)])
def test_frequency_of_a_sinusoid(cycles_per_step: float, share: float, steps: int) -> None:
    """A quarter of the Nyquist frequency is 0.125 cycles per step."""
    wave = 0.3 + 0.5 * np.cos(2 * np.pi * cycles_per_step * np.arange(steps))
    assert figures(wave)["high_frequency_power_share"] == pytest.approx(share, abs=0.02)


def test_frequency_of_a_mixture() -> None:
    """Amplitudes 1 and 1/2: powers 4 to 1. White noise: three quarters of the band."""
    time = np.arange(500)
    wave = 0.6 * np.sin(0.02 * 2 * np.pi * time) + 0.3 * np.sin(0.31 * 2 * np.pi * time)
    assert figures(wave)["high_frequency_power_share"] == pytest.approx(0.2, abs=0.005)
    noise = np.random.default_rng(0).uniform(-1, 1, (512, 40))
    assert figures(noise)["high_frequency_power_share"] == pytest.approx(0.75, abs=0.01)


def test_a_command_that_never_moves_has_no_high_frequencies() -> None:
    assert figures(np.full(100, 0.3))["high_frequency_power_share"] == 0.0
    assert figures(np.full(15, 0.3))["high_frequency_power_share"] is None  # too short to tell


def test_shocks_counted_by_hand() -> None:
    """Sign and size both count: 0.3 to -0.3 is one, 0.2 to -0.2 is none, 0.9 to 0.1 is none, 0 is no side."""
    loads = [0.3, -0.3, 0.2, -0.2, -0.9, 0.1, 0.9, 0.0, -0.9, 0.9]
    #         -     1    0     0     0    1    0    0     0    1
    told = figures(np.zeros(10), loads)
    assert told["gearbox_shocks"] == 3
    assert told["gearbox_shocks_per_min"] == pytest.approx(3 / (10 * 0.1 / 60))


def test_nothing_is_compared_across_a_reset() -> None:
    commands = [1.0, 1.0, 1.0, -1.0, -1.0, -1.0]
    told = figures(commands, commands, starts=(0, 3))
    assert told["action_change_mean"] == 0.0
    assert told["gearbox_shocks"] == 0
    assert told["jerk_rms"] is None  # no episode has four steps
    assert figures(commands, commands)["gearbox_shocks"] == 1


def test_torque_and_heat() -> None:
    """Loads of 0.4 and -0.4 are twice the rated torque: they settle at 25 + 4 * 55 and pass 80 after 86.3 s."""
    loads = np.tile([0.4, -0.4], 1000)
    totals, rise = block(np.zeros(2000), loads)
    told = summarize(totals, ["knee"], 0.1)
    assert told["torque_rms_over_rated"] == pytest.approx(2.0)
    assert told["winding_settled_c"] == pytest.approx(245.0)
    assert told["winding_peak_c"] == pytest.approx(25 + 220 * -np.expm1(-200 / 300))
    assert rise[0] == pytest.approx(told["winding_peak_c"] - 25)
    assert told["winding_over_limit_s"] == pytest.approx(200 - 300 * np.log(4 / 3), abs=0.1)
    assert told["seconds"] == pytest.approx(200.0)


def test_time_over_the_limit_is_that_of_any_winding() -> None:
    """The first motor is too hot in the first half, the second in the second; each alone for half of the time."""
    quick = Winding(time_constant_s=0.001)
    loads = np.array([[0.5, 0.0]] * 50 + [[0.0, 0.5]] * 50)
    told = summarize(block(np.zeros((100, 2)), loads, winding=quick)[0], ["a", "b"], 0.1, quick)
    assert told["winding_over_limit_s"] == pytest.approx(10.0)
    assert (
        told["joints"]["a"]["winding_over_limit_s"] == told["joints"]["b"]["winding_over_limit_s"] == pytest.approx(5)
    )


def test_a_hot_start_counts_as_peak() -> None:
    assert figures(np.zeros(5), np.zeros(5), rise_k=np.array([60.0]))["winding_peak_c"] == pytest.approx(85.0)


def test_blocks_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    commands, loads = rng.uniform(-1, 1, (300, 2)), rng.uniform(-1, 1, (300, 2))
    starts = np.zeros(300, bool)
    starts[[0, 40, 119, 250]] = True
    ahead = np.zeros((LOOKBACK, 2))
    rows, force = np.concatenate([ahead, commands]), np.concatenate([ahead, loads])
    whole, whole_rise = measure(rows, force, starts, 0, np.zeros(2), 0.02)
    total, rise = empty_totals(2), np.zeros(2)
    # The second block begins 2 steps into an episode, the third 80 steps into the one of step 119.
    for first, last, before in ((0, 42, 0), (42, 199, 2), (199, 300, 3)):
        part = slice(first, LOOKBACK + last)
        new, rise = measure(rows[part], force[part], starts[first:last], before, rise, 0.02)
        total = merge(total, new)
    np.testing.assert_allclose(rise, whole_rise, rtol=1e-12)
    for name in whole:
        if name not in ("power", "high_power", "spectrum_steps"):  # the spectrum is of stretches within a block
            np.testing.assert_allclose(total[name], whole[name], rtol=1e-12, err_msg=name)


def test_two_robots() -> None:
    """Times and shocks add up, so that the rate stays; the peak is that of the hotter one."""
    hard, soft = np.tile([0.9, -0.9], 50), np.zeros(100)
    a, b = block(soft, hard)[0], block(soft, soft)[0]
    both, alone = summarize(merge(a, b), ["x"], 0.1), summarize(a, ["x"], 0.1)
    assert both["seconds"] == 2 * alone["seconds"]
    assert both["gearbox_shocks"] == alone["gearbox_shocks"] == 99
    assert both["gearbox_shocks_per_min"] == pytest.approx(alone["gearbox_shocks_per_min"] / 2)
    assert both["winding_peak_c"] == alone["winding_peak_c"]
    assert both["torque_rms_over_rated"] == pytest.approx(4.5 / np.sqrt(2))


def test_what_was_added_since() -> None:
    a, b = block([0.0, 1.0, 1.0])[0], block([1.0, -1.0])[0]
    since = difference(merge(a, b), a)
    for name in b:
        np.testing.assert_array_equal(since[name], b[name], err_msg=name)


def test_without_torques_they_are_absent() -> None:
    told = figures(np.zeros(20))
    assert [name for name in METRICS if told[name] is None] == list(TORQUE_METRICS)
    assert not set(TORQUE_METRICS) & told["joints"]["joint 0"].keys()
    json.dumps(told, allow_nan=False)


def test_without_a_step_all_is_absent() -> None:
    told = summarize(empty_totals(2), ["a", "b"], 0.01)
    assert [name for name in METRICS if told[name] is not None] == []
    json.dumps(told, allow_nan=False)

"""The winding model, against the analytic answers of a first-order system and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cadenza.robots.motor_thermal import XM430_W350, Winding


def test_derived_constants() -> None:
    """12 V / 2.3 A; 0.46 A through it are 1.104 W, which warm by 55 K; 300 s / 49.8 K/W."""
    assert XM430_W350.resistance_ohm == pytest.approx(5.2174, rel=1e-4)
    assert XM430_W350.loss_w(1.0) == pytest.approx(12.0 * 2.3)
    assert XM430_W350.loss_w(-0.2) == pytest.approx(1.104)
    assert XM430_W350.thermal_resistance_k_w == pytest.approx(55 / 1.104)
    assert XM430_W350.heat_capacity_j_k == pytest.approx(6.0218, rel=1e-4)


@pytest.mark.parametrize("dt_s", [0.002, 0.015, 1.0, 400.0])
@pytest.mark.parametrize("load", [1.0, -0.5, 0.2])
def test_step_response(load: float, dt_s: float) -> None:
    """A constant loss warms by final (1 - exp(-t / tau)), however long the steps are."""
    rises = XM430_W350.heat(np.zeros(1), np.full((1000, 1), load), dt_s)[:, 0]
    times = dt_s * np.arange(1, 1001)
    final = 55 * (load / 0.2) ** 2
    np.testing.assert_allclose(rises, final * -np.expm1(-times / 300), rtol=1e-9)


def test_cooling() -> None:
    rises = XM430_W350.heat(np.array([100.0, 50.0]), np.zeros((3, 2)), 300.0)
    np.testing.assert_allclose(rises, np.exp(-np.arange(1, 4))[:, None] * [100.0, 50.0])


def test_each_motor_on_its_own_and_in_pieces() -> None:
    """The same as stepping the recursion, and as going on from where an earlier piece ended."""
    rng = np.random.default_rng(0)
    loads, start = rng.uniform(-1, 1, (700, 3)), np.array([0.0, 30.0, 200.0])
    winding = Winding(time_constant_s=7.0)  # 700 steps of 1 s are 100 time constants
    expected, rise = np.empty((700, 3)), start
    for step, load in enumerate(loads):
        final = 55 * np.square(load / 0.2)
        rise = final + (rise - final) * math.exp(-1 / 7)
        expected[step] = rise
    np.testing.assert_allclose(winding.heat(start, loads, 1.0), expected, rtol=1e-9)
    first = winding.heat(start, loads[:333], 1.0)
    second = winding.heat(first[-1], loads[333:], 1.0)
    np.testing.assert_allclose(np.concatenate([first, second]), expected, rtol=1e-9)


def test_time_to_the_limit() -> None:
    assert XM430_W350.seconds_to_limit(1.0) == pytest.approx(-300 * math.log(1 - 1 / 25))  # 12.2 s
    assert XM430_W350.seconds_to_limit(0.4) == pytest.approx(300 * math.log(4 / 3))
    assert XM430_W350.seconds_to_limit(0.2) == math.inf
    assert XM430_W350.seconds_to_limit(0.0) == math.inf
    rises = XM430_W350.heat(np.zeros(1), np.ones((130, 1)), 0.1)[:, 0]
    assert np.flatnonzero(rises > 55)[0] == 122  # step 123 ends at 12.3 s, the first moment beyond 12.25 s

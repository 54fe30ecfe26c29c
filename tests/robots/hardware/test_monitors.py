"""Heat, supply, load, speed, stuck joints, falls and faults: what the feedback monitor makes of readings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from recording_port import Bench

from cadenza.robots import load_humanoid
from cadenza.robots.hardware.safety import Limit
from cadenza.robots.hardware.stopping import StopCategory
from cadenza.robots.hardware.types import Fault

OP3 = load_humanoid("op3")


# ---------------------------------------------------------------------- heat, supply, load, speed, stuck joints


def test_a_warm_motor_warns_then_is_derated_then_stops_with_hysteresis() -> None:
    bench = Bench()
    knee = bench.at("r_knee")

    def feel(celsius: float) -> float:
        bench.port.temperature[knee] = celsius
        bench.tick(bench.command())
        return float(bench.safety.monitor.torque_share[knee])

    assert feel(59) == 1.0
    assert bench.safety.monitor.warnings == ()
    assert feel(61) == 1.0
    assert "r_knee warm: up to 61 degC" in bench.safety.monitor.warnings[0]
    assert feel(70) == pytest.approx(0.75)  # half way from 65 to 75, down to a half
    assert feel(68) == pytest.approx(0.75), "3 K of hysteresis"
    assert feel(66) == pytest.approx(0.8)  # felt as 69
    assert bench.safety.take_demand() is None
    feel(75)
    feel(75)
    assert bench.safety.take_demand() is None
    assert feel(75) == pytest.approx(0.5)
    demand = bench.safety.take_demand()
    assert demand is not None
    assert demand.category == StopCategory.CONTROLLED
    assert "r_knee too hot: up to 75 degC" in demand.reason
    assert feel(40) == 1.0


def test_a_derated_servo_gets_less_torque_by_a_nearer_target() -> None:
    bench = Bench()
    knee = bench.at("r_knee")
    bench.port.temperature[knee] = 70
    q = bench.home + 0.25
    applied = bench.tick(bench.command(q))
    assert bench.port.written[-1].q[knee] - bench.port.q[knee] == pytest.approx(0.75 * 4.1 / 21.1)
    assert applied.limited_by[knee] == Limit.TORQUE | Limit.DERATED
    assert applied.limited_by.sum() == Limit.TORQUE | Limit.DERATED, "the others keep theirs"


def test_one_wrong_temperature_does_not_stop() -> None:
    bench = Bench()
    bench.port.temperature[0] = 255
    bench.tick(bench.command())
    bench.port.temperature[0] = 30
    for _ in range(5):
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None
    assert bench.safety.monitor.torque_share[0] == 1.0


def test_supply_warns_near_its_end_and_stops_beyond_it_after_half_a_second() -> None:
    bench = Bench()
    bench.port.voltage[:] = 10.1  # 10 to 14.8: warns 0.144 V before
    bench.tick(bench.command())
    assert bench.safety.monitor.warnings == ("supply at 10.1 V",)
    bench.port.voltage[:] = 9.5
    for _ in range(24):
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None, "legs that land make it sag"
    for _ in range(2):
        bench.tick(bench.command())
    demand = bench.safety.take_demand()
    assert demand is not None
    assert "supply of 9.5 V" in demand.reason
    bench.port.voltage[:] = np.nan
    bench.tick(bench.command())
    assert bench.safety.take_demand() is None, "what is not reported is not judged"


def test_a_motor_at_its_torque_limit_for_three_seconds_stops() -> None:
    bench = Bench()
    bench.port.tau[3] = -4.0
    warned, demand, tick = False, None, 0
    while demand is None:
        bench.tick(bench.command())
        tick += 1
        warned = warned or "l_sho_roll at the torque limit" in bench.safety.monitor.warnings
        demand = bench.safety.take_demand()
    assert warned
    assert "l_sho_roll overloaded for 3 s" in demand.reason
    assert 150 <= tick <= 152


def test_a_runaway_is_caught_in_three_ticks() -> None:
    bench = Bench()
    bench.port.dq[7] = 2.1 * OP3.joints[7].velocity_rad_s
    for _ in range(2):
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None
    bench.tick(bench.command())
    demand = bench.safety.take_demand()
    assert demand is not None
    assert "l_hip_yaw turns faster than it may" in demand.reason


def test_a_joint_that_does_not_move_although_its_target_does_is_stuck() -> None:
    bench = Bench()
    for tick in range(100):
        bench.port.q += 1e-4 * (1 if tick % 2 else -1)
        bench.port.q[bench.at("l_el")] = bench.home[bench.at("l_el")]
        bench.tick(bench.command(bench.home + 0.1 * math.sin(tick / 5)))
        demand = bench.safety.take_demand()
        if demand is not None:
            break
    assert demand is not None
    assert demand.reason == "l_el blocked, or its encoder stuck"
    # 0.1 sin(t/5) has wandered by more than 0.1 rad when it falls below 0, in tick 16; one second from there.
    assert 65 <= tick <= 68


def test_rest_before_a_step_does_not_count_as_being_stuck() -> None:
    """A policy takes over after a second at home: a joint that needs more than one tick to move is not blocked."""
    bench = Bench()
    for _ in range(100):
        bench.tick(bench.command())
    away = bench.home.copy()
    away[bench.at("l_el")] += 0.3
    for _ in range(20):
        bench.tick(bench.command(away))
    assert bench.safety.take_demand() is None
    for _ in range(40):
        bench.tick(bench.command(away))
    demand = bench.safety.take_demand()
    assert demand is not None
    assert demand.reason == "l_el blocked, or its encoder stuck"


def test_a_robot_that_stands_still_is_not_stuck() -> None:
    bench = Bench()
    for _ in range(150):
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None


# ---------------------------------------------------------------------- falls and faults


def test_a_fall_is_debounced_and_takes_the_power_away() -> None:
    bench = Bench()
    tilt = math.radians(61)
    bench.port.gravity = np.array([math.sin(tilt), 0.0, -math.cos(tilt)])
    for _ in range(9):
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None
    bench.tick(bench.command())
    demand = bench.safety.take_demand()
    assert demand is not None
    assert demand.category == StopCategory.POWER_OFF
    assert "leans 61 deg" in demand.reason


def test_a_lean_below_the_threshold_or_a_short_one_is_no_fall() -> None:
    bench = Bench()
    for tick in range(60):
        tilt = math.radians(59 if tick < 30 else 90 if tick % 9 else 0)
        bench.port.gravity = np.array([0.0, math.sin(tilt), -math.cos(tilt)])
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None


def test_a_silent_inertial_unit_coasts_three_ticks_too() -> None:
    bench = Bench()
    bench.port.imu_age = 0.05
    for _ in range(3):
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None
    bench.tick(bench.command())
    demand = bench.safety.take_demand()
    assert demand is not None
    assert "inertial unit" in demand.reason
    bench.port.imu_age, bench.port.gravity = 0.0, np.array([np.nan, 0, 0])
    bench.tick(bench.command())
    assert bench.safety.take_demand() is not None, "not a number is no sample either"
    bench.port.gravity = np.array([0.0, 0.0, -1.0])
    bench.tick(bench.command())
    assert bench.safety.take_demand() is None


@pytest.mark.parametrize("fault", [Fault.OVERLOAD, Fault.OVERHEATED, Fault.COMMUNICATION_LOST, Fault.ENCODER])
def test_a_motors_fault_stops_and_is_readable(fault: Fault) -> None:
    bench = Bench()
    bench.port.fault[12] = int(fault)
    bench.read()
    demand = bench.safety.take_demand()
    assert demand is not None
    assert demand.category == StopCategory.CONTROLLED
    assert str(fault.name).lower().replace("_", " ") in demand.reason
    assert "r_knee" in demand.reason


def test_of_several_demands_the_strongest_counts() -> None:
    bench = Bench()
    bench.port.gravity = np.array([1.0, 0.0, 0.0])
    for _ in range(9):
        bench.tick(bench.command())
    bench.port.fault[1] = int(Fault.OVERLOAD)
    bench.read()
    demand = bench.safety.take_demand()
    assert demand is not None
    assert demand.category == StopCategory.POWER_OFF
    assert bench.safety.take_demand() is None

"""One row of the safety table after the other, by hand; test_safety_properties.py has what holds for any command."""

from __future__ import annotations

import math

import numpy as np
import pytest
from recording_port import PERIOD, Bench

from cadenza.robots import load_humanoid
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.safety import Limit
from cadenza.robots.hardware.stopping import StopCategory
from cadenza.robots.hardware.types import Fault, Mode

OP3, G1 = load_humanoid("op3"), load_humanoid("unitree_g1")


# ---------------------------------------------------------------------- finite guard


@pytest.mark.parametrize("field", ["q", "dq", "tau", "kp", "kd"])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_refuses_the_whole_command_and_holds(field: str, poison: float) -> None:
    bench = Bench()
    bench.tick(bench.command(bench.home + 0.05))
    command = bench.command(bench.home + 0.1)
    getattr(command, field)[bench.at("r_knee")] = poison
    applied = bench.tick(command)
    assert (applied.limited_by & Limit.NOT_FINITE).all()
    assert f"{field} of r_knee is not finite" in applied.reasons[0]
    np.testing.assert_array_equal(bench.port.written[-1].q, bench.home + 0.05)
    assert applied.requested is command


def test_refused_commands_in_a_row_stop_the_robot_and_a_good_one_forgives() -> None:
    bench = Bench()
    bad = bench.command(np.full(20, np.nan))
    for _ in range(4):
        bench.tick(bad)
    bench.tick(bench.command())
    for _ in range(4):
        bench.tick(bad)
    assert bench.safety.take_demand() is None
    bench.tick(bad)
    demand = bench.safety.take_demand()
    assert demand is not None
    assert demand.category == StopCategory.CONTROLLED
    assert "5 commands in a row were refused" in demand.reason
    assert bench.safety.rejected == 9


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(19), np.zeros((20, 1)), np.zeros(0), None, 0.0, "q", np.array(["x"] * 20), np.zeros(20, dtype=object)],
)
def test_what_is_no_array_of_the_joints_numbers_is_refused(wrong: object) -> None:
    bench = Bench()
    command = bench.command()
    command.q = wrong  # type: ignore[assignment]
    applied = bench.tick(command)
    assert (applied.limited_by & Limit.REFUSED).all()
    np.testing.assert_array_equal(bench.port.written[-1].q, bench.home)


def test_a_policy_cannot_change_the_mode() -> None:
    bench = Bench(G1)
    for mode in (Mode.POSITION, Mode.DAMP, Mode.OFF, Mode.HOLD):
        command = bench.command()
        command.mode = mode
        assert (bench.tick(command).limited_by & Limit.REFUSED).all()
    assert {command.mode for command in bench.port.written} == {Mode.IMPEDANCE}


# ---------------------------------------------------------------------- clamps


def test_targets_end_at_the_soft_limit_by_hand() -> None:
    bench = Bench()
    knee = bench.at("r_knee")  # -148..135 deg, soft 132, home -66
    for _ in range(100):
        q = bench.home.copy()
        q[knee] = 100.0
        applied = bench.tick(bench.command(q))
        bench.port.q = bench.port.written[-1].q.copy()
        bench.port.dq[:] = 0
    assert applied.limited_by[knee] & Limit.POSITION
    assert math.degrees(bench.port.written[-1].q[knee]) < 132
    assert math.degrees(bench.port.written[-1].q[knee]) == pytest.approx(132, abs=0.1)
    assert applied.limited(OP3.joint_names).keys() == {"r_knee"}


def test_a_target_approaches_its_limit_no_faster_than_k_times_what_is_left() -> None:
    bench = Bench()
    knee = bench.at("r_knee")
    # Measured 10 deg before the soft limit: at most 20/s * 10 deg = 200 deg/s, 4 deg in a tick.
    bench.port.q[knee] = math.radians(122)
    bench.safety.monitor.q[knee] = math.radians(122)
    bench.safety.anchor(bench.port.q, Mode.POSITION)
    q = bench.home.copy()
    q[knee] = math.radians(131)
    applied = bench.tick(bench.command(q))
    assert math.degrees(bench.port.written[-1].q[knee]) == pytest.approx(126)
    assert applied.limited_by[knee] & Limit.APPROACH
    q[knee] = math.radians(118)
    applied = bench.tick(bench.command(q))
    assert math.degrees(bench.port.written[-1].q[knee]) == pytest.approx(118), "away from it there is no such limit"


def test_slew_counts_from_the_measured_pose_and_then_from_the_last_target_sent() -> None:
    bench = Bench()
    step = 3 * OP3.joint("head_pan").velocity_rad_s * PERIOD
    pan = bench.at("head_pan")
    q = bench.home.copy()
    q[pan] = 1.5
    for count in (1, 2, 3):
        applied = bench.tick(bench.command(q))
        assert bench.port.written[-1].q[pan] == pytest.approx(count * step)
        assert applied.limited_by[pan] & Limit.SLEW


def test_a_target_that_was_not_delivered_does_not_count_as_sent() -> None:
    bench = Bench()
    pan = bench.at("head_pan")
    q = bench.home.copy()
    q[pan] = 0.2
    bench.port.delivers = False
    applied = bench.tick(bench.command(q))
    assert "did not deliver" in applied.reasons[-1]
    np.testing.assert_array_equal(bench.safety.target, bench.home)


def test_a_goal_that_the_port_put_elsewhere_is_where_slew_counts_from() -> None:
    bench = Bench()
    bench.port.device_goal = bench.home - 0.1
    bench.tick(bench.command())
    np.testing.assert_array_equal(bench.safety.target, bench.home - 0.1)
    bench.port.device_goal = bench.home + 0.0007
    bench.tick(bench.command())
    np.testing.assert_array_equal(bench.safety.target, bench.home)  # half an encoder step is no other place


def test_two_commands_within_one_tick_move_no_farther_than_one() -> None:
    bench = Bench()
    pan = bench.at("head_pan")
    q = bench.home.copy()
    q[pan] = 1.5
    bench.read()
    bench.safety.send(bench.command(q))
    first = bench.port.written[-1].q[pan]
    bench.safety.send(bench.command(q))
    assert bench.port.written[-1].q[pan] == first


def test_gains_speed_and_torque_of_a_drive_are_clamped() -> None:
    bench = Bench(G1)
    command = bench.command()
    command.kp[:] = 1e9
    command.kd[:] = -1.0
    command.dq[:] = 1e6
    command.tau[:] = -1e6
    applied = bench.tick(command)
    sent = bench.port.written[-1]
    assert (sent.kp <= 2 * bench.kp + 1e-9).all()
    assert (sent.kd == 0).all()
    assert (sent.dq <= bench.limits.velocity_rad_s).all()
    assert (np.abs(sent.tau) <= bench.limits.torque_nm).all()
    wanted = Limit.GAIN | Limit.VELOCITY | Limit.TORQUE
    assert ((applied.limited_by & wanted) == wanted).all()


def test_torque_is_bounded_by_moving_the_target_by_hand() -> None:
    limits = JointLimits.for_robot(G1)
    knee = G1.joint_names.index("left_knee_joint")
    row = G1.joint("left_knee_joint")
    bench = Bench(G1, limits.changed(torque_nm=np.full(len(G1.joints), 5.0), slew_rad_s=np.full(len(G1.joints), 100.0)))
    q = bench.home.copy()
    q[knee] += 0.2
    bench.port.dq[knee] = 0.5
    applied = bench.tick(bench.command(q))
    sent = bench.port.written[-1]
    # kp (q_des - q) - kd 0.5 = 5
    assert sent.q[knee] - bench.port.q[knee] == pytest.approx((5.0 + row.kd * 0.5) / row.kp)
    assert sent.kp[knee] == row.kp
    assert applied.limited_by[knee] == Limit.TORQUE


def test_where_slew_forbids_to_move_the_target_the_gains_give_way() -> None:
    limits = JointLimits.for_robot(G1)
    n = len(G1.joints)
    knee = G1.joint_names.index("left_knee_joint")
    bench = Bench(G1, limits.changed(torque_nm=np.full(n, 5.0), slew_rad_s=np.full(n, 0.5)))
    bench.port.q[knee] += 0.3  # pushed away from its target, which may follow by 0.01 rad a tick
    bench.tick(bench.command())
    sent = bench.port.written[-1]
    assert sent.q[knee] == pytest.approx(bench.home[knee] + 0.01)
    assert sent.kp[knee] == pytest.approx(5.0 / 0.29)
    assert sent.kp[0] == bench.kp[0]


def test_a_servo_at_its_own_stall_torque_is_not_clipped_so_that_it_saturates_as_in_training() -> None:
    bench = Bench()
    q = bench.home + 0.25  # 21.1 * 0.25 = 5.3 N m > 4.1
    applied = bench.tick(bench.command(q))
    np.testing.assert_allclose(bench.port.written[-1].q, q)
    assert not applied.limited_by.any()


# ---------------------------------------------------------------------- stale data


def test_a_missing_command_holds_then_stops() -> None:
    bench = Bench()
    bench.tick(bench.command(bench.home + 0.05))
    tick, demand = 0, None
    while demand is None:
        applied = bench.tick(None)
        assert (applied.limited_by & Limit.STALE_COMMAND).all()
        np.testing.assert_array_equal(bench.port.written[-1].q, bench.home + 0.05)
        demand = bench.safety.take_demand()
        tick += 1
    # deadline 0.04 s and half a second of standing still: 0.54 s after the last command, which came at 0.02
    assert demand.category == StopCategory.CONTROLLED
    assert "no command for 0.56 s" in demand.reason
    assert tick == 28


def test_an_old_command_is_held_not_obeyed_and_a_fresh_one_goes_on() -> None:
    bench = Bench()
    applied = bench.tick(bench.command(bench.home + 0.1), age_s=0.05)
    assert (applied.limited_by & Limit.STALE_COMMAND).all()
    np.testing.assert_array_equal(bench.port.written[-1].q, bench.home)
    assert (bench.tick(bench.command(), age_s=math.nan).limited_by & Limit.STALE_COMMAND).all()
    bench.tick(bench.command(bench.home + 0.1), age_s=0.039)
    np.testing.assert_allclose(bench.port.written[-1].q, bench.home + 0.1)


@pytest.mark.parametrize("how", ["silent", "corrupt", "old", "nan", "jump"])
def test_stale_feedback_coasts_three_ticks_and_then_stops(how: str) -> None:
    bench = Bench()
    knee = bench.at("l_knee")
    bench.tick(bench.command())
    good = float(bench.port.q[knee])
    if how == "silent":
        bench.port.fault[knee] = int(Fault.SILENT)
    elif how == "corrupt":
        bench.port.fault[knee] = int(Fault.CORRUPT)
    elif how == "old":
        bench.port.age[knee] = 0.031
    elif how == "nan":
        bench.port.q[knee] = math.nan
    else:
        bench.port.q[knee] = 1e6
    for _ in range(3):
        applied = bench.tick(bench.command())
        assert applied.limited_by[knee] & Limit.STALE_FEEDBACK
        assert bench.safety.take_demand() is None
        assert bench.safety.monitor.q[knee] == good
    bench.read()
    demand = bench.safety.take_demand()
    assert demand is not None
    assert demand.category == StopCategory.CONTROLLED
    assert "no usable feedback from l_knee" in demand.reason


def test_a_lost_packet_now_and_then_is_forgiven() -> None:
    bench = Bench()
    for tick in range(40):
        bench.port.fault[5] = int(Fault.SILENT) if tick % 4 else 0
        bench.tick(bench.command())
    assert bench.safety.take_demand() is None
    assert "coasting on the last sample of l_el" in bench.safety.monitor.warnings


def test_speed_is_taken_from_two_readings_where_motors_report_none() -> None:
    bench = Bench()
    bench.safety.monitor._reports_speed = False
    bench.tick(bench.command())
    bench.port.q[0] += 0.02
    bench.port.dq[:] = np.nan
    bench.tick(bench.command())
    assert bench.safety.monitor.dq[0] == pytest.approx(1.0)
    assert not bench.safety.monitor.missed.any()


def test_unsafe_limits_still_guard_against_what_is_not_finite_and_the_hard_stops() -> None:
    bench = Bench(limits=JointLimits.unsafe(OP3))
    applied = bench.tick(bench.command(np.full(20, 1e308)))
    np.testing.assert_allclose(bench.port.written[-1].q, bench.limits.hard_high_rad)
    assert (applied.limited_by == Limit.POSITION).all()
    applied = bench.tick(bench.command(np.full(20, np.nan)))
    assert (applied.limited_by == Limit.NOT_FINITE).all()
    assert np.isfinite(bench.port.written[-1].q).all()
